//! Reads the bodies of a write: whole objects, patches of every type, a Scale, a Binding.
//!
//! The audit log does not contain the content type of a patch. A patch that is an array is a JSON Patch, whose operations
//! are read here. Merge patches, strategic merge patches and applies are all read in the same way, by a walk over the
//! fields that they name (`walk.rs`). [`PatchIntent`] records whether a patch is an apply, and whether it may remove fields
//! that it does not name.

use std::collections::BTreeSet;
use std::sync::Arc;

use simd_json::BorrowedValue as Json;
use simd_json::prelude::*;

use super::change::{Change, EvidenceLevel};
use super::intent::{FieldIntent, Intent};
use super::owned;
use super::parse::read;
use super::path::{Path, is_at_or_below, is_set, last_key, part_of, set_selector};
use super::state::Fields;
use super::value::FieldValue;
use super::walk::{DEPTH_MAX, FIELDS_MAX, PATH_BYTES_MAX, Walk, WalkOptions, is_left_out};
use crate::audit::event::{CONTINUES, Verb};
use crate::detect::policy::{Limits, ObjectLimits};
use crate::detect::resource_kind;
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
    /// What the bodies contain.
    pub shape: Shape,
    /// What the request's body is.
    pub form: RequestForm,
    /// Whether values must not be kept.
    pub is_hidden: bool,
    /// The request's body.
    pub request: Option<&'a [u8]>,
    /// The response's body.
    pub response: Option<&'a [u8]>,
}

/// What the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestForm {
    /// An object or a patch, according to the verb. It may be an apply.
    Body,
    /// A patch that is known to be an apply.
    Apply,
    /// Not a body: the set of fields that the write took over, as a watch shows it.
    OwnedFields {
        /// Whether the object before it is known, so that the difference is what the write changed.
        continues: bool,
    },
}

/// What the bodies of a write contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The object itself; the response is the whole stored object.
    Whole,
    /// The object itself; the response is not the object, or there is none.
    Object,
    /// A Scale, which represents `spec.replicas`, or the corresponding field of a custom resource.
    Scale,
    /// A Binding, which represents `spec.nodeName`.
    Binding,
}

/// What the bodies of one write show.
#[derive(Clone, Debug)]
pub enum Evidence {
    /// There is no body, or none that can be parsed.
    None,
    /// The fields that a patch names.
    Intents {
        /// Those fields.
        intents: Vec<FieldIntent>,
        /// The evidence level.
        level: EvidenceLevel,
        /// Whether the fields are those that the write took over. They are unknown after it.
        is_takeover: bool,
        /// Whether it is an apply. An apply repeats everything that it ever requested, so a field that it names for the
        /// first time is not known to have changed.
        is_apply: bool,
        /// Lists that it replaces, as a merge patch does.
        lists: Vec<Path>,
        /// The part of the request whose fields depend on the state of the object.
        unresolved: Option<Unresolved>,
    },
    /// A whole body: the request's at [`EvidenceLevel::Field`], the stored object at [`EvidenceLevel::Value`].
    Whole {
        /// Its leaves.
        fields: Arc<Fields>,
        /// The evidence level.
        level: EvidenceLevel,
        /// What the request asked for, if it was a patch.
        requested: PatchIntent,
    },
}

/// A request whose fields depend on the state of the object.
#[derive(Clone, Debug)]
pub enum Unresolved {
    /// The number of a Scale, for a custom resource that may have its own name for the field.
    Scale(FieldValue),
    /// A JSON Patch, whose list indices refer to items.
    JsonPatch(Box<[u8]>),
}

/// What a patch requests. Empty for other requests, which request all fields of their body.
#[derive(Clone, Debug, Default)]
pub struct PatchIntent {
    intents: Vec<FieldIntent>,
    /// Lists that it replaces, which also removes the items that it does not name.
    lists: Vec<Path>,
    /// Whether it may remove fields without naming them, as an apply does.
    removes_unnamed: bool,
    is_apply: bool,
    takeover: Option<Takeover>,
}

