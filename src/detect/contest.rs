//! The writes of an object that more than one client writes, in their true order. From this order follow the retakes.
//!
//! Events arrive late and out of order, so the latest writes are kept as sorted [`Record`]s. The conclusions
//! ([`Findings`]) are a fold over that order: a write at the end is one more step, and a write in the middle folds the
//! kept records again. The oldest records are folded into the base and dropped.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fields::Fields;
use super::findings::{Findings, Thrashes};
use super::order::Order;
use super::policy::{Limits, ObjectLimits};
use super::record::Record;
use super::verdict::{Confidence, StateChange};
use super::write::Effect;
use crate::audit::event::Micros;

/// Writes of one object that are kept in order: four minutes of a fast war (two writes a second), which is longer than
/// kube-apiserver retries a batch.
const HISTORY_MAX: usize = 512;
/// Writes that are kept for the timeline, although no late write can precede them any more.
const SHOWN_MAX: usize = 64;
/// How far the clocks of API servers may differ. NTP keeps them within seconds.
const CLOCK_SKEW_MAX: Micros = 10_000_000;

/// Time after which late writes can no longer arrive, counted back from the object's latest write: kube-apiserver drops
/// a batch after less than two minutes. Writes that are even later are counted by the fields that they name.
pub const LATE_MAX: Micros = 150_000_000;
/// Full states of one object that are kept for late writes.
const STATES_MAX: usize = 256;
/// Bytes of one object's records and states: those of a hundred writes to a large Deployment. Of an object with tens of
/// thousands of fields only the latest writes are kept, and a late write is counted by the fields that it names.
const BYTES_MAX: usize = 4 << 20;

/// The writes of an object with more than one client, and the findings from them.
#[derive(Clone, Debug, Default)]
pub struct Contest {
    base: Findings,
    live: Findings,
    history: VecDeque<Record>,
    /// Number of records at the beginning of `history` that are settled: late writes are no longer inserted before
    /// them.
    settled: usize,
    /// The object's fields after the last settled record.
    anchor: Option<Arc<Fields>>,
    /// Approximate bytes of the records.
    bytes: usize,
    is_followed: bool,
    /// When a person last lifted the pause. Cleared once later writes are folded into the base.
    resumed: Option<Micros>,
    /// The time of the latest transition in `live` that was caused by time alone. An earlier write must be folded in
    /// before it.
    advanced: Option<Micros>,
    /// The earliest deadline that [`Contest::new_deadline`] returned and that has not passed.
    deadline: Option<Micros>,
}

// === impl Contest ===

impl Contest {
    /// Returns a contest that begins with writes that are settled already.
    pub fn begin(seeds: Vec<Record>, on: &ObjectLimits<'_>) -> Contest {
        let mut contest = Contest::default();
        for record in seeds {
            let place = contest.place(&record);
            contest.history.insert(place, record);
        }
        contest.settled = contest.history.len();
        contest.bytes = contest.history.iter().map(Record::bytes).sum();
        drop(contest.refold(on));
        contest
    }

    /// Returns the object's fields after the last write.
    pub fn known(&self) -> Option<&Arc<Fields>> {
        self.state_before(self.history.len())
    }

    /// Returns the findings from all writes.
    pub fn findings(&self) -> &Findings {
        &self.live
    }

    /// Returns the kept writes in order.
    pub fn history(&self) -> impl Iterator<Item = &Record> {
        self.history.iter()
    }

    /// Records that a person lifted the pause at this time, which refills the buckets.
    pub fn resume(&mut self, at: Micros) {
        self.resumed = Some(at);
        self.live.resume(at);
    }

    /// Makes the transitions that are due by `now`. Returns those of the object's state, which counts wars of at least
    /// this confidence.
    pub fn advance(&mut self, now: Micros, limits: &Limits, at_least: Confidence) -> Vec<StateChange> {
        let mut transitions = Vec::new();
        self.deadline = self.deadline.filter(|deadline| *deadline > now);
        while let Some(at) = self.live.due(limits).filter(|due| *due <= now) {
            let from = self.live.state(at_least);
            self.live.advance(at, limits);
            self.advanced = self.advanced.max(Some(at));
            let to = self.live.state(at_least);
            if from != to {
                transitions.push(StateChange { from, to, at });
            }
        }
        transitions
    }

