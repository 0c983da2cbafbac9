//! Notes: what a converter found besides events. They are part of the lines that it writes, so that they take the way of
//! the events: through decoding on several cores, into the statistics of the source.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The first byte of a line that is a note. It cannot start JSON.
const MARK: u8 = 0x1e;
/// Maximum number of formats in a note. Wrappers can be nested in many ways; all that exist are far fewer.
const FORMATS_MAX: usize = 32;

/// What was found besides events, and how events arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    /// Number of events by format, such as `Firehose > CloudWatch`.
    pub formats: BTreeMap<String, u64>,
    /// Events that were cut off inside of a body. What was before it is known.
    pub cut: u64,
    /// Log entries about something else.
    pub other: u64,
    /// JSON of no known format.
    pub unknown: u64,
    /// The first JSON of no known format.
    pub sample: Option<Sample>,
}

/// JSON of no known format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The number of its line, from 1.
    pub line: u64,
    /// Some of its keys.
    pub keys: String,
}

// === impl Notes ===

impl Notes {
    /// Adds what was found after these notes.
    pub fn add(&mut self, other: &Notes) {
        for (format, count) in &other.formats {
            self.count(format, *count);
        }
        self.cut += other.cut;
        self.other += other.other;
        self.unknown += other.unknown;
        if self.sample.is_none() {
            self.sample.clone_from(&other.sample);
        }
    }

    /// Counts events of a format.
    pub(super) fn count(&mut self, format: &str, count: u64) {
        if let Some(sum) = self.formats.get_mut(format) {
            *sum += count;
        } else if self.formats.len() < FORMATS_MAX {
            self.formats.insert(format.to_owned(), count);
        }
    }

    /// Appends these notes as a line, unless there are none.
    pub(super) fn write(&self, lines: &mut Vec<u8>) {
        if *self == Notes::default() {
            return;
        }
        lines.push(MARK);
        serde_json::to_writer(&mut *lines, self).expect("notes have only keys that are strings");
        lines.push(b'\n');
    }

    /// Returns the notes that a line consists of.
    pub fn of_line(line: &[u8]) -> Option<Notes> {
        let json = line.strip_prefix(&[MARK])?;
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_were_written() {
        let mut notes = Notes { cut: 1, other: 2, unknown: 3, ..Notes::default() };
        notes.sample = Some(Sample { line: 7, keys: "a, b".into() });
        notes.count("Firehose > CloudWatch", 4);
        let mut lines = Vec::new();
        notes.write(&mut lines);
        assert_eq!(Notes::of_line(lines.trim_ascii_end()), Some(notes.clone()));
        notes.add(&notes.clone());
        assert_eq!((notes.cut, notes.formats["Firehose > CloudWatch"]), (2, 8));
        assert_eq!(Notes::of_line(b"{}"), None);
        let before = lines.len();
        Notes::default().write(&mut lines);
        assert_eq!(lines.len(), before, "nothing was found");
    }
}
