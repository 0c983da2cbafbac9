//! The state of an object: the leaves of its body, and the differences between two states.

use std::collections::{BTreeMap, HashSet};

use simd_json::BorrowedValue as Json;
use simd_json::prelude::*;

use super::change::Change;
use super::intent::{FieldIntent, Intent};
use super::path::{Path, is_at_or_below, is_item_of, is_set, item_of, last_key, part_of, push_key};
use super::value::FieldValue;
use super::walk::{Walk, WalkOptions};
use crate::detect::hash_of;
use crate::detect::meter::{TEXT_BYTES, map_bytes};
use crate::detect::write::Part;

/// Lists of built-in resources to which several controllers add items, mostly by merge patches.
const SHARED_LISTS: [&str; 3] = ["ownerReferences", "taints", "conditions"];

/// The leaves of an object's body.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pub(super) leaves: BTreeMap<Path, FieldValue>,
    /// The selectors of keyed lists in order, to resolve the indices of a JSON Patch.
    lists: BTreeMap<Path, Vec<Box<str>>>,
    /// Whether all leaves of the object are known.
    is_complete: bool,
    /// The `apiVersion` of the body. Only states of the same version are compared.
    api_version: Box<str>,
    /// Bytes of the texts that are not shared with the state that this one was derived from.
    text_bytes: usize,
}

// === impl Fields ===

impl Fields {
    /// Returns the leaves of a whole object.
    pub(super) fn of_object(json: &Json<'_>, options: WalkOptions<'_>) -> Fields {
        let mut walk = Walk::new(options, false);
        walk.node(json, 0, options.is_hidden);
        let is_complete = !walk.is_truncated;
        let leaves: BTreeMap<Path, FieldValue> =
            walk.found.into_iter().filter_map(|n| n.intent.value().map(|v| (n.path, v))).collect();
        let text_bytes = leaves.iter().map(|(path, value)| TEXT_BYTES + path.len() + value.bytes()).sum();
        let api_version = json.get_str("apiVersion").unwrap_or_default().into();
        Fields { leaves, lists: walk.lists, is_complete, api_version, text_bytes }
    }

    /// Returns a copy that can be changed and shares its contents with this one.
    pub(in crate::detect) fn derived(&self) -> Fields {
        Fields { text_bytes: 0, ..self.clone() }
    }

    /// Returns the approximate bytes of the fields.
    pub fn bytes(&self) -> usize {
        let lists = map_bytes::<Path, Vec<Box<str>>>(self.lists.len());
        size_of::<Fields>() + map_bytes::<Path, FieldValue>(self.leaves.len()) + lists + self.text_bytes
    }

