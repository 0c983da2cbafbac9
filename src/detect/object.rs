//! The state of one object: its writers and, once a second client writes, their contest.
//!
//! Almost all objects have one writer. For these, only a few numbers are kept, and the latest writes with unparsed
//! bodies. The first write of a second client, which may be a late write, parses them and begins a [`Contest`].

use std::hint::black_box;
use std::sync::Arc;

use smallvec::SmallVec;

use super::actor::{Client, Origin};
use super::admission;
use super::contest::Contest;
use super::fields::{Bodies, Evidence, Tier};
use super::findings::Thrashes;
use super::order::Order;
use super::policy::{Limits, ObjectLimits};
use super::recent::{Kept, Recent, Recents};
use super::record::Record;
use super::seen::Seen;
use super::trouble::Troubles;
use super::verdict::{Confidence, State, StateChange};
use super::write::{Effect, Outcome, Part, Write};
use crate::audit::event::{Level, Micros, Verb};

/// Clients of one object and part that are counted apart; the one that was silent longest makes room.
const SEEN_MAX: usize = 32;
/// Origins of a contested object's clients that are kept.
const ORIGINS_MAX: usize = 32;
/// Writes of a GitOps tool to one object, without bodies, from which on they are looked at together.
const REPEATS_MIN: u32 = 4;
/// How far before an object's first event its times may lie: what comes late is not later than that.
const BASE_BEFORE: Micros = 10 * 60 * 1_000_000;

/// Everything known of one object. It is small while nobody fights over the object: a cluster has a million objects.
#[derive(Clone, Debug)]
pub struct ObjectState {
    seen: SmallVec<[Seen; 2]>,
    /// The latest writes, in order, while there is no contest.
    recent: Option<Box<Recents>>,
    /// What most objects have nothing of.
    more: Option<Box<More>>,
    /// What the times of [`Seen`] count from.
    base: Micros,
}

/// What few objects have, and none at the level `Metadata` while it has one client.
#[derive(Clone, Debug, Default)]
struct More {
    contest: Option<Box<Contested>>,
    troubles: Option<Box<Troubles>>,
    /// `kind`, where a body told it.
    kind: Option<Arc<str>>,
}

/// What is kept of an object with more than one client.
#[derive(Clone, Debug, Default)]
struct Contested {
    contest: Contest,
    /// From where its clients write, where that is more than one place.
    origins: Vec<(Arc<Client>, Origin)>,
}

/// The effect of one write on the verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Whether the write was answered with success and changed nothing.
    pub is_no_op: bool,
    /// Whether the bodies that it carried could not be read.
    pub is_unreadable: bool,
    /// New thrashing events by party, of wars that are known by their fields.
    pub thrashes: Thrashes,
    /// State changes, at [`Confidence::Probable`]: those that were due before the write, then that of the write.
    pub transitions: Vec<StateChange>,
    /// Bytes of bodies that are kept unread, more or less than before.
    pub body_bytes: isize,
}

// === impl ObjectState ===

impl ObjectState {
    /// An object whose first event was at `at`.
    pub fn new(at: Micros) -> ObjectState {
        ObjectState { seen: SmallVec::new(), recent: None, more: None, base: at - BASE_BEFORE }
    }

    /// Keeps every write from now on, even while there is one writer.
    pub fn follow(&mut self) {
        self.more.get_or_insert_default().contest.get_or_insert_default().contest.follow();
    }

    /// Takes in one request about this object. Each request must come in once; their order does not matter. `now` is the time
    /// up to which [`ObjectState::advance`] may have been called: the verdict does not depend on whether it was.
    pub fn observe(&mut self, write: &Write<'_>, client: &Arc<Client>, limits: &Limits, now: Micros) -> Observed {
        let mut observed = Observed::default();
        let before = self.body_bytes();
        self.take(write, client, limits, now.max(write.at), &mut observed);
        observed.body_bytes = self.body_bytes().wrapping_sub(before) as isize;
        observed
    }

