//! The pauses that are set, or may be: what the kill switch has to lift.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::ApiResource;

use crate::pipeline::key::ObjectKey;

/// An object as the API server knows it: enough to write to it without asking anything first.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its kind.
    pub resource: ApiResource,
    /// Its namespace; empty where it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The uid of the object that was paused: another object of the same name is not meant.
    pub uid: Option<String>,
}

/// All pauses of this process, shared by the enforcer and the kill switch. A pause is entered before it is written: a write
/// without an answer may have been done.
#[derive(Clone, Debug, Default)]
pub struct Pauses(Arc<Mutex<BTreeMap<ObjectKey, (Target, Instant)>>>);

// === impl Target ===

impl Target {
    /// What Events about it refer to.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.resource.api_version.clone()),
            kind: Some(self.resource.kind.clone()),
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            uid: self.uid.clone(),
            resource_version: None,
            field_path: None,
        }
    }

    /// `Deployment/web`, as the runbook has it.
    pub fn title(&self) -> String {
        format!("{}/{}", self.resource.kind, self.name)
    }
}

// === impl Pauses ===

impl Pauses {
    /// Enters a pause that is there, or is about to be written.
    pub fn insert(&self, key: ObjectKey, target: Target) {
        self.lock().insert(key, (target, Instant::now()));
    }

    /// A pause is certainly not there any more.
    pub fn remove(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }

    /// When a pause was last entered; `None` where there is none.
    pub fn entered(&self, key: &ObjectKey) -> Option<Instant> {
        self.lock().get(key).map(|(_, at)| *at)
    }

    /// The objects, in order.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.lock().keys().cloned().collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<(ObjectKey, Target)> {
        self.lock().iter().map(|(key, (target, _))| (key.clone(), target.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, (Target, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
