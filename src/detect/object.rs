//! The state of one object: its writers and, once a second client writes, the history of their writes.
//!
//! Almost all objects have one writer. For these, only a few numbers and the latest writes are kept, with unparsed
//! bodies. The first write of a second client, which may be a late write, parses them and begins a [`WriteHistory`].

mod incoming;
mod promotion;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use self::incoming::{Incoming, Revision, StoredRevision, order_of};
use super::actor::{Client, Origin};
use super::analysis::ThrashingCounts;
use super::failures::Failures;
use super::pending_writes::{PendingWrite, PendingWrites};
use super::policy::{Limits, ObjectLimits};
use super::verdict::{Confidence, State, StateChange};
use super::write::{Effect, Outcome, Standing, Write};
use super::write_history::WriteHistory;
use super::write_order::WriteOrder;
use super::writer_stats::WriterStats;
use super::writers::Writers;
use crate::audit::event::Micros;

/// Maximum number of writers of one object, counted by client and part. Beyond it, the writer that has been silent for
/// the longest time is dropped.
const WRITERS_MAX: usize = 32;
/// Maximum number of origins of a contested object's clients.
const ORIGINS_MAX: usize = 32;
/// How far an object's times may precede the first event that arrives. Late writes are less late than that.
const BASE_BEFORE: Micros = 10 * 60 * 1_000_000;

/// Values of labels, by key.
pub type Labels = BTreeMap<String, String>;

/// Everything that is known of one object. Kept small for uncontested objects, because a cluster can have a million.
#[derive(Clone, Debug)]
pub struct ObjectState {
    writers: Writers,
    /// The latest writes, in order, as long as there is no history.
    pending: Option<Box<PendingWrites>>,
    /// State that most objects do not have.
    optional: Option<Box<OptionalState>>,
    /// The time from which the times of [`WriterStats`] are counted.
    base: Micros,
}

/// State that few objects have. At audit level Metadata, objects with one client do not have it.
#[derive(Clone, Debug, Default)]
struct OptionalState {
    conflict: Option<Box<ConflictState>>,
    failures: Option<Box<Failures>>,
    /// The object's `kind`, if a body contained it.
    kind: Option<Arc<str>>,
}

/// State of an object with more than one client.
#[derive(Clone, Debug, Default)]
struct ConflictState {
    history: WriteHistory,
    /// Origins of clients that write from more than one place.
    origins: Vec<(Arc<Client>, Origin)>,
}

/// The effect of one write on the verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Whether the write succeeded and changed nothing.
    pub is_no_op: bool,
    /// Whether the write has bodies that cannot be parsed.
    pub is_unreadable: bool,
    /// New thrashing events by party, of wars whose fields are known and of undecided wars that the limits include.
    pub thrashing_events: ThrashingCounts,
    /// State changes, at [`Confidence::Probable`]: those that were due before the write, then that of the write.
    pub transitions: Vec<StateChange>,
    /// The change of [`ObjectState::body_bytes`].
    pub body_bytes: isize,
}

// === impl ObjectState ===

impl ObjectState {
    /// Returns the state of an object whose first event happened at `at`.
    pub fn new(at: Micros) -> ObjectState {
        ObjectState { writers: Writers::None, pending: None, optional: None, base: at - BASE_BEFORE }
    }

    /// Keeps the full history of writes from now on, even if there is only one writer.
    pub fn keep_history(&mut self) {
        self.optional.get_or_insert_default().conflict.get_or_insert_default().history.keep_all();
    }

    /// Processes one request about this object. Each request must be passed once, in any order. `now` is the time up to
    /// which [`ObjectState::advance`] may have been called; the verdict does not depend on whether it was.
    pub fn observe(&mut self, write: &Write<'_>, client: &Arc<Client>, limits: &Limits, now: Micros) -> Observed {
        let mut observed = Observed::default();
        let before = self.body_bytes();
        self.observe_request(write, client, limits, now.max(write.at), &mut observed);
        observed.body_bytes = self.body_bytes().wrapping_sub(before) as isize;
        observed
    }