/// The write is known from a watch. The fields are those that it took over; it may have changed others, which it had
/// already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// Whether the object before it is known.
    pub continues: bool,
}

// === impl Evidence ===

impl Evidence {
    /// Returns the approximate bytes of the evidence.
    pub(in crate::detect) fn bytes(&self) -> usize {
        match self {
            Evidence::None => 0,
            Evidence::Intents { intents, unresolved, .. } => {
                let patch = match unresolved {
                    Some(Unresolved::JsonPatch(patch)) => patch.len(),
                    Some(Unresolved::Scale(_)) | None => 0,
                };
                intents.iter().map(FieldIntent::bytes).sum::<usize>() + patch
            }
            Evidence::Whole { fields, requested, .. } => {
                fields.bytes() + requested.intents.iter().map(FieldIntent::bytes).sum::<usize>()
            }
        }
    }
}

// === impl PatchIntent ===

impl PatchIntent {
    /// Returns the changes that were requested. Returns all changes if no request is known, or if none of them was
    /// requested.
    pub fn requested_of(&self, changes: Vec<Change>) -> Vec<Change> {
        if self.intents.is_empty() || self.takeover.is_some() {
            return changes;
        }
        let named: BTreeSet<&str> =
            self.intents.iter().map(|n| &*n.path).chain(self.lists.iter().map(|l| &**l)).collect();
        let fields: BTreeSet<&str> = self.intents.iter().map(|n| &*n.path).collect();
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
        let is_requested = |c: &Change| is_named(&c.path) || (self.removes_unnamed && c.new.is_none());
        let (requested, unrequested): (Vec<_>, Vec<_>) = changes.into_iter().partition(is_requested);
        if requested.is_empty() { unrequested } else { requested }
    }

    /// Returns the requested fields as if all of them had changed, with the values of the stored object.
    pub fn assume_changed(&self, stored: &Fields, part: Part) -> Vec<Change> {
        let of_part = self.intents.iter().filter(|n| part_of(&n.path) == part && !self.is_apply);
        of_part.map(|n| Change::new(&n.path, None, stored.get(&n.path))).collect()
    }

    /// Returns how a watch shows the write, if only a watch does.
    pub fn takeover(&self) -> Option<Takeover> {
        self.takeover
    }

    /// Returns the fields that were named.
    pub fn intents(&self) -> &[FieldIntent] {
        &self.intents
    }
}

// === impl Unresolved ===

impl Unresolved {
    /// Returns the fields that the request names. `before` is the state of the object before it.
    pub(in crate::detect) fn intents(&self, before: Option<&Fields>, on: &ObjectLimits<'_>) -> Vec<FieldIntent> {
        match self {
            Unresolved::Scale(value) => {
                vec![FieldIntent { path: scale_path(before), intent: Intent::Set(value.clone()) }]
            }
            Unresolved::JsonPatch(patch) => {
                let options = WalkOptions { resource: "", is_hidden: on.limits.redacts, is_built_in: on.is_built_in() };
                read(Some(patch), |json| intents(json, options, before)).unwrap_or_default()
            }
        }
    }
}

/// Returns the field that the Scale of a custom resource represents. Its path is in the resource's definition, which is
/// not available, so this is the number in `spec` with a usual name, or the only number there.
fn scale_path(known: Option<&Fields>) -> Path {
    let usual: Path = "spec.replicas".into();
    let Some(known) = known.filter(|known| known.get(&usual).is_none()) else { return usual };
    let is_named_so = |path: &&Path| SCALE_NAMES.iter().any(|name| path.to_ascii_lowercase().ends_with(name));
    let intents = known.spec_numbers().find(is_named_so);
    let only = || known.spec_numbers().next().filter(|_| known.spec_numbers().nth(1).is_none());
    intents.or_else(only).cloned().unwrap_or(usual)
}

// === impl Bodies ===

