//! The conclusions from a sequence of writes, folded step by step in their true order: retakes, and the wars they make
//! up.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::actor::Client;
use super::annotations::is_pause;
use super::class::Class;
use super::cooperation::Row;
use super::existence::{self, Existence};
use super::field_history::{Author, FieldHistory, Retake, Step};
use super::fields::{Change, FieldValue, Path, Tier};
use super::meter::{TEXT_BYTES, map_bytes};
use super::part_history::PartHistory;
use super::policy::{Limits, ObjectLimits};
use super::record::{Overridden, Record};
use super::sketch::{Sketch, Trace};
use super::verdict::{Confidence, State};
use super::war::{Blow, Scope, Tally, War, WarId, Wars};
use super::write::Effect;
use crate::audit::event::Micros;

/// Fields of one object that are tracked. Of other fields, only a change that another writer undoes is noticed.
const FIELDS_MAX: usize = 256;
/// Overridden requests that are kept, by requester, field and value.
const OVERRIDES_MAX: usize = 64;
/// Co-operations of one object that are counted separately.
const COOPERATIONS_MAX: usize = 8;

/// If no tracked field could be dropped, time until this is tried again.
const LOOK_AGAIN: Micros = 60_000_000;

/// New thrashing events, by party.
pub type Thrashes = SmallVec<[(Arc<str>, u32); 1]>;

/// The conclusions from a sequence of writes.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    seq: u32,
    /// Boxed, because the first node of a map has room for eleven entries, and most objects have one field.
    fields: BTreeMap<Path, Box<FieldHistory>>,
    /// Fields that changed while no further field could be tracked.
    others: Option<Box<Sketch>>,
    /// Before this time, no tracked field can be dropped for another one.
    full_until: Micros,
    /// Whether a body had more fields than are compared.
    is_cut: bool,
    /// Histories that began in an earlier object of the same name, and have not changed in this one yet.
    outdated: Vec<Path>,
    parts: [PartHistory; 2],
    part_wars: [Option<WarId>; 2],
    existence: Existence,
    overrides: Vec<Override>,
    wars: Wars,
    cooperations: Vec<Cooperation>,
    creator: Option<Author>,
    /// Thrashing events by party: at most one for each write, regardless of the number of its wars.
    thrashes: BTreeMap<Arc<str>, u32>,
}

/// A value that a requester asks for, and that a webhook replaces each time.
#[derive(Clone, Debug)]
pub struct Override {
    /// The field.
    pub path: Path,
    /// The client that requests the value.
    pub requester: Arc<Client>,
    /// The webhook.
    pub webhook: Arc<Client>,
    /// The requested value; `None` if the field should be absent.
    pub asked: Option<FieldValue>,
    /// The value that the webhook sets instead.
    pub given: Option<FieldValue>,
    /// How often this happened.
    pub count: u32,
    at: Micros,
    war: Option<WarId>,
}

/// Actors that write the same field by design.
#[derive(Clone, Debug)]
pub struct Cooperation {
    /// The row's name.
    pub name: Arc<str>,
    /// Why it is not a war.
    pub reason: Arc<str>,
    /// What it is called if it happens too often; `None` if that is normal.
    pub excess: Option<Arc<str>>,
    /// The actors.
    pub actors: Vec<Arc<str>>,
    /// How often one actor wrote after the other, and whether that is too often.
    pub tally: Tally,
    /// The fields.
    pub paths: Vec<Path>,
}

/// A retake and the path of its field.
type OfField = (Path, Retake);

// === impl Findings ===

impl Findings {
    /// Returns the wars over the object.
    pub fn wars(&self) -> impl Iterator<Item = &War> {
        let is_known = self.wars.worst(Confidence::Probable).is_some_and(|war| war.tally.thrashes > 0);
        // If a war with known fields thrashes, one without known fields adds nothing.
        self.wars.iter().filter(move |war| war.confidence > Confidence::Possible || !is_known)
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
        &self.cooperations
    }

    /// Returns the contested fields, those with the most retakes first.
    pub fn contested_fields(&self) -> Vec<(&Path, &FieldHistory)> {
        let fields = self.fields.iter().map(|(path, field)| (path, &**field));
        let mut fields: Vec<_> = fields.filter(|(_, field)| field.is_contested()).collect();
        fields.sort_by_key(|(path, field)| (std::cmp::Reverse(field.retakes), (*path).clone()));
        fields
    }