    fn observe_request(
        &mut self,
        write: &Write<'_>,
        client: &Arc<Client>,
        limits: &Limits,
        now: Micros,
        observed: &mut Observed,
    ) {
        if !write.stored.kind.is_empty() && self.kind().is_none_or(|kind| **kind != *write.stored.kind) {
            self.optional.get_or_insert_default().kind = Some(write.stored.kind.into());
        }
        if write.outcome != Outcome::Committed {
            if write.outcome != Outcome::Failed {
                let failures = self.optional.get_or_insert_default().failures.get_or_insert_default();
                // A message may quote values.
                let hides = limits.redacts || (write.object.group.is_empty() && write.object.resource == "secrets");
                let outcome = match &write.outcome {
                    Outcome::Rejected { by, .. } if hides => Outcome::Rejected { by: by.clone(), message: "" },
                    outcome => outcome.clone(),
                };
                failures.record(client, &outcome, write.at);
            }
            return;
        }
        if let Some(failures) = self.optional.as_mut().and_then(|optional| optional.failures.as_mut()) {
            failures.record_accepted(client, write.at);
        }
        observed.transitions = self.advance(now, limits);
        let from = self.state();
        self.observe_committed(write, client, limits, observed);
        // A late write may have undone transitions that were due since its time: make them again.
        drop(self.advance(now, limits));
        let to = self.state();
        if from != to {
            observed.transitions.push(StateChange { from, to, at: write.at });
        }
    }

    /// Reads the memory that a request about the object needs, without using it, to load it into the cache.
    pub fn prefetch(&self) {
        let last = self.pending_writes().next_back().map(|write| write.order.at);
        black_box((self.base, self.writers.last().map(|writer| writer.part), last));
    }

    /// Makes the transitions that are due by `now`, and returns them.
    pub fn advance(&mut self, now: Micros, limits: &Limits) -> Vec<StateChange> {
        let conflict = self.conflict_mut();
        conflict.map_or_else(Vec::new, |conflict| conflict.history.advance(now, limits, Confidence::Probable))
    }

    /// Returns when to call [`ObjectState::advance`] next, if that is earlier than what this method returned before.
    pub fn new_deadline(&mut self, limits: &Limits) -> Option<Micros> {
        self.conflict_mut()?.history.new_deadline(limits)
    }

    /// Records that a person lifted the pause. Returns the transition, if there is one.
    pub fn resume(&mut self, at: Micros) -> Option<StateChange> {
        let from = self.state();
        self.conflict_mut()?.history.resume(at);
        let to = self.state();
        (from != to).then_some(StateChange { from, to, at })
    }

