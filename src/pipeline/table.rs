//! The table of tracked objects, by name. Bounded in number and in bytes.
//!
//! If memory is short, it drops the following, in this order, each time beginning with the objects that have been
//! silent longest: bodies and states; the writes of contested objects, whose verdicts stay; calm objects; any objects.

use std::sync::atomic::{AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use dashmap::DashSet;
use foldhash::quality::RandomState;
use smallvec::SmallVec;

use super::bounds::Bounds;
use super::key::{ObjectKey, ObjectSlot, shard_of};
use super::shard::{Entry, Object, Shard};
use super::transition::Transition;
use crate::audit::event::Micros;
use crate::detect::actor::Client;
use crate::detect::meter::Meter;
use crate::detect::object::{ObjectState, Observed};
use crate::detect::policy::{Limits, Policy};
use crate::detect::verdict::State;
use crate::detect::write::{ObjectName, Write};
use crate::util::lock::lock;

/// Number of events that are processed together: enough for their cache misses to overlap, but few enough to stay in
/// the cache.
pub(super) const WINDOW: usize = 128;

/// All tracked objects.
#[derive(Debug)]
pub struct Table {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// Objects with a history, failures or a hot loop. Queries ask about these.
    notable: DashSet<ObjectKey, RandomState>,
    bounds: Bounds,
    /// Bytes of the clients, which objects share.
    clients: Meter,
    len: AtomicUsize,
    bytes: AtomicIsize,
    body_bytes: AtomicIsize,
    evicted: AtomicU64,
    /// How often memory was reclaimed in each way, in the order of [`Reclaimable`].
    reclaimed: [AtomicU64; Reclaimable::ALL.len()],
    /// Held while memory is saved, so that only one thread does so.
    saving: Mutex<()>,
}

/// What can be dropped if memory is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaimable {
    /// Bodies and states. For the next write to the object, only the requested fields are known.
    Bodies,
    /// The writes of contested objects, and with them their timelines.
    Writes,
    /// Objects without a war.
    CalmObjects,
    /// Any objects.
    Objects,
}

// === impl Reclaimable ===

impl Reclaimable {
    /// All variants, in the order in which they are dropped.
    pub const ALL: [Reclaimable; 4] =
        [Reclaimable::Bodies, Reclaimable::Writes, Reclaimable::CalmObjects, Reclaimable::Objects];

    /// Returns the label value for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reclaimable::Bodies => "bodies",
            Reclaimable::Writes => "writes",
            Reclaimable::CalmObjects => "calm_objects",
            Reclaimable::Objects => "objects",
        }
    }
}

/// Number of shards for two cores. With this number, two cores seldom need the same shard. Multiples of nine, because a hash
/// table is doubled when it is full at seven eighths: with a power of two, a million objects, which are the default
/// limit, would need tables that are half empty.
const SHARDS_PER_TWO_CORES: usize = 9;
/// Maximum number of calls of [`Shard::finalize`] per shard and batch. They finalize more objects than most batches
/// write to, and take a few milliseconds.
const FINALIZE_ROUNDS: usize = 64;

// === impl Table ===

impl Table {
    /// Returns an empty table with these limits.
    pub fn new(bounds: Bounds, clients: Meter) -> Table {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = cores.div_ceil(2).next_power_of_two() * SHARDS_PER_TWO_CORES;
        Table {
            shards: (0..shards).map(|_| Mutex::new(Shard::new())).collect(),
            hasher: RandomState::default(),
            notable: DashSet::default(),
            bounds: Bounds { objects_max: bounds.objects_max.max(1), ..bounds },
            clients,
            len: AtomicUsize::new(0),
            bytes: AtomicIsize::new(0),
            body_bytes: AtomicIsize::new(0),
            evicted: AtomicU64::new(0),
            reclaimed: [const { AtomicU64::new(0) }; Reclaimable::ALL.len()],
            saving: Mutex::default(),
        }
    }

    /// Returns the slot of an object.
    pub fn slot<'k>(&self, cluster: &'k str, object: ObjectName<'k>) -> ObjectSlot<'k> {
        ObjectSlot::new(cluster, object, &self.hasher)
    }

