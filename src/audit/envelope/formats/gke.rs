//! Google Kubernetes Engine: entries of Cloud Audit Logs, which are not events of `audit.k8s.io`.
//!
//! What an entry says without loss becomes the event. What it does not say is unknown: the groups and the uid of the
//! user, impersonation, the content type of a patch and the query of the request, with its field manager. Only an entry
//! of a dry-run says so.

use std::borrow::Cow;

use super::{Content, Format};
use crate::audit::encode::encode;
use crate::audit::envelope::object::{Object, borrowed, elements, object_of, one_line, push_one_line, time};
use crate::audit::event::{
    ADMISSION_WEBHOOK, Event, Level, Micros, ObjectRef, ResponseStatus, Stage, UNKNOWN_QUERY, Verb, keeps_annotation,
};
use crate::audit::json_scan::{member, members, skip_space};

/// An entry of the log of administrative activity.
pub(super) const ACTIVITY: Format = Format { name: ACTIVITY_LOG, open: |entry| open(entry, false) };
/// An entry of the log of data access, which has reads and the writes of status.
pub(super) const DATA_ACCESS: Format = Format { name: DATA_ACCESS_LOG, open: |entry| open(entry, true) };

/// The name of the log of administrative activity.
pub(crate) const ACTIVITY_LOG: &str = "GKE activity log";
/// The name of the log of data access.
pub(crate) const DATA_ACCESS_LOG: &str = "GKE data access log";

/// The type of a status in a response.
const STATUS: &str = "core.k8s.io/v1.Status";
/// The end of the type of the options of a deletion.
const DELETE_OPTIONS: &str = "DeleteOptions";
/// The member that Cloud Logging adds to bodies, in front of all others.
const TYPE: &str = "@type";
/// How long an apply that creates an object takes at most. The time of creation has whole seconds.
const CREATION_MICROS_MAX: Micros = 2_000_000;
/// The usual size of an event without bodies.
const LINE_BYTES: usize = 1 << 10;
/// The label of a dry-run.
const DRY_RUN: &str = "command.gke.io/dryRun";

fn open<'a>(entry: &Object<'a>, is_data_access: bool) -> Option<Content<'a>> {
    if entry.borrowed("logName").ends_with("data_access") != is_data_access {
        return None;
    }
    let payload = entry.object("protoPayload")?;
    if !payload.is("serviceName", "k8s.io") {
        return Some(Content::Other);
    }
    let Some(method) = payload.get("methodName").and_then(borrowed) else { return Some(Content::Other) };
    let verb = Verb::parse(method.rsplit('.').next().unwrap_or_default());
    let at = entry.get("timestamp").and_then(time);
    let bodies = Bodies::of(&payload, verb, at);
    let Some(event) = event(entry, &payload, &method, verb, at, &bodies) else { return Some(Content::Other) };
    let mut line = Vec::with_capacity(bodies.len() + LINE_BYTES);
    encode(&mut line, &event);
    line.push(b'\n');
    Some(Content::Lines { lines: line, count: 1 })
}

/// The bodies of a request, as Kubernetes has them.
struct Bodies<'a> {
    /// Neither the options of a deletion, nor the status of an error.
    request: Option<Cow<'a, [u8]>>,
    response: Option<Cow<'a, [u8]>>,
    /// The response, if it is a Status.
    status: Option<&'a [u8]>,
    /// Whether the response shows that an apply has just created the object.
    is_created: bool,
}

// === impl Bodies ===

