//! Finds the times of events without decoding them.
//!
//! Only the `stageTimestamp` of the event itself counts. Anyone may have written a timestamp inside of a body or an
//! annotation.

use super::envelope::native::{behind_node_name, is_list, list_items};
use super::event::{Micros, parse_timestamp};
use super::json_scan::{member, skip_space, skip_value};

/// Maximum number of lines that are searched for a time, from the start or the end.
const LINES_TRIED: usize = 8;
/// If events follow each other closely, only one event time per this number of bytes is parsed.
const STRIDE: usize = 64 << 10;

/// Samples the times of events in their order, close enough together to notice a gap.
#[derive(Debug, Default)]
pub struct TimeSamples<'a> {
    times: Vec<Micros>,
    /// Bytes since the last event whose time was parsed.
    skipped: usize,
    /// The last event, if its time was not parsed.
    last: Option<&'a [u8]>,
}

// === impl TimeSamples ===

impl<'a> TimeSamples<'a> {
    /// Samples the times in a block of whole lines.
    pub fn of_lines(lines: &'a [u8]) -> TimeSamples<'a> {
        let mut marks = TimeSamples::default();
        let line_from = |at: usize| {
            let end = memchr::memchr(b'\n', &lines[at..]).map_or(lines.len(), |newline| at + newline);
            (&lines[at..end], end + 1)
        };
        let mut at = 0;
        while at < lines.len() {
            let (line, end) = line_from(at);
            marks.times.extend(last(line));
            at = end.max(at + STRIDE);
            // Skip to the beginning of the next line.
            at = lines.get(at..).and_then(|rest| memchr::memchr(b'\n', rest)).map_or(lines.len(), |n| at + n + 1);
        }
        marks.times.extend(last(lines));
        marks
    }

    /// Adds the next event.
    pub fn see(&mut self, event: &'a [u8]) {
        self.skipped += event.len();
        if self.times.is_empty() || self.skipped >= STRIDE {
            (self.skipped, self.last) = (0, None);
            self.times.extend(of_event(event));
        } else {
            self.last = Some(event);
        }
    }

    /// Returns the parsed times in the order of the events: those of the first, the last, and some between.
    pub fn times(mut self) -> Vec<Micros> {
        self.times.extend(self.last.and_then(of_event));
        self.times
    }
}

/// Returns the time of one event.
pub fn of_event(event: &[u8]) -> Option<Micros> {
    let text = member(event, "stageTimestamp")?.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    parse_timestamp(std::str::from_utf8(text).ok()?)
}

/// Returns the time of the first event in a log, or in a part of a log that starts at a line.
pub fn first(log: &[u8]) -> Option<Micros> {
    let mut rest = log;
    for _ in 0..LINES_TRIED {
        // Searches the rest of the log, not just the line, since a pretty-printed event spans several lines.
        let found = elements(rest).next();
        if let Some(at) = found.and_then(of_event) {
            return Some(at);
        }
        rest = &rest[memchr::memchr(b'\n', rest)? + 1..];
    }
    None
}

/// Returns the time of the last event in these lines. Also `None` for the end of a multi-line document.
pub fn last(lines: &[u8]) -> Option<Micros> {
    last_times(lines).next()
}

/// Returns the latest time near the end of these lines that has another time at most `apart` before it, so that a
/// single wrong time is ignored. If all times are further apart, returns the time of the last event.
pub fn end(lines: &[u8], apart: Micros) -> Option<Micros> {
    let mut times: Vec<Micros> = last_times(lines).collect();
    let last = times.first().copied();
    times.sort_unstable_by(|a, b| b.cmp(a));
    times.windows(2).find(|pair| pair[0] - pair[1] <= apart).map(|pair| pair[0]).or(last)
}

/// Returns the times of the last events of each of the last lines, in reverse order of the lines.
fn last_times(lines: &[u8]) -> impl Iterator<Item = Micros> {
    let mut rest = Some(lines);
    let from_last = std::iter::from_fn(move || {
        let lines = rest?;
        let newline = memchr::memrchr(b'\n', lines);
        rest = newline.map(|newline| &lines[..newline]);
        Some(&lines[newline.map_or(0, |newline| newline + 1)..])
    });
    from_last.take(LINES_TRIED).filter_map(|line| elements(line).filter_map(of_event).last())
}

/// Returns the times of all events in these lines.
pub fn all(lines: &[u8]) -> impl Iterator<Item = Micros> {
    lines.split(|b| *b == b'\n').flat_map(|line| elements(line).filter_map(of_event))
}

/// Returns the events at the start of `bytes`: the event itself, the items of a list, or the elements of an array,
/// optionally after a node name prefix.
fn elements(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bytes = &bytes[skip_space(bytes, 0)..];
    let json = if matches!(bytes.first(), Some(b'{' | b'[')) { bytes } else { behind_node_name(bytes).unwrap_or(b"") };
    let open = match json.first() {
        Some(b'[') => Some(0),
        Some(b'{') if is_list(json) => list_items(json),
        _ => None,
    };
    let mut next = match (open, json) {
        (Some(open), _) => Some(open + 1),
        (None, b"") => None,
        (None, _) => Some(0),
    };
    std::iter::from_fn(move || {
        let at = skip_space(json, next?);
        if open.is_none() {
            next = None;
            return Some(json);
        }
        let end = skip_value(json, at);
        next = end.map(|end| skip_space(json, end)).filter(|at| json.get(*at) == Some(&b',')).map(|at| at + 1);
        // A truncated event may still contain its time.
        (json.get(at) == Some(&b'{')).then(|| &json[at..end.unwrap_or(json.len())])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(second: u32) -> String {
        let body = r#"{"metadata":{"annotations":{"stageTimestamp":"2300-01-01T00:00:00Z"}}}"#;
        format!(
            r#"{{"kind":"Event","verb":"get","responseObject":{body},"stageTimestamp":"2026-11-23T00:00:{second:02}.000000Z","annotations":{{"stageTimestamp":"2300-01-01T00:00:00Z"}}}}"#
        )
    }

    fn seconds(at: impl IntoIterator<Item = Micros>) -> Vec<Micros> {
        at.into_iter().map(|at| (at / 1_000_000) % 60).collect()
    }

    #[test]
    fn timestamps_inside_bodies_and_annotations_are_ignored() {
        assert_eq!(seconds(of_event(event(7).as_bytes())), [7]);
        assert_eq!(of_event(br#"{"requestObject":{"stageTimestamp":"2300-01-01T00:00:00Z"}}"#), None);
        let cut = &event(7).into_bytes()[..150];
        assert_eq!(of_event(cut), None, "cut inside of the body");
        assert_eq!((first(cut), last(cut)), (None, None));
    }

    #[test]
    fn one_wrong_time_does_not_set_the_end_of_a_log() {
        let wrong = event(9).replace("2026-11-23", "2027-01-01");
        let log = [event(1), event(2), wrong].join("\n");
        assert_eq!(seconds(end(log.as_bytes(), 60_000_000)), [2]);
        assert_eq!(seconds(end(event(3).as_bytes(), 60_000_000)), [3]);
        let slow = [event(1), event(1).replace("T00:00", "T01:00"), event(4).replace("T00:00", "T02:00")].join("\n");
        assert_eq!(seconds(end(slow.as_bytes(), 60_000_000)), [4], "all are far apart");
    }

    #[test]
    fn first_last_and_all_times_are_found_in_every_envelope() {
        let (a, b, c) = (event(1), event(2), event(3));
        for log in [
            format!("{a}\n{b}\n{c}\n"),
            format!("node-1 {a}\nnode-1 {b}\r\nnode-1 {c}"),
            format!(r#"{{"kind":"EventList","items":[{a}, {b},{c}]}}"#),
            format!(r#"{{"items":[{a},{b},{c}],"kind":"EventList"}}"#),
            format!("[{a},{b}]\n[{c}]\n"),
            format!("no event\n{a}\n{b}\n{c}\n\n{{}}\n"),
        ] {
            let log = log.as_bytes();
            assert_eq!(seconds(first(log)), [1], "{}", String::from_utf8_lossy(log));
            assert_eq!(seconds(last(log)), [3], "{}", String::from_utf8_lossy(log));
            assert_eq!(seconds(all(log)), [1, 2, 3], "{}", String::from_utf8_lossy(log));
        }
        assert_eq!((first(b""), last(b""), all(b"").count()), (None, None, 0));
        assert_eq!((first(b"\n\n"), last(b"{"), all(b"[").count()), (None, None, 0));
    }
}
