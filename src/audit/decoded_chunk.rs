//! Decodes a chunk of log lines as a whole, so that one thread can decode while another one ingests.

use super::decode::{Decoded, Malformed};
use super::envelope::{self, EVENT_BYTES_MAX};
use super::event::Event;

/// A chunk of decoded lines. Line numbers start at 1.
#[derive(Debug, Default)]
pub struct DecodedChunk<'a> {
    /// Final events of mutating requests, in order.
    pub events: Vec<Event<'a>>,
    /// Line numbers of malformed events, and the reasons.
    pub malformed: Vec<(u64, Malformed)>,
    /// Number of events of stages that do not end their request.
    pub unfinished: u64,
    /// Number of final events of reads.
    pub reads: u64,
    /// Number of lines.
    pub lines: u64,
}

// === impl DecodedChunk ===

impl<'a> DecodedChunk<'a> {
    /// Decodes `lines`. With `is_rest_of_too_long`, the first line is the rest of a line that is longer than an event
    /// can be. `room` is an empty vector whose allocation is reused: growing a new one for each chunk costs as much as
    /// decoding.
    pub fn of(mut lines: &'a [u8], is_rest_of_too_long: bool, room: Vec<Event<'a>>) -> DecodedChunk<'a> {
        let mut run = DecodedChunk { events: room, ..DecodedChunk::default() };
        if is_rest_of_too_long {
            let len = memchr::memchr(b'\n', lines).map_or(lines.len(), |newline| newline + 1);
            lines = &lines[len..];
            run.lines = 1;
            run.malformed.push((1, Malformed::TooLong(EVENT_BYTES_MAX)));
        }
        while !lines.is_empty() {
            let len = memchr::memchr(b'\n', lines).unwrap_or(lines.len());
            run.lines += 1;
            envelope::line(&lines[..len], |event| run.take(event));
            lines = &lines[(len + 1).min(lines.len())..];
        }
        run
    }

    /// Returns the allocation of the events, for the next chunk.
    pub fn into_room(mut self) -> Vec<Event<'static>> {
        self.events.clear();
        // `map_while` yields nothing, and `collect` reuses the allocation. This changes the lifetime without unsafe
        // code.
        self.events.into_iter().map_while(|_| None).collect()
    }

    #[inline]
    fn take(&mut self, decoded: Result<Decoded<'a>, Malformed>) {
        match decoded {
            Ok(Decoded::Unfinished) => self.unfinished += 1,
            Ok(Decoded::Read(_)) => self.reads += 1,
            Ok(Decoded::Event(event)) => self.events.push(event),
            Err(malformed) => self.malformed.push((self.lines, malformed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_used_again() {
        let line = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/","verb":"patch"}"#;
        let run = DecodedChunk::of(line, false, Vec::with_capacity(100));
        assert_eq!((run.events.len(), run.lines), (1, 1));
        let room = run.into_room();
        assert_eq!(room.len(), 0);
        assert!(room.capacity() >= 100, "{}", room.capacity());
    }
}
