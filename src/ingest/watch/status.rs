//! What a watch says about itself: which resources it watches, which it may not read, and when it missed something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::target::Target;
use crate::audit::event::Micros;
use crate::telemetry::metrics::Metrics;
use crate::util::clock;
use crate::util::lock::lock;
use crate::util::readiness::Readiness;

/// Number of failures in a row after which a watch is reported as failing, and the others no longer wait for it.
const FAILURES_MAX: u32 = 4;
/// Maximum number of objects without field managers that are counted.
const UNMANAGED_MAX: usize = 1_000;
/// The clocks are not corrected for a smaller difference: the date of an answer has whole seconds.
const CLOCKS_APART_MIN: Micros = 2_000_000;

/// The status of all watches of a source. Clones share it.
#[derive(Clone)]
pub(crate) struct WatchStatus {
    inner: Arc<Mutex<Inner>>,
    readiness: Readiness,
    /// How far the clock of the API server is ahead of the local one.
    clock_ahead: Arc<AtomicI64>,
    /// The backlogs of all watches of resources.
    backlogs: Arc<Mutex<Vec<Weak<AtomicI64>>>>,
    metrics: WatchMetrics,
}

/// Since when a watch has not been at rest: something was always waiting to be read or to be delivered. So what happened
/// since then may not be known yet.
#[derive(Clone, Debug)]
pub(super) struct Backlog(Arc<AtomicI64>);

/// The value of a backlog at rest.
const AT_REST: Micros = i64::MAX;

#[derive(Default)]
struct Inner {
    watches: BTreeMap<String, State>,
    error: Option<String>,
    gaps: u64,
    /// Failures in a row of each watch that is not connected.
    failures: BTreeMap<String, u32>,
    /// Watches that were connected at any time.
    connected_once: BTreeSet<String>,
    /// Kinds that the user has named and the cluster does not have.
    unknown_kinds: Vec<String>,
    /// Objects that the user has named and that do not exist.
    missing: BTreeSet<String>,
    /// The uids of objects that were changed and have no field managers.
    unmanaged: BTreeSet<Box<str>>,
}

/// The state of one watch.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Not connected, because of the last failure, if there was one.
    Connecting(Option<String>),
    Connected,
    /// The client may not read the resource, or it cannot be watched.
    Forbidden(String),
    /// It has failed repeatedly.
    Failing(String),
}

/// What a user should know about the watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Number of resources that are watched, by namespace.
    pub connected: usize,
    /// Resources to which there is no connection at the moment.
    pub connecting: Vec<String>,
    /// Resources that the client may not read, with the message of the API server.
    pub forbidden: Vec<(String, String)>,
    /// Resources whose watches fail repeatedly, with the last failure.
    pub failing: Vec<(String, String)>,
    /// Kinds that the user has named and the cluster does not have.
    pub unknown_kinds: Vec<String>,
    /// Objects that the user has named and that do not exist.
    pub missing: Vec<String>,
    /// Number of times that revisions may have been missed.
    pub gaps: u64,
    /// Number of objects that were changed and have no field managers, so that it cannot be seen who writes them.
    pub unmanaged: usize,
    /// Why the resources are not known, or why one of them cannot be watched at the moment.
    pub error: Option<String>,
}

#[derive(Clone)]
struct WatchMetrics {
    revisions: IntCounterVec,
    restarts: IntCounterVec,
    watches: IntGaugeVec,
    promoted: IntGauge,
}

// === impl Backlog ===

impl Backlog {
    /// Records that the watch waits for something to happen.
    pub(super) fn rest(&self) {
        self.0.store(AT_REST, Ordering::Relaxed);
    }

    /// Records that the watch has something to do.
    pub(super) fn work(&self, now: Micros) {
        if self.0.load(Ordering::Relaxed) == AT_REST {
            self.0.store(now, Ordering::Relaxed);
        }
    }
}

// === impl WatchStatus ===

