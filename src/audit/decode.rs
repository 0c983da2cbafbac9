//! The decoder in use: bytes to [`Event`], with a short path for what kube-apiserver writes.
//!
//! The short path trusts nothing that it has not checked. It knows the one order in which kube-apiserver writes an
//! event's keys, and gives up at the first byte that is not where it should be; [`plain`] then decides. It leaves
//! reads at their verb and scans bodies for their end only. Both decoders agree on every event that is valid JSON
//! (property tests, all recordings); where a body or a skipped value is *not* valid, the short path may let it
//! pass, and whoever looks into the body later says so.

pub mod plain;

use std::borrow::Cow;

use crate::audit::event::{Event, Level, ObjectRef, ResponseStatus, Stage, Verb, keeps_annotation, parse_timestamp};
use crate::audit::scan::{self, skip_string, skip_value};

/// What a line turned out to be.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a box for each event costs more than moving it")]
pub enum Decoded<'a> {
    /// An event that does not end its request: nothing to count.
    Unfinished,
    /// The end of a request that cannot have written.
    Read(Verb),
    /// The end of a request whose verb writes.
    Event(Event<'a>),
}

/// Why bytes are no audit event. The variants are the `reason` labels of counters and summaries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON at all, or not to its end.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// Cut off: the value does not end.
    #[error("the event is cut off")]
    Truncated,
    /// A string that is no UTF-8.
    #[error("not valid UTF-8")]
    Utf8,
    /// JSON, but without what every audit event has.
    #[error("no audit event: `{0}` is missing or unknown")]
    NotAnEvent(&'static str),
    /// A value of another type than the contract's.
    #[error("`{0}` has the wrong type")]
    Type(&'static str),
    /// Longer than any event may be.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// The `legacy` log format, which names no objects.
    #[error("the `legacy` log format names no objects: run kube-apiserver with --audit-log-format=json")]
    Legacy,
}

impl Malformed {
    /// The reason as a metric label and a summary's key.
    pub fn reason(&self) -> &'static str {
        match self {
            Malformed::Json(_) => "not_json",
            Malformed::Truncated => "truncated",
            Malformed::Utf8 => "invalid_utf8",
            Malformed::NotAnEvent(_) => "not_an_event",
            Malformed::Type(_) => "wrong_type",
            Malformed::TooLong(_) => "too_long",
            Malformed::Legacy => "legacy_format",
        }
    }

    fn from_json(error: serde_json::Error) -> Malformed {
        use serde_json::error::Category;
        let text = error.to_string();
        match error.classify() {
            Category::Eof => Malformed::Truncated,
            _ if text.contains("unicode") || text.contains("UTF-8") => Malformed::Utf8,
            Category::Data => Malformed::NotAnEvent("object"),
            _ => Malformed::Json(text),
        }
    }
}

/// Decodes one event from its JSON text.
///
/// # Errors
/// [`Malformed`] where the text is no audit event.
pub fn decode(line: &[u8]) -> Result<Decoded<'_>, Malformed> {
    match canonical(line) {
        Some(decoded) => Ok(decoded),
        None => plain::decode(line),
    }
}

/// Decodes the event that `bytes` starts with, shows it, and tells where it ends: what [`skip_value`] and [`decode`] make
/// of it, in one walk. `None`, and nothing shown, where the event does not end; one of more than `len_max` bytes is
/// malformed.
///
/// Shows and does not return, since moving an event costs as much as decoding a read.
#[inline]
pub fn decode_first<'a>(
    bytes: &'a [u8],
    len_max: usize,
    show: impl FnOnce(Result<Decoded<'a>, Malformed>),
) -> Option<usize> {
    let mut c = Cursor { bytes, at: 0 };
    if let Some(head) = c.head() {
        if let Some(decoded) = head.without_rest() {
            let end = scan::skip_open(bytes, c.at)?;
            if end <= len_max && bytes[end - 1] == b'}' {
                show(Ok(decoded));
                return Some(end);
            }
        } else if let Some(event) = c.rest(head)
            && c.at <= len_max
        {
            show(Ok(Decoded::Event(event)));
            return Some(c.at);
        }
    }
    let end = skip_value(bytes, 0)?;
    show(if end > len_max { Err(Malformed::TooLong(len_max)) } else { plain::decode(&bytes[..end]) });
    Some(end)
}