    fn take(&mut self, write: &Write<'_>, client: &Arc<Client>, limits: &Limits, now: Micros, observed: &mut Observed) {
        if !write.stored.kind.is_empty() && self.kind().is_none_or(|kind| **kind != *write.stored.kind) {
            self.more.get_or_insert_default().kind = Some(write.stored.kind.into());
        }
        if write.outcome != Outcome::Committed {
            if write.outcome != Outcome::Failed {
                let troubles = self.more.get_or_insert_default().troubles.get_or_insert_default();
                troubles.note(client, &write.outcome, write.at);
            }
            return;
        }
        if let Some(troubles) = self.more.as_mut().and_then(|more| more.troubles.as_mut()) {
            troubles.accepted(client, write.at);
        }
        observed.transitions = self.advance(now, limits);
        let from = self.state();
        self.committed(write, client, limits, observed);
        // A write that arrived late may have undone changes that were due since: they are made again.
        drop(self.advance(now, limits));
        let to = self.state();
        if from != to {
            observed.transitions.push(StateChange { from, to, at: write.at });
        }
    }

    /// Looks at what a request about the object will need, and does nothing: memory that is not near comes meanwhile.
    pub fn touch(&self) {
        let last = self.recent().next_back().map(|recent| recent.order.at);
        black_box((self.base, self.seen.last().map(|seen| seen.part), last));
    }

    /// Makes the state changes that are due by `now`.
    pub fn advance(&mut self, now: Micros, limits: &Limits) -> Vec<StateChange> {
        self.contested().map_or_else(Vec::new, |contested| contested.contest.advance(now, limits, Confidence::Probable))
    }

    /// When to call [`ObjectState::advance`] next, if that is earlier than what this method returned before.
    pub fn new_deadline(&mut self, limits: &Limits) -> Option<Micros> {
        self.contested()?.contest.new_deadline(limits)
    }

    /// A person lifted the pause.
    pub fn resume(&mut self, at: Micros) -> Option<StateChange> {
        let from = self.state();
        self.contested()?.contest.resume(at);
        let to = self.state();
        (from != to).then_some(StateChange { from, to, at })
    }

    /// Whether writes are kept that nobody needs once nobody can come late any more.
    pub fn is_unsettled(&self) -> bool {
        self.recent.as_ref().is_some_and(|recent| recent.body_bytes() == 0)
    }

    /// Forgets what is only needed while somebody may come late, as of `now`. Bodies stay: they are for the client that
    /// comes next, whenever that is.
    pub fn settle(&mut self, now: Micros) {
        if self.is_unsettled() && self.recent.as_ref().is_some_and(|recent| recent.is_over(now)) {
            for recent in self.recent.take().into_iter().flat_map(|recent| *recent) {
                self.settle_recent(&recent);
            }
        }
    }

    /// The state of the verdict that is known by its fields.
    pub fn state(&self) -> State {
        self.contest().map_or(State::Calm, |c| c.findings().state(Confidence::Probable))
    }

    /// Who wrote, each client and part once.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// What the times of [`ObjectState::seen`] count from.
    pub fn base(&self) -> Micros {
        self.base
    }

    /// From where a client writes.
    pub fn origins<'a>(&'a self, client: &'a Arc<Client>) -> impl Iterator<Item = &'a Origin> {
        let more = self.more.iter().filter_map(|more| more.contest.as_ref()).flat_map(|c| &c.origins);
        std::iter::once(&client.origin).chain(more.filter(move |(c, _)| c == client).map(|(_, origin)| origin))
    }

    /// The contest, once a second client wrote.
    pub fn contest(&self) -> Option<&Contest> {
        self.more.as_ref()?.contest.as_deref().map(|c| &c.contest)
    }

    /// What was not stored.
    pub fn troubles(&self) -> Option<&Troubles> {
        self.more.as_ref()?.troubles.as_deref()
    }

    /// `kind`, where a body told it.
    pub fn kind(&self) -> Option<&Arc<str>> {
        self.more.as_ref()?.kind.as_ref()
    }

