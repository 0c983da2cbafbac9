//! Audit events themselves, and those that OpenShift's collector changed or a platform cut off.

use std::borrow::Cow;

use super::{Content, Format};
use crate::audit::decode::{Decoded, plain};
use crate::audit::encode::encode;
use crate::audit::envelope::object::{Object, object_of};
use crate::audit::event::{CUT, Event, Level, Micros};
use crate::audit::json_scan::members;

/// The format of audit events.
pub(super) const FORMAT: Format = Format { name: "", open };
/// The format of audit events that OpenShift's ClusterLogForwarder flattened into entries of its data model.
pub(super) const VIAQ: Format = Format { name: VIAQ_NAME, open: viaq };

/// The name of that data model.
pub(crate) const VIAQ_NAME: &str = "ViaQ";

/// The members in which ClusterLogForwarder keeps the level of an event: it overwrites `level` with that of a log entry.
const REAL_LEVELS: [&str; 2] = ["k8s_audit_level", "openshift_audit_level"];
/// The last members before the bodies. An event that was cut off behind them still names actor, object and outcome.
const NEEDED: [&[u8]; 5] = [b"auditID", b"stage", b"verb", b"user", b"responseStatus"];

fn open<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    (object.has("auditID") && object.has("stage")).then_some(Content::Event)
}

fn viaq<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    let level = REAL_LEVELS.iter().find_map(|key| object.get(key)).filter(|_| object.has("auditID"))?;
    let is_kept = |key: &[u8]| key != b"level" && !REAL_LEVELS.iter().any(|level| level.as_bytes() == key);
    let others = object.members().filter(|(key, _)| is_kept(key));
    let event = object_of([(&b"level"[..], level)].into_iter().chain(others));
    Some(Content::Changed(event))
}

/// Whether an event may have its level in another member, whatever order its members have.
pub(in crate::audit::envelope) fn has_other_level(event: &[u8]) -> bool {
    memchr::memmem::find(event, b"_audit_level\"").is_some()
}

/// Returns the line of an event that was cut off at any place behind actor, object and outcome. Its fields are not known:
/// it is at level Metadata, with the time that its wrapper gives if it lacks its own.
pub(in crate::audit::envelope) fn salvage(text: &[u8], at: Option<Micros>) -> Option<Vec<u8>> {
    let mut found = members(text);
    // Bodies may be incomplete, and are not needed.
    let is_body = |key: &[u8]| matches!(key, b"requestObject" | b"responseObject");
    let head: Vec<_> = found.by_ref().filter(|(key, _)| !is_body(key)).collect();
    let has = |key: &[u8]| head.iter().any(|(found, _)| *found == key);
    if !NEEDED.iter().all(|key| has(key)) || !found.is_broken() {
        return None;
    }
    let head = object_of(head);
    let Ok(Decoded::Event(event)) = plain::decode(&head) else { return None };
    let received = event.received.or(at);
    let mut annotations = event.annotations.clone();
    annotations.push((Cow::Borrowed(CUT), Cow::Borrowed("true")));
    let event = Event {
        level: Level::Metadata,
        request_object: None,
        response_object: None,
        received,
        staged: event.staged.or(received),
        annotations,
        ..event
    };
    let mut line = Vec::new();
    encode(&mut line, &event);
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::decode::decode;

    const WRITE: &str = include_str!("../../decode/tests/write.json");

    fn decoded(line: &[u8]) -> Event<'_> {
        match decode(line) {
            Ok(Decoded::Event(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_cut_event_still_names_actor_object_and_outcome() {
        let whole = decoded(WRITE.trim_end().as_bytes());
        let first_body = WRITE.find("\"requestObject\"").unwrap();
        let last_body = WRITE.find("\"requestReceivedTimestamp\"").unwrap();
        for len in first_body..last_body {
            let line = salvage(&WRITE.as_bytes()[..len], Some(7_000_000)).unwrap_or_else(|| panic!("cut at {len}"));
            let event = decoded(&line);
            assert_eq!(
                (event.level, &event.username, &event.object_ref),
                (Level::Metadata, &whole.username, &whole.object_ref)
            );
            assert_eq!((event.at(), event.status.as_ref().map(|s| s.code)), (Some(7_000_000), Some(200)));
            assert_eq!((event.request_object, event.response_object), (None, None));
            assert_eq!(event.annotation(CUT), Some("true"));
        }
        for len in (0..WRITE.find("\"responseStatus\"").unwrap()).step_by(7) {
            assert_eq!(salvage(&WRITE.as_bytes()[..len], None), None, "cut at {len}");
        }
        let late = &WRITE.as_bytes()[..WRITE.rfind("\"annotations\"").unwrap()];
        assert_eq!(decoded(&salvage(late, None).unwrap()).received, whole.received, "its own time");
    }

    #[test]
    fn the_level_that_a_collector_overwrote_is_restored() {
        let changed = WRITE.trim_end().replacen(
            r#""level":"RequestResponse""#,
            r#""@timestamp":"x","k8s_audit_level":"RequestResponse","level":"default""#,
            1,
        );
        let object = Object::of(changed.as_bytes()).unwrap();
        let Some(Content::Changed(line)) = viaq(&object) else { panic!("not recognized") };
        assert_eq!(decoded(&line), decoded(WRITE.trim_end().as_bytes()));
    }
}
