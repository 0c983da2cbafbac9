//! A part of the objects behind one lock, with the deadlines of these objects.

use std::collections::{BTreeSet, VecDeque};
use std::hint::black_box;

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use super::Transition;
use super::key::{ObjectKey, Place};
use crate::audit::event::Micros;
use crate::detect::contest::LATE_MAX;
use crate::detect::object::ObjectState;
use crate::detect::policy::Policy;

/// Bytes that an object takes in a half-empty table, in addition to the object itself.
const PLACE_BYTES: usize = 40;
/// Maximum number of objects that one call of [`Shard::settle`] settles.
const SETTLED_AT_ONCE: usize = 64;

/// An object and its key.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: ObjectKey,
    pub(super) state: ObjectState,
    /// The bytes that the table counts for this object.
    pub(super) counted: usize,
}

/// Deadlines of evicted objects that may accumulate before they are searched for and removed.
const STALE_DEADLINES: usize = 1024;

/// What is due in a cluster at which time, by object hash.
#[derive(Debug)]
struct Agenda {
    cluster: Box<str>,
    /// Objects to settle, and from which time on. Sorted by time as far as events arrive in order.
    unsettled: VecDeque<(Micros, u64)>,
    /// Objects whose state changes when time passes, and at which time.
    deadlines: BTreeSet<(Micros, u64)>,
}

/// Some of the objects.
#[derive(Debug)]
pub(super) struct Shard {
    /// Objects are boxed: a table that has just doubled is half empty, and an empty slot then costs only a pointer.
    objects: HashTable<Box<Object>>,
    hasher: RandomState,
    agendas: Vec<Agenda>,
}

/// Returns the objects with this hash. The table alone finds others too, also of other clusters: it compares a few bits.
fn with_hash<'o>(
    objects: &'o mut HashTable<Box<Object>>,
    hasher: &'o RandomState,
    hash: u64,
) -> impl Iterator<Item = &'o mut Box<Object>> {
    objects.iter_hash_mut(hash).filter(move |object| object.key.hash(hasher) == hash)
}

// === impl Object ===

impl Object {
    /// Counts the approximate bytes of the object, its key and its table entry. Returns by how much they have grown.
    pub(super) fn recount(&mut self) -> isize {
        let is_notable = self.state.contest().is_some() || self.state.troubles().is_some();
        let name = self.key.as_ref().len() + PLACE_BYTES;
        let before = self.counted;
        self.counted = self.state.bytes() + name * if is_notable { 2 } else { 1 };
        self.counted.wrapping_sub(before) as isize
    }

    /// Prefetches the memory that a request about this object needs: reads it without using it.
    pub(super) fn touch(&self) {
        black_box(self.key.as_ref().as_bytes().first());
        self.state.touch();
    }
}

// === impl Shard ===

impl Shard {
    pub(super) fn new(hasher: RandomState) -> Shard {
        Shard { objects: HashTable::new(), hasher, agendas: Vec::new() }
    }

    /// Returns the object at this place, and whether it is new. Returns `None` if the place's names are not valid.
    pub(super) fn object(&mut self, place: &Place<'_>, at: Micros) -> Option<(&mut Object, bool)> {
        let hasher = &self.hasher;
        let is_it = |key: &ObjectKey| key.is_of(place);
        Some(match self.objects.entry(place.hash, |object| is_it(&object.key), |object| object.key.hash(hasher)) {
            Entry::Occupied(found) => (found.into_mut(), false),
            Entry::Vacant(room) => {
                let new = Object { key: place.key()?, state: ObjectState::new(at), counted: 0 };
                (room.insert(Box::new(new)).into_mut(), true)
            }
        })
    }

    /// Returns the object at this place.
    pub(super) fn find(&mut self, place: &Place<'_>) -> Option<&mut ObjectState> {
        let found = self.objects.find_mut(place.hash, |object| object.key.is_of(place));
        found.map(|object| &mut object.state)
    }

