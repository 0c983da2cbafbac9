//! Which objects and wars a query includes.

use super::object::Object;
use crate::detect::resource_kind;
use crate::pipeline::key::ObjectKey;

/// Which objects and wars a report includes.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only this kind, in any notation that kubectl accepts.
    pub kind: Option<String>,
    /// Only this name.
    pub name: Option<String>,
    /// Only this cluster.
    pub cluster: Option<String>,
    /// Only wars with a party whose name contains this.
    pub actor: Option<String>,
    /// Include contested objects, not only those with thrashing events.
    pub all: bool,
    /// Maximum number of objects.
    pub limit: Option<usize>,
    /// Approximate number of bytes of JSON after which no more objects are added.
    pub bytes_max: Option<usize>,
}

// === impl Filter ===

impl Filter {
    /// Whether every object of every actor matches.
    pub(in crate::query) fn is_any(&self) -> bool {
        [&self.namespace, &self.kind, &self.name, &self.cluster, &self.actor].into_iter().all(Option::is_none)
    }

    /// Whether an object matches if only its name is known.
    pub(in crate::query) fn is_name(&self, key: &ObjectKey) -> bool {
        self.is_key(key, None)
    }

    /// Whether an object with this kind, if it is known, matches. Like [`Filter::is_object`], but cheap enough to call
    /// for each of a million objects.
    pub(in crate::query) fn is_key(&self, key: &ObjectKey, kind: Option<&str>) -> bool {
        let object = key.object();
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        is(&self.namespace, object.namespace)
            && is(&self.name, object.name)
            && is(&self.cluster, key.cluster())
            && self.kind.as_deref().is_none_or(|typed| {
                let kind = kind.or(resource_kind::built_in(object.group, object.resource)).unwrap_or(object.resource);
                resource_kind::matches_input(typed, object.group, object.resource, kind)
            })
    }

    pub(in crate::query) fn is_object(&self, object: &Object) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        is(&self.namespace, &object.namespace)
            && is(&self.name, &object.name)
            && is(&self.cluster, &object.cluster)
            && self
                .kind
                .as_deref()
                .is_none_or(|typed| resource_kind::matches_input(typed, &object.group, &object.resource, &object.kind))
    }

    pub(in crate::query) fn is_actor<'a>(&self, mut actors: impl Iterator<Item = &'a str>) -> bool {
        self.actor.as_deref().is_none_or(|wanted| actors.any(|actor| actor.contains(wanted)))
    }
}