impl<'a> Bodies<'a> {
    /// Returns the bodies of a write.
    pub fn of(write: &Write<'a>, limits: &Limits) -> Bodies<'a> {
        let is_watched = write.event.is_watched();
        let shape = match write.subresource {
            "scale" if !is_watched => Shape::Scale,
            "binding" if !is_watched => Shape::Binding,
            _ if write.stored.is_whole => Shape::Whole,
            _ => Shape::Object,
        };
        Bodies {
            group: write.object.group,
            resource: write.object.resource,
            verb: write.event.verb,
            effect: write.effect,
            shape,
            form: match write.is_forced {
                _ if is_watched => RequestForm::OwnedFields { continues: write.event.annotation(CONTINUES).is_some() },
                true => RequestForm::Apply,
                false => RequestForm::Body,
            },
            is_hidden: limits.redacts,
            request: write.event.request_object,
            response: write.event.response_object,
        }
    }

    /// Whether values of these bodies must not be kept.
    pub fn is_secret(&self) -> bool {
        (self.group.is_empty() && self.resource == "secrets") || self.is_hidden
    }

    /// Whether the resource is built in, so that the API server knows its types.
    fn is_built_in(&self) -> bool {
        resource_kind::built_in(self.group, self.resource).is_some()
    }

    fn options(&self) -> WalkOptions<'a> {
        WalkOptions {
            resource: if self.group.is_empty() { self.resource } else { "" },
            is_hidden: self.is_hidden,
            is_built_in: self.is_built_in(),
        }
    }

