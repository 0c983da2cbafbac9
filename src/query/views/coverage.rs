//! What an answer is based on: sources, times, gaps, audit levels and counts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{time, time_option};
use crate::audit::event::Micros;
use crate::pipeline::feed::Feed;
use crate::pipeline::stats::{Counters, Stats};
use crate::pipeline::{TimeRange, coverage};

/// Time without events after which a server reports a problem. Reads count as events, and the components of a cluster
/// renew Leases every few seconds, so only a log without reads and Leases is silent for that long.
const STALE_AFTER: Micros = 5 * 60 * 1_000_000;
/// Time in microseconds without events after which a source is believed to be gone for good, as when a control plane node is replaced.
pub const GONE_AFTER: Micros = 24 * 3600 * 1_000_000;

/// The times and sources that an answer is based on, and their audit levels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Reasons why the answer may miss a war, such as an input that was cut off. Empty if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
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
    /// Sources whose events arrived in another format than kube-apiserver's own, or lost something on their way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feeds: Vec<FeedView>,
    /// When a watch last missed revisions. It becomes a problem of the answer.
    #[serde(skip)]
    pub missed: Option<Micros>,
}

/// A reason why an answer may miss a war.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What is wrong.
    pub kind: ProblemKind,
    /// What is wrong and, if it is known, what to do about it.
    pub message: String,
}

/// What is wrong with the data that an answer is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// No object or actor matches the filter.
    NoMatch,
    /// No event is within the time range.
    NoEvents,
    /// The first event is later than the beginning of the time range.
    LateStart,
    /// An input could not be read to its end, or a watch has missed revisions.
    IncompleteInput,
    /// Some events could not be read.
    SkippedEvents,
    /// No event has arrived for a while.
    StaleEvents,
    /// One source has sent no event for a while, although others have.
    SilentSource,
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

/// How the events of one source arrived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FeedView {
    /// A file, or the address that sends events.
    pub source: String,
    /// Number of events by format, such as `Firehose > CloudWatch`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub formats: BTreeMap<String, u64>,
    /// Log entries about something else than requests.
    pub other: u64,
    /// What to know about answers from this source, as sentences.
    pub caveats: Vec<String>,
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
    /// Writes that a watch showed: field managers stand for the accounts, and values are known of contested objects.
    #[serde(default)]
    pub watched: u64,
    /// Writes that are counted twice above, because an audit event shows the account, and a watch the fields.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub joined: u64,
    /// Writes that only an admission webhook showed: their fields are known, but not whether they were stored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reviewed: u64,
    /// Writes that are counted above and have no body, but whose fields an admission webhook showed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fields_reviewed: u64,
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

// === impl ProblemKind ===

impl ProblemKind {
    /// Whether the input is missing or incomplete, so that an answer without wars does not mean that there are none.
    pub fn is_blocking(self) -> bool {
        matches!(self, ProblemKind::NoMatch | ProblemKind::NoEvents | ProblemKind::IncompleteInput)
    }

    /// Returns the word before the message.
    pub fn title(self) -> &'static str {
        match self {
            ProblemKind::NoMatch | ProblemKind::NoEvents => "Nothing was checked",
            ProblemKind::LateStart
            | ProblemKind::IncompleteInput
            | ProblemKind::SkippedEvents
            | ProblemKind::SilentSource => "Incomplete",
            ProblemKind::StaleEvents => "Out of date",
        }
    }
}

// === impl StatsView ===

impl From<&Stats> for StatsView {
    fn from(stats: &Stats) -> StatsView {
        StatsView { counters: stats.counters, first: stats.span.map(|s| s.0), last: stats.span.map(|s| s.1) }
    }
}

// === impl Coverage ===

impl Coverage {
    /// Adds a problem.
    pub fn add_problem(&mut self, kind: ProblemKind, message: String) {
        self.problems.push(Problem { kind, message });
    }

