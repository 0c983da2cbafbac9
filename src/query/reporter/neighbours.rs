//! Finds what related objects show about wars: dependents, and the autoscaler of an object.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::audit::json_scan::member;
use crate::detect::object::ObjectState;
use crate::detect::remedy::{self, Autoscaler};
use crate::detect::write::Part;
use crate::pipeline::Pipeline;
use crate::query::views::{Dependent, Object, War};

/// Minimum number of writes to an owned object for it to be listed as a dependent. Fewer may be a coincidence.
const DEPENDENT_WRITES_MIN: u32 = 6;

/// Adds the dependents to the wars. Returns the autoscalers that target the objects of wars, by the index of the war.
pub(super) fn add<'w>(pipeline: &Pipeline, wars: impl Iterator<Item = &'w mut War>) -> BTreeMap<usize, Autoscaler> {
    let mut wars: Vec<&mut War> = wars.collect();
    let mut autoscalers: BTreeMap<usize, Autoscaler> = BTreeMap::new();
    if wars.is_empty() {
        return autoscalers;
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
        let of = |is: &dyn Fn(&Object) -> bool| near.iter().copied().filter(|i| is(&wars[*i].object)).collect();
        if is_autoscaler {
            let target = target(state)?;
            let indices: Vec<usize> = of(&|object| target.is(object));
            let owner = state.body().and_then(owners).and_then(|owners| owners.into_iter().next());
            let autoscaler = Autoscaler { name: name.name.to_owned(), owner: owner.map(Into::into) };
            return Some((indices, Neighbour::Autoscaler(autoscaler)));
        }
        let owners = owners(state.body()?)?;
        let indices: Vec<usize> = of(&|object| owners.iter().any(|owner| owner.is(object)));
        let writers = state.writers().iter().filter(|s| s.part == Part::Main);
        let busiest = writers.max_by_key(|s| s.writes())?;
        let actor = busiest.client.actor.to_string();
        let dependent = Dependent { object: Object::of(key, state), actor, writes: busiest.writes() };
        Some((indices.into_iter().take(1).collect(), Neighbour::Dependent(dependent)))
    });
    for (indices, neighbour) in found {
        for index in indices {
            match &neighbour {
                Neighbour::Dependent(dependent) => wars[index].dependents.push(dependent.clone()),
                // If there are two, always choose the same one.
                Neighbour::Autoscaler(found) => {
                    let known = autoscalers.entry(index).or_insert_with(|| found.clone());
                    if found.name < known.name {
                        *known = found.clone();
                    }
                }
            }
        }
    }
    for war in wars {
        war.dependents.sort_by(|a, b| a.object.cmp(&b.object));
    }
    autoscalers
}

/// What a related object adds to a war.
enum Neighbour {
    Dependent(Dependent),
    Autoscaler(Autoscaler),
}

/// Returns the object that an autoscaler scales.
fn target(state: &ObjectState) -> Option<Target> {
    if let Some(body) = state.body() {
        return serde_json::from_slice(member(member(body, "spec")?, "scaleTargetRef")?).ok();
    }
    let known = state.history()?.current_fields()?;
    let text = |path: &str| serde_json::from_str(known.get(path)?.text()?).ok();
    Some(Target { kind: text("spec.scaleTargetRef.kind")?, name: text("spec.scaleTargetRef.name")? })
}

/// The object that an autoscaler scales.
#[derive(Deserialize)]
struct Target {
    kind: String,
    name: String,
}

// === impl Target ===

impl Target {
    fn is(&self, object: &Object) -> bool {
        self.kind == object.kind && self.name == object.name
    }
}

/// Returns the owners of an object, from its body.
pub(super) fn owners(body: &[u8]) -> Option<Vec<Owner>> {
    serde_json::from_slice(member(member(body, "metadata")?, "ownerReferences")?).ok()
}

/// An ownerReference.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Owner {
    api_version: String,
    kind: String,
    name: String,
    #[serde(default)]
    controller: bool,
}

// === impl Owner ===

impl Owner {
    fn is(&self, object: &Object) -> bool {
        self.kind == object.kind && self.name == object.name
    }

    /// Whether it is the one that controls the object.
    pub(super) fn is_controller(&self) -> bool {
        self.controller
    }
}

impl From<Owner> for remedy::Owner {
    fn from(owner: Owner) -> remedy::Owner {
        remedy::Owner { api_version: owner.api_version, kind: owner.kind, name: owner.name }
    }
}
