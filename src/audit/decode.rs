//! The audit event decoder: bytes to [`Event`](crate::audit::event::Event), with a fast path for the exact format that
//! kube-apiserver writes.
//!
//! The fast path checks everything that it relies on. It knows the one key order that kube-apiserver uses, and gives up
//! at the first byte that differs. Then, the members are scanned in any order, and only if that finds no event either,
//! [`plain`], the reference decoder, decides. The fast path stops at the verb of reads, and only scans bodies for their
//! end. All decoders agree on every event that is valid JSON (verified by property tests and all recordings). If a body
//! or a skipped value is *not* valid JSON, the fast ones may accept the event; the error is then reported when the body
//! is parsed.

mod canonical;
mod outcome;
pub mod plain;

use canonical::Cursor;
pub use outcome::{Decoded, Malformed};

use crate::audit::json_scan::{self, skip_space, skip_value};

/// Decodes one event from its JSON text.
///
/// # Errors
/// [`Malformed`] if the text is not an audit event.
pub fn decode(line: &[u8]) -> Result<Decoded<'_>, Malformed> {
    canonical(line, Ok).unwrap_or_else(|| in_any_order(line))
}

/// Like [`decode`], but passes the event to a closure instead of returning it: moving an event costs as much as
/// decoding a read.
#[inline]
pub fn decode_line<'a>(line: &'a [u8], mut show: impl FnMut(Result<Decoded<'a>, Malformed>)) {
    if canonical(line, |decoded| show(Ok(decoded))).is_none() {
        show(in_any_order(line));
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
    match plain::scanned(bytes) {
        Some((decoded, end)) if end <= len_max => {
            show(Ok(decoded));
            Some(end)
        }
        _ => {
            let end = skip_value(bytes, 0)?;
            show(if end > len_max { Err(Malformed::TooLong(len_max)) } else { plain::decode(&bytes[..end]) });
            Some(end)
        }
    }
}

/// Decodes an event whose members have any order.
fn in_any_order(line: &[u8]) -> Result<Decoded<'_>, Malformed> {
    match plain::scanned(line) {
        Some((decoded, end)) if skip_space(line, end) == line.len() => Ok(decoded),
        _ => plain::decode(line),
    }
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
