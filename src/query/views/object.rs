//! The full name of an object.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::detect::object::ObjectState;
use crate::detect::resource_kind;
use crate::detect::write::ObjectName;
use crate::escape;
use crate::pipeline::key::ObjectKey;
use crate::util::shell::quoted;

/// Characters that are encoded in a part of a path: all but those that JavaScript's `encodeURIComponent` leaves too.
const PATH_PART: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

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

    /// Returns the path of the object in the API and on the page: `deployments.apps/shop/web?cluster=east`.
    pub fn path(&self) -> String {
        let part = path_part;
        let dot = if self.group.is_empty() { "" } else { "." };
        let resource = part(&format!("{}{dot}{}", self.resource, self.group));
        let namespace = if self.namespace.is_empty() { "-".to_owned() } else { part(&self.namespace) };
        let path = format!("{resource}/{namespace}/{}", part(&self.name));
        if self.cluster.is_empty() { path } else { format!("{path}?cluster={}", part(&self.cluster)) }
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

/// Encodes a text as a part of a path, as JavaScript's `encodeURIComponent` does.
pub(in crate::query) fn path_part(text: &str) -> String {
    utf8_percent_encode(text, PATH_PART).to_string()
}

impl From<&ObjectKey> for Object {
    fn from(key: &ObjectKey) -> Object {
        Object::named(key, None)
    }
}

impl From<&Object> for ObjectKey {
    fn from(object: &Object) -> ObjectKey {
        let Object { cluster, group, resource, namespace, name, .. } = object;
        ObjectKey::new(cluster, &ObjectName { group, resource, namespace, name })
    }
}
