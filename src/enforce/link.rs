//! What the reconciler of the Golden State and the enforcer tell each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pauses::Target;
use crate::audit::event::Micros;
use crate::pipeline::key::ObjectKey;

/// Shared by the two.
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
    /// An object of the Golden State: it may be paused.
    pub fn hold(&self, key: ObjectKey) {
        self.lock().held.insert(key);
    }

    /// An object carries a pause of editwar's, until then.
    pub fn found(&self, key: ObjectKey, target: Target, until: Option<Micros>) {
        self.lock().found.insert(key, (target, until));
    }

    /// The next write of this object would take something back once more: it is to be paused instead.
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
