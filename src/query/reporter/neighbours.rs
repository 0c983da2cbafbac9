//! Adds to wars what related objects show: dependents, and an autoscaler that is a party.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::remedies;
use crate::audit::json_scan::member;
use crate::detect::actor_class::ActorClassifier;
use crate::detect::object::ObjectState;
use crate::detect::write::{ObjectName, Part};
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;
use crate::query::views::{Dependent, Object, War};

/// Minimum number of writes to an owned object for it to be listed as a dependent. Fewer may be a coincidence.
const DEPENDENT_WRITES_MIN: u32 = 6;

/// Adds to the wars what related objects show: dependents, and an autoscaler that is a party.
pub(super) fn add<'w>(pipeline: &Pipeline, classes: &ActorClassifier, wars: impl Iterator<Item = &'w mut War>) {
    let mut wars: Vec<&mut War> = wars.collect();
    if wars.is_empty() {
        return;
    }
    let is_busy = |state: &ObjectState| {
        state.writers().iter().any(|s| s.part == Part::Main && s.writes() >= DEPENDENT_WRITES_MIN)
    };
    let mut near: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for (index, war) in wars.iter().enumerate() {
        near.entry((&war.object.cluster, &war.object.namespace)).or_default().push(index);
    }
    let found = pipeline.table().select(|key, state| {
        let name = key.object();
        let is_autoscaler = name.resource == "horizontalpodautoscalers";
        if !is_autoscaler && !is_busy(state) {
            return None;
        }
        let near = near.get(&(key.cluster(), name.namespace))?;
        let of = |owner: &Owner| near.iter().copied().find(|index| owner.is(&wars[*index].object));
        if is_autoscaler {
            // If the autoscaler has an owner, such as a ScaledObject, it would be recreated within seconds:
            // deleting it would not help.
            let is_owned = state.body().and_then(owners).is_some_and(|owners| !owners.is_empty());
            let index = of(&target(state)?)?;
            return (!is_owned).then(|| (index, Neighbour::Autoscaler(name.name.to_owned())));
        }
        let index = owners(state.body()?)?.iter().filter_map(of).min()?;
        let writers = state.writers().iter().filter(|s| s.part == Part::Main);
        let busiest = writers.max_by_key(|s| s.writes())?;
        let actor = busiest.client.actor.to_string();
        let dependent = Dependent { object: Object::of(key, state), actor, writes: busiest.writes() };
        Some((index, Neighbour::Dependent(dependent)))
    });
    let mut autoscalers: BTreeMap<usize, String> = BTreeMap::new();
    for (index, neighbour) in found {
        match neighbour {
            Neighbour::Dependent(dependent) => wars[index].dependents.push(dependent),
            // If there are two, always choose the same one.
            Neighbour::Autoscaler(name) => {
                let known = autoscalers.entry(index).or_insert_with(|| name.clone());
                if name < *known {
                    *known = name;
                }
            }
        }
    }
    for (index, name) in autoscalers {
        name_autoscaler(pipeline, classes, wars[index], name);
    }
    for war in wars {
        war.dependents.sort_by(|a, b| a.object.cmp(&b.object));
    }
}

/// Recreates a war's remedies with the name of the autoscaler.
fn name_autoscaler(pipeline: &Pipeline, classes: &ActorClassifier, war: &mut War, name: String) {
    let o = &war.object;
    let object = ObjectName { group: &o.group, resource: &o.resource, namespace: &o.namespace, name: &o.name };
    let Some(limits) = pipeline.policy().limits(&object) else { return };
    let key = ObjectKey::new(&o.cluster, &object);
    let (cause, parties, fields) = (war.cause, &war.parties, &war.fields);
    let remedies = pipeline
        .table()
        .with(&key, |state| remedies::of(classes, o, state, cause, parties, fields, limits, Some(name)).0);
    if let Some(remedies) = remedies {
        war.remedies = remedies;
    }
}

/// What a related object adds to a war.
enum Neighbour {
    Dependent(Dependent),
    Autoscaler(String),
}

/// Returns the object that an autoscaler scales.
fn target(state: &ObjectState) -> Option<Owner> {
    if let Some(body) = state.body() {
        return serde_json::from_slice(member(member(body, "spec")?, "scaleTargetRef")?).ok();
    }
    let known = state.history()?.current_fields()?;
    let text = |path: &str| serde_json::from_str(known.get(path)?.text()?).ok();
    Some(Owner { kind: text("spec.scaleTargetRef.kind")?, name: text("spec.scaleTargetRef.name")? })
}

/// Returns the owners of an object, from its body.
fn owners(body: &[u8]) -> Option<Vec<Owner>> {
    serde_json::from_slice(member(member(body, "metadata")?, "ownerReferences")?).ok()
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    name: String,
}

// === impl Owner ===

impl Owner {
    fn is(&self, object: &Object) -> bool {
        self.kind == object.kind && self.name == object.name
    }
}
