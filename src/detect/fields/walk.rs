//! Flattens a body to its leaves: identifies list items by Kubernetes' keys, and leaves out what the server sets.
//!
//! The body is an object, or a merge patch, strategic merge patch or apply. These patches are not distinguished: in each
//! of them, `null` and an empty list are an [`Intent::Remove`], and `$patch` and other keys with `$` are directives.
//! `bodies.rs` reads the operations of JSON Patches.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use simd_json::prelude::*;
use simd_json::{BorrowedValue as Json, StaticNode};

use super::intent::{FieldIntent, Intent};
use super::path::{Path, is_set, last_key, push_key, quoted_selector, set_selector};
use super::value::FieldValue;

/// Maximum depth of a walk; anything deeper is one value. Real objects stay below 20.
pub(super) const DEPTH_MAX: usize = 64;
/// Maximum number of leaves of one body, in the order of their paths. A large Deployment has about 300. An object of
/// 1.5 MiB, etcd's limit, can have more; the leaves beyond this number are not compared.
pub(super) const FIELDS_MAX: usize = 131_072;
/// Maximum number of bytes of a path; a node with a longer path is one value.
pub(super) const PATH_BYTES_MAX: usize = 512;
/// Maximum number of items for which it is checked whether a list only grew.
const ITEMS_MAX: usize = 1_024;

/// Whether the server sets the field, or a tool uses it for bookkeeping.
pub(super) fn is_left_out(path: &str) -> bool {
    matches!(
        path,
        "apiVersion"
            | "kind"
            | "metadata.name"
            | "metadata.namespace"
            | "metadata.generateName"
            | "metadata.uid"
            | "metadata.resourceVersion"
            | "metadata.generation"
            | "metadata.creationTimestamp"
            | "metadata.deletionTimestamp"
            | "metadata.deletionGracePeriodSeconds"
            | "metadata.selfLink"
            | "metadata.managedFields"
            | "metadata.annotations['kubectl.kubernetes.io/last-applied-configuration']"
            | "metadata.annotations['deployment.kubernetes.io/revision']"
            | "metadata.annotations['deprecated.daemonset.template.generation']"
    )
}

/// Timestamps that controllers update in conditions and statuses whenever they check them.
pub(super) fn is_heartbeat(key: &str) -> bool {
    matches!(key, "lastTransitionTime" | "lastUpdateTime" | "lastHeartbeatTime" | "lastProbeTime")
}

/// How to read a body.
#[derive(Clone, Copy)]
pub(super) struct WalkOptions<'a> {
    /// Resource name of the object in the core group; empty for others.
    pub(super) resource: &'a str,
    /// Whether values must not be kept.
    pub(super) is_hidden: bool,
    /// Whether the resource is built in, so that the API server knows its types and stores values in one notation.
    pub(super) is_built_in: bool,
}

