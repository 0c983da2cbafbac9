//! The fast path of the decoder: reads an event key by key, in the order in which kube-apiserver writes them.

use std::borrow::Cow;

use simdutf8::basic::from_utf8;

use super::outcome::Decoded;
use crate::audit::event::{
    Event, Level, Micros, ObjectRef, ResponseStatus, Stage, Verb, canonical_timestamp, keeps_annotation,
    parse_timestamp,
};
use crate::audit::json_scan::{self, skip_string, skip_value};

/// The byte range of a string, without its quotes. Empty if the string is absent.
#[derive(Clone, Copy, Default)]
struct Span {
    start: usize,
    end: usize,
}

/// A string that may contain escapes.
#[derive(Clone, Copy, Default)]
struct EscapedSpan {
    span: Span,
    is_escaped: bool,
}

/// The beginning of an event, up to and including its verb.
pub(super) struct Head {
    level: Level,
    audit_id: Span,
    stage: Stage,
    request_uri: EscapedSpan,
    verb: Verb,
}

/// The status of a response.
struct FoundStatus {
    code: u16,
    reason: Span,
    message: EscapedSpan,
}

/// The account that sent a request.
#[derive(Default)]
struct User {
    name: Span,
    /// The pod that its credential was issued for.
    pod: Span,
}

// === impl Head ===

impl Head {
    /// Returns the result if it does not depend on the rest of the event.
    #[inline(always)]
    pub(super) fn without_rest<'a>(&self) -> Option<Decoded<'a>> {
        if !self.stage.is_final() {
            return Some(Decoded::Unfinished);
        }
        (!self.verb.is_mutating()).then_some(Decoded::Read(self.verb))
    }
}

/// The part of an event that contains its strings, validated as UTF-8. A single check of the whole part takes a tenth
/// of the time that checking each string would.
struct Text<'a> {
    text: &'a str,
    start: usize,
}

// === impl Text ===

impl<'a> Text<'a> {
    fn of(bytes: &'a [u8], start: usize, end: usize) -> Option<Text<'a>> {
        Some(Text { text: from_utf8(&bytes[start..end]).ok()?, start })
    }

    /// Returns the string at a span.
    #[inline(always)]
    fn at(&self, span: Span) -> &'a str {
        // The span of an absent string starts before the text, so that `get` returns `None`.
        self.text.get(span.start.wrapping_sub(self.start)..span.end.wrapping_sub(self.start)).unwrap_or_default()
    }

    /// Returns the string at a span, with escapes decoded.
    #[inline(always)]
    fn unescaped(&self, string: EscapedSpan) -> Option<Cow<'a, str>> {
        let text = self.at(string.span);
        if !string.is_escaped {
            return Some(Cow::Borrowed(text));
        }
        if let Some(text) = html_unescaped(text.as_bytes()) {
            return Some(Cow::Owned(text));
        }
        serde_json::from_str(&format!("\"{text}\"")).ok().map(Cow::Owned)
    }
}

/// A timestamp, and its text if it has the format of kube-apiserver.
struct Time<'a> {
    canonical: Option<&'a [u8; 27]>,
    at: Micros,
}

// === impl Time ===

impl Time<'_> {
    /// Parses a timestamp that differs only in its microseconds.
    #[inline(always)]
    fn in_same_second(&self, text: &[u8; 27]) -> Option<Micros> {
        const SECONDS: usize = "2026-11-23T01:56:08.".len();
        if text[..SECONDS] != self.canonical?[..SECONDS] || text[26] != b'Z' {
            return None;
        }
        let digits = text[SECONDS..26].iter().map(|digit| digit.wrapping_sub(b'0'));
        let (micros, is_number) =
            digits.fold((0, true), |(n, is_number), digit| (n * 10 + Micros::from(digit), is_number & (digit <= 9)));
        is_number.then(|| self.at - self.at.rem_euclid(1_000_000) + micros)
    }
}

/// A position in an event. Each method either reads what its name says and advances, or returns `None`.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

// === impl Cursor ===

