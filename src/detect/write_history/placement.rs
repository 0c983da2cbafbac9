//! Where a write belongs in the true order of an object's writes.

use super::WriteHistory;
use crate::audit::event::Micros;
use crate::detect::policy::ObjectLimits;
use crate::detect::record::Record;
use crate::detect::write::Effect;
use crate::detect::write_order::WriteOrder;

/// How far the clocks of API servers may differ. NTP keeps them within seconds.
const CLOCK_SKEW_MAX: Micros = 10_000_000;

impl WriteHistory {
    /// Returns the position of a write: by revision among writes with a known revision, by time among the others.
    pub(super) fn position_for(&self, record: &Record) -> usize {
        let at = |r: &Record| r.order.at;
        // Nearly all writes arrive in order.
        let revision = |r: &Record| r.order.revision;
        let is_newest = |last: &Record| {
            let (mine, last_revision) = (revision(record), revision(last));
            (mine != 0 && last_revision != 0 && last_revision < mine)
                || (mine == 0 && record.order.uid == 0 && at(last) <= at(record))
        };
        if self.records.back().is_none_or(is_newest) {
            return self.records.len();
        }
        let Some(revision) = self.revision_of(record) else {
            return self.records.iter().rposition(|r| at(r) <= at(record)).map_or(0, |index| index + 1);
        };
        let is_after = |r: &Record| match self.revision_of(r) {
            Some(other) if other == revision => at(r) <= at(record),
            Some(other) => other < revision,
            None => false,
        };
        let mut position = self.records.iter().rposition(is_after).map_or(0, |index| index + 1);
        let is_earlier = |r: &Record| self.revision_of(r).is_none() && at(r) <= at(record);
        while self.records.get(position).is_some_and(is_earlier) {
            position += 1;
        }
        position
    }

    /// Returns the position of the first of the adjacent updates that replaced the same revision as the one at `at`.
    pub(super) fn first_rival(&self, at: usize) -> usize {
        let back = self.records.range(..at).rev().take_while(|r| r.is_rival_of(&self.records[at])).count();
        (at - back).max(self.finalized.min(at))
    }

    /// Orders updates that replaced the same revision and all succeeded. Only one of them stored something; the others
    /// have the body of the state before them and sort first, whatever the order of arrival and the clocks.
    pub(super) fn order_rivals(&mut self, first: usize) {
        let ahead = self.records.range(first + 1..).take_while(|r| r.is_rival_of(&self.records[first])).count();
        let Some(before) = self.state_before(first).cloned().filter(|_| ahead > 0) else { return };
        if self.first_rival(first) < first {
            return;
        }
        let mut rivals: Vec<Record> = self.records.drain(first..=first + ahead).collect();
        rivals.sort_by_key(|r| (!r.is_no_op_on(&before), r.order.at));
        for (index, record) in rivals.into_iter().enumerate() {
            self.records.insert(first + index, record);
        }
    }

    /// Whether a creation replaces what its own author deleted, for at least the second time: the author keeps the
    /// object at the state it wants. Pods are excluded: a controller deletes a Pod to create another one.
    pub(super) fn is_replacement(&self, at: usize, on: &ObjectLimits<'_>) -> bool {
        let record = &self.records[at];
        if record.effect != Effect::Create || on.is("", "pods") {
            return false;
        }
        let is_own_deletion = |r: &&Record| r.effect == Effect::Delete && r.client.is_same_actor(&record.client);
        let before = || self.records.range(..at).rev();
        before().find(|r| r.effect != Effect::Modify).as_ref().is_some_and(is_own_deletion)
            && before().filter(is_own_deletion).nth(1).is_some()
    }

    /// Returns the revision of a write. A deletion without one follows all known revisions of its epoch.
    pub(super) fn revision_of(&self, record: &Record) -> Option<u64> {
        match record.order {
            WriteOrder { revision: 0, uid: 0, .. } => None,
            WriteOrder { revision: 0, uid, is_last: true, .. } => {
                let epoch = self.records.iter().filter(|r| r.order.uid == uid).map(|r| r.order.revision);
                epoch.max().filter(|revision| *revision != 0).map(|revision| revision + 1)
            }
            WriteOrder { revision: 0, .. } => None,
            WriteOrder { revision, .. } => Some(revision),
        }
    }

    /// Returns the position of an unfinalized deletion of this epoch, which must be moved when more of the epoch is
    /// known.
    pub(super) fn deletion_of(&self, uid: u64) -> Option<usize> {
        let is_it = |r: &Record| uid != 0 && r.order.uid == uid && r.order.is_last && r.order.revision == 0;
        (self.finalized..self.records.len()).find(|index| is_it(&self.records[*index]))
    }

    /// Whether a creation without a revision is at a position where the object exists already: the clocks of two API
    /// servers differ, and the creation belongs a little earlier.
    pub(super) fn is_misplaced(&self, at: usize) -> bool {
        let record = &self.records[at];
        let is_near = |before: &Record| {
            before.effect != Effect::Delete && (record.order.at - before.order.at).abs() <= CLOCK_SKEW_MAX
        };
        record.effect == Effect::Create
            && record.order.revision == 0
            && at.checked_sub(1).is_some_and(|before| is_near(&self.records[before]))
    }
}
