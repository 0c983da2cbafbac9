//! Event → write: which object, which part of it, by whom, and what became of it. No body is parsed here.

use std::borrow::Cow;

use super::actor::Identity;
use crate::audit::event::{Event, Micros, ObjectRef, Verb};
use crate::audit::scan::{member, members, plain_string};

/// The two halves of an object that different actors may own in peace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Everything but `status`.
    Main,
    /// `status`.
    Status,
}

/// What a committed write does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Brings the object into being: also an update or an apply that was answered 201.
    Create,
    /// Changes it.
    Modify,
    /// Takes it away, at once or when its finalizers are done.
    Delete,
}

/// What became of a request that asked for a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// 200, 201 or 202: stored.
    Committed,
    /// 409 on a stale resourceVersion: another writer was faster.
    Stale,
    /// 409 of an apply without force: another manager owns the field.
    ApplyConflict,
    /// Refused by an admission webhook or policy, which is named.
    Rejected {
        /// `webhook NAME` or `policy NAME`.
        by: Cow<'a, str>,
        /// What it said.
        message: &'a str,
    },
    /// 500, 504, a panic, a connection that closed early: stored or not.
    Uncertain,
    /// Anything else that changed nothing: RBAC, 404, 429, invalid objects.
    Failed,
}

/// The name of an object; apiVersion is no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectName<'a> {
    /// API group, empty for the core group.
    pub group: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
}

/// A request that asked for a write to one object, with everything known of it short of its fields.
#[derive(Clone, Debug)]
pub struct Write<'a> {
    /// The event it was read from; bodies and user agent are there.
    pub event: &'a Event<'a>,
    /// The object; a subresource's write belongs to its parent.
    pub object: ObjectName<'a>,
    /// The subresource the request went through, empty for the object itself.
    pub subresource: &'a str,
    /// The half of the object it is about.
    pub part: Part,
    /// What it does.
    pub effect: Effect,
    /// What became of it.
    pub outcome: Outcome<'a>,
    /// Who did it.
    pub identity: Identity<'a>,
    /// The `fieldManager` parameter, where the client gave one.
    pub field_manager: Option<Cow<'a, str>>,
    /// Whether it is known to be an apply: only these may be forced.
    pub is_forced: bool,
    /// When the request arrived.
    pub at: Micros,
    /// The revision that an update says it replaced; 0 where it does not.
    pub replaced: u64,
    /// What the stored object said of itself, where the response shows it.
    pub stored: Stored<'a>,
}