impl<'a> Bodies<'a> {
    fn of(payload: &Object<'a>, verb: Verb, at: Option<Micros>) -> Bodies<'a> {
        let response = payload.get("response");
        let status = response.filter(|body| type_of(body) == STATUS);
        let request = payload.get("request").filter(|body| !type_of(body).ends_with(DELETE_OPTIONS));
        Bodies {
            request: request.and_then(body),
            // The status of a deletion has the uid of the object.
            response: response.filter(|_| status.is_none() || verb == Verb::Delete).and_then(body),
            status,
            is_created: verb == Verb::Patch && response.zip(at).is_some_and(|(body, at)| is_created_by_apply(body, at)),
        }
    }

    fn len(&self) -> usize {
        [&self.request, &self.response].into_iter().flatten().map(|body| body.len()).sum()
    }
}

fn event<'e, 'a: 'e>(
    entry: &Object<'a>,
    payload: &Object<'a>,
    method: &str,
    verb: Verb,
    at: Option<Micros>,
    bodies: &'e Bodies<'a>,
) -> Option<Event<'e>> {
    let name = payload.get("resourceName").and_then(borrowed)?;
    let operation = entry.object("operation");
    let is_end =
        |operation: &Object<'_>| operation.get("last") == Some(b"true") || operation.get("first") != Some(b"true");
    let labels = entry.object("labels");
    let labels = || labels.iter().flat_map(Object::members);
    let is_dry = labels().any(|(key, value)| key == DRY_RUN.as_bytes() && !matches!(value, b"\"\"" | b"\"false\""));
    let annotations = labels()
        // Of editwar's own annotations, only those of its answers to reviews come from kube-apiserver.
        .filter_map(|(key, value)| {
            let key = std::str::from_utf8(key).ok()?;
            let is_kept =
                keeps_annotation(key) && (!key.contains("editwar.dev/") || key.starts_with(ADMISSION_WEBHOOK));
            Some((Cow::Borrowed(key), borrowed(value).filter(|_| is_kept)?))
        })
        .chain([(Cow::Borrowed(UNKNOWN_QUERY), Cow::Borrowed("true"))])
        .collect();
    let level = match (&bodies.request, &bodies.response) {
        (_, Some(_)) => Level::RequestResponse,
        (Some(_), None) => Level::Request,
        (None, None) => Level::Metadata,
    };
    let metadata = payload.object("requestMetadata");
    let metadata = |key: &str| metadata.as_ref().map(|m| m.borrowed(key)).unwrap_or_default();
    Some(Event {
        level,
        audit_id: entry.get("insertId").and_then(borrowed)?,
        stage: if operation.as_ref().is_none_or(is_end) { Stage::ResponseComplete } else { Stage::ResponseStarted },
        request_uri: Cow::Borrowed(if is_dry { "/gke?dryRun=All" } else { "/gke" }),
        verb,
        username: payload.object("authenticationInfo").map(|a| a.borrowed("principalEmail")).unwrap_or_default(),
        impersonated: None,
        pod: Cow::Borrowed(""),
        source_ip: metadata("callerIp"),
        user_agent: metadata("callerSuppliedUserAgent"),
        object_ref: object_ref(method, &name),
        status: Some(status(payload, bodies.status, verb == Verb::Create || bodies.is_created)),
        request_object: bodies.request.as_deref(),
        response_object: bodies.response.as_deref(),
        received: at,
        staged: at,
        annotations,
    })
}

/// Reads `GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE` and `GROUP/VERSION/RESOURCE/NAME/SUBRESOURCE`.
/// Custom groups are only right there: the method mangles them.
fn object_ref(method: &str, name: &str) -> Option<ObjectRef<'static>> {
    let mut parts = name.split('/');
    let (group, version) = (parts.next()?, parts.next()?);
    let rest: Vec<&str> = parts.collect();
    // io.k8s.core.v1.namespaces.finalize.update is about the namespace itself.
    let is_namespace = method.split('.').nth(4) == Some("namespaces");
    let (namespace, rest) = match &*rest {
        ["namespaces", namespace, ..] if is_namespace => (*namespace, &rest[..]),
        ["namespaces", namespace, resource @ ..] if !resource.is_empty() => (*namespace, resource),
        rest => ("", rest),
    };
    let owned = |text: &str| Cow::Owned(text.to_owned());
    Some(ObjectRef {
        group: owned(if group == "core" { "" } else { group }),
        version: owned(version),
        resource: owned(rest.first()?),
        namespace: owned(namespace),
        name: owned(rest.get(1).copied().unwrap_or_default()),
        subresource: Cow::Owned(rest.get(2..).unwrap_or_default().join("/")),
        ..ObjectRef::default()
    })
}

