//! The writes of an object with more than one client, in their true order. Retakes are detected in this order.
//!
//! Events arrive late and out of order, so the latest writes are kept as sorted [`Record`]s. The conclusions
//! ([`Analysis`]) are a fold over that order: a write at the end is one more step, and a write in the middle folds the
//! kept records again. The oldest records are folded into the base and dropped.

mod placement;

use std::collections::VecDeque;
use std::sync::Arc;

use super::analysis::{Analysis, ThrashingCounts};
use super::fields::Fields;
use super::policy::{Limits, ObjectLimits};
use super::record::Record;
use super::verdict::{Confidence, StateChange};
use super::write::Effect;
use super::write_order::WriteOrder;
use crate::audit::event::Micros;

/// Maximum number of writes of one object that are kept in order: four minutes of a fast war (two writes a second),
/// which is longer than kube-apiserver retries a batch.
const RECORDS_MAX: usize = 512;
/// Maximum number of writes that are kept for the timeline, although no late write can precede them any more.
const SHOWN_MAX: usize = 64;

/// Time after which late writes can no longer arrive, counted back from the object's latest write: kube-apiserver drops
/// a batch after less than two minutes. Writes that are even later are counted by the fields that they name.
pub(crate) const LATE_MAX: Micros = 150_000_000;
/// Maximum number of states of one object that are kept for late writes.
const STATES_MAX: usize = 256;
/// Maximum number of bytes of one object's records and states: enough for a hundred writes to a large Deployment. For
/// an object with tens of thousands of fields, only the latest writes are kept, and a late write is counted by the
/// fields that it names.
const BYTES_MAX: usize = 4 << 20;

/// Number of records behind a checkpoint. Most late writes are later than that.
const TAIL: usize = 8;

/// The writes of an object with more than one client, and their analysis.
#[derive(Clone, Debug, Default)]
pub struct WriteHistory {
    /// The analysis of the records that were dropped.
    base: Analysis,
    /// The analysis of the first records, so that the next late write folds only the records after them. Only if there are many
    /// records, and a write was late.
    checkpoint: Option<Box<Checkpoint>>,
    /// The analysis of all writes.
    live: Analysis,
    records: VecDeque<Record>,
    /// Number of records at the beginning of `records` that are finalized: late writes are no longer inserted before
    /// them.
    finalized: usize,
    /// The object's fields after the last finalized record.
    finalized_fields: Option<Arc<Fields>>,
    /// Approximate bytes of the records.
    bytes: usize,
    /// Whether as many records as possible are kept for the timeline.
    keeps_all: bool,
    /// When a person last lifted the pause. Cleared once later writes are folded into the base.
    resumed: Option<Micros>,
    /// The time of the latest transition in `live` that was caused by time alone. An earlier write must be folded in
    /// before it.
    advanced: Option<Micros>,
    /// The earliest deadline that [`WriteHistory::new_deadline`] returned and that has not passed.
    deadline: Option<Micros>,
}

/// The state of a fold over the records.
#[derive(Clone, Debug, Default)]
struct Checkpoint {
    analysis: Analysis,
    /// Number of records in it.
    len: usize,
    /// When a person last lifted the pause, if that is after these records.
    resumed: Option<Micros>,
}

// === impl WriteHistory ===

impl WriteHistory {
    /// Returns a history that begins with writes that are finalized already.
    pub fn begin(seeds: Vec<Record>, on: &ObjectLimits<'_>) -> WriteHistory {
        let mut history = WriteHistory::default();
        for record in seeds {
            let position = history.position_for(&record);
            history.records.insert(position, record);
        }
        history.finalized = history.records.len();
        history.bytes = history.records.iter().map(Record::bytes).sum();
        drop(history.recompute(0, on));
        history
    }

    /// Returns the object's fields after the last write.
    pub fn current_fields(&self) -> Option<&Arc<Fields>> {
        self.state_before(self.records.len())
    }

    /// Returns the analysis of all writes.
    pub fn analysis(&self) -> &Analysis {
        &self.live
    }

