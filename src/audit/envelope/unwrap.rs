//! Unwraps values: an object whose format is known is replaced by what it contains, until only audit events are left.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::bufread::MultiGzDecoder;

use super::formats::{self, Content, FORMATS, Inside, LINE, Row, Value};
use super::native::EVENT_BYTES_MAX;
use super::notes::{Notes, Sample};
use super::object::{Object, push_one_line, unescaped};
use crate::audit::event::Micros;
use crate::audit::json_scan::{skip_space, skip_value};

/// Maximum depth of wrappers. The deepest that exists is Firehose with a CloudWatch subscription of lines of a container:
/// records, data, entries, message, line, event.
const DEPTH_MAX: usize = 12;
/// Maximum size of what is unpacked from one part of the stream, which has at most [`super::stream`]'s buffer. A request of
/// Firehose has at most 64 MiB.
const UNPACKED_MAX: u64 = 4 * EVENT_BYTES_MAX as u64;
/// Maximum number of streams whose entries are put together at once.
const STREAMS_MAX: usize = 64;
/// Maximum number of parts of an event: containerd splits after 16 KiB.
const PARTS_MAX: usize = EVENT_BYTES_MAX / (16 << 10) + 1;
/// Number of bytes in which the starts of two entries of one writer are alike.
const ALIKE: usize = 16;
/// Maximum length of the keys in a sample, in characters.
const SAMPLE_CHARS_MAX: usize = 120;
/// What CloudWatch's agent and log drivers put behind an event that is too long.
const CUT_MARK: &[u8] = b"[Truncated...]";
/// The start of events that kube-apiserver wrote.
const EVENT_START: &[u8] = br#"{"kind":"Event","apiVersion":"audit.k8s.io/"#;

/// Lines that stand for malformed parts of the stream. Decoding them results in the reason.
pub(super) const NOT_AN_EVENT: &[u8] = b"{}\n";
pub(super) const TRUNCATED: &[u8] = b"{\n";
pub(super) const NOT_JSON: &[u8] = b"?\n";

/// Unwraps the values of one stream.
#[derive(Default)]
pub(super) struct Unwrapper {
    /// What was found since the notes were last written.
    notes: Notes,
    /// The names of the formats around the current value.
    path: Vec<&'static str>,
    /// The number of the current line of the stream.
    pub(super) line: u64,
    /// Number of bytes that were unpacked since then.
    unpacked: u64,
    /// Entries that are the first part of an event, by stream.
    partial: BTreeMap<String, Partial>,
}

/// The first parts of an event that was split into several entries.
struct Partial {
    text: Vec<u8>,
    parts: usize,
    at: Option<Micros>,
    path: Vec<&'static str>,
}

/// Where a value was found.
#[derive(Clone, Copy)]
struct Place<'a> {
    depth: usize,
    at: Option<Micros>,
    stream: &'a str,
    /// What [`LINE`] stands for.
    line: Option<&'a [u8]>,
}

/// A value that is in no other.
const TOP: Place<'_> = Place { depth: DEPTH_MAX, at: None, stream: "", line: None };

// === impl Unwrapper ===

impl Unwrapper {
    /// Unwraps a JSON value that is complete. Appends the events in it to `lines`.
    pub(super) fn value(&mut self, json: &[u8], lines: &mut Vec<u8>) {
        self.json(json, TOP, lines);
    }

    /// Unwraps the JSON value that `text` starts with. Returns the position after it, or `None` if it does not end there.
    pub(super) fn first_value(&mut self, text: &[u8], lines: &mut Vec<u8>) -> Option<usize> {
        self.first(text, TOP, lines)
    }

    /// Unwraps a row of a table.
    pub(super) fn row(&mut self, row: Row<'_>, lines: &mut Vec<u8>) {
        match row {
            Row::Event(event, name) => {
                self.path.push(name);
                self.event(&event, lines);
                self.path.pop();
            }
            Row::Line(object, line) => self.json(&object, Place { line: Some(line), ..TOP }, lines),
        }
    }

