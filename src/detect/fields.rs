//! Bodies → fields: paths, values, and what differs between two states of an object.
//!
//! A body is flattened to its leaves, `spec.template.spec.containers[name=web].image`. Lists whose items Kubernetes
//! knows by a key are walked by that key; any other list is one value. What the server sets and what tools keep
//! books in is left out.

mod bodies;
mod quantity;
mod walk;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use simd_json::BorrowedValue as Json;
use simd_json::prelude::*;

pub use self::bodies::{Asked, Bodies, Evidence, Shape};
use self::walk::{Rules, Walk, is_set, last_key, push_key};
use super::meter::{TEXT_BYTES, map_bytes};
use super::write::Part;
use crate::audit::event::parse_timestamp;

/// Bytes of a value that are kept to be shown.
pub const VALUE_BYTES_MAX: usize = 256;

/// Lists of built-in resources to which several controllers add items of their own, mostly by merge patches.
const SHARED_LISTS: [&str; 3] = ["ownerReferences", "taints", "conditions"];

/// A field's path within its object.
pub type Path = Arc<str>;

/// A field's value: compared by a keyed hash, shown by its first bytes.
#[derive(Clone, Debug)]
pub struct FieldValue {
    hash: u64,
    /// A hash of the value whatever its form (`2000m` and `2`); 0 where it has but one. Only for extensions: of a built-in
    /// resource the API server stores one form, and `hash` is that of the normal form.
    form: u64,
    /// JSON text, cut at [`VALUE_BYTES_MAX`]; `None` where the value must not be kept.
    text: Option<Arc<str>>,
    /// Hashes of a list's items.
    items: Option<Arc<[u64]>>,
}

/// How much is known of what a write changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Which part of the object (Metadata).
    Object,
    /// Which fields were asked for, with which values (Request).
    Field,
    /// What really changed (RequestResponse).
    Value,
}

/// One field that one write changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The field.
    pub path: Path,
    /// Before; `None` where it was absent or is not known.
    pub old: Option<FieldValue>,
    /// After; `None` where the write removed it.
    pub new: Option<FieldValue>,
    /// Whether what it became is not known: a patch that depends on what was there.
    pub is_opaque: bool,
}

/// The leaves of an object's body.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    leaves: BTreeMap<Path, FieldValue>,
    /// Selectors of keyed lists in their order, to resolve the indices of JSON Patch.
    lists: BTreeMap<Path, Vec<Box<str>>>,
    /// Whether every leaf of the object is here.
    is_complete: bool,
    /// The `apiVersion` it was read in: states are compared within one version only.
    api_version: Box<str>,
    /// Bytes of the texts that it does not share with the state it was made from.
    text_bytes: usize,
}

/// A field that a request names, and what it wants of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The field, or the branch whose leaves are meant where `want` removes or is not known.
    pub path: Path,
    /// What the request wants.
    pub want: Want,
}

/// What a request wants of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    /// This value.
    Value(FieldValue),
    /// The field and everything below it gone.
    Removed,
    /// A change that depends on what was there.
    Touched,
}

// === impl FieldValue ===

impl FieldValue {
    /// A value of a field; `hidden` keeps nothing of it but its hash.
    fn new(json: &str, hidden: bool) -> FieldValue {
        FieldValue { hash: super::hash(json), form: 0, text: (!hidden).then(|| cut(json).into()), items: None }
    }

    /// The value of the field at `path`: of a quantity, its forms are one.
    fn at(path: &str, json: &str, rules: Rules<'_>, hidden: bool) -> FieldValue {
        let value = FieldValue::new(json, hidden);
        let bare = unquoted(json);
        let is_number = bare.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
        match quantity::nanos(bare).filter(|_| is_number && quantity::is_quantity(path)) {
            Some(nanos) if rules.is_built_in => FieldValue { hash: super::hash_of(&nanos), ..value },
            Some(nanos) => FieldValue { form: super::hash_of(&nanos), ..value },
            None => value,
        }
    }

    /// Whether this value only moves `old` on: a number or a time that grew, also in quotes; a list that kept what it had,
    /// or lost no more than its oldest items to new ones.
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