/// What a response tells of the stored object without being parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored<'a> {
    /// `kind` of the object; empty for a Status or a Scale.
    pub kind: &'a str,
    /// `apiVersion` of the body.
    pub api_version: &'a str,
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.uid`, or the uid of a deletion's Status.
    pub uid: &'a str,
    /// `metadata.resourceVersion` where it is a number; 0 otherwise.
    pub resource_version: u64,
    /// Whether the body is the whole stored object.
    pub is_whole: bool,
    /// Whether the response says that the object is gone, not only marked.
    pub is_gone: bool,
}

/// Why a mutating request is no write to any object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotAWrite {
    /// `dryRun=All`: validated and thrown away.
    DryRun,
    /// exec, attach, portforward, proxy, token and other subresources that store nothing.
    Connect,
    /// A TokenReview, SubjectAccessReview or their like: a question, not an object.
    Review,
    /// A collection, or a generated name that the event does not show.
    Unnamed,
    /// Not a request for a resource.
    NonResource,
    /// An event without any time.
    NoTime,
}

impl NotAWrite {
    /// The reason as a metric label.
    pub fn reason(self) -> &'static str {
        match self {
            NotAWrite::DryRun => "dry_run",
            NotAWrite::Connect => "connect",
            NotAWrite::Review => "review",
            NotAWrite::Unnamed => "unnamed",
            NotAWrite::NonResource => "non_resource",
            NotAWrite::NoTime => "no_time",
        }
    }
}

/// The write that an event reports.
///
/// # Errors
/// [`NotAWrite`] where the request could not have changed one named object.
pub fn attribute<'a>(event: &'a Event<'a>) -> Result<Write<'a>, NotAWrite> {
    let reference = event.object_ref.as_ref().ok_or(NotAWrite::NonResource)?;
    let at = event.at().ok_or(NotAWrite::NoTime)?;
    if matches!(reference.group.as_ref(), "authentication.k8s.io" | "authorization.k8s.io") {
        return Err(NotAWrite::Review);
    }
    let code = event.status.as_ref().map_or(0, |s| s.code);
    let (part, effect) = target(reference, event.verb, code)?;
    let (mut field_manager, mut is_forced) = (None, false);
    // The letters that the keys below begin with.
    for (key, value) in event.queries(b"df") {
        match key.as_ref() {
            // Dry-runs stand in the query …
            "dryRun" if !value.is_empty() => return Err(NotAWrite::DryRun),
            "fieldManager" if !value.is_empty() && field_manager.is_none() => field_manager = Some(value),
            "force" => is_forced = true,
            _ => {}
        }
    }
    if effect == Effect::Delete && is_dry_deletion(event) {
        return Err(NotAWrite::DryRun);
    }
    let outcome = outcome(event, code);
    let stored = match (&outcome, event.response_object) {
        (Outcome::Committed, Some(body)) => stored(body),
        _ => Stored::default(),
    };
    let name = if reference.name.is_empty() { stored.name } else { reference.name.as_ref() };
    if event.verb == Verb::DeleteCollection || name.is_empty() {
        return Err(NotAWrite::Unnamed);
    }
    // `/api/v1/namespaces/foo` yields namespace=foo and name=foo.
    let is_namespace = reference.resource == "namespaces" && reference.group.is_empty();
    let resource =
        if reference.resource == "bindings" && reference.group.is_empty() { "pods" } else { &reference.resource };
    Ok(Write {
        event,
        object: ObjectName {
            group: &reference.group,
            resource,
            namespace: if is_namespace { "" } else { &reference.namespace },
            name,
        },
        subresource: &reference.subresource,
        part,
        effect,
        outcome,
        identity: Identity::of(event),
        field_manager,
        is_forced,
        at,
        replaced: match event.verb {
            Verb::Update => reference.resource_version.parse().unwrap_or(0),
            _ => 0,
        },
        stored,
    })
}

/// Which part of the parent a request is about and what it would do to it.
fn target(reference: &ObjectRef<'_>, verb: Verb, code: u16) -> Result<(Part, Effect), NotAWrite> {
    let modify = |part| Ok((part, Effect::Modify));
    match (reference.subresource.as_ref(), verb) {
        ("", Verb::Create) if reference.resource == "bindings" && reference.group.is_empty() => modify(Part::Main),
        ("", Verb::Create) => Ok((Part::Main, Effect::Create)),
        ("", Verb::Update | Verb::Patch) if code == 201 => Ok((Part::Main, Effect::Create)),
        ("", Verb::Update | Verb::Patch) => modify(Part::Main),
        ("", Verb::Delete | Verb::DeleteCollection) => Ok((Part::Main, Effect::Delete)),
        ("", _) => Err(NotAWrite::NonResource),
        ("status" | "approval", _) => modify(Part::Status),
        ("scale" | "binding" | "finalize" | "ephemeralcontainers" | "resize", _) => modify(Part::Main),
        ("eviction", Verb::Create) => Ok((Part::Main, Effect::Delete)),
        // A subresource of an extension stores something only if it is written to like an object.
        (_, Verb::Update | Verb::Patch) if !reference.group.starts_with("subresources.") && !is_connect(reference) => {
            modify(Part::Main)
        }
        _ => Err(NotAWrite::Connect),
    }
}

fn is_connect(reference: &ObjectRef<'_>) -> bool {
    matches!(reference.subresource.as_ref(), "exec" | "attach" | "portforward" | "proxy" | "token" | "log")
}

/// … for deletions also in the options that are the body.
fn is_dry_deletion(event: &Event<'_>) -> bool {
    let in_options = |options: &[u8]| member(options, "dryRun").is_some_and(|list| list != b"null" && list != b"[]");
    let options = event.request_object;
    options.is_some_and(|body| in_options(body) || member(body, "deleteOptions").is_some_and(in_options))
}

fn outcome<'a>(event: &'a Event<'a>, code: u16) -> Outcome<'a> {
    let Some(status) = &event.status else { return Outcome::Uncertain };
    let message = status.message.as_ref();
    match code {
        200 if message == "Connection closed early" => Outcome::Uncertain,
        200..=202 if event.stage == crate::audit::event::Stage::Panic => Outcome::Uncertain,
        200..=202 => Outcome::Committed,
        409 if status.reason == "AlreadyExists" => Outcome::Failed,
        409 if message.starts_with("Apply failed with") => Outcome::ApplyConflict,
        409 => Outcome::Stale,
        400 | 403 | 422 | 500 => match refused_by(event, message) {
            Some(by) => Outcome::Rejected { by, message },
            None if code == 500 => Outcome::Uncertain,
            None => Outcome::Failed,
        },
        0 | 504 => Outcome::Uncertain,
        _ => Outcome::Failed,
    }
}

/// The webhook or policy whose name stands in a refusal.
fn refused_by<'a>(event: &'a Event<'a>, message: &'a str) -> Option<Cow<'a, str>> {
    let quoted = |intro: &str, quote: char| {
        let (_, rest) = message.split_once(intro)?;
        rest.split_once(quote).map(|(name, _)| name)
    };
    quoted("admission webhook \"", '"')
        .or_else(|| quoted("failed calling webhook \"", '"'))
        .map(|name| format!("webhook {name}").into())
        .or_else(|| quoted("ValidatingAdmissionPolicy '", '\'').map(|name| format!("policy {name}").into()))
        .or_else(|| {
            let failure = event.annotation("validation.policy.admission.k8s.io/validation_failure")?;
            let (_, rest) = failure.split_once(r#""policy":""#)?;
            rest.split_once('"').map(|(name, _)| format!("policy {name}").into())
        })
}

/// What a committed request's response says of the stored object.
fn stored(body: &[u8]) -> Stored<'_> {
    let mut found = Stored::default();
    let mut metadata: &[u8] = b"";
    let mut details: &[u8] = b"";
    for (key, value) in members(body) {
        match key {
            b"kind" => found.kind = plain_string(value).unwrap_or_default(),
            b"apiVersion" => found.api_version = plain_string(value).unwrap_or_default(),
            b"metadata" => metadata = value,
            b"details" => details = value,
            _ => continue,
        }
        let is_object = !metadata.is_empty() && !found.kind.is_empty() && !found.api_version.is_empty();
        if is_object && found.kind != "Status" {
            break;
        }
    }
    if found.kind == "Status" && found.api_version == "v1" {
        let uid = member(details, "uid").and_then(plain_string).unwrap_or_default();
        return Stored { uid, is_gone: !uid.is_empty(), ..Stored::default() };
    }
    for (key, value) in members(metadata) {
        match key {
            b"name" => found.name = plain_string(value).unwrap_or_default(),
            b"uid" => found.uid = plain_string(value).unwrap_or_default(),
            b"resourceVersion" => {
                found.resource_version = plain_string(value).and_then(|v| v.parse().ok()).unwrap_or(0);
            }
            _ => continue,
        }
        if !found.name.is_empty() && !found.uid.is_empty() && found.resource_version != 0 {
            break;
        }
    }
    // A Scale speaks for its parent's revision, but is not the parent; nor is the excerpt that a client asked for instead,
    // a PartialObjectMetadata or a Table.
    let is_excerpt = found.kind == "Scale" || found.api_version.starts_with("meta.k8s.io/");
    found.is_whole = !metadata.is_empty() && !is_excerpt;
    if !found.is_whole {
        found.kind = "";
    }
    found
}

#[cfg(test)]
#[path = "write/tests.rs"]
mod tests;