    /// Returns when to call [`Contest::advance`] next, if that is earlier than what this method returned before.
    pub fn new_deadline(&mut self, limits: &Limits) -> Option<Micros> {
        let due = self.live.due(limits)?;
        let is_new = self.deadline.is_none_or(|deadline| due < deadline);
        is_new.then(|| *self.deadline.insert(due))
    }

    /// Returns the record of the same stored revision, if there is one. Of the two writes, the later one changed
    /// nothing.
    pub fn same_revision(&self, order: &Order) -> Option<&Record> {
        self.position_of(order).map(|at| &self.history[at])
    }

    fn position_of(&self, order: &Order) -> Option<usize> {
        let is_earlier = |r: &Record| r.order.revision != 0 && r.order.revision < order.revision;
        for (at, record) in self.history.iter().enumerate().rev() {
            if record.order.is_same_revision(order) {
                return Some(at);
            }
            if is_earlier(record) {
                return None;
            }
        }
        None
    }

    /// Replaces the record of the same revision, which turns out to have stored nothing, by this one.
    pub fn correct(&mut self, record: Record, on: &ObjectLimits<'_>) -> Thrashes {
        let Some(at) = self.position_of(&record.order) else { return Thrashes::new() };
        self.bytes -= self.history[at].bytes();
        self.bytes += record.bytes();
        let mut found = std::mem::replace(&mut self.history[at], record);
        match at < self.settled {
            true => self.change(at, |record| {
                record.resolve(None, on);
                drop(record.settle());
            }),
            false => self.resolve_from(at, on),
        }
        if found.admission.is_some() {
            // It changed nothing, but a webhook replaced what it requested.
            (found.is_no_op, found.order.revision) = (true, 0);
            drop(found.state.take());
            return self.insert(found, on);
        }
        self.refold(on)
    }

    /// Inserts a write at its position in the order. Returns the new thrashing events.
    pub fn insert(&mut self, mut record: Record, on: &ObjectLimits<'_>) -> Thrashes {
        let uid = if record.order.is_last { 0 } else { record.order.uid };
        let at = self.place(&record);
        let passed = self.advanced.max(self.resumed);
        let mut is_last = at == self.history.len() && passed.is_none_or(|passed| passed <= record.order.at);
        if at < self.settled {
            record.is_blind |= record.effect == Effect::Modify;
            record.resolve(None, on);
            drop(record.settle());
            self.settled += 1;
            self.bytes += record.bytes();
            self.history.insert(at, record);
        } else {
            self.bytes += record.bytes();
            self.history.insert(at, record);
            let first = self.first_rival(at);
            // Updates of the same revision are reordered, and with them the records after them.
            is_last &= first == at;
            self.resolve_from(first, on);
        }
        if let Some(from) = self.deletion_of(uid)
            && let Some(deletion) = self.history.remove(from)
        {
            let to = self.place(&deletion).max(self.settled);
            self.history.insert(to, deletion);
            if from != to {
                self.resolve_from(from.min(to), on);
                is_last = false;
            }
        }
        let thrashes = match is_last {
            true => self.live.step(&self.history[at], on).map(|party| (party, 1)).into_iter().collect(),
            false => self.refold(on),
        };
        self.settle();
        while self.is_too_long()
            && let Some(oldest) = self.history.pop_front()
        {
            self.bytes -= oldest.bytes();
            self.fold_into_base(oldest, on);
        }
        thrashes
    }

    /// Folds the oldest record, which is no longer in the history, into the base.
    fn fold_into_base(&mut self, oldest: Record, on: &ObjectLimits<'_>) {
        self.settled = self.settled.saturating_sub(1);
        if let Some(at) = self.resumed.take_if(|at| *at <= oldest.order.at) {
            self.base.resume(at);
        }
        self.base.step(&oldest, on);
    }

    fn is_too_long(&self) -> bool {
        let is_shown = self.settled <= SHOWN_MAX || self.is_followed;
        let is_too_much = self.bytes > BYTES_MAX && self.history.len() > 1;
        self.history.len() > HISTORY_MAX || !is_shown || is_too_much
    }

