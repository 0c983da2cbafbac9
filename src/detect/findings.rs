//! Retakes: what a run of an object's writes amounts to, step by step, in their true order.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use smallvec::SmallVec;

use super::actor::Client;
use super::annotations::is_pause;
use super::contest::Record;
use super::fields::{Change, FieldValue, Path, Tier, part_of};
use super::policy::Limits;
use super::verdict::{Confidence, Machine, State};
use super::write::Effect;
use crate::audit::event::Micros;

/// Fields of one object that are followed; the calmest and oldest make room.
const FIELDS_MAX: usize = 256;
/// Different values of one field that are counted apart.
const VALUES_MAX: usize = 16;
/// Authors of one field that are followed.
const AUTHORS_MAX: usize = 16;

/// New thrashing events, by party.
pub type Thrashes = SmallVec<[(Arc<str>, u32); 1]>;

/// What a run of writes amounts to.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    seq: u32,
    fields: BTreeMap<Path, FieldState>,
    parts: [PartState; 2],
    existence: Existence,
    /// All retakes, and those known by their fields. Most contested objects never see one.
    tallies: Option<Box<[Tally; 2]>>,
}

/// Retakes at one level of evidence, and the verdict on them.
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

/// One followed field.
#[derive(Clone, Debug)]
pub struct FieldState {
    authors: SmallVec<[Author; 2]>,
    /// Values the field was given, by whom, how often; `None` stands for its absence.
    pub values: Vec<ValueSeen>,
    initial: Option<FieldValue>,
    /// Writes that took it back.
    pub retakes: u32,
    /// Those of them that brought a former value back.
    pub reversals: u32,
    /// Whether all changes so far only moved it on: numbers and times that grew, lists that kept what they had.
    is_progress: bool,
    last_at: Micros,
}

/// A value and who gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueSeen {
    /// The value; `None` where the field was removed.
    pub value: Option<FieldValue>,
    /// Who set it: actor, or `actor via tool` where one account fights itself.
    pub client: Arc<Client>,
    /// How often.
    pub count: u32,
}

#[derive(Clone, Debug)]
struct Author {
    client: Arc<Client>,
    /// The actor's id, at hand.
    actor: u64,
    at: Micros,
    seq: u32,
}

/// Who wrote to a part of the object, at any tier.
#[derive(Clone, Debug, Default)]
struct PartState {
    writers: SmallVec<[PartWriter; 2]>,
}

#[derive(Clone, Debug)]
struct PartWriter {
    client: Arc<Client>,
    actor: u64,
    at: Micros,
    seq: u32,
    tier: Tier,
    /// The last of its writes whose fields are not known.
    blind_seq: Option<u32>,
}

/// The object's comings and goings.
#[derive(Clone, Debug, Default)]
struct Existence {
    last: Option<(Effect, Author)>,
    authors: SmallVec<[Author; 2]>,
    retakes: u32,
    creators: SmallVec<[(Arc<Client>, Effect, u32); 2]>,
}

/// What one write took back, at which level of evidence.
struct Retake {
    tier: Tier,
    is_reversal: bool,
    from: Arc<Client>,
    since: Micros,
    /// One account, two tools.
    is_within_account: bool,
}

// === impl Findings ===

impl Findings {
    /// The tally for one level of evidence: all retakes, or only those known by their fields.
    pub fn tally(&self, at_least: Confidence) -> &Tally {
        &self.tallies()[usize::from(at_least > Confidence::Possible)]
    }

    fn tallies(&self) -> &[Tally; 2] {
        static NONE: LazyLock<[Tally; 2]> = LazyLock::new(Default::default);
        self.tallies.as_deref().unwrap_or(&NONE)
    }

    /// The verdict to show: on what is known by its fields where that thrashed, else on all.
    pub fn verdict(&self) -> (&Tally, Confidence) {
        let [all, named] = self.tallies();
        if named.machine.worst() >= State::Thrashing || named.retakes >= all.retakes {
            let is_confirmed = named.reversals > 0;
            return (named, if is_confirmed { Confidence::Confirmed } else { Confidence::Probable });
        }
        (all, Confidence::Possible)
    }