    /// The body of the latest write, unread, where it is kept: the stored object, else the request's.
    pub fn body(&self) -> Option<&[u8]> {
        self.recent().rev().find_map(Recent::object)
    }

    /// When the last write to the object was.
    pub fn last_at(&self) -> Micros {
        let troubles = self.troubles().map_or(i64::MIN, Troubles::last_at);
        self.seen.iter().map(|s| s.span(self.base).1).max().unwrap_or(self.base).max(troubles)
    }

    /// Drops kept bodies and states, to make room.
    pub fn drop_bodies(&mut self) {
        self.recent.iter_mut().for_each(|recent| recent.drop_bodies());
        if let Some(contested) = self.contested() {
            contested.contest.drop_states();
        }
    }

    /// Drops the writes of a contested object too: what they amount to stays.
    pub fn drop_history(&mut self) {
        self.drop_bodies();
        if let Some(contested) = self.contested() {
            contested.contest.drop_history();
        }
    }

    /// Bytes of bodies that are kept unread.
    pub fn body_bytes(&self) -> usize {
        self.recent.as_ref().map_or(0, |recent| recent.body_bytes())
    }

    /// Bytes that it takes, roughly, beside its clients, which objects share.
    pub fn bytes(&self) -> usize {
        let seen = if self.seen.spilled() { self.seen.capacity() * size_of::<Seen>() } else { 0 };
        let recent = self.recent.as_ref().map_or(0, |recent| recent.bytes());
        let more = self.more.as_ref().map_or(0, |more| {
            let contested = |contested: &Contested| {
                contested.contest.bytes() + contested.origins.len() * size_of::<(Arc<Client>, Origin)>()
            };
            let contest = more.contest.as_deref().map_or(0, contested);
            size_of::<More>() + contest + more.troubles.as_ref().map_or(0, |troubles| troubles.bytes())
        });
        size_of::<ObjectState>() + seen + recent + more
    }

    fn contested(&mut self) -> Option<&mut Contested> {
        self.more.as_mut()?.contest.as_deref_mut()
    }

    fn recent(&self) -> impl DoubleEndedIterator<Item = &Recent> {
        self.recent.iter().flat_map(|recent| recent.iter())
    }

    /// A time in the unit of [`Seen`].
    fn ms(&self, at: Micros) -> u32 {
        u32::try_from((at - self.base).max(0) / 1_000).unwrap_or(u32::MAX)
    }

