//! A run of lines and what they are: what one thread decodes while another one observes.

use super::decode::{Decoded, Malformed};
use super::envelope::{self, EVENT_BYTES_MAX};
use super::event::Event;

/// Lines, decoded. Places count from the first line, which is 1.
#[derive(Debug, Default)]
pub struct Run<'a> {
    /// Ends of mutating requests, in order.
    pub events: Vec<Event<'a>>,
    /// Lines that are no events.
    pub malformed: Vec<(u64, Malformed)>,
    /// Events that do not end their request.
    pub unfinished: u64,
    /// Ends of reads.
    pub reads: u64,
    /// How many lines there are.
    pub lines: u64,
}

// === impl Run ===

impl<'a> Run<'a> {
    /// Decodes lines. The first one may be the rest of a line that is longer than any event. `room` is where the events go:
    /// to let it grow anew for each run costs as much as decoding.
    pub fn of(mut lines: &'a [u8], is_rest_of_too_long: bool, room: Vec<Event<'a>>) -> Run<'a> {
        let mut run = Run { events: room, ..Run::default() };
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

    /// The room of its events, for the next run.
    pub fn into_room(mut self) -> Vec<Event<'static>> {
        self.events.clear();
        // Collects nothing into the same memory: this is how the lifetime is changed.
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
        let run = Run::of(line, false, Vec::with_capacity(100));
        assert_eq!((run.events.len(), run.lines), (1, 1));
        let room = run.into_room();
        assert_eq!(room.len(), 0);
        assert!(room.capacity() >= 100, "{}", room.capacity());
    }
}