    /// Whether there are pending writes that are needed only while late writes can arrive.
    pub fn can_be_finalized(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.body_bytes() == 0)
    }

    /// Drops the pending writes if late writes can no longer arrive, as of `now`. Writes with bodies stay: a second
    /// client needs them, whenever it writes.
    pub fn finalize(&mut self, now: Micros) {
        if self.can_be_finalized() && self.pending.as_ref().is_some_and(|pending| pending.is_expired(now)) {
            for write in self.pending.take().into_iter().flat_map(|pending| *pending) {
                self.finalize_pending(&write);
            }
        }
    }

    /// Returns the state of the most urgent war whose fields are known.
    pub fn state(&self) -> State {
        self.history().map_or(State::Calm, |history| history.analysis().state(Confidence::Probable))
    }

    /// Returns the writers, one for each client and part.
    pub fn writers(&self) -> &[WriterStats] {
        &self.writers
    }

    /// Returns the time from which the times of [`ObjectState::writers`] are counted.
    pub fn base(&self) -> Micros {
        self.base
    }

    /// Returns the origins from which a client writes.
    pub fn origins<'a>(&'a self, client: &'a Arc<Client>) -> impl Iterator<Item = &'a Origin> {
        let conflict = self.optional.iter().filter_map(|optional| optional.conflict.as_ref());
        let others = conflict.flat_map(|conflict| &conflict.origins).filter(move |(known, _)| known == client);
        std::iter::once(&client.origin).chain(others.map(|(_, origin)| origin))
    }

    /// Returns the history of writes, if a second client has written.
    pub fn history(&self) -> Option<&WriteHistory> {
        self.optional.as_ref()?.conflict.as_deref().map(|conflict| &conflict.history)
    }

    /// Returns the labels with these keys, as far as they are known.
    pub fn labels(&self, keys: &[String]) -> Labels {
        let Some(fields) = self.history().and_then(WriteHistory::current_fields) else { return Labels::new() };
        let value = |key: &String| {
            // Keys are in brackets only if they are not plain names.
            let quoted = fields.get(&format!("metadata.labels['{key}']"));
            let value = quoted.or_else(|| fields.get(&format!("metadata.labels.{key}")))?;
            Some((key.clone(), value.string()?))
        };
        keys.iter().filter_map(value).collect()
    }

    /// Returns the requests that were not stored, if there are any.
    pub fn failures(&self) -> Option<&Failures> {
        self.optional.as_ref()?.failures.as_deref()
    }

    /// Returns the object's `kind`, if a body contained it.
    pub fn kind(&self) -> Option<&Arc<str>> {
        self.optional.as_ref()?.kind.as_ref()
    }

    /// Returns the unparsed body of the latest write, if it is kept: the stored object or, without it, the request's.
    pub fn body(&self) -> Option<&[u8]> {
        self.pending_writes().rev().find_map(PendingWrite::body)
    }

    /// Returns the time of the last request about the object.
    pub fn last_at(&self) -> Micros {
        let failures = self.failures().map_or(i64::MIN, Failures::last_at);
        self.writers.iter().map(|w| w.span(self.base).1).max().unwrap_or(self.base).max(failures)
    }

    /// Drops kept bodies and states to save memory.
    pub fn drop_bodies(&mut self) {
        self.pending.iter_mut().for_each(|pending| pending.drop_bodies());
        if let Some(conflict) = self.conflict_mut() {
            conflict.history.drop_states();
        }
    }

    /// Drops the records of the history too. What was concluded from them stays.
    pub fn drop_history(&mut self) {
        self.drop_bodies();
        if let Some(conflict) = self.conflict_mut() {
            conflict.history.drop_records();
        }
    }

    /// Returns the bytes of bodies that are kept unparsed.
    pub fn body_bytes(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.body_bytes())
    }

    /// Returns the approximate bytes of the state, without its clients, which objects share.
    pub fn bytes(&self) -> usize {
        let pending = self.pending.as_ref().map_or(0, |pending| pending.bytes());
        let optional = self.optional.as_ref().map_or(0, |optional| {
            let conflict = optional.conflict.as_deref().map_or(0, ConflictState::bytes);
            let failures = optional.failures.as_ref().map_or(0, |failures| failures.bytes());
            size_of::<OptionalState>() + conflict + failures
        });
        size_of::<ObjectState>() + self.writers.heap_bytes() + pending + optional
    }

    fn conflict_mut(&mut self) -> Option<&mut ConflictState> {
        self.optional.as_mut()?.conflict.as_deref_mut()
    }

    fn pending_writes(&self) -> impl DoubleEndedIterator<Item = &PendingWrite> {
        self.pending.iter().flat_map(|pending| pending.iter())
    }

    /// Returns a time in the unit of [`WriterStats`].
    fn ms(&self, at: Micros) -> u32 {
        u32::try_from((at - self.base).max(0) / 1_000).unwrap_or(u32::MAX)
    }

    fn observe_committed(&mut self, write: &Write<'_>, client: &Arc<Client>, limits: &Limits, observed: &mut Observed) {
        let order = order_of(write);
        let revision = Revision::of(write, client, &order, || self.same_revision(&order));
        if write.standing == Standing::Identified && !matches!(revision, Revision::Identifies(_)) {
            // What was observed is not kept any more.
            return;
        }
        if let Revision::Corrects(counted) | Revision::Identifies(counted) = &revision
            && let Some(writer) = self.writers.iter_mut().find(|w| w.client == *counted && w.writes() > 0)
        {
            writer.discount();
        }
        let is_no_op = revision == Revision::Found;
        observed.is_no_op = is_no_op;
        // An unknown writer is no actor, and a revision that is known already was counted for its account.
        let is_counted = revision == Revision::Completes || (is_no_op && client.is_manager);
        if !is_counted && !client.is_unknown() {
            self.count(write, client, is_no_op, limits);
        }
        let is_mutated = write.event.is_mutated();
        if is_no_op && !is_mutated {
            return;
        }
        let on = &ObjectLimits::new(limits, &write.object);
        let incoming = Incoming::new(write, client, order, is_mutated, limits);
        let mut is_pending = false;
        if self.history().is_none() {
            // Mutations of a new object contest nothing; mutations of an update may.
            if !is_mutated || write.effect == Effect::Create {
                self.keep_pending(&incoming, &revision);
                is_pending = true;
                if !self.has_rival_writers(&incoming) && !self.may_be_two_applications(&incoming) {
                    return;
                }
            }
            observed.thrashing_events = self.begin_history(&incoming.bodies, on);
        }
        let Some(conflict) = self.conflict_mut() else { return };
        if !is_pending {
            let history = &mut conflict.history;
            let record = incoming.record(is_no_op, history.current_fields().map(|fields| &**fields));
            observed.is_unreadable = record.is_blind && incoming.has_readable_body();
            observed.thrashing_events.extend(match revision {
                Revision::New | Revision::Found => history.insert(record, on),
                Revision::Corrects(_) | Revision::Completes => history.correct(record, on),
                Revision::Identifies(_) => history.identify(record, on),
            });
        }
        conflict.record_origin(client);
    }

    /// Returns the earlier request that was answered with the same revision.
    fn same_revision(&self, order: &WriteOrder) -> Option<StoredRevision<'_>> {
        if let Some(history) = self.history() {
            let same = history.same_revision(order)?;
            let changed_part = (!same.changes.is_empty()).then_some(same.part);
            let (at, client, is_certain) = (same.order.at, &same.client, same.is_certain);
            return Some(StoredRevision { at, client, is_certain, changed_part, level: same.level });
        }
        let same = self.pending_writes().find(|w| w.order.is_same_revision(order))?;
        let (at, client, is_certain) = (same.order.at, &same.client, same.is_certain);
        Some(StoredRevision { at, client, is_certain, changed_part: None, level: same.level })
    }

    /// Keeps a write in case a second client writes.
    fn keep_pending(&mut self, incoming: &Incoming<'_, '_>, revision: &Revision) {
        let new = incoming.pending_write();
        let pending = self.pending.get_or_insert_default();
        let new = match revision {
            Revision::Corrects(_) | Revision::Identifies(_) | Revision::Completes => pending.correct(new),
            Revision::New | Revision::Found => Some(new),
        };
        let Some(new) = new else { return };
        pending.insert(new);
        while let Some(oldest) = self.pending.as_mut().and_then(|pending| pending.pop_expired()) {
            self.finalize_pending(&oldest);
        }
    }

    fn finalize_pending(&mut self, write: &PendingWrite) {
        let ms = self.ms(write.order.at);
        if let Some(writer) = self.writers.iter_mut().find(|w| w.part == write.part && w.client == write.client) {
            writer.finalize(ms);
        }
    }

    /// Counts a request of a writer.
    fn count(&mut self, write: &Write<'_>, client: &Arc<Client>, is_no_op: bool, limits: &Limits) {
        let is_it = |w: &WriterStats| w.part == write.part && w.client == *client;
        let ms = self.ms(write.at);
        let index = self.writers.iter().position(is_it).unwrap_or_else(|| {
            if self.writers.len() >= WRITERS_MAX
                && let Some(silent) = (0..self.writers.len()).min_by_key(|i| self.writers[*i].span(self.base).1)
            {
                self.writers.remove(silent);
            }
            self.writers.push(WriterStats::new(client.clone(), write.part));
            self.writers.len() - 1
        });
        self.writers[index].count(write, ms, is_no_op, limits);
    }
}

// === impl ConflictState ===

impl ConflictState {
    fn bytes(&self) -> usize {
        self.history.bytes() + self.origins.len() * size_of::<(Arc<Client>, Origin)>()
    }

    fn record_origin(&mut self, client: &Arc<Client>) {
        let origin = &client.origin;
        let is_new = !self.origins.iter().any(|(c, o)| c == client && o == origin);
        if is_new && self.origins.len() < ORIGINS_MAX {
            self.origins.push((client.clone(), origin.clone()));
        }
    }
}

#[cfg(test)]
#[path = "object/tests.rs"]
mod tests;