/// A walk over a body that collects its leaves.
pub(super) struct Walk<'a> {
    options: WalkOptions<'a>,
    pub(super) path: String,
    pub(super) found: Vec<FieldIntent>,
    pub(super) lists: BTreeMap<Path, Vec<Box<str>>>,
    /// Whether the body is a patch, in which nulls remove fields and `$` keys are directives.
    is_partial: bool,
    pub(super) is_secret: bool,
    /// Whether there were more than [`FIELDS_MAX`] leaves.
    pub(super) is_truncated: bool,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    pub(super) fn new(options: WalkOptions<'a>, is_partial: bool) -> Walk<'a> {
        Walk {
            options,
            path: String::new(),
            found: Vec::new(),
            lists: BTreeMap::new(),
            is_partial,
            is_secret: options.resource == "secrets",
            is_truncated: false,
        }
    }

    pub(super) fn node(&mut self, json: &Json<'_>, depth: usize, is_hidden: bool) {
        if is_left_out(&self.path) {
            return;
        }
        let is_too_much = depth >= DEPTH_MAX || self.path.len() > PATH_BYTES_MAX || self.found.len() >= FIELDS_MAX;
        match json {
            // The other members of such an item only identify it.
            Json::Object(map) if self.is_partial && map.get("$patch").and_then(Json::as_str) == Some("delete") => {
                self.push(Intent::Remove);
            }
            Json::Object(map) if !is_too_much => {
                // The parser returns members in the order of its hash table, but leaves must be found in path order.
                let mut members: Vec<_> = map.iter().collect();
                members.sort_unstable_by(|a, b| a.0.cmp(b.0));
                for (key, value) in members {
                    match key.as_ref() {
                        "data" if self.is_secret => self.member(key, value, depth, true),
                        "stringData" if self.is_secret && self.path.is_empty() => self.string_data(value),
                        _ => self.member(key, value, depth, is_hidden),
                    }
                }
            }
            Json::Array(items) if !is_too_much && !items.is_empty() => match keyed(last_key(&self.path), items) {
                Some(selectors) => self.items(items, selectors, depth, is_hidden),
                None => self.leaf(json, is_hidden),
            },
            // To Kubernetes' omitempty, an absent field, an empty map and an empty list are the same. In a patch, an
            // empty list removes all items.
            Json::Object(map) if map.is_empty() => {}
            Json::Array(items) if items.is_empty() && !self.is_partial => {}
            Json::Static(StaticNode::Null) if !self.is_partial => {}
            Json::Array(items) if items.is_empty() => self.push(Intent::Remove),
            Json::Static(StaticNode::Null) => self.push(Intent::Remove),
            _ => self.leaf(json, is_hidden),
        }
    }

    fn member(&mut self, key: &str, value: &Json<'_>, depth: usize, is_hidden: bool) {
        let len = self.path.len();
        if self.is_partial && key.starts_with('$') {
            if key == "$patch" {
                self.push(Intent::Modify);
            } else if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
                push_key(&mut self.path, list);
                self.deleted_from(list, value);
            }
        } else if !is_heartbeat(key) {
            push_key(&mut self.path, key);
            self.node(value, depth + 1, is_hidden);
        }
        self.path.truncate(len);
    }

    /// Removes items of a list of plain values, as a strategic patch directs.
    fn deleted_from(&mut self, list: &str, items: &Json<'_>) {
        let Some(items) = items.as_array().filter(|_| is_set(list)) else { return self.push(Intent::Modify) };
        let len = self.path.len();
        for item in items.iter().filter_map(Json::as_str) {
            self.path.push_str(&set_selector(item));
            self.push(Intent::Remove);
            self.path.truncate(len);
        }
    }

    /// Handles the write-only `stringData` of a Secret, which is stored as `data`, base64-encoded.
    fn string_data(&mut self, json: &Json<'_>) {
        for (key, value) in json.as_object().into_iter().flat_map(|map| map.iter()) {
            self.path.push_str("data");
            push_key(&mut self.path, key);
            match value.as_str() {
                Some(text) => self.leaf(&Json::from(STANDARD.encode(text)), true),
                None => self.node(value, 2, true),
            }
            self.path.clear();
        }
    }

    fn items(&mut self, items: &[Json<'_>], selectors: Vec<Box<str>>, depth: usize, is_hidden: bool) {
        let len = self.path.len();
        let is_one_value = last_key(&self.path) == "ownerReferences";
        for (item, selector) in items.iter().zip(&selectors) {
            self.path.push_str(selector);
            if is_one_value && item.get("$patch").is_none() {
                self.leaf(item, is_hidden);
            } else {
                self.node(item, depth + 1, is_hidden);
            }
            self.path.truncate(len);
        }
        self.lists.insert(self.path.as_str().into(), selectors);
    }

    fn leaf(&mut self, json: &Json<'_>, is_hidden: bool) {
        let mut value = FieldValue::at(&self.path, &json.encode(), self.options.is_built_in, is_hidden);
        if let Json::Array(items) = json
            && items.len() <= ITEMS_MAX
        {
            value.items = Some(items.iter().map(|item| crate::detect::hash(&item.encode())).collect());
        }
        self.push(Intent::Set(value));
    }

    fn push(&mut self, intent: Intent) {
        if self.found.len() >= FIELDS_MAX {
            self.is_truncated = true;
            return;
        }
        self.found.push(FieldIntent { path: self.path.as_str().into(), intent });
    }
}

/// Returns the keys by which Kubernetes merges a list of this name. For unknown lists, this is `name`.
pub(super) fn merge_keys(list: &str, first: &Json<'_>) -> &'static [&'static str] {
    match list {
        "volumeMounts" => &["mountPath"],
        "volumeDevices" => &["devicePath"],
        "ports" if first.get("containerPort").is_some() => &["containerPort", "protocol"],
        "ports" => &["port", "protocol"],
        "conditions" | "addresses" => &["type"],
        "ownerReferences" => &["uid"],
        "hostAliases" | "podIPs" | "hostIPs" => &["ip"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        "taints" => &["key", "effect"],
        "tolerations" | "endpoints" | "subsets" | "subjects" | "rules" => &[],
        _ => &["name"],
    }
}

/// Returns the selectors of a list's items, if all items have the list's keys and the selectors are unique.
fn keyed(list: &str, items: &[Json<'_>]) -> Option<Vec<Box<str>>> {
    if is_set(list) {
        return items.iter().map(|item| Some(set_selector(item.as_str()?).into())).collect();
    }
    let keys = merge_keys(list, items.first()?);
    if keys.is_empty() {
        return None;
    }
    let mut selectors = Vec::with_capacity(items.len());
    for item in items {
        let mut selector = String::from("[");
        for key in keys {
            let value: Cow<'_, str> = match item.get(*key) {
                Some(Json::String(text)) => quoted_selector(text),
                Some(Json::Static(number)) => number.to_string().into(),
                None if *key == "protocol" => "TCP".into(),
                _ => return None,
            };
            if selector.len() > 1 {
                selector.push(',');
            }
            selector.push_str(key);
            selector.push('=');
            selector.push_str(&value);
        }
        selector.push(']');
        selectors.push(selector.into_boxed_str());
    }
    let mut sorted: Vec<&str> = selectors.iter().map(AsRef::as_ref).collect();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1]).then_some(selectors)
}