    /// Parses the bodies. `known` resolves the list indices of a JSON Patch.
    pub fn evidence(&self, known: Option<&Fields>) -> Evidence {
        let level = if self.response.is_some() { EvidenceLevel::Value } else { EvidenceLevel::Field };
        let one = |path: &str, json: &str| {
            let intents =
                vec![FieldIntent { path: path.into(), intent: Intent::Set(FieldValue::new(json, self.is_hidden)) }];
            Evidence::Intents {
                intents,
                level,
                is_takeover: false,
                is_apply: false,
                lists: Vec::new(),
                unresolved: None,
            }
        };
        let scaled = |json: &str| Evidence::Intents {
            intents: Vec::new(),
            level,
            is_takeover: false,
            is_apply: false,
            lists: Vec::new(),
            unresolved: Some(Unresolved::Scale(FieldValue::new(json, self.is_hidden))),
        };
        let read_either = || self.response.or(self.request);
        match self.shape {
            Shape::Scale => read(read_either(), |scale| {
                let replicas = scale.get("spec").and_then(|spec| spec.get_i64("replicas")).unwrap_or(0);
                if self.is_built_in() {
                    one("spec.replicas", &replicas.to_string())
                } else {
                    scaled(&replicas.to_string())
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
        let stored = read(stored, |json| Fields::of_object(json, self.options()));
        let requested = read(self.request, |json| match self.verb {
            _ if let RequestForm::OwnedFields { continues } = self.form => Request::Patch(PatchIntent {
                intents: owned::intents(json, stored.as_ref()),
                takeover: Some(Takeover { continues }),
                ..PatchIntent::default()
            }),
            Verb::Patch => Request::Patch(PatchIntent {
                lists: lists(json, self.options()),
                intents: intents(json, self.options(), stored.as_ref().or(known)),
                removes_unnamed: self.is_apply(json) || (json.is_object() && has_directive(json, 0)),
                is_apply: self.is_apply(json),
                takeover: None,
            }),
            _ => Request::Whole(Fields::of_object(json, self.options())),
        });
        match (stored, requested) {
            (Some(fields), requested) => {
                let requested =
                    if let Some(Request::Patch(requested)) = requested { requested } else { PatchIntent::default() };
                Evidence::Whole { fields: Arc::new(fields), level: EvidenceLevel::Value, requested }
            }
            (None, Some(Request::Patch(requested))) => {
                let PatchIntent { intents, lists, is_apply, removes_unnamed, takeover } = requested;
                // An apply and a strategic patch state what they remove.
                let lists = if removes_unnamed { Vec::new() } else { lists };
                // Values of Secrets are not kept, not even within a patch.
                let patch = self.request.filter(|patch| patch.starts_with(b"[") && !self.is_secret());
                let unresolved = patch.map(|patch| Unresolved::JsonPatch(patch.into()));
                Evidence::Intents {
                    intents,
                    level: EvidenceLevel::Field,
                    is_takeover: takeover.is_some(),
                    is_apply,
                    lists,
                    unresolved,
                }
            }
            (None, Some(Request::Whole(fields))) if self.effect != Effect::Delete => Evidence::Whole {
                fields: Arc::new(fields),
                level: EvidenceLevel::Field,
                requested: PatchIntent::default(),
            },
            _ => Evidence::None,
        }
    }

    /// Returns the fields that a mutating webhook's JSON Patch names, from the admission annotation.
    pub fn webhook_intents(&self, patch: &[u8], known: Option<&Fields>) -> Vec<FieldIntent> {
        read(Some(patch), |json| intents(json, self.options(), known)).unwrap_or_default()
    }

    /// Returns the fields that a request with a whole body asks for.
    pub fn whole_request_intents(&self) -> Vec<FieldIntent> {
        let fields = read(self.request, |json| Fields::of_object(json, self.options())).unwrap_or_default();
        fields.leaves.into_iter().map(|(path, value)| FieldIntent { path, intent: Intent::Set(value) }).collect()
    }

    /// Whether a patch is an apply: it is known to be one, or contains `apiVersion` and `kind`.
    fn is_apply(&self, patch: &Json<'_>) -> bool {
        self.form == RequestForm::Apply || (patch.get("apiVersion").is_some() && patch.get("kind").is_some())
    }
}

/// A request's body.
enum Request {
    Patch(PatchIntent),
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

/// Usual names of the field that a Scale represents, in lower case.
const SCALE_NAMES: [&str; 6] = ["replicas", "size", "instances", "replicacount", "nodecount", "count"];

/// Returns the lists that a merge patch replaces.
fn lists(patch: &Json<'_>, options: WalkOptions<'_>) -> Vec<Path> {
    if !patch.is_object() {
        return Vec::new();
    }
    let mut walk = Walk::new(options, true);
    walk.node(patch, 0, options.is_hidden);
    walk.lists.into_keys().collect()
}

/// Returns the fields that a patch of any content type names.
pub(super) fn intents(patch: &Json<'_>, options: WalkOptions<'_>, known: Option<&Fields>) -> Vec<FieldIntent> {
    let Json::Array(operations) = patch else {
        let mut walk = Walk::new(options, true);
        walk.node(patch, 0, options.is_hidden);
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
                let value =
                    FieldValue::at(&path, &Json::from(item.as_ref()).encode(), options.is_built_in, options.is_hidden);
                let path = format!("{path}{}", set_selector(item)).into();
                found.push(FieldIntent { path, intent: Intent::Set(value) });
            }
            // The value is the item that the patch puts into the list, not the new value of the list.
            ("add" | "replace" | "remove", _) if is_in_list => {
                found.push(FieldIntent { path: path.into(), intent: Intent::Modify });
            }
            ("add" | "replace", Some(value)) => {
                let mut walk = Walk::new(options, false);
                let is_hidden =
                    walk.is_secret && (is_at_or_below(&path, "data") || is_at_or_below(&path, "stringData"));
                walk.path = path;
                walk.node(value, 1, is_hidden || options.is_hidden);
                found.append(&mut walk.found);
            }
            ("remove", _) => found.push(FieldIntent { path: path.into(), intent: Intent::Remove }),
            ("move", _) => {
                found.extend(
                    resolved("from").map(|(from, _)| FieldIntent { path: from.into(), intent: Intent::Remove }),
                );
                found.push(FieldIntent { path: path.into(), intent: Intent::Modify });
            }
            ("copy", _) => found.push(FieldIntent { path: path.into(), intent: Intent::Modify }),
            _ => {}
        }
    }
    found.retain(|n| !is_left_out(&n.path));
    found
}

#[cfg(test)]
#[path = "bodies/tests.rs"]
mod tests;
