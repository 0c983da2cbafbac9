//! Counters: what was processed, and what was left out for which reason.

use std::collections::BTreeMap;

use super::coverage::Coverage;
use super::feed::Feed;
use crate::audit::envelope::Notes;
use crate::audit::event::{Event, Level, Micros};
use crate::detect::write::NotAWrite;

/// Counts of events and requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Counters {
    /// Audit events of all stages.
    pub events: u64,
    /// Completed requests, each counted once.
    pub requests: u64,
    /// Requests that changed an object.
    pub writes: u64,
    /// Requests that cannot write.
    pub reads: u64,
    /// Server-side dry-runs.
    pub dry_runs: u64,
    /// Requests that succeeded but changed nothing.
    pub no_ops: u64,
    /// Requests that changed nothing because they were rejected.
    pub failed: u64,
    /// Connect requests, reviews, collection requests and non-resource requests.
    pub others: u64,
    /// Requests about objects that the configuration excludes, or outside the given time range.
    pub ignored: u64,
    /// Requests that had been delivered before.
    pub duplicates: u64,
    /// Lines or items that are not audit events.
    pub malformed: u64,
    /// Writes whose bodies could not be parsed.
    pub unreadable: u64,
    /// Objects that are tracked.
    pub objects: u64,
    /// Objects that were evicted to limit memory.
    pub evicted: u64,
}

/// [`Counters`], with the evidence they are based on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Counts.
    pub counters: Counters,
    /// Number of writes by audit level: Metadata, Request, RequestResponse.
    pub levels: [u64; 3],
    /// Writes that are known from a watch.
    pub watched: u64,
    /// Revisions of a watch whose account is known from an audit event.
    pub joined: u64,
    /// Writes whose fields are known from an admission webhook, and whose outcome is known from the audit log.
    pub fields_reviewed: u64,
    /// When a watch last missed revisions.
    pub missed: Option<Micros>,
    /// The times from which events were received, by source.
    pub coverage: Coverage,
    /// Writes whose event contains no body although its audit level promises one: kube-apiserver truncated them.
    pub truncated: u64,
    /// Times of the first and the last write.
    pub span: Option<(Micros, Micros)>,
    /// Malformed events by reason.
    pub malformed: BTreeMap<&'static str, Malformed>,
    /// How events arrived, by source. Only sources of which there is something to tell.
    pub feeds: BTreeMap<String, Feed>,
}

/// Maximum number of sources whose way of arrival is kept.
const FEEDS_MAX: usize = 256;
/// The reason for JSON of no known format.
const UNKNOWN_FORMAT: &str = "unknown_format";

/// Events that cannot be read, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Number of events.
    pub count: u64,
    /// The source of the first of them.
    pub source: String,
    /// The position of the first of them in its source: the number of the line, or of the event in an EventList.
    pub position: u64,
    /// Keys of the first of them, if it is JSON of no known format.
    pub keys: String,
}

// === impl Stats ===

impl Stats {
    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Stats) {
        let (sum, add) = (&mut self.counters, &other.counters);
        sum.events += add.events;
        sum.requests += add.requests;
        sum.writes += add.writes;
        sum.reads += add.reads;
        sum.dry_runs += add.dry_runs;
        sum.no_ops += add.no_ops;
        sum.failed += add.failed;
        sum.others += add.others;
        sum.ignored += add.ignored;
        sum.duplicates += add.duplicates;
        sum.malformed += add.malformed;
        sum.unreadable += add.unreadable;
        self.watched += other.watched;
        self.joined += other.joined;
        self.fields_reviewed += other.fields_reviewed;
        self.missed = self.missed.max(other.missed);
        for (sum, add) in self.levels.iter_mut().zip(other.levels) {
            *sum += add;
        }
        self.coverage.add(&other.coverage);
        self.truncated += other.truncated;
        if let Some((first, last)) = other.span {
            self.span(first);
            self.span(last);
        }
        for (reason, malformed) in &other.malformed {
            self.add_malformed(reason, malformed.clone());
        }
        for (source, feed) in &other.feeds {
            if let Some(mine) = self.feed(source) {
                mine.add(feed);
            }
        }
    }

    /// Adds what a converter found besides events.
    pub(super) fn notes(&mut self, notes: &Notes, source: &str) {
        if notes.unknown > 0 {
            self.counters.malformed += notes.unknown;
            let (position, keys) =
                notes.sample.as_ref().map_or((0, String::new()), |sample| (sample.line, sample.keys.clone()));
            let malformed = Malformed { count: notes.unknown, source: source.to_owned(), position, keys };
            self.add_malformed(UNKNOWN_FORMAT, malformed);
        }
        if let Some(feed) = self.feed(source) {
            feed.notes(notes);
        }
    }

    /// Records a write of which only a review is known.
    pub(super) fn unconfirmed(&mut self, source: &str) {
        if let Some(feed) = self.feed(source) {
            feed.reviewed += 1;
        }
    }

    /// Records that the audit event of such a write is known now.
    pub(super) fn confirmed(&mut self, source: &str) {
        if let Some(feed) = self.feed(source) {
            feed.confirmed += 1;
        }
    }

    fn feed(&mut self, source: &str) -> Option<&mut Feed> {
        if !self.feeds.contains_key(source) {
            if self.feeds.len() >= FEEDS_MAX {
                return None;
            }
            self.feeds.insert(source.to_owned(), Feed::default());
        }
        self.feeds.get_mut(source)
    }

    pub(super) fn malformed(&mut self, reason: &'static str, count: u64, source: &str, position: u64) {
        self.counters.malformed += count;
        self.add_malformed(reason, Malformed { count, source: source.to_owned(), position, keys: String::new() });
    }

    fn add_malformed(&mut self, reason: &'static str, malformed: Malformed) {
        let count = malformed.count;
        self.malformed.entry(reason).or_insert(Malformed { count: 0, ..malformed }).count += count;
    }

    pub(super) fn not_a_write(&mut self, why: NotAWrite) {
        match why {
            NotAWrite::DryRun => self.counters.dry_runs += 1,
            _ => self.counters.others += 1,
        }
    }

    pub(super) fn level(&mut self, event: &Event<'_>, source: &str) {
        // Most events have no annotations.
        if !event.annotations.is_empty()
            && Feed::concerns(event)
            && let Some(feed) = self.feed(source)
        {
            feed.record(event);
        }
        if event.is_reviewed() {
            return;
        }
        if event.is_watched() {
            // Without an author, it only shows that there was a write.
            self.watched += u64::from(!event.username.is_empty());
            return;
        }
        let index = match event.level {
            Level::Metadata => 0,
            Level::Request => 1,
            Level::RequestResponse => 2,
        };
        self.levels[index] += 1;
        self.truncated += u64::from(event.annotation("audit.k8s.io/truncated").is_some());
    }

    pub(super) fn span(&mut self, at: Micros) {
        let (first, last) = self.span.unwrap_or((at, at));
        self.span = Some((first.min(at), last.max(at)));
    }
}
