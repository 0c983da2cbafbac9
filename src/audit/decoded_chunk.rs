//! A part of the input, decoded as a whole. Sources decode chunks once, in parallel; journal and pipeline use the
//! result.

use std::collections::BTreeMap;

use super::decode::{Decoded, Malformed};
use super::envelope::{self, EVENT_BYTES_MAX, Notes};
use super::event::{Event, Micros};
use super::times::{self, TimeSamples};

/// A decoded chunk of lines, or of other JSON values.
#[derive(Debug, Default)]
pub struct DecodedChunk<'a> {
    /// Final events of mutating requests, in order.
    pub events: Vec<Event<'a>>,
    /// Malformed events by reason: their number, and the position of the first. A position is a line number, or the
    /// number of a value, from 1.
    pub malformed: BTreeMap<&'static str, (u64, u64)>,
    /// Number of events of stages that do not end their request.
    pub unfinished: u64,
    /// Number of final events of reads.
    pub reads: u64,
    /// Number of positions: of lines, or of values.
    pub positions: u64,
    /// Event times, those of reads included: of the first event, of the last one, and of some between.
    pub times: Vec<Micros>,
    /// What a converter found besides events.
    pub notes: Option<Box<Notes>>,
    text: Text<'a>,
}

/// What a chunk was decoded from.
#[derive(Clone, Copy, Debug)]
enum Text<'a> {
    Lines(&'a [u8]),
    Values(&'a [u8]),
    /// Nothing: only the times of events are known.
    Times,
}

impl Default for Text<'_> {
    fn default() -> Self {
        Text::Lines(b"")
    }
}

// === impl DecodedChunk ===

impl<'a> DecodedChunk<'a> {
    /// Decodes lines. With `is_rest_of_too_long`, the first line is the rest of a line that is longer than an event can
    /// be. `events` is an empty vector whose allocation is reused: growing a new one for each chunk costs as much as
    /// decoding.
    pub fn of(lines: &'a [u8], is_rest_of_too_long: bool, events: Vec<Event<'a>>) -> DecodedChunk<'a> {
        let mut chunk = DecodedChunk { events, text: Text::Lines(lines), ..DecodedChunk::default() };
        let mut rest = lines;
        if is_rest_of_too_long {
            let len = memchr::memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1);
            rest = &rest[len..];
            chunk.positions = 1;
            chunk.add(Err(Malformed::TooLong(EVENT_BYTES_MAX)));
        }
        chunk.times = TimeSamples::of_lines(rest).times();
        while !rest.is_empty() {
            let len = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            match Notes::of_line(&rest[..len]) {
                Some(notes) => chunk.notes.get_or_insert_default().add(&notes),
                None => {
                    chunk.positions += 1;
                    envelope::line(&rest[..len], |event| chunk.add(event));
                }
            }
            rest = &rest[(len + 1).min(rest.len())..];
        }
        chunk
    }

    /// Returns a chunk of which only the times of its events are known.
    pub(crate) fn of_times(times: Vec<Micros>) -> DecodedChunk<'a> {
        DecodedChunk { times, text: Text::Times, ..DecodedChunk::default() }
    }

    /// Decodes a sequence of JSON values, such as the body of a request: events, `EventList`s and arrays of events.
    pub fn of_values(values: &'a [u8]) -> DecodedChunk<'a> {
        DecodedChunk::of_values_in_parts(values, usize::MAX, |_| {})
    }

    /// Like [`DecodedChunk::of_values`], but whenever `events_max` events were decoded, passes them to `part` and
    /// discards them, to limit the memory for a long body of short events. Returns the last part.
    pub fn of_values_in_parts(
        values: &'a [u8],
        events_max: usize,
        mut part: impl FnMut(&DecodedChunk<'a>),
    ) -> DecodedChunk<'a> {
        let mut chunk = DecodedChunk { text: Text::Values(values), ..DecodedChunk::default() };
        let mut marks = TimeSamples::default();
        let add = |event| {
            chunk.positions += 1;
            chunk.add(event);
            if chunk.events.len() >= events_max {
                part(&chunk);
                chunk.events.clear();
                chunk.malformed.clear();
                (chunk.unfinished, chunk.reads) = (0, 0);
            }
        };
        envelope::native::values_with_bytes(values, add, |event| marks.see(event));
        chunk.times = marks.times();
        chunk
    }

    /// Returns the times of all events, in order. They are not decoded with the events, since they are rarely needed.
    pub fn all_times(&self) -> Vec<Micros> {
        match self.text {
            Text::Lines(lines) => times::all(lines).collect(),
            Text::Times => self.times.clone(),
            Text::Values(values) => {
                let mut all = Vec::new();
                envelope::native::values_with_bytes(values, |_| {}, |event| all.extend(times::of_event(event)));
                all
            }
        }
    }

    /// Returns its approximate size in memory, in bytes, without the bytes it was decoded from.
    pub fn bytes(&self) -> usize {
        let annotations = |event: &Event<'_>| size_of_val(event.annotations.as_slice());
        self.events.capacity() * size_of::<Event<'_>>() + self.events.iter().map(annotations).sum::<usize>()
    }

    /// Returns the allocation of the events, for the next chunk.
    pub fn into_events(mut self) -> Vec<Event<'static>> {
        self.events.clear();
        // `map_while` yields nothing, and `collect` reuses the allocation. This changes the lifetime without unsafe
        // code.
        self.events.into_iter().map_while(|_| None).collect()
    }

    #[inline]
    fn add(&mut self, decoded: Result<Decoded<'a>, Malformed>) {
        match decoded {
            Ok(Decoded::Unfinished) => self.unfinished += 1,
            Ok(Decoded::Read(_)) => self.reads += 1,
            Ok(Decoded::Event(event)) => self.events.push(event),
            Err(malformed) => self.malformed.entry(malformed.reason()).or_insert((0, self.positions)).0 += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/","verb":"patch","user":{},"stageTimestamp":"2026-11-23T00:00:01.000000Z"}"#;

    #[test]
    fn the_allocation_of_the_events_is_reused() {
        let chunk = DecodedChunk::of(EVENT.as_bytes(), false, Vec::with_capacity(100));
        assert_eq!((chunk.events.len(), chunk.positions), (1, 1));
        let events = chunk.into_events();
        assert_eq!(events.len(), 0);
        assert!(events.capacity() >= 100, "{}", events.capacity());
    }

    #[test]
    fn lines_and_lists_of_the_same_events_decode_alike() {
        let later = EVENT.replace("00:01", "00:02");
        let lines = format!("{EVENT}\n7\n{later}\n");
        let list = format!(r#"{{"kind":"EventList","items":[{EVENT},7,{later}]}}"#);
        let (lines, list) =
            (DecodedChunk::of(lines.as_bytes(), false, Vec::new()), DecodedChunk::of_values(list.as_bytes()));
        assert_eq!(lines.events, list.events);
        assert_eq!((lines.positions, list.positions), (3, 3));
        assert_eq!(lines.malformed.values().collect::<Vec<_>>(), [&(1, 2)]);
        assert_eq!(list.malformed.values().collect::<Vec<_>>(), [&(1, 2)]);
        assert_eq!((lines.times.first(), lines.times.last()), (list.times.first(), list.times.last()));
        assert_eq!(lines.all_times(), list.all_times());
        assert_eq!(lines.all_times().len(), 2);
    }
}