/// Returns whether the object in a response was created by a request at this time, and has only been written by one client
/// that applies.
fn is_created_by_apply(response: &[u8], at: Micros) -> bool {
    // It is one of the first members, so that the rest is not scanned.
    let Some(metadata) = member(response, "metadata") else { return false };
    let created = member(metadata, "creationTimestamp").and_then(time);
    created.is_some_and(|created| (created..created + CREATION_MICROS_MAX).contains(&at))
        && member(metadata, "managedFields").and_then(elements).is_some_and(|managers| {
            matches!(&*managers, [manager] if Object::of(manager).is_some_and(|manager| manager.is("operation", "Apply")))
        })
}

/// Returns the HTTP status: that of the response if it is a Status, or else that of the code of gRPC, which is the same for
/// objects that were created.
fn status<'a>(payload: &Object<'a>, response: Option<&'a [u8]>, is_creation: bool) -> ResponseStatus<'a> {
    let status = payload.object("status");
    let code =
        |object: &Object<'_>| object.get("code").and_then(|code| std::str::from_utf8(code).ok()?.parse::<u16>().ok());
    let message = |object: &Object<'a>| object.borrowed("message");
    let grpc = status.as_ref().and_then(code).unwrap_or(0);
    if grpc != 0
        && let Some(body) = response.and_then(Object::of)
        && let Some(code) = code(&body)
    {
        return ResponseStatus { code, reason: body.borrowed("reason"), message: message(&body) };
    }
    let (code, reason) = http(grpc);
    let code = if grpc == 0 && is_creation { 201 } else { code };
    ResponseStatus { code, reason: Cow::Borrowed(reason), message: status.as_ref().map(message).unwrap_or_default() }
}

/// Returns the HTTP status, and the reason of Kubernetes, for a status code of gRPC.
fn http(grpc: u16) -> (u16, &'static str) {
    match grpc {
        0 => (200, ""),
        3 | 11 => (422, "Invalid"),
        4 => (504, "Timeout"),
        5 => (404, "NotFound"),
        6 => (409, "AlreadyExists"),
        7 => (403, "Forbidden"),
        8 => (429, "TooManyRequests"),
        9 => (412, ""),
        10 => (409, "Conflict"),
        12 => (501, ""),
        14 => (503, "ServiceUnavailable"),
        16 => (401, "Unauthorized"),
        // Cancelled, unknown, internal, data loss: it is not known whether it was stored.
        _ => (500, "InternalError"),
    }
}

/// Returns the type that Cloud Logging has added to a body.
fn type_of(body: &[u8]) -> Cow<'_, str> {
    member(body, TYPE).and_then(borrowed).unwrap_or_default()
}

/// Returns a body as one line without the type that Cloud Logging adds to it, if it is an object or a list of operations.
fn body(raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    match raw.first()? {
        b'{' => without_type(raw).map(Cow::Owned),
        b'[' => Some(one_line(raw)),
        _ => None,
    }
}

