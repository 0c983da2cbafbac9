//! Detects retakes and wars in the writes of one object. The writes are processed one by one, in their true order.

mod cooperations;
mod overrides;
mod tracked_fields;

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

pub(crate) use self::cooperations::Cooperation;
use self::cooperations::Cooperations;
pub(crate) use self::overrides::AdmissionOverride;
use self::overrides::{AdmissionOverrides, Repeated};
use self::tracked_fields::TrackedFields;
use super::actor::Client;
use super::actor_class::ActorClass;
use super::annotations::is_pause;
use super::existence::{Existence, ExistenceEvent};
use super::field_history::{Author, FieldHistory, Retake, Step};
use super::fields::{Change, EvidenceLevel, Path};
use super::meter::map_bytes;
use super::part_history::PartHistory;
use super::policy::{Limits, ObjectLimits};
use super::record::{Overridden, Record};
use super::verdict::{Confidence, State};
use super::war::{CountedRetake, Scope, War, WarId, Wars};
use super::write::Effect;
use crate::audit::event::Micros;

/// New thrashing events, by party.
pub(crate) type ThrashingCounts = SmallVec<[(Arc<str>, u32); 1]>;

/// The conclusions from a sequence of writes.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    seq: u32,
    fields: TrackedFields,
    /// Whether a body had more fields than are compared.
    is_truncated: bool,
    parts: [PartHistory; 2],
    part_wars: [Option<WarId>; 2],
    existence: Existence,
    overrides: AdmissionOverrides,
    wars: Wars,
    cooperations: Cooperations,
    creator: Option<Author>,
    /// Thrashing events by party: at most one for each write, regardless of the number of its wars.
    thrashing_events: BTreeMap<Arc<str>, u32>,
}

/// A retake of one field.
struct FieldRetake {
    path: Path,
    retake: Retake,
}

type FieldRetakes = SmallVec<[FieldRetake; 2]>;

/// Retakes of one write in one war.
struct WarRetakes {
    war: WarId,
    retakes: FieldRetakes,
}

/// Retakes of one write over fields with the same parties and the same war so far.
struct RetakeGroup {
    war: Option<WarId>,
    parties: Vec<Arc<str>>,
    retakes: FieldRetakes,
}

// === impl Analysis ===

impl Analysis {
    /// Returns the wars over the object, in the order in which they began.
    pub fn wars(&self) -> impl Iterator<Item = &War> {
        self.wars.iter()
    }

    /// Returns the most urgent war with at least this confidence.
    pub fn worst(&self, at_least: Confidence) -> Option<&War> {
        self.wars.worst(at_least)
    }

    /// Returns the state of the most urgent war with at least this confidence.
    pub fn state(&self, at_least: Confidence) -> State {
        self.worst(at_least).map_or(State::Calm, |war| war.tally.state())
    }

    /// Returns the co-operations.
    pub fn cooperations(&self) -> &[Cooperation] {
        self.cooperations.as_slice()
    }

    /// Returns the contested fields, those with the most retakes first.
    pub fn contested_fields(&self) -> Vec<(&Path, &FieldHistory)> {
        let mut fields: Vec<_> = self.fields.iter().filter(|(_, field)| field.is_contested()).collect();
        fields.sort_by_key(|(path, field)| (std::cmp::Reverse(field.retakes), (*path).clone()));
        fields
    }

    /// Whether a field was contested in an earlier object of the same name, and has not changed in the present one.
    pub fn is_outdated(&self, path: &str) -> bool {
        self.fields.is_outdated(path)
    }

    /// Returns the overridden requests of one war.
    pub fn overrides_of(&self, war: WarId) -> impl Iterator<Item = &AdmissionOverride> {
        self.overrides.iter().filter(move |o| o.war == Some(war))
    }

    /// Returns how often the object was alternately deleted and created.
    pub fn existence_retakes(&self) -> u32 {
        self.existence.retakes
    }

