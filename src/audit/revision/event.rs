//! Writes the audit event of a revision. The format of recorded watches, which `docs/watch.md` describes, consists of these
//! events, one a line:
//!
//! - `user.username` is the field manager with its operation, such as `helm (Update)`; empty if it is not known who wrote;
//! - `requestObject` is the set of fields that it took over (`FieldsV1`);
//! - at level `Request`, `responseObject` has only the identity of the object; at `RequestResponse`, it is the object;
//! - the annotation [`WATCHED`] marks the event, [`CONTINUES`] says that the revision before it has values too, and
//!   [`UNDATED`] that its time is only that at which it was seen, and [`OWN`] that it changed only fields which its manager
//!   owned before.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::managed_fields::{Authorship, Loss, Manager};
use super::{Metadata, Resource};
use crate::audit::event::{CONTINUES, Micros, OWN, UNDATED, WATCHED};

/// A revision that is expressed as an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revision<'a> {
    /// The resource of the object.
    pub resource: &'a Resource,
    /// The object's metadata.
    pub metadata: &'a Metadata,
    /// When the revision was written.
    pub at: Micros,
    /// When it was seen.
    pub seen: Micros,
}

/// The values of a revision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    /// The object.
    pub object: &'a RawValue,
    /// Whether the event of the revision before it has values too.
    pub continues: bool,
}

/// How a revision changed its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Created it.
    Create,
    /// Changed it.
    Modify,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    kind: &'static str,
    api_version: &'static str,
    level: &'static str,
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: &'static str,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: &'static str,
    user: Value,
    user_agent: &'a str,
    object_ref: Value,
    response_status: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_object: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_object: Option<Body<'a>>,
    request_received_timestamp: String,
    stage_timestamp: String,
    annotations: Value,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Object(&'a RawValue),
    Identity(Value),
}

// === impl Revision ===

impl Revision<'_> {
    /// Appends the event of a write that created or changed the object. Without an author, it only carries the values, and
    /// nobody is said to have changed them.
    pub(crate) fn write(
        &self,
        change: Change,
        author: Option<&Authorship>,
        values: Option<Values<'_>>,
        lines: &mut Vec<u8>,
    ) {
        let Metadata { name, namespace, uid, resource_version, .. } = self.metadata;
        let nobody = Manager::default();
        let manager = author.map_or(&nobody, |author| &author.manager);
        let identity = || {
            Body::Identity(json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": resource_version},
            }))
        };
        let (level, detail) = if values.is_some() { ("RequestResponse", "values") } else { ("Request", "fields") };
        let (verb, code) = if change == Change::Create { ("create", 201) } else { ("patch", 200) };
        let empty = json!({});
        let mut annotations = json!({WATCHED: manager.operation});
        if values.is_some_and(|values| values.continues) {
            annotations[CONTINUES] = "true".into();
        }
        if author.is_some_and(|author| author.at.is_none()) {
            annotations[UNDATED] = "true".into();
        }
        if author.is_some_and(|author| author.is_own) && change == Change::Modify {
            annotations[OWN] = "true".into();
        }
        let event = Event {
            level,
            audit_id: format!("watch/{uid}/{resource_version}/{detail}"),
            verb,
            response_status: json!({"code": code}),
            request_object: Some(author.map_or(&empty, |author| &author.taken)),
            response_object: Some(values.map_or_else(identity, |values| Body::Object(values.object))),
            annotations,
            stage_timestamp: time(self.seen.max(self.at)),
            ..self.event(manager, self.at)
        };
        append(&event, lines);
    }

    /// Appends the event of the write with which a manager had set fields that it has now lost. Only the fact that it
    /// owned them is known, and when it wrote last.
    pub(crate) fn earlier_write(&self, loss: &Loss, at: Micros, lines: &mut Vec<u8>) {
        let uid = &self.metadata.uid;
        let event = Event {
            audit_id: format!("watch/{uid}/before/{}", self.metadata.resource_version),
            verb: "patch",
            response_status: json!({"code": 200}),
            request_object: Some(&loss.fields),
            // It was seen now: coverage begins with the watch.
            stage_timestamp: time(self.at),
            ..self.event(&loss.manager, at)
        };
        append(&event, lines);
    }

    /// Appends the event of the deletion. A watch does not tell who deleted the object.
    pub(crate) fn deletion(&self, lines: &mut Vec<u8>) {
        let uid = &self.metadata.uid;
        let nobody = Manager::default();
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"uid": uid}});
        let event = Event {
            audit_id: format!("watch/{uid}/deleted"),
            verb: "delete",
            response_status: json!({"code": 200}),
            response_object: Some(Body::Identity(status)),
            level: "RequestResponse",
            ..self.event(&nobody, self.at)
        };
        append(&event, lines);
    }

    /// Returns the members that all events share.
    fn event<'e>(&'e self, manager: &'e Manager, at: Micros) -> Event<'e> {
        let Metadata { name, namespace, uid, .. } = self.metadata;
        let Resource { group, version, name: resource } = self.resource;
        let time = time(at);
        let encoded: String = form_urlencoded::byte_serialize(manager.name.as_bytes()).collect();
        Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: "Request",
            audit_id: String::new(),
            stage: "ResponseComplete",
            request_uri: format!("/watch?fieldManager={encoded}"),
            verb: "patch",
            user: json!({"username": actor(manager)}),
            user_agent: &manager.name,
            object_ref: json!({
                "resource": resource, "namespace": namespace, "name": name, "uid": uid, "apiGroup": group,
                "apiVersion": version, "subresource": manager.subresource,
            }),
            response_status: Value::Null,
            request_object: None,
            response_object: None,
            request_received_timestamp: time.clone(),
            stage_timestamp: time,
            annotations: json!({WATCHED: manager.operation}),
        }
    }
}

