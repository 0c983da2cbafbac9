//! Looks up the APIs of objects: whether their kinds exist, and are namespaced.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::Scope;
use kube::{Client, ResourceExt, discovery};
use prometheus::IntGauge;

use crate::detect::write::ObjectName;
use crate::enforce::calls::{CALL, within};
use crate::enforce::selection::CLUSTER;
use crate::pipeline::key::ObjectKey;
use crate::reconcile::manifest::Id;

/// An object, and the API to access it.
pub(super) struct ObjectApi {
    pub(super) api: Api<DynamicObject>,
    pub(super) resource: ApiResource,
    pub(super) key: ObjectKey,
}

/// The APIs of the kinds that are known so far.
pub(super) struct Kinds {
    client: Client,
    known: BTreeMap<(String, String), (ApiResource, Scope)>,
}

// === impl Kinds ===

impl Kinds {
    pub(super) fn new(client: Client) -> Kinds {
        Kinds { client, known: BTreeMap::new() }
    }

    /// Looks up the API of an object. Returns `None` if its kind does not exist yet, and records that in `missing`.
    pub(super) async fn find(&mut self, id: &Id, missing: &IntGauge) -> kube::Result<Option<ObjectApi>> {
        let kind = (id.api_version.clone(), id.kind.clone());
        if !self.known.contains_key(&kind) {
            let gvk = GroupVersionKind::gvk(id.group(), id.version(), &id.kind);
            match within(CALL, discovery::pinned_kind(&self.client, &gvk)).await {
                Ok((resource, capabilities)) => drop(self.known.insert(kind.clone(), (resource, capabilities.scope))),
                Err(kube::Error::Discovery(_)) => {
                    if missing.get() == 0 {
                        tracing::warn!(asset = %id, "the API server does not know this kind; skipping the object until it does");
                    }
                    missing.set(1);
                    return Ok(None);
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    missing.set(1);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        missing.set(0);
        let Some((resource, scope)) = self.known.get(&kind).cloned() else { return Ok(None) };
        let api = match scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), namespace(id), &resource),
        };
        let name = ObjectName {
            group: id.group(),
            resource: &resource.plural,
            namespace: if scope == Scope::Cluster { "" } else { namespace(id) },
            name: &id.name,
        };
        let key = ObjectKey::new(CLUSTER, &name);
        Ok(Some(ObjectApi { api, resource, key }))
    }

    /// Forgets the kind of an object, which may no longer exist.
    pub(super) fn forget(&mut self, id: &Id) {
        self.known.remove(&(id.api_version.clone(), id.kind.clone()));
    }
}

fn namespace(id: &Id) -> &str {
    if id.namespace.is_empty() { "default" } else { &id.namespace }
}

/// Returns the reference to an object that an Event has.
pub(super) fn reference(id: &Id, live: Option<&DynamicObject>) -> ObjectReference {
    ObjectReference {
        api_version: Some(id.api_version.clone()),
        kind: Some(id.kind.clone()),
        name: Some(id.name.clone()),
        namespace: Some(id.namespace.clone()).filter(|n| !n.is_empty()),
        uid: live.and_then(ResourceExt::uid),
        ..ObjectReference::default()
    }
}