    /// Changes the record at `index`, and updates the bytes of all records.
    fn change<T>(&mut self, index: usize, change: impl FnOnce(&mut Record) -> T) -> T {
        let record = &mut self.history[index];
        self.bytes -= record.bytes();
        let changed = change(record);
        self.bytes += record.bytes();
        changed
    }

    /// Keeps as many writes as possible for the timeline.
    pub fn follow(&mut self) {
        self.is_followed = true;
    }

    /// Returns the approximate bytes of the contest.
    pub fn bytes(&self) -> usize {
        // Both findings share their contents, except for the tables.
        let findings = self.live.bytes() + self.base.bytes() / 2;
        self.bytes + self.anchor.as_ref().map_or(0, |anchor| anchor.bytes()) + findings
    }

    /// Drops the kept states to save memory. Late writes can then no longer be inserted before the last write.
    pub fn drop_states(&mut self) {
        self.history.iter_mut().skip(self.settled).for_each(|record| drop(record.settle()));
        self.settled = self.history.len();
        self.anchor = None;
        self.bytes = self.history.iter().map(Record::bytes).sum();
    }

    /// Drops the records too. The findings stay.
    pub fn drop_history(&mut self) {
        self.drop_states();
        self.history = VecDeque::new();
        (self.settled, self.bytes, self.resumed) = (0, 0, None);
        self.base = self.live.clone();
    }

    fn state_before(&self, at: usize) -> Option<&Arc<Fields>> {
        match at > self.settled {
            true => self.history[at - 1].state.as_ref(),
            false => self.anchor.as_ref(),
        }
    }

    /// Determines again what the record at `at` changed, and the records after it whose states depend on it.
    fn resolve_from(&mut self, at: usize, on: &ObjectLimits<'_>) {
        for index in at..self.history.len() {
            self.order_rivals(index);
            let before = self.state_before(index).cloned();
            let is_misplaced = self.is_misplaced(index);
            let is_replacement = self.is_replacement(index, on);
            let was = self.change(index, |record| {
                let was = record.state.take();
                (record.is_misplaced, record.is_replacement) = (is_misplaced, is_replacement);
                record.resolve(before.as_ref(), on);
                was
            });
            let record = &self.history[index];
            // A stored state does not depend on earlier writes, so the records after it stay as they are.
            let is_same = |a: &Arc<Fields>, b: &Arc<Fields>| Arc::ptr_eq(a, b);
            if index > at && was.zip(record.state.as_ref()).is_some_and(|(was, is)| is_same(&was, is)) {
                return;
            }
        }
    }

    /// Settles records before which no late write can arrive any more, and the oldest ones if there are too many.
    fn settle(&mut self) {
        let Some(newest) = self.history.back().map(|r| r.order.at) else { return };
        while self.settled + 1 < self.history.len() {
            let is_old = newest - self.history[self.settled].order.at > LATE_MAX;
            let is_too_much = self.bytes > BYTES_MAX / 2;
            if !is_old && !is_too_much && self.history.len() - self.settled <= STATES_MAX {
                return;
            }
            self.anchor = self.change(self.settled, Record::settle);
            self.settled += 1;
        }
    }

    /// Folds the kept writes again. Returns the thrashing events that are new.
    fn refold(&mut self, on: &ObjectLimits<'_>) -> Thrashes {
        let before = std::mem::replace(&mut self.live, self.base.clone());
        self.advanced = None;
        let mut resumed = self.resumed;
        for record in &self.history {
            if let Some(at) = resumed.take_if(|at| *at <= record.order.at) {
                self.live.resume(at);
            }
            self.live.step(record, on);
        }
        if let Some(at) = resumed {
            self.live.resume(at);
        }
        self.live.thrashes_since(&before)
    }

