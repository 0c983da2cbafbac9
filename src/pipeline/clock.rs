//! The clock of a cluster: the time of its latest event, as far as that event's time is plausible.
//!
//! An event has the time that the API server, or the client that posted it, gave it, and this time may be wrong. An
//! implausible time does not advance the clock, and another time replaces it ([`Feed`]). So a wrong clock neither hides a
//! write nor ends a war.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::audit::event::Micros;
use crate::util::clock;
use crate::util::lock::lock;

/// Maximum number of clusters with a clock of their own. A webhook accepts 64; only a journal of many years has more.
const CLUSTERS_MAX: usize = 1024;

/// 2014-06-01. There was no Kubernetes before it.
const FIRST: Micros = 1_401_580_800_000_000;

/// How far the time of an event may differ from this machine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// How far it may be ahead.
    pub ahead: Micros,
    /// How far it may be behind, once the cluster has more recent events. No source delivers events that are older.
    pub behind: Micros,
}

/// Where events come from. This decides which time replaces an implausible one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Feed {
    /// Events arrive as they happen. The time of arrival replaces an implausible time.
    #[default]
    Live,
    /// Events were recorded earlier. The latest time before the event replaces an implausible time.
    Recorded,
}

/// The clocks of all clusters.
#[derive(Debug)]
pub(super) struct Clocks {
    by_cluster: Mutex<BTreeMap<Box<str>, Arc<Clock>>>,
    tolerance: Tolerance,
    feed: Feed,
    /// For recorded events: whether most of them are dated in the future. If so, this machine's clock is no reference
    /// for them.
    is_of_future: OnceLock<bool>,
}

/// The latest time of one cluster's events.
#[derive(Debug)]
pub(crate) struct Clock {
    latest: AtomicI64,
    /// When the latest event arrived, by this machine's clock.
    arrived: AtomicI64,
}

/// The range of event times that are plausible now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlausibleTimes {
    pub(super) from: Micros,
    pub(super) until: Micros,
    /// The time that replaces an implausible one.
    replacement: Micros,
}

/// Why the time of an event is implausible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Implausible {
    /// It is in the future.
    Future,
    /// It is before everything that may still be delivered, or before Kubernetes existed.
    LongAgo,
}

// === impl Tolerance ===

impl Default for Tolerance {
    /// Clocks that NTP keeps in sync differ by less than a second, others by minutes.
    fn default() -> Tolerance {
        Tolerance { ahead: 10 * 60 * 1_000_000, behind: 7 * 24 * 3600 * 1_000_000 }
    }
}

// === impl Clocks ===

impl Clocks {
    pub(super) fn new(tolerance: Tolerance, feed: Feed) -> Clocks {
        Clocks { by_cluster: Mutex::default(), tolerance, feed, is_of_future: OnceLock::new() }
    }

    pub(super) fn feed(&self) -> Feed {
        self.feed
    }

    pub(super) fn tolerance(&self) -> Tolerance {
        self.tolerance
    }

    /// Returns the same clocks with another kind of feed.
    pub(super) fn with_feed(self, feed: Feed) -> Clocks {
        Clocks { feed, ..self }
    }

    /// Decides from the first events of a record whether the record is dated in the future. If most of them are, the
    /// clock of the machine that wrote it differs from this one's; a single wrong time does not count.
    pub(super) fn detect_future_record(&self, times: impl Iterator<Item = Micros>) {
        if self.feed == Feed::Recorded && self.is_of_future.get().is_none() {
            let mut times: Vec<Micros> = times.collect();
            let middle = times.len() / 2;
            if !times.is_empty() {
                let (_, median, _) = times.select_nth_unstable(middle);
                let is_of_future = *median > clock::now().saturating_add(self.tolerance.ahead);
                self.is_of_future.get_or_init(|| is_of_future);
            }
        }
    }

    /// Returns the clock of a cluster, and creates it if necessary.
    pub(super) fn of(&self, cluster: &str) -> Arc<Clock> {
        let mut clocks = lock(&self.by_cluster);
        if let Some(clock) = clocks.get(cluster) {
            return clock.clone();
        }
        let clock = Arc::new(Clock { latest: AtomicI64::new(i64::MIN), arrived: AtomicI64::new(i64::MIN) });
        if clocks.len() < CLUSTERS_MAX {
            clocks.insert(cluster.into(), clock.clone());
        }
        clock
    }

    /// Returns the clusters that have sent events.
    pub(super) fn clusters(&self) -> Vec<Box<str>> {
        lock(&self.by_cluster).keys().cloned().collect()
    }

    /// Returns the latest event time of a cluster.
    pub(super) fn latest_of(&self, cluster: &str) -> Option<Micros> {
        lock(&self.by_cluster).get(cluster)?.latest()
    }

    /// Returns the time of a cluster's events now, if they went on as they arrived: the latest event time, and what has passed since.
    pub(super) fn expected_of(&self, cluster: &str) -> Option<Micros> {
        let clock = lock(&self.by_cluster).get(cluster)?.clone();
        let arrived = clock.arrived.load(Ordering::Relaxed);
        // It is recorded a moment later than the time.
        let passed = if arrived == i64::MIN { 0 } else { clock::now().saturating_sub(arrived).max(0) };
        Some(clock.latest()?.saturating_add(passed))
    }

    /// Returns the latest event time of all clusters.
    pub(super) fn latest(&self) -> Option<Micros> {
        lock(&self.by_cluster).values().filter_map(|clock| clock.latest()).max()
    }

