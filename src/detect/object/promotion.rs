//! When an object with pending writes needs a history of its writes, and how that history begins.

use smallvec::SmallVec;

use super::incoming::Incoming;
use super::{ConflictState, ObjectState};
use crate::audit::event::{Micros, Verb};
use crate::detect::actor::Client;
use crate::detect::analysis::ThrashingCounts;
use crate::detect::fields::{Bodies, Evidence, EvidenceLevel};
use crate::detect::pending_writes::PendingWrite;
use crate::detect::policy::ObjectLimits;
use crate::detect::record::Record;
use crate::detect::write::{Effect, Part};
use crate::detect::write_history::WriteHistory;
use crate::detect::write_order::WriteOrder;
use crate::detect::writer_stats::WriterStats;

/// Minimum number of writes without bodies by a GitOps tool to one object that may come from two applications.
pub(super) const REPEATS_MIN: u32 = 4;

impl ObjectState {
    /// Whether the object, after this write, has two clients whose writes to the same part must be analysed.
    pub(super) fn has_rival_writers(&self, incoming: &Incoming<'_, '_>) -> bool {
        if self.writers.len() < 2 {
            return false;
        }
        // Recreating the object undoes its deletion.
        let is_recreated = self.writers.iter().any(|a| {
            let is_others = |b: &WriterStats| b.deletes() > 0 && b.client != a.client;
            let is_after = |b: &WriterStats| a.span(self.base).1 > b.span(self.base).0;
            a.creates() > 0 && self.writers.iter().any(|b| is_others(b) && is_after(b))
        });
        if is_recreated && self.writers.iter().map(WriterStats::creates).sum::<u32>() > 1 {
            return true;
        }
        let has_two = |part| self.content_writers(part).nth(1).is_some();
        let part = incoming.write.part;
        if incoming.evidence_level == EvidenceLevel::Object {
            // Without fields, only alternating writes matter. A further write in a row does not alternate.
            has_two(part) && !self.continues_own(part, &incoming.order) && self.is_alternating(part)
        } else {
            [Part::Main, Part::Status].into_iter().any(has_two)
        }
    }

    /// Whether one client may be two applications of a GitOps tool, which cannot be distinguished without bodies.
    pub(super) fn may_be_two_applications(&self, incoming: &Incoming<'_, '_>) -> bool {
        let (part, client) = (incoming.write.part, incoming.client);
        let is_busy = |w: &WriterStats| w.part == part && w.client == *client && w.content_writes() >= REPEATS_MIN;
        incoming.evidence_level == EvidenceLevel::Object
            && part == Part::Main
            && client.role.is_gitops()
            && self.writers.iter().any(is_busy)
    }

    /// Returns the writers that gave a part contents.
    fn content_writers(&self, part: Part) -> impl Iterator<Item = &WriterStats> {
        self.writers.iter().filter(move |w| w.part == part && w.content_writes() > 0)
    }

    /// Returns the pending writes that gave a part contents.
    fn pending_contents(&self, part: Part) -> impl DoubleEndedIterator<Item = &PendingWrite> {
        self.pending_writes().filter(move |w| w.part == part && w.effect != Effect::Delete && !w.is_binding)
    }

    /// Whether the write of this order is the last one, and its actor also made the one before it.
    pub(super) fn continues_own(&self, part: Part, order: &WriteOrder) -> bool {
        let mut back = self.pending_contents(part).rev();
        back.next().zip(back.next()).is_some_and(|(a, b)| a.order == *order && a.client.is_same_actor(&b.client))
    }

    /// Whether an actor wrote to a part before and after another actor.
    fn is_alternating(&self, part: Part) -> bool {
        let mut sequence: SmallVec<[&Client; 4]> = SmallVec::new();
        // Appends an actor if it is not the last one already. Returns whether it returns after another one.
        let mut returns = |client| {
            let is_same = |other: &&Client| other.is_same_actor(client);
            if sequence.last().is_some_and(&is_same) {
                return false;
            }
            let is_known = sequence.iter().any(is_same);
            sequence.push(client);
            is_known
        };
        let mut finalized: SmallVec<[(Micros, &Client); 8]> = SmallVec::new();
        for writer in self.content_writers(part) {
            let last = writer.finalized(self.base);
            finalized.extend(last.map(|last| (writer.span(self.base).0.min(last), &*writer.client)));
            finalized.extend(last.map(|last| (last, &*writer.client)));
        }
        finalized.sort_by_key(|(at, _)| *at);
        finalized.iter().any(|(_, client)| returns(client))
            || self.pending_contents(part).any(|write| returns(&write.client))
    }

    /// Begins the history with the pending writes, and with the first and last of the finalized writes of each writer.
    pub(super) fn begin_history(&mut self, bodies: &Bodies<'_>, on: &ObjectLimits<'_>) -> ThrashingCounts {
        let pending = self.pending.take().map(|pending| *pending).unwrap_or_default();
        let level = pending.iter().map(|w| w.level).max().unwrap_or(EvidenceLevel::Object);
        let mut seeds = Vec::new();
        for writer in self.writers.iter() {
            let Some(finalized) = writer.finalized(self.base) else { continue };
            let mut seed = |at: Micros, effect, verb| {
                let order = WriteOrder { at, ..WriteOrder::default() };
                let client = writer.client.clone();
                seeds.push(Record::new(order, client, verb, effect, writer.part, level, Evidence::None));
            };
            let first = writer.span(self.base).0;
            let (first_effect, first_verb) = if writer.creates() > 0 {
                (Effect::Create, Verb::Create)
            } else {
                (Effect::Modify, writer.modifying_verb())
            };
            let (last_effect, last_verb) = if writer.deletes() > 0 {
                (Effect::Delete, Verb::Delete)
            } else if first < finalized {
                (Effect::Modify, writer.modifying_verb())
            } else {
                (first_effect, first_verb)
            };
            if first < finalized {
                seed(first, first_effect, first_verb);
            }
            seed(finalized, last_effect, last_verb);
        }
        let mut history = WriteHistory::begin(seeds, on);
        let mut thrashing = ThrashingCounts::new();
        for write in pending {
            let record = write.into_record(bodies, history.current_fields().map(|fields| &**fields));
            thrashing.extend(history.insert(record, on));
        }
        self.optional.get_or_insert_default().conflict = Some(Box::new(ConflictState { history, origins: Vec::new() }));
        thrashing
    }
}
