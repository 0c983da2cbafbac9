//! Writes events as lines: for the journal, and for formats whose events must be assembled.

use std::fmt::Write as _;

use super::event::{Event, Level, ObjectRef, Stage, Verb};

/// Appends an event as kube-apiserver writes it, with the members in its order, so that the fast decoder reads it again.
pub(crate) fn encode(text: &mut Vec<u8>, event: &Event<'_>) {
    raw(text, r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":""#);
    raw(text, level(event.level));
    string(text, r#"","auditID":"#, &event.audit_id);
    raw(text, r#","stage":""#);
    raw(text, stage(event.stage));
    string(text, r#"","requestURI":"#, &event.request_uri);
    // All verbs that read are one variant.
    string(text, r#","verb":"#, if event.verb == Verb::Read { "get" } else { event.verb.as_str() });
    string(text, r#","user":{"username":"#, &event.username);
    if !event.pod.is_empty() {
        string(text, r#","extra":{"authentication.kubernetes.io/pod-name":["#, &event.pod);
        raw(text, "]}");
    }
    raw(text, "}");
    if let Some(impersonated) = &event.impersonated {
        string(text, r#","impersonatedUser":{"username":"#, impersonated);
        raw(text, "}");
    }
    if !event.source_ip.is_empty() {
        string(text, r#","sourceIPs":["#, &event.source_ip);
        raw(text, "]");
    }
    optional(text, r#","userAgent":"#, &event.user_agent);
    if let Some(reference) = &event.object_ref {
        object_ref(text, reference);
    }
    if let Some(status) = &event.status {
        raw(text, r#","responseStatus":{"metadata":{}"#);
        optional(text, r#","message":"#, &status.message);
        optional(text, r#","reason":"#, &status.reason);
        if status.code != 0 {
            number(text, r#","code":"#, status.code);
        }
        raw(text, "}");
    }
    let bodies = [(r#","requestObject":"#, event.request_object), (r#","responseObject":"#, event.response_object)];
    for (name, body) in bodies {
        if let Some(body) = body {
            raw(text, name);
            text.extend_from_slice(body);
        }
    }
    for (name, at) in [("requestReceivedTimestamp", event.received), ("stageTimestamp", event.staged)] {
        if let Some(at) = at.and_then(|at| jiff::Timestamp::from_microsecond(at).ok()) {
            let mut time = String::new();
            write!(time, r#","{name}":"{at:.6}""#).expect("writing to a string does not fail");
            raw(text, &time);
        }
    }
    if !event.annotations.is_empty() {
        let mut before = r#","annotations":{"#;
        for (key, value) in &event.annotations {
            string(text, before, key);
            string(text, ":", value);
            before = ",";
        }
        raw(text, "}");
    }
    raw(text, "}");
}

fn object_ref(text: &mut Vec<u8>, reference: &ObjectRef<'_>) {
    string(text, r#","objectRef":{"resource":"#, &reference.resource);
    optional(text, r#","namespace":"#, &reference.namespace);
    optional(text, r#","name":"#, &reference.name);
    optional(text, r#","uid":"#, &reference.uid);
    optional(text, r#","apiGroup":"#, &reference.group);
    optional(text, r#","apiVersion":"#, &reference.version);
    optional(text, r#","resourceVersion":"#, &reference.resource_version);
    optional(text, r#","subresource":"#, &reference.subresource);
    raw(text, "}");
}

fn raw(text: &mut Vec<u8>, part: &str) {
    text.extend_from_slice(part.as_bytes());
}

fn string(text: &mut Vec<u8>, before: &str, value: &str) {
    raw(text, before);
    serde_json::to_writer(&mut *text, value).expect("a string is written to memory");
}

fn optional(text: &mut Vec<u8>, before: &str, value: &str) {
    if !value.is_empty() {
        string(text, before, value);
    }
}

fn number(text: &mut Vec<u8>, before: &str, value: u16) {
    raw(text, before);
    raw(text, &value.to_string());
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Metadata => "Metadata",
        Level::Request => "Request",
        Level::RequestResponse => "RequestResponse",
    }
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::RequestReceived => "RequestReceived",
        Stage::ResponseStarted => "ResponseStarted",
        Stage::ResponseComplete => "ResponseComplete",
        Stage::Panic => "Panic",
    }
}
