//! A write's bodies, and what they tell: states, patches of every kind, a Scale, a Binding.

use std::collections::BTreeSet;
use std::sync::Arc;

use simd_json::BorrowedValue as Json;
use simd_json::prelude::*;

use super::walk::{DEPTH_MAX, FIELDS_MAX, PATH_BYTES_MAX, Rules, Walk, is_left_out, is_set, last_key, set_selector};
use super::{Change, FieldValue, Fields, Named, Path, Tier, Want, is_at_or_below, part_of};
use crate::audit::event::Verb;
use crate::audit::scan;
use crate::detect::kind;
use crate::detect::policy::{Limits, ObjectLimits};
use crate::detect::write::{Effect, Part, Write};

/// The bodies of one write, and how to read them.
#[derive(Clone, Copy, Debug)]
pub struct Bodies<'a> {
    /// API group of the object.
    pub group: &'a str,
    /// Resource name of the object.
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
    /// A Scale, which speaks for `spec.replicas`, or for what an extension has in its place.
    Scale,
    /// A Binding, which speaks for `spec.nodeName`.
    Binding,
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
        /// Lists that it gives whole, as a merge patch does.
        lists: Vec<Path>,
        /// What names fields only by what the object is at that time.
        unresolved: Option<Unresolved>,
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

/// A request whose fields depend on the object that it is made to.
#[derive(Clone, Debug)]
pub enum Unresolved {
    /// The number of a Scale, for a resource that has its own name for it.
    Scale(FieldValue),
    /// A JSON Patch, whose list indices stand for items.
    JsonPatch(Box<[u8]>),
}

/// What a patch asked for; everything, where it was none.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    named: Vec<Named>,
    /// Lists that it gives anew: what is no longer among their items was asked for too.
    lists: Vec<Path>,
    /// Whether it may remove fields without naming them, as an apply does.
    removes_unnamed: bool,
    is_apply: bool,
}

// === impl Evidence ===

impl Evidence {
    /// Bytes that it takes, roughly.
    pub(in crate::detect) fn bytes(&self) -> usize {
        match self {
            Evidence::None => 0,
            Evidence::Named { named, unresolved, .. } => {
                let patch = match unresolved {
                    Some(Unresolved::JsonPatch(patch)) => patch.len(),
                    Some(Unresolved::Scale(_)) | None => 0,
                };
                named.iter().map(Named::bytes).sum::<usize>() + patch
            }
            Evidence::Whole { fields, asked, .. } => {
                fields.bytes() + asked.named.iter().map(Named::bytes).sum::<usize>()
            }
        }
    }
}

// === impl Asked ===

impl Asked {
    /// Those changes that were asked for; all, where none was or nothing is known of what was.
    pub fn of(&self, changes: Vec<Change>) -> Vec<Change> {
        if self.named.is_empty() {
            return changes;
        }
        let named: BTreeSet<&str> =
            self.named.iter().map(|n| &*n.path).chain(self.lists.iter().map(|l| &**l)).collect();
        let fields: BTreeSet<&str> = self.named.iter().map(|n| &*n.path).collect();
        let is_below_named = |path: &str| {
            let ends = path.char_indices().filter(|(_, c)| matches!(c, '.' | '[')).map(|(at, _)| at);
            ends.chain([path.len()]).any(|end| named.contains(&path[..end]))
        };
        let holds_named = |path: &str| {
            let starts = |open: char| {
                let from = format!("{path}{open}");
                fields.range(from.as_str()..).next().is_some_and(|field| field.starts_with(&from))
            };
            starts('.') || starts('[')
        };
        let is_named = |path: &str| is_below_named(path) || holds_named(path);
        let is_asked = |c: &Change| is_named(&c.path) || (self.removes_unnamed && c.new.is_none());
        let (asked, unasked): (Vec<_>, Vec<_>) = changes.into_iter().partition(is_asked);
        if asked.is_empty() { unasked } else { asked }
    }

    /// What was asked for as if all of it were changed, with the values of the stored object.
    pub fn taken_from(&self, stored: &Fields, part: Part) -> Vec<Change> {
        let of_part = self.named.iter().filter(|n| part_of(&n.path) == part && !self.is_apply);
        of_part.map(|n| Change::new(&n.path, None, stored.get(&n.path))).collect()
    }

    /// The fields that were named.
    pub fn named(&self) -> &[Named] {
        &self.named
    }
}

// === impl Unresolved ===

impl Unresolved {
    /// The fields that are meant, of an object that is `before` when the request is made.
    pub(in crate::detect) fn named(&self, before: Option<&Fields>, on: &ObjectLimits<'_>) -> Vec<Named> {
        match self {
            Unresolved::Scale(value) => {
                vec![Named { path: scale_path(before), want: Want::Value(value.clone()) }]
            }
            Unresolved::JsonPatch(patch) => {
                let rules = Rules { resource: "", is_hidden: on.limits.redacts, is_built_in: on.is_built_in() };
                read(Some(patch), |json| named(json, rules, before)).unwrap_or_default()
            }
        }
    }
}