    /// Returns all objects.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Object> {
        self.objects.iter().map(|object| &**object)
    }

    /// Returns the object with this hash. On a hash collision it can be another object.
    pub(super) fn near(&self, hash: u64) -> Option<&Object> {
        self.objects.find(hash, |_| true).map(|object| &**object)
    }

    /// Schedules an object to be settled once late writes can no longer arrive.
    pub(super) fn settle_later(&mut self, cluster: &str, hash: u64, at: Micros) {
        let objects = self.objects.len();
        let unsettled = &mut self.agenda(cluster).unsettled;
        unsettled.push_back((at.saturating_add(LATE_MAX), hash));
        // If time does not advance, drop the oldest entry: an object that stays unsettled longer costs less than an
        // unbounded list.
        if unsettled.len() > 2 * objects {
            unsettled.pop_front();
        }
    }

    /// Schedules an object for [`Shard::pass_time`] at this time.
    pub(super) fn schedule(&mut self, cluster: &str, hash: u64, at: Micros) {
        let objects = self.objects.len();
        let deadlines = &mut self.agenda(cluster).deadlines;
        deadlines.insert((at, hash));
        if deadlines.len() > 2 * objects + STALE_DEADLINES {
            let mut deadlines = std::mem::take(deadlines);
            deadlines.retain(|(_, hash)| self.near(*hash).is_some());
            self.agenda(cluster).deadlines = deadlines;
        }
    }

    /// Makes the transitions of a cluster that are due by `now`.
    pub(super) fn pass_time(&mut self, cluster: &str, now: Micros, policy: &Policy, transitions: &mut Vec<Transition>) {
        while let Some((at, hash)) = self.agenda(cluster).deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.agenda(cluster).deadlines.remove(&(at, hash));
            let mut next = None;
            for object in with_hash(&mut self.objects, &self.hasher, hash) {
                let Some(limits) = policy.limits(&object.key.object()) else { continue };
                for transition in object.state.advance(now, limits) {
                    transitions.push(Transition::new(object.key.clone(), transition));
                }
                next = next.into_iter().chain(object.state.new_deadline(limits)).min();
            }
            if let Some(next) = next {
                self.schedule(cluster, hash, next);
            }
        }
    }

    fn agenda(&mut self, cluster: &str) -> &mut Agenda {
        let index = self.agendas.iter().position(|agenda| *agenda.cluster == *cluster).unwrap_or_else(|| {
            let (unsettled, deadlines) = Default::default();
            self.agendas.push(Agenda { cluster: cluster.into(), unsettled, deadlines });
            self.agendas.len() - 1
        });
        &mut self.agendas[index]
    }

    /// Settles objects of a cluster that are due at `now`, a limited number at a time. Returns whether there may be
    /// more, and by how much the counted bytes have grown.
    pub(super) fn settle(&mut self, cluster: &str, now: Micros) -> (bool, isize) {
        let Some(index) = self.agendas.iter().position(|agenda| *agenda.cluster == *cluster) else { return (false, 0) };
        let mut bytes = 0;
        let unsettled = &self.agendas[index].unsettled;
        let due = unsettled.iter().take(SETTLED_AT_ONCE).take_while(|(at, _)| *at < now).count();
        {
            let hashes = unsettled.iter().take(due).map(|(_, hash)| *hash);
            let objects: SmallVec<[&Object; SETTLED_AT_ONCE]> = hashes.filter_map(|hash| self.near(hash)).collect();
            objects.iter().for_each(|object| object.touch());
        }
        for _ in 0..due {
            let Some((_, hash)) = self.agendas[index].unsettled.pop_front() else { break };
            let mut is_unsettled = false;
            for object in with_hash(&mut self.objects, &self.hasher, hash) {
                object.state.settle(now);
                bytes += object.recount();
                is_unsettled |= object.state.is_unsettled();
            }
            if is_unsettled {
                self.settle_later(cluster, hash, now);
            }
        }
        (due == SETTLED_AT_ONCE, bytes)
    }

    /// Shrinks the matching objects. Returns by how much their counted bytes, and the bytes of their bodies, have
    /// grown.
    pub(super) fn shrink(
        &mut self,
        is_meant: impl Fn(&ObjectState) -> bool,
        mut shrink: impl FnMut(&mut Object),
    ) -> (isize, isize) {
        let (mut bytes, mut bodies) = (0, 0);
        let mut unsettled = Vec::new();
        for object in self.objects.iter_mut().filter(|object| is_meant(&object.state)) {
            let before = object.state.body_bytes();
            shrink(object);
            bytes += object.recount();
            bodies += object.state.body_bytes().wrapping_sub(before) as isize;
            if object.state.is_unsettled() {
                let hash = object.key.hash(&self.hasher);
                unsettled.push((object.key.cluster().to_owned(), hash, object.state.last_at()));
            }
        }
        unsettled.into_iter().for_each(|(cluster, hash, at)| self.settle_later(&cluster, hash, at));
        (bytes, bodies)
    }

    /// Drops all objects that do not match.
    pub(super) fn retain(&mut self, mut is_meant: impl FnMut(&Object) -> bool) {
        self.objects.retain(|object| is_meant(object));
    }
}