    /// Unwraps a line that does not start with JSON.
    pub(super) fn text_line(&mut self, line: &[u8], lines: &mut Vec<u8>) {
        let Some(text) = formats::text(line) else {
            // The rest of a line that a shipper has split, or something else.
            if !self.continues("", line, None, lines) {
                self.notes.other += 1;
            }
            return;
        };
        self.path.push(text.name);
        let stream = String::from_utf8_lossy(text.stream).into_owned();
        let place = Place { at: text.at, stream: &stream, ..TOP };
        self.part(text.content, text.is_last, place, lines);
        self.path.pop();
    }

    /// Handles a value that is cut off: what is known of an event is kept.
    pub(super) fn cut(&mut self, json: &[u8], at: Option<Micros>, lines: &mut Vec<u8>) {
        match formats::salvage(json, at) {
            Some(line) => {
                self.notes.cut += 1;
                self.event(&line, lines);
            }
            None => lines.extend_from_slice(TRUNCATED),
        }
    }

    /// Writes what was found since the last call. At the end of the stream, entries whose rest never came are cut events.
    pub(super) fn flush(&mut self, is_end: bool, lines: &mut Vec<u8>) {
        if is_end {
            for (_, partial) in std::mem::take(&mut self.partial) {
                self.give_up(partial, lines);
            }
        }
        self.notes.write(lines);
        self.notes = Notes::default();
        self.unpacked = 0;
    }

    /// Like [`Unwrapper::json`] for the value that `text` starts with, which is only scanned once.
    fn first(&mut self, text: &[u8], place: Place<'_>, lines: &mut Vec<u8>) -> Option<usize> {
        if text.first() == Some(&b'{')
            && !text.starts_with(EVENT_START)
            && let Some((object, end)) = Object::first(text)
        {
            self.object(&object, &text[..end], place, lines);
            return Some(end);
        }
        let end = skip_value(text, 0)?;
        self.json(&text[..end], place, lines);
        Some(end)
    }

    fn json(&mut self, json: &[u8], place: Place<'_>, lines: &mut Vec<u8>) {
        match json.first() {
            // Other checks can wait until it is decoded.
            Some(b'{') if json.starts_with(EVENT_START) && !formats::has_other_level(json) => self.event(json, lines),
            Some(b'{') => match Object::of(json) {
                Some(object) => self.object(&object, json, place, lines),
                None => lines.extend_from_slice(NOT_JSON),
            },
            Some(b'[') => self.elements(json, place, lines),
            _ => lines.extend_from_slice(NOT_AN_EVENT),
        }
    }

    fn elements(&mut self, json: &[u8], place: Place<'_>, lines: &mut Vec<u8>) {
        let Some(depth) = place.depth.checked_sub(1) else { return self.unknown(json) };
        let place = Place { depth, ..place };
        let mut at = skip_space(json, 1);
        while let Some(first) = json.get(at).filter(|first| **first != b']') {
            let end = match first {
                b'{' | b'[' => self.first(&json[at..], place, lines).map(|len| at + len),
                _ => skip_value(json, at).inspect(|end| match unescaped(&json[at..*end]) {
                    Some(text) if text.get(skip_space(&text, 0)) == Some(&b'{') => {
                        self.part(&text, None, place, lines);
                    }
                    _ => lines.extend_from_slice(NOT_AN_EVENT),
                }),
            };
            let Some(end) = end else { return };
            at = skip_space(json, end);
            if json.get(at) == Some(&b',') {
                at = skip_space(json, at + 1);
            }
        }
    }

    fn object(&mut self, object: &Object<'_>, json: &[u8], place: Place<'_>, lines: &mut Vec<u8>) {
        let found = FORMATS.iter().find_map(|format| Some((format.name, format.open(object)?)));
        let Some((name, content)) = found else { return self.unknown(json) };
        let is_named = !name.is_empty() && self.path.last() != Some(&name);
        if is_named {
            self.path.push(name);
        }
        match content {
            Content::Event => self.event(json, lines),
            Content::Changed(event) => self.event(&event, lines),
            Content::Lines { lines: made, count } => {
                self.count(count);
                lines.extend_from_slice(&made);
            }
            Content::Inside(inside) => self.inside(inside, place, lines),
            Content::Entries(entries) => {
                for entry in entries {
                    self.path.extend(entry.names);
                    self.inside(entry.inside, place, lines);
                    self.path.truncate(self.path.len() - entry.names.len());
                }
            }
            Content::Other => self.notes.other += 1,
        }
        if is_named {
            self.path.pop();
        }
    }

