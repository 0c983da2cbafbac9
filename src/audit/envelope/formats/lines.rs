//! Lines of text with JSON in them: the lines of container runtimes, and JSON behind a time, a name or a syslog header.

use crate::audit::envelope::object::time;
use crate::audit::event::Micros;
use crate::audit::json_scan::skip_value;

/// Maximum length of what is before the JSON of a line.
const PREFIX_MAX: usize = 512;

/// What a line of text contains.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::audit::envelope) struct Text<'a> {
    /// The format, for messages.
    pub name: &'static str,
    /// The JSON, or a part of it.
    pub content: &'a [u8],
    /// The time before it.
    pub at: Option<Micros>,
    /// The stream that it is a part of, of those that a container has.
    pub stream: &'a [u8],
    /// Whether it is all of an entry's JSON, or the last part. `None` if that is not known.
    pub is_last: Option<bool>,
}

/// Returns what is in a line that does not start with JSON. `None` if there is no JSON.
pub(in crate::audit::envelope) fn text(line: &[u8]) -> Option<Text<'_>> {
    cri(line).or_else(|| prefixed(line))
}

/// Reads a line as containerd and CRI-O write it: `TIME stdout F CONTENT`. Long lines are split, with `P` for all parts
/// but the last.
fn cri(line: &[u8]) -> Option<Text<'_>> {
    let (at, rest) = word(line)?;
    let (stream, rest) = word(rest)?;
    let (tags, content) = word(rest)?;
    let is_last = match tags.split(|b| *b == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let at = text_time(at)?;
    let is_stream = matches!(stream, b"stdout" | b"stderr");
    is_stream.then_some(Text { name: "CRI", content, at: Some(at), stream, is_last: Some(is_last) })
}

/// Reads a line with one JSON object, or the beginning of one, behind some words.
fn prefixed(line: &[u8]) -> Option<Text<'_>> {
    let open = line.iter().take(PREFIX_MAX).position(|b| *b == b'{').filter(|open| *open > 0)?;
    let content = &line[open..];
    // A brace in other text is not followed by a key.
    let is_object = content.starts_with(b"{\"") && matches!(line[open - 1], b' ' | b'\t' | b':');
    let ends_well = match skip_value(content, 0) {
        Some(end) => content[end..].trim_ascii().is_empty(),
        None => content.starts_with(b"{\"kind\":\"Event\""),
    };
    if !is_object || !ends_well {
        return None;
    }
    let at = word(line).and_then(|(first, _)| text_time(first));
    Some(Text { name: "prefixed lines", content, at, stream: b"", is_last: None })
}

/// Splits off the first word.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = text.iter().take(PREFIX_MAX).position(|b| *b == b' ')?;
    (space > 0).then_some((&text[..space], &text[space + 1..]))
}

fn text_time(word: &[u8]) -> Option<Micros> {
    // A number alone may be anything.
    let is_date = word.len() >= "2026-11-23T00:00:00".len() && word.get(4) == Some(&b'-');
    is_date.then(|| time(format!("\"{}\"", std::str::from_utf8(word).ok()?.escape_default()).as_bytes())).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Option<Micros> = Some(1_628_674_153_095_000);

    #[test]
    fn json_is_found_behind_what_tools_print_before_it() {
        for (line, at) in [
            (r#"2021-08-11T09:29:13.095Z {"a":1}"#, AT),
            (r#"2021-08-11T09:29:13.095000+00:00 kube-apiserver-audit-71ab {"a":1}"#, AT),
            (r#"master-0.example.com {"a":1}"#, None),
            (r#"<13>1 2021-08-11T09:29:13.095Z host audit - - - {"a":1}"#, None),
            (r#"Aug 11 09:29:13 host audit[7]: {"a":1}"#, None),
        ] {
            let found = text(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((found.content, found.at), (&br#"{"a":1}"#[..], at), "{line}");
        }
        for line in
            ["", "hello", "I1129 06:00:00.1 1 a.go:12] got {x} of {y}", r#"x{"a":1}"#, r#"a {"a":1} b"#, "{\"a\":1}"]
        {
            assert_eq!(text(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn parts_of_a_line_of_a_container_are_told_apart() {
        let part = |line: &'static str| text(line.as_bytes()).map(|t| (t.content, t.stream, t.is_last));
        assert_eq!(
            part("2021-08-11T09:29:13.095000000Z stdout P {\"a\":"),
            Some((&b"{\"a\":"[..], &b"stdout"[..], Some(false)))
        );
        assert_eq!(part("2021-08-11T09:29:13.095000000Z stderr F 1}"), Some((&b"1}"[..], &b"stderr"[..], Some(true))));
        assert_eq!(part("2021-08-11T09:29:13.095000000Z stdin F 1}"), None);
    }
}
