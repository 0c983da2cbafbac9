//! Write → retake: the writes of one object that more than one client writes, in their true order.
//!
//! Events arrive late and out of order, so the latest writes are kept as [`Record`]s, sorted. What is concluded from
//! them ([`Findings`]) is a fold over that order: a write at the end is one step further, a write in the middle folds
//! the kept ones anew. Records that fall off the far end are folded into the base and forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, LazyLock};

use smallvec::SmallVec;

use super::actor::Client;
use super::annotations::is_pause;
use super::fields::{Change, Evidence, FieldValue, Fields, Path, Tier, part_of};
use super::order::Order;
use super::policy::Limits;
use super::verdict::{Confidence, Machine, State};
use super::write::{Effect, Part};
use crate::audit::event::{Micros, Verb};

/// Writes of one object that are kept to be put in order: a fast war (two a second) for four minutes, which is longer
/// than kube-apiserver tries to deliver a batch.
const HISTORY_MAX: usize = 512;
/// Writes that are kept to be shown, though nobody comes late before them any more.
const SHOWN_MAX: usize = 64;
/// Fields of one object that are followed; the calmest and oldest make room.
const FIELDS_MAX: usize = 256;
/// Different values of one field that are counted apart.
const VALUES_MAX: usize = 16;
/// Authors of one field that are followed.
const AUTHORS_MAX: usize = 16;

/// How far the clocks of API servers may differ; they are kept by NTP, and wrong by seconds at most.
const CLOCK_SKEW_MAX: Micros = 10_000_000;

/// Time after which nobody comes late any more, counted back from an object's latest write: kube-apiserver gives a
/// batch up after less than two minutes. Later ones are still counted, by what they name.
pub const LATE_MAX: Micros = 150_000_000;
/// Whole states of one object that are kept for those who come late.
const STATES_MAX: usize = 256;

/// One write of a contested object.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place among the object's writes.
    pub order: Order,
    /// Who wrote.
    pub client: Arc<Client>,
    /// With which verb.
    pub verb: Verb,
    /// To which effect.
    pub effect: Effect,
    /// Which part.
    pub part: Part,
    /// What is known of what it changed.
    pub tier: Tier,
    /// The fields it changed, as far as it asked for them; empty at [`Tier::Object`].
    pub changes: Vec<Change>,
    /// Whether it is certain that it stored its revision, and did not only find it.
    pub is_certain: bool,
    /// Whether it is a creation that belongs earlier, and is taken to have changed nothing.
    is_misplaced: bool,
    /// What its bodies told; kept while somebody may still come late before it.
    evidence: Option<Box<Evidence>>,
    /// The object's fields after it, as far as they are known; kept as long as `evidence`.
    state: Option<Arc<Fields>>,
}

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
    /// Bytes of the kept states, roughly.
    kept: usize,
    is_followed: bool,
    /// When a person last lifted the pause, as far as later writes have not yet been folded in behind it.
    resumed: Option<Micros>,
}

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

// === impl Record ===

impl Record {
    /// A write, and what its bodies told.
    pub fn new(
        order: Order,
        client: Arc<Client>,
        verb: Verb,
        effect: Effect,
        part: Part,
        tier: Tier,
        evidence: Evidence,
    ) -> Record {
        let changes = Vec::new();
        let (is_certain, is_misplaced, state) = (false, false, None);
        let evidence = (!matches!(evidence, Evidence::None)).then(|| Box::new(evidence));
        Record { order, client, verb, effect, part, tier, changes, is_certain, is_misplaced, evidence, state }
    }

    /// Finds what it changed, and the state after it, from the state before it.
    fn resolve(&mut self, before: Option<&Arc<Fields>>) {
        let own = |changes: Vec<Change>| {
            let is_own = |c: &Change| part_of(&c.path) == self.part && self.effect != Effect::Delete;
            changes.into_iter().filter(is_own).collect::<Vec<_>>()
        };
        match self.evidence.as_deref().unwrap_or(&Evidence::None) {
            _ if self.is_misplaced => (self.changes, self.state) = (Vec::new(), before.cloned()),
            Evidence::None => self.state = before.cloned(),
            Evidence::Named { named, is_apply, .. } => {
                let mut state = before.map(|fields| (**fields).clone()).unwrap_or_default();
                let changes = state.changes_by(named, *is_apply);
                state.apply(&changes);
                state.assert(named);
                self.state = Some(Arc::new(state));
                // What a new object has is no change; what it has otherwise than the one before it is.
                self.changes = if self.effect == Effect::Create && before.is_none() { Vec::new() } else { changes };
            }
            Evidence::Whole { fields, tier, asked } => {
                let after = match (before, tier) {
                    // Of a request's body only the part that it may write is what the object becomes.
                    (Some(before), Tier::Field) => Arc::new(before.with_part_of(fields, self.part)),
                    _ => fields.clone(),
                };
                self.changes = match before.filter(|before| before.is_comparable(&after)) {
                    Some(before) => asked.of(own(before.diff(&after))),
                    // Nothing to compare with: what a patch names is taken to be changed, what a new object has is not.
                    None if self.effect == Effect::Modify => asked.taken_from(&after, self.part),
                    None => Vec::new(),
                };
                self.state = Some(after);
            }
        }
    }

    /// Forgets what is only needed while somebody may come late.
    fn settle(&mut self) -> Option<Arc<Fields>> {
        self.evidence = None;
        self.state.take()
    }
}

// === impl Contest ===