/// The event where every byte stands as kube-apiserver writes it; `None` for anything else.
fn canonical(line: &[u8]) -> Option<Decoded<'_>> {
    let mut c = Cursor { bytes: line, at: 0 };
    let head = c.head()?;
    // What is left of an event that can be no write is not looked at; that it was written to its end is.
    if line.last() != Some(&b'}') {
        return None;
    }
    if let Some(decoded) = head.without_rest() {
        return Some(decoded);
    }
    let event = c.rest(head)?;
    (c.at == line.len()).then_some(Decoded::Event(event))
}

/// An event up to its verb.
struct Head<'a> {
    level: Level,
    audit_id: &'a [u8],
    stage: Stage,
    /// Where the text of the URI begins.
    request_uri: usize,
    verb: Verb,
}

// === impl Head ===

impl Head<'_> {
    /// What the event is where that is known without its rest.
    #[inline(always)]
    fn without_rest<'a>(&self) -> Option<Decoded<'a>> {
        if !self.stage.is_final() {
            return Some(Decoded::Unfinished);
        }
        (!self.verb.is_mutating()).then_some(Decoded::Read(self.verb))
    }
}

/// A position in an event; every step either finds what it names, or says no.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

// === impl Cursor ===

impl<'a> Cursor<'a> {
    /// Up to the verb, whose closing quote is stepped over.
    fn head(&mut self) -> Option<Head<'a>> {
        self.literal(b"{")?;
        self.option(br#""kind":"Event","apiVersion":"audit.k8s.io/v1","#);
        self.literal(br#""level":""#)?;
        let level = self.one_of([
            (br#"Metadata",""#, Level::Metadata),
            (br#"Request",""#, Level::Request),
            (br#"RequestResponse",""#, Level::RequestResponse),
        ])?;
        self.literal(br#"auditID":""#)?;
        let audit_id = self.until_id_end()?;
        self.literal(br#","stage":""#)?;
        let stage = self.one_of([
            (br#"ResponseComplete",""#, Stage::ResponseComplete),
            (br#"RequestReceived",""#, Stage::RequestReceived),
            (br#"ResponseStarted",""#, Stage::ResponseStarted),
            (br#"Panic",""#, Stage::Panic),
        ])?;
        self.literal(br#"requestURI":""#)?;
        let request_uri = self.at;
        self.at = skip_string(self.bytes, self.at - 1)?;
        self.literal(br#","verb":""#)?;
        let verb = Verb::parse(self.text()?);
        Some(Head { level, audit_id, stage, request_uri, verb })
    }

    /// What follows the verb, to the end of the event.
    fn rest(&mut self, head: Head<'a>) -> Option<Event<'a>> {
        let audit_id = std::str::from_utf8(head.audit_id).ok()?;
        let request_uri = Cursor { bytes: self.bytes, at: head.request_uri }.escaped_text()?;
        self.literal(br#","user":{"#)?;
        let (username, pod) = self.user()?;
        let impersonated = match self.option(br#","impersonatedUser":{"#) {
            true => Some(self.user()?.0).filter(|name| !name.is_empty()),
            false => None,
        };
        if self.option(br#","authenticationMetadata":"#) {
            self.value()?;
        }
        let source_ip = if self.option(br#","sourceIPs":["#) { self.last_of_strings()? } else { "" };
        let user_agent = if self.option(br#","userAgent":""#) { self.text()? } else { "" };
        let object_ref = if self.option(br#","objectRef":{"#) { Some(self.object_ref()?) } else { None };
        let status = if self.option(br#","responseStatus":"#) { Some(self.status()?) } else { None };
        let request_object = if self.option(br#","requestObject":"#) { self.body()? } else { None };
        let response_object = if self.option(br#","responseObject":"#) { self.body()? } else { None };
        self.literal(br#","requestReceivedTimestamp":""#)?;
        let received = Some(parse_timestamp(self.text()?)?);
        self.literal(br#","stageTimestamp":""#)?;
        let staged = Some(parse_timestamp(self.text()?)?);
        let annotations = if self.option(br#","annotations":"#) { self.annotations()? } else { Vec::new() };
        self.literal(b"}")?;
        Some(Event {
            level: head.level,
            audit_id: Cow::Borrowed(audit_id),
            stage: head.stage,
            request_uri,
            verb: head.verb,
            username: Cow::Borrowed(username),
            impersonated: impersonated.map(Cow::Borrowed),
            pod: Cow::Borrowed(pod),
            source_ip: Cow::Borrowed(source_ip),
            user_agent: Cow::Borrowed(user_agent),
            object_ref,
            status,
            request_object,
            response_object,
            received,
            staged,
            annotations,
        })
    }

    #[inline(always)]
    fn option(&mut self, literal: &[u8]) -> bool {
        let found = self.bytes[self.at..].starts_with(literal);
        if found {
            self.at += literal.len();
        }
        found
    }

    #[inline(always)]
    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.option(literal).then_some(())
    }

    /// What the first literal found here stands for.
    #[inline(always)]
    fn one_of<T: Copy, const N: usize>(&mut self, all: [(&[u8], T); N]) -> Option<T> {
        all.into_iter().find(|(literal, _)| self.option(literal)).map(|(_, meaning)| meaning)
    }

    /// The rest of a string without escapes that is most likely a UUID.
    fn until_id_end(&mut self) -> Option<&'a [u8]> {
        const UUID: usize = 36;
        let rest = &self.bytes[self.at..];
        let len = match rest.split_at_checked(UUID) {
            // Without a branch for each byte.
            Some((id, [b'"', ..])) if !id.iter().fold(false, |found, b| found | (*b == b'"') | (*b == b'\\')) => UUID,
            _ => memchr::memchr2(b'"', b'\\', rest).filter(|len| rest[*len] == b'"')?,
        };
        self.at += len + 1;
        Some(&rest[..len])
    }

    /// The rest of a string without escapes.
    fn text(&mut self) -> Option<&'a str> {
        let rest = &self.bytes[self.at..];
        let len = scan::quote_or_backslash(rest)?;
        if rest[len] != b'"' {
            return None;
        }
        self.at += len + 1;
        std::str::from_utf8(&rest[..len]).ok()
    }

    /// The rest of a string, escapes undone.
    fn escaped_text(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        if let Some(text) = self.text() {
            return Some(Cow::Borrowed(text));
        }
        let end = skip_string(self.bytes, start - 1)?;
        self.at = end;
        if let Some(text) = html_unescaped(&self.bytes[start..end - 1]) {
            return Some(Cow::Owned(text));
        }
        serde_json::from_slice(&self.bytes[start - 1..end]).ok().map(Cow::Owned)
    }

    fn value(&mut self) -> Option<&'a [u8]> {
        let end = skip_value(self.bytes, self.at)?;
        let value = &self.bytes[self.at..end];
        self.at = end;
        Some(value)
    }

    /// A body: `None` inside where it is null.
    fn body(&mut self) -> Option<Option<&'a [u8]>> {
        let value = self.value()?;
        Some((value != b"null").then_some(value))
    }

    /// The rest of a user: its name and the pod its credential was given to.
    fn user(&mut self) -> Option<(&'a str, &'a str)> {
        if self.option(b"}") {
            return Some(("", ""));
        }
        self.literal(br#""username":""#)?;
        let username = self.text()?;
        let mut pod = "";
        if self.option(br#","uid":""#) {
            self.text()?;
        }
        if self.option(br#","groups":["#) {
            self.last_of_strings()?;
        }
        if self.option(br#","extra":"#) {
            let mut is_first = true;
            self.each_member(|key, value| {
                if key == b"authentication.kubernetes.io/pod-name" && std::mem::take(&mut is_first) {
                    let mut names = Cursor { bytes: value, at: 0 };
                    names.literal(br#"[""#)?;
                    pod = names.text()?;
                    (names.bytes.len() == names.at + 1).then_some(())?;
                }
                Some(())
            })?;
        }
        self.literal(b"}")?;
        Some((username, pod))
    }

    /// The rest of an array of strings: its last one.
    fn last_of_strings(&mut self) -> Option<&'a str> {
        if self.option(b"]") {
            return Some("");
        }
        loop {
            self.literal(b"\"")?;
            let text = self.text()?;
            if self.option(b"]") {
                return Some(text);
            }
            self.literal(b",")?;
        }
    }

    fn object_ref(&mut self) -> Option<ObjectRef<'a>> {
        self.literal(br#""resource":""#)?;
        let resource = Cow::Borrowed(self.text()?);
        let mut member = |key: &[u8]| {
            let text = if self.option(key) { self.text()? } else { "" };
            Some(Cow::Borrowed(text))
        };
        let found = ObjectRef {
            resource,
            namespace: member(br#","namespace":""#)?,
            name: member(br#","name":""#)?,
            uid: member(br#","uid":""#)?,
            group: member(br#","apiGroup":""#)?,
            version: member(br#","apiVersion":""#)?,
            resource_version: member(br#","resourceVersion":""#)?,
            subresource: member(br#","subresource":""#)?,
        };
        self.literal(b"}")?;
        Some(found)
    }

    fn status(&mut self) -> Option<ResponseStatus<'a>> {
        self.literal(br#"{"metadata":{}"#)?;
        if self.option(br#","status":""#) {
            self.text()?;
        }
        let message = if self.option(br#","message":""#) { self.escaped_text()? } else { Cow::Borrowed("") };
        let reason = if self.option(br#","reason":""#) { self.text()? } else { "" };
        if self.option(br#","details":"#) {
            self.value()?;
        }
        let mut code = 0;
        if self.option(br#","code":"#) {
            code = std::str::from_utf8(self.value()?).ok()?.parse().ok().filter(|code| (100..1000).contains(code))?;
        }
        self.literal(b"}")?;
        Some(ResponseStatus { code, reason: Cow::Borrowed(reason), message })
    }

    fn annotations(&mut self) -> Option<Vec<(Cow<'a, str>, Cow<'a, str>)>> {
        let mut kept = Vec::new();
        self.each_member(|key, value| {
            let key = std::str::from_utf8(key).ok()?;
            if keeps_annotation(key) {
                kept.push((Cow::Borrowed(key), Cow::Owned(serde_json::from_slice(value).ok()?)));
            }
            Some(())
        })?;
        Some(kept)
    }

    /// Shows the members of an object, whose keys have no escapes.
    fn each_member(&mut self, mut each: impl FnMut(&'a [u8], &'a [u8]) -> Option<()>) -> Option<()> {
        let mut members = scan::members(&self.bytes[self.at..]);
        for (key, value) in members.by_ref() {
            if memchr::memchr(b'\\', key).is_some() {
                return None;
            }
            each(key, value)?;
        }
        self.at += members.position();
        (!members.is_broken()).then_some(())
    }
}

/// A string whose only escapes are those that Go makes of `&`, `<` and `>`.
fn html_unescaped(text: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(match rest.get(at..at + 6)? {
            br"\u0026" => b'&',
            br"\u003c" => b'<',
            br"\u003e" => b'>',
            _ => return None,
        });
        rest = &rest[at + 6..];
    }
    out.extend_from_slice(rest);
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests;
