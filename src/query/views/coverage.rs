//! What an answer is based on: sources, times, gaps, audit levels and counts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{time, time_option};
use crate::audit::event::Micros;
use crate::pipeline::coverage;
use crate::pipeline::stats::{Counters, Stats};

/// The times and sources that an answer is based on, and their audit levels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Files, or addresses of API servers.
    pub sources: Vec<SourceView>,
    /// The time of the first event of any source.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub first: Option<Micros>,
    /// The time of the last event of any source.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub last: Option<Micros>,
    /// Times in which no source has any event.
    pub gaps: Vec<Gap>,
    /// Requests for writes by audit level.
    pub levels: Levels,
    /// Requests whose bodies kube-apiserver truncated, although their level includes bodies.
    pub truncated: u64,
    /// Sources with writes whose times are implausible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrong_clocks: Vec<WrongClock>,
}

/// A source with writes whose times are implausible. Live, such a write counts with its time of arrival; in a log, with
/// the latest time before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WrongClock {
    /// A file, or the address of an API server.
    pub source: String,
    /// Writes dated further in the future than clocks may differ (`bounds.max_clock_skew`).
    pub future: u64,
    /// Writes older than what is kept (`journal.retention`), in a cluster with more recent events.
    pub long_ago: u64,
}

/// The events of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceView {
    /// A file, or the address of an API server, with the cluster's name before it.
    pub source: String,
    /// The time of its first event.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub first: Micros,
    /// The time of its last event.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub last: Micros,
    /// Times in which it has no event.
    pub gaps: Vec<Gap>,
}

/// A time without events. Reads count as events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// The time of the last event before it.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub from: Micros,
    /// The time of the first event after it.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub to: Micros,
}

/// Requests for writes by audit level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Levels {
    /// Events without bodies: fields are not known.
    pub metadata: u64,
    /// Events with the body of the request: the requested fields are known.
    pub request: u64,
    /// Events with both bodies: the changes are known.
    pub request_response: u64,
}

/// Counts, and the time that they cover.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatsView {
    /// Counts of events and requests.
    #[serde(flatten)]
    pub counters: Counters,
    /// The time of the first write.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub first: Option<Micros>,
    /// The time of the last write.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub last: Option<Micros>,
}

// === impl StatsView ===

impl From<&Stats> for StatsView {
    fn from(stats: &Stats) -> StatsView {
        StatsView { counters: stats.counters, first: stats.span.map(|s| s.0), last: stats.span.map(|s| s.1) }
    }
}

// === impl Coverage ===

impl From<&Stats> for Coverage {
    fn from(stats: &Stats) -> Coverage {
        let gaps = |spans: &coverage::Spans| spans.gaps().map(|(from, to)| Gap { from, to }).collect();
        let source = |(name, spans): (&str, &coverage::Spans)| {
            let (first, last) = spans.ends()?;
            Some(SourceView { source: name.to_owned(), first, last, gaps: gaps(spans) })
        };
        let wrong_clock = |(source, doubts): (&str, coverage::Doubts)| WrongClock {
            source: source.to_owned(),
            future: doubts.future,
            long_ago: doubts.long_ago,
        };
        let all = stats.coverage.all();
        let [metadata, request, request_response] = stats.levels;
        Coverage {
            sources: stats.coverage.sources().filter_map(source).collect(),
            first: all.ends().map(|(first, _)| first),
            last: all.ends().map(|(_, last)| last),
            gaps: gaps(&all),
            levels: Levels { metadata, request, request_response },
            truncated: stats.truncated,
            wrong_clocks: stats.coverage.doubts().map(wrong_clock).collect(),
        }
    }
}
