//! One object: who writes to it, and, once a second client does, their contest.
//!
//! Almost all objects have one writer. For these a few numbers are kept, and the latest writes with their bodies unread:
//! the first write by a second client, which may come late, opens them and begins a [`Contest`].

use std::sync::Arc;

use smallvec::SmallVec;

use super::actor::Client;
use super::contest::{Contest, LATE_MAX, Record};
use super::fields::{Bodies, Evidence, Fields, Named, Shape, Tier, Want};
use super::order::Order;
use super::policy::Limits;
use super::trouble::{Pace, Troubles};
use super::verdict::{Confidence, State};
use super::write::{Effect, Outcome, Part, Write};
use crate::audit::event::{Level, Micros, Verb};
use crate::audit::scan;

/// Clients of one object and part that are counted apart; the one that was silent longest makes room.
const SEEN_MAX: usize = 32;
/// Different words (user agents, addresses, …) kept about one client.
const WORDS_MAX: usize = 8;
/// Writes of an object without a contest that are kept unread. Two clients that write in turns are two within far less.
const RECENT_MAX: usize = 16;

/// Everything known of one object.
#[derive(Clone, Debug, Default)]
pub struct ObjectState {
    seen: SmallVec<[Seen; 1]>,
    /// The latest writes, in order, while there is no contest.
    recent: SmallVec<[Recent; 1]>,
    contest: Option<Box<Contest>>,
    troubles: Option<Box<Troubles>>,
    /// `kind`, where a body told it.
    kind: Option<Arc<str>>,
    last_at: Micros,
}

/// One write that may yet become part of a contest.
#[derive(Clone, Debug)]
struct Recent {
    order: Order,
    client: Arc<Client>,
    part: Part,
    verb: Verb,
    effect: Effect,
    tier: Tier,
    is_certain: bool,
    is_binding: bool,
    bodies: Kept,
}

/// The bodies of a recent write.
#[derive(Clone, Debug)]
enum Kept {
    None,
    /// As they came.
    Raw(Box<RawBodies>),
    /// Read at once, hashes only: a Secret's are never kept.
    Read(Box<Evidence>),
}

#[derive(Clone, Debug)]
struct RawBodies {
    shape: Shape,
    is_apply: bool,
    request: Option<Box<[u8]>>,
    response: Option<Box<[u8]>>,
}

/// What one client did to one part of an object.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who.
    pub client: Arc<Client>,
    /// Which part.
    pub part: Part,
    /// Its first write.
    pub first: Order,
    /// Its last write.
    pub last: Order,
    /// The last of its writes that is no longer among the recent ones.
    settled: Option<Order>,
    /// Writes that changed something, as far as is known.
    pub writes: u32,
    /// Writes that were answered with success and changed nothing.
    pub no_ops: u32,
    /// Writes by verb: create, update, patch, delete.
    pub verbs: [u32; 4],
    /// Writes that brought the object into being.
    creates: u32,
    /// Writes that changed it, without bindings, which are no contest.
    modifies: u32,
    /// Writes that took it away.
    deletes: u32,
    /// How fast it writes.
    pub pace: Pace,
    /// What else is known about it.
    pub words: Option<Box<Words>>,
}

/// Evidence about a client, never its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Addresses it wrote from.
    pub source_ips: Vec<Arc<str>>,
    /// Pods whose tokens it used.
    pub pods: Vec<Arc<str>>,
    /// Accounts that impersonated it.
    pub impersonators: Vec<Arc<str>>,
}

/// What one write did to the verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Whether the write was answered with success and changed nothing.
    pub is_no_op: bool,
    /// Whether the bodies that it carried could not be read.
    pub is_unreadable: bool,
    /// New thrashing events by party: at every level of evidence.
    pub thrashes: SmallVec<[(Arc<str>, u32); 1]>,
    /// The state before and after, at [`Confidence::Probable`].
    pub state: (State, State),
    /// Bytes of kept bodies, more or less than before.
    pub kept_bytes: isize,
}

