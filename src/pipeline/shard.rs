//! A shard of the object table: some of the objects behind one lock, with their deadlines.

use std::collections::{BTreeSet, VecDeque};
use std::hint::black_box;

use hashbrown::{HashTable, hash_table};
use smallvec::SmallVec;

use super::key::{HalfHash, ObjectKey, ObjectSlot};
use super::transition::Transition;
use crate::audit::event::Micros;
use crate::detect::object::ObjectState;
use crate::detect::policy::Policy;
use crate::detect::write_history::LATE_MAX;

/// Bytes that an object takes in a half-empty table, in addition to the object itself.
const ENTRY_BYTES: usize = 40;
/// Maximum number of objects that one call of [`Shard::finalize`] finalizes.
const FINALIZED_AT_ONCE: usize = 64;

/// An object and its key.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: ObjectKey,
    /// Half of the key's hash, which the table needs again when it grows.
    hash: HalfHash,
    pub(super) state: ObjectState,
    /// The bytes that the table counts for this object.
    pub(super) counted: u32,
}

// The allocator rounds 160 to 160 bytes, and 168 to 192.
const _: () = assert!(size_of::<Object>() <= 160);

/// Deadlines of evicted objects that may accumulate before they are searched for and removed.
const STALE_DEADLINES: usize = 1024;

/// When the objects of one cluster must be finalized, and when their states change, by object hash.
#[derive(Debug)]
struct Agenda {
    cluster: Box<str>,
    /// Objects to finalize, and the earliest time for it. Sorted by time as far as events arrive in order.
    to_finalize: VecDeque<(Micros, u64)>,
    /// Objects whose state changes when time passes, and at which time.
    deadlines: BTreeSet<(Micros, u64)>,
}

/// One shard of the object table.
#[derive(Debug)]
pub(super) struct Shard {
    /// Objects are boxed: a table that has just doubled is half empty, and an empty slot then costs only a pointer.
    objects: HashTable<Box<Object>>,
    agendas: Vec<Agenda>,
}

/// The object at a slot.
pub(super) struct Entry<'s> {
    pub(super) object: &'s mut Object,
    /// Whether it was just created.
    pub(super) is_new: bool,
}

/// The growth of the counted bytes.
#[derive(Default)]
pub(super) struct Growth {
    pub(super) bytes: isize,
    pub(super) body_bytes: isize,
}

/// The result of [`Shard::finalize`].
#[derive(Default)]
pub(super) struct Finalized {
    /// Whether more objects may be due.
    pub(super) is_more: bool,
    /// The growth of the counted bytes.
    pub(super) growth: isize,
}

/// Returns the objects with this hash. The table itself compares only a few bits of the hash, so it also finds others.
fn with_hash(objects: &mut HashTable<Box<Object>>, hash: u64) -> impl Iterator<Item = &mut Box<Object>> {
    objects.iter_hash_mut(hash).filter(move |object| object.hash.whole() == hash)
}

// === impl Object ===

impl Object {
    /// Counts the approximate bytes of the object, its key and its table entry. Returns their growth.
    pub(super) fn recount(&mut self) -> isize {
        let is_notable = self.state.history().is_some() || self.state.failures().is_some();
        let name = self.key.as_ref().len() + ENTRY_BYTES;
        let bytes = self.state.bytes() + name * if is_notable { 2 } else { 1 };
        let before = std::mem::replace(&mut self.counted, u32::try_from(bytes).unwrap_or(u32::MAX));
        self.counted as isize - before as isize
    }

    /// Prefetches the memory that a request about this object needs: reads it without using it.
    pub(super) fn prefetch(&self) {
        black_box(self.key.as_ref().as_bytes().first());
        self.state.prefetch();
    }
}

// === impl Shard ===

impl Shard {
    pub(super) fn new() -> Shard {
        Shard { objects: HashTable::new(), agendas: Vec::new() }
    }

    /// Returns the object at this slot, and creates it if necessary. Returns `None` if the slot's names are not valid.
    pub(super) fn entry(&mut self, slot: &ObjectSlot<'_>, at: Micros) -> Option<Entry<'_>> {
        Some(match self.objects.entry(slot.hash, |object| object.key.is_of(slot), |object| object.hash.whole()) {
            hash_table::Entry::Occupied(found) => Entry { object: found.into_mut(), is_new: false },
            hash_table::Entry::Vacant(vacant) => {
                let new =
                    Object { key: slot.key()?, hash: HalfHash::of(slot.hash), state: ObjectState::new(at), counted: 0 };
                Entry { object: vacant.insert(Box::new(new)).into_mut(), is_new: true }
            }
        })
    }

    /// Returns the object at this slot.
    pub(super) fn find(&mut self, slot: &ObjectSlot<'_>) -> Option<&mut ObjectState> {
        let found = self.objects.find_mut(slot.hash, |object| object.key.is_of(slot));
        found.map(|object| &mut object.state)
    }

    /// Returns all objects.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Object> {
        self.objects.iter().map(|object| &**object)
    }

