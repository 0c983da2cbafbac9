//! The input of the enforcer from other parts of the server. As a sink, the inbox collects the objects whose wars have
//! changed their states. From the Golden State reconciler, it receives the objects that the reconciler manages, the pauses
//! that it finds on them, and the pauses that it requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use super::pauses::Target;
use super::selection::CLUSTER;
use crate::audit::event::Micros;
use crate::notify::{Changes, Sink};
use crate::pipeline::key::ObjectKey;
use crate::util::lock::lock;

/// Shared by the intake and the reconciler, which write to it, and the enforcer, which reads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbox(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    managed: BTreeSet<ObjectKey>,
    existing_pauses: BTreeMap<ObjectKey, (Target, Option<Micros>)>,
    pause_requests: BTreeSet<ObjectKey>,
    /// Objects whose state has changed since the last look.
    changed: BTreeSet<ObjectKey>,
}

// === impl Inbox ===

impl Inbox {
    /// Marks an object as part of the Golden State, so that it may be paused.
    pub(crate) fn add_managed(&self, key: ObjectKey) {
        self.lock().managed.insert(key);
    }

    /// Reports that an object carries a pause of editwar, and when that ends.
    pub(crate) fn report_pause(&self, key: ObjectKey, target: Target, until: Option<Micros>) {
        self.lock().existing_pauses.insert(key, (target, until));
    }

    /// Requests a pause of an object, instead of a correction that would be another retake.
    pub(crate) fn request_pause(&self, key: ObjectKey) {
        self.lock().pause_requests.insert(key);
    }

    pub(super) fn managed(&self) -> BTreeSet<ObjectKey> {
        self.lock().managed.clone()
    }

    pub(super) fn take_pause_requests(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.lock().pause_requests)
    }

    pub(super) fn take_existing_pauses(&self) -> BTreeMap<ObjectKey, (Target, Option<Micros>)> {
        std::mem::take(&mut self.lock().existing_pauses)
    }

    pub(super) fn take_changed(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.lock().changed)
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        lock(&self.0)
    }
}

impl Sink for Inbox {
    fn publish(&self, changes: &Changes<'_>) {
        let changed = changes.transitions.iter().filter(|transition| transition.object.cluster() == CLUSTER);
        self.lock().changed.extend(changed.map(|transition| transition.object.clone()));
    }
}
