//! The resources that can be watched.

use kube::discovery::{Discovery, Scope, verbs};

use crate::audit::revision::Resource;
use crate::detect::resource_kind;

/// A resource that can be listed and watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watchable {
    /// The resource, in its preferred version.
    pub resource: Resource,
    /// The kind of its objects.
    pub kind: String,
    /// Whether its objects are in namespaces.
    pub is_namespaced: bool,
}

// === impl Watchable ===

impl Watchable {
    /// Whether a name such as `deploy`, `Deployment` or `deployments.apps` refers to it.
    pub(crate) fn is_named(&self, typed: &str) -> bool {
        resource_kind::matches_input(typed, &self.resource.group, &self.resource.name, &self.kind)
    }
}

/// Returns the resources of the cluster that can be watched, with two requests where the API server supports it.
///
/// # Errors
/// The cluster cannot be reached, or refuses discovery.
pub(crate) async fn discover(client: &kube::Client) -> kube::Result<Vec<Watchable>> {
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(found) => found,
        // Kubernetes before 1.26.
        Err(_) => Discovery::new(client.clone()).run().await?,
    };
    let mut found = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) || !capabilities.supports_operation(verbs::WATCH) {
                continue;
            }
            found.push(Watchable {
                resource: Resource { group: resource.group, version: resource.version, name: resource.plural },
                kind: resource.kind,
                is_namespaced: capabilities.scope == Scope::Namespaced,
            });
        }
    }
    found.sort_by(|a, b| a.resource.cmp(&b.resource));
    Ok(found)
}
