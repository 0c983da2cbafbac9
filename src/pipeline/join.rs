//! Joins audit events that have no fields with the revisions that a watch shows, so that a write has both: the account of the
//! audit event, and the fields and values of the revision.
//!
//! An audit event and a revision may be the same write if they are about the same object, the same subresource and the same
//! field manager, and if the manager's time (in whole seconds) lies between the arrival of the request and its response. Both
//! wait until the other feed has passed their time. Then all that may belong together is decided at once ([`matching`]). If it
//! is not clear who made a revision, its actor is the manager. If one feed is late, what is known goes on without it, and a
//! late audit event corrects the actor of its revision.
//!
//! An audit event that matches no revision changed nothing, if the watch has shown a revision of the object lately, and was
//! connected at that time. Otherwise, it is observed as it is.

mod held;
mod matching;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) use self::held::HeldEvent;
use self::held::{AccountWrite, DISORDER, ManagerWrite, SECOND, Status};
use self::matching::{Component, Decision, components, decide};
use super::clock::Feed;
use super::key::ObjectKey;
use crate::audit::event::{Level, Micros};
use crate::detect::write::{Effect, Outcome, Write};
use crate::util::lock::lock;

/// Maximum time, in event time, that an event waits for the other feed. kube-apiserver sends a batch at least every 30
/// seconds by default.
const WAIT_MAX: Micros = 60 * SECOND;
/// How long events are kept for late events of the other feed: as long as repeated requests are recognised at least.
const KEPT: Micros = 15 * 60 * SECOND;
/// Maximum number of events of one object that are kept, of each kind. More than four writes a second that wait for a
/// minute are too many to be decided together.
const EVENTS_MAX: usize = 256;
/// Maximum number of bytes that are kept for one cluster, and of feeds whose times are tracked.
const BYTES_MAX: usize = 32 << 20;
const FEEDS_MAX: usize = 64;
/// Time without any event of a watch after which it was interrupted. It shows every second that it is alive, a recorded one
/// every ten seconds.
const INTERRUPTED: Micros = 30 * SECOND;

/// The writes of all clusters that wait to be joined.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    /// Whether there has been a watch. Until then, nothing is kept.
    is_active: AtomicBool,
    clusters: Mutex<BTreeMap<Box<str>, Cluster>>,
}

/// What is to be done with a write.
#[derive(Debug)]
pub(super) enum Release {
    /// To observe it as it is.
    Plain(HeldEvent),
    /// To observe the revision as a write of the account.
    Joined(HeldEvent),
    /// To replace the field manager of a revision, which was observed before, by the account.
    Identified(HeldEvent),
    /// To observe it as a request that changed nothing.
    NoOp(HeldEvent),
}

/// The writes of one cluster.
#[derive(Debug, Default)]
struct Cluster {
    feeds: BTreeMap<Box<str>, FeedClock>,
    objects: BTreeMap<ObjectKey, Object>,
    /// When to decide about which object.
    agenda: BTreeSet<(Micros, ObjectKey)>,
    /// The objects, each once, with a time at which it had an event.
    kept: VecDeque<(Micros, ObjectKey)>,
    bytes: usize,
}

/// How far a source has got, and what it delivers. One file may have both.
#[derive(Clone, Copy, Debug)]
struct FeedClock {
    /// Since when there has been no long gap between its events.
    since: Micros,
    latest: Micros,
    has_revisions: bool,
    has_audit_events: bool,
}

/// How far the feeds of a cluster have got.
#[derive(Clone, Copy, Debug)]
struct Progress {
    audit: Option<Micros>,
    watch: Option<Micros>,
    /// Since when the watch has been connected.
    watched_since: Micros,
}

/// The recent writes of one object.
#[derive(Debug, Default)]
struct Object {
    accounts: Vec<AccountWrite>,
    revisions: Vec<ManagerWrite>,
    /// Times of revisions whose manager is not known.
    unknown: Vec<Micros>,
}

// === impl Joiner ===

impl Joiner {
    /// Whether writes may have to wait.
    pub(super) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Whether the write must wait for its counterpart. If so, [`Joiner::due`] returns it later. Live, only the watch of this
    /// process is believed: from anybody else, revisions could hide what others write.
    pub(super) fn keeps(&self, cluster: &str, source: &str, feed: Feed, write: &Write<'_>) -> bool {
        let is_watched = write.event.is_watched();
        let may_be_stored = matches!(write.outcome, Outcome::Committed | Outcome::Uncertain);
        if !may_be_stored || (is_watched && feed == Feed::Live && source != WATCH) {
            return false;
        }
        if is_watched {
            self.is_active.store(true, Ordering::Relaxed);
        } else if !self.is_active() {
            return false;
        }
        let Some(key) = ObjectKey::of(cluster, &write.object) else { return false };
        let mut clusters = lock(&self.clusters);
        if !clusters.contains_key(cluster) {
            clusters.insert(cluster.into(), Cluster::default());
        }
        let Some(known) = clusters.get_mut(cluster) else { return false };
        let feed = known.feed(source, write.at);
        feed.has_revisions |= is_watched;
        feed.has_audit_events |= !is_watched;
        if is_watched { known.keeps_revision(key, write) } else { known.keeps_account(key, source, write) }
    }

