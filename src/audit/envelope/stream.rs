//! Splits a stream into values: JSON of any layout, lines of text with JSON in them, and tables. Each value is unwrapped on
//! its own, in constant memory: a list that is longer than a buffer is entered.

use super::formats::{HEADER_MAX, LISTS, Table};
use super::native::EVENT_BYTES_MAX;
use super::unwrap::{NOT_AN_EVENT, NOT_JSON, TRUNCATED, Unwrapper};
use crate::audit::json_scan::{members, skip_space, skip_string, skip_value};

/// An object that does not end within this number of bytes is entered, if it has a list of entries.
const ENTERED_FROM: usize = 1 << 20;
/// Maximum number of lists and objects that are entered at once, and in one object. The deepest is OTLP, with six.
const OPEN_MAX: usize = 16;
const FRAMES_MAX: usize = 8;
/// Maximum length of a number or a word.
const SCALAR_BYTES_MAX: usize = 1 << 10;
/// A line of this length that does not end its JSON was cut off, if the next line starts like it.
const CUT_FROM: usize = 16;
/// Number of bytes in which lines are alike if both are events of one writer.
const ALIKE: usize = 8;
/// A longer value is skipped. Twice the size of an event, since wrappers escape quotes.
const VALUE_BYTES_MAX: usize = 2 * EVENT_BYTES_MAX;

/// Converts a stream of any format into lines with one audit event each, and notes.
pub struct Converter {
    unwrapper: Unwrapper,
    /// The lists and objects that were entered.
    open: Vec<Frame>,
    state: State,
    /// The end of the first line of what is left.
    newline: Option<usize>,
}

/// A list or an object that was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    List,
    /// An object whose list has ended, or one with another object in it that has the list.
    Object,
}

enum State {
    /// Nothing was read.
    Start,
    Values,
    Rows(Box<Table>),
    /// A value that is too long is skipped.
    Skipping(Nesting),
}

/// Finds the end of an object or array.
#[derive(Clone, Copy, Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

// === impl Converter ===

impl Converter {
    /// Creates a converter for one stream.
    pub fn new() -> Converter {
        Converter { unwrapper: Unwrapper::default(), open: Vec::new(), state: State::Start, newline: None }
    }

    /// Consumes bytes from the start of `input`, and appends events to `lines`, each followed by a newline. Returns the
    /// number of bytes consumed. The remaining bytes are passed again, followed by more. At the end of the stream,
    /// everything is consumed.
    ///
    /// A part of the stream that is not an event results in a line that is counted as malformed.
    pub fn convert(&mut self, input: &[u8], is_end: bool, lines: &mut Vec<u8>) -> usize {
        let mut at = 0;
        // Searched once for each line: there may be many values in it.
        let mut newline = memchr::memchr(b'\n', input);
        while at < input.len() {
            if newline.is_some_and(|newline| newline < at) {
                newline = memchr::memchr(b'\n', &input[at..]).map(|newline| at + newline);
            }
            self.newline = newline.map(|newline| newline - at);
            let Some(used) = self.step(&input[at..], is_end, lines) else { break };
            let lines_passed = memchr::memchr_iter(b'\n', &input[at..at + used]).count();
            self.unwrapper.line += lines_passed as u64;
            at += used;
        }
        if is_end && !matches!(self.state, State::Skipping(_)) && self.open.contains(&Frame::List) {
            lines.extend_from_slice(TRUNCATED);
            self.open.clear();
        }
        self.unwrapper.flush(is_end, lines);
        at
    }