    fn committed(&mut self, write: &Write<'_>, client: &Arc<Client>, limits: &Limits, observed: &mut Observed) {
        let order = order_of(write);
        let is_unmoved = write.stored.resource_version != 0 && write.stored.resource_version == write.replaced;
        let revision = if is_unmoved { Revision::Found } else { self.revision(write, &order) };
        if let Revision::Corrects(counted) = &revision
            && let Some(seen) = self.seen.iter_mut().find(|s| s.client == *counted && s.writes() > 0)
        {
            seen.discount();
        }
        let is_no_op = revision == Revision::Found;
        observed.is_no_op = is_no_op;
        self.note(write, client, is_no_op, limits);
        let is_mutated = admission::is_mutated(write);
        if is_no_op && !is_mutated {
            return;
        }
        let on = &ObjectLimits::new(limits, &write.object);
        let bodies = Bodies::of(write, limits);
        let tier = tier_of(write.event.level, write);
        let mut is_in = false;
        if self.contest().is_none() {
            // What webhooks make of a new object is no fight; what they make of a change may be one.
            let is_fought = is_mutated && write.effect != Effect::Create;
            if !is_fought {
                self.keep(write, client, order, tier, &bodies, &revision);
                is_in = true;
                if !self.is_contested(write.part, &order, tier) && !self.may_be_two(client, write.part, tier) {
                    return;
                }
            }
            observed.thrashes = self.begin_contest(&bodies, on);
        }
        let Some(contested) = self.more.as_mut().and_then(|more| more.contest.as_mut()) else { return };
        let contest = &mut contested.contest;
        let mut add = |thrashes: Thrashes| observed.thrashes.extend(thrashes);
        if !is_in {
            let evidence = bodies.evidence(contest.known().map(|k| &**k));
            let has_body = bodies.request.is_some() || bodies.response.is_some();
            observed.is_unreadable =
                has_body && write.effect == Effect::Modify && matches!(evidence, Evidence::None) && tier > Tier::Object;
            let mutations = match is_mutated {
                true => admission::mutations(write, &bodies, &evidence, contest.known().map(|k| &**k)),
                false => Vec::new(),
            };
            let tier = match &evidence {
                Evidence::None if write.effect == Effect::Delete => tier,
                Evidence::None => Tier::Object,
                Evidence::Named { tier, .. } | Evidence::Whole { tier, .. } => *tier,
            };
            // What changed nothing has no revision of its own; it is kept for what was asked and not stored.
            let order = if is_no_op { Order { revision: 0, ..order } } else { order };
            let record = Record::new(order, client.clone(), write.event.verb, write.effect, write.part, tier, evidence);
            let mut record = record.with_mutations(mutations);
            record.is_certain = is_certain(write);
            record.is_no_op = is_no_op;
            match revision {
                Revision::New | Revision::Found => add(contest.insert(record, on)),
                Revision::Corrects(_) => add(contest.correct(record, on)),
            }
        }
        contested.note_origin(client);
    }

    /// Whether another request was already taken to have stored this revision. Of two answered with one revision only one
    /// stored it: the one that cannot have found it, or whose part was changed, or that came first.
    fn revision(&self, write: &Write<'_>, order: &Order) -> Revision {
        if !order.is_stored() {
            return Revision::New;
        }
        let (at, client, was_certain, changed_part) = match self.contest() {
            Some(contest) => match contest.same_revision(order) {
                Some(same) => {
                    let changed = (!same.changes.is_empty()).then_some(same.part);
                    (same.order.at, &same.client, same.is_certain, changed)
                }
                None => return Revision::New,
            },
            None => match self.recent().find(|r| r.order.is_same_revision(order)) {
                Some(same) => (same.order.at, &same.client, same.is_certain, None),
                None => return Revision::New,
            },
        };
        let is_found = match (was_certain, is_certain(write)) {
            (true, _) => true,
            (false, true) => false,
            _ => changed_part.is_some_and(|part| part != write.part) || at <= order.at,
        };
        if is_found { Revision::Found } else { Revision::Corrects(client.clone()) }
    }

    /// Whether the object now, after a write of this part and order, has two clients whose writes to the same part must be
    /// told apart.
    fn is_contested(&self, part: Part, order: &Order, tier: Tier) -> bool {
        if self.seen.len() < 2 {
            return false;
        }
        // Bringing it again takes back that it was taken away.
        let is_recreated = self.seen.iter().any(|a| {
            let is_others = |b: &Seen| b.deletes() > 0 && b.client != a.client;
            let is_after = |b: &Seen| a.span(self.base).1 > b.span(self.base).0;
            a.creates() > 0 && self.seen.iter().any(|b| is_others(b) && is_after(b))
        });
        if is_recreated && self.seen.iter().map(Seen::creates).sum::<u32>() > 1 {
            return true;
        }
        let has_two = |part| self.seen.iter().filter(|s| s.part == part && s.contents() > 0).nth(1).is_some();
        match tier {
            // Without fields, only actors that write alternately matter; who goes on takes no new turn.
            Tier::Object => has_two(part) && !self.goes_on(part, order) && self.is_in_turns(part),
            _ => [Part::Main, Part::Status].into_iter().any(has_two),
        }
    }

    /// Whether one client may be two applications of a GitOps tool, which look alike without bodies.
    fn may_be_two(&self, client: &Client, part: Part, tier: Tier) -> bool {
        let is_busy = |s: &Seen| s.part == part && *s.client == *client && s.contents() >= REPEATS_MIN;
        tier == Tier::Object && part == Part::Main && client.role.is_gitops() && self.seen.iter().any(is_busy)
    }

