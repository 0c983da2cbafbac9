//! Recipes for autoscalers: pause KEDA, find the autoscaler that targets the object or, as the last resort, delete it.
//! The better remedy is that the other party leaves the field out; the recipes for that are in the other modules.

use super::kubectl::Target;
use super::{Autoscaler, Facts, Owner, Remedy, RemedyKind};
use crate::detect::actor_class::Role;

const HPA: &str = "horizontalpodautoscalers.autoscaling";
const SCALED_OBJECT: &str = "scaledobjects.keda.sh";
/// Source: KEDA, `docs/concepts/scaling-deployments` ("Pausing autoscaling").
const KEDA_PAUSED: &str = "autoscaling.keda.sh/paused";
/// The prefix that KEDA gives the names of its HorizontalPodAutoscalers.
const KEDA_PREFIX: &str = "keda-hpa-";

/// Pause KEDA, which keeps its settings.
pub(super) fn pause(facts: &Facts<'_>) -> Vec<Remedy> {
    let Some(name) = scaled_object(facts) else { return Vec::new() };
    // Flux takes back what the field managers of kubectl write to objects that it applies.
    let annotate =
        facts.kubectl_on("annotate", Target { resource: SCALED_OBJECT, namespace: facts.namespace, name: &name });
    let annotate = format!("{annotate} --field-manager=editwar");
    vec![Remedy {
        kind: RemedyKind::Change,
        title: format!("pause the ScaledObject {name} of KEDA"),
        command: format!("{annotate} {KEDA_PAUSED}=true --overwrite"),
        changes: "KEDA no longer scales the object".into(),
        tradeoff: "no autoscaling of this object until the annotation is removed".into(),
        undo: Some(format!("{annotate} {KEDA_PAUSED}-")),
    }]
}

/// Find the autoscaler that targets the object.
pub(super) fn find(facts: &Facts<'_>) -> Vec<Remedy> {
    let has = |role| facts.party(|found| found == role).is_some();
    let resource = match facts.autoscaler {
        None if has(Role::Hpa) => HPA,
        None if has(Role::Autoscaler) && is_keda(facts) => SCALED_OBJECT,
        _ => return Vec::new(),
    };
    let kind = if resource == HPA { "HorizontalPodAutoscaler" } else { "ScaledObject of KEDA" };
    let what_to_do = format!("the one whose target is {} takes part in the war", facts.name);
    vec![Remedy::show(format!("find the {kind} that targets it"), facts.get_all(resource), what_to_do)]
}

/// Delete the autoscaler. One that another object controls would be created again.
pub(super) fn delete(facts: &Facts<'_>) -> Vec<Remedy> {
    let Some(Autoscaler { name, owner: None }) = &facts.autoscaler else { return Vec::new() };
    // The owner may not be in the log.
    if facts.party(|role| role == Role::Hpa).is_none() || name.starts_with(KEDA_PREFIX) {
        return Vec::new();
    }
    vec![Remedy {
        kind: RemedyKind::Delete,
        title: format!("delete the HorizontalPodAutoscaler {name}"),
        command: facts.kubectl_on("delete", Target { resource: HPA, namespace: facts.namespace, name }),
        changes: format!("{} no longer scales with the load", facts.name),
        tradeoff: "no autoscaling of this object; the settings of the autoscaler are lost. If it is in a repository, \
                   it is created again"
            .into(),
        undo: None,
    }]
}

/// Returns the name of the ScaledObject that scales the object, if it takes part.
fn scaled_object(facts: &Facts<'_>) -> Option<String> {
    let Autoscaler { name, owner } = facts.autoscaler.as_ref()?;
    let is_party = facts.party(|role| role == Role::Hpa).is_some() || is_keda(facts);
    match owner {
        Some(Owner { kind, name, .. }) if kind == "ScaledObject" && is_party => Some(name.clone()),
        // The owner may not be in the log.
        _ => name.strip_prefix(KEDA_PREFIX).filter(|_| is_party && is_keda(facts)).map(str::to_owned),
    }
}

fn is_keda(facts: &Facts<'_>) -> bool {
    facts.parties.iter().any(|party| party.role == Role::Autoscaler && party.actor.contains("keda"))
}