    /// Returns the object with this hash. On a hash collision it can be another object.
    pub(super) fn peek(&self, hash: u64) -> Option<&Object> {
        self.objects.find(hash, |_| true).map(|object| &**object)
    }

    /// Schedules an object to be finalized once late writes can no longer arrive.
    pub(super) fn finalize_later(&mut self, cluster: &str, hash: u64, at: Micros) {
        let objects = self.objects.len();
        let to_finalize = &mut self.agenda(cluster).to_finalize;
        to_finalize.push_back((at.saturating_add(LATE_MAX), hash));
        // If time does not advance, drop the oldest entry: an object that stays unfinalized longer costs less than an
        // unbounded list.
        if to_finalize.len() > 2 * objects {
            to_finalize.pop_front();
        }
    }

    /// Schedules an object for [`Shard::pass_time`] at this time.
    pub(super) fn schedule(&mut self, cluster: &str, hash: u64, at: Micros) {
        let objects = self.objects.len();
        let deadlines = &mut self.agenda(cluster).deadlines;
        deadlines.insert((at, hash));
        if deadlines.len() > 2 * objects + STALE_DEADLINES {
            let mut deadlines = std::mem::take(deadlines);
            deadlines.retain(|(_, hash)| self.peek(*hash).is_some());
            self.agenda(cluster).deadlines = deadlines;
        }
    }

    /// Makes the transitions of a cluster that are due by `now`.
    pub(super) fn pass_time(&mut self, cluster: &str, now: Micros, policy: &Policy, transitions: &mut Vec<Transition>) {
        while let Some((at, hash)) = self.agenda(cluster).deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.agenda(cluster).deadlines.remove(&(at, hash));
            let mut next = None;
            for object in with_hash(&mut self.objects, hash) {
                let Some(limits) = policy.limits(&object.key.object()) else { continue };
                for change in object.state.advance(now, limits) {
                    let labels = object.state.labels(&policy.owner_labels);
                    transitions.push(Transition::new(object.key.clone(), change, labels));
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
            let (to_finalize, deadlines) = Default::default();
            self.agendas.push(Agenda { cluster: cluster.into(), to_finalize, deadlines });
            self.agendas.len() - 1
        });
        &mut self.agendas[index]
    }

    /// Finalizes objects of a cluster that are due at `now`, a limited number at a time.
    pub(super) fn finalize(&mut self, cluster: &str, now: Micros) -> Finalized {
        let Some(index) = self.agendas.iter().position(|agenda| *agenda.cluster == *cluster) else {
            return Finalized::default();
        };
        let mut growth = 0;
        let to_finalize = &self.agendas[index].to_finalize;
        let due = to_finalize.iter().take(FINALIZED_AT_ONCE).take_while(|(at, _)| *at < now).count();
        {
            let hashes = to_finalize.iter().take(due).map(|(_, hash)| *hash);
            let objects: SmallVec<[&Object; FINALIZED_AT_ONCE]> = hashes.filter_map(|hash| self.peek(hash)).collect();
            objects.iter().for_each(|object| object.prefetch());
        }
        for _ in 0..due {
            let Some((_, hash)) = self.agendas[index].to_finalize.pop_front() else { break };
            let mut can_be_finalized = false;
            for object in with_hash(&mut self.objects, hash) {
                object.state.finalize(now);
                growth += object.recount();
                can_be_finalized |= object.state.can_be_finalized();
            }
            if can_be_finalized {
                self.finalize_later(cluster, hash, now);
            }
        }
        Finalized { is_more: due == FINALIZED_AT_ONCE, growth }
    }

    /// Shrinks the matching objects.
    pub(super) fn shrink(
        &mut self,
        is_meant: impl Fn(&ObjectState) -> bool,
        mut shrink: impl FnMut(&mut Object),
    ) -> Growth {
        let mut growth = Growth::default();
        let mut to_finalize = Vec::new();
        for object in self.objects.iter_mut().filter(|object| is_meant(&object.state)) {
            let before = object.state.body_bytes();
            shrink(object);
            growth.bytes += object.recount();
            growth.body_bytes += object.state.body_bytes().wrapping_sub(before) as isize;
            if object.state.can_be_finalized() {
                let hash = object.hash.whole();
                to_finalize.push((object.key.cluster().to_owned(), hash, object.state.last_at()));
            }
        }
        to_finalize.into_iter().for_each(|(cluster, hash, at)| self.finalize_later(&cluster, hash, at));
        growth
    }

    /// Drops all objects that do not match.
    pub(super) fn retain(&mut self, mut is_meant: impl FnMut(&Object) -> bool) {
        self.objects.retain(|object| is_meant(object));
    }
}
