//! The decoder in use: bytes to [`Event`], with a short path for what kube-apiserver writes.
//!
//! The short path trusts nothing that it has not checked. It knows the one order in which kube-apiserver writes an
//! event's keys, and gives up at the first byte that is not where it should be; [`plain`] then decides. It leaves
//! reads at their verb and scans bodies for their end only. Both decoders agree on every event that is valid JSON
//! (property tests, all recordings); where a body or a skipped value is *not* valid, the short path may let it
//! pass, and whoever looks into the body later says so.

mod canonical;
pub mod plain;

use canonical::Cursor;

use crate::audit::event::{Event, Verb};
use crate::audit::scan::{self, skip_value};

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
    /// All reasons.
    pub const REASONS: [&str; 7] =
        ["not_json", "truncated", "invalid_utf8", "not_an_event", "wrong_type", "too_long", "legacy_format"];

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
    canonical(line, Ok).unwrap_or_else(|| plain::decode(line))
}

/// [`decode`], which shows and does not return: moving an event costs as much as decoding a read.
#[inline]
pub fn decode_line<'a>(line: &'a [u8], mut show: impl FnMut(Result<Decoded<'a>, Malformed>)) {
    if canonical(line, |decoded| show(Ok(decoded))).is_none() {
        show(plain::decode(line));
    }
}

/// Decodes the event that `bytes` starts with, shows it, and tells where it ends: what [`skip_value`] and [`decode`] make
/// of it, in one walk. `None`, and nothing shown, where the event does not end; one of more than `len_max` bytes is
/// malformed.
#[inline]
pub fn decode_first<'a>(
    bytes: &'a [u8],
    len_max: usize,
    show: impl FnOnce(Result<Decoded<'a>, Malformed>),
) -> Option<usize> {
    let mut c = Cursor::new(bytes);
    if let Some(head) = c.head() {
        if let Some(decoded) = head.without_rest() {
            let end = scan::skip_open(bytes, c.at())?;
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

/// Shows the event where every byte stands as kube-apiserver writes it; `None`, and nothing shown, for anything else.
#[inline(always)]
fn canonical<'a, T>(line: &'a [u8], show: impl FnOnce(Decoded<'a>) -> T) -> Option<T> {
    let mut c = Cursor::new(line);
    let head = c.head()?;
    // What is left of an event that can be no write is not looked at; that it was written to its end is.
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
