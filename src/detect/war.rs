//! The wars of one object. Contested fields with the same parties are one war, which has its own state, rate and cause.
//! One object can have several wars.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fields::EvidenceLevel;
use super::meter::map_bytes;
use super::policy::Limits;
use super::verdict::{Confidence, State, WarState};
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
    /// How sure the verdict is: the confidence of the surest retake.
    pub confidence: Confidence,
    /// The highest evidence level of its retakes.
    pub level: EvidenceLevel,
}

/// Counts of retakes, and the verdict on them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The state machine that the retakes drive.
    pub machine: WarState,
    /// Number of retakes.
    pub retakes: u32,
    /// Number of retakes that brought an earlier value back.
    pub reversals: u32,
    /// Number of thrashing events.
    pub thrashing_events: u32,
    /// The counts by party.
    pub parties: BTreeMap<Arc<str>, PartyTally>,
    /// When the present run of retakes began: when the party of the first retake had written before it.
    pub since: Option<Micros>,
}

/// The counts of one party.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartyTally {
    /// Its retakes.
    pub retakes: u32,
    /// Number of its thrashing events.
    pub thrashing_events: u32,
}

/// The retakes of one write in one war, which count as one.
#[derive(Clone, Debug)]
pub(super) struct CountedRetake<'a> {
    /// The party that retakes.
    pub(super) party: &'a Arc<str>,
    /// The party whose write was undone.
    pub(super) from: &'a Arc<str>,
    /// When it happened.
    pub(super) at: Micros,
    /// When the party had written before. If fields differ, this is the earliest time.
    pub(super) since: Micros,
    /// Whether an earlier value returned.
    pub(super) is_reversal: bool,
    /// Its evidence level.
    pub(super) level: EvidenceLevel,
    /// Whether a pause can help. It cannot if a webhook overrides the requests of a person.
    pub(super) is_pausable: bool,
}

/// All wars of one object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wars {
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
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, War> {
        self.wars.iter()
    }

    /// Returns the war with this id.
    pub(crate) fn get(&self, id: WarId) -> Option<&War> {
        self.wars.iter().find(|war| war.id == id)
    }

    /// Returns the most urgent war with at least this confidence.
    pub(crate) fn worst(&self, at_least: Confidence) -> Option<&War> {
        let rank = |war: &War| (war.tally.machine.state().urgency(), war.tally.thrashing_events, war.tally.retakes);
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
    pub(super) fn find(&self, scope: Scope, parties: &[Arc<str>]) -> Option<WarId> {
        self.wars.iter().find(|war| war.scope == scope && war.parties == parties).map(|war| war.id)
    }

    /// Returns the war of these two parties. The `known` war continues, with these parties added; otherwise a war of the
    /// same parties continues, or a new one begins.
    pub(super) fn join(&mut self, scope: Scope, known: Option<WarId>, retaking: [&Arc<str>; 2]) -> WarId {
        let known = known.and_then(|id| self.get(id));
        if let Some(war) = known
            && retaking.iter().all(|party| war.parties.contains(party))
        {
            return war.id;
        }
        let mut parties = known.map_or_else(Vec::new, |war| war.parties.clone());
        parties.extend(retaking.map(Arc::clone));
        parties.sort_unstable();
        parties.dedup();
        match known.map(|war| war.id) {
            Some(id) => {
                self.widen(id, parties);
                id
            }
            None => self.find(scope, &parties).unwrap_or_else(|| self.begin(scope, parties)),
        }
    }

    /// Begins a war with these (sorted) parties.
    pub(super) fn begin(&mut self, scope: Scope, parties: Vec<Arc<str>>) -> WarId {
        self.insert(War {
            id: WarId(0),
            scope,
            parties,
            tally: Tally::default(),
            confidence: Confidence::Possible,
            level: EvidenceLevel::Object,
        })
    }

    /// Replaces the parties of a war with a larger set.
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
            thrashing_events: shares.iter().map(|(_, share)| share.thrashing_events).sum(),
            parties: shares.iter().cloned().collect(),
            ..war.tally.clone()
        };
        let war = War { parties, tally, ..war.clone() };
        self.insert(war)
    }

    /// Drops a war whose fields now all belong to another war.
    pub(super) fn drop(&mut self, id: WarId) {
        self.wars.retain(|war| war.id != id);
    }

    /// Counts the retakes of one write in one war as one. Returns whether it was a thrashing event.
    pub(super) fn count_retake(&mut self, id: WarId, counted: &CountedRetake<'_>, limits: &Limits) -> bool {
        let Some(war) = self.wars.iter_mut().find(|war| war.id == id) else { return false };
        war.confidence = war.confidence.max(counted.confidence(war.scope));
        war.level = war.level.max(counted.level);
        war.tally.count(counted, limits)
    }

    fn insert(&mut self, mut war: War) -> WarId {
        if self.wars.len() >= WARS_MAX
            && let Some(calmest) =
                (0..self.wars.len()).min_by_key(|i| (self.wars[*i].tally.thrashing_events, self.wars[*i].tally.retakes))
        {
            self.wars.remove(calmest);
        }
        war.id = WarId(self.next);
        self.next += 1;
        self.wars.push(war);
        WarId(self.next - 1)
    }
}

// === impl CountedRetake ===

impl CountedRetake<'_> {
    /// Returns the confidence that this retake alone gives to a war of this scope.
    fn confidence(&self, scope: Scope) -> Confidence {
        match (scope, self.level) {
            (Scope::Part(_), _) | (_, EvidenceLevel::Object) => Confidence::Possible,
            (Scope::Fields | Scope::Object, EvidenceLevel::Value) if self.is_reversal => Confidence::Confirmed,
            _ => Confidence::Probable,
        }
    }
}

// === impl Tally ===

impl Tally {
    /// Counts a retake. Returns whether it was a thrashing event.
    pub(super) fn count(&mut self, counted: &CountedRetake<'_>, limits: &Limits) -> bool {
        self.retakes += 1;
        self.reversals += u32::from(counted.is_reversal);
        if self.since.is_none() || counted.at.saturating_sub(self.machine.last_retake()) > limits.window() {
            self.since = Some(counted.since);
        }
        let is_thrashing = self.machine.retake(counted.party, counted.at, limits, counted.is_pausable);
        self.thrashing_events += u32::from(is_thrashing);
        if !self.parties.contains_key(counted.from) {
            self.parties.insert(counted.from.clone(), PartyTally::default());
        }
        let share = match self.parties.get_mut(counted.party) {
            Some(share) => share,
            None => self.parties.entry(counted.party.clone()).or_default(),
        };
        share.retakes += 1;
        share.thrashing_events += u32::from(is_thrashing);
        is_thrashing
    }

    /// Returns the state of the war.
    pub fn state(&self) -> State {
        self.machine.state()
    }
}

#[cfg(test)]
#[path = "war/tests.rs"]
mod tests;
