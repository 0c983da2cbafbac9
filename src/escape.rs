//! Escapes characters that would control a terminal or misrepresent the text around them. All output goes through here.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character controls a terminal, is invisible, or changes the order or the lines of the text around it:
/// control characters (C0, DEL, C1), direction marks, zero-width characters, line and paragraph separators, fillers,
/// variation selectors, and tags.
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Escapes every harmful character as `\u{…}`.
pub fn text(text: &str) -> Cow<'_, str> {
    replaced(text, is_harmful, |c, out| out.extend(c.escape_unicode()))
}

/// Escapes every harmful character of a JSON document, or a line of it, as `\u….`, which does not change its meaning.
/// Line breaks and tabs stay: JSON has no other control characters outside of strings, and serde escapes those inside.
pub fn json(document: &str) -> Cow<'_, str> {
    replaced(document, |c| is_harmful(c) && !matches!(c, '\n' | '\r' | '\t'), escape_json)
}

/// Like [`json`], for a JSON document that is read as YAML, which does not support surrogate pairs.
pub fn yaml(document: &str) -> Cow<'_, str> {
    replaced(
        document,
        |c| is_harmful(c) && !matches!(c, '\n' | '\r' | '\t'),
        |c, out| {
            let _ = write!(out, "\\U{:08x}", u32::from(c));
        },
    )
}

/// Escapes every harmful character in the label values of Prometheus text as `\u{…}`, with the backslash escaped as the
/// format requires.
pub fn metrics(text: &str) -> Cow<'_, str> {
    replaced(
        text,
        |c| is_harmful(c) && c != '\n',
        |c, out| {
            out.push('\\');
            out.extend(c.escape_unicode());
        },
    )
}

/// Escapes every harmful character of a line for a terminal as `\u{…}`, except the escape character of colours.
pub fn coloured(line: &str) -> Cow<'_, str> {
    replaced(line, |c| is_harmful(c) && !matches!(c, '\n' | '\t' | '\u{1b}'), |c, out| out.extend(c.escape_unicode()))
}

fn escape_json(c: char, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        let _ = write!(out, "\\u{unit:04x}");
    }
}

/// Returns the position of the first character that is replaced. Printable ASCII characters, which most are, never are.
fn first(text: &str, is_replaced: impl Fn(char) -> bool) -> Option<usize> {
    let mut at = 0;
    loop {
        at += text.as_bytes()[at..].iter().position(|byte| !matches!(byte, b' '..=b'~'))?;
        let c = text[at..].chars().next()?;
        if is_replaced(c) {
            return Some(at);
        }
        at += c.len_utf8();
    }
}

fn replaced(text: &str, is_replaced: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let Some(first) = first(text, &is_replaced) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        if is_replaced(c) { escape(c, &mut out) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARMFUL: &str = "\u{0}\u{1b}\u{7f}\u{80}\u{9b}\u{9f}\u{ad}\u{61c}\u{200b}\u{200d}\u{200f}\u{2028}\u{2029}\u{202e}\u{2060}\u{2066}\
        \u{2069}\u{feff}\u{fe0f}\u{e0001}\u{e0041}\u{e007f}";

    #[test]
    fn harmful_characters_are_escaped() {
        assert_eq!(text("a\u{1b}[2Jb\n\u{202e}c\u{9b}"), "a\\u{1b}[2Jb\\u{a}\\u{202e}c\\u{9b}");
        assert_eq!(text("größe ⇄ 5 · 日本語 🦀"), "größe ⇄ 5 · 日本語 🦀");
        assert!(!text(HARMFUL).contains(is_harmful) && HARMFUL.chars().all(is_harmful));
        assert_eq!(coloured("\u{1b}[1mx\u{1b}[0m\u{9b}\u{e0041}\n"), "\u{1b}[1mx\u{1b}[0m\\u{9b}\\u{e0041}\n");
    }

    #[test]
    fn escaped_json_keeps_its_meaning() {
        let value = serde_json::json!({ HARMFUL: [HARMFUL, "größe", "\\u{9b}", "\\"] });
        for written in [serde_json::to_string(&value), serde_json::to_string_pretty(&value)] {
            let written = written.unwrap();
            let escaped = json(&written);
            assert!(!escaped.replace('\n', "").contains(is_harmful), "{escaped}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        }
        assert!(matches!(json("{\"a\": \"é\"}\n"), Cow::Borrowed(_)));
    }
}