    /// Whether both are one value in whatever form.
    pub fn is_same_form(&self, other: &FieldValue) -> bool {
        self == other || (self.form != 0 && self.form == other.form)
    }

    /// The number that the value is, where it is one.
    pub fn number(&self) -> Option<f64> {
        unquoted(self.text()?).parse().ok()
    }

    /// JSON text to show, cut where long; `None` for values that are not kept.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Bytes that it takes beside itself, roughly.
    pub fn bytes(&self) -> usize {
        let text = self.text.as_ref().map_or(0, |text| TEXT_BYTES + text.len());
        text + self.items.as_ref().map_or(0, |items| TEXT_BYTES + items.len() * 8)
    }

    /// A hash of it.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// A value made of JSON text, as it would be read from a body.
    pub fn of_json(json: &str) -> FieldValue {
        FieldValue::new(json, false)
    }
}

impl PartialEq for FieldValue {
    fn eq(&self, other: &FieldValue) -> bool {
        self.hash == other.hash
    }
}

/// A JSON string without its quotes; anything else as it is.
fn unquoted(json: &str) -> &str {
    json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json)
}

/// The first bytes of a long text, with an ellipsis.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= VALUE_BYTES_MAX {
        return text.into();
    }
    let end = (0..=VALUE_BYTES_MAX - 3).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…", &text[..end]).into()
}

// === impl Change ===

impl Change {
    /// Bytes that it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let value = |value: &Option<FieldValue>| value.as_ref().map_or(0, FieldValue::bytes);
        size_of::<Change>() + TEXT_BYTES + self.path.len() + value(&self.old) + value(&self.new)
    }

    /// A change of which both sides are known, as far as the bodies show them.
    pub fn new(path: &Path, old: Option<&FieldValue>, new: Option<&FieldValue>) -> Change {
        Change { path: path.clone(), old: old.cloned(), new: new.cloned(), is_opaque: false }
    }
}

// === impl Fields ===

impl Fields {
    /// The leaves of a whole object.
    fn of_object(json: &Json<'_>, rules: Rules<'_>) -> Fields {
        let mut walk = Walk::new(rules, false);
        walk.node(json, 0, rules.is_hidden);
        let is_complete = !walk.is_cut;
        let leaves: BTreeMap<Path, FieldValue> =
            walk.found.into_iter().filter_map(|n| n.want.value().map(|v| (n.path, v))).collect();
        let text_bytes = leaves.iter().map(|(path, value)| TEXT_BYTES + path.len() + value.bytes()).sum();
        let api_version = json.get_str("apiVersion").unwrap_or_default().into();
        Fields { leaves, lists: walk.lists, is_complete, api_version, text_bytes }
    }

    /// The same fields, to be changed: what they hold is shared.
    pub(super) fn derived(&self) -> Fields {
        Fields { text_bytes: 0, ..self.clone() }
    }

    /// Bytes that it takes, roughly.
    pub fn bytes(&self) -> usize {
        let lists = map_bytes::<Path, Vec<Box<str>>>(self.lists.len());
        size_of::<Fields>() + map_bytes::<Path, FieldValue>(self.leaves.len()) + lists + self.text_bytes
    }

