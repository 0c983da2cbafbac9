//! Write → retake: the writes of one object that more than one client writes, in their true order.
//!
//! Events arrive late and out of order, so the latest writes are kept as [`Record`]s, sorted. What is concluded from
//! them ([`Findings`]) is a fold over that order: a write at the end is one step further, a write in the middle folds
//! the kept ones anew. Records that fall off the far end are folded into the base and forgotten.

use std::collections::VecDeque;
use std::sync::Arc;

use super::actor::Client;
use super::admission::Mutation;
use super::fields::{Change, Evidence, FieldValue, Fields, Named, Path, Tier, is_at_or_below, part_of};
use super::findings::{Findings, Thrashes};
use super::order::Order;
use super::policy::{Limits, ObjectLimits};
use super::write::{Effect, Part};
use crate::audit::event::{Micros, Verb};

/// Writes of one object that are kept to be put in order: a fast war (two a second) for four minutes, which is longer
/// than kube-apiserver tries to deliver a batch.
const HISTORY_MAX: usize = 512;
/// Writes that are kept to be shown, though nobody comes late before them any more.
const SHOWN_MAX: usize = 64;
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
    pub(super) is_misplaced: bool,
    /// Whether nothing is known of what it changed.
    pub(super) is_blind: bool,
    /// Whether it was answered with success and changed nothing: kept for what it asked for.
    pub(super) is_no_op: bool,
    /// Whether it is a creation by who deleted the object: a replacement, in which the object goes on.
    pub(super) is_replacement: bool,
    /// A hash of the `spec` that the object was created with.
    pub(super) content: Option<u64>,
    /// What mutating webhooks made of it.
    pub(super) admission: Option<Box<Admission>>,
    /// What its bodies told; kept while somebody may still come late before it.
    evidence: Option<Box<Evidence>>,
    /// The object's fields after it, as far as they are known; kept as long as `evidence`.
    state: Option<Arc<Fields>>,
}

/// What mutating webhooks made of a write.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    mutations: Vec<Mutation>,
    /// What the webhooks changed of the stored object.
    pub changes: Vec<(Arc<Client>, Change)>,
    /// What was asked for, and replaced by what was stored before.
    pub(super) overridden: Vec<Overridden>,
}

