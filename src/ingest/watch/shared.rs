//! What all watches of a source share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore};

use super::delivery::Delivery;
use super::promotion::Promotions;
use super::status::WatchStatus;
use super::target::Target;
use crate::audit::revision::Metadata;
use crate::detect::write::ObjectName;
use crate::pipeline::key::ObjectKey;
use crate::util::lock::lock;

/// What all watches of a source share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) delivery: Delivery,
    pub(super) status: WatchStatus,
    pub(super) promotions: Promotions,
    /// The objects over which there is a war, or may be one.
    pub(super) contested: Arc<Mutex<BTreeSet<ObjectKey>>>,
    /// Limits requests that are begun at the same time.
    pub(super) starts: Arc<Semaphore>,
    /// Whether values must not be kept, and so not be read.
    pub(super) redacts: bool,
    /// Notified when a definition of resources has changed.
    pub(super) definitions: Arc<Notify>,
}

// === impl Shared ===

impl Shared {
    /// Whether there is a war over an object, or may be one. The audit log can show this although no manager takes fields from
    /// another one, because several accounts use the same field manager.
    pub(super) fn is_contested(&self, target: &Target, metadata: &Metadata) -> bool {
        let contested = lock(&self.contested);
        if contested.is_empty() {
            return false;
        }
        let (group, resource) = (&*target.resource.group, &*target.resource.name);
        let (namespace, name) = (&*metadata.namespace, &*metadata.name);
        let object = ObjectName { group, resource, namespace, name };
        ObjectKey::of(self.delivery.cluster(), &object).is_some_and(|key| contested.contains(&key))
    }

    /// Brings the contested objects up to date.
    pub(super) fn update_contested(&self) {
        let contested = self.delivery.contested();
        *lock(&self.contested) = contested;
    }
}