// === impl ObjectState ===

impl ObjectState {
    /// Keeps every write from now on, even while there is one writer.
    pub fn follow(&mut self) {
        self.contest.get_or_insert_default();
    }

    /// Takes in one request about this object. Each request must come in once; their order does not matter.
    pub fn observe(&mut self, write: &Write<'_>, client: &Arc<Client>, limits: &Limits) -> Observed {
        let kept = self.kept_bytes();
        let mut observed = Observed::default();
        self.last_at = self.last_at.max(write.at);
        if !write.stored.kind.is_empty() && self.kind.as_deref() != Some(write.stored.kind) {
            self.kind = Some(write.stored.kind.into());
        }
        if write.outcome != Outcome::Committed {
            if write.outcome != Outcome::Failed {
                self.troubles.get_or_insert_default().note(client, &write.outcome, write.at, limits);
            }
            return observed;
        }
        if let Some(troubles) = &mut self.troubles {
            troubles.accepted(client, write.at);
        }
        let before = self.thrashes();
        observed.state.0 = self.state();
        self.committed(write, client, limits, &mut observed);
        observed.state.1 = self.state();
        observed.thrashes = self.thrashes_since(before);
        observed.kept_bytes = self.kept_bytes().wrapping_sub(kept) as isize;
        observed
    }

    /// Lets time pass up to `now`.
    pub fn advance(&mut self, now: Micros, limits: &Limits) {
        if let Some(contest) = &mut self.contest {
            contest.advance(now, limits);
        }
    }

    /// The state of the verdict that is known by its fields.
    pub fn state(&self) -> State {
        self.contest.as_ref().map_or(State::Calm, |c| c.findings().tally(Confidence::Probable).machine.state())
    }

    /// Who wrote, each client and part once.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// The contest, once a second client wrote.
    pub fn contest(&self) -> Option<&Contest> {
        self.contest.as_deref()
    }

    /// What was not stored.
    pub fn troubles(&self) -> Option<&Troubles> {
        self.troubles.as_deref()
    }

    /// `kind`, where a body told it.
    pub fn kind(&self) -> Option<&Arc<str>> {
        self.kind.as_ref()
    }

    /// The body of the latest write, unread, where it is kept: the stored object, else the request's.
    pub fn body(&self) -> Option<&[u8]> {
        let is_object = |r: &&Recent| r.effect != Effect::Delete;
        self.recent.iter().rev().filter(is_object).find_map(|r| match &r.bodies {
            Kept::Raw(raw) if raw.shape == Shape::Whole => raw.response.as_deref(),
            Kept::Raw(raw) if raw.shape == Shape::Object && r.verb != Verb::Patch => raw.request.as_deref(),
            Kept::Raw(_) | Kept::None | Kept::Read(_) => None,
        })
    }

    /// When the last request about the object arrived.
    pub fn last_at(&self) -> Micros {
        self.last_at
    }

    /// Drops kept bodies and states, to make room.
    pub fn drop_bodies(&mut self) {
        self.recent.iter_mut().for_each(|r| r.bodies = Kept::None);
        if let Some(contest) = &mut self.contest {
            contest.drop_states();
        }
    }

    /// Bytes of kept bodies and states.
    pub fn kept_bytes(&self) -> usize {
        let recent: usize = self.recent.iter().map(|r| r.bodies.len()).sum();
        recent + self.contest.as_ref().map_or(0, |contest| contest.kept_bytes())
    }

    fn thrashes(&self) -> Vec<(Arc<str>, u32)> {
        let Some(contest) = &self.contest else { return Vec::new() };
        let parties = contest.findings().tally(Confidence::Possible).parties.iter();
        parties.map(|(party, share)| (party.clone(), share.thrashes)).collect()
    }