    /// Records that a source has delivered its events up to this time.
    pub(super) fn advance(&self, cluster: &str, source: &str, at: Micros) {
        if let Some(known) = lock(&self.clusters).get_mut(cluster) {
            known.feed(source, at).advance(at);
        }
    }

    /// Returns the writes that need not wait any longer. With `is_end`, none does.
    pub(super) fn due(&self, cluster: &str, is_end: bool) -> Vec<Release> {
        lock(&self.clusters).get_mut(cluster).map_or_else(Vec::new, |cluster| cluster.due(is_end))
    }
}

/// The source of a watch that runs. A recorded one is recognised by its events.
const WATCH: &str = "watch";

// === impl Progress ===

impl Progress {
    /// Whether both feeds have passed this time, or one is so far behind the other that nothing waits for it.
    fn has_passed(self, at: Micros) -> bool {
        let (Some(audit), Some(watch)) = (self.audit, self.watch) else { return true };
        audit.min(watch) >= at || audit.max(watch) >= at.saturating_add(WAIT_MAX)
    }

    /// Whether the watch was connected during a request: from its arrival until its revision was certainly seen.
    fn has_watched(self, account: &AccountWrite) -> bool {
        let from = self.watched_since.saturating_add(DISORDER);
        self.watch.is_some_and(|watch| (from..=watch).contains(&account.event.at) && account.due() <= watch)
    }

    /// Whether the watch is not behind the audit events.
    fn is_watch_alive(self) -> bool {
        self.watch.is_some_and(|watch| self.audit.is_none_or(|audit| audit - watch <= WAIT_MAX))
    }

    /// Whether the audit events are not behind the watch.
    fn is_audit_alive(self) -> bool {
        self.audit.is_some_and(|audit| self.watch.is_none_or(|watch| watch - audit <= WAIT_MAX))
    }
}

// === impl FeedClock ===

impl FeedClock {
    fn advance(&mut self, at: Micros) {
        if at.saturating_sub(self.latest) > INTERRUPTED {
            self.since = at;
        }
        self.latest = self.latest.max(at);
    }
}

// === impl Cluster ===

impl Cluster {
    /// Returns the clock of a source, and begins it at `at`. If there are too many, the one that is behind all others is
    /// forgotten.
    fn feed(&mut self, source: &str, at: Micros) -> &mut FeedClock {
        if !self.feeds.contains_key(source) && self.feeds.len() >= FEEDS_MAX {
            let oldest = self.feeds.iter().min_by_key(|(_, feed)| feed.latest).map(|(source, _)| source.clone());
            oldest.map(|oldest| self.feeds.remove(&oldest));
        }
        self.feeds.entry(source.into()).or_insert(FeedClock {
            since: at,
            latest: at,
            has_revisions: source == WATCH,
            has_audit_events: false,
        })
    }

    /// Returns the progress: of the slowest of the API servers that still send events, and of the watch.
    fn progress(&self) -> Progress {
        let slowest = |is_it: fn(&&FeedClock) -> bool| {
            let feeds = self.feeds.values().filter(is_it);
            let newest = feeds.clone().map(|feed| feed.latest).max()?;
            feeds.filter(|feed| newest - feed.latest <= WAIT_MAX).min_by_key(|feed| feed.latest)
        };
        let audit = slowest(|feed| feed.has_audit_events || !feed.has_revisions);
        let watch = slowest(|feed| feed.has_revisions);
        Progress {
            audit: audit.map(|feed| feed.latest),
            watch: watch.map(|feed| feed.latest),
            watched_since: watch.map_or(i64::MAX, |feed| feed.since),
        }
    }

    /// Keeps a revision. Returns whether it waits, or need not be observed at all.
    fn keeps_revision(&mut self, key: ObjectKey, write: &Write<'_>) -> bool {
        if write.identity.user.is_empty() || write.effect == Effect::Delete {
            self.change(key, write.at, |object| object.unknown.push(write.at));
            // Without an author and without values, it only shows that there was a write.
            return write.effect != Effect::Delete && write.event.level == Level::Request;
        }
        if write.stored.resource_version == 0 {
            // An earlier write of a manager has the time of the manager's last write, which may be another one.
            return false;
        }
        let is_alive = self.progress().is_audit_alive();
        let new = ManagerWrite::new(write, if is_alive { Status::Waiting } else { Status::Decided });
        let due = new.due();
        let is_held = self.change(key.clone(), write.at, |object| {
            if object.is_stored_by_account(&new) {
                return true;
            }
            match object.revisions.iter_mut().find(|known| known.is_same_revision(&new)) {
                Some(known) => known.replace(new),
                None => {
                    object.revisions.push(new);
                    is_alive
                }
            }
        });
        if is_held {
            self.agenda.insert((due, key));
        }
        is_held
    }