    /// The fields that were taken back, the most often first.
    pub fn contested_fields(&self) -> Vec<(&Path, &FieldState)> {
        let mut fields: Vec<_> = self.fields.iter().filter(|(_, field)| field.is_contested()).collect();
        fields.sort_by_key(|(path, field)| (std::cmp::Reverse(field.retakes), (*path).clone()));
        fields
    }

    /// How often the object was deleted and created in turns.
    pub fn existence_retakes(&self) -> u32 {
        self.existence.retakes
    }

    /// Who created and who deleted the object, how often.
    pub fn existence(&self) -> &[(Arc<Client>, Effect, u32)] {
        &self.existence.creators
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, now: Micros, limits: &Limits) {
        let tallies = self.tallies.iter_mut().flat_map(|tallies| tallies.iter_mut());
        tallies.for_each(|tally| tally.machine.advance(now, limits));
    }

    /// A person lifted the pause at this time: buckets are full again.
    pub(super) fn resume(&mut self, at: Micros) {
        let tallies = self.tallies.iter_mut().flat_map(|tallies| tallies.iter_mut());
        tallies.for_each(|tally| tally.machine.resume(at));
    }

    /// The thrashing events that were not there before.
    pub(super) fn thrashes_since(&self, before: &Findings) -> Thrashes {
        let [now, then] = [self, before].map(|findings| &findings.tally(Confidence::Possible).parties);
        let then = |party: &Arc<str>| then.get(party).map_or(0, |share| share.thrashes);
        now.iter()
            .map(|(party, share)| (party.clone(), share.thrashes.saturating_sub(then(party))))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// One write further; the party whose thrashing event it was, at any level of evidence.
    pub(super) fn step(&mut self, record: &Record, limits: &Limits) -> Option<Arc<str>> {
        self.seq += 1;
        let author =
            Author { client: record.client.clone(), actor: record.client.actor_id, at: record.order.at, seq: self.seq };
        let oldest = record.order.at - limits.window();
        let mut retakes: SmallVec<[Retake; 2]> = SmallVec::new();
        if record.effect != Effect::Modify {
            retakes.extend(self.existence.step(record, &author, oldest));
        }
        for change in record.changes.iter().filter(|change| !is_pause(&change.path)) {
            retakes.extend(self.step_field(change, record, &author, oldest));
        }
        let is_pause = !record.changes.is_empty() && record.changes.iter().all(|change| is_pause(&change.path));
        let is_own = limits.own.as_deref() == Some(&*record.client.actor);
        if record.effect != Effect::Delete && !record.is_misplaced && !is_pause && !is_own {
            let part = &mut self.parts[record.part as usize];
            retakes.extend(part.step(record.tier, &author, oldest));
        }
        if retakes.is_empty() {
            return None;
        }
        let [all, named] = &mut **self.tallies.get_or_insert_default();
        named.count(retakes.iter().filter(|r| r.tier > Tier::Object), &author, limits);
        all.count(retakes.iter(), &author, limits)
    }

    fn step_field(&mut self, change: &Change, record: &Record, author: &Author, oldest: Micros) -> Option<Retake> {
        if !self.fields.contains_key(&change.path) {
            self.make_room();
            self.fields.insert(change.path.clone(), FieldState::first(change, author));
            return None;
        }
        let field = self.fields.get_mut(&change.path)?;
        debug_assert_eq!(part_of(&change.path), record.part, "{}", change.path);
        field.step(change, record.tier, author, oldest)
    }

    fn make_room(&mut self) {
        if self.fields.len() < FIELDS_MAX {
            return;
        }
        let calmest = self.fields.iter().min_by_key(|(_, f)| (f.retakes, f.last_at)).map(|(path, _)| path.clone());
        if let Some(path) = calmest {
            self.fields.remove(&path);
        }
    }
}

// === impl Tally ===

impl Tally {
    /// Counts one write's retakes as one; the party, where that is a thrashing event.
    fn count<'a>(
        &mut self,
        retakes: impl Iterator<Item = &'a Retake>,
        author: &Author,
        limits: &Limits,
    ) -> Option<Arc<str>> {
        let retakes: SmallVec<[&Retake; 2]> = retakes.collect();
        let since = retakes.iter().map(|r| r.since).min()?;
        let is_within_account = retakes.iter().all(|r| r.is_within_account);
        let party = label(&author.client, is_within_account);
        self.retakes += 1;
        self.reversals += u32::from(retakes.iter().any(|r| r.is_reversal));
        if self.since.is_none() || author.at - self.machine.last_retake() > limits.window() {
            self.since = Some(since);
        }
        let is_thrash = self.machine.retake(&party, author.at, limits);
        self.thrashes += u32::from(is_thrash);
        for retake in &retakes {
            self.parties.entry(label(&retake.from, retake.is_within_account)).or_default();
        }
        let share = self.parties.entry(party.clone()).or_default();
        share.retakes += 1;
        share.thrashes += u32::from(is_thrash);
        is_thrash.then_some(party)
    }
}

