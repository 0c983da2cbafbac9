//! The objects, by name. Bounded: the calmest and oldest make room.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::{DashMap, DashSet};
use foldhash::quality::RandomState;

use crate::audit::event::Micros;
use crate::detect::actor::Client;
use crate::detect::contest::LATE_MAX;
use crate::detect::object::{ObjectState, Observed};
use crate::detect::policy::Limits;
use crate::detect::verdict::State;
use crate::detect::write::{ObjectName, Write};

/// The identity of an object: cluster, group, resource, namespace and name, in one text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Box<str>);

/// All tracked objects.
#[derive(Debug)]
pub struct Table {
    objects: DashMap<ObjectKey, Box<ObjectState>, RandomState>,
    /// Objects with a contest or troubles: the ones that queries are about.
    notable: DashSet<ObjectKey, RandomState>,
    /// Objects that are to be settled, and when they may be: the earliest first, as nearly as events come in order.
    unsettled: Mutex<VecDeque<(Micros, ObjectKey)>>,
    objects_max: usize,
    body_bytes_max: usize,
    len: AtomicUsize,
    body_bytes: AtomicIsize,
    evicted: AtomicU64,
}

/// Objects that a batch settles: more than most batches write to, and done in some milliseconds.
const SETTLED_AT_ONCE: usize = 4_096;
/// Stands between the parts of a key. No name holds it.
const SEPARATOR: char = '\0';

// === impl ObjectKey ===

impl ObjectKey {
    /// The key of one object.
    pub fn new(cluster: &str, object: &ObjectName<'_>) -> ObjectKey {
        let mut text = String::new();
        ObjectKey::write(&mut text, cluster, object);
        ObjectKey(text.into())
    }

    /// Writes a key's text into `text`; `false` where the names are none.
    pub fn write(text: &mut String, cluster: &str, object: &ObjectName<'_>) -> bool {
        text.clear();
        for part in [cluster, object.group, object.resource, object.namespace] {
            text.push_str(part);
            text.push(SEPARATOR);
        }
        text.push_str(object.name);
        text.bytes().filter(|b| *b == SEPARATOR as u8).count() == 4
    }

    /// The cluster's name, empty where there is only one.
    pub fn cluster(&self) -> &str {
        self.0.split(SEPARATOR).next().unwrap_or_default()
    }

    /// The object within its cluster.
    pub fn object(&self) -> ObjectName<'_> {
        let mut parts = self.0.split(SEPARATOR).skip(1);
        let mut part = || parts.next().unwrap_or_default();
        ObjectName { group: part(), resource: part(), namespace: part(), name: part() }
    }
}

impl From<&str> for ObjectKey {
    fn from(text: &str) -> ObjectKey {
        ObjectKey(text.into())
    }
}

impl AsRef<str> for ObjectKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ObjectKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.split(SEPARATOR).collect::<Vec<_>>())
    }
}

// === impl Table ===

