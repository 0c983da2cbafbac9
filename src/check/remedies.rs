//! The commands that end a fight, from the recipes for wars.

use serde_json::Value;

use super::applier::Applier;
use super::field::Path;
use super::snapshot::{Object, Snapshot};
use crate::detect::actor_class::Role;
use crate::detect::application::Application;
use crate::detect::cause::Cause;
use crate::detect::remedy::{Autoscaler, ContestedField, Facts, Owner, Party, Remedy, remedies};

/// The other side of an applier.
#[derive(Clone, Debug)]
pub(super) struct Opponent<'o> {
    /// Its field manager with the operation.
    pub actor: &'o str,
    /// Its role.
    pub role: Role,
    /// The autoscaler, if it is one.
    pub autoscaler: Option<Autoscaler>,
}

/// Returns what ends a fight between an applier and another program over fields. Without fields, it is over the existence
/// of the object.
pub(super) fn against(
    snapshot: &Snapshot,
    object: &Object,
    applier: &Applier<'_>,
    opponent: Opponent<'_>,
    paths: &[Path],
) -> Vec<Remedy> {
    // For people and unknown programs there is nothing better than the advice.
    if !applier.is_tool() {
        return Vec::new();
    }
    let parties = vec![party(&applier.actor, applier.role), party(opponent.actor, opponent.role)];
    let applications = applier.application.iter().cloned().collect();
    let cause = if paths.is_empty() { Cause::RecreateWar } else { Cause::ConflictingAutomation };
    of(snapshot, object, Parties { parties, applications, autoscaler: opponent.autoscaler, cause }, paths)
}

/// Returns what ends a fight between two applications of one tool, or of two.
pub(super) fn between(
    snapshot: &Snapshot,
    object: &Object,
    actors: &[(String, Role)],
    applications: Vec<Application>,
) -> Vec<Remedy> {
    let parties = actors.iter().map(|(actor, role)| party(actor, *role)).collect();
    of(snapshot, object, Parties { parties, applications, autoscaler: None, cause: Cause::ConflictingAutomation }, &[])
}

struct Parties<'p> {
    parties: Vec<Party<'p>>,
    applications: Vec<Application>,
    autoscaler: Option<Autoscaler>,
    cause: Cause,
}

fn party(actor: &str, role: Role) -> Party<'_> {
    Party { actor, role, pods: &[], is_field_manager: true }
}

fn of(snapshot: &Snapshot, object: &Object, parties: Parties<'_>, paths: &[Path]) -> Vec<Remedy> {
    let Parties { parties, applications, autoscaler, cause } = parties;
    let names: Vec<String> = paths.iter().map(Path::to_string).collect();
    let fields = names.iter().zip(paths).map(|(name, path)| ContestedField {
        path: name,
        actors: Vec::new(),
        wanted: Vec::new(),
        has_hidden_values: false,
        pointer: object.live.as_ref().and_then(|live| path.pointer(live)),
    });
    let id = &object.id;
    remedies(&Facts {
        resource: id.resource(),
        kind: &id.kind,
        group: &id.group,
        namespace: &id.namespace,
        name: &id.name,
        context: snapshot.context.as_deref(),
        cause,
        parties,
        honouring: None,
        fields: fields.collect(),
        applications,
        owner: object.controller().map(owner),
        autoscaler,
        annotations: std::collections::BTreeMap::new(),
        settings: Vec::new(),
        flapping: None,
    })
}

/// Returns an owner reference.
pub(super) fn owner(reference: &Value) -> Owner {
    let text = |key: &str| reference[key].as_str().unwrap_or_default().to_owned();
    Owner { api_version: text("apiVersion"), kind: text("kind"), name: text("name") }
}
