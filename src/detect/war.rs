//! The wars of one object. Contested fields with the same parties are one war, which has its own state, rate and cause.
//! One object can have several wars.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::meter::map_bytes;
use super::policy::Limits;
use super::verdict::{Confidence, Machine, State};
use super::write::Part;
use crate::audit::event::Micros;

/// Maximum number of wars of one object.
const WARS_MAX: usize = 16;

/// Identifies a war among those of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WarId(u32);

/// What a war is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Fields of the object.
    Fields,
    /// The object itself, which is alternately deleted and created.
    Object,
    /// Fields that one side requests and admission replaces each time, so that the stored values never change.
    Override,
    /// A part of the object whose fields are not known.
    Part(Part),
}

/// A war: its parties, its scope and its state.
#[derive(Clone, Debug)]
pub struct War {
    /// Its id among the object's wars.
    pub id: WarId,
    /// What it is over.
    pub scope: Scope,
    /// The parties, sorted.
    pub parties: Vec<Arc<str>>,
    /// Its retakes and its state machine.
    pub tally: Tally,
    /// How sure the verdict is.
    pub confidence: Confidence,
}

/// Counts of retakes, and the verdict on them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The state machine that the retakes drive.
    pub machine: Machine,
    /// Number of retakes.
    pub retakes: u32,
    /// Number of retakes that brought an earlier value back.
    pub reversals: u32,
    /// Number of thrashing events.
    pub thrashes: u32,
    /// The counts by party.
    pub parties: BTreeMap<Arc<str>, PartyTally>,
    /// When the present run of retakes began: the time of the first write that was taken back.
    pub since: Option<Micros>,
}

/// The counts of one party.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartyTally {
    /// Its retakes.
    pub retakes: u32,
    /// Number of its thrashing events.
    pub thrashes: u32,
}

/// What one write took back in one war.
#[derive(Clone, Debug)]
pub(super) struct Blow {
    /// The party that took it back.
    pub(super) party: Arc<str>,
    /// The party whose write was undone.
    pub(super) from: Arc<str>,
    /// When it happened.
    pub(super) at: Micros,
    /// When the party had first written what it now takes back.
    pub(super) since: Micros,
    /// Whether an earlier value returned.
    pub(super) is_reversal: bool,
    /// The confidence that this retake alone gives.
    pub(super) confidence: Confidence,
    /// Whether a pause can help, because some side keeps writing by itself.
    pub(super) is_pausable: bool,
}

/// All wars of one object.
#[derive(Clone, Debug, Default)]
pub struct Wars {
    wars: Vec<War>,
    next: u32,
}

// === impl War ===

impl War {
    /// Returns the approximate bytes of the war.
    pub(super) fn bytes(&self) -> usize {
        let parties =
            self.parties.len() * size_of::<Arc<str>>() + map_bytes::<Arc<str>, PartyTally>(self.tally.parties.len());
        size_of::<War>() + parties + self.tally.machine.bytes()
    }
}

// === impl Wars ===