    /// Whether every leaf is here that the body had.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The fields at `branch` and below it.
    fn at_or_below<'a>(&'a self, branch: &'a str) -> impl Iterator<Item = (&'a Path, &'a FieldValue)> {
        let below = ['.', '['].into_iter().flat_map(move |open| {
            let from = format!("{branch}{open}");
            let range = (std::ops::Bound::Included(from.as_str()), std::ops::Bound::Unbounded);
            self.leaves.range::<str, _>(range).take_while(move |(path, _)| path.starts_with(&from))
        });
        self.leaves.get_key_value(branch).into_iter().chain(below)
    }

    /// How many leaves there are.
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there is no leaf.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// The value of one field.
    pub fn get(&self, path: &str) -> Option<&FieldValue> {
        self.leaves.get(path)
    }

    /// Whether both were read in the same apiVersion, so that their leaves can be compared.
    pub fn is_comparable(&self, other: &Fields) -> bool {
        self.api_version == other.api_version || self.api_version.is_empty() || other.api_version.is_empty()
    }

    /// What turns `self` into `next`.
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

    /// The changes that naming these fields makes to `self`: what it already has is no change.
    pub fn changes_by(&self, named: &[Named], is_apply: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        for Named { path, want } in named {
            let old = self.leaves.get(path);
            match want {
                Want::Value(_) if old.is_none() && is_apply && !self.is_complete => {}
                Want::Value(new) if old == Some(new) => {}
                Want::Value(new) => changes.push(Change::new(path, old, Some(new))),
                Want::Touched => changes.push(Change { is_opaque: true, ..Change::new(path, old, None) }),
                Want::Removed => {
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

    /// What giving these lists whole removes of them: the items that are no longer named. Of a built-in resource a patch may as
    /// well be strategic, which leaves the others as they are. Lists that controllers share are mostly given whole, so that what
    /// is not named there is forgotten; others stay.
    pub(super) fn give_lists(&mut self, lists: &[Path], named: &[Named], is_built_in: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        for list in lists {
            let given: HashSet<&str> = named.iter().filter_map(|n| item_of(&n.path, list)).collect();
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

    /// Takes over what naming these fields gives them.
    pub fn assert(&mut self, named: &[Named]) {
        for Named { path, want } in named {
            if let Want::Value(value) = want {
                self.set(path, Some(value));
            }
        }
    }

    /// Makes the changes; what became of an opaque one is not known any more.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.set(&change.path, change.new.as_ref());
        }
    }

    /// The numbers of the object's `spec`, by path.
    pub(super) fn spec_numbers(&self) -> impl Iterator<Item = &Path> {
        let below =
            self.leaves.range::<str, _>((std::ops::Bound::Included("spec."), std::ops::Bound::Excluded("spec/")));
        below.filter(|(_, value)| value.text().is_some_and(|text| text.parse::<u32>().is_ok())).map(|(path, _)| path)
    }

    /// A hash of what the object is to do: its `spec`, without the marks by which a Job finds its Pods, which are new with each.
    pub(super) fn spec_hash(&self) -> u64 {
        let is_meant = |path: &Path| path.starts_with("spec.") && !path.contains("controller-uid");
        let meant = self.leaves.iter().filter(|(path, _)| is_meant(path));
        super::hash_of(&meant.map(|(path, value)| (path, value.hash)).collect::<Vec<_>>())
    }

    /// These fields, with one part taken from a whole body.
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

    /// The path a JSON Pointer means, with the keys of lists where their order is known; and whether it ended early,
    /// at a list that is one value.
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

// === impl Named ===

impl Named {
    /// Bytes that it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let value = if let Want::Value(value) = &self.want { value.bytes() } else { 0 };
        size_of::<Named>() + TEXT_BYTES + self.path.len() + value
    }
}

// === impl Want ===

impl Want {
    fn value(self) -> Option<FieldValue> {
        match self {
            Want::Value(value) => Some(value),
            Want::Removed | Want::Touched => None,
        }
    }
}

/// Which part of the object a path belongs to.
pub fn part_of(path: &str) -> Part {
    match path.strip_prefix("status") {
        Some(rest) if rest.is_empty() || rest.starts_with(['.', '[']) => Part::Status,
        _ => Part::Main,
    }
}

/// Whether a field is an item of a list, or lies in one.
fn is_item_of(path: &str, list: &str) -> bool {
    path.strip_prefix(list).is_some_and(|rest| rest.starts_with('['))
}

/// The selector of the list's item that a field is, or lies in.
fn item_of<'p>(path: &'p str, list: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(list).filter(|rest| rest.starts_with('['))?;
    Some(&rest[..selector_end(rest)?])
}

/// Where the selector ends that a text begins with: `[name=web]`, `['quoted ]']`.
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

/// Whether `path` is `branch` or lies below it.
pub(super) fn is_at_or_below(path: &str, branch: &str) -> bool {
    path.strip_prefix(branch).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
#[path = "fields/tests.rs"]
mod tests;
