//! A JSON object whose members were found, but not parsed.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::reader::Reader;
use crate::audit::event::{Micros, parse_timestamp};
use crate::audit::json_scan::{BLOCK, LANE, line_breaks, members, plain_string, skip_space, special_bytes};

/// Maximum number of members of a wrapper. An object with more is not one.
const MEMBERS_MAX: usize = 1024;

/// The members of a JSON object: keys without quotes, and raw values.
pub(super) struct Object<'a> {
    members: SmallVec<[(&'a [u8], &'a [u8]); 24]>,
}

// === impl Object ===

impl<'a> Object<'a> {
    /// Returns the members of the object that `json` consists of, or `None` if it is not an object or is malformed.
    pub(super) fn of(json: &'a [u8]) -> Option<Object<'a>> {
        Object::first(json).map(|(object, _)| object)
    }

    /// Returns the object that `json` starts with, and the position after it. `None` if it does not end there or is
    /// malformed.
    pub(super) fn first(json: &'a [u8]) -> Option<(Object<'a>, usize)> {
        let mut found = members(json);
        let members: SmallVec<_> = found.by_ref().take(MEMBERS_MAX + 1).collect();
        let is_whole = found.is_done() && members.len() <= MEMBERS_MAX;
        is_whole.then_some((Object { members }, found.position()))
    }

    /// Returns the raw value of a member, unless it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a [u8]> {
        let found = self.members.iter().find(|(k, _)| *k == key.as_bytes());
        found.map(|(_, value)| *value).filter(|value| *value != b"null")
    }

    /// Returns whether there is a member, which may be null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.members.iter().any(|(k, _)| *k == key.as_bytes())
    }

    /// Returns the value of a member that is a string.
    pub(super) fn string(&self, key: &str) -> Option<String> {
        self.get(key).and_then(string)
    }

    /// Returns the value of a member that is a string, or an empty one. Only copied if there are escapes in it.
    pub(super) fn borrowed(&self, key: &str) -> Cow<'a, str> {
        self.get(key).and_then(borrowed).unwrap_or_default()
    }

    /// Returns the bytes of a member that is a string.
    pub(super) fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.get(key).and_then(unescaped)
    }

    /// Returns the value of a member that is a string, or an empty one.
    pub(super) fn text(&self, key: &str) -> String {
        self.string(key).unwrap_or_default()
    }

    /// Returns the value of a member that is an object.
    pub(super) fn object(&self, key: &str) -> Option<Object<'a>> {
        self.get(key).and_then(Object::of)
    }

    /// Returns the raw elements of a member that is an array.
    pub(super) fn array(&self, key: &str) -> Option<Vec<&'a [u8]>> {
        self.get(key).and_then(elements)
    }

    /// Returns whether a member is the string `text`, which needs no escapes.
    pub(super) fn is(&self, key: &str, text: &str) -> bool {
        self.get(key).is_some_and(|raw| {
            raw.len() == text.len() + 2 && raw.first() == Some(&b'"') && &raw[1..raw.len() - 1] == text.as_bytes()
        })
    }

    /// Returns all members.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.members.iter().copied()
    }
}

/// Returns the content of a raw JSON string, which is only copied if there are escapes in it.
pub(super) fn borrowed(raw: &[u8]) -> Option<Cow<'_, str>> {
    plain_string(raw).map(Cow::Borrowed).or_else(|| string(raw).map(Cow::Owned))
}

/// Returns the content of a raw JSON string.
pub(super) fn string(raw: &[u8]) -> Option<String> {
    String::from_utf8(unescaped(raw)?).ok()
}

/// Returns the bytes of a raw JSON string, which may be no valid UTF-8 if the input is none.
pub(super) fn unescaped(raw: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(raw.len() + LANE);
    push_string(raw, &mut text)?;
    Some(text)
}

/// Appends the bytes of a raw JSON string. If it is none, `None` is returned, and some may have been appended.
pub(super) fn push_string(raw: &[u8], text: &mut Vec<u8>) -> Option<()> {
    let mut rest = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    text.reserve(rest.len() + LANE);
    loop {
        let byte_of = |pair: [u8; 2]| if pair[0] == b'\\' { short_escape(pair[1]) } else { None };
        rest = push_unescaped(rest, text, special_bytes, byte_of);
        let end = rest.iter().position(|b| matches!(b, b'\\' | b'"' | 0..0x20)).unwrap_or(rest.len());
        text.extend_from_slice(&rest[..end]);
        rest = &rest[end..];
        match *rest {
            [] => return Some(()),
            [b'\\', b'u', ..] => {
                let (character, used) = escaped_character(rest)?;
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[used..];
            }
            [b'\\', escape, ..] => {
                text.push(short_escape(escape)?);
                rest = &rest[2..];
            }
            _ => return None,
        }
    }
}

