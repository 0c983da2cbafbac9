//! The fields of a body: paths, values, and the differences between two states of an object.
//!
//! A body is flattened to its leaves, such as `spec.template.spec.containers[name=web].image`. Lists whose items
//! Kubernetes merges by key are walked by that key; any other list is one value. Fields that the server sets and the
//! bookkeeping of tools are left out.

mod bodies;
mod quantity;
mod walk;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use simd_json::BorrowedValue as Json;
use simd_json::prelude::*;

pub use self::bodies::{Bodies, Evidence, PatchIntent, Shape};
use self::walk::{Walk, WalkOptions, is_set, last_key, push_key};
use super::meter::{TEXT_BYTES, map_bytes};
use super::write::Part;
use crate::audit::event::parse_timestamp;

/// Maximum number of bytes of a value that are kept for display.
pub const VALUE_BYTES_MAX: usize = 256;

/// Lists of built-in resources to which several controllers add items, mostly by merge patches.
const SHARED_LISTS: [&str; 3] = ["ownerReferences", "taints", "conditions"];

/// The path of a field within its object.
pub type Path = Arc<str>;

/// The value of a field: compared by a keyed hash, displayed by its first bytes.
#[derive(Clone, Debug)]
pub struct FieldValue {
    hash: u64,
    /// A hash that is the same for all notations of the value (`2000m` and `2`), or 0 if there is only one notation.
    /// Only for custom resources: of built-in resources the API server stores one notation, and `hash` is the hash of
    /// that.
    form: u64,
    /// JSON text, truncated to [`VALUE_BYTES_MAX`]; `None` if the value must not be kept.
    text: Option<Arc<str>>,
    /// Hashes of the items, if the value is a list.
    items: Option<Arc<[u64]>>,
}

/// The evidence level: how much is known of what a write changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceLevel {
    /// The part of the object that was written (Metadata).
    Object,
    /// The requested fields and values (Request).
    Field,
    /// The actual changes (RequestResponse).
    Value,
}

/// A field that one write changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The field.
    pub path: Path,
    /// The value before; `None` if it was absent or is not known.
    pub old: Option<FieldValue>,
    /// The value after; `None` if the write removed it.
    pub new: Option<FieldValue>,
    /// Whether the new value is not known, because it depends on the stored one.
    pub is_opaque: bool,
}

/// The leaves of an object's body.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    leaves: BTreeMap<Path, FieldValue>,
    /// The selectors of keyed lists in order, to resolve the indices of a JSON Patch.
    lists: BTreeMap<Path, Vec<Box<str>>>,
    /// Whether all leaves of the object are known.
    is_complete: bool,
    /// The `apiVersion` of the body. Only states of the same version are compared.
    api_version: Box<str>,
    /// Bytes of the texts that are not shared with the state that this one was derived from.
    text_bytes: usize,
}

/// A field that a request names, and what the request does with it.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldIntent {
    /// The field, or a branch if `intent` removes it or is not known.
    pub path: Path,
    /// What the request does with it.
    pub intent: Intent,
}

/// What a request does with a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Intent {
    /// Set the field to this value.
    Set(FieldValue),
    /// Remove the field and everything below it.
    Remove,
    /// Change the field in a way whose result depends on the stored value.
    Modify,
}

// === impl FieldValue ===

impl FieldValue {
    /// Returns the value of some JSON text. If it is `hidden`, only its hash is kept.
    fn new(json: &str, hidden: bool) -> FieldValue {
        FieldValue { hash: super::hash(json), form: 0, text: (!hidden).then(|| cut(json).into()), items: None }
    }

    /// Returns the value of the field at `path`, with quantities normalised.
    fn at(path: &str, json: &str, options: WalkOptions<'_>, hidden: bool) -> FieldValue {
        let value = FieldValue::new(json, hidden);
        let bare = unquoted(json);
        let is_number = bare.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
        match quantity::nanos(bare).filter(|_| is_number && quantity::is_quantity(path)) {
            Some(nanos) if options.is_built_in => FieldValue { hash: super::hash_of(&nanos), ..value },
            Some(nanos) => FieldValue { form: super::hash_of(&nanos), ..value },
            None => value,
        }
    }

    /// Whether this value only advances `old`: a number or a time that increased, also in quotes, or a list that kept
    /// all its items, or that lost only its oldest ones to new ones.
    pub fn is_monotonic_update(&self, old: &FieldValue) -> bool {
        if let (Some(old), Some(new)) = (&old.items, &self.items) {
            let has_grown = new.len() > old.len() && old.iter().all(|item| new.contains(item));
            let has_rolled =
                || (1..old.len()).any(|from| new.len() > old.len() - from && new.starts_with(&old[from..]));
            return has_grown || has_rolled();
        }
        let (Some(old), Some(new)) = (old.text().map(unquoted), self.text().map(unquoted)) else { return false };
        if let (Ok(old), Ok(new)) = (old.parse::<f64>(), new.parse::<f64>()) {
            return new > old;
        }
        parse_timestamp(old).zip(parse_timestamp(new)).is_some_and(|(old, new)| new > old)
    }

    /// Whether both are notations of one value.
    pub fn is_same_form(&self, other: &FieldValue) -> bool {
        self == other || (self.form != 0 && self.form == other.form)
    }