    /// The recent writes that gave a part contents.
    fn contents(&self, part: Part) -> impl DoubleEndedIterator<Item = &Recent> {
        self.recent().filter(move |r| r.part == part && r.effect != Effect::Delete && !r.is_binding)
    }

    /// Whether the write of this order is the last one, and so was the one before it by its actor.
    fn goes_on(&self, part: Part, order: &Order) -> bool {
        let mut back = self.contents(part).rev();
        back.next().zip(back.next()).is_some_and(|(a, b)| a.order == *order && a.client.is_same_actor(&b.client))
    }

    /// Whether an actor wrote to a part before and after another one.
    fn is_in_turns(&self, part: Part) -> bool {
        let writers = self.seen.iter().filter(|s| s.part == part && s.contents() > 0);
        let mut turns: SmallVec<[&Client; 4]> = SmallVec::new();
        let mut is_turn = |client| {
            // The third entry of a run of turns in which an actor comes again is a turn back.
            let is_same = |other: &&Client| other.is_same_actor(client);
            if turns.last().is_some_and(&is_same) {
                return false;
            }
            let comes_again = turns.iter().any(is_same);
            turns.push(client);
            comes_again
        };
        let mut settled: SmallVec<[(Micros, &Client); 8]> = SmallVec::new();
        for seen in writers {
            let last = seen.settled(self.base);
            settled.extend(last.map(|last| (seen.span(self.base).0.min(last), &*seen.client)));
            settled.extend(last.map(|last| (last, &*seen.client)));
        }
        settled.sort_by_key(|(at, _)| *at);
        settled.iter().any(|(_, client)| is_turn(client)) || self.contents(part).any(|recent| is_turn(&recent.client))
    }

    /// Begins the contest: with what was counted before the recent writes, and with those.
    fn begin_contest(&mut self, bodies: &Bodies<'_>, on: &ObjectLimits<'_>) -> Thrashes {
        let recent = self.recent.take().map(|recent| *recent).unwrap_or_default();
        let tier = recent.iter().map(|r| r.tier).max().unwrap_or(Tier::Object);
        let mut seeds = Vec::new();
        for seen in &self.seen {
            let Some(settled) = seen.settled(self.base) else { continue };
            let mut seed = |at: Micros, effect, verb| {
                let order = Order { at, ..Order::default() };
                seeds.push(Record::new(order, seen.client.clone(), verb, effect, seen.part, tier, Evidence::None));
            };
            let first = seen.span(self.base).0;
            let begins = if seen.creates() > 0 {
                (Effect::Create, Verb::Create)
            } else {
                (Effect::Modify, seen.modifying_verb())
            };
            let ends = match (seen.deletes() > 0, first < settled) {
                (true, _) => (Effect::Delete, Verb::Delete),
                (false, true) => (Effect::Modify, seen.modifying_verb()),
                (false, false) => begins,
            };
            if first < settled {
                seed(first, begins.0, begins.1);
            }
            seed(settled, ends.0, ends.1);
        }
        let mut contest = Contest::begin(seeds, on);
        let mut thrashes = Thrashes::new();
        for recent in recent {
            thrashes.extend(contest.insert(recent.record(bodies, contest.known().map(|k| &**k)), on));
        }
        self.more.get_or_insert_default().contest = Some(Box::new(Contested { contest, origins: Vec::new() }));
        thrashes
    }