    /// Returns when the object was deleted, if it is gone. The deletion ended the wars over its fields.
    pub fn deleted_at(&self) -> Option<Micros> {
        self.existence.deleted_at()
    }

    /// Returns how often each client created and deleted the object.
    pub fn existence(&self) -> &[(Arc<Client>, Effect, u32)] {
        &self.existence.counts
    }

    /// Makes the transitions that are due by `now`.
    pub(super) fn advance(&mut self, now: Micros, limits: &Limits) {
        self.wars.advance(now, limits);
    }

    /// Returns when a state changes next if there is no further write.
    pub(super) fn due(&self, limits: &Limits) -> Option<Micros> {
        self.wars.due(limits)
    }

    /// Records that a person lifted the pause at this time, which refills the buckets.
    pub(super) fn resume(&mut self, at: Micros) {
        self.wars.resume(at);
    }

    /// Returns the thrashing events that `before` does not have.
    pub(super) fn thrashing_since(&self, before: &Analysis) -> ThrashingCounts {
        let then = |party: &Arc<str>| before.thrashing_events.get(party).copied().unwrap_or(0);
        let new = self.thrashing_events.iter().map(|(party, count)| (party.clone(), count.saturating_sub(then(party))));
        new.filter(|(_, count)| *count > 0).collect()
    }

    /// Returns the number of thrashing events of all parties.
    pub(super) fn thrashing_total(&self) -> u32 {
        self.thrashing_events.values().sum()
    }

    /// Folds in the next write. Returns the party if it was a thrashing event.
    pub(super) fn step(&mut self, record: &Record, on: &ObjectLimits<'_>) -> Option<Arc<str>> {
        self.seq += 1;
        let author = Author { client: record.client.clone(), at: record.order.at, seq: self.seq };
        let mut thrashed = None;
        if record.effect != Effect::Modify {
            thrashed = self.step_existence(record, &author, on);
        }
        self.is_truncated |= record.is_truncated;
        if record.is_blind && self.creator.as_ref().is_some_and(|c| !c.client.is_same_actor(&record.client)) {
            // It is not known what the write changed, so an old value can no longer be attributed to the creator.
            self.creator = None;
        }
        let changes = record.changes.iter().filter(|change| !is_pause(&change.path));
        thrashed = self.step_fields(changes, record, &author, on).or(thrashed);
        if let Some(admission) = &record.admission {
            // Within one write, each field is changed either by the requester or by one webhook, so the order does not
            // matter.
            for (webhook, changes) in admission.by_webhook() {
                let author = Author { client: webhook.clone(), ..author.clone() };
                thrashed = self.step_fields(changes.into_iter(), record, &author, on).or(thrashed);
            }
            for overridden in &admission.overridden {
                thrashed = self.step_override(overridden, record, on).or(thrashed);
            }
        }
        let is_pause = !record.changes.is_empty() && record.changes.iter().all(|change| is_pause(&change.path));
        let is_own = on.limits.own.as_deref() == Some(&*record.client.actor);
        let is_in_parts = !record.client.is_unknown() && !record.is_misplaced && !record.is_no_op;
        if record.effect != Effect::Delete && is_in_parts && !is_pause && !is_own {
            let retake = self.parts[record.part as usize].step(record, &author, on);
            if let Some(retake) = retake {
                let known = &self.part_wars[record.part as usize];
                let id = self.wars.join(Scope::Part(record.part), *known, [&retake.party, &retake.from]);
                self.part_wars[record.part as usize] = Some(id);
                thrashed = thrashed.or(self.count_retake(id, &retake, &author, on.limits));
            }
        }
        if let Some(party) = &thrashed {
            *self.thrashing_events.entry(party.clone()).or_default() += 1;
        }
        thrashed
    }

