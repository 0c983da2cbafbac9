//! Watches of single objects with their values, for as long as managers take their fields from each other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::audit::revision::tracker::Tracker;
use crate::util::lock::lock;

/// Time without a takeover after which the values of an object are no longer watched. Longer than the quiet period.
const CALM: Duration = Duration::from_secs(15 * 60);

/// The objects whose values are watched, by uid.
#[derive(Clone)]
pub(super) struct Promotions {
    objects: Arc<Mutex<BTreeMap<Box<str>, Promoted>>>,
    objects_max: usize,
}

struct Promoted {
    state: PromotedState,
    task: JoinHandle<()>,
    tracker: Arc<Mutex<Tracker>>,
}

/// What the watch of a resource and the watch of one of its objects share.
#[derive(Clone, Debug)]
pub(super) struct PromotedState {
    taken_at: Arc<Mutex<Instant>>,
    has_failed: Arc<AtomicBool>,
}

// === impl Promotions ===

impl Promotions {
    pub(super) fn new(objects_max: usize) -> Promotions {
        Promotions { objects: Arc::default(), objects_max }
    }

    /// Whether the values of an object are watched.
    pub(super) fn has(&self, uid: &str) -> bool {
        lock(&self.objects).get(uid).is_some_and(|promoted| !promoted.state.has_failed.load(Ordering::Relaxed))
    }

    /// Records that a manager took over fields of an object. Starts a watch of its values, unless there is one already, or
    /// there are too many. Returns the number of promoted objects if it has changed.
    pub(super) fn promote(
        &self,
        uid: &str,
        tracker: &Arc<Mutex<Tracker>>,
        start: impl FnOnce(PromotedState) -> JoinHandle<()>,
    ) -> Option<usize> {
        let mut objects = lock(&self.objects);
        if let Some(promoted) = objects.get(uid) {
            promoted.state.touch();
            return None;
        }
        if objects.len() >= self.objects_max {
            return None;
        }
        let state = PromotedState { taken_at: Arc::new(Mutex::new(Instant::now())), has_failed: Arc::default() };
        let task = start(state.clone());
        objects.insert(uid.into(), Promoted { state, task, tracker: tracker.clone() });
        Some(objects.len())
    }

    /// Removes an object whose watch has ended. Returns the number of those that are left.
    pub(super) fn demote(&self, uid: &str) -> usize {
        let mut objects = lock(&self.objects);
        objects.remove(uid);
        objects.len()
    }

    /// Stops all watches. Returns the events of revisions whose values have not come.
    pub(super) async fn stop(&self) -> Vec<u8> {
        let objects = std::mem::take(&mut *lock(&self.objects));
        let mut lines = Vec::new();
        for (uid, Promoted { task, tracker, .. }) in objects {
            task.abort();
            drop(task.await);
            lock(&tracker).without_values(&uid, &mut lines);
        }
        lines
    }
}

// === impl PromotedState ===

impl PromotedState {
    /// Records that the values cannot be watched.
    pub(super) fn fail(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// Records a takeover.
    pub(super) fn touch(&self) {
        *lock(&self.taken_at) = Instant::now();
    }

    /// Whether the last takeover was long ago.
    pub(super) fn is_calm(&self) -> bool {
        lock(&self.taken_at).elapsed() >= CALM
    }
}