    /// Returns the fields of one war, those with the most retakes first.
    pub fn fields_of(&self, war: WarId) -> Vec<(&Path, &FieldHistory)> {
        self.contested_fields().into_iter().filter(|(_, field)| field.war == Some(war)).collect()
    }

    /// Returns the overridden requests of one war.
    pub fn overrides_of(&self, war: WarId) -> impl Iterator<Item = &Override> {
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
    pub(super) fn thrashes_since(&self, before: &Findings) -> Thrashes {
        let then = |party: &Arc<str>| before.thrashes.get(party).copied().unwrap_or(0);
        let new = self.thrashes.iter().map(|(party, count)| (party.clone(), count.saturating_sub(then(party))));
        new.filter(|(_, count)| *count > 0).collect()
    }

    /// Folds in the next write. Returns the party if it was a thrashing event.
    pub(super) fn step(&mut self, record: &Record, on: &ObjectLimits<'_>) -> Option<Arc<str>> {
        self.seq += 1;
        let author = Author { client: record.client.clone(), at: record.order.at, seq: self.seq };
        let mut thrashed = None;
        if record.effect != Effect::Modify {
            thrashed = self.step_existence(record, &author, on);
        }
        self.is_cut |= record.is_cut();
        if record.is_blind && self.creator.as_ref().is_some_and(|c| !c.client.is_same_actor(&record.client)) {
            // It is not known what the write set: from now on, values need not be the creator's.
            self.creator = None;
        }
        let changes = record.changes.iter().filter(|change| !is_pause(&change.path));
        thrashed = self.step_fields(changes, record, &author, on).or(thrashed);
        if let Some(admission) = &record.admission {
            // What a webhook changes, the requester and other webhooks do not change in the same write: they need no order.
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
        if record.effect != Effect::Delete && !record.is_misplaced && !record.is_no_op && !is_pause && !is_own {
            let retake = self.parts[record.part as usize].step(record.part, record.tier, &author, on);
            if let Some(retake) = retake {
                let known = &self.part_wars[record.part as usize];
                let id = self.war(Scope::Part(record.part), *known, &retake);
                self.part_wars[record.part as usize] = Some(id);
                thrashed = thrashed.or(self.strike(id, &retake, &author, on.limits));
            }
        }
        if let Some(party) = &thrashed {
            *self.thrashes.entry(party.clone()).or_default() += 1;
        }
        thrashed
    }

    fn step_existence(&mut self, record: &Record, author: &Author, on: &ObjectLimits<'_>) -> Option<Arc<str>> {
        let event = existence::Event { effect: record.effect, author, tier: record.tier, content: record.content };
        let was_deleted = self.existence.is_deleted();
        let step = self.existence.step(&event, on);
        match record.effect {
            Effect::Delete if !was_deleted => self.wars.end(author.at),
            // If the author of a deletion recreates the object, its history continues; a creation by another actor
            // begins a new one.
            Effect::Create if !record.is_misplaced && !record.is_replacement => {
                self.creator = Some(author.clone());
                self.outdated = self.fields.keys().cloned().collect();
                self.parts.iter_mut().for_each(PartHistory::begin_epoch);
            }
            _ => {}
        }
        match step {
            Step::None => None,
            Step::Cooperation(row, other) => {
                self.cooperate(row, "(object)".into(), author, &other, on.limits);
                None
            }
            Step::Retake(retake) => {
                let id = self.war(Scope::Object, self.existence.war, &retake);
                self.existence.war = Some(id);
                self.strike(id, &retake, author, on.limits)
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
        let mut retakes: SmallVec<[OfField; 2]> = SmallVec::new();
        for change in changes {
            match self.step_field(change, record.tier, author, on) {
                Step::None => {}
                Step::Retake(retake) => retakes.push((change.path.clone(), retake)),
                Step::Cooperation(row, other) => {
                    self.cooperate(row, change.path.clone(), author, &other, on.limits);
                }
            }
        }
        let mut thrashed = None;
        for (id, retakes) in self.assign(retakes) {
            let Some(first) = retakes.iter().min_by_key(|(_, retake)| retake.since) else { continue };
            let blow = Retake { is_reversal: retakes.iter().any(|(_, retake)| retake.is_reversal), ..first.1.clone() };
            let struck = self.strike(id, &blow, author, on.limits);
            for (path, retake) in &retakes {
                if let Some(field) = self.fields.get_mut(path) {
                    field.count(retake, struck.is_some());
                    field.war = Some(id);
                }
            }
            thrashed = thrashed.or(struck);
        }
        thrashed
    }

    fn step_field<'l>(&mut self, change: &Change, tier: Tier, author: &Author, on: &ObjectLimits<'l>) -> Step<'l> {
        if !self.fields.contains_key(&change.path) {
            if let Some(field) = self.begin_to_follow(change, author, on.limits) {
                self.fields.insert(change.path.clone(), Box::new(field));
            }
        } else if let Ok(index) = self.outdated.binary_search(&change.path) {
            self.outdated.remove(index);
            if let Some(field) = self.fields.get_mut(&change.path) {
                field.begin_epoch(change, self.creator.as_ref());
            }
        }
        self.fields.get_mut(&change.path).map_or(Step::None, |field| field.step(change, tier, author, on))
    }

    /// Counts a value that a webhook replaced. It counts only if the requester requested the same value before: a
    /// pipeline whose image names are rewritten requests another value each time.
    fn step_override(&mut self, overridden: &Overridden, record: &Record, on: &ObjectLimits<'_>) -> Option<Arc<str>> {
        let (requester, at) = (&record.client, record.order.at);
        let is_it = |o: &&mut Override| {
            o.path == overridden.path
                && o.requester.is_same_actor(requester)
                && o.webhook.is_same_actor(&overridden.webhook)
                && o.asked == overridden.asked
        };
        let Some(known) = self.overrides.iter_mut().find(is_it) else {
            if self.overrides.len() >= OVERRIDES_MAX
                && let Some(rarest) =
                    (0..self.overrides.len()).min_by_key(|i| (self.overrides[*i].count, self.overrides[*i].at))
            {
                self.overrides.remove(rarest);
            }
            self.overrides.push(Override {
                path: overridden.path.clone(),
                requester: requester.clone(),
                webhook: overridden.webhook.clone(),
                asked: overridden.asked.clone(),
                given: overridden.given.clone(),
                count: 1,
                at,
                war: None,
            });
            return None;
        };
        let since = std::mem::replace(&mut known.at, at);
        known.count += 1;
        known.given = overridden.given.clone();
        if at.saturating_sub(since) > on.limits.window() {
            return None;
        }
        // The requester retakes the field, and the webhook retakes it at once.
        let webhook = overridden.webhook.clone();
        let by = |party: &Client, from: &Client| Retake {
            tier: Tier::Field,
            is_reversal: false,
            party: party.actor.clone(),
            from: from.actor.clone(),
            since,
        };
        let (asks, replaces) = (by(requester, &webhook), by(&webhook, requester));
        let id = self.war(Scope::Override, None, &asks);
        if let Some(known) = self.overrides.iter_mut().find(is_it) {
            known.war = Some(id);
        }
        let author = Author { client: requester.clone(), at, seq: self.seq };
        let asked = self.strike(id, &asks, &author, on.limits);
        self.strike(id, &replaces, &author, on.limits).or(asked)
    }

    /// Returns the war for the parties of a retake. A known war continues with these parties added.
    fn war(&mut self, scope: Scope, known: Option<WarId>, retake: &Retake) -> WarId {
        let is_party = |war: &War| war.parties.contains(&retake.party) && war.parties.contains(&retake.from);
        if let Some(id) = known
            && self.wars.get(id).is_some_and(is_party)
        {
            return id;
        }
        let parties = self.parties(known, std::iter::once(retake));
        match known.filter(|id| self.wars.get(*id).is_some()) {
            Some(id) => {
                self.wars.widen(id, parties);
                id
            }
            None => self.wars.of(scope, &parties).unwrap_or_else(|| self.wars.begin(scope, parties)),
        }
    }

    /// Returns the parties of a war together with those of these retakes, sorted.
    fn parties<'r>(&self, known: Option<WarId>, retakes: impl Iterator<Item = &'r Retake>) -> Vec<Arc<str>> {
        let mut parties = known.and_then(|id| self.wars.get(id)).map_or_else(Vec::new, |war| war.parties.clone());
        parties.extend(retakes.flat_map(|retake| [retake.party.clone(), retake.from.clone()]));
        parties.sort_unstable();
        parties.dedup();
        parties
    }

    /// Assigns the fields of one write to wars. Parties belong to fields: a field whose parties grow moves to the war
    /// of these parties.
    fn assign(&mut self, retakes: SmallVec<[OfField; 2]>) -> Vec<(WarId, SmallVec<[OfField; 2]>)> {
        type Group = (Option<WarId>, Vec<Arc<str>>, SmallVec<[OfField; 2]>);
        let mut groups: Vec<Group> = Vec::new();
        for (path, retake) in retakes {
            let war = self.fields.get(&path).and_then(|field| field.war).filter(|id| self.wars.get(*id).is_some());
            let own = self.fields.get(&path).map_or_else(Vec::new, |field| {
                field.parties.iter().map(|(party, _)| party.clone()).collect::<Vec<_>>()
            });
            let mut parties = own;
            parties.extend([retake.party.clone(), retake.from.clone()]);
            parties.sort_unstable();
            parties.dedup();
            match groups.iter_mut().find(|(id, of, _)| *id == war && *of == parties) {
                Some((.., fields)) => fields.push((path, retake)),
                None => groups.push((war, parties, SmallVec::from_iter([(path, retake)]))),
            }
        }
        let mut assigned: Vec<(WarId, SmallVec<[OfField; 2]>)> = Vec::new();
        for (war, parties, fields) in groups {
            let id = self.war_of(war, parties, &fields);
            match assigned.iter_mut().find(|(known, _)| *known == id) {
                Some((_, known)) => known.extend(fields),
                None => assigned.push((id, fields)),
            }
        }
        assigned
    }

    /// Returns the war of these parties over fields that belonged to `war` before.
    fn war_of(&mut self, war: Option<WarId>, parties: Vec<Arc<str>>, fields: &[OfField]) -> WarId {
        let is_here = |path: &Path| fields.iter().any(|(moving, _)| moving == path);
        let stays = |id: WarId| self.fields.iter().any(|(path, field)| field.war == Some(id) && !is_here(path));
        let known = self.wars.of(Scope::Fields, &parties);
        match (war, known) {
            (Some(war), Some(known)) => {
                if war != known && !stays(war) {
                    self.wars.drop(war);
                }
                known
            }
            (Some(war), None) if !stays(war) => {
                self.wars.widen(war, parties);
                war
            }
            (Some(war), None) => {
                let moving = fields.iter().filter_map(|(path, _)| self.fields.get(path));
                let shares = moving.max_by_key(|field| field.retakes).map(|field| field.parties.clone());
                self.wars.split(war, parties, &shares.unwrap_or_default())
            }
            (None, Some(known)) => known,
            (None, None) => self.wars.begin(Scope::Fields, parties),
        }
    }

    /// Counts a retake in its war. Returns the party if it is a thrashing event and the war's fields are known. An
    /// undecided war raises no counter and no alert.
    fn strike(&mut self, id: WarId, retake: &Retake, author: &Author, limits: &Limits) -> Option<Arc<str>> {
        let scope = self.wars.get(id)?.scope;
        let confidence = match (scope, retake.tier) {
            (Scope::Part(_), _) | (_, Tier::Object) => Confidence::Possible,
            (Scope::Fields | Scope::Object, Tier::Value) if retake.is_reversal => Confidence::Confirmed,
            _ => Confidence::Probable,
        };
        let blow = Blow {
            party: retake.party.clone(),
            from: retake.from.clone(),
            at: author.at,
            since: retake.since,
            is_reversal: retake.is_reversal,
            confidence,
            is_pausable: scope != Scope::Override || author.client.class != Class::Person,
        };
        let is_thrash = self.wars.strike(id, &blow, limits);
        let is_sure = self.wars.get(id).is_some_and(|war| war.confidence > Confidence::Possible);
        (is_thrash && is_sure).then(|| retake.party.clone())
    }

    fn cooperate(&mut self, row: &Row, path: Path, author: &Author, other: &Client, limits: &Limits) {
        let index = self.cooperations.iter().position(|c| *c.name == *row.name).or_else(|| {
            (self.cooperations.len() < COOPERATIONS_MAX).then(|| {
                self.cooperations.push(Cooperation {
                    name: row.name.as_str().into(),
                    reason: row.reason.as_str().into(),
                    excess: row.excess.as_deref().map(Into::into),
                    actors: Vec::new(),
                    tally: Tally::default(),
                    paths: Vec::new(),
                });
                self.cooperations.len() - 1
            })
        });
        let Some(known) = index.and_then(|index| self.cooperations.get_mut(index)) else { return };
        known.note(path, author, other, limits);
    }

    /// Returns the history of a field that changes for the first time, if the field can be tracked. Contested fields
    /// are never dropped for it. Other fields are dropped if they have not changed for long, or if this write undoes
    /// the last change of the new field.
    fn begin_to_follow(&mut self, change: &Change, author: &Author, limits: &Limits) -> Option<FieldHistory> {
        if self.fields.len() < FIELDS_MAX || self.give_up(author.at.saturating_sub(limits.window()), author.at) {
            return Some(FieldHistory::new(change, self.creator.as_ref()));
        }
        let others = self.others.get_or_insert_default();
        let Trace { client, .. } = others.note(change, &author.client)?;
        self.full_until = i64::MIN;
        let undone = Author { client, at: author.at, seq: author.seq };
        if self.give_up(i64::MAX, author.at) {
            return Some(FieldHistory::undoing(change, &undone));
        }
        // All tracked fields are contested, or become contested by this write. So does this one, but it stays
        // untracked.
        self.others.get_or_insert_default().put(change, &author.client);
        None
    }

    /// Stops tracking the uncontested field that has not changed for the longest time, if it has not changed since
    /// `until`. Returns whether there was one.
    fn give_up(&mut self, until: Micros, now: Micros) -> bool {
        if now < self.full_until {
            return false;
        }
        // Fields that this write changes may become contested by it.
        let calm = self.fields.iter().filter(|(_, field)| field.retakes == 0 && field.last_at != now);
        let oldest = calm.min_by_key(|(_, field)| field.last_at).map(|(path, field)| (path.clone(), field.last_at));
        match oldest {
            Some((path, at)) if at <= until => self.fields.remove(&path).is_some(),
            Some((_, at)) => {
                self.full_until = now.saturating_add(at.saturating_sub(until));
                false
            }
            None => {
                self.full_until = now.saturating_add(LOOK_AGAIN);
                false
            }
        }
    }

    /// Returns the number of changed fields that are not tracked, and whether a body had more fields than are compared.
    pub fn unfollowed(&self) -> (usize, bool) {
        (self.others.as_ref().map_or(0, |others| others.len()), self.is_cut)
    }

    /// Returns the approximate bytes of the findings.
    pub(super) fn bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(path, field)| TEXT_BYTES + path.len() + field.bytes()).sum();
        let nodes =
            map_bytes::<Path, Box<FieldHistory>>(self.fields.len()) + map_bytes::<Arc<str>, u32>(self.thrashes.len());
        let others = self.others.as_ref().map_or(0, |others| others.bytes());
        let rest = self.overrides.len() * size_of::<Override>() + self.cooperations.len() * size_of::<Cooperation>();
        let wars: usize = self.wars.iter().map(War::bytes).sum();
        size_of::<Findings>() + fields + nodes + others + rest + wars
    }
}

// === impl Cooperation ===

impl Cooperation {
    /// Maximum number of actors and fields that are named.
    const SHOWN_MAX: usize = 8;

    /// Counts one write once, regardless of the number of its fields.
    fn note(&mut self, path: Path, author: &Author, other: &Client, limits: &Limits) {
        for actor in [&author.client.actor, &other.actor] {
            if self.actors.len() < Self::SHOWN_MAX && !self.actors.contains(actor) {
                self.actors.push(actor.clone());
            }
        }
        if self.paths.len() < Self::SHOWN_MAX && !self.paths.contains(&path) {
            self.paths.push(path);
        }
        if self.tally.machine.last_retake() == author.at && self.tally.retakes > 0 {
            return;
        }
        let blow = Blow {
            party: author.client.actor.clone(),
            from: other.actor.clone(),
            at: author.at,
            since: author.at,
            is_reversal: false,
            confidence: Confidence::Possible,
            is_pausable: false,
        };
        self.tally.count(&blow, limits);
    }
}

#[cfg(test)]
#[path = "findings/tests.rs"]
mod tests;