impl<'a> Cursor<'a> {
    /// Starts at the first byte of an event.
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Returns the current position.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Reads up to the verb, including its closing quote.
    #[inline(always)]
    pub(super) fn head(&mut self) -> Option<Head> {
        // Optimised for typical logs: the common prefix is compared as a whole, and alternatives are in the order of
        // their frequency.
        let level = if self.option(br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":""#)
        {
            Level::Metadata
        } else {
            self.literal(b"{")?;
            self.option(br#""kind":"Event","apiVersion":"audit.k8s.io/v1","#);
            self.literal(br#""level":""#)?;
            let level = if self.option(br#"RequestResponse""#) {
                Level::RequestResponse
            } else if self.option(br#"Metadata""#) {
                Level::Metadata
            } else {
                self.literal(br#"Request""#)?;
                Level::Request
            };
            self.literal(br#","auditID":""#)?;
            level
        };
        let audit_id = self.id()?;
        self.literal(br#","stage":""#)?;
        let stage = if self.option(br#"ResponseComplete""#) {
            Stage::ResponseComplete
        } else if self.option(br#"RequestReceived""#) {
            Stage::RequestReceived
        } else if self.option(br#"ResponseStarted""#) {
            Stage::ResponseStarted
        } else {
            self.literal(br#"Panic""#)?;
            Stage::Panic
        };
        self.literal(br#","requestURI":""#)?;
        let request_uri = self.escaped()?;
        self.literal(br#","verb":""#)?;
        let verb = if self.option(br#"get""#) || self.option(br#"watch""#) || self.option(br#"list""#) {
            Verb::Read
        } else {
            let verb = self.text()?;
            Verb::parse(std::str::from_utf8(&self.bytes[verb.start..verb.end]).ok()?)
        };
        Some(Head { level, audit_id, stage, request_uri, verb })
    }

    /// Reads from the end of the verb to the end of the event.
    #[inline(always)]
    pub(super) fn rest(&mut self, head: &Head) -> Option<Event<'a>> {
        self.literal(br#","user":{"#)?;
        let user = self.user()?;
        let impersonated = if self.option(br#","impersonatedUser":{"#) {
            Some(self.user()?.name).filter(|name| name.start < name.end)
        } else {
            None
        };
        if self.option(br#","authenticationMetadata":"#) {
            self.value()?;
        }
        let source_ip = if self.option(br#","sourceIPs":["#) { self.last_of_strings()? } else { Span::default() };
        let user_agent = if self.option(br#","userAgent":""#) { self.text()? } else { Span::default() };
        let object_ref = if self.option(br#","objectRef":{"#) { Some(self.object_ref()?) } else { None };
        let status = if self.option(br#","responseStatus":"#) { Some(self.status()?) } else { None };
        // All strings up to here are within this range, so that they need only one UTF-8 check.
        let text = Text::of(self.bytes, head.audit_id.start, self.at)?;
        let request_object = if self.option(br#","requestObject":"#) { self.body()? } else { None };
        let response_object = if self.option(br#","responseObject":"#) { self.body()? } else { None };
        // A platform has replaced a body by a text: the plain decoder marks it.
        if [request_object, response_object].iter().flatten().any(|body| body.first() == Some(&b'"')) {
            return None;
        }
        self.literal(br#","requestReceivedTimestamp":""#)?;
        let received = self.time(None)?;
        self.literal(br#","stageTimestamp":""#)?;
        let staged = self.time(Some(&received))?;
        let annotations = if self.option(br#","annotations":"#) { self.annotations()? } else { Vec::new() };
        self.literal(b"}")?;
        let object_ref = object_ref.map(|spans| {
            let [resource, namespace, name, uid, group, version, resource_version, subresource] =
                spans.map(|span| Cow::Borrowed(text.at(span)));
            ObjectRef { group, version, resource, subresource, namespace, name, uid, resource_version }
        });
        let status = match status {
            None => None,
            Some(FoundStatus { code, reason, message }) => {
                Some(ResponseStatus { code, reason: Cow::Borrowed(text.at(reason)), message: text.unescaped(message)? })
            }
        };
        Some(Event {
            level: head.level,
            audit_id: Cow::Borrowed(text.at(head.audit_id)),
            stage: head.stage,
            request_uri: text.unescaped(head.request_uri)?,
            verb: head.verb,
            username: Cow::Borrowed(text.at(user.name)),
            impersonated: impersonated.map(|name| Cow::Borrowed(text.at(name))),
            pod: Cow::Borrowed(text.at(user.pod)),
            source_ip: Cow::Borrowed(text.at(source_ip)),
            user_agent: Cow::Borrowed(text.at(user_agent)),
            object_ref,
            status,
            request_object,
            response_object,
            received: Some(received.at),
            staged: Some(staged.at),
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

    /// Reads the rest of a string without escapes that is most likely a UUID.
    #[inline(always)]
    fn id(&mut self) -> Option<Span> {
        const UUID: usize = 36;
        let start = self.at;
        match self.bytes[start..].split_at_checked(UUID) {
            // Folds over all bytes instead of branching on each.
            Some((id, [b'"', ..])) if !id.iter().fold(false, |found, b| found | (*b == b'"') | (*b == b'\\')) => {
                self.at = start + UUID + 1;
                Some(Span { start, end: start + UUID })
            }
            _ => self.text(),
        }
    }

    /// Reads the rest of a string without escapes.
    #[inline(always)]
    fn text(&mut self) -> Option<Span> {
        let EscapedSpan { span, is_escaped } = self.escaped()?;
        (!is_escaped).then_some(span)
    }

    /// Reads the rest of a string.
    #[inline(always)]
    fn escaped(&mut self) -> Option<EscapedSpan> {
        let start = self.at;
        let mut end = start + json_scan::quote_or_backslash(self.bytes.get(start..)?)?;
        let is_escaped = self.bytes[end] != b'"';
        if is_escaped {
            end = skip_string(self.bytes, start - 1)? - 1;
        }
        self.at = end + 1;
        Some(EscapedSpan { span: Span { start, end }, is_escaped })
    }

    /// Reads the rest of a string that is a timestamp. Most stages are reached within the same second as the timestamp
    /// `before`.
    #[inline(always)]
    fn time(&mut self, before: Option<&Time<'a>>) -> Option<Time<'a>> {
        let Span { start, end } = self.text()?;
        let text = &self.bytes[start..end];
        let canonical: Option<&[u8; 27]> = text.try_into().ok();
        if let Some(at) = before.zip(canonical).and_then(|(before, text)| before.in_same_second(text)) {
            return Some(Time { canonical, at });
        }
        match canonical_timestamp(canonical) {
            Some(at) => Some(Time { canonical, at }),
            None => Some(Time { canonical: None, at: parse_timestamp(std::str::from_utf8(text).ok()?)? }),
        }
    }

    fn value(&mut self) -> Option<&'a [u8]> {
        let end = skip_value(self.bytes, self.at)?;
        let value = &self.bytes[self.at..end];
        self.at = end;
        Some(value)
    }

    /// Reads a body. The inner value is `None` for null.
    fn body(&mut self) -> Option<Option<&'a [u8]>> {
        let value = self.value()?;
        Some((value != b"null").then_some(value))
    }

    /// Reads the rest of a user.
    fn user(&mut self) -> Option<User> {
        if self.option(b"}") {
            return Some(User::default());
        }
        self.literal(br#""username":""#)?;
        let name = self.text()?;
        if self.option(br#","uid":""#) {
            self.text()?;
        }
        if self.option(br#","groups":["#) {
            self.last_of_strings()?;
        }
        let pod = if self.option(br#","extra":"#) { self.pod()? } else { Span::default() };
        self.literal(b"}")?;
        Some(User { name, pod })
    }

    /// Reads the pod name from a user's `extra`.
    fn pod(&mut self) -> Option<Span> {
        let mut pod = None;
        let start = self.at;
        let mut members = json_scan::members(&self.bytes[start..]);
        while let Some((key, value)) = members.next() {
            if memchr::memchr(b'\\', key).is_some() {
                return None;
            }
            if key == b"authentication.kubernetes.io/pod-name" && pod.is_none() {
                let end = start + members.position();
                let mut names = Cursor { bytes: &self.bytes[..end], at: end - value.len() };
                names.literal(br#"[""#)?;
                pod = Some(names.text()?);
                (names.at + 1 == end).then_some(())?;
            }
        }
        self.at = start + members.position();
        (!members.is_broken()).then_some(pod.unwrap_or_default())
    }

    /// Reads the rest of an array of strings, and returns the last one.
    fn last_of_strings(&mut self) -> Option<Span> {
        if self.option(b"]") {
            return Some(Span::default());
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

    /// Reads the rest of an object reference: resource, namespace, name, uid, group, version, resource version,
    /// subresource.
    fn object_ref(&mut self) -> Option<[Span; 8]> {
        self.literal(br#""resource":""#)?;
        let resource = self.text()?;
        let mut member = |key: &[u8]| if self.option(key) { self.text() } else { Some(Span::default()) };
        let found = [
            resource,
            member(br#","namespace":""#)?,
            member(br#","name":""#)?,
            member(br#","uid":""#)?,
            member(br#","apiGroup":""#)?,
            member(br#","apiVersion":""#)?,
            member(br#","resourceVersion":""#)?,
            member(br#","subresource":""#)?,
        ];
        self.literal(b"}")?;
        Some(found)
    }

    fn status(&mut self) -> Option<FoundStatus> {
        self.literal(br#"{"metadata":{}"#)?;
        if self.option(br#","status":""#) {
            self.text()?;
        }
        let message = if self.option(br#","message":""#) { self.escaped()? } else { EscapedSpan::default() };
        let reason = if self.option(br#","reason":""#) { self.text()? } else { Span::default() };
        if self.option(br#","details":"#) {
            self.value()?;
        }
        let mut code = 0;
        if self.option(br#","code":"#) {
            code = std::str::from_utf8(self.value()?).ok()?.parse().ok().filter(|code| (100..1000).contains(code))?;
        }
        self.literal(b"}")?;
        Some(FoundStatus { code, reason, message })
    }

    fn annotations(&mut self) -> Option<Vec<(Cow<'a, str>, Cow<'a, str>)>> {
        let mut kept = Vec::new();
        // Most events have only the two annotations of authorization, which are not kept.
        let start = self.at;
        if self.option(br#"{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":""#) {
            self.at = skip_string(self.bytes, self.at - 1)?;
            if self.option(b"}") {
                return Some(kept);
            }
            self.at = start;
        }
        self.each_member(|key, value| {
            let key = std::str::from_utf8(key).ok()?;
            if keeps_annotation(key) {
                kept.push((Cow::Borrowed(key), Cow::Owned(serde_json::from_slice(value).ok()?)));
            }
            Some(())
        })?;
        Some(kept)
    }

    /// Calls `each` for the members of an object. Keys must not contain escapes.
    fn each_member(&mut self, mut each: impl FnMut(&'a [u8], &'a [u8]) -> Option<()>) -> Option<()> {
        let mut members = json_scan::members(&self.bytes[self.at..]);
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

/// Decodes a string whose only escapes are those that Go writes for `&`, `<` and `>`.
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
