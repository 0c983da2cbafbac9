//! Paths of fields: their notation, their parts, and the lists in them.

use std::borrow::Cow;
use std::sync::Arc;

use crate::detect::write::Part;

/// The path of a field within its object.
pub type Path = Arc<str>;

/// Returns the part of the object that contains a path.
pub fn part_of(path: &str) -> Part {
    match path.strip_prefix("status") {
        Some(rest) if rest.is_empty() || rest.starts_with(['.', '[']) => Part::Status,
        _ => Part::Main,
    }
}

/// Whether a field is an item of a list, or within one.
pub(super) fn is_item_of(path: &str, list: &str) -> bool {
    path.strip_prefix(list).is_some_and(|rest| rest.starts_with('['))
}

/// Returns the selector of the list item that contains a field.
pub(super) fn item_of<'p>(path: &'p str, list: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(list).filter(|rest| rest.starts_with('['))?;
    Some(&rest[..selector_end(rest)?])
}

/// Returns the end of the selector at the beginning of a text: `[name=web]`, `['quoted ]']`.
pub(super) fn selector_end(text: &str) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '\'' => is_quoted = !is_quoted,
            ']' if !is_quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Whether `path` is `branch` or below it.
pub(in crate::detect) fn is_at_or_below(path: &str, branch: &str) -> bool {
    path.strip_prefix(branch).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Returns the path that contains this one: without its last key or selector. A selector may contain dots.
pub(super) fn parent(path: &str) -> Option<&str> {
    let mut end = None;
    let mut at = 0;
    while at < path.len() {
        let rest = &path[at..];
        if rest.starts_with('[') {
            end = (at > 0).then_some(at);
            at += selector_end(rest)?;
        } else {
            if at > 0 {
                end = Some(at);
            }
            let key = rest.strip_prefix('.').unwrap_or(rest);
            let skipped = rest.len() - key.len();
            at += skipped + key.find(['.', '[']).unwrap_or(key.len()).max(1);
        }
    }
    end.map(|end| &path[..end])
}

/// Returns the name of the list at the end of a path.
pub(super) fn last_key(path: &str) -> &str {
    path.rsplit(['.', ']']).next().unwrap_or_default()
}

/// Appends a key to a path: `.key`, or `['key']` where it holds more than letters, digits, `-` and `_`.
pub(super) fn push_key(path: &mut String, key: &str) {
    let is_plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if is_plain {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    } else {
        path.push_str("['");
        path.push_str(&key.replace('\\', "\\\\").replace('\'', "\\'"));
        path.push_str("']");
    }
}

/// Whether Kubernetes treats a list as a set, whose items are independent of each other.
pub(super) fn is_set(list: &str) -> bool {
    list == "finalizers"
}

/// Returns the selector of a set's item, which is the item itself.
pub(super) fn set_selector(item: &str) -> String {
    format!("[{}]", quoted_selector(item))
}

/// Returns a selector's value, quoted if it could otherwise end the selector.
pub(super) fn quoted_selector(text: &str) -> Cow<'_, str> {
    if text.contains([']', '[', ',', '=', '\'', '"', ' ']) || text.is_empty() {
        format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")).into()
    } else {
        text.into()
    }
}