    /// Keeps the write of an account. Returns whether it waits.
    fn keeps_account(&mut self, key: ObjectKey, source: &str, write: &Write<'_>) -> bool {
        if !self.progress().is_watch_alive() || write.effect == Effect::Delete {
            return false;
        }
        let new = AccountWrite::new(source, write);
        let (due, waits) = (new.due(), new.status == Status::Waiting);
        self.change(key.clone(), write.at, |object| {
            object.accounts.push(new);
            // If the answer has the revision, the watch adds nothing.
            let revisions = std::mem::take(&mut object.revisions);
            let is_left = |known: &ManagerWrite| known.status == Status::Decided || !object.is_stored_by_account(known);
            let left = revisions.into_iter().filter(is_left).collect();
            object.revisions = left;
        });
        self.agenda.insert((due, key));
        waits
    }

    /// Changes the writes of an object, and keeps them for a while.
    fn change<T>(&mut self, key: ObjectKey, at: Micros, change: impl FnOnce(&mut Object) -> T) -> T {
        if !self.objects.contains_key(&key) {
            self.kept.push_back((at, key.clone()));
        }
        let before = self.objects.get(&key).map_or(0, Object::bytes);
        let object = self.objects.entry(key).or_default();
        let changed = change(object);
        object.shrink(at);
        self.bytes = self.bytes + object.bytes() - before;
        changed
    }

    fn due(&mut self, is_end: bool) -> Vec<Release> {
        let progress = self.progress();
        let mut released = Vec::new();
        let mut keys = BTreeSet::new();
        while let Some((at, _)) = self.agenda.first()
            && (is_end || progress.has_passed(*at))
        {
            keys.extend(self.agenda.pop_first().map(|(_, key)| key));
        }
        let mut later = Vec::new();
        for key in keys {
            if let Some(object) = self.objects.get_mut(&key) {
                let before = object.bytes();
                let may_decide = |due| is_end || progress.has_passed(due);
                let next = object.decide(may_decide, progress, &mut released);
                self.bytes = self.bytes + object.bytes() - before;
                later.extend(next.map(|next| (next, key)));
            }
        }
        self.agenda.extend(later);
        self.forget(&mut released);
        released
    }

    /// Forgets objects whose last event is too old, and the oldest ones if there are too many.
    fn forget(&mut self, released: &mut Vec<Release>) {
        let newest = self.feeds.values().map(|feed| feed.latest).max().unwrap_or(i64::MIN);
        while let Some((at, key)) = self.kept.front().cloned() {
            let is_full = self.bytes > BYTES_MAX;
            if newest.saturating_sub(at) <= KEPT && !is_full {
                return;
            }
            self.kept.pop_front();
            let latest = self.objects.get(&key).and_then(Object::latest).unwrap_or(i64::MIN);
            if newest.saturating_sub(latest) <= KEPT && !is_full {
                self.kept.push_back((latest, key));
            } else if let Some(object) = self.objects.remove(&key) {
                self.bytes -= object.bytes();
                released.extend(object.into_waiting().map(Release::Plain));
            }
        }
    }
}

// === impl Object ===

impl Object {
    /// Whether an account certainly stored a revision: its answer has it, and nobody else may have stored it. A request that
    /// changed nothing is also answered with the revision that it found.
    fn is_stored_by_account(&self, revision: &ManagerWrite) -> bool {
        let mut candidates = self.accounts.iter().filter(|account| account.may_be(revision));
        let (only, more) = (candidates.next(), candidates.next());
        only.is_some_and(|account| account.stored(revision.revision)) && more.is_none()
    }

    /// Decides about the writes that wait, as far as `may_decide` allows it for their times. Returns when to decide about the
    /// others.
    fn decide(
        &mut self,
        may_decide: impl Fn(Micros) -> bool,
        progress: Progress,
        released: &mut Vec<Release>,
    ) -> Option<Micros> {
        let mut next = None;
        for revision in &mut self.revisions {
            if std::mem::take(&mut revision.is_renewed) {
                released.extend(revision.joined().map(Release::Joined));
            }
        }
        let unclear = self.waiting();
        if unclear.accounts.len().max(unclear.revisions.len()) > EVENTS_MAX {
            self.settle(Decision { unclear, ..Decision::default() }, progress, released);
            return None;
        }
        for component in components(&self.accounts, &self.revisions) {
            if component.is_decided(&self.accounts, &self.revisions) {
                continue;
            }
            if let Some(due) = component.due(&self.accounts, &self.revisions).filter(|due| !may_decide(*due)) {
                next = Some(next.map_or(due, |next: Micros| next.min(due)));
                continue;
            }
            let decision = decide(component, &self.accounts, &self.revisions);
            self.settle(decision, progress, released);
        }
        next
    }

