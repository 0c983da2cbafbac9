//! Joins audit events that have no fields with the revisions that a watch shows, so that a write has both: the account of the
//! audit event, and the fields and values of the revision.
//!
//! An audit event and a revision may be the same write if they are about the same object, the same subresource and the same
//! field manager, and if the manager's time (in whole seconds) lies between the arrival of the request and its response. Both
//! wait until the other feed has passed their time. Then all that may belong together is decided at once ([`matching`]). If it
//! is not clear who made a revision, its actor is the manager. If one feed is late, what is known goes on without it, and a
//! late audit event corrects the actor of its revision.
//!
//! Reviews of an admission webhook have accounts, fields and values; their audit events add the outcome ([`reviews`]).
//!
//! An audit event that matches no revision changed nothing, if the watch has shown a revision of the object lately, and was
//! connected at that time. Otherwise, it is observed as it is.

mod feeds;
mod held;
mod matching;
mod object;
mod reviews;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use self::feeds::{Feeds, WATCH};
pub(super) use self::held::HeldEvent;
use self::held::{AccountWrite, BYTES_MAX, KEPT, ManagerWrite, Status, shows_fields};
use self::object::ObjectWrites;
pub(super) use self::object::Release;
use self::reviews::{Found, Reviews};
use super::clock::Feed;
use super::key::ObjectKey;
use crate::audit::event::{Event, Level, Micros};
use crate::detect::write::{Effect, Outcome, Write};
use crate::util::lock::lock;

/// The writes of all clusters that wait to be joined.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    /// Whether there has been a watch or a review. Until then, nothing is kept.
    is_active: AtomicBool,
    clusters: Mutex<BTreeMap<Box<str>, Cluster>>,
}

/// The writes of one cluster.
#[derive(Debug, Default)]
struct Cluster {
    feeds: Feeds,
    reviews: Reviews,
    /// Writes that need not wait any longer.
    released: Vec<Release>,
    objects: BTreeMap<ObjectKey, ObjectWrites>,
    /// When to decide about which object.
    agenda: BTreeSet<(Micros, ObjectKey)>,
    /// The objects, each once, with a time at which it had an event.
    kept: VecDeque<(Micros, ObjectKey)>,
    bytes: usize,
}

// === impl Joiner ===

impl Joiner {
    /// Whether writes may have to wait.
    pub(super) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Whether the write must wait for its counterpart. If so, [`Joiner::due`] returns it later. Live, only revisions
    /// from the watch of this process are used: forged ones could hide what others write.
    pub(super) fn keeps(&self, cluster: &str, source: &str, feed: Feed, write: &Write<'_>) -> bool {
        let is_watched = write.event.is_watched();
        let is_reviewed = write.event.is_reviewed();
        if is_watched && !is_reviewed && feed == Feed::Live && source != WATCH {
            return false;
        }
        if is_watched || is_reviewed || write.event.reviews().next().is_some() {
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
        if is_reviewed {
            known.feeds.record_review(source, write.at);
            known.reviews.add(source, write, &mut known.released)
        } else {
            known.keeps(key, source, write, is_watched)
        }
    }

    /// Records that a request failed: nobody stored what was reviewed.
    pub(super) fn reject(&self, cluster: &str, event: &Event<'_>) {
        if !self.is_active() || event.reviews().next().is_none() {
            return;
        }
        if let Some(known) = lock(&self.clusters).get_mut(cluster) {
            known.reject(event);
        }
    }

    /// Records that a source has delivered its events up to this time.
    pub(super) fn advance(&self, cluster: &str, source: &str, at: Micros) {
        if let Some(known) = lock(&self.clusters).get_mut(cluster) {
            known.feeds.advance(source, at);
            known.reviews.advance(source, at);
        }
    }

    /// Returns the writes that need not wait any longer. With `is_end`, none does.
    pub(super) fn due(&self, cluster: &str, is_end: bool) -> Vec<Release> {
        lock(&self.clusters).get_mut(cluster).map_or_else(Vec::new, |cluster| cluster.due(is_end))
    }
}

// === impl Cluster ===

impl Cluster {
    /// Keeps a revision or an audit event. Returns whether it waits, or need not be observed at all.
    fn keeps(&mut self, key: ObjectKey, source: &str, write: &Write<'_>, is_watched: bool) -> bool {
        let may_be_stored = matches!(write.outcome, Outcome::Committed | Outcome::Uncertain);
        if is_watched {
            self.feeds.record(source, write.at, true);
            return may_be_stored && self.keeps_revision(key, write);
        }
        self.reviews.record(source, write.at);
        if !may_be_stored {
            self.reject(write.event);
            return false;
        }
        self.feeds.record(source, write.at, false);
        let ids: Vec<u128> = write.event.reviews().collect();
        if ids.is_empty() {
            return self.keeps_account(key, source, write, false);
        }
        let is_uncertain = write.outcome == Outcome::Uncertain;
        let found = self.reviews.find(&ids);
        // The watch shows fields too.
        let is_superfluous = self.feeds.progress().is_watch_alive() && !self.reviews.is_alive(write.at);
        match found {
            Found::All | Found::Observed if is_uncertain => {
                self.reviews.release_all(&ids, &mut self.released);
                self.keeps_account(key, source, write, false);
                true
            }
            Found::Observed => {
                self.reviews.confirm(&ids, &mut self.released);
                self.keeps_account(key, source, write, true);
                true
            }
            // The audit event says everything.
            _ if write.effect == Effect::Delete || shows_fields(write) => {
                self.reviews.drop_all(&ids);
                self.keeps_account(key, source, write, false)
            }
            Found::All => {
                self.keeps_account(key, source, write, true);
                self.reviews.join(&ids, HeldEvent::of(write), &mut self.released);
                true
            }
            Found::Missing if is_superfluous => {
                self.reviews.drop_all(&ids);
                self.keeps_account(key, source, write, false)
            }
            Found::Missing => {
                let is_held = self.reviews.hold(&ids, HeldEvent::of(write), is_uncertain);
                self.keeps_account(key, source, write, is_held) || is_held
            }
        }
    }