/// A value that was asked for, and that a webhook replaced by the stored one.
#[derive(Clone, Debug)]
pub(super) struct Overridden {
    pub(super) path: Path,
    pub(super) webhook: Arc<Client>,
    pub(super) asked: Option<FieldValue>,
    pub(super) given: Option<FieldValue>,
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
        let evidence = (!matches!(evidence, Evidence::None)).then(|| Box::new(evidence));
        let is_blind = evidence.is_none() && effect == Effect::Modify;
        Record {
            order,
            client,
            verb,
            effect,
            part,
            tier,
            changes,
            is_certain: false,
            is_misplaced: false,
            is_blind,
            is_no_op: false,
            is_replacement: false,
            content: None,
            admission: None,
            evidence,
            state: None,
        }
    }

    /// The same write with what webhooks made of it.
    pub fn with_mutations(mut self, mutations: Vec<Mutation>) -> Record {
        self.admission = (!mutations.is_empty()).then(|| Box::new(Admission { mutations, ..Admission::default() }));
        self
    }

    /// Whether the webhook of this name changed what it asked for.
    pub fn is_admitted_by(&self, webhook: &str) -> bool {
        let mutations = self.admission.iter().flat_map(|admission| &admission.mutations);
        mutations.into_iter().any(|mutation| &*mutation.webhook.actor == webhook)
    }

    /// Whether both are updates of one revision, of which it is not known what they stored.
    fn is_rival_of(&self, other: &Record) -> bool {
        let revision = self.order.revision;
        !revision.is_multiple_of(2)
            && revision == other.order.revision
            && (self.verb, other.verb) == (Verb::Update, Verb::Update)
    }

    /// Whether its request was a full body that nothing in it could tell from one that changes nothing.
    fn is_no_op_on(&self, before: &Fields) -> bool {
        let Some(Evidence::Whole { fields, tier: Tier::Field, .. }) = self.evidence.as_deref() else { return false };
        let after = before.with_part_of(fields, self.part);
        !before.diff(&after).iter().any(|change| part_of(&change.path) == self.part)
    }

    /// Finds what it changed, and the state after it, from the state before it.
    fn resolve(&mut self, before: Option<&Arc<Fields>>, on: &ObjectLimits<'_>) {
        let is_built_in = on.is_built_in();
        // An extension without a status subresource has its status written with the rest: what is stored tells.
        let has_one_part = |tier: Tier| tier == Tier::Value && !is_built_in && self.part == Part::Main;
        let own = |changes: Vec<Change>, tier: Tier| {
            let is_own = |c: &Change| part_of(&c.path) == self.part || has_one_part(tier);
            let is_kept = |c: &Change| is_own(c) && self.effect != Effect::Delete;
            changes.into_iter().filter(is_kept).collect::<Vec<_>>()
        };
        match self.evidence.as_deref().unwrap_or(&Evidence::None) {
            _ if self.is_misplaced || self.is_no_op => (self.changes, self.state) = (Vec::new(), before.cloned()),
            Evidence::None => self.state = before.cloned(),
            Evidence::Named { named, is_apply, lists, tier, unresolved } => {
                let mut state = before.map(|fields| (**fields).clone()).unwrap_or_default();
                let resolved = unresolved.as_ref().map(|of| of.named(before.map(|fields| &**fields), on));
                // What a request names of the other part is not stored.
                let is_stored = |n: &Named| part_of(&n.path) == self.part || has_one_part(*tier);
                let mut named = resolved.unwrap_or_else(|| named.clone());
                named.retain(is_stored);
                let mut changes = state.changes_by(&named, *is_apply);
                changes.extend(state.give_lists(lists, &named, is_built_in));
                state.apply(&changes);
                state.assert(&named);
                self.state = Some(Arc::new(state));
                // What a new object has is no change; what a replacement has otherwise than what it replaces is.
                let is_new = self.effect == Effect::Create && (before.is_none() || !self.is_replacement);
                self.changes = if is_new { Vec::new() } else { changes };
            }
            Evidence::Whole { fields, tier, asked } => {
                let after = match (before, tier) {
                    // Of a request's body only the part that it may write is what the object becomes.
                    (Some(before), Tier::Field) => Arc::new(before.with_part_of(fields, self.part)),
                    _ => fields.clone(),
                };
                self.changes = match before.filter(|before| before.is_comparable(&after)) {
                    Some(_) if self.effect == Effect::Create && !self.is_replacement => Vec::new(),
                    Some(before) => asked.of(own(before.diff(&after), *tier)),
                    // Nothing to compare with: what a patch names is taken to be changed, what a new object has is not.
                    None if self.effect == Effect::Modify => asked.taken_from(&after, self.part),
                    None => Vec::new(),
                };
                self.state = Some(after);
            }
        }
        if self.effect == Effect::Create {
            self.content = self.state.as_ref().map(|state| state.spec_hash());
        }
        self.admit(before);
    }

    /// Tells what the webhooks changed from what the requester did.
    fn admit(&mut self, before: Option<&Arc<Fields>>) {
        let Some(admission) = self.admission.as_deref_mut() else { return };
        let tier = match self.evidence.as_deref() {
            Some(Evidence::Named { tier, .. } | Evidence::Whole { tier, .. }) => *tier,
            Some(Evidence::None) | None => return,
        };
        admission.changes.clear();
        admission.overridden.clear();
        let is_new = self.effect == Effect::Create && !self.is_replacement;
        for mutation in &admission.mutations {
            let old = before.and_then(|before| before.get(&mutation.path));
            self.changes.retain(|change| !is_at_or_below(&change.path, &mutation.path));
            if tier == Tier::Field
                && !self.is_no_op
                && let Some(state) = &mut self.state
            {
                Arc::make_mut(state).set(&mutation.path, mutation.given.as_ref());
            }
            if is_new {
                continue;
            }
            // Without a state before, what moved is not known; what was asked for and replaced is.
            if before.is_some() && !self.is_no_op && old != mutation.given.as_ref() {
                let change = Change::new(&mutation.path, old, mutation.given.as_ref());
                admission.changes.push((mutation.webhook.clone(), change));
            } else if let Some(asked) = mutation.overridden()
                // A full body that only sends back what was stored asks for nothing.
                && (self.verb == Verb::Patch || asked != old)
            {
                admission.overridden.push(Overridden {
                    path: mutation.path.clone(),
                    webhook: mutation.webhook.clone(),
                    asked: asked.cloned(),
                    given: mutation.given.clone(),
                });
            }
        }
    }

    /// Forgets what is only needed while somebody may come late.
    fn settle(&mut self) -> Option<Arc<Fields>> {
        self.evidence = None;
        self.state.take()
    }
}

// === impl Admission ===

impl Admission {
    /// The changes of each webhook.
    pub(super) fn by_webhook(&self) -> Vec<(&Arc<Client>, Vec<&Change>)> {
        let mut found: Vec<(&Arc<Client>, Vec<&Change>)> = Vec::new();
        for (webhook, change) in &self.changes {
            match found.iter_mut().find(|(known, _)| known.is_same_actor(webhook)) {
                Some((_, changes)) => changes.push(change),
                None => found.push((webhook, vec![change])),
            }
        }
        found
    }
}

// === impl Contest ===

