//! What verdicts are based on: which sources were seen, for which time, and where nothing was. "No war" differs from
//! "not looking".

use std::collections::BTreeMap;

use crate::audit::envelope;
use crate::audit::event::Micros;

/// Time without any event, of reads neither, that is a gap: even an idle cluster renews its leases every few seconds.
pub const GAP_MIN: Micros = 120_000_000;
/// Bytes between two looks at the time, where events follow each other closely.
const STRIDE: usize = 64 << 10;
/// Spans and sources that are told apart.
const SPANS_MAX: usize = 256;
const SOURCES_MAX: usize = 256;

/// The times that were seen, by source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage {
    sources: BTreeMap<String, Spans>,
}

/// Times without a gap, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spans(Vec<(Micros, Micros)>);

// === impl Coverage ===

impl Coverage {
    /// Notes the times of the events in these bytes.
    pub fn reached(&mut self, source: &str, bytes: &[u8]) {
        let (Some(first), Some(last)) = (envelope::first_time(bytes), envelope::last_time(bytes)) else { return };
        if !self.sources.contains_key(source) && self.sources.len() >= SOURCES_MAX {
            return;
        }
        let spans = self.sources.entry(source.to_owned()).or_default();
        let mut from = first;
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + STRIDE).min(bytes.len());
            let next = envelope::first_time(&bytes[end..]).unwrap_or(last);
            if next - from > GAP_MIN {
                // Somewhere between these two looks nothing happened for long: look at every event.
                envelope::times(&bytes[at..]).take_while(|at| *at <= next).for_each(|at| spans.add(at, at));
            } else {
                spans.add(from, next);
            }
            (from, at) = (next, end);
        }
        spans.add(last, last);
    }

    /// Adds what another one saw.
    pub fn add(&mut self, other: &Coverage) {
        for (source, spans) in &other.sources {
            if self.sources.contains_key(source) || self.sources.len() < SOURCES_MAX {
                let mine = self.sources.entry(source.clone()).or_default();
                spans.0.iter().for_each(|(from, to)| mine.add(*from, *to));
            }
        }
    }

    /// The sources, and what was seen of each.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &Spans)> {
        self.sources.iter().map(|(source, spans)| (source.as_str(), spans))
    }

    /// All sources together.
    pub fn all(&self) -> Spans {
        let mut all = Spans::default();
        for spans in self.sources.values() {
            spans.0.iter().for_each(|(from, to)| all.add(*from, *to));
        }
        all
    }
}

// === impl Spans ===

impl Spans {
    /// Adds a time in which events were seen.
    pub fn add(&mut self, from: Micros, to: Micros) {
        let (from, to) = (from.min(to), from.max(to));
        let begin = self.0.partition_point(|(_, end)| *end + GAP_MIN < from);
        let end = self.0.partition_point(|(start, _)| *start <= to + GAP_MIN);
        let joined = self.0[begin..end].iter().fold((from, to), |(a, b), (c, d)| (a.min(*c), b.max(*d)));
        self.0.splice(begin..end, [joined]);
        if self.0.len() > SPANS_MAX {
            // The two nearest become one: a gap less is told.
            let gap = |i: &usize| self.0[i + 1].0 - self.0[*i].1;
            if let Some(i) = (0..self.0.len() - 1).min_by_key(gap) {
                self.0[i].1 = self.0[i + 1].1;
                self.0.remove(i + 1);
            }
        }
    }

    /// The first and the last time.
    pub fn ends(&self) -> Option<(Micros, Micros)> {
        Some((self.0.first()?.0, self.0.last()?.1))
    }

    /// The times between them in which nothing was seen.
    pub fn gaps(&self) -> impl Iterator<Item = (Micros, Micros)> {
        self.0.windows(2).map(|pair| (pair[0].1, pair[1].0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Micros = 60_000_000;

    fn line(minute: i64) -> String {
        let time = jiff::Timestamp::from_microsecond(1_795_400_000_000_000 + minute * MINUTE).unwrap();
        format!("{{\"verb\":\"get\",\"x\":\"{}\",\"stageTimestamp\":\"{time:.6}\"}}\n", "x".repeat(500))
    }

    fn gaps(spans: &Spans) -> Vec<(i64, i64)> {
        let minute = |at: Micros| (at - 1_795_400_000_000_000) / MINUTE;
        spans.gaps().map(|(from, to)| (minute(from), minute(to))).collect()
    }

    #[test]
    fn gaps_are_found_within_and_between_chunks() {
        let minutes = (0..300).filter(|m| !(10..16).contains(m) && !(200..230).contains(m));
        let log: String = minutes.map(line).collect();
        let mut whole = Coverage::default();
        whole.reached("a", log.as_bytes());
        assert_eq!(gaps(&whole.all()), [(9, 16), (199, 230)]);

        let mut parts = Coverage::default();
        let lines: Vec<&str> = log.split_inclusive('\n').collect();
        for chunk in lines.rchunks(7) {
            parts.reached("a", chunk.concat().as_bytes());
        }
        assert_eq!(gaps(&parts.all()), gaps(&whole.all()), "in whatever order they come");
    }

    #[test]
    fn one_source_fills_the_gap_of_another_but_not_its_own() {
        let mut coverage = Coverage::default();
        coverage.reached("a", [line(0), line(30)].concat().as_bytes());
        coverage.reached("b", (0..=30).map(line).collect::<String>().as_bytes());
        assert!(gaps(&coverage.all()).is_empty());
        let of_a = coverage.sources().find(|(name, _)| *name == "a").unwrap().1;
        assert_eq!(gaps(of_a), [(0, 30)]);
    }

    #[test]
    fn spans_are_bounded() {
        let mut spans = Spans::default();
        (0..10_000).for_each(|i| spans.add(i * 10 * MINUTE, i * 10 * MINUTE));
        assert!(spans.0.len() <= SPANS_MAX);
        assert_eq!(spans.ends(), Some((0, 9_999 * 10 * MINUTE)));
    }
}