/// The name of a party: its actor, or `actor via tool` where one account fights itself.
pub fn label(client: &Client, is_within_account: bool) -> Arc<str> {
    match is_within_account {
        true => format!("{} via {}", client.actor, client.tool).into(),
        false => client.actor.clone(),
    }
}

// === impl FieldState ===

impl FieldState {
    fn first(change: &Change, author: &Author) -> FieldState {
        FieldState {
            authors: [author.clone()].into_iter().collect(),
            values: vec![ValueSeen { value: change.new.clone(), client: author.client.clone(), count: 1 }],
            initial: change.old.clone(),
            retakes: 0,
            reversals: 0,
            is_progress: is_progress(change),
            last_at: author.at,
        }
    }

    /// Whether it was taken back, and not only moved on by co-workers.
    pub fn is_contested(&self) -> bool {
        self.retakes > 0 && !self.is_progress
    }

    fn step(&mut self, change: &Change, tier: Tier, author: &Author, oldest: Micros) -> Option<Retake> {
        self.authors.retain(|a| a.at >= oldest);
        let last = self.authors.iter().max_by_key(|a| a.seq).cloned();
        let is_former = self.initial == change.new || self.values.iter().any(|seen| seen.value == change.new);
        let earlier = |is_it: &dyn Fn(&Author) -> bool| self.authors.iter().filter(|a| is_it(a)).map(|a| a.at).max();
        let by_actor = earlier(&|a| a.actor == author.actor);
        let by_client = earlier(&|a| a.actor == author.actor && a.client.tool == author.client.tool);

        let is_reversal = is_former && tier == Tier::Value;
        let retake = last.and_then(|last| {
            let is_within_account = last.actor == author.actor;
            let since = match is_within_account {
                false => by_actor?,
                true if last.client.tool == author.client.tool || !is_reversal => return None,
                true => by_client?,
            };
            Some(Retake { tier, is_reversal, from: last.client, since, is_within_account })
        });
        self.is_progress &= is_progress(change);
        self.note(change, author);
        if retake.is_some() {
            self.retakes += 1;
            self.reversals += u32::from(is_reversal);
        }
        retake.filter(|_| !self.is_progress)
    }

    fn note(&mut self, change: &Change, author: &Author) {
        self.last_at = self.last_at.max(author.at);
        let same = |a: &Author| a.actor == author.actor && a.client.tool == author.client.tool;
        match self.authors.iter().position(same) {
            Some(index) => self.authors[index] = author.clone(),
            None => {
                if self.authors.len() >= AUTHORS_MAX
                    && let Some(oldest) = (0..self.authors.len()).min_by_key(|i| self.authors[*i].seq)
                {
                    self.authors.remove(oldest);
                }
                self.authors.push(author.clone());
            }
        }
        let is_it = |s: &&mut ValueSeen| s.value == change.new && *s.client == *author.client;
        match self.values.iter_mut().find(is_it) {
            Some(seen) => seen.count += 1,
            None => {
                if self.values.len() >= VALUES_MAX
                    && let Some(rarest) = (0..self.values.len()).min_by_key(|i| self.values[*i].count)
                {
                    self.values.remove(rarest);
                }
                self.values.push(ValueSeen { value: change.new.clone(), client: author.client.clone(), count: 1 });
            }
        }
    }
}

