//! The registry of pauses that are set or may be set: what the kill switch must remove.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::ApiResource;
use tokio::time::Instant;

use crate::pipeline::key::ObjectKey;
use crate::util::lock::lock;

/// A reference to an object that is sufficient to write to it without another lookup.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its kind.
    pub resource: ApiResource,
    /// Its namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The uid of the paused object, to distinguish it from a later object of the same name.
    pub uid: Option<String>,
}

/// All pauses of this process, shared by the enforcer and the kill switch. A pause is registered before it is written,
/// since a write that times out may have succeeded.
#[derive(Clone, Debug, Default)]
pub struct Pauses(Arc<Mutex<BTreeMap<ObjectKey, (Target, Instant)>>>);

// === impl Target ===

impl Target {
    /// Returns the reference for Events about the object.
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

    /// Returns the name in the form of the runbook: `Deployment/web`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.resource.kind, self.name)
    }
}

// === impl Pauses ===

impl Pauses {
    /// Registers a pause that exists or is about to be written.
    pub fn insert(&self, key: ObjectKey, target: Target) {
        self.lock().insert(key, (target, Instant::now()));
    }

    /// Removes a pause that certainly no longer exists.
    pub fn remove(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }

    /// Returns when a pause was last registered, or `None` if it is not.
    pub fn registered_at(&self, key: &ObjectKey) -> Option<Instant> {
        self.lock().get(key).map(|(_, at)| *at)
    }

    /// Returns the objects, in order.
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.lock().keys().cloned().collect()
    }

    /// Returns all pauses.
    pub fn all(&self) -> Vec<(ObjectKey, Target)> {
        self.lock().iter().map(|(key, (target, _))| (key.clone(), target.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, (Target, Instant)>> {
        lock(&self.0)
    }
}