    /// Returns the kept writes in order.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// Records that a person lifted the pause at this time, which refills the buckets.
    pub fn resume(&mut self, at: Micros) {
        self.resumed = Some(at);
        self.live.resume(at);
        self.checkpoint = None;
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

    /// Returns when to call [`WriteHistory::advance`] next, if that is earlier than what this method returned before.
    pub fn new_deadline(&mut self, limits: &Limits) -> Option<Micros> {
        let due = self.live.due(limits)?;
        let is_new = self.deadline.is_none_or(|deadline| due < deadline);
        is_new.then(|| *self.deadline.insert(due))
    }

    /// Returns the record of the same stored revision, if there is one. Of the two writes, the later one changed
    /// nothing.
    pub fn same_revision(&self, order: &WriteOrder) -> Option<&Record> {
        self.position_of(order).map(|at| &self.records[at])
    }

    fn position_of(&self, order: &WriteOrder) -> Option<usize> {
        let is_earlier = |r: &Record| r.order.revision != 0 && r.order.revision < order.revision;
        for (at, record) in self.records.iter().enumerate().rev() {
            if record.order.is_same_revision(order) {
                return Some(at);
            }
            if is_earlier(record) {
                return None;
            }
        }
        None
    }

    /// Replaces the record of the same revision with this one: it turns out to have stored nothing, or less was known about
    /// the same write.
    pub fn correct(&mut self, record: Record, on: &ObjectLimits<'_>) -> ThrashingCounts {
        let Some(at) = self.position_of(&record.order) else { return ThrashingCounts::new() };
        self.bytes -= self.records[at].bytes();
        self.bytes += record.bytes();
        let mut found = std::mem::replace(&mut self.records[at], record);
        if at < self.finalized {
            self.change(at, |record| {
                record.resolve(None, on);
                drop(record.finalize());
            });
        } else {
            self.resolve_from(at, on);
        }
        if found.admission.is_some() {
            // The replaced record changed nothing, but a webhook replaced what it requested.
            (found.is_no_op, found.order.revision) = (true, 0);
            drop(found.state.take());
            return self.place(found, Some(at), on);
        }
        self.recompute(at, on)
    }

    /// Replaces the client of the same revision, of which only the field manager was known, by that of this record.
    pub fn identify(&mut self, record: Record, on: &ObjectLimits<'_>) -> ThrashingCounts {
        let Some(at) = self.position_of(&record.order) else { return ThrashingCounts::new() };
        let counted = self.live.thrashing_total();
        let mut thrashing = if record.level > self.records[at].level {
            self.correct(record, on)
        } else {
            (self.records[at].client, self.records[at].verb) = (record.client, record.verb);
            self.recompute(at, on)
        };
        // What was counted for the field manager is not counted again for its account.
        let mut new = self.live.thrashing_total().saturating_sub(counted);
        for (_, count) in &mut thrashing {
            *count = new.min(*count);
            new -= *count;
        }
        thrashing.retain(|(_, count)| *count > 0);
        thrashing
    }

    /// Inserts a write at its position in the order. Returns the new thrashing events.
    pub fn insert(&mut self, record: Record, on: &ObjectLimits<'_>) -> ThrashingCounts {
        self.place(record, None, on)
    }

    /// Inserts a write at its position in the order. `was_at` is where the record was if the analysis includes it already.
    /// Returns the new thrashing events.
    fn place(&mut self, mut record: Record, was_at: Option<usize>, on: &ObjectLimits<'_>) -> ThrashingCounts {
        let uid = if record.order.is_last { 0 } else { record.order.uid };
        let at = self.position_for(&record);
        let passed = self.advanced.max(self.resumed);
        let is_in_time = passed.is_none_or(|passed| passed <= record.order.at);
        let mut is_last = was_at.is_none() && at == self.records.len() && is_in_time;
        // The first record that changes.
        let mut changed = at.min(was_at.unwrap_or(at));
        if at < self.finalized {
            record.is_blind |= record.effect == Effect::Modify;
            record.resolve(None, on);
            drop(record.finalize());
            self.finalized += 1;
            self.bytes += record.bytes();
            self.records.insert(at, record);
        } else {
            self.bytes += record.bytes();
            self.records.insert(at, record);
            let first = self.first_rival(at);
            // Updates of the same revision are reordered, and with them the records after them.
            is_last &= first == at;
            changed = changed.min(first);
            self.resolve_from(first, on);
        }
        if let Some(from) = self.deletion_of(uid)
            && let Some(deletion) = self.records.remove(from)
        {
            let to = self.position_for(&deletion).max(self.finalized);
            self.records.insert(to, deletion);
            if from != to {
                self.resolve_from(from.min(to), on);
                changed = changed.min(from.min(to));
                is_last = false;
            }
        }
        let thrashing = if is_last {
            self.live.step(&self.records[at], on).map(|party| (party, 1)).into_iter().collect()
        } else {
            self.recompute(changed, on)
        };
        self.finalize();
        while self.is_too_long()
            && let Some(oldest) = self.records.pop_front()
        {
            self.bytes -= oldest.bytes();
            self.fold_into_base(oldest, on);
        }
        thrashing
    }

    /// Folds the oldest record, which was removed from the records, into the base.
    fn fold_into_base(&mut self, oldest: Record, on: &ObjectLimits<'_>) {
        self.finalized = self.finalized.saturating_sub(1);
        if let Some(at) = self.resumed.take_if(|at| *at <= oldest.order.at) {
            self.base.resume(at);
        }
        self.base.step(&oldest, on);
        self.checkpoint = self.checkpoint.take().filter(|checkpoint| checkpoint.len > 1);
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.len -= 1;
        }
    }

