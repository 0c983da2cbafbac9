//! What the events say of the objects that may be paused.

use std::collections::BTreeMap;

use super::plan::{Removal, Verdict};
use crate::detect::annotations::{self, MODE, PAUSED};
use crate::detect::class::Class;
use crate::detect::contest::Contest;
use crate::detect::field_history::FieldHistory;
use crate::detect::fields::FieldValue;
use crate::detect::object::ObjectState;
use crate::detect::record::Record;
use crate::detect::verdict::{Confidence, State};
use crate::detect::war::Tally;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;

/// Fields that a reason names.
const FIELDS_SHOWN: usize = 3;
/// Characters of a value that a reason shows.
const VALUE_CHARS_MAX: usize = 40;

/// The cluster that the enforcer and the Golden State act on: the one whose API server posts to `/audit`. Those that post to
/// `/audit/CLUSTER` are only observed.
pub const CLUSTER: &str = "";

/// Verdicts on all objects for which `is_wanted` holds, as of now.
pub fn verdicts(
    pipeline: &Pipeline,
    own: &str,
    confidence: Confidence,
    is_wanted: impl Fn(&ObjectKey) -> bool,
) -> BTreeMap<ObjectKey, Verdict> {
    let one = |key: ObjectKey| {
        let verdict = verdict_on(pipeline, own, confidence, &key)?;
        Some((key, verdict))
    };
    pipeline.table().notable().into_iter().filter(|key| is_wanted(key)).filter_map(one).collect()
}

/// The verdict on one object as of now; `None` where it has one writer.
pub fn verdict_on(pipeline: &Pipeline, own: &str, confidence: Confidence, key: &ObjectKey) -> Option<Verdict> {
    pipeline.table().with(key, |state| Some(verdict(state.contest()?, own, confidence)))?
}

/// Whether the object is paused, or would be by our write to the fields at these JSON Pointers; without any, by bringing
/// the object back.
pub fn would_pause(pipeline: &Pipeline, confidence: Confidence, key: &ObjectKey, pointers: Option<&[String]>) -> bool {
    let now = pipeline.latest_of(key.cluster()).unwrap_or(i64::MIN);
    let Some(limits) = pipeline.policy().limits(&key.object()) else { return false };
    let look = |state: &ObjectState| {
        let findings = state.contest()?.findings();
        let war = findings.worst(confidence);
        let is_contested = match pointers {
            None => findings.existence_retakes() > 0,
            Some(pointers) => findings.contested_fields().iter().any(|(path, _)| {
                let path = bare(path.split(['.', '[', ']']));
                pointers.iter().any(|pointer| is_within(&path, &bare(pointer.split('/'))))
            }),
        };
        let mut next = war.map(|war| war.tally.machine.clone()).unwrap_or_default();
        if is_contested {
            let own = limits.own.clone().unwrap_or_default();
            next.retake(&own, now, limits, true);
        }
        Some(next.state() == State::Paused)
    };
    pipeline.table().with(key, look).flatten().unwrap_or(false)
}

/// A path's names, without what selects an item of a list.
fn bare<'a>(tokens: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let is_name = |t: &&str| !t.is_empty() && !t.contains(['=', '\'']) && t.parse::<u32>().is_err();
    tokens.filter(is_name).collect()
}

/// Whether one of the two paths holds the other.
fn is_within(a: &[&str], b: &[&str]) -> bool {
    a.iter().zip(b).all(|(a, b)| a == b)
}

fn verdict(contest: &Contest, own: &str, confidence: Confidence) -> Verdict {
    let findings = contest.findings();
    let war = findings.worst(confidence);
    let nothing = Tally::default();
    let tally = war.map_or(&nothing, |war| &war.tally);
    let (mut removal, mut mode) = (None, None);
    for record in contest.history() {
        for change in &record.changes {
            if *change.path == *annotations::path(PAUSED) && *record.client.actor != *own && !is_true(&change.new) {
                removal = Some(removal_of(record));
            }
            if *change.path == *annotations::path(MODE) {
                mode = change.new.as_ref().and_then(FieldValue::text).map(str::to_owned);
            }
        }
    }
    let fields = war.map_or_else(Vec::new, |war| findings.fields_of(war.id));
    let over: Vec<String> = fields.iter().take(FIELDS_SHOWN).map(|(path, field)| words(path, field)).collect();
    Verdict {
        state: tally.machine.state(),
        confidence: war.map_or(confidence, |war| war.confidence),
        until: tally.machine.until(),
        parties: tally.parties.keys().cloned().collect(),
        over: if over.is_empty() { "the whole object".to_owned() } else { over.join(", ") },
        retakes: tally.retakes,
        since: tally.since,
        removal,
        is_unmanaged: mode.as_deref() == Some("\"unmanaged\""),
    }
}

fn is_true(value: &Option<FieldValue>) -> bool {
    value.as_ref().and_then(FieldValue::text) == Some("\"true\"")
}

/// A person's removal of nothing but annotations for reconcilers is meant; everything else happens by the way.
fn removal_of(record: &Record) -> Removal {
    let is_person = record.client.class == Class::Person;
    let is_annotation = |path: &str| path.starts_with("metadata.annotations['platform.kubevirt.io/");
    Removal {
        at: record.order.at,
        actor: record.client.actor.clone(),
        is_deliberate: is_person && record.changes.iter().all(|change| is_annotation(&change.path)),
    }
}

/// `spec.replicas (3 ⇄ 5)`
fn words(path: &str, field: &FieldHistory) -> String {
    let mut values: Vec<String> = Vec::new();
    for seen in &field.values {
        let text = match &seen.value {
            None => "absent".to_owned(),
            Some(value) => match value.text() {
                Some(text) => text.chars().take(VALUE_CHARS_MAX).collect(),
                None => return path.to_owned(),
            },
        };
        if !values.contains(&text) && values.len() < 2 {
            values.push(text);
        }
    }
    format!("{path} ({})", values.join(" ⇄ "))
}