    /// Releases the writes of a component, according to what is known of it.
    fn settle(&mut self, decision: Decision, progress: Progress, released: &mut Vec<Release>) {
        let Decision { pairs, without_revision, unclear } = decision;
        for (account, revision) in pairs {
            let (account, known) = (&mut self.accounts[account], &mut self.revisions[revision]);
            account.status = Status::Decided;
            let was_waiting = std::mem::replace(&mut known.status, Status::Decided) == Status::Waiting;
            if known.account.is_none() && !account.has_fields {
                known.account = Some(account.event.clone());
                released.extend(known.joined().map(if was_waiting { Release::Joined } else { Release::Identified }));
            }
        }
        for account in without_revision {
            let account = &mut self.accounts[account];
            let may_be_unknown = self.unknown.iter().any(|at| account.may_be_at(*at));
            let is_watched = !self.revisions.is_empty() && progress.has_watched(account);
            let is_no_op = is_watched && !may_be_unknown && account.event.level() == Level::Metadata;
            released.extend(account.settle().map(if is_no_op { Release::NoOp } else { Release::Plain }));
        }
        // A revision that shows no fields says less than the audit events. Otherwise, it says more, but not who wrote.
        let is_blind = |revision: &usize| self.revisions[*revision].is_blind;
        let shows_accounts = !unclear.accounts.is_empty() && unclear.revisions.iter().any(is_blind);
        for revision in unclear.revisions {
            let revision = &mut self.revisions[revision];
            let is_shown = !(shows_accounts && revision.is_blind);
            released.extend(revision.settle().filter(|_| is_shown).map(Release::Plain));
        }
        for account in unclear.accounts {
            released.extend(self.accounts[account].settle().filter(|_| shows_accounts).map(Release::Plain));
        }
    }

    /// Keeps the latest writes only, as of `now`. Those that wait are kept in any case.
    fn shrink(&mut self, now: Micros) {
        let is_old = |status: Status, event: &HeldEvent| status == Status::Decided && now - event.at > KEPT;
        self.accounts.retain(|account| !is_old(account.status, &account.event));
        self.revisions.retain(|revision| !is_old(revision.status, &revision.event));
        let excess = self.accounts.len().saturating_sub(EVENTS_MAX);
        let mut excess = (excess, self.revisions.len().saturating_sub(EVENTS_MAX));
        self.accounts.retain(|account| account.status != Status::Decided || !take_one(&mut excess.0));
        self.revisions.retain(|revision| revision.status != Status::Decided || !take_one(&mut excess.1));
        let unknown = self.unknown.len().saturating_sub(EVENTS_MAX);
        self.unknown.drain(..unknown);
    }

    fn latest(&self) -> Option<Micros> {
        let accounts = self.accounts.iter().map(|account| account.event.at);
        let revisions = self.revisions.iter().map(|revision| revision.event.at);
        accounts.chain(revisions).chain(self.unknown.iter().copied()).max()
    }

    /// Returns the indices of the events that still wait.
    fn waiting(&self) -> Component {
        let accounts = self.accounts.iter().map(|account| account.status);
        let revisions = self.revisions.iter().map(|revision| revision.status);
        let of = |status: Vec<Status>| (0..status.len()).filter(|at| status[*at] == Status::Waiting).collect();
        Component { accounts: of(accounts.collect()), revisions: of(revisions.collect()) }
    }

    /// Returns the events that still wait.
    fn into_waiting(self) -> impl Iterator<Item = HeldEvent> {
        let accounts = self.accounts.into_iter().filter(|account| account.status == Status::Waiting);
        let revisions = self.revisions.into_iter().filter(|revision| revision.status == Status::Waiting);
        accounts.map(|account| account.event).chain(revisions.map(|revision| revision.event))
    }

    fn bytes(&self) -> usize {
        let accounts: usize = self.accounts.iter().map(|account| account.event.bytes()).sum();
        let revisions: usize = self.revisions.iter().map(|revision| revision.event.bytes()).sum();
        size_of::<Object>() + accounts + revisions + self.unknown.len() * size_of::<Micros>()
    }
}

/// Whether there is one more. Takes it.
fn take_one(count: &mut usize) -> bool {
    let is_there = *count > 0;
    *count -= usize::from(is_there);
    is_there
}

#[cfg(test)]
#[path = "join/tests.rs"]
mod tests;
