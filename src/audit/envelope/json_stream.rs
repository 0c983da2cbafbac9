//! JSON that does not have one value per line: pretty-printed events, and `EventList`s and arrays of any length. The
//! events are converted one by one, in constant memory.

use super::native::{EVENT_BYTES_MAX, is_list, list_items};
use super::{Envelope, Format, HEAD_BYTES};
use crate::audit::json_scan::skip_value;

/// The entry in the list of formats.
pub(super) const FORMAT: Format =
    Format { name: "JSON", recognizes, open: || Box::new(JsonStream { state: State::Values }) };

/// Lines that stand for malformed parts of the stream. Decoding them results in the reason.
const NOT_JSON: &[u8] = b"?\n";
const NOT_AN_EVENT: &[u8] = b"{}\n";
const TRUNCATED: &[u8] = b"{\n";

/// Maximum length of the first line of a pretty-printed document: one bracket, or a bracket and some members.
const FIRST_LINE_MAX: usize = 4096;

struct JsonStream {
    state: State,
}

/// The part of the stream that comes next.
#[derive(Clone, Copy)]
enum State {
    /// Values outside of lists and arrays.
    Values,
    /// Items of a list or an array.
    Items(Container),
    /// The rest of an item that is not an object, which is skipped.
    Other(Container, Nesting),
    /// The rest of an event, which is copied without white space.
    Event(Container, Nesting),
    /// The members of a list after its items.
    ListEnd(Nesting),
    /// Nothing: the stream is not JSON.
    Broken,
}

/// What an event is part of.
#[derive(Clone, Copy)]
enum Container {
    None,
    List,
    Array,
}

/// Finds the end of an object or array.
#[derive(Clone, Copy, Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

