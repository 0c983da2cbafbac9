//! A part of the objects, behind one lock.

use std::collections::{BTreeSet, VecDeque};
use std::hint::black_box;

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use super::Turn;
use super::key::{ObjectKey, Place};
use crate::audit::event::Micros;
use crate::detect::contest::LATE_MAX;
use crate::detect::object::ObjectState;
use crate::detect::policy::Policy;

/// Bytes of an object's place in a table that is half empty, beside the object.
const PLACE_BYTES: usize = 40;
/// Objects that are settled at a time.
const SETTLED_AT_ONCE: usize = 64;

/// An object and its name.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: ObjectKey,
    pub(super) state: ObjectState,
    /// Bytes that it is counted with.
    pub(super) counted: usize,
}

/// Deadlines that are kept for objects that are gone, before they are looked for and removed.
const STALE_DEADLINES: usize = 1024;

/// What is to be done in a cluster when its time comes, by the hashes of the objects.
#[derive(Debug)]
struct Agenda {
    cluster: Box<str>,
    /// Objects that are to be settled, and when they may be: the earliest first, as nearly as events come in order.
    unsettled: VecDeque<(Micros, u64)>,
    /// Objects whose state changes by time alone, and when.
    deadlines: BTreeSet<(Micros, u64)>,
}

/// Some of the objects.
#[derive(Debug)]
pub(super) struct Shard {
    /// A box each: a table that has just doubled is half empty, and a pointer is not much to be empty.
    objects: HashTable<Box<Object>>,
    hasher: RandomState,
    agendas: Vec<Agenda>,
}

// === impl Object ===

impl Object {
    /// Counts the bytes that it takes, roughly, with its name and its place in the table; how many more they are than before.
    pub(super) fn recount(&mut self) -> isize {
        let is_notable = self.state.contest().is_some() || self.state.troubles().is_some();
        let name = self.key.as_ref().len() + PLACE_BYTES;
        let before = self.counted;
        self.counted = self.state.bytes() + name * if is_notable { 2 } else { 1 };
        self.counted.wrapping_sub(before) as isize
    }

    /// Looks at what a request about it will need, and does nothing: where it is not near, it comes meanwhile.
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

    /// The object at this place, and whether it is new; `None` where the place's names are none.
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

    /// The object at this place.
    pub(super) fn find(&mut self, place: &Place<'_>) -> Option<&mut ObjectState> {
        let found = self.objects.find_mut(place.hash, |object| object.key.is_of(place));
        found.map(|object| &mut object.state)
    }

    /// All objects.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Object> {
        self.objects.iter().map(|object| &**object)
    }

    /// The object with this hash, or seldom another one.
    pub(super) fn near(&self, hash: u64) -> Option<&Object> {
        self.objects.find(hash, |_| true).map(|object| &**object)
    }

    /// Has an object settled, once nobody can come late any more.
    pub(super) fn settle_later(&mut self, cluster: &str, hash: u64, at: Micros) {
        let objects = self.objects.len();
        let unsettled = &mut self.agenda(cluster).unsettled;
        unsettled.push_back((at.saturating_add(LATE_MAX), hash));
        // Where time stands still, what is settled late costs less than a list without end.
        if unsettled.len() > 2 * objects {
            unsettled.pop_front();
        }
    }

    /// Has [`Shard::pass_time`] look at an object at this time.
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

    /// Makes the state changes that are due by `now` in a cluster.
    pub(super) fn pass_time(&mut self, cluster: &str, now: Micros, policy: &Policy, turns: &mut Vec<Turn>) {
        while let Some((at, hash)) = self.agenda(cluster).deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.agenda(cluster).deadlines.remove(&(at, hash));
            let mut next = None;
            // Another object that happens to be found by the same hash is only looked at early.
            for object in self.objects.iter_hash_mut(hash) {
                let Some(limits) = policy.limits(&object.key.object()) else { continue };
                for transition in object.state.advance(now, limits) {
                    turns.push(Turn::new(object.key.clone(), transition));
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

    /// Settles what may be in a cluster where it is `now`, some objects at a time; whether there may be more, and how many
    /// bytes more are counted then.
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
            // Another one that happens to be found by the same hash may be settled as well.
            let mut is_unsettled = false;
            for object in self.objects.iter_hash_mut(hash) {
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

    /// Makes these objects smaller; how many bytes more are counted then, and how many more of them are bodies.
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

    /// Keeps the objects that are meant.
    pub(super) fn retain(&mut self, mut is_meant: impl FnMut(&Object) -> bool) {
        self.objects.retain(|object| is_meant(object));
    }
}
