//! Reads the set of fields (`FieldsV1` of `metadata.managedFields`) that a manager took over with a write, as a watch
//! shows it.
//!
//! Such a set names fields, but has no values. Their names are Kubernetes' own, and are translated to the paths that a walk
//! over the object would find: `f:spec` → `.spec`, `k:{"name":"web"}` → `[name=web]`.

use simd_json::BorrowedValue as Json;
use simd_json::prelude::*;

use super::intent::{FieldIntent, Intent};
use super::parse::read;
use super::path::{Path, is_set, last_key, parent, push_key, quoted_selector, set_selector};
use super::state::Fields;
use super::walk::{DEPTH_MAX, FIELDS_MAX, PATH_BYTES_MAX, is_heartbeat, is_left_out, merge_keys};

/// Returns the fields of a set, with their values if the stored object is known.
pub(super) fn intents(owned: &Json<'_>, stored: Option<&Fields>) -> Vec<FieldIntent> {
    let mut walk = Walk { path: String::new(), found: Vec::new() };
    walk.node(owned, 0);
    let mut paths = walk.found;
    paths.sort_unstable();
    paths.dedup();
    let Some(stored) = stored else {
        return paths.into_iter().map(|path| FieldIntent { path, intent: Intent::Modify }).collect();
    };
    let mut found: Vec<FieldIntent> = paths.iter().flat_map(|path| with_values(path, stored)).collect();
    found.dedup_by(|a, b| a.path == b.path);
    found
}

/// Returns the paths of the fields in a set.
pub(crate) fn owned_paths(set: &[u8]) -> Vec<Path> {
    let intents = read(Some(set), |owned| intents(owned, None)).unwrap_or_default();
    intents.into_iter().map(|found| found.path).collect()
}

/// Returns the leaves of the stored object that a path of a set stands for: the field itself, what is below it or, where
/// the object has the field in a list that is one value, that list.
fn with_values(path: &Path, stored: &Fields) -> Vec<FieldIntent> {
    let set =
        |path: &Path, value: &super::FieldValue| FieldIntent { path: path.clone(), intent: Intent::Set(value.clone()) };
    let below: Vec<FieldIntent> = stored.at_or_below(path).map(|(path, value)| set(path, value)).collect();
    if !below.is_empty() {
        return below;
    }
    let above = std::iter::successors(parent(path), |path| parent(path));
    let list = above.into_iter().find_map(|path| Some((Path::from(path), stored.get(path)?)));
    list.map(|(path, value)| set(&path, value)).into_iter().collect()
}

struct Walk {
    path: String,
    found: Vec<Path>,
}

/// An element of a set.
enum Element {
    /// A field or an item with a path of its own.
    Member,
    /// An item of a list that is one value.
    OfWhole,
    /// A field that is not compared.
    LeftOut,
}

// === impl Walk ===

impl Walk {
    fn node(&mut self, set: &Json<'_>, depth: usize) {
        if is_left_out(&self.path) || self.found.len() >= FIELDS_MAX {
            return;
        }
        let members = set.as_object().into_iter().flat_map(|set| set.iter());
        // `.` is the ownership of the map or the item itself.
        let members: Vec<_> = members.filter(|(name, _)| name.as_ref() != ".").collect();
        let is_too_much = depth >= DEPTH_MAX || self.path.len() > PATH_BYTES_MAX;
        if (members.is_empty() || is_too_much) && !self.path.is_empty() {
            self.found.push(self.path.as_str().into());
            return;
        }
        let len = self.path.len();
        for (name, below) in members {
            match self.push(name) {
                Element::Member => self.node(below, depth + 1),
                Element::OfWhole if self.path.is_empty() => {}
                Element::OfWhole => self.found.push(self.path.as_str().into()),
                Element::LeftOut => {}
            }
            self.path.truncate(len);
        }
    }

