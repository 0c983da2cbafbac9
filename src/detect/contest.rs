//! Write → retake: the writes of one object that more than one client writes, in their true order.
//!
//! Events arrive late and out of order, so the latest writes are kept as [`Record`]s, sorted. What is concluded from
//! them ([`Findings`]) is a fold over that order: a write at the end is one step further, a write in the middle folds
//! the kept ones anew. Records that fall off the far end are folded into the base and forgotten.

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

/// Writes of one object that are kept to be put in order: a fast war (two a second) for four minutes, which is longer
/// than kube-apiserver tries to deliver a batch.
const HISTORY_MAX: usize = 512;
/// Writes that are kept to be shown, though nobody comes late before them any more.
const SHOWN_MAX: usize = 64;
/// How far the clocks of API servers may differ; they are kept by NTP, and wrong by seconds at most.
const CLOCK_SKEW_MAX: Micros = 10_000_000;

/// Time after which nobody comes late any more, counted back from an object's latest write: kube-apiserver gives a
/// batch up after less than two minutes. Later ones are still counted, by what they name.
pub const LATE_MAX: Micros = 150_000_000;
/// Whole states of one object that are kept for those who come late.
const STATES_MAX: usize = 256;
/// Bytes of one object's records and states: those of a hundred writes to a large Deployment. Of an object with tens of
/// thousands of fields only the latest writes are kept, and one that comes late is counted by what it names.
const BYTES_MAX: usize = 4 << 20;

/// The writes of an object with more than one client, and what they amount to.
#[derive(Clone, Debug, Default)]
pub struct Contest {
    base: Findings,
    live: Findings,
    history: VecDeque<Record>,
    /// Records at the beginning of `history` before which nobody is let in any more.
    settled: usize,
    /// The object's fields after the last settled record.
    anchor: Option<Arc<Fields>>,
    /// Bytes of the records, roughly.
    bytes: usize,
    is_followed: bool,
    /// When a person last lifted the pause, as far as later writes have not yet been folded in behind it.
    resumed: Option<Micros>,
    /// The latest state change in `live` that was caused by time alone. An earlier write has to be folded in before it.
    advanced: Option<Micros>,
    /// The earliest deadline that was handed out by [`Contest::new_deadline`] and has not passed.
    deadline: Option<Micros>,
}

// === impl Contest ===

impl Contest {
    /// A contest that begins with writes of which nothing more will be known.
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

    /// The object's fields after the last write.
    pub fn known(&self) -> Option<&Arc<Fields>> {
        self.state_before(self.history.len())
    }

    /// What the writes amount to.
    pub fn findings(&self) -> &Findings {
        &self.live
    }

    /// The kept writes, in order.
    pub fn history(&self) -> impl Iterator<Item = &Record> {
        self.history.iter()
    }

    /// A person lifted the pause at this time: buckets are full again.
    pub fn resume(&mut self, at: Micros) {
        self.resumed = Some(at);
        self.live.resume(at);
    }

    /// Makes the state changes that are due by `now`; those of the whole object's state, at `at_least` this confidence.
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

    /// When to call [`Contest::advance`] next, if that is earlier than what this method returned before.
    pub fn new_deadline(&mut self, limits: &Limits) -> Option<Micros> {
        let due = self.live.due(limits)?;
        let is_new = self.deadline.is_none_or(|deadline| due < deadline);
        is_new.then(|| *self.deadline.insert(due))
    }

    /// The record of the same stored revision, if any: of two, the later one changed nothing.
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

    /// Puts a write in the place of the record of the same revision, which turns out to have stored nothing.
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
            // It changed nothing, but what it asked for was replaced.
            (found.is_no_op, found.order.revision) = (true, 0);
            drop(found.state.take());
            return self.insert(found, on);
        }
        self.refold(on)
    }

    /// Puts a write in its place.
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
            // Those that are the same revision's are put in order anew, and so are those behind them.
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

    /// The record that was the oldest one is kept no longer but for what it amounts to.
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

    /// Changes the record at `index`, and what is known of its size.
    fn change<T>(&mut self, index: usize, change: impl FnOnce(&mut Record) -> T) -> T {
        let record = &mut self.history[index];
        self.bytes -= record.bytes();
        let changed = change(record);
        self.bytes += record.bytes();
        changed
    }

    /// Keeps as many writes as can be kept, to be shown.
    pub fn follow(&mut self) {
        self.is_followed = true;
    }

    /// Bytes that it takes, roughly.
    pub fn bytes(&self) -> usize {
        // What both findings hold is shared, but for the tables.
        let findings = self.live.bytes() + self.base.bytes() / 2;
        self.bytes + self.anchor.as_ref().map_or(0, |anchor| anchor.bytes()) + findings
    }

    /// Drops the kept states, to save memory: nobody is let in before the last write any more.
    pub fn drop_states(&mut self) {
        self.history.iter_mut().skip(self.settled).for_each(|record| drop(record.settle()));
        self.settled = self.history.len();
        self.anchor = None;
        self.bytes = self.history.iter().map(Record::bytes).sum();
    }

    /// Drops the records too: what they amount to stays.
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

    /// Finds anew what the record at `at` changed, and those behind it whose states follow from it.
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
            // A stored state does not depend on what came before it: those behind it stay as they are.
            let is_same = |a: &Arc<Fields>, b: &Arc<Fields>| Arc::ptr_eq(a, b);
            if index > at && was.zip(record.state.as_ref()).is_some_and(|(was, is)| is_same(&was, is)) {
                return;
            }
        }
    }

    /// Settles what is so old, or so much, that nobody is let in before it any more.
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

    /// Folds the kept writes anew; the thrashing events that were not there before.
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

    /// Where a write belongs: by revision among those whose revision is known, by time among the others.
    fn place(&self, record: &Record) -> usize {
        let at = |r: &Record| r.order.at;
        // Nearly all come in order.
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

    /// Where the updates begin that replaced the same revision as the one at `at`.
    fn first_rival(&self, at: usize) -> usize {
        let back = self.history.range(..at).rev().take_while(|r| r.is_rival_of(&self.history[at])).count();
        (at - back).max(self.settled.min(at))
    }

    /// Two updates of one revision were both answered with success: one of them stored nothing. That is the one whose body is
    /// what was there before, whichever came first and whatever the clocks say.
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

    /// Whether a creation replaces what its own author deleted, and not for the first time: who writes an object so holds it at
    /// what it wants. A Pod is a new one each time: its controller deletes it to make the next.
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

    /// The revision a write stands at. A deletion that tells none comes right behind all that is known of its epoch.
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

    /// Where an unsettled deletion of this epoch stands that is to be placed anew, now that more is known of the epoch.
    fn deletion_of(&self, uid: u64) -> Option<usize> {
        let is_it = |r: &Record| uid != 0 && r.order.uid == uid && r.order.is_last && r.order.revision == 0;
        (self.settled..self.history.len()).find(|index| is_it(&self.history[*index]))
    }

    /// Whether a creation without a revision stands where the object was there already: the clocks of two API servers
    /// differ, and it belongs a little earlier.
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
