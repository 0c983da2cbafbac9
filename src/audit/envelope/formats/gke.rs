//! Google Kubernetes Engine: entries of Cloud Audit Logs, which are not events of `audit.k8s.io`.
//!
//! What an entry says without loss becomes the event. What it does not say is unknown: the groups and the uid of the
//! user, impersonation, the content type of a patch and the query of the request, with its field manager. Only an entry
//! of a dry-run says so.

use std::borrow::Cow;

use super::{Content, Format};
use crate::audit::encode::encode;
use crate::audit::envelope::object::{Object, object_of, one_line, string, time};
use crate::audit::event::{
    ADMISSION_WEBHOOK, Event, Level, ObjectRef, ResponseStatus, Stage, UNKNOWN_QUERY, Verb, keeps_annotation,
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
/// The label of a dry-run.
const DRY_RUN: &str = "command.gke.io/dryRun";

fn open<'a>(entry: &Object<'a>, is_data_access: bool) -> Option<Content<'a>> {
    let payload = entry.object("protoPayload")?;
    if entry.text("logName").ends_with("data_access") != is_data_access {
        return None;
    }
    if !payload.is("serviceName", "k8s.io") {
        return Some(Content::Other);
    }
    let Some(event) = event(entry, &payload) else { return Some(Content::Other) };
    let mut line = Vec::new();
    encode(&mut line, &event.borrowed());
    line.push(b'\n');
    Some(Content::Lines { lines: line, count: 1 })
}

/// An event that owns its bodies.
struct Assembled {
    event: Event<'static>,
    request: Option<Vec<u8>>,
    response: Option<Vec<u8>>,
}

// === impl Assembled ===

impl Assembled {
    fn borrowed(&self) -> Event<'_> {
        Event {
            request_object: self.request.as_deref(),
            response_object: self.response.as_deref(),
            ..self.event.clone()
        }
    }
}

fn event(entry: &Object<'_>, payload: &Object<'_>) -> Option<Assembled> {
    let method = payload.string("methodName")?;
    let name = payload.string("resourceName")?;
    let operation = entry.object("operation");
    let is_end =
        |operation: &Object<'_>| operation.get("last") == Some(b"true") || operation.get("first") != Some(b"true");
    let verb = Verb::parse(method.rsplit('.').next()?);
    let labels = entry.object("labels");
    let labels = || labels.iter().flat_map(Object::members);
    let is_dry = labels().any(|(key, value)| key == DRY_RUN.as_bytes() && !matches!(value, b"\"\"" | b"\"false\""));
    let annotations = labels()
        .filter_map(|(key, value)| Some((std::str::from_utf8(key).ok()?, string(value)?)))
        // Of editwar's own annotations, only those of its answers to reviews come from kube-apiserver.
        .filter(|(key, _)| {
            keeps_annotation(key) && (!key.contains("editwar.dev/") || key.starts_with(ADMISSION_WEBHOOK))
        })
        .chain([(UNKNOWN_QUERY, "true".to_owned())])
        .map(|(key, value)| (Cow::Owned(key.to_owned()), Cow::Owned(value)))
        .collect();
    let response = payload.get("response");
    let kind = |body: Option<&[u8]>| body.and_then(|body| string(member(body, TYPE)?)).unwrap_or_default();
    let is_status = kind(response) == STATUS;
    let status = status(verb, payload, response.filter(|_| is_status));
    let is_options = kind(payload.get("request")).ends_with(DELETE_OPTIONS);
    let request = payload.get("request").filter(|_| !is_options).and_then(body);
    // The status of a deletion has the uid of the object.
    let response = response.filter(|_| !is_status || verb == Verb::Delete).and_then(body);
    let level = match (&request, &response) {
        (_, Some(_)) => Level::RequestResponse,
        (Some(_), None) => Level::Request,
        (None, None) => Level::Metadata,
    };
    let metadata = payload.object("requestMetadata");
    let metadata = |key: &str| metadata.as_ref().map(|m| m.text(key)).unwrap_or_default();
    let at = entry.get("timestamp").and_then(time);
    let event = Event {
        level,
        audit_id: Cow::Owned(entry.string("insertId")?),
        stage: if operation.as_ref().is_none_or(is_end) { Stage::ResponseComplete } else { Stage::ResponseStarted },
        request_uri: Cow::Borrowed(if is_dry { "/gke?dryRun=All" } else { "/gke" }),
        verb,
        username: Cow::Owned(
            payload.object("authenticationInfo").map(|a| a.text("principalEmail")).unwrap_or_default(),
        ),
        impersonated: None,
        pod: Cow::Borrowed(""),
        source_ip: Cow::Owned(metadata("callerIp")),
        user_agent: Cow::Owned(metadata("callerSuppliedUserAgent")),
        object_ref: object_ref(&method, &name),
        status: Some(status),
        request_object: None,
        response_object: None,
        received: at,
        staged: at,
        annotations,
    };
    Some(Assembled { event, request, response })
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

/// Returns the HTTP status: that of the response if it is a Status, or else that of the code of gRPC.
fn status(verb: Verb, payload: &Object<'_>, response: Option<&[u8]>) -> ResponseStatus<'static> {
    let status = payload.object("status");
    let code =
        |object: &Object<'_>| object.get("code").and_then(|code| std::str::from_utf8(code).ok()?.parse::<u16>().ok());
    let message = |object: &Object<'_>| Cow::Owned(object.text("message"));
    let grpc = status.as_ref().and_then(code).unwrap_or(0);
    if grpc != 0
        && let Some(body) = response.and_then(Object::of)
        && let Some(code) = code(&body)
    {
        return ResponseStatus { code, reason: Cow::Owned(body.text("reason")), message: message(&body) };
    }
    let (code, reason) = http(grpc);
    let code = if grpc == 0 && verb == Verb::Create { 201 } else { code };
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

/// Returns a body as one line without its type, if it is an object or a list of operations.
fn body(raw: &[u8]) -> Option<Vec<u8>> {
    let line = one_line(raw);
    match line.first()? {
        b'{' => without_type(&line),
        b'[' => Some(line.into_owned()),
        _ => None,
    }
}

/// Returns a body without the type that Cloud Logging adds to it.
fn without_type(body: &[u8]) -> Option<Vec<u8>> {
    let mut found = members(body);
    // It is the first member.
    if let Some((key, _)) = found.next()
        && key == TYPE.as_bytes()
    {
        let rest = &body[skip_space(body, found.position())..];
        return Some([b"{", rest.strip_prefix(b",").unwrap_or(rest)].concat());
    }
    Some(object_of(Object::of(body)?.members().filter(|(key, _)| *key != TYPE.as_bytes())))
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
    fn every_code_of_grpc_is_an_outcome() {
        let of = |json: &str| {
            let payload = Object::of(json.as_bytes()).unwrap();
            let ResponseStatus { code, reason, message } = status(Verb::Update, &payload, payload.get("response"));
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
