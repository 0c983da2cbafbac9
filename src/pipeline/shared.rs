//! The state that all sources and queries of a server share.

use std::sync::Mutex;

use foldhash::quality::RandomState;

use super::bounds::{Bounds, TimeRange};
use super::clients::Clients;
use super::clock::{Clocks, Feed};
use super::dedupe::Dedupe;
use super::join::Joiner;
use super::key::ObjectKey;
use super::stats::Stats;
use super::table::Table;
use super::transition::Transition;
use crate::audit::event::Micros;
use crate::detect::policy::Policy;
use crate::util::lock::lock;

/// Everything between the decoder and the queries: the state of all objects, with the policy, the clocks and the
/// counters.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) policy: Policy,
    pub(super) range: TimeRange,
    pub(super) table: Table,
    pub(super) clients: Clients,
    pub(super) dedupe: Mutex<Dedupe>,
    pub(super) join: Joiner,
    pub(super) hasher: RandomState,
    pub(super) stats: Mutex<Stats>,
    pub(super) clocks: Clocks,
    /// Transitions that no batch has reported yet.
    pub(super) unreported: Mutex<Vec<Transition>>,
}

// === impl Pipeline ===

impl Pipeline {
    /// Returns an empty pipeline for live events.
    pub fn new(policy: Policy, bounds: Bounds) -> Pipeline {
        let clients = Clients::new(bounds.bytes_max);
        Pipeline {
            policy,
            range: TimeRange::default(),
            table: Table::new(bounds, clients.meter().clone()),
            clients,
            dedupe: Mutex::new(Dedupe::new(bounds.requests_max)),
            join: Joiner::default(),
            hasher: RandomState::default(),
            stats: Mutex::default(),
            clocks: Clocks::new(bounds.tolerance, Feed::Live),
            unreported: Mutex::default(),
        }
    }

    /// Makes this a pipeline of recorded events, such as those of a log file.
    pub fn recorded(self) -> Pipeline {
        Pipeline { clocks: self.clocks.with_feed(Feed::Recorded), ..self }
    }

    /// Restricts the pipeline to events in this range. Others are counted as ignored.
    pub fn within(self, range: TimeRange) -> Pipeline {
        Pipeline { range, ..self }
    }

    /// Returns the range of event times that is processed.
    pub fn range(&self) -> TimeRange {
        self.range
    }

    /// Returns the policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the object table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Makes the transitions of a cluster that are due by `now`, in the order of their times.
    ///
    /// Batches of live events do this themselves. The end of a record is known only after all of it was read: see
    /// [`Pipeline::end`].
    pub fn pass_time(&self, cluster: &str, now: Micros) -> Vec<Transition> {
        self.table.pass_time(cluster, now, &self.policy)
    }

    /// Observes what still waits to be joined, and makes the transitions that are due at the end of a record of the past.
    pub fn end(&self) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for cluster in self.clocks.clusters() {
            let mut batch = self.batch(&cluster, "");
            batch.release_all();
            transitions.append(&mut batch.transitions);
            drop(batch);
            if let Some(now) = self.latest_of(&cluster) {
                transitions.extend(self.pass_time(&cluster, now));
            }
        }
        transitions
    }

    /// Records that a person lifted the pause of this object. The next batch reports the transition, if there is one.
    pub fn resume(&self, key: &ObjectKey, at: Micros) {
        lock(&self.unreported).extend(self.table.resume(key, at, &self.policy));
    }

    /// Records that a watch has missed revisions until this time.
    pub fn record_missed(&self, until: Micros) {
        let missed = &mut lock(&self.stats).missed;
        *missed = Some(until).max(*missed);
    }

    /// Returns the counts of all completed batches.
    pub fn stats(&self) -> Stats {
        let mut stats = lock(&self.stats).clone();
        stats.counters.objects = self.table.len() as u64;
        stats.counters.evicted = self.table.evicted();
        stats
    }

    /// Returns the current time of a cluster: that of its latest plausible event. If one recorded log ends later than
    /// all others by more than the tolerance, this is the time at which the others end, because the clock of a single
    /// source may be wrong.
    pub fn latest_of(&self, cluster: &str) -> Option<Micros> {
        let latest = self.clocks.latest_of(cluster)?;
        let Feed::Recorded = self.clocks.feed() else { return Some(latest) };
        let told = lock(&self.stats).coverage.end_but_one();
        let is_far = |end: &Micros| latest - end > self.clocks.tolerance().ahead;
        Some(told.filter(is_far).unwrap_or(latest))
    }

    /// Returns the time of a cluster's events now, if they had gone on as they arrived: the latest event time, and the time that has
    /// passed on this machine since events last arrived.
    pub fn expected_of(&self, cluster: &str) -> Option<Micros> {
        self.clocks.expected_of(cluster)
    }

    /// Returns the latest event time of all clusters. It shows the progress of processing; each cluster has its own
    /// current time.
    pub fn latest(&self) -> Option<Micros> {
        self.clocks.latest()
    }
}
