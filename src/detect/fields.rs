//! Bodies → fields: paths, values, and what differs between two states of an object.
//!
//! A body is flattened to its leaves, `spec.template.spec.containers[name=web].image`. Lists whose items Kubernetes
//! knows by a key are walked by that key; any other list is one value. What the server sets and what tools keep
//! books in is left out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use simd_json::prelude::*;
use simd_json::{BorrowedValue as Json, StaticNode};

use super::policy::Limits;
use super::write::{Effect, Part, Write};
use crate::audit::event::{Verb, parse_timestamp};
use crate::audit::scan;

/// Nesting up to which a body is walked; what is deeper is one value. Real objects stay below 20.
const DEPTH_MAX: usize = 64;
/// Leaves of one body that are looked at, in order of their paths. A large Deployment has some 300.
const FIELDS_MAX: usize = 4_096;
/// Bytes of a path; a longer one ends the walk there.
const PATH_BYTES_MAX: usize = 512;
/// Items of a list up to which it is seen whether a list only grew.
const ITEMS_MAX: usize = 1_024;
/// Bytes of a value that are kept to be shown.
pub const VALUE_BYTES_MAX: usize = 256;

/// A field's path within its object.
pub type Path = Arc<str>;

/// A field's value: compared by a keyed hash, shown by its first bytes.
#[derive(Clone, Debug)]
pub struct FieldValue {
    hash: u64,
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

/// What one write's bodies tell.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// No body, or none that could be read.
    None,
    /// The fields a patch names.
    Named {
        /// Those fields.
        named: Vec<Named>,
        /// What is known of them.
        tier: Tier,
        /// Whether it is an apply, which repeats all it ever wanted: naming a field for the first time changes nothing
        /// that is known of.
        is_apply: bool,
    },
    /// A whole body: the request's at [`Tier::Field`], the stored object at [`Tier::Value`].
    Whole {
        /// Its leaves.
        fields: Arc<Fields>,
        /// What is known of it.
        tier: Tier,
        /// What the request asked for, where it was a patch.
        asked: Asked,
    },
}

/// What a patch asked for; everything, where it was none.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    named: Vec<Named>,
    /// Whether it may remove fields without naming them, as an apply does.
    removes_unnamed: bool,
    is_apply: bool,
}

// === impl Asked ===

impl Asked {
    /// Those changes that were asked for; all, where none was or nothing is known of what was.
    pub fn of(&self, changes: Vec<Change>) -> Vec<Change> {
        if self.named.is_empty() {
            return changes;
        }
        let is_named =
            |path: &str| self.named.iter().any(|n| is_at_or_below(path, &n.path) || is_at_or_below(&n.path, path));
        let is_asked = |c: &Change| is_named(&c.path) || (self.removes_unnamed && c.new.is_none());
        let (asked, unasked): (Vec<_>, Vec<_>) = changes.into_iter().partition(is_asked);
        if asked.is_empty() { unasked } else { asked }
    }

    /// What was asked for as if all of it were changed, with the values of the stored object.
    pub fn taken_from(&self, stored: &Fields, part: Part) -> Vec<Change> {
        let of_part = self.named.iter().filter(|n| part_of(&n.path) == part && !self.is_apply);
        of_part.map(|n| Change { path: n.path.clone(), old: None, new: stored.get(&n.path).cloned() }).collect()
    }

    /// The fields that were named.
    pub fn named(&self) -> &[Named] {
        &self.named
    }
}

// === impl FieldValue ===

impl FieldValue {
    /// A value of a field; `hidden` keeps nothing of it but its hash.
    fn new(json: &str, hidden: bool) -> FieldValue {
        FieldValue { hash: super::hash(json), text: (!hidden).then(|| cut(json).into()), items: None }
    }

    /// Whether this value only moves `old` on: a number or a time that grew, a list that kept what it had.
    pub fn moves_on(&self, old: &FieldValue) -> bool {
        if let (Some(old), Some(new)) = (&old.items, &self.items) {
            return new.len() > old.len() && old.iter().all(|item| new.contains(item));
        }
        let (Some(old), Some(new)) = (old.text(), self.text()) else { return false };
        if let (Ok(old), Ok(new)) = (old.parse::<f64>(), new.parse::<f64>()) {
            return new > old;
        }
        let time = |json: &str| parse_timestamp(json.strip_prefix('"')?.strip_suffix('"')?);
        time(old).zip(time(new)).is_some_and(|(old, new)| new > old)
    }