/// Appends text with its escapes of two bytes replaced, block by block. Returns what is left: it is shorter than a block and
/// a lane, or starts with a special byte that begins no such escape, or one that ends in the next block. `special` returns
/// the mask of the special bytes of a block, and `byte_of` the byte that two bytes mean.
#[inline(always)]
pub(super) fn push_unescaped<'a>(
    mut rest: &'a [u8],
    text: &mut Vec<u8>,
    special: impl Fn(&[u8; BLOCK]) -> u64,
    byte_of: impl Fn([u8; 2]) -> Option<u8>,
) -> &'a [u8] {
    while let Some(window) = rest.first_chunk() {
        let used = unescape_block(window, text, &special, &byte_of);
        rest = &rest[used..];
        if used < BLOCK {
            break;
        }
    }
    rest
}

/// Unescapes a block, and returns the number of bytes up to an escape that is not a short one, or one that exceeds the
/// block. Text in text has an escape every few bytes, so that copying too much is faster than copying exactly.
#[inline(always)]
fn unescape_block(
    window: &[u8; BLOCK + LANE],
    text: &mut Vec<u8>,
    special: impl Fn(&[u8; BLOCK]) -> u64,
    byte_of: impl Fn([u8; 2]) -> Option<u8>,
) -> usize {
    let mut special = special(window.first_chunk().expect("a window is longer than a block"));
    let mut at = 0;
    loop {
        let end = special.trailing_zeros() as usize;
        let len = text.len() + end - at;
        while at < end {
            text.extend_from_slice(&window[at..at + LANE]);
            at += LANE;
        }
        text.truncate(len);
        at = end + 2;
        if at > BLOCK {
            return end;
        }
        let Some(byte) = byte_of([window[end], window[end + 1]]) else { return end };
        text.push(byte);
        special &= !(3 << end);
    }
}

/// Returns the byte that an escape of two bytes means.
fn short_escape(escape: u8) -> Option<u8> {
    match escape {
        b'"' | b'\\' | b'/' => Some(escape),
        b'n' => Some(b'\n'),
        b't' => Some(b'\t'),
        b'r' => Some(b'\r'),
        b'b' => Some(8),
        b'f' => Some(12),
        _ => None,
    }
}

/// Decodes an escape such as `\u00e9`, or two of a character beyond U+FFFF. Returns it with its length.
fn escaped_character(text: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    };
    let first = unit(0)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 6));
    }
    let pair = [first as u16, unit(6)? as u16];
    char::decode_utf16(pair).next()?.ok().map(|character| (character, 12))
}

/// Returns a JSON object with these members, which are keys without quotes and raw values.
pub(super) fn object_of<'m>(members: impl IntoIterator<Item = (&'m [u8], &'m [u8])>) -> Vec<u8> {
    let mut object = b"{".to_vec();
    for (key, value) in members {
        object.extend_from_slice(if object.len() > 1 { b",\"" } else { b"\"" });
        object.extend_from_slice(key);
        object.extend_from_slice(b"\":");
        object.extend_from_slice(value);
    }
    object.push(b'}');
    object
}

/// Returns JSON without line breaks.
pub(super) fn one_line(json: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\n', json).is_none() {
        return Cow::Borrowed(json);
    }
    let mut line = Vec::with_capacity(json.len());
    push_one_line(json, &mut line);
    Cow::Owned(line)
}

/// Appends JSON without line breaks: each, with the indentation behind it, becomes a space. A line break in a string is not
/// valid JSON, and must not start a new line either.
pub(super) fn push_one_line(json: &[u8], line: &mut Vec<u8>) {
    line.reserve(json.len() + BLOCK);
    let mut rest = json;
    while let Some(window) = rest.first_chunk::<{ BLOCK + LANE }>() {
        let end = (line_breaks(window).trailing_zeros() as usize).min(BLOCK);
        // Most lines are short, so that copying too much is faster than copying exactly.
        let len = line.len() + end;
        for at in (0..end).step_by(LANE) {
            line.extend_from_slice(&window[at..at + LANE]);
        }
        line.truncate(len);
        rest = &rest[end..];
        if end < BLOCK {
            line.push(b' ');
            rest = &rest[skip_space(rest, 0)..];
        }
    }
    while let Some(end) = memchr::memchr(b'\n', rest) {
        line.extend_from_slice(&rest[..end]);
        line.push(b' ');
        rest = &rest[skip_space(rest, end)..];
    }
    line.extend_from_slice(rest);
}