impl WatchStatus {
    /// Creates the status, and registers its metrics.
    pub(crate) fn new(metrics: &Metrics) -> WatchStatus {
        let vec = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let watches = Opts::new("editwar_watches", "Watches of resources, by state.");
        WatchStatus {
            inner: Arc::default(),
            readiness: Readiness::default(),
            clock_ahead: Arc::default(),
            backlogs: Arc::default(),
            metrics: WatchMetrics {
                revisions: metrics.register(
                    vec(
                        "editwar_watch_revisions_total",
                        "Revisions that watches delivered, by whether it is known which manager made them.",
                        "author",
                    )
                    .expect("a valid metric"),
                ),
                restarts: metrics.register(
                    vec(
                        "editwar_watch_restarts_total",
                        "Watches that were begun again, by reason. After `expired`, revisions may have been missed.",
                        "reason",
                    )
                    .expect("a valid metric"),
                ),
                watches: metrics.register(IntGaugeVec::new(watches, &["state"]).expect("a valid metric")),
                promoted: metrics.register(
                    IntGauge::new("editwar_watch_promoted_objects", "Objects whose values are watched.")
                        .expect("a valid metric"),
                ),
            },
        }
    }

    /// Returns whether every resource that may be read is or was watched.
    pub(crate) fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Returns the backlog of a new watch. It is forgotten when the watch drops it.
    pub(super) fn backlog(&self) -> Backlog {
        let backlog = Arc::new(AtomicI64::new(AT_REST));
        let mut backlogs = lock(&self.backlogs);
        backlogs.retain(|known| known.strong_count() > 0);
        backlogs.push(Arc::downgrade(&backlog));
        Backlog(backlog)
    }

    /// Returns the time up to which everything that the watches will show is known.
    pub(super) fn known_until(&self) -> Micros {
        let since = |backlog: &Weak<AtomicI64>| backlog.upgrade().map(|since| since.load(Ordering::Relaxed));
        let earliest = lock(&self.backlogs).iter().filter_map(since).min();
        self.now().min(earliest.unwrap_or(AT_REST))
    }

    /// Returns what a user should know.
    pub(crate) fn summary(&self) -> Summary {
        let inner = lock(&self.inner);
        let mut summary = Summary {
            gaps: inner.gaps,
            unmanaged: inner.unmanaged.len(),
            error: inner.error.clone(),
            unknown_kinds: inner.unknown_kinds.clone(),
            missing: inner.missing.iter().cloned().collect(),
            ..Summary::default()
        };
        for (name, state) in &inner.watches {
            match state {
                State::Connected => summary.connected += 1,
                State::Connecting(failure) => {
                    summary.connecting.push(name.clone());
                    summary.error = summary.error.or_else(|| failure.clone());
                }
                State::Forbidden(message) => summary.forbidden.push((name.clone(), message.clone())),
                State::Failing(message) => summary.failing.push((name.clone(), message.clone())),
            }
        }
        summary
    }

    /// Returns the time of the API server, as far as it is known from its answers.
    pub(crate) fn now(&self) -> Micros {
        let local = clock::now();
        local + self.clock_ahead.load(Ordering::Relaxed)
    }

    /// Whether all resources that can be read are watched at the moment, and there are some.
    pub(super) fn is_complete(&self) -> bool {
        let inner = lock(&self.inner);
        let is_connecting = |state: &State| matches!(state, State::Connecting(_));
        inner.watches.values().any(|state| *state == State::Connected) && !inner.watches.values().any(is_connecting)
    }

    /// Sets the kinds that the user has named and the cluster does not have.
    pub(super) fn set_unknown_kinds(&self, kinds: Vec<String>) {
        lock(&self.inner).unknown_kinds = kinds;
    }

    /// Sets whether the only object of a watch does not exist.
    pub(super) fn set_missing(&self, target: &Target, is_missing: bool) {
        let missing = &mut lock(&self.inner).missing;
        let name = format!("{target} {}", target.name.as_deref().unwrap_or_default());
        if is_missing {
            missing.insert(name);
        } else {
            missing.remove(&name);
        }
    }

    pub(super) fn set_error(&self, error: Option<String>) {
        lock(&self.inner).error = error;
    }

