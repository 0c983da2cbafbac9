//! Coverage: which sources sent events, for which time, and with which gaps. It distinguishes "no war" from "no data".

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::clock::Implausible;
use crate::audit::event::Micros;

/// A time without any event (reads count as well) that is longer than this is a gap: even an idle cluster renews its
/// leases every few seconds.
pub(crate) const GAP_MIN: Micros = 120_000_000;
/// Maximum number of spans for each source, and of sources.
const SPANS_MAX: usize = 256;
const SOURCES_MAX: usize = 256;

/// The times from which events were received, by source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage {
    sources: BTreeMap<String, Spans>,
    doubts: BTreeMap<String, Doubts>,
}

/// Counts of writes of one source whose times are implausible. They count with their time of arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// Dated in the future.
    pub future: u64,
    /// Dated before everything that may still be delivered.
    pub long_ago: u64,
}

/// Sorted time ranges that contain no gap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spans(Vec<(Micros, Micros)>);

// === impl Coverage ===

impl Coverage {
    /// Records that events happened at these times and, if they are close together, between them. If two are far apart,
    /// `all` is called for the times of all events. Times that are not in `plausible` are left out.
    pub fn see(
        &mut self,
        source: &str,
        samples: &[Micros],
        plausible: RangeInclusive<Micros>,
        all: impl FnOnce() -> Vec<Micros>,
    ) {
        if !self.sources.contains_key(source) && self.sources.len() >= SOURCES_MAX {
            return;
        }
        let mut samples: Vec<Micros> = samples.iter().filter(|at| plausible.contains(at)).copied().collect();
        if samples.windows(2).any(|pair| (pair[1] - pair[0]).abs() > GAP_MIN) {
            // The events between these two may have a gap: parse the time of every event.
            samples = all();
            samples.retain(|at| plausible.contains(at));
        }
        let Some(mut from) = samples.first().copied() else { return };
        let spans = self.sources.entry(source.to_owned()).or_default();
        for at in samples {
            if (at - from).abs() > GAP_MIN {
                from = at;
            }
            spans.add(from, at);
            from = at;
        }
    }

    /// Counts a write of this source whose time is implausible.
    pub(super) fn doubt(&mut self, source: &str, wrong: Implausible) {
        self.add_doubts(
            source,
            match wrong {
                Implausible::Future => Doubts { future: 1, long_ago: 0 },
                Implausible::LongAgo => Doubts { future: 0, long_ago: 1 },
            },
        );
    }

    fn add_doubts(&mut self, source: &str, more: Doubts) {
        if !self.doubts.contains_key(source) && self.doubts.len() >= SOURCES_MAX {
            return;
        }
        let doubts = self.doubts.entry(source.to_owned()).or_default();
        doubts.future += more.future;
        doubts.long_ago += more.long_ago;
    }

    /// Returns the sources with implausible times.
    pub fn doubts(&self) -> impl Iterator<Item = (&str, Doubts)> {
        self.doubts.iter().map(|(source, doubts)| (source.as_str(), *doubts))
    }

    /// Returns the time up to which more than one source sent events: the latest end among the other sources that
    /// overlap with the source that ends last. Returns `None` if no other source overlaps. Rotated logs follow each
    /// other and do not overlap.
    pub fn end_but_one(&self) -> Option<Micros> {
        let ends = || self.sources.iter().filter_map(|(source, spans)| Some((source, spans.ends()?)));
        let (last, (begin, _)) = ends().max_by_key(|(_, (_, end))| *end)?;
        let others = ends().filter(|(source, (_, end))| *source != last && *end - begin > GAP_MIN);
        others.map(|(_, (_, end))| end).max()
    }

    /// Adds the coverage of `other`.
    pub fn add(&mut self, other: &Coverage) {
        other.doubts.iter().for_each(|(source, doubts)| self.add_doubts(source, *doubts));
        for (source, spans) in &other.sources {
            if self.sources.contains_key(source) || self.sources.len() < SOURCES_MAX {
                let mine = self.sources.entry(source.clone()).or_default();
                spans.0.iter().for_each(|(from, to)| mine.add(*from, *to));
            }
        }
    }