    /// Keeps a write for the day a second client writes.
    fn keep(
        &mut self,
        write: &Write<'_>,
        client: &Arc<Client>,
        order: Order,
        tier: Tier,
        bodies: &Bodies<'_>,
        revision: &Revision,
    ) {
        let new = Recent {
            order,
            client: client.clone(),
            part: write.part,
            verb: write.event.verb,
            effect: write.effect,
            tier,
            is_certain: is_certain(write),
            is_binding: write.subresource == "binding",
            bodies: Kept::of(bodies),
            // What is stored shows what webhooks made of it; a request alone does not.
            mutations: match tier == Tier::Field && admission::is_mutated(write) {
                true => Some(Box::new(admission::mutations(write, bodies, &bodies.evidence(None), None))),
                false => None,
            },
        };
        let recent = self.recent.get_or_insert_default();
        let new = match revision {
            Revision::Corrects(_) => recent.correct(new),
            _ => Some(new),
        };
        let Some(new) = new else { return };
        recent.put(new);
        while let Some(oldest) = self.recent.as_mut().and_then(|recent| recent.pop_over()) {
            self.settle_recent(&oldest);
        }
    }

    fn settle_recent(&mut self, recent: &Recent) {
        let ms = self.ms(recent.order.at);
        if let Some(seen) = self.seen.iter_mut().find(|s| s.part == recent.part && s.client == recent.client) {
            seen.settle(ms);
        }
    }

    fn note(&mut self, write: &Write<'_>, client: &Arc<Client>, is_no_op: bool, limits: &Limits) {
        let is_it = |s: &Seen| s.part == write.part && s.client == *client;
        let ms = self.ms(write.at);
        let index = self.seen.iter().position(is_it).unwrap_or_else(|| {
            if self.seen.len() >= SEEN_MAX
                && let Some(silent) = (0..self.seen.len()).min_by_key(|i| self.seen[*i].span(self.base).1)
            {
                self.seen.remove(silent);
            }
            if self.seen.len() == self.seen.capacity() {
                self.seen.reserve_exact(2);
            }
            self.seen.push(Seen::new(client.clone(), write.part));
            self.seen.len() - 1
        });
        self.seen[index].count(write, ms, is_no_op, limits);
    }
}

// === impl Contested ===

impl Contested {
    fn note_origin(&mut self, client: &Arc<Client>) {
        let origin = &client.origin;
        let is_new = !self.origins.iter().any(|(c, o)| c == client && o == origin);
        if is_new && self.origins.len() < ORIGINS_MAX {
            self.origins.push((client.clone(), origin.clone()));
        }
    }
}

/// What a write's answer says about the revision it names.
#[derive(PartialEq)]
enum Revision {
    /// It is this write's.
    New,
    /// It was there before: this write changed nothing.
    Found,
    /// It is this write's, and not that other client's which was taken for it.
    Corrects(Arc<Client>),
}

/// Whether a write surely stored the revision that it was answered with: an update of an earlier one, a creation, or a deletion,
/// which marks the object. (Who then takes away the last finalizer is answered with the same revision.)
fn is_certain(write: &Write<'_>) -> bool {
    let (stored, replaced) = (write.stored.resource_version, write.replaced);
    write.effect != Effect::Modify || (stored != 0 && replaced != 0 && stored != replaced)
}

/// The most a write of this level can tell.
fn tier_of(level: Level, write: &Write<'_>) -> Tier {
    let event = write.event;
    match level {
        Level::RequestResponse if event.response_object.is_some() => Tier::Value,
        Level::Metadata => Tier::Object,
        _ if event.request_object.is_some() => Tier::Field,
        // A deletion may be sent without options.
        _ if write.effect == Effect::Delete && level > Level::Metadata => Tier::Field,
        _ => Tier::Object,
    }
}

fn order_of(write: &Write<'_>) -> Order {
    let claimed = write.event.object_ref.as_ref().map_or("", |o| o.uid.as_ref());
    let uid = if write.stored.uid.is_empty() { claimed } else { write.stored.uid };
    Order {
        revision: Order::revision(write.stored.resource_version, write.replaced),
        uid: if uid.is_empty() { 0 } else { super::hash(uid) },
        at: write.at,
        is_last: write.effect == Effect::Delete && write.stored.is_gone,
    }
}

#[cfg(test)]
#[path = "object/tests.rs"]
mod tests;
