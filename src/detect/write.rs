//! Determines the write that an event reports: the object, the part of it, the actor and the outcome. Does not parse
//! bodies.

use std::borrow::Cow;

use super::actor::Identity;
use crate::audit::event::{Event, Micros, ObjectRef, Verb};
use crate::audit::json_scan::{member, members, plain_string};

/// The two parts of an object, which different actors may own without conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Everything except `status`.
    Main,
    /// `status`.
    Status,
}

/// The effect of a committed write on its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Creates the object; also an update or an apply that was answered with 201.
    Create,
    /// Changes the object.
    Modify,
    /// Deletes the object, immediately or after its finalizers.
    Delete,
}

/// The outcome of a request to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// 200, 201 or 202: stored.
    Committed,
    /// 409 because of a stale resourceVersion: another write was faster.
    Stale,
    /// 409 of an apply without force: another manager owns the field.
    ApplyConflict,
    /// Rejected by an admission webhook or policy.
    Rejected {
        /// `webhook NAME` or `policy NAME`.
        by: Cow<'a, str>,
        /// Its message.
        message: &'a str,
    },
    /// 500, 504, a panic, or a connection that closed early: it is not known whether the write was stored.
    Uncertain,
    /// Other failures that changed nothing: RBAC, 404, 429, invalid objects.
    Failed,
}

/// The name of an object, without the API version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectName<'a> {
    /// The API group; empty for the core group.
    pub group: &'a str,
    /// The plural resource name.
    pub resource: &'a str,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
}

/// A request to write one object, with everything that is known without its fields.
#[derive(Clone, Debug)]
pub struct Write<'a> {
    /// The event, which has the bodies and the user agent.
    pub event: &'a Event<'a>,
    /// The object. A write to a subresource belongs to its parent.
    pub object: ObjectName<'a>,
    /// The subresource of the request; empty for the object itself.
    pub subresource: &'a str,
    /// The part of the object that it writes.
    pub part: Part,
    /// Its effect.
    pub effect: Effect,
    /// Its outcome.
    pub outcome: Outcome<'a>,
    /// The identity that made it.
    pub identity: Identity<'a>,
    /// The `fieldManager` parameter, if the client set it.
    pub field_manager: Option<Cow<'a, str>>,
    /// Whether it is known to be an apply, because only applies may be forced.
    pub is_forced: bool,
    /// When the request arrived.
    pub at: Micros,
    /// The revision that an update replaced, according to its body; 0 if the body has none.
    pub replaced: u64,
    /// Metadata of the stored object, if the response contains it.
    pub stored: Stored<'a>,
    /// What is known about it from elsewhere.
    pub standing: Standing,
}

/// What is known about a write that its event does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    #[default]
    Unknown,
    /// It changed nothing.
    NoOp,
    /// It was observed before, as the write of a field manager. Its account is only known now.
    Identified,
}

/// The metadata of the stored object in a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored<'a> {
    /// The object's `kind`; empty for a Status or a Scale.
    pub kind: &'a str,
    /// The body's `apiVersion`.
    pub api_version: &'a str,
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.uid`, or the uid of a deletion's Status.
    pub uid: &'a str,
    /// `metadata.resourceVersion` if it is a number, or 0.
    pub resource_version: u64,
    /// Whether the body is the whole stored object.
    pub is_whole: bool,
    /// Whether the response says that the object is gone, and not only marked for deletion.
    pub is_gone: bool,
}

/// Why a mutating request is not a write to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotAWrite {
    /// `dryRun=All`: validated, but not stored.
    DryRun,
    /// exec, attach, portforward, proxy, token and other subresources that store nothing.
    Connect,
    /// A TokenReview, SubjectAccessReview or similar: a query, not an object.
    Review,
    /// A request for a collection, or for a generated name that the event does not contain.
    Unnamed,
    /// Not a request for a resource.
    NonResource,
    /// An event without a time.
    NoTime,
}

impl NotAWrite {
    /// Returns the label value for metrics.
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

/// Returns the write that an event reports.
///
/// # Errors
/// [`NotAWrite`] if the request could not have changed one named object.
pub fn classify_write<'a>(event: &'a Event<'a>) -> Result<Write<'a>, NotAWrite> {
    let reference = event.object_ref.as_ref().ok_or(NotAWrite::NonResource)?;
    let at = event.at().ok_or(NotAWrite::NoTime)?;
    if matches!(reference.group.as_ref(), "authentication.k8s.io" | "authorization.k8s.io") {
        return Err(NotAWrite::Review);
    }
    let code = event.status.as_ref().map_or(0, |s| s.code);
    let (part, effect) = target(reference, event.verb, code)?;
    let (mut field_manager, mut is_forced) = (None, false);
    // The first letters of the keys below.
    for (key, value) in event.queries(b"df") {
        match key.as_ref() {
            // A dry-run is requested in the query or, for deletions, in the body.
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
        standing: Standing::Unknown,
    })
}

/// Returns the part of the parent that a request is about, and what the request does to it.
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
        // A subresource of a custom API stores something only if it is written like an object.
        (_, Verb::Update | Verb::Patch) if !reference.group.starts_with("subresources.") && !is_connect(reference) => {
            modify(Part::Main)
        }
        _ => Err(NotAWrite::Connect),
    }
}

fn is_connect(reference: &ObjectRef<'_>) -> bool {
    matches!(reference.subresource.as_ref(), "exec" | "attach" | "portforward" | "proxy" | "token" | "log")
}

/// Whether the options in a deletion's body request a dry-run.
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

/// Returns the webhook or policy that is named in a rejection.
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

/// Returns the metadata of the stored object from the response of a committed request.
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
    // A Scale has its parent's revision, but is not the parent. Neither is an excerpt that a client asked for, which is a
    // PartialObjectMetadata or a Table.
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