    fn is_too_long(&self) -> bool {
        let is_shown = self.finalized <= SHOWN_MAX || self.keeps_all;
        let is_too_much = self.bytes > BYTES_MAX && self.records.len() > 1;
        self.records.len() > RECORDS_MAX || !is_shown || is_too_much
    }

    /// Changes the record at `index`, and updates the bytes of all records.
    fn change<T>(&mut self, index: usize, change: impl FnOnce(&mut Record) -> T) -> T {
        let record = &mut self.records[index];
        self.bytes -= record.bytes();
        let changed = change(record);
        self.bytes += record.bytes();
        changed
    }

    /// Keeps as many writes as possible for the timeline.
    pub fn keep_all(&mut self) {
        self.keeps_all = true;
    }

    /// Returns the approximate bytes of the history.
    pub fn bytes(&self) -> usize {
        // The analyses share their contents, but not their tables, so only half of the others counts.
        let checkpoint = self.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.analysis.bytes() / 2);
        let analysis = self.live.bytes() + self.base.bytes() / 2 + checkpoint;
        self.bytes + self.finalized_fields.as_ref().map_or(0, |finalized_fields| finalized_fields.bytes()) + analysis
    }

    /// Drops the kept states to save memory. Late writes can then no longer be inserted before the last write.
    pub fn drop_states(&mut self) {
        self.records.iter_mut().skip(self.finalized).for_each(|record| drop(record.finalize()));
        self.finalized = self.records.len();
        self.finalized_fields = None;
        self.checkpoint = None;
        self.bytes = self.records.iter().map(Record::bytes).sum();
    }

    /// Drops the records too. The analysis stays.
    pub fn drop_records(&mut self) {
        self.drop_states();
        self.records = VecDeque::new();
        (self.finalized, self.bytes, self.resumed) = (0, 0, None);
        self.base = self.live.clone();
    }

    fn state_before(&self, at: usize) -> Option<&Arc<Fields>> {
        if at > self.finalized { self.records[at - 1].state.as_ref() } else { self.finalized_fields.as_ref() }
    }

    /// Determines again what the record at `at` changed, and the records after it whose states depend on it.
    fn resolve_from(&mut self, at: usize, on: &ObjectLimits<'_>) {
        for index in at..self.records.len() {
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
            let record = &self.records[index];
            // A stored state does not depend on earlier writes, so the records after it stay as they are.
            let is_same = |a: &Arc<Fields>, b: &Arc<Fields>| Arc::ptr_eq(a, b);
            if index > at && was.zip(record.state.as_ref()).is_some_and(|(was, is)| is_same(&was, is)) {
                return;
            }
        }
    }

    /// Finalizes records before which no late write can arrive any more, and the oldest ones if there are too many.
    fn finalize(&mut self) {
        let Some(newest) = self.records.back().map(|r| r.order.at) else { return };
        while self.finalized + 1 < self.records.len() {
            let is_old = newest - self.records[self.finalized].order.at > LATE_MAX;
            let is_too_much = self.bytes > BYTES_MAX / 2;
            if !is_old && !is_too_much && self.records.len() - self.finalized <= STATES_MAX {
                return;
            }
            self.finalized_fields = self.change(self.finalized, Record::finalize);
            self.finalized += 1;
        }
    }

    /// Folds the kept writes again, of which those from `changed` on are not as they were. Returns the thrashing events that
    /// are new.
    fn recompute(&mut self, changed: usize, on: &ObjectLimits<'_>) -> ThrashingCounts {
        self.checkpoint = self.checkpoint.take().filter(|checkpoint| checkpoint.len <= changed);
        let (analysis, first, mut resumed) = match &self.checkpoint {
            Some(checkpoint) => (checkpoint.analysis.clone(), checkpoint.len, checkpoint.resumed),
            None => (self.base.clone(), 0, self.resumed),
        };
        let before = std::mem::replace(&mut self.live, analysis);
        self.advanced = None;
        let next = changed.min(self.records.len().saturating_sub(TAIL));
        for (index, record) in self.records.iter().enumerate().skip(first) {
            if index == next && next > first + TAIL {
                let checkpoint = Checkpoint { analysis: self.live.clone(), len: index, resumed };
                self.checkpoint = Some(Box::new(checkpoint));
            }
            if let Some(at) = resumed.take_if(|at| *at <= record.order.at) {
                self.live.resume(at);
            }
            self.live.step(record, on);
        }
        if let Some(at) = resumed {
            self.live.resume(at);
        }
        self.live.thrashing_since(&before)
    }
}

#[cfg(test)]
#[path = "write_history/tests.rs"]
mod tests;