    fn inside(&mut self, inside: Inside<'_>, place: Place<'_>, lines: &mut Vec<u8>) {
        let Some(depth) = place.depth.checked_sub(1) else {
            self.notes.unknown += 1;
            return;
        };
        let stream = if inside.stream.is_empty() { place.stream } else { &inside.stream };
        let line = place.line;
        let place = Place { depth, at: inside.at.or(place.at), stream, line: None };
        for value in inside.values {
            match value {
                Value::Json(json) => self.json(json, place, lines),
                Value::Made(json) => self.json(&json, place, lines),
                Value::Text(text) => match line.filter(|_| text == LINE.as_bytes()) {
                    Some(line) => self.part(line, None, place, lines),
                    None => self.part(&text, None, place, lines),
                },
                Value::Packed(bytes) => match unpacked(bytes, UNPACKED_MAX.saturating_sub(self.unpacked)) {
                    Some(text) => {
                        self.unpacked += text.len() as u64;
                        self.texts(&text, place, lines);
                    }
                    None => lines.extend_from_slice(NOT_JSON),
                },
            }
        }
    }

    /// Unwraps a text of one entry, which may be a part of a longer line.
    fn part(&mut self, text: &[u8], is_last: Option<bool>, place: Place<'_>, lines: &mut Vec<u8>) {
        let text = match text.strip_suffix(b"\n") {
            Some(text) => text.strip_suffix(b"\r").unwrap_or(text),
            None => text,
        };
        if self.partial.contains_key(place.stream) && self.continues(place.stream, text, is_last, lines) {
            return;
        }
        let start = skip_space(text, 0);
        let is_cut = text.ends_with(CUT_MARK);
        let json = if is_cut { &text[start..text.len() - CUT_MARK.len()] } else { &text[start..] };
        if json.first() != Some(&b'{') {
            return self.texts(text, place, lines);
        }
        match self.first(json, place, lines) {
            None if is_cut || is_last == Some(true) => self.cut(json, place.at, lines),
            None => self.keep(json, place, lines),
            Some(end) if skip_space(json, end) < json.len() => self.texts(&json[end..], place, lines),
            Some(_) => {}
        }
    }

