//! The audit event decoder: bytes to [`Event`], with a fast path for the exact format that kube-apiserver writes.
//!
//! The fast path checks everything that it relies on. It knows the one key order that kube-apiserver uses, and gives up
//! at the first byte that differs; [`plain`], the reference decoder, then decides. It stops at the verb of reads, and
//! only scans bodies for their end. Both decoders agree on every event that is valid JSON (verified by property tests
//! and all recordings). If a body or a skipped value is *not* valid JSON, the fast path may accept the event; the error
//! is then reported when the body is parsed.

mod canonical;
pub mod plain;

use canonical::Cursor;

use crate::audit::event::{Event, Verb};
use crate::audit::json_scan::{self, skip_value};

/// The result of decoding one event.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a box for each event costs more than moving it")]
pub enum Decoded<'a> {
    /// An event of a stage that does not end the request. It is not counted.
    Unfinished,
    /// The end of a request whose verb does not write.
    Read(Verb),
    /// The end of a request whose verb writes.
    Event(Event<'a>),
}

/// The reason why bytes are not an audit event. [`Malformed::reason`] is the `reason` label of counters and summaries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Invalid JSON, or more text after the value.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// The value is cut off before its end.
    #[error("the event is truncated")]
    Truncated,
    /// A string is not valid UTF-8.
    #[error("not valid UTF-8")]
    Utf8,
    /// Valid JSON that lacks a field that every audit event has.
    #[error("not an audit event: `{0}` is missing or unknown")]
    NotAnEvent(&'static str),
    /// A field has a different type than in the audit API.
    #[error("`{0}` has the wrong type")]
    Type(&'static str),
    /// Longer than the maximum size of an event.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// The `legacy` log format, which does not name objects.
    #[error("the `legacy` log format does not name objects: run kube-apiserver with --audit-log-format=json")]
    Legacy,
}

impl Malformed {
    /// All values of [`Malformed::reason`].
    pub const REASONS: [&str; 7] =
        ["not_json", "truncated", "invalid_utf8", "not_an_event", "wrong_type", "too_long", "legacy_format"];

    /// Returns the reason as a metric label and as a key of summaries.
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
/// [`Malformed`] if the text is not an audit event.
pub fn decode(line: &[u8]) -> Result<Decoded<'_>, Malformed> {
    canonical(line, Ok).unwrap_or_else(|| plain::decode(line))
}

/// Like [`decode`], but passes the event to a closure instead of returning it: moving an event costs as much as
/// decoding a read.
#[inline]
pub fn decode_line<'a>(line: &'a [u8], mut show: impl FnMut(Result<Decoded<'a>, Malformed>)) {
    if canonical(line, |decoded| show(Ok(decoded))).is_none() {
        show(plain::decode(line));
    }
}

/// Decodes the event that `bytes` starts with, passes it to `show`, and returns the position after it. Equivalent to
/// [`skip_value`] followed by [`decode`], in a single pass.
///
/// Returns `None`, without calling `show`, if the event does not end within `bytes`. An event of more than `len_max`
/// bytes is malformed.
#[inline]
pub fn decode_first<'a>(
    bytes: &'a [u8],
    len_max: usize,
    show: impl FnOnce(Result<Decoded<'a>, Malformed>),
) -> Option<usize> {
    let mut c = Cursor::new(bytes);
    if let Some(head) = c.head() {
        if let Some(decoded) = head.without_rest() {
            let end = json_scan::skip_open(bytes, c.at())?;
            if end <= len_max && bytes[end - 1] == b'}' {
                show(Ok(decoded));
                return Some(end);
            }
        } else if let Some(event) = c.rest(&head)
            && c.at() <= len_max
        {
            show(Ok(Decoded::Event(event)));
            return Some(c.at());
        }
    }
    let end = skip_value(bytes, 0)?;
    show(if end > len_max { Err(Malformed::TooLong(len_max)) } else { plain::decode(&bytes[..end]) });
    Some(end)
}

/// Decodes an event with the fast path. Returns `None`, without calling `show`, if any byte differs from the format of
/// kube-apiserver.
#[inline(always)]
fn canonical<'a, T>(line: &'a [u8], show: impl FnOnce(Decoded<'a>) -> T) -> Option<T> {
    let mut c = Cursor::new(line);
    let head = c.head()?;
    // The rest of an event that cannot be a write is not decoded, but the event must be complete.
    if line.last() != Some(&b'}') {
        return None;
    }
    if let Some(decoded) = head.without_rest() {
        return Some(show(decoded));
    }
    let event = c.rest(&head)?;
    (c.at() == line.len()).then(|| show(Decoded::Event(event)))
}

#[cfg(test)]
mod tests;
