//! Builds the views of the remedies for a war. The remedies themselves are in [`crate::detect::remedy`].

use crate::detect::actor_class::ActorClassifier;
use crate::detect::cause::Cause;
use crate::detect::object::ObjectState;
use crate::detect::policy::Limits;
use crate::detect::remedy::{self, ContestedField, Facts};
use crate::query::views::{Field, Object, Party, Remedy, Value};

/// Returns the remedies for a war, the best first, and the command that shows whether it is over.
#[expect(clippy::too_many_arguments, reason = "remedies depend on all of these")]
pub(super) fn of<'f>(
    classes: &ActorClassifier,
    object: &Object,
    state: &ObjectState,
    cause: Cause,
    parties: &[Party],
    fields: &'f [Field],
    limits: &Limits,
    hpa: Option<String>,
) -> (Vec<Remedy>, String) {
    let wanted =
        |value: &'f Value| remedy::Wanted { actor: &value.actor, value: (!value.absent).then(|| value.value.clone()) };
    // Leave out fields that were contested only in an earlier object of the same name, unless all fields were.
    let is_outdated = |field: &Field| state.history().is_some_and(|h| h.analysis().is_outdated(&field.path));
    let is_all_outdated = fields.iter().all(is_outdated);
    let is_meant = |field: &&Field| !field.path.starts_with('(') && (is_all_outdated || !is_outdated(field));
    let contested = fields.iter().filter(is_meant).map(|field| ContestedField {
        path: &field.path,
        wanted: field.values.iter().filter(|value| !value.redacted && !value.cut).map(wanted).collect(),
    });
    let failures = state.failures().into_iter().flat_map(|t| t.actors());
    let flapping = failures.filter(|(_, t)| t.alternations() >= limits.flapping_turns.get());
    let group = if object.group.is_empty() { String::new() } else { format!(".{}", object.group) };
    let facts = Facts {
        resource: format!("{}{group}", object.resource),
        kind: &object.kind,
        group: &object.group,
        namespace: &object.namespace,
        name: &object.name,
        cause,
        parties: parties.iter().map(|p| (p.actor.as_str(), p.role)).collect(),
        honouring: parties.iter().map(|p| p.actor.as_str()).find(|actor| classes.is_honouring(actor)),
        fields: contested.collect(),
        hpa,
        application: application(state),
        flapping: flapping.flat_map(|(_, t)| t.rejections.keys()).next().map(String::as_str),
    };
    let found = remedy::remedies(&facts).into_iter().map(|r| Remedy {
        option: r.option.to_owned(),
        title: r.title,
        command: r.command,
        changes: r.changes,
        tradeoff: r.tradeoff,
    });
    (found.collect(), remedy::verify(&facts))
}

/// Returns the Argo CD application that tracks an object, from its annotation.
fn application(state: &ObjectState) -> Option<String> {
    let known = state.history()?.current_fields()?;
    let tracking = known.get("metadata.annotations['argocd.argoproj.io/tracking-id']")?.text()?;
    let text: String = serde_json::from_str(tracking).ok()?;
    text.split_once(':').map(|(application, _)| application.to_owned())
}
