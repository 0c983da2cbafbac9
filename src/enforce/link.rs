//! Shared state through which the Golden State reconciler and the enforcer communicate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use super::pauses::Target;
use crate::audit::event::Micros;
use crate::pipeline::key::ObjectKey;
use crate::util::lock::lock;

/// Shared by the reconciler and the enforcer.
#[derive(Clone, Debug, Default)]
pub struct Link(Arc<Mutex<Linked>>);

#[derive(Debug, Default)]
struct Linked {
    held: BTreeSet<ObjectKey>,
    found: BTreeMap<ObjectKey, (Target, Option<Micros>)>,
    asked: BTreeSet<ObjectKey>,
}

// === impl Link ===

impl Link {
    /// Marks an object as part of the Golden State, so that it may be paused.
    pub fn hold(&self, key: ObjectKey) {
        self.lock().held.insert(key);
    }

    /// Reports that an object carries a pause of editwar, and when that ends.
    pub fn found(&self, key: ObjectKey, target: Target, until: Option<Micros>) {
        self.lock().found.insert(key, (target, until));
    }

    /// Requests a pause of an object, instead of a correction that would be another retake.
    pub fn ask(&self, key: ObjectKey) {
        self.lock().asked.insert(key);
    }

    pub(super) fn held(&self) -> BTreeSet<ObjectKey> {
        self.lock().held.clone()
    }

    pub(super) fn take_asked(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.lock().asked)
    }

    pub(super) fn take_found(&self) -> BTreeMap<ObjectKey, (Target, Option<Micros>)> {
        std::mem::take(&mut self.lock().found)
    }

    fn lock(&self) -> MutexGuard<'_, Linked> {
        lock(&self.0)
    }
}