impl Contest {
    /// A contest that begins with writes of which nothing more will be known.
    pub fn begin(seeds: Vec<Record>, limits: &Limits) -> Contest {
        let mut contest = Contest::default();
        for record in seeds {
            let place = contest.place(&record);
            contest.history.insert(place, record);
        }
        contest.settled = contest.history.len();
        drop(contest.refold(limits));
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

    /// Lets time pass.
    pub fn advance(&mut self, now: Micros, limits: &Limits) {
        self.live
            .tallies
            .iter_mut()
            .flat_map(|tallies| tallies.iter_mut())
            .for_each(|t| t.machine.advance(now, limits));
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
    pub fn correct(&mut self, record: Record, limits: &Limits) -> Thrashes {
        let Some(at) = self.position_of(&record.order) else { return Thrashes::new() };
        self.kept -= bytes(&self.history[at].state);
        self.history[at] = record;
        match at < self.settled {
            true => {
                self.history[at].resolve(None);
                drop(self.history[at].settle());
            }
            false => self.resolve_from(at),
        }
        self.refold(limits)
    }

    /// Puts a write in its place.
    pub fn insert(&mut self, mut record: Record, limits: &Limits) -> Thrashes {
        let uid = if record.order.is_last { 0 } else { record.order.uid };
        let at = self.place(&record);
        let mut is_last = at == self.history.len();
        if at < self.settled {
            record.resolve(None);
            drop(record.settle());
            self.settled += 1;
            self.history.insert(at, record);
        } else {
            self.history.insert(at, record);
            self.resolve_from(at);
        }
        if let Some(from) = self.deletion_of(uid)
            && let Some(deletion) = self.history.remove(from)
        {
            let to = self.place(&deletion).max(self.settled);
            self.history.insert(to, deletion);
            if from != to {
                self.resolve_from(from.min(to));
                is_last = false;
            }
        }
        let thrashes = match is_last {
            true => self.live.step(&self.history[at], limits).map(|party| (party, 1)).into_iter().collect(),
            false => self.refold(limits),
        };
        self.settle();
        while self.is_too_long()
            && let Some(oldest) = self.history.pop_front()
        {
            if self.settled == 0 {
                self.kept -= bytes(&oldest.state);
            }
            self.settled = self.settled.saturating_sub(1);
            if let Some(at) = self.resumed.take_if(|at| *at <= oldest.order.at) {
                self.base.resume(at);
            }
            self.base.step(&oldest, limits);
        }
        thrashes
    }

    fn is_too_long(&self) -> bool {
        let is_shown = self.settled <= SHOWN_MAX || self.is_followed;
        self.history.len() > HISTORY_MAX || (self.history.len() > SHOWN_MAX && !is_shown)
    }

    /// Keeps as many writes as can be kept, to be shown.
    pub fn follow(&mut self) {
        self.is_followed = true;
    }

    /// Bytes of kept states, roughly.
    pub fn kept_bytes(&self) -> usize {
        self.kept + bytes(&self.anchor)
    }

    /// Drops the kept states, to make room: nobody is let in before the last write any more.
    pub fn drop_states(&mut self) {
        self.history.iter_mut().skip(self.settled).for_each(|record| drop(record.settle()));
        self.settled = self.history.len();
        self.anchor = None;
        self.kept = 0;
    }

    fn state_before(&self, at: usize) -> Option<&Arc<Fields>> {
        match at > self.settled {
            true => self.history[at - 1].state.as_ref(),
            false => self.anchor.as_ref(),
        }
    }

    /// Finds anew what the record at `at` changed, and those behind it whose states follow from it.
    fn resolve_from(&mut self, at: usize) {
        for index in at..self.history.len() {
            let before = self.state_before(index).cloned();
            let is_misplaced = self.is_misplaced(index);
            let record = &mut self.history[index];
            let was = record.state.take();
            record.is_misplaced = is_misplaced;
            record.resolve(before.as_ref());
            self.kept += bytes(&record.state);
            self.kept -= bytes(&was);
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
            if !is_old && self.history.len() - self.settled <= STATES_MAX {
                return;
            }
            self.anchor = self.history[self.settled].settle();
            self.kept -= bytes(&self.anchor);
            self.settled += 1;
        }
    }

    /// Folds the kept writes anew; the thrashing events that were not there before.
    fn refold(&mut self, limits: &Limits) -> Thrashes {
        let before = std::mem::replace(&mut self.live, self.base.clone());
        let mut resumed = self.resumed;
        for record in &self.history {
            if let Some(at) = resumed.take_if(|at| *at <= record.order.at) {
                self.live.resume(at);
            }
            self.live.step(record, limits);
        }
        if let Some(at) = resumed {
            self.live.resume(at);
        }
        let then = |party: &Arc<str>| before.tallies()[0].parties.get(party).map_or(0, |share| share.thrashes);
        let parties = self.live.tallies()[0].parties.iter();
        parties
            .map(|(party, share)| (party.clone(), share.thrashes.saturating_sub(then(party))))
            .filter(|(_, count)| *count > 0)
            .collect()
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
        let is_after = |r: &Record| self.revision_of(r).is_some_and(|other| other <= revision);
        let mut place = self.history.iter().rposition(is_after).map_or(0, |index| index + 1);
        let is_earlier = |r: &Record| self.revision_of(r).is_none() && at(r) <= at(record);
        while self.history.get(place).is_some_and(is_earlier) {
            place += 1;
        }
        place
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

/// What a state takes, roughly: a leaf is its path, a hash and two pointers.
fn bytes(state: &Option<Arc<Fields>>) -> usize {
    state.as_ref().map_or(0, |fields| fields.len() * 96)
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

    fn resume(&mut self, at: Micros) {
        self.tallies.iter_mut().flat_map(|tallies| tallies.iter_mut()).for_each(|tally| tally.machine.resume(at));
    }

    /// One write further; the party whose thrashing event it was, at any level of evidence.
    fn step(&mut self, record: &Record, limits: &Limits) -> Option<Arc<str>> {
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
