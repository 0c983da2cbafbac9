//! What one watch watches.

use crate::audit::revision::Resource;

/// A resource in one namespace, or in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) resource: Resource,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
}

// === impl Target ===

impl Target {
    /// Returns the path of the collection.
    pub(super) fn path(&self) -> String {
        self.resource.path(self.namespace.as_deref())
    }

    /// Whether a change of an object may change which resources there are.
    pub(super) fn defines_resources(&self) -> bool {
        matches!(
            (self.resource.group.as_str(), self.resource.name.as_str()),
            ("apiextensions.k8s.io", "customresourcedefinitions") | ("apiregistration.k8s.io", "apiservices")
        )
    }

    /// Whether its objects must not be read, only their metadata.
    pub(super) fn is_secret(&self) -> bool {
        self.resource.group.is_empty() && self.resource.name == "secrets"
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Resource { group, name, .. } = &self.resource;
        if group.is_empty() {
            f.write_str(name)?
        } else {
            write!(f, "{name}.{group}")?
        }
        self.namespace.as_ref().map_or(Ok(()), |namespace| write!(f, " in {namespace}"))
    }
}
