//! Reviews of an admission webhook, as kube-apiserver sends them and as kube-audit-rest logs them.
//!
//! A review says who wants to write what, and shows the object before and after, so that its fields and values are known
//! where the audit level has none. It becomes the events of two revisions: that of the object before, which nobody is said
//! to have written, and that of the write, with the account as its actor. It does not say whether the write was stored:
//! another webhook or a conflict may have prevented it. The audit event of the request shows that, or else the object before
//! the next write.

use std::borrow::Cow;

use super::{Content, Format};
use crate::audit::encode::encode;
use crate::audit::envelope::object::{Object, one_line, time};
use crate::audit::event::{
    BEFORE_SUFFIX, CONTINUES, Event, JOINED, Level, Micros, ObjectRef, REVIEW_PREFIX, REVIEWED, ResponseStatus, Stage,
    Verb, WATCHED,
};

/// The path of the requests.
const PATH: &str = "/admission?";

/// A review.
pub(super) const FORMAT: Format = Format { name: "AdmissionReview", open };

fn open<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    if !object.is("kind", "AdmissionReview") {
        return None;
    }
    let Some(request) = object.object("request") else { return Some(Content::Other) };
    let at = ["requestReceivedTimestamp", "time", "timestamp"].iter().find_map(|key| object.get(key)).and_then(time);
    let mut lines = Vec::new();
    match events(&request, at, &mut lines) {
        Some(count) => Some(Content::Lines { lines, count }),
        None => Some(Content::Other),
    }
}

/// Appends the events of a review. Returns the number of writes, or `None` if it is none.
fn events(request: &Object<'_>, at: Option<Micros>, lines: &mut Vec<u8>) -> Option<u64> {
    let options = request.object("options");
    let option = |key: &str| options.as_ref().map(|options| options.text(key)).unwrap_or_default();
    let is_patch = option("kind") == "PatchOptions";
    let operation = request.string("operation")?;
    let verb = match &*operation {
        "CREATE" => Verb::Create,
        "UPDATE" if is_patch => Verb::Patch,
        "UPDATE" => Verb::Update,
        "DELETE" => Verb::Delete,
        _ => return None,
    };
    let [before, after] = ["oldObject", "object"].map(|key| request.get(key).map(one_line));
    let (before, after) = (before.as_deref(), after.as_deref());
    let shown = after.or(before).and_then(Object::of);
    let metadata = shown.as_ref().and_then(|object| object.object("metadata"));
    let metadata = |key: &str| metadata.as_ref().map(|metadata| metadata.text(key)).unwrap_or_default();
    let resource = request.object("requestResource").or_else(|| request.object("resource"))?;
    let name = Some(request.text("name")).filter(|name| !name.is_empty()).unwrap_or_else(|| metadata("name"));
    let subresource = request.string("requestSubResource").or_else(|| request.string("subResource"));
    let user = request.object("userInfo")?;
    let pod = user.object("extra").and_then(|extra| extra.array("authentication.kubernetes.io/pod-name"));
    let pod = pod.and_then(|pods| pods.first().and_then(|pod| crate::audit::json_scan::plain_string(pod)));
    let manager = option("fieldManager");
    let is_dry = request.get("dryRun") == Some(b"true");
    let is_forced = options.as_ref().is_some_and(|options| options.get("force") == Some(b"true"));
    let uid = request.text("uid");
    let write = Event {
        level: Level::RequestResponse,
        audit_id: Cow::Owned(format!("{REVIEW_PREFIX}{uid}")),
        stage: Stage::ResponseComplete,
        request_uri: Cow::Owned(uri(&manager, is_forced, is_dry)),
        verb,
        username: Cow::Owned(user.text("username")),
        impersonated: None,
        pod: Cow::Borrowed(pod.unwrap_or_default()),
        source_ip: Cow::Borrowed(""),
        user_agent: Cow::Borrowed(""),
        object_ref: Some(ObjectRef {
            group: Cow::Owned(resource.text("group")),
            version: Cow::Owned(resource.text("version")),
            resource: Cow::Owned(resource.text("resource")),
            subresource: Cow::Owned(subresource.unwrap_or_default()),
            namespace: Cow::Owned(request.text("namespace")),
            name: Cow::Owned(name),
            uid: Cow::Owned(metadata("uid")),
            resource_version: Cow::Borrowed(""),
        }),
        status: Some(ResponseStatus {
            code: if verb == Verb::Create { 201 } else { 200 },
            ..ResponseStatus::default()
        }),
        request_object: Some(b"{}"),
        response_object: None,
        received: at,
        staged: at,
        annotations: Vec::new(),
    };
    let reviewed = (Cow::Borrowed(REVIEWED), Cow::Borrowed("true"));
    let shows_object = matches!(write.object_ref.as_ref().map(|r| &*r.subresource), Some("" | "status"));
    if verb == Verb::Delete || !shows_object {
        // The body is a Scale, or there is none.
        append(&Event { request_object: after, response_object: after, annotations: vec![reviewed], ..write }, lines);
        return Some(1);
    }
    if let Some(before) = before.filter(|_| !is_dry) {
        // A journal orders events by their times.
        let earlier = at.map(|at| at - 1);
        let base = Event {
            received: earlier,
            staged: earlier,
            audit_id: Cow::Owned(format!("{REVIEW_PREFIX}{uid}{BEFORE_SUFFIX}")),
            request_uri: Cow::Borrowed("/admission"),
            verb: Verb::Patch,
            username: Cow::Borrowed(""),
            pod: Cow::Borrowed(""),
            status: Some(ResponseStatus { code: 200, ..ResponseStatus::default() }),
            response_object: Some(before),
            annotations: vec![(WATCHED.into(), "".into()), reviewed.clone()],
            ..write.clone()
        };
        append(&base, lines);
    }
    // The object still has the revision that it replaces.
    let after = after.map(without_revision);
    let operation = if is_forced { "Apply" } else { "Update" };
    let mut annotations = vec![(WATCHED.into(), operation.into()), (JOINED.into(), manager.as_str().into()), reviewed];
    if before.is_some() {
        annotations.push((CONTINUES.into(), "true".into()));
    }
    append(&Event { response_object: after.as_deref(), annotations, ..write }, lines);
    Some(1)
}

fn append(event: &Event<'_>, lines: &mut Vec<u8>) {
    encode(lines, event);
    lines.push(b'\n');
}

fn uri(manager: &str, is_forced: bool, is_dry: bool) -> String {
    let mut query = form_urlencoded::Serializer::for_suffix(String::from(PATH), PATH.len());
    if !manager.is_empty() {
        query.append_pair("fieldManager", manager);
    }
    if is_forced {
        query.append_pair("force", "true");
    }
    if is_dry {
        query.append_pair("dryRun", "All");
    }
    query.finish()
}

/// Returns an object without its revision.
fn without_revision(object: &[u8]) -> Cow<'_, [u8]> {
    let parsed = serde_json::from_slice::<serde_json::Value>(object);
    let Ok(mut value) = parsed else { return Cow::Borrowed(object) };
    if let Some(metadata) = value.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    serde_json::to_vec(&value).map_or(Cow::Borrowed(object), Cow::Owned)
}