/// Appends an event that shows that a watch was alive at this time: a read of this resource.
pub(crate) fn sign_of_life(at: Micros, lines: &mut Vec<u8>) {
    let nobody = Manager::default();
    let (resource, metadata) = (Resource::default(), Metadata::default());
    let revision = Revision { resource: &resource, metadata: &metadata, at, seen: at };
    append(
        &Event { level: "Metadata", audit_id: "watch".to_owned(), verb: "watch", ..revision.event(&nobody, at) },
        lines,
    );
}

/// Returns the actor that stands for a manager: `helm (Update)`. Writes to a subresource other than `status` have it in
/// their name, since autoscalers share the manager of other controllers.
pub(crate) fn actor(manager: &Manager) -> String {
    match (&*manager.name, &*manager.subresource) {
        ("", _) => String::new(),
        (name, "" | "status") => format!("{name} ({})", manager.operation),
        (name, subresource) => format!("{name} ({} {subresource})", manager.operation),
    }
}

fn append(event: &Event<'_>, lines: &mut Vec<u8>) {
    serde_json::to_writer(&mut *lines, event).expect("an event has only keys that are strings");
    lines.push(b'\n');
}

fn time(at: Micros) -> String {
    let time = jiff::Timestamp::from_microsecond(at).unwrap_or_default();
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::decode::{Decoded, decode};
    use crate::audit::event::Verb;
    use crate::audit::revision::managed_fields::authorship;

    #[test]
    fn an_event_of_a_revision_is_decoded_as_what_it_was() {
        let resource = Resource { group: "apps".into(), version: "v1".into(), name: "deployments".into() };
        let object: &RawValue = serde_json::from_str(
            r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"web","namespace":"shop","uid":"u1",
                "resourceVersion":"7","managedFields":[{"manager":"my tool/é","operation":"Update","apiVersion":"apps/v1",
                "time":"2026-11-23T20:37:39Z","subresource":"scale","fieldsV1":{"f:spec":{"f:replicas":{}}}}]},
                "spec":{"replicas":3}}"#,
        )
        .unwrap();
        let metadata = Metadata::of(object).unwrap();
        let author = authorship(&[], &metadata.managed_fields).unwrap();
        let at = author.at.unwrap();
        let revision = Revision { resource: &resource, metadata: &metadata, at, seen: at };
        let mut lines = Vec::new();
        revision.write(Change::Modify, Some(&author), Some(Values { object, continues: true }), &mut lines);
        let Ok(Decoded::Event(event)) = decode(lines.trim_ascii()) else { panic!("no event") };
        assert!(event.is_watched() && event.annotation(CONTINUES).is_some());
        assert_eq!((event.verb, event.at()), (Verb::Patch, Some(1_795_466_259_000_000)));
        assert_eq!(event.username, "my tool/é (Update scale)");
        let manager = event.queries(b"f").next().unwrap();
        assert_eq!((&*manager.0, &*manager.1), ("fieldManager", "my tool/é"));
        assert_eq!(event.request_object, Some(&br#"{"f:spec":{"f:replicas":{}}}"#[..]));
        assert_eq!(event.response_object.map(<[u8]>::len), Some(object.get().len()));
        let reference = event.object_ref.unwrap();
        assert_eq!(
            (&*reference.group, &*reference.resource, &*reference.subresource),
            ("apps", "deployments", "scale")
        );
        assert_eq!((&*reference.namespace, &*reference.name, &*reference.uid), ("shop", "web", "u1"));
    }

    #[test]
    fn a_sign_of_life_is_a_read() {
        let mut lines = Vec::new();
        sign_of_life(1_795_466_259_123_456, &mut lines);
        assert_eq!(decode(lines.trim_ascii()), Ok(Decoded::Read(Verb::Read)));
        assert_eq!(crate::audit::times::first(&lines), Some(1_795_466_259_123_456));
    }
}
