//! How far the sources of a cluster have got: the API servers whose audit events arrive, and the watch.

use std::collections::BTreeMap;

use super::held::{AccountWrite, DISORDER, SECOND};
use crate::audit::event::Micros;

/// The source of a watch that runs. A recorded one is recognised by its events.
pub(super) const WATCH: &str = "watch";
/// Maximum time, in event time, that an event waits for the other feed. kube-apiserver sends a batch at least every 30
/// seconds by default.
pub(super) const WAIT_MAX: Micros = 60 * SECOND;
/// Time without any event of a watch after which it was interrupted. It shows every second that it is alive, a recorded one
/// every ten seconds.
const INTERRUPTED: Micros = 30 * SECOND;
/// Maximum number of sources whose times are tracked. An API server is one source.
const FEEDS_MAX: usize = 64;

/// The sources of a cluster.
#[derive(Debug, Default)]
pub(super) struct Feeds(BTreeMap<Box<str>, FeedClock>);

/// How far a source has got, and what it delivers. One file may have both.
#[derive(Clone, Copy, Debug)]
struct FeedClock {
    /// Since when there has been no long gap between its events.
    since: Micros,
    latest: Micros,
    has_revisions: bool,
    has_audit_events: bool,
    has_reviews: bool,
}

/// How far the feeds of a cluster have got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    audit: Option<Micros>,
    watch: Option<Micros>,
    /// Since when the watch has been connected.
    watched_since: Micros,
}

// === impl Feeds ===

impl Feeds {
    /// Records what a source delivers: revisions of a watch, or audit events.
    pub(super) fn record(&mut self, source: &str, at: Micros, is_revision: bool) {
        let feed = self.feed(source, at);
        feed.has_revisions |= is_revision;
        feed.has_audit_events |= !is_revision;
    }

    /// Records that a source delivers reviews of an admission webhook.
    pub(super) fn record_review(&mut self, source: &str, at: Micros) {
        self.feed(source, at).has_reviews = true;
    }

    /// Records that a source has delivered its events up to this time.
    pub(super) fn advance(&mut self, source: &str, at: Micros) {
        self.feed(source, at).advance(at);
    }

    /// Whether a source has delivered events.
    pub(super) fn contains(&self, source: &str) -> bool {
        self.0.contains_key(source)
    }

    /// Returns the latest time of all sources.
    pub(super) fn latest(&self) -> Option<Micros> {
        self.0.values().map(|feed| feed.latest).max()
    }

    /// Returns the clock of a source, and begins it at `at`. If there are too many, the one that is behind all others is
    /// forgotten.
    fn feed(&mut self, source: &str, at: Micros) -> &mut FeedClock {
        if !self.0.contains_key(source) && self.0.len() >= FEEDS_MAX {
            let oldest = self.0.iter().min_by_key(|(_, feed)| feed.latest).map(|(source, _)| source.clone());
            oldest.map(|oldest| self.0.remove(&oldest));
        }
        self.0.entry(source.into()).or_insert(FeedClock {
            since: at,
            latest: at,
            has_revisions: source == WATCH,
            has_audit_events: false,
            has_reviews: false,
        })
    }

    /// Returns the progress: of the slowest of the API servers that still send events, and of the watch.
    pub(super) fn progress(&self) -> Progress {
        let slowest = |is_it: fn(&&FeedClock) -> bool| {
            let feeds = self.0.values().filter(is_it);
            let newest = feeds.clone().map(|feed| feed.latest).max()?;
            feeds.filter(|feed| newest - feed.latest <= WAIT_MAX).min_by_key(|feed| feed.latest)
        };
        let audit = slowest(|feed| feed.has_audit_events || !(feed.has_revisions || feed.has_reviews));
        let watch = slowest(|feed| feed.has_revisions);
        Progress {
            audit: audit.map(|feed| feed.latest),
            watch: watch.map(|feed| feed.latest),
            watched_since: watch.map_or(i64::MAX, |feed| feed.since),
        }
    }
}

// === impl Progress ===

impl Progress {
    /// Returns the time up to which all API servers that still send events have sent them.
    pub(super) fn audit(self) -> Option<Micros> {
        self.audit
    }

    /// Whether both feeds have passed this time, or one is so far behind the other that nothing waits for it.
    pub(super) fn has_passed(self, at: Micros) -> bool {
        let (Some(audit), Some(watch)) = (self.audit, self.watch) else { return true };
        audit.min(watch) >= at || audit.max(watch) >= at.saturating_add(WAIT_MAX)
    }

    /// Whether the watch was connected during a request: from its arrival until its revision was certainly seen.
    pub(super) fn has_watched(self, account: &AccountWrite) -> bool {
        let from = self.watched_since.saturating_add(DISORDER);
        self.watch.is_some_and(|watch| (from..=watch).contains(&account.event.at) && account.due() <= watch)
    }

    /// Whether the watch is not behind the audit events.
    pub(super) fn is_watch_alive(self) -> bool {
        self.watch.is_some_and(|watch| self.audit.is_none_or(|audit| audit - watch <= WAIT_MAX))
    }

    /// Whether the audit events are not behind the watch.
    pub(super) fn is_audit_alive(self) -> bool {
        self.audit.is_some_and(|audit| self.watch.is_none_or(|watch| watch - audit <= WAIT_MAX))
    }
}

// === impl FeedClock ===

impl FeedClock {
    fn advance(&mut self, at: Micros) {
        if at.saturating_sub(self.latest) > INTERRUPTED {
            self.since = at;
        }
        self.latest = self.latest.max(at);
    }
}