/// Whether a change only moves its field on, or sets it for the first time. Co-workers on a counter, a heartbeat or a
/// shared list do that; nobody who takes something back does.
fn is_progress(change: &Change) -> bool {
    match (&change.old, &change.new) {
        (None, Some(_)) => true,
        (Some(old), Some(new)) => new.moves_on(old),
        (_, None) => false,
    }
}

// === impl PartState ===

impl PartState {
    /// A write to this part. It is a retake by sight of the part alone only where some fields are not known: of this
    /// write, of the one it may take up again, or of one in between.
    fn step(&mut self, tier: Tier, author: &Author, oldest: Micros) -> Option<Retake> {
        self.writers.retain(|w| w.at >= oldest);
        let own = self.writers.iter().position(|w| w.actor == author.actor);
        let retake = own.and_then(|own| {
            let own = &self.writers[own];
            let between = || self.writers.iter().filter(|w| w.seq > own.seq);
            let last = between().max_by_key(|w| w.seq)?;
            let is_blind = tier == Tier::Object
                || own.tier == Tier::Object
                || between().any(|w| w.blind_seq.is_some_and(|seq| seq > own.seq));
            is_blind.then(|| Retake {
                tier: Tier::Object,
                is_reversal: false,
                from: last.client.clone(),
                since: own.at,
                is_within_account: false,
            })
        });
        let blind_seq = (tier == Tier::Object).then_some(author.seq);
        match own {
            Some(own) => {
                let own = &mut self.writers[own];
                (own.at, own.seq, own.tier) = (author.at, author.seq, tier);
                own.blind_seq = blind_seq.or(own.blind_seq);
            }
            None => {
                if self.writers.len() >= AUTHORS_MAX
                    && let Some(oldest) = (0..self.writers.len()).min_by_key(|i| self.writers[*i].seq)
                {
                    self.writers.remove(oldest);
                }
                let Author { client, actor, at, seq } = author.clone();
                self.writers.push(PartWriter { client, actor, at, seq, tier, blind_seq });
            }
        }
        retake
    }
}

// === impl Existence ===

impl Existence {
    /// A creation or a deletion. Who deletes what is already being deleted only finishes it.
    fn step(&mut self, record: &Record, author: &Author, oldest: Micros) -> Option<Retake> {
        if record.effect == Effect::Delete && self.last.as_ref().is_some_and(|(effect, _)| *effect == Effect::Delete) {
            return None;
        }
        self.authors.retain(|a| a.at >= oldest);
        let earlier = self.authors.iter().filter(|a| a.actor == author.actor).map(|a| a.at).max();
        let retake = match (&self.last, earlier) {
            (Some((effect, last)), Some(since)) if *effect != record.effect && last.actor != author.actor => {
                self.retakes += 1;
                Some(Retake {
                    tier: record.tier,
                    is_reversal: record.tier == Tier::Value,
                    from: last.client.clone(),
                    since,
                    is_within_account: false,
                })
            }
            _ => None,
        };
        let is_it = |c: &(Arc<Client>, Effect, u32)| c.1 == record.effect && *c.0 == *author.client;
        match self.creators.iter().position(is_it) {
            Some(index) => self.creators[index].2 += 1,
            None if self.creators.len() < AUTHORS_MAX => {
                self.creators.push((author.client.clone(), record.effect, 1));
            }
            None => {}
        }
        self.last = Some((record.effect, author.clone()));
        self.authors.retain(|a| a.actor != author.actor);
        self.authors.push(author.clone());
        if self.authors.len() > AUTHORS_MAX {
            self.authors.remove(0);
        }
        retake
    }
}
