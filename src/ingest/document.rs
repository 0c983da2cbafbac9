//! Reads JSON that does not have one value per line: pretty-printed events, `EventList`s and arrays. Items are decoded
//! one by one, in bounded memory.

use std::io::{self, Read};

use crate::audit::decode::{Decoded, Malformed, decode};
use crate::audit::envelope::{self, EVENT_BYTES_MAX};

/// Number of bytes that are read at a time. Fuzzed streams are small.
const READ_BYTES: usize = if cfg!(fuzzing) { 1 << 8 } else { 256 << 10 };

/// Finds the end of an object or array that arrives in pieces.
#[derive(Default)]
struct Brackets {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

/// A stream, and the part of it that was read but not yet consumed.
struct Window<R> {
    inner: R,
    buffer: Vec<u8>,
    at: usize,
}

/// Calls `each` for every event of a stream of JSON values, with the bytes it was decoded from. `head` is the part of
/// the stream that was read already.
///
/// # Errors
/// Errors of reading.
pub fn read(
    head: Vec<u8>,
    inner: impl Read,
    mut each: impl FnMut(Result<Decoded<'_>, Malformed>, &[u8]),
) -> io::Result<()> {
    let mut window = Window { inner, buffer: head, at: 0 };
    while let Some(first) = window.next_byte()? {
        match first {
            b'[' => {
                window.at += 1;
                window.items(&mut each)?;
            }
            b'{' if window.is_list()? => {
                window.items(&mut each)?;
                window.rest_of_list()?;
            }
            b'{' => match window.value()? {
                Ok(value) => envelope::values(&value, |event| each(event, &value)),
                Err(why) => each(Err(why), b""),
            },
            _ => {
                each(Err(Malformed::Json("expected a JSON object".into())), b"");
                return Ok(());
            }
        }
    }
    Ok(())
}

// === impl Brackets ===

impl Brackets {
    /// Returns whether the position is neither in an object or array nor in a string.
    fn is_outside(&self) -> bool {
        self.depth == 0 && !self.in_string
    }

    /// Consumes more bytes. Returns the position after the closing bracket, once it is reached.
    fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

// === impl Window ===

impl<R: Read> Window<R> {
    /// Reads more data. Returns `false` at the end of the stream.
    fn more(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let len = self.buffer.len();
        self.buffer.resize(len + READ_BYTES, 0);
        let n = loop {
            match self.inner.read(&mut self.buffer[len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.buffer.truncate(len + n);
        Ok(n > 0)
    }

    /// Returns the next byte that is not white space, without consuming it.
    fn next_byte(&mut self) -> io::Result<Option<u8>> {
        loop {
            let rest = &self.buffer[self.at..];
            match rest.iter().position(|b| !b.is_ascii_whitespace()) {
                Some(n) => {
                    self.at += n;
                    return Ok(Some(self.buffer[self.at]));
                }
                None => {
                    self.at = self.buffer.len();
                    if !self.more()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Consumes the object that starts here. An object that is too long is skipped.
    fn value(&mut self) -> io::Result<Result<Vec<u8>, Malformed>> {
        let mut brackets = Brackets::default();
        let mut seen = 0;
        let mut is_too_long = false;
        loop {
            if let Some(n) = brackets.feed(&self.buffer[self.at + seen..]) {
                let end = self.at + seen + n;
                is_too_long |= seen + n > EVENT_BYTES_MAX;
                let value = (!is_too_long).then(|| self.buffer[self.at..end].to_vec());
                self.at = end;
                return Ok(value.ok_or(Malformed::TooLong(EVENT_BYTES_MAX)));
            }
            seen = self.buffer.len() - self.at;
            if seen > EVENT_BYTES_MAX {
                is_too_long = true;
                self.at = self.buffer.len();
                seen = 0;
            }
            if !self.more()? {
                self.at = self.buffer.len();
                return Ok(Err(Malformed::Truncated));
            }
        }
    }

    /// Returns whether the object that starts here is a list. If so, consumes it up to its first item.
    fn is_list(&mut self) -> io::Result<bool> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(open) = envelope::list_items(rest) {
                // Of the members, only those before the items are read yet.
                let is_list = envelope::is_list(&rest[..=open]);
                self.at += if is_list { open + 1 } else { 0 };
                return Ok(is_list);
            }
            let is_whole = crate::audit::scan::skip_value(rest, 0).is_some();
            if is_whole || rest.len() > EVENT_BYTES_MAX || !self.more()? {
                return Ok(false);
            }
        }
    }

    /// Passes on the items of an open array.
    fn items(&mut self, each: &mut impl FnMut(Result<Decoded<'_>, Malformed>, &[u8])) -> io::Result<()> {
        loop {
            match self.next_byte()? {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'{') => match self.value()? {
                    Ok(value) => each(decode(&value), &value),
                    Err(Malformed::Truncated) => {
                        each(Err(Malformed::Truncated), b"");
                        return Ok(());
                    }
                    Err(why) => each(Err(why), b""),
                },
                Some(_) => {
                    each(Err(Malformed::NotAnEvent("object")), b"");
                    self.skip_element()?;
                }
                None => {
                    each(Err(Malformed::Truncated), b"");
                    return Ok(());
                }
            }
        }
    }

    /// Skips the element of an array that starts here, up to the comma or the bracket after it.
    fn skip_element(&mut self) -> io::Result<()> {
        let mut brackets = Brackets::default();
        loop {
            while let Some(byte) = self.buffer.get(self.at) {
                if brackets.is_outside() && matches!(byte, b',' | b']') {
                    return Ok(());
                }
                brackets.feed(&[*byte]);
                self.at += 1;
            }
            if !self.more()? {
                return Ok(());
            }
        }
    }

    /// Skips the members of a list after its items.
    fn rest_of_list(&mut self) -> io::Result<()> {
        let mut brackets = Brackets { depth: 1, ..Brackets::default() };
        loop {
            if let Some(n) = brackets.feed(&self.buffer[self.at..]) {
                self.at += n;
                return Ok(());
            }
            self.at = self.buffer.len();
            if !self.more()? {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str =
        r#"{"level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/","verb":"get","user":{}}"#;

    /// A stream that gives one byte at a time.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(1).min(buf.len());
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn found(text: &str) -> String {
        let all = |reader: &mut dyn Read| {
            let mut found = Vec::new();
            read(Vec::new(), reader, |event, _| found.push(event.map_or_else(|e| e.reason(), |_| "event"))).unwrap();
            found.join(" ")
        };
        let at_once = all(&mut text.as_bytes());
        assert_eq!(at_once, all(&mut Trickle(text.as_bytes())), "{text}");
        at_once
    }

    fn pretty(text: &str) -> String {
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(text).unwrap()).unwrap()
    }

    #[test]
    fn events_are_found_however_they_are_laid_out() {
        let list = format!(r#"{{"kind":"EventList","metadata":{{}},"items":[{READ},{READ}]}}"#);
        assert_eq!(found(&pretty(&list)), "event event");
        assert_eq!(found(&format!("{}\n{}", pretty(READ), pretty(READ))), "event event");
        assert_eq!(found(&pretty(&format!("[{READ}]"))), "event");
        assert_eq!(found(&format!("{}\n{}", pretty(&list), pretty(&list))), "event event event event");
        assert_eq!(found(""), "");
    }

    #[test]
    fn what_is_broken_loses_nothing_else() {
        assert_eq!(found(&format!(r#"{{"items": [ 7, {READ}, "x" ] }}"#)), "not_an_event event not_an_event");
        assert_eq!(found(&format!("[{READ},\n{{\"level\":")), "event truncated");
        assert_eq!(found("hello"), "not_json");
        assert_eq!(found("{\n"), "truncated");
    }

    #[test]
    fn an_element_that_is_no_object_is_one_malformed_event_whatever_it_contains() {
        for element in [format!("[{READ}]"), format!("[[],[{READ},1]]"), r#""a,b]{"""#.into(), "null".into()] {
            assert_eq!(
                found(&format!("[{element},{READ}, {element} ]")),
                "not_an_event event not_an_event",
                "{element}"
            );
        }
    }

    #[test]
    fn an_object_of_another_kind_is_no_list_though_it_has_items() {
        assert_eq!(found(&format!(r#"{{"kind":"PodList","items":[{READ}]}}"#)), "not_an_event");
        assert_eq!(found(&READ.replace("{}}", r#"{},"items":[{}]}"#)), "event");
        assert_eq!(found(&format!(r#"{{"metadata":{{}},"items":[{READ}]}}"#)), "event");
    }

    #[test]
    fn an_event_beyond_all_bounds_is_left_out() {
        let huge = format!(r#"{{"a":"{}"}}"#, "x".repeat(EVENT_BYTES_MAX + 1));
        let text = format!("[{READ},{huge},{READ}]");
        let mut reasons = Vec::new();
        read(Vec::new(), text.as_bytes(), |e, _| reasons.push(e.map_or_else(|e| e.reason(), |_| "event"))).unwrap();
        assert_eq!(reasons, ["event", "too_long", "event"]);
    }
}