    fn step_existence(&mut self, record: &Record, author: &Author, on: &ObjectLimits<'_>) -> Option<Arc<str>> {
        let event = ExistenceEvent { effect: record.effect, author, level: record.level, content: record.content };
        let was_deleted = self.existence.is_deleted();
        let step = self.existence.step(&event, on);
        match record.effect {
            Effect::Delete if !was_deleted => self.wars.end(author.at),
            // If the author of a deletion recreates the object, its history continues; a creation by another actor
            // begins a new one.
            Effect::Create if !record.is_misplaced && !record.is_replacement => {
                self.creator = Some(author.clone());
                self.fields.begin_epoch();
                self.parts.iter_mut().for_each(PartHistory::begin_epoch);
            }
            _ => {}
        }
        match step {
            Step::None => None,
            Step::Cooperation(rule, other) => {
                self.cooperations.record(rule, "(object)".into(), author, &other, on.limits);
                None
            }
            Step::Retake(retake) => {
                let id = self.wars.join(Scope::Object, self.existence.war, [&retake.party, &retake.from]);
                self.existence.war = Some(id);
                self.count_retake(id, &retake, author, on.limits)
            }
        }
    }

    fn step_fields<'c>(
        &mut self,
        changes: impl Iterator<Item = &'c Change>,
        record: &Record,
        author: &Author,
        on: &ObjectLimits<'_>,
    ) -> Option<Arc<str>> {
        let mut retakes = FieldRetakes::new();
        for change in changes {
            match self.fields.step(change, record.level, author, self.creator.as_ref(), on) {
                Step::None => {}
                Step::Retake(retake) => retakes.push(FieldRetake { path: change.path.clone(), retake }),
                Step::Cooperation(rule, other) => {
                    self.cooperations.record(rule, change.path.clone(), author, &other, on.limits);
                }
            }
        }
        let mut thrashed = None;
        if retakes.is_empty() {
            return thrashed;
        }
        for WarRetakes { war, retakes } in self.assign(retakes) {
            let Some(first) = retakes.iter().min_by_key(|r| r.retake.since) else { continue };
            let is_reversal = retakes.iter().any(|r| r.retake.is_reversal);
            let counted = self.count_retake(war, &Retake { is_reversal, ..first.retake.clone() }, author, on.limits);
            for FieldRetake { path, retake } in &retakes {
                if let Some(field) = self.fields.get_mut(path) {
                    field.count(retake, counted.is_some());
                    field.war = Some(war);
                }
            }
            thrashed = thrashed.or(counted);
        }
        thrashed
    }

    /// Counts a value that a webhook replaced. It counts only if the requester requested the same value before: a
    /// pipeline whose image names are rewritten requests another value each time.
    fn step_override(&mut self, overridden: &Overridden, record: &Record, on: &ObjectLimits<'_>) -> Option<Arc<str>> {
        let (requester, at) = (&record.client, record.order.at);
        let Repeated { index, since } = self.overrides.record(overridden, requester, at)?;
        if at.saturating_sub(since) > on.limits.window() {
            return None;
        }
        // The requester retakes the field, and the webhook retakes it at once.
        let by = |party: &Client, from: &Client| Retake {
            level: EvidenceLevel::Field,
            is_reversal: false,
            party: party.actor.clone(),
            from: from.actor.clone(),
            since,
        };
        let (request, replacement) = (by(requester, &overridden.webhook), by(&overridden.webhook, requester));
        let id = self.wars.join(Scope::Override, None, [&request.party, &request.from]);
        self.overrides.set_war(index, id);
        let author = Author { client: requester.clone(), at, seq: self.seq };
        let requested = self.count_retake(id, &request, &author, on.limits);
        self.count_retake(id, &replacement, &author, on.limits).or(requested)
    }

    /// Assigns the fields of one write to wars. Parties belong to fields: a field whose parties grow moves to the war
    /// of these parties.
    fn assign(&mut self, retakes: FieldRetakes) -> Vec<WarRetakes> {
        let mut groups: Vec<RetakeGroup> = Vec::new();
        for FieldRetake { path, retake } in retakes {
            let field = self.fields.get(&path);
            let war = field.and_then(|field| field.war).filter(|id| self.wars.get(*id).is_some());
            let mut parties: Vec<Arc<str>> =
                field.into_iter().flat_map(|field| &field.parties).map(|(party, _)| party.clone()).collect();
            parties.extend([retake.party.clone(), retake.from.clone()]);
            parties.sort_unstable();
            parties.dedup();
            let same = groups.iter_mut().find(|group| group.war == war && group.parties == parties);
            let retake = FieldRetake { path, retake };
            match same {
                Some(group) => group.retakes.push(retake),
                None => groups.push(RetakeGroup { war, parties, retakes: FieldRetakes::from_iter([retake]) }),
            }
        }
        let mut assigned: Vec<WarRetakes> = Vec::new();
        for group in groups {
            let war = self.war_of(group.war, group.parties, &group.retakes);
            match assigned.iter_mut().find(|known| known.war == war) {
                Some(known) => known.retakes.extend(group.retakes),
                None => assigned.push(WarRetakes { war, retakes: group.retakes }),
            }
        }
        assigned
    }

    /// Returns the war of these parties over fields that belonged to `war` before.
    fn war_of(&mut self, war: Option<WarId>, parties: Vec<Arc<str>>, retakes: &[FieldRetake]) -> WarId {
        let is_moving = |path: &Path| retakes.iter().any(|moving| moving.path == *path);
        let known = self.wars.find(Scope::Fields, &parties);
        match (war, known) {
            (Some(war), Some(known)) => {
                if war != known && !self.fields.has_others_of(war, is_moving) {
                    self.wars.drop(war);
                }
                known
            }
            (Some(war), None) if !self.fields.has_others_of(war, is_moving) => {
                self.wars.widen(war, parties);
                war
            }
            (Some(war), None) => {
                let moving = retakes.iter().filter_map(|moving| self.fields.get(&moving.path));
                let shares = moving.max_by_key(|field| field.retakes).map(|field| field.parties.clone());
                self.wars.split(war, parties, &shares.unwrap_or_default())
            }
            (None, Some(known)) => known,
            (None, None) => self.wars.begin(Scope::Fields, parties),
        }
    }

    /// Counts a retake in its war. Returns the party if it is a thrashing event and the war's fields are known. Wars
    /// whose fields are not known increment no counter and raise no alert.
    fn count_retake(&mut self, id: WarId, retake: &Retake, author: &Author, limits: &Limits) -> Option<Arc<str>> {
        let scope = self.wars.get(id)?.scope;
        let counted = CountedRetake {
            party: &retake.party,
            from: &retake.from,
            at: author.at,
            since: retake.since,
            is_reversal: retake.is_reversal,
            level: retake.level,
            is_pausable: scope != Scope::Override || author.client.class != ActorClass::Person,
        };
        let is_thrashing = self.wars.count_retake(id, &counted, limits);
        let is_counted = |war: &War| war.confidence.is_decided() || limits.counted_undecided.includes(&war.parties);
        (is_thrashing && self.wars.get(id).is_some_and(is_counted)).then(|| retake.party.clone())
    }

    /// Returns the number of changed fields that are not tracked.
    pub fn untracked_fields(&self) -> usize {
        self.fields.untracked()
    }

    /// Whether a body had more fields than are compared.
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// Returns the approximate bytes of the analysis.
    pub(super) fn bytes(&self) -> usize {
        let parties = map_bytes::<Arc<str>, u32>(self.thrashing_events.len());
        let wars: usize = self.wars.iter().map(War::bytes).sum();
        let lists = self.overrides.bytes() + self.cooperations.bytes();
        size_of::<Analysis>() + self.fields.bytes() + parties + lists + wars
    }
}

#[cfg(test)]
#[path = "analysis/tests.rs"]
mod tests;