    /// Returns the value as a number, if it is one.
    pub fn number(&self) -> Option<f64> {
        unquoted(self.text()?).parse().ok()
    }

    /// Returns the JSON text for display, truncated if it is long, or `None` if the value is not kept.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Returns the approximate bytes of its heap memory.
    pub fn bytes(&self) -> usize {
        let text = self.text.as_ref().map_or(0, |text| TEXT_BYTES + text.len());
        text + self.items.as_ref().map_or(0, |items| TEXT_BYTES + items.len() * 8)
    }

    /// Returns a hash of the value.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the value of JSON text, as if it was read from a body.
    pub fn of_json(json: &str) -> FieldValue {
        FieldValue::new(json, false)
    }
}

impl PartialEq for FieldValue {
    fn eq(&self, other: &FieldValue) -> bool {
        self.hash == other.hash
    }
}

/// Removes the quotes of a JSON string. Returns other JSON as it is.
fn unquoted(json: &str) -> &str {
    json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json)
}

/// Truncates a long text, and adds an ellipsis.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= VALUE_BYTES_MAX {
        return text.into();
    }
    let end = (0..=VALUE_BYTES_MAX - 3).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…", &text[..end]).into()
}

// === impl Change ===

impl Change {
    /// Returns the approximate bytes of the change.
    pub(super) fn bytes(&self) -> usize {
        let value = |value: &Option<FieldValue>| value.as_ref().map_or(0, FieldValue::bytes);
        size_of::<Change>() + TEXT_BYTES + self.path.len() + value(&self.old) + value(&self.new)
    }

    /// Returns a change with both values as far as the bodies show them.
    pub fn new(path: &Path, old: Option<&FieldValue>, new: Option<&FieldValue>) -> Change {
        Change { path: path.clone(), old: old.cloned(), new: new.cloned(), is_opaque: false }
    }
}

// === impl Fields ===

impl Fields {
    /// Returns the leaves of a whole object.
    fn of_object(json: &Json<'_>, options: WalkOptions<'_>) -> Fields {
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
    pub(super) fn derived(&self) -> Fields {
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
    fn at_or_below<'a>(&'a self, branch: &'a str) -> impl Iterator<Item = (&'a Path, &'a FieldValue)> {
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
    pub(super) fn replace_lists(&mut self, lists: &[Path], intents: &[FieldIntent], is_built_in: bool) -> Vec<Change> {
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
    pub(super) fn spec_numbers(&self) -> impl Iterator<Item = &Path> {
        let below =
            self.leaves.range::<str, _>((std::ops::Bound::Included("spec."), std::ops::Bound::Excluded("spec/")));
        below.filter(|(_, value)| value.text().is_some_and(|text| text.parse::<u32>().is_ok())).map(|(path, _)| path)
    }

    /// Returns a hash of the `spec`, without the labels by which a Job finds its Pods, which differ for each Job.
    pub(super) fn spec_hash(&self) -> u64 {
        let is_meant = |path: &Path| path.starts_with("spec.") && !path.contains("controller-uid");
        let meant = self.leaves.iter().filter(|(path, _)| is_meant(path));
        super::hash_of(&meant.map(|(path, value)| (path, value.hash)).collect::<Vec<_>>())
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

    pub(super) fn set(&mut self, path: &Path, value: Option<&FieldValue>) {
        match value {
            Some(value) => drop(self.leaves.insert(path.clone(), value.clone())),
            None => drop(self.leaves.remove(path)),
        }
    }

    /// Resolves a JSON Pointer to a path, with the keys of lists whose order is known. The flag is set if the path ends
    /// early, at a list that is one value.
    fn resolve(&self, pointer: &str) -> Option<(String, bool)> {
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

// === impl FieldIntent ===

impl FieldIntent {
    /// Returns the approximate bytes of the intent.
    pub(super) fn bytes(&self) -> usize {
        let value = if let Intent::Set(value) = &self.intent { value.bytes() } else { 0 };
        size_of::<FieldIntent>() + TEXT_BYTES + self.path.len() + value
    }
}

// === impl Intent ===

impl Intent {
    fn value(self) -> Option<FieldValue> {
        match self {
            Intent::Set(value) => Some(value),
            Intent::Remove | Intent::Modify => None,
        }
    }
}

/// Returns the part of the object that contains a path.
pub fn part_of(path: &str) -> Part {
    match path.strip_prefix("status") {
        Some(rest) if rest.is_empty() || rest.starts_with(['.', '[']) => Part::Status,
        _ => Part::Main,
    }
}

/// Whether a field is an item of a list, or within one.
fn is_item_of(path: &str, list: &str) -> bool {
    path.strip_prefix(list).is_some_and(|rest| rest.starts_with('['))
}

/// Returns the selector of the list item that contains a field.
fn item_of<'p>(path: &'p str, list: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(list).filter(|rest| rest.starts_with('['))?;
    Some(&rest[..selector_end(rest)?])
}

/// Returns the end of the selector at the beginning of a text: `[name=web]`, `['quoted ]']`.
fn selector_end(text: &str) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '\'' => is_quoted = !is_quoted,
            ']' if !is_quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Whether `path` is `branch` or below it.
pub(super) fn is_at_or_below(path: &str, branch: &str) -> bool {
    path.strip_prefix(branch).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
#[path = "fields/tests.rs"]
mod tests;
