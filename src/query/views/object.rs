//! The full name of an object.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::detect::object::ObjectState;
use crate::detect::resource_kind;
use crate::escape;
use crate::pipeline::key::ObjectKey;
use crate::util::shell::quoted;

/// The full name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// The cluster's name; empty if there is only one cluster.
    pub cluster: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The plural resource name.
    pub resource: String,
    /// The kind: from a body, or that of the built-in resource, or the resource name.
    pub kind: String,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// The name.
    pub name: String,
}

// === impl Object ===

impl Object {
    /// Returns the name of an object, with the best known kind.
    pub fn of(key: &ObjectKey, state: &ObjectState) -> Object {
        Object::named(key, state.kind().map(AsRef::as_ref))
    }

    /// Returns the object as arguments of `who`: `deployments.apps/web -n shop`.
    pub fn arguments(&self) -> String {
        let Object { cluster, group, resource, namespace, name, .. } = self;
        let dot = if group.is_empty() { "" } else { "." };
        let mut arguments = quoted(&escape::text(&format!("{resource}{dot}{group}/{name}")));
        for (flag, value) in [("-n", namespace), ("--cluster", cluster)] {
            if !value.is_empty() {
                arguments.push_str(&format!(" {flag} {}", quoted(&escape::text(value))));
            }
        }
        arguments
    }

    pub(in crate::query) fn named(key: &ObjectKey, kind: Option<&str>) -> Object {
        let name = key.object();
        let kind = kind.or(resource_kind::built_in(name.group, name.resource));
        Object {
            cluster: key.cluster().into(),
            group: name.group.into(),
            resource: name.resource.into(),
            kind: kind.unwrap_or(name.resource).into(),
            namespace: name.namespace.into(),
            name: name.name.into(),
        }
    }
}