    /// Unwraps text: JSON values, or lines with JSON in them.
    fn texts(&mut self, text: &[u8], place: Place<'_>, lines: &mut Vec<u8>) {
        let Some(depth) = place.depth.checked_sub(1) else {
            self.notes.unknown += 1;
            return;
        };
        let place = Place { depth, ..place };
        let mut at = skip_space(text, 0);
        while let Some(first) = text.get(at) {
            if matches!(first, b'{' | b'[') {
                let Some(len) = self.first(&text[at..], place, lines) else {
                    return self.cut(&text[at..], place.at, lines);
                };
                at = skip_space(text, at + len);
                continue;
            }
            let end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |newline| at + newline);
            match formats::text(&text[at..end]) {
                Some(found) => {
                    self.path.push(found.name);
                    let stream = String::from_utf8_lossy(found.stream).into_owned();
                    let stream = if stream.is_empty() { place.stream } else { &stream };
                    let found_at = found.at.or(place.at);
                    self.part(found.content, found.is_last, Place { at: found_at, stream, ..place }, lines);
                    self.path.pop();
                }
                None => self.notes.other += 1,
            }
            at = skip_space(text, end);
        }
    }

    /// Keeps the first part of an event until the next entry of its stream.
    fn keep(&mut self, text: &[u8], place: Place<'_>, lines: &mut Vec<u8>) {
        let kept = |partial: &BTreeMap<String, Partial>| partial.values().map(|p| p.text.len()).sum::<usize>();
        while self.partial.len() >= STREAMS_MAX || kept(&self.partial) + text.len() > EVENT_BYTES_MAX {
            // Any of them: all wait for a rest that does not come.
            let Some((_, partial)) = self.partial.pop_first() else {
                return self.cut(text, place.at, lines);
            };
            self.give_up(partial, lines);
        }
        let new = Partial { text: text.to_vec(), parts: 1, at: place.at, path: self.path.clone() };
        if let Some(before) = self.partial.insert(place.stream.to_owned(), new) {
            self.give_up(before, lines);
        }
    }

    /// Appends a text to the first part of an event, if it is its rest. Returns whether it is.
    fn continues(&mut self, stream: &str, text: &[u8], is_last: Option<bool>, lines: &mut Vec<u8>) -> bool {
        let Some(mut partial) = self.partial.remove(stream) else { return false };
        // Another entry, so that the rest of this one is lost. Where the format says that the text is a part, it may begin
        // like an entry by chance.
        if text.starts_with(EVENT_START) || (is_last.is_none() && is_entry(text, &partial.text)) {
            self.give_up(partial, lines);
            return false;
        }
        partial.parts += 1;
        let others: usize = self.partial.values().map(|other| other.text.len()).sum();
        if others + partial.text.len() + text.len() > EVENT_BYTES_MAX || partial.parts > PARTS_MAX {
            self.give_up(partial, lines);
            return true;
        }
        partial.text.extend_from_slice(text);
        // The end is only looked for where it may be.
        if text.trim_ascii_end().ends_with(b"}") && skip_value(&partial.text, 0).is_some() {
            let path = std::mem::replace(&mut self.path, partial.path);
            let place = Place { depth: DEPTH_MAX / 2, at: partial.at, ..TOP };
            self.texts(&partial.text, place, lines);
            self.path = path;
        } else if text.ends_with(CUT_MARK) || is_last == Some(true) {
            self.give_up(partial, lines);
        } else {
            self.partial.insert(stream.to_owned(), partial);
        }
        true
    }

    /// The rest of an event does not come.
    fn give_up(&mut self, partial: Partial, lines: &mut Vec<u8>) {
        let path = std::mem::replace(&mut self.path, partial.path);
        self.cut(&partial.text, partial.at, lines);
        self.path = path;
    }

    /// Appends an event as one line.
    fn event(&mut self, json: &[u8], lines: &mut Vec<u8>) {
        self.count(1);
        push_line(json, lines);
    }

    fn count(&mut self, events: u64) {
        match &*self.path {
            [] => self.notes.count("audit.k8s.io", events),
            [name] => self.notes.count(name, events),
            path => self.notes.count(&path.join(" > "), events),
        }
    }

    fn unknown(&mut self, json: &[u8]) {
        self.notes.unknown += 1;
        if self.notes.sample.is_none() {
            let keys = Object::of(json).map(|object| {
                let keys: Vec<_> = object.members().map(|(key, _)| String::from_utf8_lossy(key)).take(16).collect();
                keys.join(", ").chars().take(SAMPLE_CHARS_MAX).collect()
            });
            self.notes.sample = Some(Sample { line: self.line, keys: keys.unwrap_or_default() });
        }
    }
}

/// Returns whether a text is an entry of its own: it is a complete object, or starts like the entry before. A part of an
/// entry may start with a bracket, too.
fn is_entry(text: &[u8], before: &[u8]) -> bool {
    text.starts_with(b"{")
        && (text.get(..ALIKE).is_some_and(|start| before.starts_with(start))
            || skip_value(text, 0).is_some_and(|end| skip_space(text, end) == text.len()))
}

/// Appends JSON as one line.
fn push_line(json: &[u8], lines: &mut Vec<u8>) {
    push_one_line(json, lines);
    lines.push(b'\n');
}

/// Decompresses bytes that are gzip. `None` if they are damaged, or expand too far.
fn unpacked(bytes: Vec<u8>, len_max: u64) -> Option<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Some(bytes);
    }
    let mut text = Vec::new();
    MultiGzDecoder::new(&*bytes).take(len_max + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= len_max).then_some(text)
}