    fn thrashes_since(&self, before: Vec<(Arc<str>, u32)>) -> SmallVec<[(Arc<str>, u32); 1]> {
        let then = |party: &Arc<str>| before.iter().find(|(p, _)| p == party).map_or(0, |(_, n)| *n);
        let now = self.thrashes().into_iter();
        now.map(|(party, n)| (party.clone(), n.saturating_sub(then(&party)))).filter(|(_, n)| *n > 0).collect()
    }

    fn committed(&mut self, write: &Write<'_>, client: &Arc<Client>, limits: &Limits, observed: &mut Observed) {
        let order = order_of(write);
        let replaced = replaced_revision(write);
        let is_unmoved = write.stored.resource_version != 0 && write.stored.resource_version == replaced;
        let revision = if is_unmoved { Revision::Found } else { self.revision(write, &order) };
        if let Revision::Corrects(counted) = &revision
            && let Some(seen) = self.seen.iter_mut().find(|s| s.client == *counted && s.writes > 0)
        {
            seen.writes -= 1;
            seen.no_ops += 1;
        }
        let is_no_op = revision == Revision::Found;
        observed.is_no_op = is_no_op;
        self.note(write, client, order, is_no_op, limits);
        let webhooks = webhook_patches(write);
        if is_no_op && webhooks.is_empty() {
            return;
        }
        let bodies = Bodies::of(write);
        let tier = tier_of(write.event.level, write);
        if self.contest.is_none() {
            if !is_no_op {
                self.keep(write, client, order, tier, &bodies, &revision);
            }
            if !self.is_contested(tier) && webhooks.is_empty() {
                return;
            }
            self.begin_contest(bodies.resource, limits);
            if webhooks.is_empty() {
                return;
            }
        }
        let Some(contest) = &mut self.contest else { return };
        let is_known = contest.same_revision(&order).is_some();
        let evidence = bodies.evidence(contest.known().map(|k| &**k));
        let has_body = bodies.request.is_some() || bodies.response.is_some();
        observed.is_unreadable =
            has_body && write.effect == Effect::Modify && matches!(evidence, Evidence::None) && tier > Tier::Object;
        let overruled = overruled(&webhooks, &evidence, contest.known().map(|k| &**k), &bodies);
        let record = |order: Order, client: Arc<Client>, evidence| {
            let mut record = Record::new(order, client, write.event.verb, write.effect, write.part, tier, evidence);
            record.is_certain = is_certain(write);
            record
        };
        match revision {
            // The contest began with it.
            Revision::New if is_known => {}
            Revision::New => contest.insert(record(order, client.clone(), evidence), limits),
            Revision::Corrects(_) => contest.correct(record(order, client.clone(), evidence), limits),
            Revision::Found => {}
        }
        for (webhook, asked, given) in overruled {
            let order = Order { revision: 0, ..order };
            let named = |named| Evidence::Named { named, tier, is_apply: false };
            contest.insert(record(order, client.clone(), named(asked)), limits);
            contest.insert(record(order, webhook, named(given)), limits);
        }
    }