/// The field that an extension's Scale stands for. Its path is in the extension's definition, which is not at hand: it is the
/// number in its `spec` that is named so, or the only one there is.
fn scale_path(known: Option<&Fields>) -> Path {
    let usual: Path = "spec.replicas".into();
    let Some(known) = known.filter(|known| known.get(&usual).is_none()) else { return usual };
    let is_named_so = |path: &&Path| SCALE_NAMES.iter().any(|name| path.to_ascii_lowercase().ends_with(name));
    let named = known.spec_numbers().find(is_named_so);
    let only = || known.spec_numbers().next().filter(|_| known.spec_numbers().nth(1).is_none());
    named.or_else(only).cloned().unwrap_or(usual)
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
            group: write.object.group,
            resource: write.object.resource,
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
        (self.group.is_empty() && self.resource == "secrets") || self.is_hidden
    }

    /// Whether the API server knows the resource's types.
    fn is_built_in(&self) -> bool {
        kind::built_in(self.group, self.resource).is_some()
    }

    fn rules(&self) -> Rules<'a> {
        Rules {
            resource: if self.group.is_empty() { self.resource } else { "" },
            is_hidden: self.is_hidden,
            is_built_in: self.is_built_in(),
        }
    }

    /// Reads them; `known` resolves the list indices of JSON Patch.
    pub fn evidence(&self, known: Option<&Fields>) -> Evidence {
        let tier = if self.response.is_some() { Tier::Value } else { Tier::Field };
        let one = |path: &str, json: &str| {
            let named = vec![Named { path: path.into(), want: Want::Value(FieldValue::new(json, self.is_hidden)) }];
            Evidence::Named { named, tier, is_apply: false, lists: Vec::new(), unresolved: None }
        };
        let scaled = |json: &str| Evidence::Named {
            named: Vec::new(),
            tier,
            is_apply: false,
            lists: Vec::new(),
            unresolved: Some(Unresolved::Scale(FieldValue::new(json, self.is_hidden))),
        };
        let read_either = || self.response.or(self.request);
        match self.shape {
            Shape::Scale => read(read_either(), |scale| {
                let replicas = scale.get("spec").and_then(|spec| spec.get_i64("replicas")).unwrap_or(0);
                match self.is_built_in() {
                    true => one("spec.replicas", &replicas.to_string()),
                    false => scaled(&replicas.to_string()),
                }
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
                lists: lists(json, self.rules()),
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
                let Asked { named, lists, is_apply, removes_unnamed } = asked;
                // An apply and a strategic patch say what they remove.
                let lists = if removes_unnamed { Vec::new() } else { lists };
                // A Secret's values are not kept, also not in a patch.
                let patch = self.request.filter(|patch| patch.starts_with(b"[") && !self.is_secret());
                let unresolved = patch.map(|patch| Unresolved::JsonPatch(patch.into()));
                Evidence::Named { named, tier: Tier::Field, is_apply, lists, unresolved }
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
pub(super) fn read<T>(body: Option<&[u8]>, look: impl FnOnce(&Json<'_>) -> T) -> Option<T> {
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
            Json::Object(map) => map.iter().any(|(key, value)| key.starts_with('$') || has_directive(value, depth + 1)),
            Json::Array(items) => items.iter().any(|item| has_directive(item, depth + 1)),
            _ => false,
        }
}

/// What extensions call the field that a Scale stands for, in small letters.
const SCALE_NAMES: [&str; 6] = ["replicas", "size", "instances", "replicacount", "nodecount", "count"];

/// The lists that a merge patch gives whole.
fn lists(patch: &Json<'_>, rules: Rules<'_>) -> Vec<Path> {
    if !patch.is_object() {
        return Vec::new();
    }
    let mut walk = Walk::new(rules, true);
    walk.node(patch, 0, rules.is_hidden);
    walk.lists.into_keys().collect()
}

/// The fields a patch of any content type names.
pub(super) fn named(patch: &Json<'_>, rules: Rules<'_>, known: Option<&Fields>) -> Vec<Named> {
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
            ("add", Some(Json::String(item))) if is_in_list && is_set(last_key(&path)) => {
                let value = FieldValue::at(&path, &Json::from(item.as_ref()).encode(), rules, rules.is_hidden);
                let path = format!("{path}{}", set_selector(item)).into();
                found.push(Named { path, want: Want::Value(value) });
            }
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

#[cfg(test)]
#[path = "bodies/tests.rs"]
mod tests;