    /// Whether all leaves of the body are known.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Returns the fields at `branch` and below it.
    pub fn at_or_below<'a>(&'a self, branch: &'a str) -> impl Iterator<Item = (&'a Path, &'a FieldValue)> {
        let below = ['.', '['].into_iter().flat_map(move |open| {
            let from = format!("{branch}{open}");
            let range = (std::ops::Bound::Included(from.as_str()), std::ops::Bound::Unbounded);
            self.leaves.range::<str, _>(range).take_while(move |(path, _)| path.starts_with(&from))
        });
        self.leaves.get_key_value(branch).into_iter().chain(below)
    }

    /// Returns the number of leaves.
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there are no leaves.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Returns the value of one field.
    pub fn get(&self, path: &str) -> Option<&FieldValue> {
        self.leaves.get(path)
    }

    /// Returns the index of an item in a keyed list, such as `[name=web]` in `spec.template.spec.containers`.
    pub fn index_of(&self, list: &str, selector: &str) -> Option<usize> {
        self.lists.get(list)?.iter().position(|known| **known == *selector)
    }

    /// Whether both states have the same apiVersion, so that their leaves can be compared.
    pub fn is_comparable(&self, other: &Fields) -> bool {
        self.api_version == other.api_version || self.api_version.is_empty() || other.api_version.is_empty()
    }

    /// Returns the changes that lead from `self` to `next`.
    pub fn diff(&self, next: &Fields) -> Vec<Change> {
        let mut changes = Vec::new();
        for (path, new) in &next.leaves {
            match self.leaves.get(path) {
                Some(old) if old == new => {}
                None if !self.is_complete => {}
                old => changes.push(Change::new(path, old, Some(new))),
            }
        }
        if next.is_complete {
            let gone = self.leaves.iter().filter(|(path, _)| !next.leaves.contains_key(*path));
            changes.extend(gone.map(|(path, old)| Change::new(path, Some(old), None)));
        }
        changes
    }

    /// Returns the changes that a request for these fields makes to `self`. Fields that already have the value are left
    /// out.
    pub fn changes_by(&self, intents: &[FieldIntent], is_apply: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        for FieldIntent { path, intent } in intents {
            let old = self.leaves.get(path);
            match intent {
                Intent::Set(_) if old.is_none() && is_apply && !self.is_complete => {}
                Intent::Set(new) if old == Some(new) => {}
                Intent::Set(new) => changes.push(Change::new(path, old, Some(new))),
                Intent::Modify => changes.push(Change { is_opaque: true, ..Change::new(path, old, None) }),
                Intent::Remove => {
                    let before = changes.len();
                    let gone = self.at_or_below(path);
                    changes.extend(gone.map(|(leaf, old)| Change::new(leaf, Some(old), None)));
                    if changes.len() == before && !self.is_complete {
                        changes.push(Change::new(path, None, None));
                    }
                }
            }
        }
        changes
    }

    /// Returns the items that a request removes because it replaces these lists without naming them. For built-in
    /// resources the request may also be a strategic patch, which keeps other items. Controllers mostly replace the
    /// lists that they share, so items of these lists that are not named become unknown; items of other lists stay.
    pub(in crate::detect) fn replace_lists(
        &mut self,
        lists: &[Path],
        intents: &[FieldIntent],
        is_built_in: bool,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for list in lists {
            let given: HashSet<&str> = intents.iter().filter_map(|n| item_of(&n.path, list)).collect();
            let is_named = |leaf: &Path| item_of(leaf, list).is_some_and(|item| given.contains(item));
            let items = self.at_or_below(list).map(|(leaf, _)| leaf).filter(|leaf| is_item_of(leaf, list));
            let others: Vec<Path> = items.filter(|leaf| !is_named(leaf)).cloned().collect();
            for leaf in others {
                if is_set(last_key(list)) || !is_built_in {
                    changes.push(Change::new(&leaf, self.leaves.get(&leaf), None));
                } else if SHARED_LISTS.contains(&last_key(list)) {
                    self.set(&leaf, None);
                }
            }
        }
        changes
    }

    /// Records that the object has changed in ways that are not known.
    pub(in crate::detect) fn make_incomplete(&mut self) {
        self.is_complete = false;
    }

    /// Sets the values that these fields request.
    pub fn set_all(&mut self, intents: &[FieldIntent]) {
        for FieldIntent { path, intent } in intents {
            if let Intent::Set(value) = intent {
                self.set(path, Some(value));
            }
        }
    }

    /// Applies the changes. Values after an opaque change become unknown.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.set(&change.path, change.new.as_ref());
        }
    }

    /// Returns the paths of the integers in the object's `spec`.
    pub(in crate::detect) fn spec_numbers(&self) -> impl Iterator<Item = &Path> {
        let below =
            self.leaves.range::<str, _>((std::ops::Bound::Included("spec."), std::ops::Bound::Excluded("spec/")));
        below.filter(|(_, value)| value.text().is_some_and(|text| text.parse::<u32>().is_ok())).map(|(path, _)| path)
    }

    /// Returns a hash of the `spec`, without the labels by which a Job finds its Pods, which differ for each Job.
    pub(in crate::detect) fn spec_hash(&self) -> u64 {
        let is_meant = |path: &Path| path.starts_with("spec.") && !path.contains("controller-uid");
        let meant = self.leaves.iter().filter(|(path, _)| is_meant(path));
        hash_of(&meant.map(|(path, value)| (path, value.hash())).collect::<Vec<_>>())
    }

    /// Returns these fields, with one part replaced by that of a whole body.
    pub fn with_part_of(&self, body: &Fields, part: Part) -> Fields {
        let of_body = body.leaves.iter().filter(|(path, _)| part_of(path) == part);
        let others = self.leaves.iter().filter(|(path, _)| part_of(path) != part);
        let mut lists = self.lists.clone();
        lists.extend(body.lists.iter().map(|(path, order)| (path.clone(), order.clone())));
        let leaves: BTreeMap<_, _> = of_body.chain(others).map(|(path, value)| (path.clone(), value.clone())).collect();
        Fields {
            text_bytes: 0,
            leaves,
            lists,
            is_complete: self.is_complete || (body.is_complete && part == Part::Main),
            api_version: body.api_version.clone(),
        }
    }

    pub(in crate::detect) fn set(&mut self, path: &Path, value: Option<&FieldValue>) {
        match value {
            Some(value) => drop(self.leaves.insert(path.clone(), value.clone())),
            None => drop(self.leaves.remove(path)),
        }
    }

    /// Resolves a JSON Pointer to a path, with the keys of lists whose order is known. The flag is set if the path ends
    /// early, at a list that is one value.
    pub(super) fn resolve(&self, pointer: &str) -> Option<(String, bool)> {
        let mut path = String::new();
        for token in pointer.strip_prefix('/')?.split('/') {
            let token = token.replace("~1", "/").replace("~0", "~");
            let is_index = token == "-" || (!token.is_empty() && token.bytes().all(|b| b.is_ascii_digit()));
            let selector = || self.lists.get(path.as_str())?.get(token.parse::<usize>().ok()?);
            match selector() {
                Some(selector) => path.push_str(&selector.clone()),
                None if is_index && self.leaves.contains_key(path.as_str()) => return Some((path, true)),
                None if token == "-" => return Some((path, true)),
                None if is_index && !self.has_member(&path, &token) => path.push_str(&format!("[{token}]")),
                None => push_key(&mut path, &token),
            }
        }
        Some((path, false))
    }

    fn has_member(&self, path: &str, key: &str) -> bool {
        let mut member = path.to_owned();
        push_key(&mut member, key);
        let from = (std::ops::Bound::Included(member.as_str()), std::ops::Bound::Unbounded);
        self.leaves.range::<str, _>(from).next().is_some_and(|(leaf, _)| is_at_or_below(leaf, &member))
    }
}