    /// Adds watches that are about to start.
    pub(super) fn expect<'t>(&self, targets: impl Iterator<Item = &'t Target>) {
        {
            let mut inner = lock(&self.inner);
            for target in targets {
                inner.watches.entry(target.to_string()).or_insert(State::Connecting(None));
            }
        }
        self.publish();
    }

    pub(super) fn remove(&self, target: &Target) {
        lock(&self.inner).watches.remove(&target.to_string());
        self.publish();
    }

    pub(super) fn connected(&self, target: &Target) {
        {
            lock(&self.inner).connected_once.insert(target.to_string());
        }
        self.set(target, State::Connected);
    }

    /// Records that a watch was connected for a while: earlier failures do not count any more.
    pub(super) fn was_stable(&self, target: &Target) {
        lock(&self.inner).failures.remove(&target.to_string());
    }

    /// Records that a watch has ended after its usual time, and continues.
    pub(super) fn continues(&self) {
        self.metrics.restarts.with_label_values(&["timeout"]).inc();
    }

    /// Records that a watch failed.
    pub(super) fn disconnected(&self, target: &Target, reason: &str, message: &str) {
        self.metrics.restarts.with_label_values(&[reason]).inc();
        let failures = {
            let mut inner = lock(&self.inner);
            let failures = inner.failures.entry(target.to_string()).or_default();
            *failures += 1;
            *failures
        };
        let message = message.to_owned();
        let is_failing = failures >= FAILURES_MAX;
        self.set(target, if is_failing { State::Failing(message) } else { State::Connecting(Some(message)) });
    }

    /// Records that the API server refuses a watch.
    pub(super) fn forbidden(&self, target: &Target, message: String) {
        self.metrics.restarts.with_label_values(&["forbidden"]).inc();
        // What could be read before is missed.
        let was_connected = lock(&self.inner).connected_once.contains(&target.to_string());
        self.set(target, if was_connected { State::Failing(message) } else { State::Forbidden(message) });
    }

    /// Counts a time in which revisions may have been missed.
    pub(super) fn gap(&self) {
        lock(&self.inner).gaps += 1;
    }

    /// Counts an object that was changed and has no field managers.
    pub(super) fn unmanaged(&self, uid: &str) {
        let unmanaged = &mut lock(&self.inner).unmanaged;
        if unmanaged.len() < UNMANAGED_MAX && !unmanaged.contains(uid) {
            unmanaged.insert(uid.into());
        }
    }

    pub(super) fn revision(&self, is_unknown: bool) {
        self.metrics.revisions.with_label_values(&[if is_unknown { "unknown" } else { "known" }]).inc();
    }

    pub(super) fn promoted(&self, count: usize) {
        self.metrics.promoted.set(count as i64);
    }

    /// Compares the clocks, from the date of an answer.
    pub(super) fn compare_clocks(&self, date: jiff::Timestamp) {
        let local = clock::now();
        // The date is rounded down.
        let ahead = date.as_microsecond() + 500_000 - local;
        let ahead = if ahead.abs() >= CLOCKS_APART_MIN { ahead } else { 0 };
        self.clock_ahead.store(ahead, Ordering::Relaxed);
    }

    fn set(&self, target: &Target, state: State) {
        {
            let mut inner = lock(&self.inner);
            // A resource that is no longer served has no state.
            let Some(known) = inner.watches.get_mut(&target.to_string()) else { return };
            *known = state;
        }
        self.publish();
    }

    fn publish(&self) {
        let Summary { connected, connecting, forbidden, failing, .. } = self.summary();
        let states = [
            ("connected", connected),
            ("connecting", connecting.len()),
            ("forbidden", forbidden.len()),
            ("failing", failing.len()),
        ];
        for (state, count) in states {
            self.metrics.watches.with_label_values(&[state]).set(count as i64);
        }
        if connected > 0 && connecting.is_empty() {
            // Later interruptions are told by the metrics and the coverage; the server still answers.
            self.readiness.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::SeriesLimits;

    #[test]
    fn what_waits_to_be_read_is_not_known_yet() {
        let limits = SeriesLimits { max_objects: 1, max_actors_per_object: 1, ttl: std::time::Duration::from_secs(1) };
        let status = WatchStatus::new(&Metrics::new(limits));
        let is_now = |at: Micros| (status.now() - at).abs() < 1_000_000;
        assert!(is_now(status.known_until()));
        let (one, two) = (status.backlog(), status.backlog());
        one.work(1_000);
        two.work(2_000);
        // More work does not make it later.
        one.work(3_000);
        assert_eq!(status.known_until(), 1_000);
        one.rest();
        assert_eq!(status.known_until(), 2_000);
        // A watch that has ended has no backlog.
        drop(two);
        assert!(is_now(status.known_until()));
    }
}