/// Returns whether a stream that starts with `head` has a value that does not end on its first line, or a long list.
fn recognizes(head: &[u8]) -> bool {
    let start = head.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(head.len());
    let head = &head[start..];
    if !matches!(head.first(), Some(b'{' | b'[')) {
        return false;
    }
    match memchr::memchr(b'\n', head) {
        Some(end) => {
            end < FIRST_LINE_MAX
                && skip_value(&head[..end], 0).is_none()
                && !head[..end].starts_with(br#"{"kind":"Event","#)
        }
        None => head.len() >= HEAD_BYTES && (head[0] == b'[' || is_list(head)),
    }
}

// === impl JsonStream ===

impl Envelope for JsonStream {
    fn convert(&mut self, input: &[u8], is_end: bool, lines: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while at < input.len() {
            let Some(used) = self.step(&input[at..], is_end, lines) else { return at };
            at += used;
        }
        if is_end {
            match self.state {
                State::Event(..) => lines.push(b'\n'),
                State::Items(_) | State::Other(..) => lines.extend_from_slice(TRUNCATED),
                State::Values | State::ListEnd(_) | State::Broken => {}
            }
        }
        at
    }
}

impl JsonStream {
    /// Consumes the next part of the input. Returns `None` if more input is needed.
    fn step(&mut self, input: &[u8], is_end: bool, lines: &mut Vec<u8>) -> Option<usize> {
        let first = input[0];
        match &mut self.state {
            State::Values | State::Items(_) if first.is_ascii_whitespace() => return Some(1),
            State::Values => return self.value(input, is_end, lines),
            State::Items(container) => {
                let container = *container;
                match first {
                    b',' => {}
                    b']' => {
                        self.state = match container {
                            Container::List => State::ListEnd(Nesting { depth: 1, ..Nesting::default() }),
                            Container::Array | Container::None => State::Values,
                        }
                    }
                    b'{' => {
                        self.state = State::Event(container, Nesting::default());
                        return Some(0);
                    }
                    _ => {
                        lines.extend_from_slice(NOT_AN_EVENT);
                        self.state = State::Other(container, Nesting::default());
                        return Some(0);
                    }
                }
                return Some(1);
            }
            State::Other(container, nesting) => {
                let container = *container;
                for (at, byte) in input.iter().enumerate() {
                    if nesting.is_outside() && matches!(byte, b',' | b']') {
                        self.state = State::Items(container);
                        return Some(at);
                    }
                    nesting.feed(*byte);
                }
            }
            State::Event(container, nesting) => {
                let container = *container;
                let (used, is_over) = nesting.copy(input, lines);
                if is_over {
                    lines.push(b'\n');
                    self.state = match container {
                        Container::None => State::Values,
                        container => State::Items(container),
                    };
                }
                return Some(used);
            }
            State::ListEnd(nesting) => {
                if let Some(end) = nesting.end(input) {
                    self.state = State::Values;
                    return Some(end);
                }
            }
            State::Broken => {}
        }
        Some(input.len())
    }

    /// Consumes the start of a value outside of lists and arrays.
    fn value(&mut self, input: &[u8], is_end: bool, lines: &mut Vec<u8>) -> Option<usize> {
        match input[0] {
            b'[' => {
                self.state = State::Items(Container::Array);
                Some(1)
            }
            b'{' => {
                match list_items(input) {
                    // The kind may also come after the items, and is not known then.
                    Some(open) if is_list(&input[..=open]) => {
                        self.state = State::Items(Container::List);
                        return Some(open + 1);
                    }
                    None if !is_end && input.len() <= EVENT_BYTES_MAX && skip_value(input, 0).is_none() => return None,
                    _ => {}
                }
                self.state = State::Event(Container::None, Nesting::default());
                Some(0)
            }
            _ => {
                lines.extend_from_slice(NOT_JSON);
                self.state = State::Broken;
                Some(input.len())
            }
        }
    }
}

// === impl Nesting ===

impl Nesting {
    /// Returns whether the position is neither in an object or array nor in a string.
    fn is_outside(&self) -> bool {
        self.depth == 0 && !self.in_string
    }

    /// Consumes one byte. Returns whether it is part of a string.
    fn feed(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return true;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }

    /// Copies bytes up to the closing bracket, except white space between tokens. Returns the number of bytes consumed,
    /// and whether the closing bracket is one of them.
    fn copy(&mut self, bytes: &[u8], to: &mut Vec<u8>) -> (usize, bool) {
        for (at, byte) in bytes.iter().enumerate() {
            let is_kept = self.feed(*byte) || !byte.is_ascii_whitespace();
            // A line break in a string is not valid JSON, and must not start a new line.
            if is_kept {
                to.push(if *byte == b'\n' { b' ' } else { *byte });
            }
            if self.is_outside() && matches!(byte, b'}' | b']') {
                return (at + 1, true);
            }
        }
        (bytes.len(), false)
    }

    /// Returns the position after the closing bracket, if it is within these bytes.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            self.feed(*byte);
            if self.depth == 0 {
                return Some(at + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::envelope::line;

    const READ: &str =
        r#"{"level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/","verb":"get","user":{}}"#;

    /// Converts a stream that arrives in pieces of `piece` bytes.
    fn converted(text: &[u8], piece: usize) -> Vec<u8> {
        let (mut stream, mut input, mut lines) = ((FORMAT.open)(), Vec::new(), Vec::new());
        for piece in text.chunks(piece) {
            input.extend_from_slice(piece);
            let used = stream.convert(&input, false, &mut lines);
            input.drain(..used);
        }
        let used = stream.convert(&input, true, &mut lines);
        assert_eq!(used, input.len(), "everything is consumed at the end");
        lines
    }

    /// Returns what is found in a stream, in words.
    fn found(text: &str) -> String {
        let lines = converted(text.as_bytes(), usize::MAX >> 1);
        for piece in [1, 7] {
            assert_eq!(lines, converted(text.as_bytes(), piece), "in pieces of {piece}: {text}");
        }
        let mut found = Vec::new();
        for text in lines.split(|b| *b == b'\n') {
            line(text, |event| found.push(event.map_or_else(|e| e.reason(), |_| "event")));
        }
        found.join(" ")
    }

    fn pretty(text: &str) -> String {
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(text).unwrap()).unwrap()
    }

    #[test]
    fn events_are_found_in_every_layout() {
        let list = format!(r#"{{"kind":"EventList","metadata":{{}},"items":[{READ},{READ}]}}"#);
        assert_eq!(found(&pretty(&list)), "event event");
        assert_eq!(found(&format!("{}\n{}", pretty(READ), pretty(READ))), "event event");
        assert_eq!(found(&pretty(&format!("[{READ}]"))), "event");
        assert_eq!(found(&format!("{}\n{}", pretty(&list), pretty(&list))), "event event event event");
        assert_eq!(found(&format!("[{READ}]{READ}[{READ}]")), "event event event");
        assert_eq!(found(""), "");
    }

    #[test]
    fn white_space_is_removed_between_tokens_and_kept_in_strings() {
        let text = "{ \"a\" : \"b \\\" {\\n} c\",\r\n\t\"d\": [ 1 , 2 ] }";
        assert_eq!(converted(text.as_bytes(), 3), b"{\"a\":\"b \\\" {\\n} c\",\"d\":[1,2]}\n");
    }

    #[test]
    fn malformed_parts_do_not_affect_the_others() {
        assert_eq!(found(&format!(r#"{{"items": [ 7, {READ}, "x" ] }}"#)), "not_an_event event not_an_event");
        assert_eq!(found(&format!("[{READ},\n{{\"level\":")), "event truncated");
        assert_eq!(found(&format!("[{READ},")), "event truncated");
        assert_eq!(found("hello"), "not_json");
        assert_eq!(found("{\n"), "truncated");
    }

    #[test]
    fn a_non_object_item_counts_as_one_malformed_event() {
        for item in [format!("[{READ}]"), format!("[[],[{READ},1]]"), r#""a,b]{""#.into(), "null".into()] {
            assert_eq!(found(&format!("[{item},{READ}, {item} ]")), "not_an_event event not_an_event", "{item}");
        }
    }

    #[test]
    fn an_object_of_another_kind_is_not_a_list_even_with_items() {
        assert_eq!(found(&format!(r#"{{"kind":"PodList","items":[{READ}]}}"#)), "not_an_event");
        assert_eq!(found(&READ.replace("{}}", r#"{},"items":[{}]}"#)), "event");
        assert_eq!(found(&format!(r#"{{"metadata":{{}},"items":[{READ}]}}"#)), "event");
    }

    #[test]
    fn an_oversized_event_becomes_an_oversized_line() {
        let huge = format!(r#"{{"a":"{}"}}"#, "x".repeat(EVENT_BYTES_MAX + 1));
        let lines = converted(format!("[{READ},\n{huge},{READ}]").as_bytes(), 1 << 20);
        let lengths: Vec<bool> = lines.split(|b| *b == b'\n').map(|line| line.len() > EVENT_BYTES_MAX).collect();
        assert_eq!(lengths, [false, true, false, false]);
    }

    #[test]
    fn only_documents_and_long_lists_are_recognized() {
        let list = |count: usize| format!(r#"{{"kind":"EventList","items":[{}]}}"#, vec![READ; count].join(","));
        for text in ["{\n", "[\n", &pretty(READ), &pretty(&list(2)), &list(10_000)] {
            assert!(recognizes(text.as_bytes()), "{}", &text[..text.len().min(80)]);
        }
        for text in ["", "\n", "hello\n", READ, &list(2), &format!("{READ}\n{READ}\n"), &format!("{READ}{READ}")] {
            assert!(!recognizes(text.as_bytes()), "{text}");
        }
    }
}