    /// Whether another request was already taken to have stored this revision. Of two answered with one revision only one
    /// stored it: the one that cannot have found it, or whose part was changed, or that came first.
    fn revision(&self, write: &Write<'_>, order: &Order) -> Revision {
        let (at, client, was_certain, changed_part) = match &self.contest {
            Some(contest) => match contest.same_revision(order) {
                Some(same) => {
                    let changed = (!same.changes.is_empty()).then_some(same.part);
                    (same.order.at, &same.client, same.is_certain, changed)
                }
                None => return Revision::New,
            },
            None => match self.recent.iter().find(|r| r.order.is_same_revision(order)) {
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

    /// Whether the object now has two clients whose writes to the same part must be told apart.
    fn is_contested(&self, tier: Tier) -> bool {
        if self.seen.len() < 2 {
            return false;
        }
        // Bringing it again takes back that it was taken away.
        let is_recreated = self.seen.iter().any(|a| {
            a.creates > 0 && self.seen.iter().any(|b| b.deletes > 0 && b.client != a.client && a.last.at > b.first.at)
        });
        if is_recreated && self.seen.iter().map(|s| s.creates).sum::<u32>() > 1 {
            return true;
        }
        [Part::Main, Part::Status].into_iter().any(|part| match tier {
            // Without fields, only actors in turns matter.
            Tier::Object => self.is_in_turns(part),
            _ => self.seen.iter().filter(|s| s.part == part && s.contents() > 0).count() > 1,
        })
    }

    /// Whether an actor wrote to a part before and after another one.
    fn is_in_turns(&self, part: Part) -> bool {
        let writers = || self.seen.iter().filter(move |s| s.part == part && s.contents() > 0);
        let is_between = |order: &Order, a: &Seen| a.first.is_before(order) && order.is_before(&a.last);
        let recent = || self.recent.iter().filter(|r| r.part == part && r.effect != Effect::Delete && !r.is_binding);
        writers().any(|a| {
            let others = writers().filter(|b| !a.client.is_same_actor(&b.client));
            others.into_iter().any(|b| is_between(&b.first, a) || is_between(&b.last, a))
                || recent().any(|r| !a.client.is_same_actor(&r.client) && is_between(&r.order, a))
        })
    }

    /// Begins the contest: with what was counted before the recent writes, and with those.
    fn begin_contest(&mut self, resource: &str, limits: &Limits) {
        let tier = self.recent.iter().map(|r| r.tier).max().unwrap_or(Tier::Object);
        let mut seeds = Vec::new();
        for seen in self.seen.iter() {
            let Some(settled) = seen.settled else { continue };
            let mut seed = |order: Order, effect, verb| {
                seeds.push(Record::new(order, seen.client.clone(), verb, effect, seen.part, tier, Evidence::None));
            };
            let modified = if seen.verbs[1] > seen.verbs[2] { Verb::Update } else { Verb::Patch };
            let is_recent = |order: &Order| self.recent.iter().any(|r| r.order == *order);
            if !is_recent(&seen.first) && seen.first != settled {
                match seen.creates > 0 {
                    true => seed(seen.first, Effect::Create, Verb::Create),
                    false => seed(seen.first, Effect::Modify, modified),
                }
            }
            match (seen.deletes > 0, seen.creates > 0 && seen.first == settled) {
                (_, true) => seed(settled, Effect::Create, Verb::Create),
                (true, false) => seed(settled, Effect::Delete, Verb::Delete),
                (false, false) => seed(settled, Effect::Modify, modified),
            }
        }
        let mut contest = Contest::begin(seeds, limits);
        for recent in std::mem::take(&mut self.recent) {
            contest.insert(recent.record(resource, contest.known().map(|k| &**k)), limits);
        }
        self.contest = Some(Box::new(contest));
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
        let recent = Recent {
            order,
            client: client.clone(),
            part: write.part,
            verb: write.event.verb,
            effect: write.effect,
            tier,
            is_certain: is_certain(write),
            is_binding: write.subresource == "binding",
            bodies: Kept::of(bodies),
        };
        if matches!(revision, Revision::Corrects(_))
            && let Some(same) = self.recent.iter_mut().find(|r| r.order.is_same_revision(&order))
        {
            *same = recent;
            return;
        }
        let later = self.recent.iter().rev().take_while(|r| order.is_before(&r.order)).count();
        self.recent.insert(self.recent.len() - later, recent);
        let newest = self.recent.iter().map(|r| r.order.at).max().unwrap_or(order.at);
        while self.recent.len() > RECENT_MAX || (self.recent.len() > 1 && newest - self.recent[0].order.at > LATE_MAX) {
            let oldest = self.recent.remove(0);
            let is_its = |s: &&mut Seen| s.part == oldest.part && s.client == oldest.client;
            if let Some(seen) = self.seen.iter_mut().find(is_its) {
                seen.settled = Some(oldest.order);
            }
        }
    }

    fn note(&mut self, write: &Write<'_>, client: &Arc<Client>, order: Order, is_no_op: bool, limits: &Limits) {
        let is_it = |s: &Seen| s.part == write.part && (Arc::ptr_eq(&s.client, client) || s.client == *client);
        let index = self.seen.iter().position(is_it).unwrap_or_else(|| {
            if self.seen.len() >= SEEN_MAX
                && let Some(silent) = (0..self.seen.len()).min_by_key(|i| self.seen[*i].last.at)
            {
                self.seen.remove(silent);
            }
            self.seen.push(Seen::new(client.clone(), write.part, order));
            self.seen.len() - 1
        });
        let seen = &mut self.seen[index];
        seen.pace.step(is_no_op, write.at, limits);
        seen.words(write);
        if is_no_op {
            seen.no_ops += 1;
            return;
        }
        if seen.writes == 0 {
            (seen.first, seen.last) = (order, order);
        } else if order.is_before(&seen.first) {
            seen.first = order;
        } else if !order.is_before(&seen.last) {
            seen.last = order;
        }
        seen.writes += 1;
        seen.verbs[match write.event.verb {
            Verb::Update => 1,
            Verb::Patch => 2,
            Verb::Delete => 3,
            _ => 0,
        }] += 1;
        match write.effect {
            Effect::Create => seen.creates += 1,
            Effect::Delete => seen.deletes += 1,
            Effect::Modify if write.subresource == "binding" => {}
            Effect::Modify => seen.modifies += 1,
        }
    }
}

// === impl Recent ===

impl Recent {
    /// The write as a record, its bodies read.
    fn record(self, resource: &str, known: Option<&Fields>) -> Record {
        let evidence = match self.bodies {
            Kept::None => Evidence::None,
            Kept::Read(evidence) => *evidence,
            Kept::Raw(raw) => {
                let (request, response) = (raw.request.as_deref(), raw.response.as_deref());
                let (verb, effect, shape, is_apply) = (self.verb, self.effect, raw.shape, raw.is_apply);
                Bodies { resource, verb, effect, shape, is_apply, request, response }.evidence(known)
            }
        };
        let mut record = Record::new(self.order, self.client, self.verb, self.effect, self.part, self.tier, evidence);
        record.is_certain = self.is_certain;
        record
    }
}

// === impl Kept ===

impl Kept {
    fn of(bodies: &Bodies<'_>) -> Kept {
        // Of an update whose stored result is known, the request tells nothing more.
        let is_told = bodies.shape == Shape::Whole && bodies.verb != Verb::Patch;
        let (request, response) = (bodies.request.filter(|_| !is_told), bodies.response);
        let response = response.filter(|_| bodies.shape != Shape::Object);
        match (request, response) {
            (None, None) => Kept::None,
            _ if bodies.is_secret() => Kept::Read(Box::new(bodies.evidence(None))),
            _ => Kept::Raw(Box::new(RawBodies {
                shape: bodies.shape,
                is_apply: bodies.is_apply,
                request: request.map(Into::into),
                response: response.map(Into::into),
            })),
        }
    }

    fn len(&self) -> usize {
        match self {
            Kept::None => 0,
            Kept::Raw(raw) => {
                raw.request.as_ref().map_or(0, |b| b.len()) + raw.response.as_ref().map_or(0, |b| b.len())
            }
            // A leaf is its path, a hash and two pointers.
            Kept::Read(evidence) => match &**evidence {
                Evidence::Whole { fields, .. } => fields.len() * 96,
                Evidence::Named { named, .. } => named.len() * 96,
                Evidence::None => 0,
            },
        }
    }
}

// === impl Seen ===

impl Seen {
    fn new(client: Arc<Client>, part: Part, order: Order) -> Seen {
        Seen {
            client,
            part,
            first: order,
            last: order,
            settled: None,
            writes: 0,
            no_ops: 0,
            verbs: [0; 4],
            creates: 0,
            modifies: 0,
            deletes: 0,
            pace: Pace::default(),
            words: None,
        }
    }

    /// Writes that gave the object contents.
    fn contents(&self) -> u32 {
        self.creates + self.modifies
    }

    fn words(&mut self, write: &Write<'_>) {
        let event = write.event;
        let note = |list: &mut Vec<Arc<str>>, word: &str| {
            if !word.is_empty() && list.len() < WORDS_MAX && !list.iter().any(|w| w.as_ref() == word) {
                list.push(word.into());
            }
        };
        let words = self.words.get_or_insert_default();
        note(&mut words.source_ips, &event.source_ip);
        note(&mut words.pods, &event.pod);
        note(&mut words.impersonators, write.identity.impersonator.unwrap_or_default());
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

/// Whether a write surely stored the revision that it was answered with: an update of an earlier one, or a creation.
fn is_certain(write: &Write<'_>) -> bool {
    let (stored, replaced) = (write.stored.resource_version, replaced_revision(write));
    write.effect == Effect::Create || (stored != 0 && replaced != 0 && stored != replaced)
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

fn replaced_revision(write: &Write<'_>) -> u64 {
    let reference = write.event.object_ref.as_ref();
    let is_put = write.event.verb == Verb::Update;
    reference.filter(|_| is_put).and_then(|o| o.resource_version.parse().ok()).unwrap_or(0)
}

fn order_of(write: &Write<'_>) -> Order {
    let claimed = write.event.object_ref.as_ref().map_or("", |o| o.uid.as_ref());
    let uid = if write.stored.uid.is_empty() { claimed } else { write.stored.uid };
    Order {
        revision: Order::revision(write.stored.resource_version, replaced_revision(write)),
        uid: if uid.is_empty() { 0 } else { super::hash(uid) },
        at: write.at,
        is_last: write.effect == Effect::Delete && write.stored.is_gone,
    }
}

/// The patches of mutating webhooks, as the audit annotations show them.
fn webhook_patches(write: &Write<'_>) -> Vec<(Arc<Client>, Vec<u8>)> {
    let annotations = write.event.annotations.iter();
    let patches = annotations.filter(|(key, _)| key.starts_with("patch.webhook.admission.k8s.io/"));
    patches
        .filter_map(|(_, value)| {
            let text = |key| scan::member(value.as_bytes(), key).and_then(scan::plain_string);
            let patch = scan::member(value.as_bytes(), "patch")?;
            let webhook = Client::webhook(text("configuration")?, text("webhook")?);
            Some((Arc::new(webhook), patch.to_vec()))
        })
        .collect()
}

/// Where webhooks overruled the request: which, what was asked, what it made of it.
fn overruled(
    webhooks: &[(Arc<Client>, Vec<u8>)],
    evidence: &Evidence,
    known: Option<&Fields>,
    bodies: &Bodies<'_>,
) -> Vec<(Arc<Client>, Vec<Named>, Vec<Named>)> {
    if webhooks.is_empty() {
        return Vec::new();
    }
    let asked = match evidence {
        Evidence::Named { named, .. } if !named.is_empty() => named.clone(),
        Evidence::Whole { asked, .. } if !asked.named().is_empty() => asked.named().to_vec(),
        _ => bodies.asked_whole(),
    };
    let mut found = Vec::new();
    for (webhook, patch) in webhooks {
        let given = bodies.patched_by_webhook(patch, known);
        let wanted = |given: &Named| asked.iter().find(|a| a.path == given.path && a.want != given.want);
        let is_value = |n: &&Named| !matches!(n.want, Want::Touched);
        let given: Vec<Named> = given.iter().filter(is_value).filter(|g| wanted(g).is_some()).cloned().collect();
        let asked: Vec<Named> = given.iter().filter_map(wanted).cloned().collect();
        if !given.is_empty() {
            found.push((webhook.clone(), asked, given));
        }
    }
    found
}
