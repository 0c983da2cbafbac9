//! A write's bodies, and what they tell: states, patches of every kind, a Scale, a Binding.

use std::sync::Arc;

use simd_json::BorrowedValue as Json;
use simd_json::prelude::*;

use super::walk::{DEPTH_MAX, FIELDS_MAX, PATH_BYTES_MAX, Rules, Walk, is_left_out};
use super::{Change, FieldValue, Fields, Named, Tier, Want, is_at_or_below, part_of};
use crate::audit::event::Verb;
use crate::audit::scan;
use crate::detect::policy::Limits;
use crate::detect::write::{Effect, Part, Write};

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
            Json::Object(map) => map.iter().any(|(key, value)| {
                matches!(key.as_ref(), "$patch" | "$retainKeys") || has_directive(value, depth + 1)
            }),
            Json::Array(items) => items.iter().any(|item| has_directive(item, depth + 1)),
            _ => false,
        }
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