impl Wars {
    /// Returns the wars in the order in which they began.
    pub fn iter(&self) -> std::slice::Iter<'_, War> {
        self.wars.iter()
    }

    /// Returns the war with this id.
    pub fn get(&self, id: WarId) -> Option<&War> {
        self.wars.iter().find(|war| war.id == id)
    }

    /// Returns the most urgent war with at least this confidence.
    pub fn worst(&self, at_least: Confidence) -> Option<&War> {
        let rank = |war: &War| (war.tally.machine.state().urgency(), war.tally.thrashes, war.tally.retakes);
        let of = |war: &&War| war.confidence >= at_least.min(Confidence::Probable) && war.tally.retakes > 0;
        // Of equally urgent wars take the first; `max_by_key` would return the last.
        self.wars.iter().rev().filter(of).max_by_key(|war| rank(war))
    }

    /// Makes the transitions that are due by `now`.
    pub(super) fn advance(&mut self, now: Micros, limits: &Limits) {
        self.wars.iter_mut().for_each(|war| war.tally.machine.advance(now, limits));
    }

    /// Returns when the state of a war changes next if there is no further retake.
    pub(super) fn due(&self, limits: &Limits) -> Option<Micros> {
        self.wars.iter().filter_map(|war| war.tally.machine.due(limits)).min()
    }

    /// Records that a person lifted the pause.
    pub(super) fn resume(&mut self, at: Micros) {
        self.wars.iter_mut().for_each(|war| war.tally.machine.resume(at));
    }

    /// Ends the wars because the object was deleted, except for a war over its existence.
    pub(super) fn end(&mut self, at: Micros) {
        let ends = |war: &&mut War| war.scope != Scope::Object;
        self.wars.iter_mut().filter(ends).for_each(|war| war.tally.machine.end(at));
    }

    /// Returns the war with these (sorted) parties, if there is one.
    pub(super) fn of(&self, scope: Scope, parties: &[Arc<str>]) -> Option<WarId> {
        self.wars.iter().find(|war| war.scope == scope && war.parties == parties).map(|war| war.id)
    }

    /// Begins a war with these (sorted) parties.
    pub(super) fn begin(&mut self, scope: Scope, parties: Vec<Arc<str>>) -> WarId {
        self.put(War { id: WarId(0), scope, parties, tally: Tally::default(), confidence: Confidence::Possible })
    }

    /// Replaces the parties of a war by a larger set.
    pub(super) fn widen(&mut self, id: WarId, parties: Vec<Arc<str>>) {
        if let Some(war) = self.wars.iter_mut().find(|war| war.id == id) {
            war.parties = parties;
        }
    }

    /// Splits a war, because more parties fight over some of its fields. The new war starts with the same buckets, and
    /// with these retakes.
    pub(super) fn split(&mut self, id: WarId, parties: Vec<Arc<str>>, shares: &[(Arc<str>, PartyTally)]) -> WarId {
        let Some(war) = self.get(id) else { return self.begin(Scope::Fields, parties) };
        let retakes = shares.iter().map(|(_, share)| share.retakes).sum();
        let tally = Tally {
            retakes,
            reversals: war.tally.reversals.min(retakes),
            thrashes: shares.iter().map(|(_, share)| share.thrashes).sum(),
            parties: shares.iter().cloned().collect(),
            ..war.tally.clone()
        };
        let war = War { parties, tally, ..war.clone() };
        self.put(war)
    }

    /// Drops a war whose fields all belong to another one now.
    pub(super) fn drop(&mut self, id: WarId) {
        self.wars.retain(|war| war.id != id);
    }

    /// Counts what one write took back in one war. Returns whether it was a thrashing event.
    pub(super) fn strike(&mut self, id: WarId, blow: &Blow, limits: &Limits) -> bool {
        let Some(war) = self.wars.iter_mut().find(|war| war.id == id) else { return false };
        war.confidence = war.confidence.max(blow.confidence);
        war.tally.count(blow, limits)
    }

    fn put(&mut self, mut war: War) -> WarId {
        if self.wars.len() >= WARS_MAX
            && let Some(calmest) =
                (0..self.wars.len()).min_by_key(|i| (self.wars[*i].tally.thrashes, self.wars[*i].tally.retakes))
        {
            self.wars.remove(calmest);
        }
        war.id = WarId(self.next);
        self.next += 1;
        self.wars.push(war);
        WarId(self.next - 1)
    }
}

// === impl Tally ===

impl Tally {
    /// Counts a retake. Returns whether it was a thrashing event.
    pub(super) fn count(&mut self, blow: &Blow, limits: &Limits) -> bool {
        self.retakes += 1;
        self.reversals += u32::from(blow.is_reversal);
        if self.since.is_none() || blow.at.saturating_sub(self.machine.last_retake()) > limits.window() {
            self.since = Some(blow.since);
        }
        let is_thrash = self.machine.retake(&blow.party, blow.at, limits, blow.is_pausable);
        self.thrashes += u32::from(is_thrash);
        self.parties.entry(blow.from.clone()).or_default();
        let share = self.parties.entry(blow.party.clone()).or_default();
        share.retakes += 1;
        share.thrashes += u32::from(is_thrash);
        is_thrash
    }

    /// Returns the state of the war.
    pub fn state(&self) -> State {
        self.machine.state()
    }
}

#[cfg(test)]
#[path = "war/tests.rs"]
mod tests;
