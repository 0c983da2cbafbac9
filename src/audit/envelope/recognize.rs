//! Decides whether a stream has kube-apiserver's own formats, which are decoded in place, or must be converted.

use super::formats::{self, Content, FORMATS, Table};
use super::native::{behind_node_name, is_list};
use super::object::Object;
use crate::audit::json_scan::{skip_space, skip_value};

/// Number of bytes from the start of a stream that are enough to recognize its format.
pub const HEAD_BYTES: usize = 256 << 10;

/// Maximum length of the first line of a pretty-printed document: one bracket, or a bracket and some members.
const FIRST_LINE_MAX: usize = 4096;
/// Maximum number of lists in each other.
const DEPTH_MAX: usize = 8;
/// The start of events that kube-apiserver wrote.
const EVENT_START: &[u8] = br#"{"kind":"Event","#;

/// Returns whether a stream that starts with `head` must be converted. Gets [`HEAD_BYTES`], or the complete stream if it
/// is shorter.
///
/// It must be if any of its lines has another format than kube-apiserver's own: lines with an event, a list or an
/// array, optionally behind the name of a node. What no format is recognized in is decoded in place, where it is counted
/// as malformed.
pub fn is_wrapped(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let head = &head[skip_space(head, 0)..];
    if Table::open(head).is_some() {
        return true;
    }
    let mut rest = head;
    while let Some(newline) = memchr::memchr(b'\n', rest) {
        if is_wrapped_line(&rest[..newline], Some(&rest[newline..])) {
            return true;
        }
        rest = &rest[newline + 1..];
    }
    // The last line may be longer than the head. If there are others, it is not needed.
    rest.len() == head.len() && is_wrapped_line(rest, None)
}

/// Returns whether a line has another format. `rest` is what follows it, if it has an end.
fn is_wrapped_line(line: &[u8], rest: Option<&[u8]>) -> bool {
    let line = line.trim_ascii();
    match line.first() {
        None => false,
        Some(b'{' | b'[') => is_wrapped_json(line, rest),
        Some(_) => match behind_node_name(line) {
            Some(json) => is_wrapped_json(json, rest),
            None => formats::text(line).is_some(),
        },
    }
}

fn is_wrapped_json(line: &[u8], rest: Option<&[u8]>) -> bool {
    if line.starts_with(EVENT_START) && !formats::has_other_level(line) {
        return false;
    }
    match skip_value(line, 0) {
        Some(end) => is_wrapped_value(&line[..end]),
        // A document, or a line that was cut off.
        None if rest.is_some() => line.len() < FIRST_LINE_MAX,
        // A list, or an entry that is longer than all that was read.
        None => true,
    }
}

/// Returns whether a value has another format than an event, an `EventList` or an array of these.
fn is_wrapped_value(mut json: &[u8]) -> bool {
    for _ in 0..DEPTH_MAX {
        let first = if json.first() == Some(&b'[') {
            let start = skip_space(json, 1);
            skip_value(json, start).map(|end| &json[start..end])
        } else {
            let Some(object) = Object::of(json) else { return false };
            if !is_list(json) {
                let content = FORMATS.iter().find_map(|format| format.open(&object));
                return content.is_some_and(|content| !matches!(content, Content::Event));
            }
            object.array("items").and_then(|items| items.first().copied())
        };
        let Some(first) = first else { return false };
        json = first;
    }
    // No format has that many lists in each other.
    false
}