    /// Returns the spans of each source.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &Spans)> {
        self.sources.iter().map(|(source, spans)| (source.as_str(), spans))
    }

    /// Returns the spans of all sources together.
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
    /// Adds a time range that contains events.
    pub fn add(&mut self, from: Micros, to: Micros) {
        let (from, to) = (from.min(to), from.max(to));
        let begin = self.0.partition_point(|(_, end)| *end + GAP_MIN < from);
        let end = self.0.partition_point(|(start, _)| *start <= to + GAP_MIN);
        let joined = self.0[begin..end].iter().fold((from, to), |(a, b), (c, d)| (a.min(*c), b.max(*d)));
        self.0.splice(begin..end, [joined]);
        if self.0.len() > SPANS_MAX {
            // Join the two nearest spans, so that the shortest gap is no longer reported.
            let gap = |i: &usize| self.0[i + 1].0 - self.0[*i].1;
            if let Some(i) = (0..self.0.len() - 1).min_by_key(gap) {
                self.0[i].1 = self.0[i + 1].1;
                self.0.remove(i + 1);
            }
        }
    }

    /// Returns the first and the last time.
    pub fn ends(&self) -> Option<(Micros, Micros)> {
        Some((self.0.first()?.0, self.0.last()?.1))
    }

    /// Returns the gaps between the spans.
    pub fn gaps(&self) -> impl Iterator<Item = (Micros, Micros)> {
        self.0.windows(2).map(|pair| (pair[0].1, pair[1].0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::times::{self, TimeSamples};

    const MINUTE: Micros = 60_000_000;

    fn line(minute: i64) -> String {
        let time = jiff::Timestamp::from_microsecond(1_795_400_000_000_000 + minute * MINUTE).unwrap();
        format!("{{\"verb\":\"get\",\"x\":\"{}\",\"stageTimestamp\":\"{time:.6}\"}}\n", "x".repeat(500))
    }

    fn see(coverage: &mut Coverage, source: &str, lines: &str) {
        let lines = lines.as_bytes();
        coverage
            .see(source, &TimeSamples::of_lines(lines).times(), i64::MIN..=i64::MAX, || times::all(lines).collect());
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
        see(&mut whole, "a", &log);
        assert_eq!(gaps(&whole.all()), [(9, 16), (199, 230)]);

        let mut parts = Coverage::default();
        let lines: Vec<&str> = log.split_inclusive('\n').collect();
        for chunk in lines.rchunks(7) {
            see(&mut parts, "a", &chunk.concat());
        }
        assert_eq!(gaps(&parts.all()), gaps(&whole.all()), "chunks may arrive in any order");
    }

    #[test]
    fn one_source_fills_the_gap_of_another_but_not_its_own() {
        let mut coverage = Coverage::default();
        see(&mut coverage, "a", &[line(0), line(30)].concat());
        see(&mut coverage, "b", &(0..=30).map(line).collect::<String>());
        assert!(gaps(&coverage.all()).is_empty());
        let of_a = coverage.sources().find(|(name, _)| *name == "a").unwrap().1;
        assert_eq!(gaps(of_a), [(0, 30)]);
    }

    #[test]
    fn a_body_is_sampled_like_lines() {
        let lines: Vec<String> = (0..1000).map(|n| line(n / 20)).collect();
        let mut samples = TimeSamples::default();
        lines.iter().for_each(|line| samples.see(line.trim_end().as_bytes()));
        let (samples, log) = (samples.times(), lines.concat());
        assert_eq!(
            (samples.first(), samples.last()),
            (times::first(log.as_bytes()).as_ref(), times::last(log.as_bytes()).as_ref())
        );
        assert!((5..20).contains(&samples.len()), "{} samples of 600 kB", samples.len());
        let of_lines = TimeSamples::of_lines(log.as_bytes()).times();
        assert!((5..20).contains(&of_lines.len()), "{} samples of 600 kB", of_lines.len());
    }

    #[test]
    fn an_implausible_time_covers_nothing() {
        let mut coverage = Coverage::default();
        let now = 1_795_400_000_000_000 + 5 * MINUTE;
        let samples: Vec<Micros> = [0, 1, 3000, 2].map(|minute| 1_795_400_000_000_000 + minute * MINUTE).into();
        coverage.see("a", &samples, 0..=now, Vec::new);
        assert_eq!(coverage.all().ends(), Some((now - 5 * MINUTE, now - 3 * MINUTE)));
    }

    #[test]
    fn spans_are_bounded() {
        let mut spans = Spans::default();
        (0..10_000).for_each(|i| spans.add(i * 10 * MINUTE, i * 10 * MINUTE));
        assert!(spans.0.len() <= SPANS_MAX);
        assert_eq!(spans.ends(), Some((0, 9_999 * 10 * MINUTE)));
    }
}
