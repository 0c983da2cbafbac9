//! The reference decoder: decodes an event with serde_json, as simply as possible. It defines the correct result; the
//! fast decoders are tested against it.
//!
//! [`scanned`] does the same for events whose members have another order than those of kube-apiserver, as all have that
//! were parsed and written again: what is not needed is only scanned for its end.
//!
//! Rules:
//! - If a key occurs twice, the first one counts (kube-apiserver never writes a key twice).
//! - Unknown keys are skipped. `null` is the same as an absent value. A value of the wrong type is malformed.
//! - A body that is a string is absent: AKS replaces bodies that are too large by a text.
//! - Events that cannot be writes are not checked after the verb, and events that do not end a request are not checked
//!   after the stage.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::outcome::{Decoded, Malformed};
use crate::audit::event::{
    Event, Level, Micros, OMITTED, ObjectRef, ResponseStatus, Stage, Verb, keeps_annotation, parse_timestamp,
};
use crate::audit::json_scan;

/// Members of an object, with raw values.
type Members<'a> = Vec<(Cow<'a, str>, &'a [u8])>;

/// A function that finds the members of an object.
type Open = for<'a> fn(&'a [u8]) -> Result<Members<'a>, Malformed>;

/// Decodes one event from its JSON text.
///
/// # Errors
/// [`Malformed`] if the text is not an audit event.
pub fn decode(line: &[u8]) -> Result<Decoded<'_>, Malformed> {
    of_members(&parsed_members(line)?, parsed_members)
}

/// Decodes the event that `bytes` starts with, without parsing all of it. Returns it with the position after it, or `None`
/// if it may be malformed.
pub(super) fn scanned(bytes: &[u8]) -> Option<(Decoded<'_>, usize)> {
    let (members, end) = scanned_first(bytes)?;
    Some((of_members(&members, scanned_members).ok()?, end))
}

fn of_members<'a>(members: &Members<'a>, open: Open) -> Result<Decoded<'a>, Malformed> {
    let position = |key: &str| members.iter().position(|(k, _)| k == key);
    if position("kind") < position("verb") {
        check_kind(members)?;
    }
    let stage = match required(members, "stage")?.as_ref() {
        "RequestReceived" => Stage::RequestReceived,
        "ResponseStarted" => Stage::ResponseStarted,
        "ResponseComplete" => Stage::ResponseComplete,
        "Panic" => Stage::Panic,
        _ => return Err(Malformed::NotAnEvent("stage")),
    };
    let verb = Verb::parse(&required(members, "verb")?);
    if !stage.is_final() {
        return Ok(Decoded::Unfinished);
    }
    if !verb.is_mutating() {
        return Ok(Decoded::Read(verb));
    }
    check_kind(members)?;
    Ok(Decoded::Event(event(members, stage, verb, open)?))
}

fn check_kind(members: &Members<'_>) -> Result<(), Malformed> {
    let is_event = text(members, "kind")?.is_none_or(|kind| kind == "Event");
    if is_event { Ok(()) } else { Err(Malformed::NotAnEvent("kind")) }
}

fn event<'a>(members: &Members<'a>, stage: Stage, verb: Verb, open: Open) -> Result<Event<'a>, Malformed> {
    let level = match required(members, "level")?.as_ref() {
        "Metadata" => Level::Metadata,
        "Request" => Level::Request,
        "RequestResponse" => Level::RequestResponse,
        _ => return Err(Malformed::NotAnEvent("level")),
    };
    let get = |key: &str| value(members, key);
    let below = |key: &str| get(key).map(open).transpose();
    let user = below("user")?.unwrap_or_default();
    let impersonated = below("impersonatedUser")?;
    let annotations = below("annotations")?.unwrap_or_default();
    let time = |key: &'static str| -> Result<Option<Micros>, Malformed> {
        text(members, key)?.map(|t| parse_timestamp(&t).ok_or(Malformed::Type(key))).transpose()
    };
    let bodies = [get("requestObject"), get("responseObject")];
    let is_text = |body: &&[u8]| body.first() == Some(&b'"');
    let omitted = bodies.iter().flatten().any(is_text).then_some((Cow::Borrowed(OMITTED), Cow::Borrowed("true")));
    let [request_object, response_object] = bodies.map(|body| body.filter(|body| !is_text(body)));
    Ok(Event {
        level,
        audit_id: required(members, "auditID")?,
        stage,
        request_uri: field(members, "requestURI")?,
        verb,
        username: field(&user, "username")?,
        impersonated: impersonated.map(|u| field(&u, "username")).transpose()?.filter(|name| !name.is_empty()),
        pod: pod(&user, open)?,
        source_ip: last_source_ip(get("sourceIPs"))?,
        user_agent: field(members, "userAgent")?,
        object_ref: below("objectRef")?.map(|o| object_ref(&o)).transpose()?,
        status: below("responseStatus")?.map(|o| response_status(&o)).transpose()?,
        request_object,
        response_object,
        received: time("requestReceivedTimestamp")?,
        staged: time("stageTimestamp")?,
        annotations: annotations
            .into_iter()
            .filter(|(key, _)| keeps_annotation(key))
            .map(|(key, value)| Ok((key, string(value)?)))
            .chain(omitted.map(Ok))
            .collect::<Result<_, Malformed>>()?,
    })
}