    /// JSON text to show, cut where long; `None` for values that are not kept.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
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

/// The first bytes of a long text, with an ellipsis.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= VALUE_BYTES_MAX {
        return text.into();
    }
    let end = (0..=VALUE_BYTES_MAX - 3).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…", &text[..end]).into()
}

// === impl Fields ===

impl Fields {
    /// The leaves of a whole object.
    fn of_object(json: &Json<'_>, rules: Rules<'_>) -> Fields {
        let mut walk = Walk::new(rules, false);
        walk.node(json, 0, rules.is_hidden);
        Fields {
            leaves: walk.found.into_iter().filter_map(|n| n.want.value().map(|v| (n.path, v))).collect(),
            lists: walk.lists,
            is_complete: true,
            api_version: json.get_str("apiVersion").unwrap_or_default().into(),
        }
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
                old => changes.push(Change { path: path.clone(), old: old.cloned(), new: Some(new.clone()) }),
            }
        }
        if next.is_complete {
            let gone = self.leaves.iter().filter(|(path, _)| !next.leaves.contains_key(*path));
            changes.extend(gone.map(|(path, old)| Change { path: path.clone(), old: Some(old.clone()), new: None }));
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
                Want::Value(new) => {
                    changes.push(Change { path: path.clone(), old: old.cloned(), new: Some(new.clone()) });
                }
                Want::Touched => changes.push(Change { path: path.clone(), old: old.cloned(), new: None }),
                Want::Removed => {
                    let before = changes.len();
                    changes.extend(
                        self.leaves.iter().filter(|(leaf, _)| is_at_or_below(leaf, path)).map(|(leaf, old)| Change {
                            path: leaf.clone(),
                            old: Some(old.clone()),
                            new: None,
                        }),
                    );
                    if changes.len() == before && !self.is_complete {
                        changes.push(Change { path: path.clone(), old: None, new: None });
                    }
                }
            }
        }
        changes
    }

    /// Takes over what naming these fields gives them.
    pub fn assert(&mut self, named: &[Named]) {
        for Named { path, want } in named {
            if let Want::Value(value) = want {
                self.leaves.insert(path.clone(), value.clone());
            }
        }
    }

    /// Makes the changes.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.set(&change.path, change.new.as_ref());
        }
    }

    /// These fields, with one part taken from a whole body.
    pub fn with_part_of(&self, body: &Fields, part: Part) -> Fields {
        let of_body = body.leaves.iter().filter(|(path, _)| part_of(path) == part);
        let others = self.leaves.iter().filter(|(path, _)| part_of(path) != part);
        let mut lists = self.lists.clone();
        lists.extend(body.lists.iter().map(|(path, order)| (path.clone(), order.clone())));
        Fields {
            leaves: of_body.chain(others).map(|(path, value)| (path.clone(), value.clone())).collect(),
            lists,
            is_complete: self.is_complete || (body.is_complete && part == Part::Main),
            api_version: body.api_version.clone(),
        }
    }

    fn set(&mut self, path: &Path, value: Option<&FieldValue>) {
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

/// Whether `path` is `branch` or lies below it.
fn is_at_or_below(path: &str, branch: &str) -> bool {
    path.strip_prefix(branch).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The bodies of one write, and how to read them.
#[derive(Clone, Copy, Debug)]
pub struct Bodies<'a> {
    /// Resource name of the object in the core group; empty for others.
    pub resource: &'a str,
    /// The write's verb.
    pub verb: Verb,
    /// The write's effect.
    pub effect: Effect,
    /// What the bodies are of.
    pub shape: Shape,
    /// Whether the request is known to be an apply.
    pub is_apply: bool,
    /// Whether no value may be kept.
    pub is_hidden: bool,
    /// The request's body.
    pub request: Option<&'a [u8]>,
    /// The response's body.
    pub response: Option<&'a [u8]>,
}

/// What a write's bodies are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The object itself; the response is the whole stored object.
    Whole,
    /// The object itself; the response is not the object, or there is none.
    Object,
    /// A Scale, which speaks for `spec.replicas`.
    Scale,
    /// A Binding, which speaks for `spec.nodeName`.
    Binding,
}