impl Table {
    /// An empty table within these bounds.
    pub fn new(objects_max: usize, body_bytes_max: usize) -> Table {
        Table {
            objects: DashMap::default(),
            notable: DashSet::default(),
            unsettled: Mutex::default(),
            objects_max: objects_max.max(1),
            body_bytes_max,
            len: AtomicUsize::new(0),
            body_bytes: AtomicIsize::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    /// Keeps every write of this object from now on, even while it has one writer.
    pub fn follow(&self, key: &str, at: Micros) {
        let mut object = self.objects.entry(ObjectKey::from(key)).or_insert_with(|| {
            self.len.fetch_add(1, Ordering::Relaxed);
            Box::new(ObjectState::new(at))
        });
        object.follow();
    }

    /// Takes in one request about the object with this key.
    pub fn observe(&self, key: &str, write: &Write<'_>, client: &Arc<Client>, limits: &Limits) -> Observed {
        let observed = match self.objects.get_mut(key) {
            Some(mut object) => self.step(key, &mut object, write, client, limits),
            None => {
                let mut object = self.objects.entry(ObjectKey::from(key)).or_insert_with(|| {
                    self.len.fetch_add(1, Ordering::Relaxed);
                    Box::new(ObjectState::new(write.at))
                });
                self.step(key, &mut object, write, client, limits)
            }
        };
        let bytes = self.body_bytes.fetch_add(observed.kept_bytes, Ordering::Relaxed) + observed.kept_bytes;
        if bytes > self.body_bytes_max as isize {
            self.drop_bodies();
        }
        if self.len.load(Ordering::Relaxed) > self.objects_max {
            self.evict();
        }
        observed
    }

    /// One object, looked at.
    pub fn with<T>(&self, key: &ObjectKey, look: impl FnOnce(&ObjectState) -> T) -> Option<T> {
        self.objects.get(key).map(|object| look(&object))
    }

    /// One object, after time passed up to `now`.
    pub fn with_at<T>(
        &self,
        key: &ObjectKey,
        now: Micros,
        limits: &Limits,
        look: impl FnOnce(&ObjectState) -> T,
    ) -> Option<T> {
        self.objects.get_mut(key).map(|mut object| {
            object.advance(now, limits);
            look(&object)
        })
    }

    /// A person lifted the pause of this object.
    pub fn resume(&self, key: &ObjectKey, at: Micros) {
        if let Some(mut object) = self.objects.get_mut(key) {
            object.resume(at);
        }
    }

    /// The objects that queries are about: contested ones and troubled ones.
    pub fn notable(&self) -> Vec<ObjectKey> {
        let mut keys: Vec<ObjectKey> = self.notable.iter().map(|key| key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    /// What `select` finds in all objects, in no order.
    pub fn select<T>(&self, select: impl Fn(&ObjectKey, &ObjectState) -> Option<T>) -> Vec<T> {
        self.objects.iter().filter_map(|o| select(o.key(), o.value())).collect()
    }

    /// The keys of all objects for which `is_wanted` holds, sorted.
    pub fn keys(&self, is_wanted: impl Fn(&ObjectKey, &ObjectState) -> bool) -> Vec<ObjectKey> {
        let mut keys = self.select(|key, state| is_wanted(key, state).then(|| key.clone()));
        keys.sort_unstable();
        keys
    }

    /// How many objects are tracked.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many objects made room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn step(
        &self,
        key: &str,
        object: &mut ObjectState,
        write: &Write<'_>,
        client: &Arc<Client>,
        limits: &Limits,
    ) -> Observed {
        let (was_notable, was_unsettled) = (is_notable(object, limits), object.is_unsettled());
        let observed = object.observe(write, client, limits);
        if !was_notable && is_notable(object, limits) {
            self.notable.insert(ObjectKey::from(key));
        }
        if !was_unsettled && object.is_unsettled() {
            self.settle_later(write.at, ObjectKey::from(key));
        }
        observed
    }

    fn settle_later(&self, at: Micros, key: ObjectKey) {
        let mut unsettled = self.unsettled();
        unsettled.push_back((at + LATE_MAX, key));
        // Where time stands still, what is settled late costs less than a list without end.
        if unsettled.len() > self.objects_max {
            unsettled.pop_front();
        }
    }

    fn unsettled(&self) -> MutexGuard<'_, VecDeque<(Micros, ObjectKey)>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what is only needed while somebody may come late: of some objects at a time.
    pub fn tidy(&self, now: Micros) {
        for _ in 0..SETTLED_AT_ONCE {
            let Some((_, key)) = self.unsettled().pop_front_if(|(at, _)| *at < now) else { return };
            let Some(mut object) = self.objects.get_mut(&key) else { continue };
            object.settle(now);
            if object.is_unsettled() {
                drop(object);
                self.settle_later(now, key);
            }
        }
    }

    /// Drops the bodies of the half of the objects that was silent longer.
    fn drop_bodies(&self) {
        let cutoff = self.median_time(|object| object.kept_bytes() > 0);
        let mut dropped = 0;
        for mut object in self.objects.iter_mut().filter(|o| o.last_at() <= cutoff) {
            dropped += object.kept_bytes() as isize;
            object.drop_bodies();
            if object.is_unsettled() {
                self.settle_later(object.last_at(), object.key().clone());
            }
        }
        self.body_bytes.fetch_sub(dropped, Ordering::Relaxed);
    }

    /// Drops calm objects: those of the half that was silent longer; where that is not enough, any.
    fn evict(&self) {
        let cutoff = self.median_time(|_| true);
        let mut dropped = 0usize;
        let mut bytes = 0;
        let mut drop_where = |is_over: &dyn Fn(&ObjectState) -> bool| {
            self.objects.retain(|key, object| {
                let is_dropped = is_over(object);
                if is_dropped {
                    dropped += 1;
                    bytes += object.kept_bytes() as isize;
                    self.notable.remove::<ObjectKey>(key);
                }
                !is_dropped
            });
        };
        drop_where(&|object| object.last_at() <= cutoff && object.state() == State::Calm);
        if self.objects.len() > self.objects_max {
            drop_where(&|object| object.last_at() <= cutoff);
        }
        self.len.fetch_sub(dropped, Ordering::Relaxed);
        self.evicted.fetch_add(dropped as u64, Ordering::Relaxed);
        self.body_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The median of the objects' last times, estimated on some thousand of them.
    fn median_time(&self, is_counted: impl Fn(&ObjectState) -> bool) -> Micros {
        let every = (self.objects.len() / 4096).max(1);
        let counted = self.objects.iter().step_by(every).filter(|o| is_counted(o.value()));
        let mut times: Vec<Micros> = counted.map(|o| o.last_at()).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(i64::MIN)
    }
}

fn is_notable(object: &ObjectState, limits: &Limits) -> bool {
    object.contest().is_some() || object.troubles().is_some() || object.seen().iter().any(|s| s.is_hot(limits))
}