    /// Returns which times are plausible for events that arrive now, or that arrived at `arrival`.
    pub(super) fn plausible_times(&self, clock: &Clock, arrival: Option<Micros>) -> PlausibleTimes {
        let now = arrival.unwrap_or_else(clock::now);
        let latest = clock.latest();
        let oldest = now.saturating_sub(self.tolerance.behind);
        PlausibleTimes {
            // Recorded events may be arbitrarily old.
            from: match self.feed {
                Feed::Live if latest.is_some_and(|latest| latest >= oldest) => oldest,
                Feed::Live | Feed::Recorded => FIRST,
            },
            until: match self.is_of_future.get() {
                Some(true) => i64::MAX,
                Some(false) | None => now.saturating_add(self.tolerance.ahead),
            },
            replacement: match self.feed {
                Feed::Live => now,
                Feed::Recorded => latest.unwrap_or(now),
            },
        }
    }
}

// === impl Clock ===

impl Clock {
    /// Returns the latest event time, if there was an event.
    pub(crate) fn latest(&self) -> Option<Micros> {
        Some(self.latest.load(Ordering::Relaxed)).filter(|at| *at != i64::MIN)
    }

    /// Records when the latest event arrived.
    pub(super) fn arrive(&self, at: Micros) {
        self.arrived.fetch_max(at, Ordering::Relaxed);
    }

    /// Advances the clock to `at`. It never goes back.
    pub(super) fn advance(&self, at: Micros) {
        self.latest.fetch_max(at, Ordering::Relaxed);
    }
}

// === impl PlausibleTimes ===

impl PlausibleTimes {
    /// Returns the time that an event counts with, and what is wrong with the event's own time.
    pub(super) fn of(&self, at: Micros) -> (Micros, Option<Implausible>) {
        if at > self.until {
            (self.replacement, Some(Implausible::Future))
        } else if at < self.from {
            (self.replacement, Some(Implausible::LongAgo))
        } else {
            (at, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Micros = 60_000_000;
    const NOW: Micros = 1_795_400_000_000_000;

    fn plausible_times(feed: Feed, latest: Option<Micros>) -> PlausibleTimes {
        let clocks = Clocks::new(Tolerance::default(), feed);
        let clock = clocks.of("a");
        latest.into_iter().for_each(|at| clock.advance(at));
        clocks.plausible_times(&clock, Some(NOW))
    }

    #[test]
    fn a_time_beyond_the_tolerance_is_implausible() {
        let live = plausible_times(Feed::Live, None);
        assert_eq!(live.of(NOW + 10 * MINUTE), (NOW + 10 * MINUTE, None));
        assert_eq!(live.of(NOW + 10 * MINUTE + 1), (NOW, Some(Implausible::Future)));
        let recorded = plausible_times(Feed::Recorded, Some(NOW - 100 * MINUTE));
        assert_eq!(recorded.of(NOW + 11 * MINUTE), (NOW - 100 * MINUTE, Some(Implausible::Future)));
    }

    #[test]
    fn an_old_time_is_implausible_live_and_plausible_in_a_log() {
        let long_ago = NOW - 8 * 24 * 60 * MINUTE;
        assert_eq!(plausible_times(Feed::Live, Some(NOW)).of(long_ago), (NOW, Some(Implausible::LongAgo)));
        assert_eq!(plausible_times(Feed::Live, None).of(long_ago), (long_ago, None));
        assert_eq!(plausible_times(Feed::Live, Some(long_ago + MINUTE)).of(long_ago), (long_ago, None));
        assert_eq!(plausible_times(Feed::Recorded, Some(NOW)).of(long_ago), (long_ago, None));
        assert_eq!(
            plausible_times(Feed::Recorded, Some(long_ago)).of(0),
            (long_ago, Some(Implausible::LongAgo)),
            "1970"
        );
    }

    #[test]
    fn a_log_dated_in_the_future_is_accepted_and_a_single_future_time_is_not() {
        let is_plausible = |feed, times: &[Micros]| {
            let clocks = Clocks::new(Tolerance::default(), feed);
            clocks.detect_future_record(times.iter().map(|minute| clock::now() + minute * MINUTE));
            // It is decided once.
            clocks.detect_future_record(std::iter::once(0));
            clocks.plausible_times(&clocks.of(""), None).of(clock::now() + 60 * MINUTE).1.is_none()
        };
        assert!(is_plausible(Feed::Recorded, &[60, 61, 62, 0]));
        assert!(!is_plausible(Feed::Recorded, &[60, 0, 1]) && !is_plausible(Feed::Recorded, &[]));
        assert!(!is_plausible(Feed::Live, &[60, 61, 62]));
    }

    #[test]
    fn each_cluster_has_its_own_clock() {
        let clocks = Clocks::new(Tolerance::default(), Feed::Live);
        clocks.of("a").advance(7);
        clocks.of("b").advance(9);
        clocks.of("b").advance(8);
        assert_eq!((clocks.latest_of("a"), clocks.latest_of("b"), clocks.latest_of("c")), (Some(7), Some(9), None));
        assert_eq!(clocks.latest(), Some(9));
        (0..2 * CLUSTERS_MAX).for_each(|n| clocks.of(&n.to_string()).advance(1));
        assert_eq!(lock(&clocks.by_cluster).len(), CLUSTERS_MAX);
    }
}