    /// Consumes the next part of the input. Returns `None` if more input is needed.
    fn step(&mut self, input: &[u8], is_end: bool, lines: &mut Vec<u8>) -> Option<usize> {
        match &mut self.state {
            State::Start => {
                let may_be_table = !matches!(input[0], b'{' | b'[') && self.newline.is_none();
                if may_be_table && input.len() < HEADER_MAX && !is_end {
                    return None;
                }
                self.unwrapper.line = 1;
                self.state = State::Values;
                if let Some((table, header)) = Table::open(input) {
                    self.state = State::Rows(Box::new(table));
                    return Some(header);
                }
                Some(if input.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 })
            }
            State::Skipping(nesting) => {
                if let Some(end) = nesting.end(input) {
                    self.state = State::Values;
                    return Some(end);
                }
                Some(input.len())
            }
            State::Rows(table) => {
                let len = length(Table::row_len(input), input, is_end)?;
                if len > VALUE_BYTES_MAX {
                    lines.extend_from_slice(NOT_AN_EVENT);
                    return Some(len);
                }
                let row = input[..len].trim_ascii();
                if !row.is_empty() {
                    match table.row(row) {
                        Some(row) => self.unwrapper.row(row, lines),
                        None => lines.extend_from_slice(NOT_JSON),
                    }
                }
                Some(len)
            }
            State::Values => self.value(input, is_end, lines),
        }
    }

    fn value(&mut self, input: &[u8], is_end: bool, lines: &mut Vec<u8>) -> Option<usize> {
        let start = skip_space(input, 0);
        if start > 0 {
            return Some(start);
        }
        match (self.open.last(), input[0]) {
            (Some(Frame::List), b',') | (Some(Frame::Object), b',') => Some(1),
            (Some(Frame::List), b']') | (Some(Frame::Object), b'}') => {
                self.open.pop();
                Some(1)
            }
            (Some(Frame::Object), _) => self.member(input, is_end, lines),
            (_, b'{') => self.object(input, is_end, lines),
            (None, b'[') => match is_time(input) {
                // A line of a log, with its time in brackets.
                Some(true) => self.line(input, is_end, lines),
                None if !is_end => None,
                Some(false) | None => {
                    self.open.push(Frame::List);
                    Some(1)
                }
            },
            (Some(Frame::List), first) => match skip_value(input, 0) {
                Some(end) => {
                    match first {
                        b'[' => self.unwrapper.value(&input[..end], lines),
                        _ => lines.extend_from_slice(NOT_AN_EVENT),
                    }
                    Some(end)
                }
                None => self.incomplete(input, is_end, lines),
            },
            (None, _) => self.line(input, is_end, lines),
        }
    }

    /// Consumes a line that does not start with JSON.
    fn line(&mut self, input: &[u8], is_end: bool, lines: &mut Vec<u8>) -> Option<usize> {
        let len = length(self.newline, input, is_end)?;
        if len > VALUE_BYTES_MAX {
            lines.extend_from_slice(NOT_JSON);
            return Some(len);
        }
        let line = input[..len].strip_suffix(b"\r").unwrap_or(&input[..len]);
        self.unwrapper.text_line(line, lines);
        Some(len)
    }

    fn object(&mut self, input: &[u8], is_end: bool, lines: &mut Vec<u8>) -> Option<usize> {
        // Most are lines. A line that was cut off must not take its end from the next one.
        let newline = self.newline.filter(|newline| self.open.is_empty() && *newline < input.len());
        if let Some(newline) = newline {
            if let Some(end) = self.unwrapper.first_value(&input[..newline], lines) {
                return Some(end);
            }
            match is_cut(&input[..newline], &input[newline..], is_end) {
                None => return None,
                Some(true) => {
                    self.unwrapper.cut(&input[..newline], None, lines);
                    return Some(newline);
                }
                Some(false) => {}
            }
        }
        let head = &input[..input.len().min(ENTERED_FROM)];
        if let Some(end) = self.unwrapper.first_value(head, lines) {
            return Some(end);
        }
        if head.len() == ENTERED_FROM {
            if self.open.len() < OPEN_MAX
                && let Some((frames, used)) = entrance(head)
            {
                self.open.extend(frames);
                return Some(used);
            }
            if let Some(end) = self.unwrapper.first_value(input, lines) {
                return Some(end);
            }
        }
        self.incomplete(input, is_end, lines)
    }

    /// Consumes the next member of an object that was entered.
    fn member(&mut self, input: &[u8], is_end: bool, lines: &mut Vec<u8>) -> Option<usize> {
        if input[0] != b'"' {
            // Not JSON: what follows cannot be told apart.
            lines.extend_from_slice(NOT_JSON);
            self.open.clear();
            return Some(input.len());
        }
        let value = skip_string(input, 0).and_then(|key_end| {
            let colon = skip_space(input, key_end);
            (input.get(colon) == Some(&b':')).then(|| skip_space(input, colon + 1))
        });
        if let Some(value) = value.filter(|value| *value < input.len()) {
            let key = &input[1..skip_string(input, 0)? - 1];
            if is_list(key) && input[value] == b'[' {
                self.open.push(Frame::List);
                return Some(value + 1);
            }
            if let Some(end) = skip_value(input, value) {
                return Some(end);
            }
        }
        self.incomplete(input, is_end, lines)
    }

    /// Handles a value that does not end in the input.
    fn incomplete(&mut self, input: &[u8], is_end: bool, lines: &mut Vec<u8>) -> Option<usize> {
        let may_be_long = matches!(input[0], b'{' | b'[' | b'"');
        let is_scalar = matches!(input[0], b'-' | b'0'..=b'9' | b't' | b'f' | b'n');
        if !(may_be_long || (is_scalar && input.len() <= SCALAR_BYTES_MAX)) {
            // Not JSON: go on with the next line.
            lines.extend_from_slice(NOT_JSON);
            self.open.clear();
            return Some(self.newline.filter(|newline| *newline > 0).unwrap_or(input.len()));
        }
        if input.len() > VALUE_BYTES_MAX {
            // The line that stands for it is too long, like the value.
            lines.extend(std::iter::repeat_n(b' ', EVENT_BYTES_MAX + 1));
            lines.push(b'\n');
            self.state = State::Skipping(Nesting::default());
            return Some(0);
        }
        if !is_end {
            return None;
        }
        self.unwrapper.cut(input, None, lines);
        // This is the end that was missing.
        self.open.clear();
        Some(input.len())
    }
}

