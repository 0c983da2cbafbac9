//! One object: who writes to it, and, once a second client does, their contest.
//!
//! Almost all objects have one writer. For these a few numbers are kept and the last stored body, unread. The first
//! write by a second client opens that body and begins a [`Contest`].

use std::sync::Arc;

use smallvec::SmallVec;

use super::actor::Client;
use super::contest::{Contest, Record};
use super::fields::{self, Evidence, Fields, Named, Tier, Want};
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

/// Everything known of one object.
#[derive(Clone, Debug, Default)]
pub struct ObjectState {
    seen: SmallVec<[Seen; 1]>,
    /// The stored body after the last write.
    body: Body,
    /// The order of the write that `body` or the last revision is of.
    tip: Order,
    tip_client: Option<Arc<Client>>,
    contest: Option<Box<Contest>>,
    troubles: Option<Box<Troubles>>,
    /// `kind`, where a body told it.
    kind: Option<Arc<str>>,
    last_at: Micros,
}

/// A stored body, kept for the day a second client writes.
#[derive(Clone, Debug, Default)]
enum Body {
    #[default]
    None,
    /// As it came.
    Raw(Box<[u8]>),
    /// Read at once, hashes only: a Secret is never kept.
    Read(Box<Fields>),
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

    /// The last stored body, unread, where one is kept.
    pub fn body(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Raw(body) => Some(body),
            Body::None | Body::Read(_) => None,
        }
    }

    /// When the last request about the object arrived.
    pub fn last_at(&self) -> Micros {
        self.last_at
    }

    /// Drops the kept body, to make room.
    pub fn drop_body(&mut self) {
        self.body = Body::None;
    }

    /// Bytes of the kept body.
    pub fn kept_bytes(&self) -> usize {
        match &self.body {
            Body::None => 0,
            Body::Raw(body) => body.len(),
            // A leaf is its path, a hash and two pointers.
            Body::Read(fields) => fields.len() * 128,
        }
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
        let is_same = write.stored.resource_version != 0 && write.stored.resource_version == replaced;
        let is_no_op = is_same || self.is_stored_already(write, &order, client, limits);
        observed.is_no_op = is_no_op;
        self.note(write, client, order, is_no_op, limits);
        let webhooks = webhook_patches(write);
        if is_no_op && webhooks.is_empty() {
            return;
        }
        let tier = tier_of(write.event.level, write);
        if self.contest.is_none() {
            if !self.is_contested_by(write, client, tier) && webhooks.is_empty() {
                self.keep_body(write, client, order);
                return;
            }
            self.contest = Some(Box::new(self.begin_contest(write, client, limits)));
            self.body = Body::None;
        }
        let Some(contest) = &mut self.contest else { return };
        let evidence = fields::evidence(write, contest.known());
        let has_body = write.event.request_object.is_some() || write.event.response_object.is_some();
        observed.is_unreadable =
            has_body && write.effect == Effect::Modify && matches!(evidence, Evidence::None) && tier > Tier::Object;
        let tier = match &evidence {
            Evidence::None if write.effect == Effect::Delete => tier,
            Evidence::None => Tier::Object,
            Evidence::Named(_, tier) | Evidence::Whole { tier, .. } => *tier,
        };
        let record = Record {
            order,
            client: client.clone(),
            verb: write.event.verb,
            effect: write.effect,
            part: write.part,
            tier,
            changes: Vec::new(),
            is_whole: false,
        };
        let overruled = overruled(&webhooks, &evidence, contest.known(), write);
        if !is_no_op {
            contest.insert(record.clone(), evidence, limits);
        }
        for (webhook, asked, given) in overruled {
            let asked_for = Record { order: Order { revision: 0, ..order }, ..record.clone() };
            let given_back = Record { client: webhook, ..asked_for.clone() };
            contest.insert(asked_for, Evidence::Named(asked, tier), limits);
            contest.insert(given_back, Evidence::Named(given, tier), limits);
        }
    }

    /// Whether another write is known to have stored this revision: of two with one revision, the later request stored
    /// nothing. Where that turns out to be the one already counted, it is corrected, and this is the write.
    fn is_stored_already(&mut self, write: &Write<'_>, order: &Order, client: &Arc<Client>, limits: &Limits) -> bool {
        let same = match &self.contest {
            Some(contest) => contest.same_revision(order).map(|r| (r.order.at, r.client.clone())),
            None => self.tip_client.clone().filter(|_| self.tip.is_same_revision(order)).map(|c| (self.tip.at, c)),
        };
        let Some((at, counted)) = same else { return false };
        if at <= order.at || write.effect == Effect::Create {
            return true;
        }
        if let Some(seen) = self.seen.iter_mut().find(|s| s.part == write.part && s.client == counted && s.writes > 0) {
            seen.writes -= 1;
            seen.no_ops += 1;
        }
        match &mut self.contest {
            Some(contest) => contest.reattribute(order, client, write.event.verb, limits),
            None => (self.tip.at, self.tip_client) = (order.at, Some(client.clone())),
        }
        self.note(write, client, *order, false, limits);
        true
    }

    /// Whether the object now has two clients whose writes to the same part must be told apart.
    fn is_contested_by(&self, write: &Write<'_>, client: &Arc<Client>, tier: Tier) -> bool {
        let others = || self.seen.iter().filter(|s| s.part == write.part && s.client != *client);
        match write.effect {
            // Taking it away takes nothing back; bringing it again does.
            Effect::Delete => false,
            Effect::Create => others().any(|other| other.deletes > 0),
            Effect::Modify if write.subresource == "binding" => false,
            // Without fields, only actors in turns matter.
            Effect::Modify if tier == Tier::Object => {
                let own = self.seen.iter().find(|s| s.part == write.part && s.client == *client);
                own.is_some_and(|own| others().any(|other| own.is_in_turns_with(other)))
            }
            Effect::Modify => others().any(|other| other.contents() > 0),
        }
    }

    /// Begins the contest with what was counted so far, unread. `newest` is not among it yet.
    fn begin_contest(&self, newest: &Write<'_>, client: &Arc<Client>, limits: &Limits) -> Contest {
        let tier = tier_of(newest.event.level, newest);
        let mut seeds = Vec::new();
        let newest_order = order_of(newest);
        for seen in self.seen.iter().filter(|s| s.writes > 0) {
            let mut seed = |order: Order, effect, verb| {
                // The newest write is counted already, but comes in by itself.
                if seen.client != *client || seen.part != newest.part || order != newest_order {
                    let client = seen.client.clone();
                    let (part, changes) = (seen.part, Vec::new());
                    seeds.push(Record { order, client, verb, effect, part, tier, changes, is_whole: true });
                }
            };
            let modified = if seen.verbs[1] > seen.verbs[2] { Verb::Update } else { Verb::Patch };
            match (seen.creates > 0, seen.modifies > 0) {
                (true, _) => seed(seen.first, Effect::Create, Verb::Create),
                (false, true) => seed(seen.first, Effect::Modify, modified),
                (false, false) => {}
            }
            if seen.deletes > 0 {
                seed(seen.last, Effect::Delete, Verb::Delete);
            } else if seen.last != seen.first {
                seed(seen.last, Effect::Modify, modified);
            }
        }
        let known = match &self.body {
            Body::None => None,
            Body::Raw(body) => fields::stored_fields(body, newest),
            Body::Read(fields) => Some((**fields).clone()),
        };
        Contest::begin(seeds, known, limits)
    }

    /// Keeps the stored body for the day a second client writes.
    fn keep_body(&mut self, write: &Write<'_>, client: &Arc<Client>, order: Order) {
        let is_newer = self.tip == Order::default() || self.tip.is_before(&order, || None);
        if !is_newer {
            return;
        }
        (self.tip, self.tip_client) = (order, Some(client.clone()));
        let is_secret = write.object.resource == "secrets" && write.object.group.is_empty();
        let whole = match (write.event.response_object, write.event.request_object) {
            (Some(body), _) if write.stored.is_whole => Some(body),
            (None, Some(body)) if write.event.verb != Verb::Patch && write.subresource.is_empty() => Some(body),
            _ => None,
        };
        match whole {
            Some(body) if is_secret => {
                let fields = fields::stored_fields(body, write);
                self.body = fields.map_or(Body::None, |fields| Body::Read(Box::new(fields)));
            }
            Some(body) => self.body = Body::Raw(body.into()),
            None => {}
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
        } else if order.is_before(&seen.first, || None) {
            seen.first = order;
        } else if !order.is_before(&seen.last, || None) {
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

// === impl Seen ===

impl Seen {
    fn new(client: Arc<Client>, part: Part, order: Order) -> Seen {
        Seen {
            client,
            part,
            first: order,
            last: order,
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

    /// Whether one of the two wrote while the other was not done.
    fn is_in_turns_with(&self, other: &Seen) -> bool {
        let within =
            |order: &Order, of: &Seen| of.first.is_before(order, || None) && order.is_before(&of.last, || None);
        !self.client.is_same_actor(&other.client)
            && self.contents() > 0
            && other.contents() > 0
            && (within(&other.first, self)
                || within(&other.last, self)
                || within(&self.first, other)
                || within(&self.last, other))
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
    write: &Write<'_>,
) -> Vec<(Arc<Client>, Vec<Named>, Vec<Named>)> {
    if webhooks.is_empty() {
        return Vec::new();
    }
    let asked = match evidence {
        Evidence::Named(named, _) | Evidence::Whole { named, .. } if !named.is_empty() => named.clone(),
        _ => fields::asked_whole(write),
    };
    let mut found = Vec::new();
    for (webhook, patch) in webhooks {
        let given = fields::patched_by_webhook(patch, write, known);
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