    fn slot_of<'k>(&self, key: &'k ObjectKey) -> ObjectSlot<'k> {
        self.slot(key.cluster(), key.object())
    }

    /// Prefetches objects that are needed next, so that their cache misses overlap.
    pub(super) fn prefetch(&self, hashes: impl Iterator<Item = u64> + Clone) {
        // All locks are taken first: processors do not overlap two memory accesses across a lock. Shards in use by
        // other threads are skipped.
        let mut locked: SmallVec<[Option<MutexGuard<'_, Shard>>; 36]> = self.shards.iter().map(|_| None).collect();
        for hash in hashes.clone() {
            let index = self.index(hash);
            if locked[index].is_none() {
                locked[index] = self.shards[index].try_lock().ok();
            }
        }
        let peek = |hash: u64| locked[self.index(hash)].as_ref()?.peek(hash);
        let objects: SmallVec<[&Object; WINDOW]> = hashes.filter_map(peek).collect();
        objects.iter().for_each(|object| object.prefetch());
    }

    /// Keeps every write to this object from now on, even while it has only one writer.
    pub fn keep_history(&self, key: &ObjectKey, at: Micros) {
        let slot = self.slot_of(key);
        let mut shard = self.shard(&slot);
        if let Some(Entry { object, is_new }) = shard.entry(&slot, at) {
            self.len.fetch_add(usize::from(is_new), Ordering::Relaxed);
            object.state.keep_history();
            self.bytes.fetch_add(object.recount(), Ordering::Relaxed);
        }
    }

    /// Passes one request to the object at this slot. `now` is the time of its cluster. Returns `None` if the slot's
    /// names are not valid.
    pub fn observe(
        &self,
        slot: &ObjectSlot<'_>,
        write: &Write<'_>,
        client: &Arc<Client>,
        limits: &Limits,
        now: Micros,
    ) -> Option<Observed> {
        let observed = {
            let mut shard = self.shard(slot);
            let Entry { object, is_new } = shard.entry(slot, write.at)?;
            let state = &mut object.state;
            let (was_notable, could_be_finalized) = (is_notable(state, limits), state.can_be_finalized());
            let observed = state.observe(write, client, limits, now);
            if !was_notable && is_notable(state, limits) {
                self.notable.insert(object.key.clone());
            }
            // Atomic operations are slow, and most writes change neither number.
            if is_new {
                self.len.fetch_add(1, Ordering::Relaxed);
            }
            let growth = object.recount();
            if growth != 0 {
                self.bytes.fetch_add(growth, Ordering::Relaxed);
            }
            let deadline = object.state.new_deadline(limits);
            if !could_be_finalized && object.state.can_be_finalized() {
                shard.finalize_later(slot.cluster, slot.hash, write.at);
            }
            if let Some(at) = deadline {
                shard.schedule(slot.cluster, slot.hash, at);
            }
            observed
        };
        if observed.body_bytes != 0 {
            let bytes = self.body_bytes.fetch_add(observed.body_bytes, Ordering::Relaxed) + observed.body_bytes;
            if bytes > self.bounds.body_bytes_max as isize {
                let cutoff = self.median_time(|object| object.body_bytes() > 0);
                self.reclaim(Reclaimable::Bodies, &|object| object.body_bytes() > 0 && object.last_at() <= cutoff);
            }
        }
        if self.bytes() > self.bounds.bytes_max {
            self.save_memory();
        }
        if self.len() > self.bounds.objects_max {
            self.evict();
        }
        Some(observed)
    }

    /// Returns the approximate bytes of all objects and their clients.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.bytes.load(Ordering::Relaxed)).unwrap_or(0) + self.clients.bytes()
    }

    /// Returns how often memory was saved in each way.
    pub fn reclaimed(&self) -> impl Iterator<Item = (Reclaimable, u64)> {
        Reclaimable::ALL
            .into_iter()
            .zip(&self.reclaimed)
            .map(|(reclaimable, count)| (reclaimable, count.load(Ordering::Relaxed)))
    }

    /// Frees an eighth of the memory. Every call visits all objects, so it should be called seldom.
    fn save_memory(&self) {
        let Ok(_saving) = self.saving.try_lock() else { return };
        let enough = self.bounds.bytes_max - self.bounds.bytes_max / 8;
        for reclaimable in Reclaimable::ALL {
            let is_it = |object: &ObjectState| match reclaimable {
                Reclaimable::Bodies | Reclaimable::Objects => true,
                Reclaimable::Writes => object.history().is_some(),
                Reclaimable::CalmObjects => object.state() == State::Calm,
            };
            for cutoff in [self.median_time(is_it), i64::MAX] {
                if self.bytes() <= enough {
                    return;
                }
                self.reclaim(reclaimable, &|object| is_it(object) && object.last_at() <= cutoff);
            }
        }
    }

    fn reclaim(&self, reclaimable: Reclaimable, is_meant: &dyn Fn(&ObjectState) -> bool) {
        self.reclaimed[reclaimable as usize].fetch_add(1, Ordering::Relaxed);
        let shrink = |object: &mut Object| match reclaimable {
            Reclaimable::Bodies => object.state.drop_bodies(),
            _ => object.state.drop_history(),
        };
        match reclaimable {
            Reclaimable::Bodies | Reclaimable::Writes => {
                for shard in &self.shards {
                    let growth = lock(shard).shrink(is_meant, shrink);
                    self.bytes.fetch_add(growth.bytes, Ordering::Relaxed);
                    self.body_bytes.fetch_add(growth.body_bytes, Ordering::Relaxed);
                }
            }
            Reclaimable::CalmObjects | Reclaimable::Objects => self.drop_where(is_meant),
        }
    }

    /// Calls `look` with one object, and returns its result.
    pub fn with<T>(&self, key: &ObjectKey, look: impl FnOnce(&ObjectState) -> T) -> Option<T> {
        let slot = self.slot_of(key);
        self.shard(&slot).find(&slot).map(|object| look(object))
    }

    /// Makes the transitions of a cluster that are due by `now`, in the order of their times.
    pub(super) fn pass_time(&self, cluster: &str, now: Micros, policy: &Policy) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for shard in &self.shards {
            lock(shard).pass_time(cluster, now, policy, &mut transitions);
        }
        transitions.sort_by(|a, b| (a.at, &a.object).cmp(&(b.at, &b.object)));
        transitions
    }

    /// Records that a person lifted the pause of this object.
    pub(super) fn resume(&self, key: &ObjectKey, at: Micros, policy: &Policy) -> Option<Transition> {
        let slot = self.slot_of(key);
        let mut shard = self.shard(&slot);
        let object = shard.find(&slot)?;
        let change = object.resume(at)?;
        Some(Transition::new(key.clone(), change, object.labels(&policy.owner_labels)))
    }

    /// Returns the keys of objects with a history, failures or a hot loop, sorted. Queries ask about these.
    pub fn notable(&self) -> Vec<ObjectKey> {
        let mut keys: Vec<ObjectKey> = self.notable.iter().map(|key| key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    /// Returns what `select` returns for each object, unordered. `select` must not call this table, because a shard is
    /// locked meanwhile.
    pub fn select<T>(&self, select: impl Fn(&ObjectKey, &ObjectState) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        for shard in &self.shards {
            found.extend(lock(shard).iter().filter_map(|Object { key, state, .. }| select(key, state)));
        }
        found
    }

    /// Returns the keys of all objects for which `is_wanted` holds, sorted.
    pub fn keys(&self, is_wanted: impl Fn(&ObjectKey, &ObjectState) -> bool) -> Vec<ObjectKey> {
        let mut keys = self.select(|key, state| is_wanted(key, state).then(|| key.clone()));
        keys.sort_unstable();
        keys
    }

    /// Returns the number of tracked objects.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether no object is tracked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many objects were evicted.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Drops data that is needed only while late writes can arrive, of a limited number of objects per call.
    pub fn compact(&self, cluster: &str, now: Micros) {
        for shard in &self.shards {
            for _ in 0..FINALIZE_ROUNDS {
                let finalized = lock(shard).finalize(cluster, now);
                self.bytes.fetch_add(finalized.growth, Ordering::Relaxed);
                if !finalized.is_more {
                    break;
                }
            }
        }
    }

    fn index(&self, hash: u64) -> usize {
        shard_of(hash, self.shards.len())
    }

    fn shard(&self, slot: &ObjectSlot<'_>) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.index(slot.hash)])
    }

    /// Evicts the calm objects of the half that has been silent longer, or all objects of that half if that is not
    /// enough.
    fn evict(&self) {
        let cutoff = self.median_time(|_| true);
        let is_old = |object: &ObjectState| object.last_at() <= cutoff;
        self.drop_where(|object| is_old(object) && object.state() == State::Calm);
        if self.len() > self.bounds.objects_max {
            self.drop_where(is_old);
        }
    }

    fn drop_where(&self, is_over: impl Fn(&ObjectState) -> bool) {
        let (mut dropped, mut bytes, mut bodies) = (0, 0, 0);
        for shard in &self.shards {
            lock(shard).retain(|object| {
                let is_dropped = is_over(&object.state);
                if is_dropped {
                    dropped += 1;
                    bytes += object.counted as usize;
                    bodies += object.state.body_bytes();
                    self.notable.remove(&object.key);
                }
                !is_dropped
            });
        }
        self.len.fetch_sub(dropped, Ordering::Relaxed);
        self.evicted.fetch_add(dropped as u64, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes as isize, Ordering::Relaxed);
        self.body_bytes.fetch_sub(bodies as isize, Ordering::Relaxed);
    }

    /// Estimates the median of the objects' last times from some thousand of them.
    fn median_time(&self, is_counted: impl Fn(&ObjectState) -> bool) -> Micros {
        let every = (self.len() / 4096).max(1);
        let mut times = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let counted = shard.iter().step_by(every).map(|object| &object.state).filter(|state| is_counted(state));
            times.extend(counted.map(ObjectState::last_at));
        }
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(i64::MIN)
    }
}

fn is_notable(object: &ObjectState, limits: &Limits) -> bool {
    object.history().is_some() || object.failures().is_some() || object.writers().iter().any(|s| s.is_hot(limits))
}