    /// Appends an element of a set to the path, if it has a path of its own.
    fn push(&mut self, element: &str) -> Element {
        match element.split_once(':') {
            Some(("f", name)) if is_heartbeat(name) => return Element::LeftOut,
            Some(("f", name)) => push_key(&mut self.path, name),
            Some(("k", keys)) => match self.selector(keys) {
                Some(selector) => self.path.push_str(&selector),
                None => return Element::OfWhole,
            },
            Some(("v", value)) if is_set(last_key(&self.path)) => {
                let mut value = value.as_bytes().to_vec();
                let item = simd_json::to_borrowed_value(&mut value).ok();
                let item = item.as_ref().and_then(Json::as_str).map(set_selector);
                self.path.push_str(&item.unwrap_or_default());
            }
            _ => return Element::OfWhole,
        }
        Element::Member
    }

    /// Returns the selector of a list item, from the values of its keys as JSON: `{"containerPort":80,"protocol":"TCP"}`.
    fn selector(&self, keys: &str) -> Option<String> {
        let mut text = keys.as_bytes().to_vec();
        let item = simd_json::to_borrowed_value(&mut text).ok()?;
        let known = merge_keys(last_key(&self.path), &item);
        let mut parts = Vec::with_capacity(known.len());
        for key in known {
            let value = match item.get(*key)? {
                Json::String(text) => quoted_selector(text).into_owned(),
                Json::Static(number) => number.to_string(),
                _ => return None,
            };
            parts.push(format!("{key}={value}"));
        }
        (!parts.is_empty()).then(|| format!("[{}]", parts.join(",")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::fields::walk::WalkOptions;

    const OPTIONS: WalkOptions<'_> = WalkOptions { resource: "", is_hidden: false, is_built_in: true };

    fn of(set: &str, stored: Option<&str>) -> Vec<String> {
        let stored = stored.and_then(|stored| read(Some(stored.as_bytes()), |json| Fields::of_object(json, OPTIONS)));
        let found = read(Some(set.as_bytes()), |json| intents(json, stored.as_ref())).unwrap();
        let text = |found: FieldIntent| match found.intent {
            Intent::Set(value) => format!("{}={}", found.path, value.text().unwrap_or("hidden")),
            Intent::Modify => found.path.to_string(),
            Intent::Remove => format!("-{}", found.path),
        };
        found.into_iter().map(text).collect()
    }

    #[test]
    fn names_of_sets_become_the_paths_of_the_object() {
        let set = r#"{"f:metadata":{"f:labels":{".":{},"f:app.kubernetes.io/name":{}},"f:finalizers":{"v:\"a/b\"":{}}},
            "f:spec":{"f:replicas":{},"f:template":{"f:spec":{
                "f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:image":{},
                    "f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}},
                "f:tolerations":{}}}}}"#;
        let container = "spec.template.spec.containers[name=web]";
        assert_eq!(
            of(set, None),
            [
                "metadata.finalizers[a/b]",
                "metadata.labels['app.kubernetes.io/name']",
                "spec.replicas",
                &format!("{container}.image"),
                &format!("{container}.ports[containerPort=80,protocol=TCP].containerPort"),
                "spec.template.spec.tolerations",
            ]
        );
    }

    #[test]
    fn what_the_server_sets_is_left_out() {
        let set = r#"{"f:metadata":{"f:annotations":{"f:kubectl.kubernetes.io/last-applied-configuration":{}}},
            "f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{"f:lastTransitionTime":{},"f:status":{}}}}}"#;
        assert_eq!(of(set, None), ["status.conditions[type=Ready].status"]);
    }

    #[test]
    fn fields_have_the_values_of_the_stored_object() {
        let stored = r#"{"spec":{"replicas":3,"selector":{"app":"web","tier":"front"},"tolerations":[{"key":"a"}]}}"#;
        let set = r#"{"f:spec":{"f:replicas":{},"f:selector":{},"f:tolerations":{"k:{\"key\":\"a\"}":{"f:key":{}}},
            "f:gone":{}}}"#;
        assert_eq!(
            of(set, Some(stored)),
            [
                "spec.replicas=3",
                "spec.selector.app=\"web\"",
                "spec.selector.tier=\"front\"",
                "spec.tolerations=[{\"key\":\"a\"}]"
            ]
        );
    }

    #[test]
    fn a_set_without_fields_names_none() {
        assert_eq!(of("{}", None), Vec::<String>::new());
        assert_eq!(of(r#"{"x:y":{}}"#, None), Vec::<String>::new());
    }
}
