//! Finds the end of a JSON value without parsing it. The scan handles strings, is iterative, and stays within the
//! slice.
//!
//! It only checks strings and brackets. A value that was found this way must be parsed before its content is trusted.

mod block;

pub(super) use self::block::{BLOCK, LANE, end_of_row, line_breaks, quotes, special_bytes};

use memchr::memchr2;

/// Returns the first position at or after `at` that is not JSON white space.
pub fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Returns the position after the string whose opening quote is at `at`, or `None` if the string does not end.
pub fn skip_string(bytes: &[u8], at: usize) -> Option<usize> {
    debug_assert_eq!(bytes.get(at), Some(&b'"'));
    /// A string with more escapes is text in text, with one every few bytes.
    const ESCAPES_FEW: usize = 8;
    let mut at = at + 1;
    for _ in 0..=ESCAPES_FEW {
        let found = at + quote_or_backslash(bytes.get(at..)?)?;
        if bytes[found] == b'"' {
            return Some(found + 1);
        }
        at = found + 2;
    }
    block::end_of_string(bytes, at)
}

/// Returns the position of the first quote or backslash. Checks a few blocks inline first, since most strings are short
/// and a function call for each would be slower.
#[inline(always)]
pub(super) fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const LOOKS: usize = 3;
    let (blocks, _) = bytes.as_chunks();
    let mut looked_at = 0;
    for block in blocks.iter().take(LOOKS) {
        if let Some(found) = block::quote_or_backslash(block) {
            return Some(looked_at + found);
        }
        looked_at += block.len();
    }
    Some(looked_at + memchr2(b'"', b'\\', &bytes[looked_at..])?)
}

/// Returns the position after the value that starts at `at` (without leading space), or `None` if it does not end in
/// `bytes`.
///
/// Numbers and literals end at the first byte that cannot belong to one.
pub fn skip_value(bytes: &[u8], at: usize) -> Option<usize> {
    match *bytes.get(at)? {
        b'"' => skip_string(bytes, at),
        b'{' | b'[' => skip_open(bytes, at + 1),
        b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
            let rest = &bytes[at..];
            let is_scalar = |b: &u8| matches!(b, b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z');
            let len = rest.iter().position(|b| !is_scalar(b))?;
            Some(at + len)
        }
        _ => None,
    }
}

/// Returns the position after the bracket that closes the object or array that is open at `at`, or `None` if that
/// bracket is not in `bytes`. `at` must be outside of strings.
///
/// Brackets are counted, but not matched by kind: `{]` passes, and fails when it is parsed.
pub fn skip_open(bytes: &[u8], at: usize) -> Option<usize> {
    block::close(bytes, at, 1)
}

/// Returns the maximum nesting depth of objects and arrays, without recursion.
pub fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut at) = (0usize, 0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => match skip_string(bytes, at) {
                Some(end) => {
                    at = end;
                    continue;
                }
                None => break,
            },
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// An iterator over the members of a JSON object: keys without quotes, and raw values.
///
/// If the object is malformed, the iterator ends early without an error; see [`Members::is_broken`].
pub struct Members<'a> {
    bytes: &'a [u8],
    at: usize,
    state: MembersState,
}

#[derive(Clone, Copy, PartialEq)]
enum MembersState {
    First,
    Rest,
    Done,
    Broken,
}

/// Returns an iterator over the members of the object at the start of `bytes`.
pub fn members(bytes: &[u8]) -> Members<'_> {
    let at = skip_space(bytes, 0);
    let state = if bytes.get(at) == Some(&b'{') { MembersState::First } else { MembersState::Broken };
    Members { bytes, at: at + 1, state }
}

// === impl Members ===

impl Members<'_> {
    /// Returns whether the iterator stopped at something other than the closing bracket.
    pub fn is_broken(&self) -> bool {
        self.state == MembersState::Broken
    }

    /// Returns whether the closing bracket was reached.
    pub fn is_done(&self) -> bool {
        self.state == MembersState::Done
    }

    /// Returns the current position. Once the iterator is done, this is after the closing bracket.
    pub fn position(&self) -> usize {
        self.at
    }
}

impl<'a> Members<'a> {
    fn step(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let bytes = self.bytes;
        let mut at = skip_space(bytes, self.at);
        match (*bytes.get(at)?, self.state) {
            (b'}', _) => {
                self.state = MembersState::Done;
                self.at = at + 1;
                return None;
            }
            (b',', MembersState::Rest) => at = skip_space(bytes, at + 1),
            (_, MembersState::First) => {}
            _ => return None,
        }
        if bytes.get(at) != Some(&b'"') {
            return None;
        }
        let key_end = skip_string(bytes, at)?;
        let key = &bytes[at + 1..key_end - 1];
        at = skip_space(bytes, key_end);
        if bytes.get(at) != Some(&b':') {
            return None;
        }
        at = skip_space(bytes, at + 1);
        let end = skip_value(bytes, at)?;
        self.at = end;
        self.state = MembersState::Rest;
        Some((key, &bytes[at..end]))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.state, MembersState::Done | MembersState::Broken) {
            return None;
        }
        let found = self.step();
        if found.is_none() && self.state != MembersState::Done {
            self.state = MembersState::Broken;
        }
        found
    }
}

/// Returns the raw value of the first member named `key` of the object at the start of `bytes`.
pub fn member<'a>(bytes: &'a [u8], key: &str) -> Option<&'a [u8]> {
    members(bytes).find(|(k, _)| *k == key.as_bytes()).map(|(_, value)| value)
}

/// Returns the content of a raw string value without escapes, as names, uids and versions are.
pub fn plain_string(raw: &[u8]) -> Option<&str> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    (!inner.contains(&b'\\')).then(|| std::str::from_utf8(inner).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skip_value_finds_the_end_of_a_value() {
        for (text, rest) in [
            (r#"{"a":"}\"]"} x"#, " x"),
            (r#"[1,[2,{"b":"["}]],3"#, ",3"),
            (r#""a\\",1"#, ",1"),
            ("-1.5e+3}", "}"),
            ("true,", ","),
        ] {
            assert_eq!(skip_value(text.as_bytes(), 0).map(|end| &text[end..]), Some(rest), "{text}");
        }
        for text in [r#"{"a":1"#, r#""abc"#, r#""abc\""#, "[", "", "}", "12"] {
            assert_eq!(skip_value(text.as_bytes(), 0), None, "{text}");
        }
    }

    #[test]
    fn members_yields_keys_and_detects_broken_objects() {
        let walk = |text: &'static str| {
            let mut all = members(text.as_bytes());
            let keys: Vec<_> = all.by_ref().map(|(k, _)| String::from_utf8_lossy(k).into_owned()).collect();
            (keys.join(","), all.is_broken())
        };
        assert_eq!(walk(r#"{"a":1, "b" : {"c":[]} }"#), ("a,b".into(), false));
        assert_eq!(walk("{}"), (String::new(), false));
        assert_eq!(walk(r#"{"a":1,"b"#), ("a".into(), true));
        assert_eq!(walk(r#"{"a":1 "b":2}"#), ("a".into(), true));
        assert_eq!(walk("[]"), (String::new(), true));
    }
}
