//! Recipes for virt-platform-autopilot and other controllers that honour its annotations: make the controller ignore the
//! contested fields, make it adopt the rival's values, or make it leave the whole object alone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Facts, Location, Remedy, RemedyKind, listed, locations};
use crate::detect::actor_class::Role;
use crate::detect::annotations::{MODE, PAUSED, PREFIX, UNPATCHED_KINDS, UNPATCHED_PATHS};
use crate::detect::application::ApplicationKind;
use crate::util::shell::quoted;

/// Leave the contested fields to the rival.
pub(super) fn give_up_fields(facts: &Facts<'_>) -> Vec<Remedy> {
    let Some(owner) = facts.honouring else { return Vec::new() };
    let fields = facts.fields_of(owner);
    let locations = locations(&fields);
    let dotted: Option<Vec<String>> = locations.iter().map(Location::dotted).collect();
    let pointers: Option<Vec<String>> = locations.iter().map(Location::pointer).collect();
    // The annotation is a list that is separated by commas.
    let pointers = pointers.filter(|pointers| !pointers.iter().any(|pointer| pointer.contains(',')));
    let (annotation, mut paths) = match (dotted, pointers) {
        _ if fields.is_empty() => return Vec::new(),
        (Some(paths), _) => ("ignore", paths),
        (None, Some(paths)) => ("ignore-fields", paths),
        (None, None) => return Vec::new(),
    };
    // The object may have the annotation already, for another war.
    let known = facts.annotations.get(annotation).map(String::as_str).unwrap_or_default();
    paths.splice(..0, known.split(',').filter(|path| !path.is_empty()).map(str::to_owned));
    let mut seen = BTreeSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    let mut reach = locations.iter().map(Location::reach).collect::<Vec<_>>();
    reach.dedup();
    let reach = listed(reach.iter().map(String::as_str));
    vec![Remedy {
        title: format!("leave {reach} to {}", facts.rivals(owner)),
        changes: format!("{owner} no longer writes {reach}, but still manages the rest of the object"),
        tradeoff: format!("drift of {reach} is no longer corrected"),
        ..facts.annotation(annotation, &paths.join(","))
    }]
}

/// Make the rival's value the desired one.
pub(super) fn adopt_values(facts: &Facts<'_>) -> Vec<Remedy> {
    facts.honouring.and_then(|owner| adopt_values_of_rival(facts, owner)).into_iter().collect()
}

fn adopt_values_of_rival(facts: &Facts<'_>, owner: &str) -> Option<Remedy> {
    let fields = facts.fields_of(owner);
    let is_taken = facts.annotations.contains_key("patch");
    if is_taken || UNPATCHED_KINDS.contains(&facts.kind) || fields.is_empty() {
        return None;
    }
    let mut operations = Vec::new();
    for field in fields {
        let pointer = Location::of(field.path).pointer()?;
        let is_rejected = |p: &&str| pointer == **p || pointer.starts_with(&format!("{p}/"));
        if UNPATCHED_PATHS.iter().any(is_rejected) {
            return None;
        }
        let wanted: Vec<_> = field.wanted.iter().filter(|wanted| wanted.actor != owner).collect();
        // There is no single value to adopt if the rivals want several values.
        let [wanted] = wanted.as_slice() else { return None };
        if field.has_hidden_values {
            return None;
        }
        operations.push(match &wanted.value {
            Some(value) => json!({"op": "add", "path": pointer, "value": value}),
            None => json!({"op": "remove", "path": pointer}),
        });
    }
    let names = facts.field_names(owner);
    Some(Remedy {
        title: format!("adopt the value of {}", facts.rivals(owner)),
        changes: format!("{owner} writes the value of {names} from the annotation"),
        tradeoff: "the value stays the same, even if the rival wants another one later".into(),
        ..facts.annotation("patch", &Value::from(operations).to_string())
    })
}

/// Leave the whole object to the rival.
pub(super) fn leave_object(facts: &Facts<'_>) -> Vec<Remedy> {
    let Some(owner) = facts.honouring else { return Vec::new() };
    vec![Remedy {
        title: format!("leave the object to {}", facts.rivals(owner)),
        changes: format!("{owner} no longer writes this object, and its pause is lifted"),
        tradeoff: "the desired state of this object is no longer enforced".into(),
        ..facts.annotation(MODE.strip_prefix(PREFIX).unwrap_or(MODE), "unmanaged")
    }]
}

// === impl Facts ===

impl Facts<'_> {
    /// Returns the flag without which Flux would take an annotation back from an object that it applies.
    fn field_manager(&self) -> &'static str {
        let is_flux = self.party(|role| role == Role::Flux).is_some()
            || self.applications.iter().any(|application| application.kind == ApplicationKind::Kustomization);
        if is_flux { " --field-manager=editwar" } else { "" }
    }

    /// Returns the remedy that sets an annotation and lifts the pause, which no annotation does by itself.
    fn annotation(&self, name: &str, value: &str) -> Remedy {
        let set = |value: &str| {
            let annotation = quoted(&format!("{PREFIX}{name}={value}"));
            format!("{} {annotation} {PAUSED}- --overwrite{}", self.kubectl("annotate"), self.field_manager())
        };
        let undo = match self.annotations.get(name) {
            Some(before) => set(before),
            None => format!("{} {PREFIX}{name}-{}", self.kubectl("annotate"), self.field_manager()),
        };
        Remedy {
            kind: RemedyKind::Change,
            title: String::new(),
            command: set(value),
            changes: String::new(),
            tradeoff: String::new(),
            undo: Some(undo),
        }
    }
}