    /// Returns the position of a write: by revision among writes with a known revision, by time among the others.
    fn place(&self, record: &Record) -> usize {
        let at = |r: &Record| r.order.at;
        // Nearly all writes arrive in order.
        let revision = |r: &Record| r.order.revision;
        let is_newest = |last: &Record| {
            let (mine, last_revision) = (revision(record), revision(last));
            (mine != 0 && last_revision != 0 && last_revision < mine)
                || (mine == 0 && record.order.uid == 0 && at(last) <= at(record))
        };
        if self.history.back().is_none_or(is_newest) {
            return self.history.len();
        }
        let Some(revision) = self.revision_of(record) else {
            return self.history.iter().rposition(|r| at(r) <= at(record)).map_or(0, |index| index + 1);
        };
        let is_after = |r: &Record| match self.revision_of(r) {
            Some(other) if other == revision => at(r) <= at(record),
            Some(other) => other < revision,
            None => false,
        };
        let mut place = self.history.iter().rposition(is_after).map_or(0, |index| index + 1);
        let is_earlier = |r: &Record| self.revision_of(r).is_none() && at(r) <= at(record);
        while self.history.get(place).is_some_and(is_earlier) {
            place += 1;
        }
        place
    }

    /// Returns the position of the first of the adjacent updates that replaced the same revision as the one at `at`.
    fn first_rival(&self, at: usize) -> usize {
        let back = self.history.range(..at).rev().take_while(|r| r.is_rival_of(&self.history[at])).count();
        (at - back).max(self.settled.min(at))
    }

    /// Orders updates that replaced the same revision and all succeeded. Only one of them stored something; the others
    /// have the body of the state before them and sort first, whatever the order of arrival and the clocks.
    fn order_rivals(&mut self, first: usize) {
        let ahead = self.history.range(first + 1..).take_while(|r| r.is_rival_of(&self.history[first])).count();
        let Some(before) = self.state_before(first).cloned().filter(|_| ahead > 0) else { return };
        if self.first_rival(first) < first {
            return;
        }
        let mut rivals: Vec<Record> = self.history.drain(first..=first + ahead).collect();
        rivals.sort_by_key(|r| (!r.is_no_op_on(&before), r.order.at));
        for (index, record) in rivals.into_iter().enumerate() {
            self.history.insert(first + index, record);
        }
    }

    /// Whether a creation replaces what its own author deleted, for at least the second time: the author keeps the
    /// object at the state it wants. Pods are excluded: a controller deletes a Pod to create another one.
    fn is_replacement(&self, at: usize, on: &ObjectLimits<'_>) -> bool {
        let record = &self.history[at];
        if record.effect != Effect::Create || on.is("", "pods") {
            return false;
        }
        let is_own_deletion = |r: &&Record| r.effect == Effect::Delete && r.client.is_same_actor(&record.client);
        let before = || self.history.range(..at).rev();
        before().find(|r| r.effect != Effect::Modify).as_ref().is_some_and(is_own_deletion)
            && before().filter(is_own_deletion).nth(1).is_some()
    }

    /// Returns the revision of a write. A deletion without one follows all known revisions of its epoch.
    fn revision_of(&self, record: &Record) -> Option<u64> {
        match record.order {
            Order { revision: 0, uid: 0, .. } => None,
            Order { revision: 0, uid, is_last: true, .. } => {
                let epoch = self.history.iter().filter(|r| r.order.uid == uid).map(|r| r.order.revision);
                epoch.max().filter(|revision| *revision != 0).map(|revision| revision + 1)
            }
            Order { revision: 0, .. } => None,
            Order { revision, .. } => Some(revision),
        }
    }

    /// Returns the position of an unsettled deletion of this epoch, which must be moved when more of the epoch is
    /// known.
    fn deletion_of(&self, uid: u64) -> Option<usize> {
        let is_it = |r: &Record| uid != 0 && r.order.uid == uid && r.order.is_last && r.order.revision == 0;
        (self.settled..self.history.len()).find(|index| is_it(&self.history[*index]))
    }

    /// Whether a creation without a revision is at a position where the object exists already: the clocks of two API
    /// servers differ, and the creation belongs a little earlier.
    fn is_misplaced(&self, at: usize) -> bool {
        let record = &self.history[at];
        let is_near = |before: &Record| {
            before.effect != Effect::Delete && (record.order.at - before.order.at).abs() <= CLOCK_SKEW_MAX
        };
        record.effect == Effect::Create
            && record.order.revision == 0
            && at.checked_sub(1).is_some_and(|before| is_near(&self.history[before]))
    }
}

#[cfg(test)]
#[path = "contest/tests.rs"]
mod tests;
