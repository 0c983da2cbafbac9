//! Wars of one object: contested fields that the same parties fight over are one war, with a state, a rate and a cause of its
//! own. One object can hold several.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::meter::map_bytes;
use super::policy::Limits;
use super::verdict::{Confidence, Machine, State};
use super::write::Part;
use crate::audit::event::Micros;

/// Wars of one object that are told apart; what would be one more is counted with the calmest.
const WARS_MAX: usize = 16;

/// Names a war among those of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WarId(u32);

/// What a war is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Fields.
    Fields,
    /// The object itself, deleted and created.
    Object,
    /// Fields that one side asks for and admission replaces each time, so that nothing stored moves.
    Override,
    /// A part of the object, of which the fields are not known.
    Part(Part),
}

/// Who fights over what, and how that stands.
#[derive(Clone, Debug)]
pub struct War {
    /// Its name among the object's wars.
    pub id: WarId,
    /// What it is over.
    pub scope: Scope,
    /// Who fights.
    pub parties: Vec<Arc<str>>,
    /// Its retakes, and the verdict on them.
    pub tally: Tally,
    /// How sure it is.
    pub confidence: Confidence,
}

/// Retakes, and the verdict on them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The state machine they drive.
    pub machine: Machine,
    /// Writes that took something back.
    pub retakes: u32,
    /// Those of them that brought a former value back.
    pub reversals: u32,
    /// Thrashing events.
    pub thrashes: u32,
    /// By party.
    pub parties: BTreeMap<Arc<str>, PartyTally>,
    /// When the present run of retakes began: with the write that was first taken back.
    pub since: Option<Micros>,
}

/// One party's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartyTally {
    /// Its retakes.
    pub retakes: u32,
    /// Thrashing events that its writes were.
    pub thrashes: u32,
}

/// What one write took back in one war.
#[derive(Clone, Debug)]
pub(super) struct Blow {
    /// Who took it back.
    pub(super) party: Arc<str>,
    /// From whom.
    pub(super) from: Arc<str>,
    /// When.
    pub(super) at: Micros,
    /// When the first of what was taken back had been written before.
    pub(super) since: Micros,
    /// Whether a former value came back.
    pub(super) is_reversal: bool,
    /// The confidence that this retake alone gives.
    pub(super) confidence: Confidence,
    /// Whether a pause can help: some side keeps asking by itself.
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
    /// Bytes that it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let parties =
            self.parties.len() * size_of::<Arc<str>>() + map_bytes::<Arc<str>, PartyTally>(self.tally.parties.len());
        size_of::<War>() + parties + self.tally.machine.bytes()
    }
}

// === impl Wars ===

impl Wars {
    /// The wars, in the order in which they began.
    pub fn iter(&self) -> std::slice::Iter<'_, War> {
        self.wars.iter()
    }

    /// The war of this name.
    pub fn get(&self, id: WarId) -> Option<&War> {
        self.wars.iter().find(|war| war.id == id)
    }

    /// The most urgent war that is at least so sure.
    pub fn worst(&self, at_least: Confidence) -> Option<&War> {
        let rank = |war: &War| (war.tally.machine.state().urgency(), war.tally.thrashes, war.tally.retakes);
        let of = |war: &&War| war.confidence >= at_least.min(Confidence::Probable) && war.tally.retakes > 0;
        // Of equals the first: `max_by_key` would take the last.
        self.wars.iter().rev().filter(of).max_by_key(|war| rank(war))
    }

    /// Makes the state changes that are due by `now`.
    pub(super) fn advance(&mut self, now: Micros, limits: &Limits) {
        self.wars.iter_mut().for_each(|war| war.tally.machine.advance(now, limits));
    }

    /// When the state of a war changes next if there is no further retake.
    pub(super) fn due(&self, limits: &Limits) -> Option<Micros> {
        self.wars.iter().filter_map(|war| war.tally.machine.due(limits)).min()
    }

    /// A person lifted the pause.
    pub(super) fn resume(&mut self, at: Micros) {
        self.wars.iter_mut().for_each(|war| war.tally.machine.resume(at));
    }

    /// The object was deleted: what was fought over is gone. Whether it may be there at all may still be fought over.
    pub(super) fn end(&mut self, at: Micros) {
        let ends = |war: &&mut War| war.scope != Scope::Object;
        self.wars.iter_mut().filter(ends).for_each(|war| war.tally.machine.end(at));
    }

    /// The war of these parties, sorted, if there is one.
    pub(super) fn of(&self, scope: Scope, parties: &[Arc<str>]) -> Option<WarId> {
        self.wars.iter().find(|war| war.scope == scope && war.parties == parties).map(|war| war.id)
    }

    /// Begins a war of these parties, sorted.
    pub(super) fn begin(&mut self, scope: Scope, parties: Vec<Arc<str>>) -> WarId {
        self.put(War { id: WarId(0), scope, parties, tally: Tally::default(), confidence: Confidence::Possible })
    }

    /// A war goes on with more parties.
    pub(super) fn widen(&mut self, id: WarId, parties: Vec<Arc<str>>) {
        if let Some(war) = self.wars.iter_mut().find(|war| war.id == id) {
            war.parties = parties;
        }
    }

    /// Some fields of a war go on with more parties: as a war of their own, whose buckets are as empty, and which has had these
    /// retakes.
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

    /// Forgets a war whose fields have all gone on in another one.
    pub(super) fn drop(&mut self, id: WarId) {
        self.wars.retain(|war| war.id != id);
    }

    /// Counts what one write took back in one war; whether that was a thrashing event.
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
    /// Counts a retake; whether it was a thrashing event.
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

    /// Where it stands.
    pub fn state(&self) -> State {
        self.machine.state()
    }
}

#[cfg(test)]
#[path = "war/tests.rs"]
mod tests;
