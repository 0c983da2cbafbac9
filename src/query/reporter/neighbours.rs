//! Finds what related objects show about wars: dependents, and the autoscaler of an object.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::audit::json_scan::member;
use crate::detect::object::ObjectState;
use crate::detect::remedy::{self, Autoscaler, Setting};
use crate::detect::write::Part;
use crate::pipeline::Pipeline;
use crate::query::views::{Dependent, Field, Object, War};

/// Minimum number of writes to an owned object for it to be listed as a dependent. Fewer may be a coincidence.
const DEPENDENT_WRITES_MIN: u32 = 6;

/// What related objects add to the remedies of a war.
#[derive(Debug, Default)]
pub(super) struct Related {
    /// The autoscaler that targets the object.
    pub(super) autoscaler: Option<Autoscaler>,
    /// Settings from which the contested fields may be derived.
    pub(super) settings: Vec<Setting>,
}

// === impl Related ===

impl Related {
    pub(super) fn is_empty(&self) -> bool {
        self.autoscaler.is_none() && self.settings.is_empty()
    }
}

/// An object from which another one is made.
pub(super) struct Source {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Adds the dependents to the wars. Returns what other related objects add, for each war. `sources` are the objects from
/// which the contested object of each war is made.
pub(super) fn add(pipeline: &Pipeline, wars: &mut [War], sources: &[Vec<Source>]) -> Vec<Related> {
    let mut related: Vec<Related> = wars.iter().map(|_| Related::default()).collect();
    if wars.is_empty() {
        return related;
    }
    let mut made: HashMap<(&str, &str, &str), Vec<usize>> = HashMap::new();
    for (index, sources) in sources.iter().enumerate() {
        for Source { kind, namespace, name } in sources {
            made.entry((kind, namespace, name)).or_default().push(index);
        }
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
        if let Some(indices) = state.kind().and_then(|kind| made.get(&(&**kind, name.namespace, name.name))) {
            let is_here = |index: &usize| wars[*index].object.cluster == key.cluster();
            let indices: Vec<usize> = indices.iter().copied().filter(is_here).collect();
            let fields = indices.iter().flat_map(|index| &wars[*index].fields);
            let settings = settings(state.kind()?, name.name, state.body()?, fields);
            return Some((indices, Neighbour::Settings(settings)));
        }
        let is_autoscaler = name.resource == "horizontalpodautoscalers";
        if !is_autoscaler && !is_busy(state) {
            return None;
        }
        let near = near.get(&(key.cluster(), name.namespace))?;
        let of = |is: &dyn Fn(&Object) -> bool| near.iter().copied().filter(|i| is(&wars[*i].object)).collect();
        if is_autoscaler {
            let target = target(state)?;
            let indices: Vec<usize> = of(&|object| target.is(object));
            let owner = owners_of(state).into_iter().next();
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
            neighbour.add_to(&mut wars[index], &mut related[index]);
        }
    }
    for war in wars {
        war.dependents.sort_by(|a, b| a.object.cmp(&b.object));
    }
    related
}

/// Minimum length of a name that is looked for within others, such as `replica` in `replicaCount`.
const WORD_MIN: usize = 4;
/// Maximum number of settings of one object.
const SETTINGS_MAX: usize = 16;

/// Returns the settings in the `spec` of an object whose names resemble those of the fields.
fn settings<'f>(kind: &str, source: &str, body: &[u8], fields: impl Iterator<Item = &'f Field>) -> Vec<Setting> {
    let Some(spec) = member(body, "spec").and_then(|spec| serde_json::from_slice::<Value>(spec).ok()) else {
        return Vec::new();
    };
    let names: Vec<String> = fields.map(|field| last_name(&field.path)).filter(|name| !name.is_empty()).collect();
    let mut found = Vec::new();
    let mut open = vec![("spec".to_owned(), &spec)];
    while let Some((path, value)) = open.pop() {
        // With so many, none is likely to be the one.
        if found.len() >= SETTINGS_MAX {
            return Vec::new();
        }
        match value {
            Value::Object(members) => {
                open.extend(members.iter().map(|(key, value)| (format!("{path}.{key}"), value)));
            }
            Value::Array(_) => {}
            value => {
                let name = last_name(&path);
                let is_like = |wanted: &String| {
                    name == *wanted
                        || (wanted.len() >= WORD_MIN && name.contains(wanted))
                        || (name == "tag" && wanted == "image")
                };
                if names.iter().any(is_like) {
                    let (kind, name) = (kind.to_owned(), source.to_owned());
                    found.push(Setting { kind, name, path, value: value.clone() });
                }
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Returns the last name of a path in lower case, as singular: `replica` for `spec.replicas`.
fn last_name(path: &str) -> String {
    let name = path.rsplit(['.', ']']).next().unwrap_or_default().to_ascii_lowercase();
    name.strip_suffix('s').map(str::to_owned).unwrap_or(name)
}

/// What a related object adds to a war.
enum Neighbour {
    Dependent(Dependent),
    Autoscaler(Autoscaler),
    Settings(Vec<Setting>),
}

// === impl Neighbour ===

impl Neighbour {
    fn add_to(&self, war: &mut War, related: &mut Related) {
        match self {
            Neighbour::Dependent(dependent) => war.dependents.push(dependent.clone()),
            // If there are two, always choose the same one.
            Neighbour::Autoscaler(found) => {
                let known = related.autoscaler.get_or_insert_with(|| found.clone());
                if found.name < known.name {
                    *known = found.clone();
                }
            }
            Neighbour::Settings(settings) => related.settings.extend(settings.iter().cloned()),
        }
    }
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

/// Returns the owners of an object, from its body or its fields.
pub(super) fn owners_of(state: &ObjectState) -> Vec<Owner> {
    let of_fields = || {
        let fields = state.history()?.current_fields()?;
        let references = fields.at_or_below("metadata.ownerReferences");
        Some(references.filter_map(|(_, value)| serde_json::from_str(value.text()?).ok()).collect())
    };
    state.body().and_then(owners).or_else(of_fields).unwrap_or_default()
}

/// Returns the owners of an object, from its body.
fn owners(body: &[u8]) -> Option<Vec<Owner>> {
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
