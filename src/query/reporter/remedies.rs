//! Builds the views of the remedies for a war. The remedies themselves are in [`crate::detect::remedy`].

use std::collections::BTreeMap;

use super::Reporter;
use super::neighbours::{Owner, Related, Source, owners_of};
use crate::detect::annotations::{PREFIX, path};
use crate::detect::application::{Application, ApplicationKind, applications};
use crate::detect::fields::Fields;
use crate::detect::object::ObjectState;
use crate::detect::remedy::{self, ContestedField, Facts};
use crate::escape;
use crate::pipeline::key::ObjectKey;
use crate::query::views::{Field, Remedy, Value, War};

/// Returns the objects from which the contested objects are made: their controllers, and the HelmReleases of Flux.
pub(super) fn sources(reporter: &Reporter<'_>, wars: &[War]) -> Vec<Vec<Source>> {
    let of = |war: &War| {
        reporter.pipeline.table().with(&key(war), |state| {
            let namespace = war.object.namespace.clone();
            let owner = controller(state).map(|owner| Source { kind: owner.kind, namespace, name: owner.name });
            let releases =
                applications_of(state).into_iter().filter(|found| found.kind == ApplicationKind::HelmRelease);
            let releases = releases.map(|found| Source {
                kind: "HelmRelease".to_owned(),
                namespace: found.namespace,
                name: found.name,
            });
            owner.into_iter().chain(releases).collect()
        })
    };
    wars.iter().map(|war| of(war).unwrap_or_default()).collect()
}

fn key(war: &War) -> ObjectKey {
    ObjectKey::from(&war.object)
}

fn controller(state: &ObjectState) -> Option<remedy::Owner> {
    owners_of(state).into_iter().find(Owner::is_controller).map(Into::into)
}

/// Returns the annotations of the runbook that an object has, by their names without the prefix.
fn annotations(fields: &Fields) -> BTreeMap<&'static str, String> {
    let of = |name: &'static str| {
        let value = fields.get(&path(&format!("{PREFIX}{name}")))?.text()?;
        Some((name, serde_json::from_str(value).ok()?))
    };
    ["ignore", "ignore-fields", "patch", "mode"].into_iter().filter_map(of).collect()
}

fn applications_of(state: &ObjectState) -> Vec<Application> {
    state.history().and_then(|h| h.current_fields()).map(|fields| applications(fields)).unwrap_or_default()
}

/// Adds the remedies to wars, each with what related objects show. Keeps the remedies of a war that already has some, unless
/// related objects add to them.
pub(super) fn add(reporter: &Reporter<'_>, wars: &mut [War], related: Vec<Related>) {
    for (war, related) in wars.iter_mut().zip(related) {
        if !war.verify.is_empty() && related.is_empty() {
            continue;
        }
        let found = reporter.pipeline.table().with(&key(war), |state| of(reporter, war, state, related));
        war.remedies = found.unwrap_or_default();
        war.verify = format!("editwar who {}", war.object.arguments());
    }
}

/// Returns the remedies for a war, the best first.
fn of<'w>(reporter: &Reporter<'_>, war: &'w War, state: &ObjectState, related: Related) -> Vec<Remedy> {
    let object = &war.object;
    let wanted =
        |value: &'w Value| remedy::Wanted { actor: &value.actor, value: (!value.absent).then(|| value.value.clone()) };
    // Leave out fields that were contested only in an earlier object of the same name, unless all fields were.
    let is_outdated = |field: &Field| state.history().is_some_and(|h| h.analysis().is_outdated(&field.path));
    let is_all_outdated = war.fields.iter().all(is_outdated);
    let is_meant = |field: &&Field| !field.path.starts_with('(') && (is_all_outdated || !is_outdated(field));
    let fields = state.history().and_then(|history| history.current_fields());
    let contested = war.fields.iter().filter(is_meant).map(|field| ContestedField {
        path: &field.path,
        actors: field.values.iter().map(|value| value.actor.as_str()).collect(),
        has_hidden_values: field.values.iter().any(|value| value.redacted || value.cut),
        pointer: fields.and_then(|fields| remedy::pointer(&field.path, fields)),
        wanted: field.values.iter().filter(|value| !value.redacted && !value.cut).map(wanted).collect(),
    });
    let failures = state.failures().into_iter().flat_map(|t| t.actors());
    let turns = reporter.pipeline.policy().limits(&key(war).object());
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
            .map(|party| remedy::Party {
                actor: &party.actor,
                role: party.role,
                pods: &party.pods,
                is_field_manager: party.is_field_manager,
            })
            .collect(),
        honouring: war
            .parties
            .iter()
            .map(|party| party.actor.as_str())
            .find(|actor| reporter.classes.is_honouring(actor)),
        fields: contested.collect(),
        applications: applications_of(state),
        owner: controller(state),
        autoscaler: related.autoscaler,
        annotations: fields.map(|fields| annotations(fields)).unwrap_or_default(),
        settings: related.settings,
        flapping: flapping.flat_map(|(_, t)| t.rejections.keys()).next().map(String::as_str),
    };
    let found = remedy::remedies(&facts).into_iter().map(Remedy::from);
    // Names from forged events may hold control characters, which a terminal would execute when the command is pasted.
    let is_harmful = |text: &String| text.contains(escape::is_harmful);
    found.filter(|remedy| !is_harmful(&remedy.command) && !remedy.undo.as_ref().is_some_and(is_harmful)).collect()
}