/// Returns the raw elements of a JSON array.
pub(super) fn elements(json: &[u8]) -> Option<Vec<&[u8]>> {
    Reader::new(json).elements()
}

/// Parses a time as wrappers have it: a string or a number, as [`time_of_text`] reads it.
pub(super) fn time(raw: &[u8]) -> Option<Micros> {
    match raw.first()? {
        b'"' => time_of_text(&borrowed(raw)?),
        _ => time_of_text(std::str::from_utf8(raw).ok()?),
    }
}

/// Parses a time: RFC 3339, or a number of seconds, milliseconds, microseconds or nanoseconds since 1970. The unit follows
/// from its size.
pub(super) fn time_of_text(text: &str) -> Option<Micros> {
    let text = text.trim();
    if let Some(at) = parse_timestamp(text).or_else(|| parse_timestamp(&text.replacen(' ', "T", 1))) {
        return Some(at);
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(match whole.unsigned_abs() {
            0..100_000_000_000 => whole * 1_000_000,
            100_000_000_000..100_000_000_000_000 => whole * 1000,
            100_000_000_000_000..100_000_000_000_000_000 => whole,
            _ => whole / 1000,
        });
    }
    let seconds = text.parse::<f64>().ok().filter(|n| n.is_finite() && n.abs() < 1e11)?;
    Some((seconds * 1e6) as Micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_unit() {
        let at = Some(1_628_674_153_095_000);
        for text in [
            r#""2021-08-11T09:29:13.095Z""#,
            r#""2021-08-11T11:29:13.095+02:00""#,
            r#""2021-08-11 09:29:13.095Z""#,
            "1628674153095",
            r#""1628674153095""#,
            "1628674153095000",
            r#""1628674153095000000""#,
            "1628674153.095",
        ] {
            assert_eq!(time(text.as_bytes()), at, "{text}");
        }
        assert_eq!(time(b"1628674153"), Some(1_628_674_153_000_000));
        for text in ["null", "\"\"", "[1]", "\"yesterday\"", "1e400"] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn strings_are_unescaped_as_by_serde(text in "(\\\\[\"\\\\/bfnrtux]|\\\\u[0-9a-fA-F]{4}|\\\\ud8[0-9a-f]{2}\\\\ude[0-9a-f]{2}|[a-z{}é\"]|.{17}|\n){0,40}") {
            let raw = format!("\"{text}\"");
            proptest::prop_assert_eq!(string(raw.as_bytes()), serde_json::from_str::<String>(&raw).ok(), "{}", raw);
            let raw = serde_json::to_string(&raw).unwrap();
            proptest::prop_assert_eq!(string(raw.as_bytes()), serde_json::from_str::<String>(&raw).ok(), "{}", raw);
        }
    }

    proptest::proptest! {
        #[test]
        fn one_line_has_a_space_for_each_line_break_and_its_indentation(text in "([a-z\"]{0,70}|\n *|[ \r\t]{0,3}|\n\n){0,40}") {
            let mut parts = text.split('\n').map(str::to_owned).collect::<Vec<_>>();
            // A line break is white space itself, so that those that follow each other become one space.
            let mut expected = parts.remove(0);
            let mut is_after_break = false;
            for (index, part) in parts.iter().enumerate() {
                if !is_after_break {
                    expected.push(' ');
                }
                let trimmed = part.trim_start_matches([' ', '\r', '\t']);
                is_after_break = trimmed.is_empty() && index + 1 < parts.len();
                expected.push_str(trimmed);
            }
            let mut line = Vec::new();
            push_one_line(text.as_bytes(), &mut line);
            proptest::prop_assert_eq!(String::from_utf8(line).unwrap(), expected, "{:?}", text);
        }
    }

    #[test]
    fn members_and_elements_are_found_without_parsing_them() {
        let object = Object::of(br#"{"a":"x\ty", "b" : [1, {"c":[2]}, "]"], "d":null, "e":{"f":"g"}}"#).unwrap();
        assert_eq!(object.string("a").as_deref(), Some("x\ty"));
        let raw: Vec<_> = object.array("b").unwrap();
        assert_eq!(raw, [&b"1"[..], br#"{"c":[2]}"#, br#""]""#]);
        assert!(object.has("d") && object.get("d").is_none() && !object.has("f"));
        assert!(object.object("e").unwrap().is("f", "g"));
        assert_eq!(elements(b"[]").map(|e| e.len()), Some(0));
        assert!(elements(b"[1,").is_none() && elements(b"[1 2]").is_none() && Object::of(b"[1]").is_none());
    }
}