fn without_type(body: &[u8]) -> Option<Vec<u8>> {
    let mut line = Vec::with_capacity(body.len());
    let mut found = members(body);
    let first = found.next();
    // It is the first member.
    if first.is_some_and(|(key, _)| key == TYPE.as_bytes()) {
        line.push(b'{');
        let rest = &body[skip_space(body, found.position())..];
        push_one_line(rest.strip_prefix(b",").unwrap_or(rest), &mut line);
    } else {
        let others = object_of(Object::of(body)?.members().filter(|(key, _)| *key != TYPE.as_bytes()));
        push_one_line(&others, &mut line);
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(method: &str, name: &str) -> String {
        let ObjectRef { group, version, resource, subresource, namespace, name, .. } =
            object_ref(method, name).unwrap();
        format!("{group}|{version}|{resource}|{subresource}|{namespace}|{name}")
    }

    #[test]
    fn objects_are_read_from_resource_names() {
        assert_eq!(
            reference("io.k8s.core.v1.pods.status.patch", "core/v1/namespaces/shop/pods/web-0/status"),
            "|v1|pods|status|shop|web-0"
        );
        assert_eq!(
            reference("io.k8s.apps.v1.deployments.create", "apps/v1/namespaces/shop/deployments"),
            "apps|v1|deployments||shop|"
        );
        assert_eq!(reference("io.k8s.core.v1.nodes.patch", "core/v1/nodes/n1"), "|v1|nodes|||n1");
        assert_eq!(
            reference("io.k8s.core.v1.namespaces.create", "core/v1/namespaces/shop"),
            "|v1|namespaces||shop|shop"
        );
        assert_eq!(
            reference("io.k8s.core.v1.namespaces.finalize.update", "core/v1/namespaces/shop/finalize"),
            "|v1|namespaces|finalize|shop|shop"
        );
        let custom = "widgets.example.com/v1/namespaces/shop/widgets/w";
        assert_eq!(
            reference("com.example.widgets.v1.widgets.update", custom),
            "widgets.example.com|v1|widgets||shop|w"
        );
    }

    #[test]
    fn the_type_is_removed_from_bodies() {
        let removed = |text: &str| String::from_utf8(without_type(text.as_bytes()).unwrap()).unwrap();
        assert_eq!(removed(r#"{"@type": "k8s.io/Patch", "spec":{"@type":1}}"#), r#"{ "spec":{"@type":1}}"#);
        assert_eq!(removed(r#"{"@type":"x"}"#), "{}");
        assert_eq!(removed(r#"{"a":{"@type":1},"@type":"x","b":2}"#), r#"{"a":{"@type":1},"b":2}"#);
        assert_eq!(removed(r#"{"a":1}"#), r#"{"a":1}"#);
    }

    #[test]
    fn an_apply_that_creates_an_object_is_a_creation() {
        let code = |verb: &str, second: &str, managers: &str| {
            let entry = format!(
                r#"{{"insertId":"i","timestamp":"2026-11-23T00:00:0{second}Z","protoPayload":{{
                "methodName":"io.k8s.batch.v1.jobs.{verb}","resourceName":"batch/v1/namespaces/shop/jobs/migrate",
                "response":{{"@type":"batch.k8s.io/v1.Job","metadata":{{"creationTimestamp":"2026-11-23T00:00:05Z",
                "managedFields":[{managers}]}}}}}}}}"#
            );
            let entry = Object::of(entry.as_bytes()).unwrap();
            let payload = entry.object("protoPayload").unwrap();
            let verb = Verb::parse(verb);
            let at = entry.get("timestamp").and_then(time);
            let bodies = Bodies::of(&payload, verb, at);
            let method = payload.string("methodName").unwrap();
            event(&entry, &payload, &method, verb, at, &bodies).unwrap().status.unwrap().code
        };
        let apply = r#"{"manager":"flux","operation":"Apply"}"#;
        let update = r#"{"manager":"flux","operation":"Update"}"#;
        assert_eq!(code("patch", "5.7", apply), 201);
        assert_eq!(code("create", "9", update), 201);
        assert_eq!(code("patch", "7.1", apply), 200, "later");
        assert_eq!(code("patch", "4", apply), 200, "earlier");
        assert_eq!(code("patch", "5.7", update), 200, "it did not apply");
        assert_eq!(code("patch", "5.7", &format!("{apply},{update}")), 200, "others have written it");
        assert_eq!(code("update", "5.7", apply), 200);
    }

    #[test]
    fn every_code_of_grpc_is_an_outcome() {
        let of = |json: &str| {
            let payload = Object::of(json.as_bytes()).unwrap();
            let ResponseStatus { code, reason, message } = status(&payload, payload.get("response"), false);
            format!("{code} {reason} {message}")
        };
        assert_eq!(of(r#"{"status":{}}"#), "200  ");
        assert_eq!(of("{}"), "200  ");
        assert_eq!(
            of(r#"{"status":{"code":10,"message":"the object has been modified"}}"#),
            "409 Conflict the object has been modified"
        );
        assert_eq!(
            of(r#"{"status":{"code":7},"response":{"code":403,"reason":"Forbidden","message":"no"}}"#),
            "403 Forbidden no"
        );
        assert_eq!(of(r#"{"status":{"code":6}}"#), "409 AlreadyExists ");
        assert_eq!(of(r#"{"status":{"code":13}}"#), "500 InternalError ");
        for grpc in 0..=16 {
            assert!((200..=599).contains(&http(grpc).0));
        }
    }
}
