//! When each asset is compared next.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::reconcile::manifest::Id;

/// The assets that are to be compared, each at most once, by time.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    by_time: BTreeSet<(Instant, Id)>,
    times: BTreeMap<Id, Instant>,
}

// === impl Schedule ===

impl Schedule {
    /// Schedules an asset, unless it is already scheduled earlier.
    pub(super) fn add(&mut self, id: Id, at: Instant) {
        if let Some(before) = self.times.get(&id).copied() {
            if before <= at {
                return;
            }
            self.by_time.remove(&(before, id.clone()));
        }
        self.times.insert(id.clone(), at);
        self.by_time.insert((at, id));
    }

    /// Returns the earliest time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Removes and returns the earliest asset if its time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Id> {
        self.next().filter(|at| *at <= now)?;
        let (_, id) = self.by_time.pop_first()?;
        self.times.remove(&id);
        Some(id)
    }

    /// Removes the assets for which `is_kept` is false.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&Id) -> bool) {
        self.by_time.retain(|(_, id)| is_kept(id));
        self.times.retain(|id, _| is_kept(id));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(name: &str) -> Id {
        Id { api_version: "v1".into(), kind: "ConfigMap".into(), namespace: "b".into(), name: name.into() }
    }

    #[test]
    fn an_asset_is_scheduled_once_at_its_earliest_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut schedule = Schedule::default();
        schedule.add(id("x"), at(5));
        schedule.add(id("x"), at(9));
        schedule.add(id("y"), at(4));
        schedule.add(id("x"), at(3));
        assert_eq!(schedule.next(), Some(at(3)));
        assert_eq!(schedule.pop_due(at(2)), None);
        assert_eq!(schedule.pop_due(at(9)), Some(id("x")));
        assert_eq!(schedule.pop_due(at(9)), Some(id("y")));
        assert_eq!(schedule.pop_due(at(9)), None);
        schedule.add(id("x"), at(9));
        schedule.retain(|id| id.name != "x");
        assert_eq!(schedule.next(), None);
    }
}