impl Default for Converter {
    fn default() -> Self {
        Converter::new()
    }
}

/// Returns the length of a line or row that ends at `end`, or that has no end because the input ends or it is too long.
/// `None` if more input is needed.
fn length(end: Option<usize>, input: &[u8], is_end: bool) -> Option<usize> {
    end.or((is_end || input.len() > VALUE_BYTES_MAX).then_some(input.len()))
}

/// Finds the list of entries in an object that does not end in `input`. Returns what to enter, and the position of its
/// first entry.
fn entrance(input: &[u8]) -> Option<(Vec<Frame>, usize)> {
    let mut frames = vec![Frame::Object];
    let mut base = 0;
    while frames.len() < FRAMES_MAX {
        let mut found = members(&input[base..]);
        while found.next().is_some() {}
        // The member that the input ends in.
        let mut at = skip_space(input, base + found.position());
        if input.get(at) == Some(&b',') {
            at = skip_space(input, at + 1);
        }
        if input.get(at) != Some(&b'"') {
            return None;
        }
        let key_end = skip_string(input, at)?;
        let colon = skip_space(input, key_end);
        let value = skip_space(input, colon + 1);
        let is_entered = input.get(colon) == Some(&b':') && is_list(&input[at + 1..key_end - 1]);
        match input.get(value)? {
            b'[' if is_entered => {
                frames.push(Frame::List);
                return Some((frames, value + 1));
            }
            b'{' if is_entered => {
                frames.push(Frame::Object);
                base = value;
            }
            _ => return None,
        }
    }
    None
}

/// Returns whether a line that starts with a bracket has a time in it, or `None` if that depends on what follows.
fn is_time(line: &[u8]) -> Option<bool> {
    let behind = line[1..].iter().find(|b| !b.is_ascii_digit())?;
    Some(line[1].is_ascii_digit() && matches!(behind, b'-' | b':' | b'/'))
}

fn is_list(key: &[u8]) -> bool {
    LISTS.iter().any(|list| list.as_bytes() == key)
}

/// Returns whether the JSON of a line was cut off at its end, or `None` if that depends on more than `rest`. White space
/// in JSON may be a line break, except in strings.
fn is_cut(line: &[u8], rest: &[u8], is_end: bool) -> Option<bool> {
    let Some(innermost) = innermost(line) else { return Some(true) };
    let next = &rest[skip_space(rest, 0)..];
    if next.len() < ALIKE && !is_end {
        return None;
    }
    let starts_alike = line.len() >= CUT_FROM && next.len() >= ALIKE && line.starts_with(&next[..ALIKE]);
    let last = line.trim_ascii_end().last().copied().unwrap_or_default();
    let may_be_object = last == b':' || (innermost == b'[' && matches!(last, b'[' | b','));
    Some(starts_alike || (next.first() == Some(&b'{') && !may_be_object))
}

/// Returns the innermost bracket that is open at the end of a text, or `None` if the text ends in a string.
fn innermost(text: &[u8]) -> Option<u8> {
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => at = skip_string(text, at - 1)?,
            b'{' | b'[' => open.push(*byte),
            b'}' | b']' => drop(open.pop()),
            _ => {}
        }
    }
    Some(open.pop().unwrap_or(b'{'))
}

// === impl Nesting ===

impl Nesting {
    /// Returns the position after the value, if it is within these bytes.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.depth == 0 && !self.in_string {
                return Some(at + 1);
            }
        }
        None
    }
}