impl Contest {
    /// A contest that begins with writes of which nothing more will be known.
    pub fn begin(seeds: Vec<Record>, on: &ObjectLimits<'_>) -> Contest {
        let mut contest = Contest::default();
        for record in seeds {
            let place = contest.place(&record);
            contest.history.insert(place, record);
        }
        contest.settled = contest.history.len();
        drop(contest.refold(on));
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
        self.live.advance(now, limits);
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
    pub fn correct(&mut self, record: Record, on: &ObjectLimits<'_>) -> Thrashes {
        let Some(at) = self.position_of(&record.order) else { return Thrashes::new() };
        self.kept -= bytes(&self.history[at].state);
        let mut found = std::mem::replace(&mut self.history[at], record);
        match at < self.settled {
            true => {
                self.history[at].resolve(None, on);
                drop(self.history[at].settle());
            }
            false => self.resolve_from(at, on),
        }
        if found.admission.is_some() {
            // It changed nothing, but what it asked for was replaced.
            (found.is_no_op, found.order.revision) = (true, 0);
            drop(found.state.take());
            return self.insert(found, on);
        }
        self.refold(on)
    }

    /// Puts a write in its place.
    pub fn insert(&mut self, mut record: Record, on: &ObjectLimits<'_>) -> Thrashes {
        let uid = if record.order.is_last { 0 } else { record.order.uid };
        let at = self.place(&record);
        let mut is_last = at == self.history.len();
        if at < self.settled {
            record.is_blind |= record.effect == Effect::Modify;
            record.resolve(None, on);
            drop(record.settle());
            self.settled += 1;
            self.history.insert(at, record);
        } else {
            self.history.insert(at, record);
            let first = self.first_rival(at);
            // Those that are the same revision's are put in order anew, and so are those behind them.
            is_last &= first == at;
            self.resolve_from(first, on);
        }
        if let Some(from) = self.deletion_of(uid)
            && let Some(deletion) = self.history.remove(from)
        {
            let to = self.place(&deletion).max(self.settled);
            self.history.insert(to, deletion);
            if from != to {
                self.resolve_from(from.min(to), on);
                is_last = false;
            }
        }
        let thrashes = match is_last {
            true => self.live.step(&self.history[at], on).map(|party| (party, 1)).into_iter().collect(),
            false => self.refold(on),
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
            self.base.step(&oldest, on);
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
    fn resolve_from(&mut self, at: usize, on: &ObjectLimits<'_>) {
        for index in at..self.history.len() {
            self.order_rivals(index);
            let before = self.state_before(index).cloned();
            let is_misplaced = self.is_misplaced(index);
            let is_replacement = self.is_replacement(index, on);
            let record = &mut self.history[index];
            let was = record.state.take();
            (record.is_misplaced, record.is_replacement) = (is_misplaced, is_replacement);
            record.resolve(before.as_ref(), on);
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
    fn refold(&mut self, on: &ObjectLimits<'_>) -> Thrashes {
        let before = std::mem::replace(&mut self.live, self.base.clone());
        let mut resumed = self.resumed;
        for record in &self.history {
            if let Some(at) = resumed.take_if(|at| *at <= record.order.at) {
                self.live.resume(at);
            }
            self.live.step(record, on);
        }
        if let Some(at) = resumed {
            self.live.resume(at);
        }
        self.live.thrashes_since(&before)
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
        let is_after = |r: &Record| match self.revision_of(r) {
            Some(other) if other == revision => at(r) <= at(record),
            Some(other) => other < revision,
            None => false,
        };
        let mut place = self.history.iter().rposition(is_after).map_or(0, |index| index + 1);
        let is_earlier = |r: &Record| self.revision_of(r).is_none() && at(r) <= at(record);
        while self.history.get(place).is_some_and(is_earlier) {
            place += 1;
        }
        place
    }

    /// Where the updates begin that replaced the same revision as the one at `at`.
    fn first_rival(&self, at: usize) -> usize {
        let back = self.history.range(..at).rev().take_while(|r| r.is_rival_of(&self.history[at])).count();
        (at - back).max(self.settled.min(at))
    }

    /// Two updates of one revision were both answered with success: one of them stored nothing. That is the one whose body is
    /// what was there before, whichever came first and whatever the clocks say.
    fn order_rivals(&mut self, first: usize) {
        let ahead = self.history.range(first + 1..).take_while(|r| r.is_rival_of(&self.history[first])).count();
        let Some(before) = self.state_before(first).cloned().filter(|_| ahead > 0) else { return };
        if self.first_rival(first) < first {
            return;
        }
        let mut rivals: Vec<Record> = self.history.drain(first..=first + ahead).collect();
        rivals.sort_by_key(|r| (!r.is_no_op_on(&before), r.order.at));
        for (index, record) in rivals.into_iter().enumerate() {
            self.history.insert(first + index, record);
        }
    }

    /// Whether a creation replaces what its own author deleted, and not for the first time: who writes an object so holds it at
    /// what it wants. A Pod is a new one each time: its controller deletes it to make the next.
    fn is_replacement(&self, at: usize, on: &ObjectLimits<'_>) -> bool {
        let record = &self.history[at];
        if record.effect != Effect::Create || on.is("", "pods") {
            return false;
        }
        let is_own_deletion = |r: &&Record| r.effect == Effect::Delete && r.client.is_same_actor(&record.client);
        let before = || self.history.range(..at).rev();
        before().find(|r| r.effect != Effect::Modify).as_ref().is_some_and(is_own_deletion)
            && before().filter(is_own_deletion).nth(1).is_some()
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

#[cfg(test)]
#[path = "contest/tests.rs"]
mod tests;