// === impl Bodies ===

impl<'a> Bodies<'a> {
    /// The bodies of a write.
    pub fn of(write: &Write<'a>, limits: &Limits) -> Bodies<'a> {
        let shape = match write.subresource {
            "scale" => Shape::Scale,
            "binding" => Shape::Binding,
            _ if write.stored.is_whole => Shape::Whole,
            _ => Shape::Object,
        };
        Bodies {
            resource: if write.object.group.is_empty() { write.object.resource } else { "" },
            verb: write.event.verb,
            effect: write.effect,
            shape,
            is_apply: write.is_forced,
            is_hidden: limits.redacts,
            request: write.event.request_object,
            response: write.event.response_object,
        }
    }

    /// Whether values of these bodies must not be kept.
    pub fn is_secret(&self) -> bool {
        self.resource == "secrets" || self.is_hidden
    }

    fn rules(&self) -> Rules<'a> {
        Rules { resource: self.resource, is_hidden: self.is_hidden }
    }

    /// Reads them; `known` resolves the list indices of JSON Patch.
    pub fn evidence(&self, known: Option<&Fields>) -> Evidence {
        let tier = if self.response.is_some() { Tier::Value } else { Tier::Field };
        let one = |path: &str, json: &str| {
            let named = vec![Named { path: path.into(), want: Want::Value(FieldValue::new(json, self.is_hidden)) }];
            Evidence::Named { named, tier, is_apply: false }
        };
        let read_either = || self.response.or(self.request);
        match self.shape {
            Shape::Scale => read(read_either(), |scale| {
                let replicas = scale.get("spec").and_then(|spec| spec.get_i64("replicas")).unwrap_or(0);
                one("spec.replicas", &replicas.to_string())
            })
            .unwrap_or(Evidence::None),
            Shape::Binding => read(self.request, |binding| {
                let node = binding.get("target").and_then(|t| t.get_str("name")).unwrap_or_default();
                one("spec.nodeName", &Json::from(node).encode())
            })
            .unwrap_or(Evidence::None),
            Shape::Whole | Shape::Object => self.of_object(known),
        }
    }

    fn of_object(&self, known: Option<&Fields>) -> Evidence {
        let stored = self.response.filter(|_| self.shape == Shape::Whole);
        let stored = read(stored, |json| Fields::of_object(json, self.rules()));
        let asked = read(self.request, |json| match self.verb {
            Verb::Patch => Request::Patch(Asked {
                named: named(json, self.rules(), stored.as_ref().or(known)),
                removes_unnamed: self.is_apply(json) || (json.is_object() && has_directive(json, 0)),
                is_apply: self.is_apply(json),
            }),
            _ => Request::Whole(Fields::of_object(json, self.rules())),
        });
        match (stored, asked) {
            (Some(fields), asked) => {
                let asked = if let Some(Request::Patch(asked)) = asked { asked } else { Asked::default() };
                Evidence::Whole { fields: Arc::new(fields), tier: Tier::Value, asked }
            }
            (None, Some(Request::Patch(asked))) => {
                Evidence::Named { named: asked.named, tier: Tier::Field, is_apply: asked.is_apply }
            }
            (None, Some(Request::Whole(fields))) if self.effect != Effect::Delete => {
                Evidence::Whole { fields: Arc::new(fields), tier: Tier::Field, asked: Asked::default() }
            }
            _ => Evidence::None,
        }
    }

    /// The fields a mutating webhook's JSON Patch names, as the admission annotation shows it.
    pub fn patched_by_webhook(&self, patch: &[u8], known: Option<&Fields>) -> Vec<Named> {
        read(Some(patch), |json| named(json, self.rules(), known)).unwrap_or_default()
    }