fn parsed_members(json: &[u8]) -> Result<Members<'_>, Malformed> {
    let mut de = serde_json::Deserializer::from_slice(json);
    let members = de.deserialize_map(MembersVisitor).map_err(Malformed::from_json)?;
    de.end().map_err(Malformed::from_json)?;
    Ok(members)
}

/// Returns the members of the object that `json` starts with, and the position after it.
fn scanned_first(json: &[u8]) -> Option<(Members<'_>, usize)> {
    let mut found = json_scan::members(json);
    let mut members = Vec::with_capacity(20);
    for (key, value) in found.by_ref() {
        let key = std::str::from_utf8(key).ok().filter(|key| !key.contains('\\'))?;
        members.push((Cow::Borrowed(key), value));
    }
    found.is_done().then_some((members, found.position()))
}

fn scanned_members(json: &[u8]) -> Result<Members<'_>, Malformed> {
    let found = scanned_first(json).filter(|(_, end)| *end == json.len());
    found.map(|(members, _)| members).ok_or(Malformed::Type("object"))
}

fn string(raw: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    serde_json::from_slice::<Text>(raw).map(|t| t.0).map_err(Malformed::from_json)
}

/// Returns the value of a member, unless it is absent or null.
fn value<'a>(members: &Members<'a>, key: &str) -> Option<&'a [u8]> {
    members.iter().find(|(k, _)| k == key).map(|(_, value)| *value).filter(|value| *value != b"null")
}

/// Returns the string value of a member, unless it is absent or null.
fn text<'a>(members: &Members<'a>, key: &str) -> Result<Option<Cow<'a, str>>, Malformed> {
    value(members, key).map(string).transpose()
}

/// Returns the string value of a member that every event has.
fn required<'a>(members: &Members<'a>, key: &'static str) -> Result<Cow<'a, str>, Malformed> {
    text(members, key)?.ok_or(Malformed::NotAnEvent(key))
}

/// Returns the string value of a member. Empty if it is absent or null.
fn field<'a>(members: &Members<'a>, key: &str) -> Result<Cow<'a, str>, Malformed> {
    Ok(text(members, key)?.unwrap_or_default())
}

fn object_ref<'a>(o: &Members<'a>) -> Result<ObjectRef<'a>, Malformed> {
    Ok(ObjectRef {
        group: field(o, "apiGroup")?,
        version: field(o, "apiVersion")?,
        resource: field(o, "resource")?,
        subresource: field(o, "subresource")?,
        namespace: field(o, "namespace")?,
        name: field(o, "name")?,
        uid: field(o, "uid")?,
        resource_version: field(o, "resourceVersion")?,
    })
}

fn response_status<'a>(o: &Members<'a>) -> Result<ResponseStatus<'a>, Malformed> {
    let code = match value(o, "code") {
        Some(code) => serde_json::from_slice(code).map_err(|_| Malformed::Type("responseStatus.code"))?,
        None => 0,
    };
    Ok(ResponseStatus { code, reason: field(o, "reason")?, message: field(o, "message")? })
}

/// Returns the pod that a credential was issued for, from the user's extra fields.
fn pod<'a>(user: &Members<'a>, open: Open) -> Result<Cow<'a, str>, Malformed> {
    let Some((_, extra)) = user.iter().find(|(k, v)| k == "extra" && *v != b"null") else {
        return Ok(Cow::Borrowed(""));
    };
    let extra = open(extra)?;
    match extra.iter().find(|(k, _)| k == "authentication.kubernetes.io/pod-name") {
        Some((_, names)) => Ok(strings(names)?.into_iter().next().unwrap_or_default()),
        None => Ok(Cow::Borrowed("")),
    }
}

fn last_source_ip(raw: Option<&[u8]>) -> Result<Cow<'_, str>, Malformed> {
    Ok(raw.map(strings).transpose()?.and_then(|mut ips| ips.pop()).unwrap_or_default())
}

fn strings(raw: &[u8]) -> Result<Vec<Cow<'_, str>>, Malformed> {
    let texts: Option<Vec<Text>> = serde_json::from_slice(raw).map_err(Malformed::from_json)?;
    Ok(texts.unwrap_or_default().into_iter().map(|t| t.0).collect())
}

/// A string that is borrowed unless it contains escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(20);
        while let Some((key, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            members.push((key.0, value.get().as_bytes()));
        }
        Ok(members)
    }
}
