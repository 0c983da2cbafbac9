//! Builds the views of the remedies for a war. The remedies themselves are in [`crate::detect::remedy`].

use std::collections::BTreeMap;

use super::Reporter;
use super::neighbours::{Owner, owners};
use crate::detect::application::applications;
use crate::detect::object::ObjectState;
use crate::detect::remedy::{self, Autoscaler, ContestedField, Facts};
use crate::detect::write::ObjectName;
use crate::pipeline::key::ObjectKey;
use crate::query::views::{Field, Remedy, Value, War};

/// Adds the remedies to wars, each with the autoscaler that targets its object.
pub(super) fn add<'w>(
    reporter: &Reporter<'_>,
    wars: impl Iterator<Item = &'w mut War>,
    mut autoscalers: BTreeMap<usize, Autoscaler>,
) {
    for (index, war) in wars.enumerate() {
        let object = &war.object;
        let name = ObjectName {
            group: &object.group,
            resource: &object.resource,
            namespace: &object.namespace,
            name: &object.name,
        };
        let key = ObjectKey::new(&object.cluster, &name);
        let autoscaler = autoscalers.remove(&index);
        let found = reporter.pipeline.table().with(&key, |state| of(reporter, war, state, autoscaler));
        war.remedies = found.unwrap_or_default();
        war.verify = format!("editwar who {}", war.object.arguments());
    }
}

/// Returns the remedies for a war, the best first.
fn of<'w>(reporter: &Reporter<'_>, war: &'w War, state: &ObjectState, autoscaler: Option<Autoscaler>) -> Vec<Remedy> {
    let object = &war.object;
    let wanted =
        |value: &'w Value| remedy::Wanted { actor: &value.actor, value: (!value.absent).then(|| value.value.clone()) };
    // Leave out fields that were contested only in an earlier object of the same name, unless all fields were.
    let is_outdated = |field: &Field| state.history().is_some_and(|h| h.analysis().is_outdated(&field.path));
    let is_all_outdated = war.fields.iter().all(is_outdated);
    let is_meant = |field: &&Field| !field.path.starts_with('(') && (is_all_outdated || !is_outdated(field));
    let contested = war.fields.iter().filter(is_meant).map(|field| ContestedField {
        path: &field.path,
        actors: field.values.iter().map(|value| value.actor.as_str()).collect(),
        wanted: field.values.iter().filter(|value| !value.redacted && !value.cut).map(wanted).collect(),
    });
    let failures = state.failures().into_iter().flat_map(|t| t.actors());
    let turns = reporter.pipeline.policy().limits(&ObjectName {
        group: &object.group,
        resource: &object.resource,
        namespace: &object.namespace,
        name: &object.name,
    });
    let flapping =
        failures.filter(|(_, t)| turns.is_some_and(|limits| t.alternations() >= limits.flapping_turns.get()));
    let group = if object.group.is_empty() { String::new() } else { format!(".{}", object.group) };
    let facts = Facts {
        resource: format!("{}{group}", object.resource),
        kind: &object.kind,
        group: &object.group,
        namespace: &object.namespace,
        name: &object.name,
        context: reporter.contexts.of(&object.cluster),
        cause: war.cause,
        parties: war
            .parties
            .iter()
            .map(|party| remedy::Party { actor: &party.actor, role: party.role, pods: &party.pods })
            .collect(),
        honouring: war
            .parties
            .iter()
            .map(|party| party.actor.as_str())
            .find(|actor| reporter.classes.is_honouring(actor)),
        fields: contested.collect(),
        applications: state.history().and_then(|h| h.current_fields()).map(|f| applications(f)).unwrap_or_default(),
        owner: state
            .body()
            .and_then(owners)
            .and_then(|owners| owners.into_iter().find(Owner::is_controller))
            .map(Into::into),
        autoscaler,
        flapping: flapping.flat_map(|(_, t)| t.rejections.keys()).next().map(String::as_str),
    };
    remedy::remedies(&facts).into_iter().map(Remedy::from).collect()
}