    /// The fields that a request with a whole body wants.
    pub fn asked_whole(&self) -> Vec<Named> {
        let fields = read(self.request, |json| Fields::of_object(json, self.rules())).unwrap_or_default();
        fields.leaves.into_iter().map(|(path, value)| Named { path, want: Want::Value(value) }).collect()
    }

    /// Whether a patch is an apply: says so, or is a whole intent.
    fn is_apply(&self, patch: &Json<'_>) -> bool {
        self.is_apply || (patch.get("apiVersion").is_some() && patch.get("kind").is_some())
    }
}

/// Parses a body and looks at it; `None` where there is none, or none that can be read.
fn read<T>(body: Option<&[u8]>, look: impl FnOnce(&Json<'_>) -> T) -> Option<T> {
    // The parser is recursive; nothing that the API server accepts is nested that deeply.
    let mut text = body.filter(|body| scan::depth(body) <= 512)?.to_vec();
    simd_json::to_borrowed_value(&mut text).ok().map(|json| look(&json))
}

/// A request's body.
enum Request {
    Patch(Asked),
    Whole(Fields),
}

fn has_directive(json: &Json<'_>, depth: usize) -> bool {
    depth < DEPTH_MAX
        && match json {
            Json::Object(map) => map.iter().any(|(key, value)| {
                matches!(key.as_ref(), "$patch" | "$retainKeys") || has_directive(value, depth + 1)
            }),
            Json::Array(items) => items.iter().any(|item| has_directive(item, depth + 1)),
            _ => false,
        }
}

/// The fields a patch of any content type names.
fn named(patch: &Json<'_>, rules: Rules<'_>, known: Option<&Fields>) -> Vec<Named> {
    let Json::Array(operations) = patch else {
        let mut walk = Walk::new(rules, true);
        walk.node(patch, 0, rules.is_hidden);
        return walk.found;
    };
    let nothing = Fields::default();
    let known = known.unwrap_or(&nothing);
    let mut found = Vec::new();
    for operation in operations.iter() {
        let resolved = |key| operation.get_str(key).and_then(|pointer| known.resolve(pointer));
        let Some((path, is_in_list)) = resolved("path") else { continue };
        if found.len() >= FIELDS_MAX || path.len() > PATH_BYTES_MAX {
            break;
        }
        match (operation.get_str("op").unwrap_or_default(), operation.get("value")) {
            // Here stands what is put into the list, not what the list becomes.
            ("add" | "replace" | "remove", _) if is_in_list => {
                found.push(Named { path: path.into(), want: Want::Touched });
            }
            ("add" | "replace", Some(value)) => {
                let mut walk = Walk::new(rules, false);
                let is_hidden =
                    walk.is_secret && (is_at_or_below(&path, "data") || is_at_or_below(&path, "stringData"));
                walk.path = path;
                walk.node(value, 1, is_hidden || rules.is_hidden);
                found.append(&mut walk.found);
            }
            ("remove", _) => found.push(Named { path: path.into(), want: Want::Removed }),
            ("move", _) => {
                found.extend(resolved("from").map(|(from, _)| Named { path: from.into(), want: Want::Removed }));
                found.push(Named { path: path.into(), want: Want::Touched });
            }
            ("copy", _) => found.push(Named { path: path.into(), want: Want::Touched }),
            _ => {}
        }
    }
    found.retain(|n| !is_left_out(&n.path));
    found
}

/// What the server sets, and what tools keep books in.
fn is_left_out(path: &str) -> bool {
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

/// Timestamps that controllers stamp into conditions and statuses with every look at them.
fn is_heartbeat(key: &str) -> bool {
    matches!(key, "lastTransitionTime" | "lastUpdateTime" | "lastHeartbeatTime" | "lastProbeTime")
}

/// What is known of a body before it is walked.
#[derive(Clone, Copy)]
struct Rules<'a> {
    /// Resource name of the object in the core group; empty for others.
    resource: &'a str,
    /// Whether no value may be kept.
    is_hidden: bool,
}

/// A walk over a body that collects its leaves.
struct Walk {
    path: String,
    found: Vec<Named>,
    lists: BTreeMap<Path, Vec<Box<str>>>,
    /// Whether the body is a patch: nulls remove, `$` keys direct.
    is_partial: bool,
    is_secret: bool,
}

// === impl Walk ===

impl Walk {
    fn new(rules: Rules<'_>, is_partial: bool) -> Walk {
        Walk {
            path: String::new(),
            found: Vec::new(),
            lists: BTreeMap::new(),
            is_partial,
            is_secret: rules.resource == "secrets",
        }
    }

    fn node(&mut self, json: &Json<'_>, depth: usize, is_hidden: bool) {
        if is_left_out(&self.path) {
            return;
        }
        let is_too_much = depth >= DEPTH_MAX || self.path.len() > PATH_BYTES_MAX || self.found.len() >= FIELDS_MAX;
        match json {
            Json::Object(map) if !is_too_much => {
                // The parser keeps members in the order of its table; the walk's order must be the paths'.
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
            // Nothing, an empty map and an empty list are the same to Kubernetes' omitempty.
            // To a patch, an empty list is one that empties.
            Json::Object(map) if map.is_empty() => {}
            Json::Array(items) if items.is_empty() && !self.is_partial => {}
            Json::Static(StaticNode::Null) if !self.is_partial => {}
            Json::Array(items) if items.is_empty() => self.push(Want::Removed),
            Json::Static(StaticNode::Null) => self.push(Want::Removed),
            _ => self.leaf(json, is_hidden),
        }
    }

    fn member(&mut self, key: &str, value: &Json<'_>, depth: usize, is_hidden: bool) {
        let len = self.path.len();
        if self.is_partial && key.starts_with('$') {
            match (key, value.as_str()) {
                ("$patch", Some("delete")) => self.push(Want::Removed),
                ("$patch", _) => self.push(Want::Touched),
                _ => {
                    if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
                        push_key(&mut self.path, list);
                        self.push(Want::Touched);
                    }
                }
            }
        } else if !is_heartbeat(key) {
            push_key(&mut self.path, key);
            self.node(value, depth + 1, is_hidden);
        }
        self.path.truncate(len);
    }

    /// A Secret's write-only `stringData` is stored as `data`, encoded.
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
        for (item, selector) in items.iter().zip(&selectors) {
            self.path.push_str(selector);
            self.node(item, depth + 1, is_hidden);
            self.path.truncate(len);
        }
        self.lists.insert(self.path.as_str().into(), selectors);
    }

    fn leaf(&mut self, json: &Json<'_>, is_hidden: bool) {
        let mut value = FieldValue::new(&json.encode(), is_hidden);
        if let Json::Array(items) = json
            && items.len() <= ITEMS_MAX
        {
            value.items = Some(items.iter().map(|item| super::hash(&item.encode())).collect());
        }
        self.push(Want::Value(value));
    }

    fn push(&mut self, want: Want) {
        if self.found.len() >= FIELDS_MAX {
            return;
        }
        self.found.push(Named { path: self.path.as_str().into(), want });
    }
}

/// The list's name at the end of a path.
fn last_key(path: &str) -> &str {
    path.rsplit(['.', ']']).next().unwrap_or_default()
}

/// Appends a key to a path: `.key`, or `['key']` where it holds more than letters, digits, `-` and `_`.
fn push_key(path: &mut String, key: &str) {
    let is_plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if is_plain {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    } else {
        path.push_str("['");
        path.push_str(&key.replace('\\', "\\\\").replace('\'', "\\'"));
        path.push_str("']");
    }
}

/// The keys by which Kubernetes merges a list of this name; for unknown lists, `name` where all items have one.
fn merge_keys(list: &str, first: &Json<'_>) -> &'static [&'static str] {
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

/// The selectors of a list's items, where all of them have the list's keys and no two the same.
fn keyed(list: &str, items: &[Json<'_>]) -> Option<Vec<Box<str>>> {
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

/// A selector's value as it is, or quoted where it could end the selector.
fn quoted_selector(text: &str) -> Cow<'_, str> {
    match text.contains([']', '[', ',', '=', '\'', '"', ' ']) || text.is_empty() {
        true => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")).into(),
        false => text.into(),
    }
}

#[cfg(test)]
#[path = "fields/tests.rs"]
mod tests;
