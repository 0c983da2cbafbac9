//! kube-apiserver's own formats: log lines with or without a node name prefix, `EventList`s, and arrays. Events are
//! decoded in place.
//!
//! Everything that can be decoded is passed on item by item; for the rest, the reason is passed on.

use crate::audit::decode::{Decoded, Malformed, decode_first, decode_line};
use crate::audit::json_scan::{member, members, skip_space, skip_string, skip_value};

/// Maximum size of an event in bytes. The API server limits request and response to 3 MiB each; the rest leaves room
/// for escapes. Longer events are counted and skipped.
pub const EVENT_BYTES_MAX: usize = 16 << 20;

/// Maximum length of a node name prefix: a DNS name has at most 253 characters.
const NODE_NAME_MAX: usize = 253;

/// Calls `each` for every event of one log line. An empty line has none.
///
/// A line is an event, an `EventList` or an array of events, optionally with a node name prefix as `oc adm node-logs`
/// prints it.
pub fn line<'a>(line: &'a [u8], mut each: impl FnMut(Result<Decoded<'a>, Malformed>)) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.starts_with(br#"{"kind":"Event","#) {
        return decode_line(line, each);
    }
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    let start = skip_space(line, 0);
    match line.get(start) {
        None => {}
        Some(b'{' | b'[') => values(line, each),
        Some(_) => match behind_node_name(&line[start..]) {
            Some(json) => values(json, each),
            None if is_legacy(line) => each(Err(Malformed::Legacy)),
            None => each(Err(Malformed::Json("expected a line that starts with `{`".into()))),
        },
    }
}

/// Calls `each` for every event of a webhook's body, or of any sequence of JSON values: events, `EventList`s, arrays of
/// events.
pub fn values<'a>(bytes: &'a [u8], each: impl FnMut(Result<Decoded<'a>, Malformed>)) {
    values_with_bytes(bytes, each, |_| {});
}

/// Like [`values`], but also calls `seen` with the bytes of each complete event, after the event.
pub(crate) fn values_with_bytes<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(Result<Decoded<'a>, Malformed>),
    mut seen: impl FnMut(&'a [u8]),
) {
    let mut at = skip_space(bytes, 0);
    while let Some(first) = bytes.get(at) {
        let rest = &bytes[at..];
        let used = match first {
            b'{' if is_list(rest) => list(rest, &mut each, &mut seen),
            b'[' => elements(rest, 0, &mut each, &mut seen),
            b'{' => {
                let end = decode_first(rest, usize::MAX, &mut each);
                end.inspect(|end| seen(&rest[..*end])).or_else(|| cut(&mut each))
            }
            _ => {
                each(Err(Malformed::Json("expected a JSON object here".into())));
                None
            }
        };
        let Some(used) = used else { return };
        at = skip_space(bytes, at + used);
    }
}

/// Returns the JSON after a node name prefix: one word and a space.
pub(crate) fn behind_node_name(line: &[u8]) -> Option<&[u8]> {
    let space = line.iter().take(NODE_NAME_MAX + 1).position(|b| *b == b' ')?;
    let is_name = line[..space].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
    let json = &line[skip_space(line, space)..];
    (space > 0 && is_name && matches!(json.first(), Some(b'{' | b'['))).then_some(json)
}

/// Detects lines like `2017-03-21T03:57:09.108841739-04:00 AUDIT: id="…" …`
fn is_legacy(line: &[u8]) -> bool {
    let head = &line[..line.len().min(100)];
    memchr::memmem::find(head, b" AUDIT: id=").is_some()
}

/// Returns whether the object at the start of `bytes` is an `EventList`: either its kind says so, or it has no kind and
/// has items.
pub(crate) fn is_list(bytes: &[u8]) -> bool {
    if bytes.starts_with(br#"{"kind":"Event","#) || bytes.starts_with(br#"{"level":"#) {
        return false;
    }
    match members(bytes).find(|(key, _)| *key == b"kind") {
        Some((_, kind)) => kind == br#""EventList""#,
        None => list_items(bytes).is_some(),
    }
}

/// Returns the position of the opening bracket of `items` in the list at the start of `bytes`, which may be incomplete.
pub(crate) fn list_items(bytes: &[u8]) -> Option<usize> {
    let mut at = skip_space(bytes, 1);
    loop {
        if bytes.get(at) != Some(&b'"') {
            return None;
        }
        let key_end = skip_string(bytes, at)?;
        let colon = skip_space(bytes, key_end);
        let value = skip_space(bytes, colon + 1);
        match bytes.get(colon..value)?.first() {
            Some(b':') if &bytes[at..key_end] == br#""items""# => {
                return (bytes.get(value) == Some(&b'[')).then_some(value);
            }
            Some(b':') => at = skip_space(bytes, skip_value(bytes, value)?),
            _ => return None,
        }
        if bytes.get(at) != Some(&b',') {
            return None;
        }
        at = skip_space(bytes, at + 1);
    }
}