    /// Records that a request was rejected: nobody stored what was reviewed.
    fn reject(&mut self, event: &Event<'_>) {
        let ids: Vec<u128> = event.reviews().collect();
        self.reviews.drop_all(&ids);
    }

    /// Keeps a revision. Returns whether it waits, or need not be observed at all.
    fn keeps_revision(&mut self, key: ObjectKey, write: &Write<'_>) -> bool {
        if write.identity.user.is_empty() || write.effect == Effect::Delete {
            self.change(key, write.at, |object| object.add_unknown(write.at));
            // Without an author and without values, it only shows that there was a write.
            return write.effect != Effect::Delete && write.event.level == Level::Request;
        }
        if write.stored.resource_version == 0 {
            // An earlier write of a manager has the time of the manager's last write, which may be another one.
            return false;
        }
        let waits = self.feeds.progress().is_audit_alive() && !self.is_full(&key);
        let new = ManagerWrite::new(write, if waits { Status::Waiting } else { Status::Decided });
        let due = new.due();
        let is_held = self.change(key.clone(), write.at, |object| object.add_revision(new));
        if is_held {
            self.agenda.insert((due, key));
        }
        is_held
    }

    /// Keeps the write of an account, whose fields a review may show. Returns whether it waits.
    fn keeps_account(&mut self, key: ObjectKey, source: &str, write: &Write<'_>, is_reviewed: bool) -> bool {
        if !self.feeds.progress().is_watch_alive() || write.effect == Effect::Delete || self.is_full(&key) {
            return false;
        }
        let mut new = AccountWrite::new(source, write);
        if is_reviewed {
            new.shows_fields();
        }
        let (due, waits) = (new.due(), new.status == Status::Waiting);
        self.change(key.clone(), write.at, |object| object.add_account(new));
        self.agenda.insert((due, key));
        waits
    }

    /// Whether no more writes of this object can wait.
    fn is_full(&self, key: &ObjectKey) -> bool {
        self.objects.get(key).is_some_and(ObjectWrites::is_full)
    }

    /// Changes the writes of an object, and keeps them for a while.
    fn change<T>(&mut self, key: ObjectKey, at: Micros, change: impl FnOnce(&mut ObjectWrites) -> T) -> T {
        if !self.objects.contains_key(&key) {
            self.kept.push_back((at, key.clone()));
        }
        let before = self.objects.get(&key).map_or(0, ObjectWrites::bytes);
        let object = self.objects.entry(key).or_default();
        let changed = change(object);
        object.shrink(at, KEPT);
        self.bytes = self.bytes + object.bytes() - before;
        changed
    }

    fn due(&mut self, is_end: bool) -> Vec<Release> {
        let progress = self.feeds.progress();
        let mut released = std::mem::take(&mut self.released);
        self.reviews.due(is_end, &mut released);
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
        let newest = self.feeds.latest().unwrap_or(i64::MIN);
        while let Some((at, key)) = self.kept.front().cloned() {
            let is_full = self.bytes > BYTES_MAX;
            if newest.saturating_sub(at) <= KEPT && !is_full {
                return;
            }
            self.kept.pop_front();
            let latest = self.objects.get(&key).and_then(ObjectWrites::latest).unwrap_or(i64::MIN);
            if newest.saturating_sub(latest) <= KEPT && !is_full {
                self.kept.push_back((latest, key));
            } else if let Some(object) = self.objects.remove(&key) {
                self.bytes -= object.bytes();
                released.extend(object.into_waiting().map(Release::Plain));
            }
        }
    }
}

#[cfg(test)]
#[path = "join/tests.rs"]
mod tests;