    /// Adds a problem if no event is within a range of times.
    pub(crate) fn within(mut self, range: TimeRange) -> Coverage {
        let (Some(first), Some(last)) = (self.first, self.last) else { return self };
        if last < range.since || first >= range.until {
            let (first, last) = (time::text(first), time::text(last));
            let message = format!("no event is within the given times; the events are from {first} to {last}");
            self.add_problem(ProblemKind::NoEvents, message);
        }
        self
    }

    /// Adds a problem if the events begin after `since`.
    pub(in crate::query) fn starts_by(&mut self, since: Micros) {
        if let Some(first) = self.first.filter(|first| *first > since) {
            let message = format!("no event is known from before {}", time::text(first));
            self.add_problem(ProblemKind::LateStart, message);
        }
    }

    /// Adds the problems of a server that receives events as they happen, as of `now`.
    pub(in crate::query) fn live(mut self, now: Micros) -> Coverage {
        let Some(last) = self.last else {
            let message = "no audit event has arrived yet; to find out why, run: editwar doctor".to_owned();
            self.add_problem(ProblemKind::NoEvents, message);
            return self;
        };
        if now.saturating_sub(last) > STALE_AFTER {
            let message = format!("no audit event since {}; to find out why, run: editwar doctor", time::text(last));
            self.add_problem(ProblemKind::StaleEvents, message);
        }
        if let Some(at) = self.missed.filter(|at| now.saturating_sub(*at) < GONE_AFTER) {
            let message = format!(
                "a watch was interrupted until {}, and the API server no longer had all revisions: writes may be missing",
                time::text(at)
            );
            self.add_problem(ProblemKind::IncompleteInput, message);
        }
        let silent =
            self.sources.iter().filter(|source| (STALE_AFTER..GONE_AFTER).contains(&last.saturating_sub(source.last)));
        let messages: Vec<String> = silent
            .map(|source| {
                format!(
                    "no audit event from {} since {}, although there are others",
                    source.source,
                    time::text(source.last)
                )
            })
            .collect();
        messages.into_iter().for_each(|message| self.add_problem(ProblemKind::SilentSource, message));
        self
    }

    /// Returns the sources without events for a while as of `now`, except for those that are gone for good.
    pub(in crate::query) fn late(&self, now: Micros) -> impl Iterator<Item = String> + '_ {
        let is_late = move |source: &&SourceView| (STALE_AFTER..GONE_AFTER).contains(&now.saturating_sub(source.last));
        let all_are_gone = self.last.is_some_and(|last| now.saturating_sub(last) >= GONE_AFTER);
        self.sources.iter().filter(move |source| all_are_gone || is_late(source)).map(|source| source.source.clone())
    }

    /// Whether the input is missing or incomplete, so that an answer without wars does not mean that there are none.
    pub fn is_incomplete(&self) -> bool {
        self.problems.iter().any(|problem| problem.kind.is_blocking())
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

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
        let feed = |(source, feed): (&String, &Feed)| FeedView {
            source: source.clone(),
            formats: feed.notes.formats.clone(),
            other: feed.notes.other,
            caveats: feed.caveats(),
        };
        let all = stats.coverage.all();
        let [metadata, request, request_response] = stats.levels;
        Coverage {
            problems: Vec::new(),
            missed: stats.missed,
            sources: stats.coverage.sources().filter_map(source).collect(),
            first: all.ends().map(|(first, _)| first),
            last: all.ends().map(|(_, last)| last),
            gaps: gaps(&all),
            levels: Levels {
                metadata,
                request,
                request_response,
                watched: stats.watched,
                joined: stats.joined,
                reviewed: stats.feeds.values().map(Feed::unconfirmed).sum(),
                fields_reviewed: stats.fields_reviewed,
            },
            truncated: stats.truncated,
            feeds: stats.feeds.iter().map(feed).collect(),
            wrong_clocks: stats.coverage.doubts().map(wrong_clock).collect(),
        }
    }
}