/// Passes on the items of a list. Returns the position after the list, or `None` if it is incomplete.
fn list<'a>(
    bytes: &'a [u8],
    each: &mut impl FnMut(Result<Decoded<'a>, Malformed>),
    seen: &mut impl FnMut(&'a [u8]),
) -> Option<usize> {
    let Some(open) = list_items(bytes) else {
        let end = skip_value(bytes, 0);
        // An empty list may have null or no items.
        match end.map(|end| member(&bytes[..end], "items")) {
            Some(None | Some(b"null")) => {}
            Some(Some(_)) => each(Err(Malformed::Type("items"))),
            None => each(Err(Malformed::Truncated)),
        }
        return end;
    };
    let mut at = elements(bytes, open, each, seen)?;
    // The members after the items contain no events, so that only the end of the object matters.
    loop {
        at = skip_space(bytes, at);
        match bytes.get(at) {
            Some(b'}') => return Some(at + 1),
            Some(b',' | b':') => at += 1,
            Some(_) => match skip_value(bytes, at) {
                Some(end) => at = end,
                None => return cut(each),
            },
            None => return cut(each),
        }
    }
}

/// Passes on the elements of the array that opens at `open`. Returns the position after it.
fn elements<'a>(
    bytes: &'a [u8],
    open: usize,
    each: &mut impl FnMut(Result<Decoded<'a>, Malformed>),
    seen: &mut impl FnMut(&'a [u8]),
) -> Option<usize> {
    let mut at = skip_space(bytes, open + 1);
    if bytes.get(at) == Some(&b']') {
        return Some(at + 1);
    }
    loop {
        let Some(len) = decode_first(&bytes[at..], EVENT_BYTES_MAX, &mut *each) else { return cut(each) };
        seen(&bytes[at..at + len]);
        at = skip_space(bytes, at + len);
        match bytes.get(at) {
            Some(b',') => at = skip_space(bytes, at + 1),
            Some(b']') => return Some(at + 1),
            _ => return cut(each),
        }
    }
}

fn cut<'a>(each: &mut impl FnMut(Result<Decoded<'a>, Malformed>)) -> Option<usize> {
    each(Err(Malformed::Truncated));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str =
        r#"{"level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/","verb":"get","user":{}}"#;

    fn all(walk: impl FnOnce(&mut dyn FnMut(Result<Decoded<'_>, Malformed>))) -> String {
        let mut found = Vec::new();
        walk(&mut |event| found.push(event.map_or_else(|e| e.reason(), |_| "event")));
        found.join(" ")
    }

    fn of_line(text: &str) -> String {
        all(|each| line(text.as_bytes(), each))
    }

    fn of_body(text: &str) -> String {
        all(|each| values(text.as_bytes(), each))
    }

    #[test]
    fn bare_prefixed_and_list_lines_are_decoded() {
        assert_eq!(of_line(READ), "event");
        assert_eq!(of_line(&format!("{READ}\r")), "event");
        assert_eq!(of_line(&format!("master-0.example.com {READ}")), "event");
        assert_eq!(of_line(&format!("two words {READ}")), "not_json");
        assert_eq!(of_line(&format!(r#"{{"kind":"EventList","items":[{READ},{READ}]}}"#)), "event event");
        assert_eq!(of_line(&format!("[{READ}, {READ}]")), "event event");
        assert_eq!(of_line(""), "");
        assert_eq!(of_line("2017-03-21T03:57:09.10-04:00 AUDIT: id=\"c9\" stage=\"x\""), "legacy_format");
        assert_eq!(of_line("{}"), "not_an_event");
    }

    #[test]
    fn complete_events_of_a_broken_body_are_kept() {
        let list = |items: &str| {
            format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":{items}"#)
        };
        assert_eq!(of_body(&list("[]}\n")), "");
        assert_eq!(of_body(&list("null}")), "");
        assert_eq!(of_body(&list(&format!("[{READ},7,{READ}]}}"))), "event not_an_event event");
        assert_eq!(of_body(&list(&format!("[{READ},{{\"level\":\"Meta"))), "event truncated");
        assert_eq!(of_body(&list(&format!("[{READ}]"))), "event truncated");
        assert_eq!(of_body(&list("7}")), "wrong_type");
        assert_eq!(of_body(&format!("{READ}\n{READ}\n")), "event event");
        assert_eq!(of_body("hello"), "not_json");
        assert_eq!(of_body(""), "");
    }

    #[test]
    fn items_are_found_in_any_key_order() {
        let body = format!(r#"{{"items":[{READ}],"metadata":{{}},"kind":"EventList"}}"#);
        assert_eq!(of_body(&body), "event");
        assert_eq!(of_body(&format!(r#"{{ "metadata":{{}} , "items" : [ {READ} ] }}"#)), "event");
    }
}
