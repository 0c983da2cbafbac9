//! Recipes for controllers that have no recipes of their own, and for two installations of one program.

use std::collections::{BTreeMap, BTreeSet};

use super::kubectl::Target;
use super::{Facts, Owner, Party, Remedy, Setting, is_word};
use crate::detect::actor_class::Role;
use crate::detect::instance::service_account;
use crate::util::shell::quoted;

/// Change what a controller derives the object from.
pub(super) fn source(facts: &Facts<'_>) -> Vec<Remedy> {
    let is_program = |party: &&Party<'_>| {
        matches!(party.role, Role::Operator | Role::AddonManager)
            && Some(party.actor) != facts.honouring
            && !party.actor.contains(" via ")
    };
    let Some(party) = facts.parties.iter().find(is_program) else { return Vec::new() };
    let names = facts.field_names(party.actor);
    let what = if names.is_empty() { facts.title() } else { names };
    let is_plain = |owner: &&Owner| is_word(&owner.kind) && owner.api_version.split('/').all(is_word);
    match facts.owner.as_ref().filter(is_plain) {
        Some(owner) => {
            // kubectl accepts `KIND.VERSION.GROUP`, so the resource need not be known.
            let kind = match owner.api_version.split_once('/') {
                Some((group, version)) => format!("{}.{version}.{group}", owner.kind),
                None => owner.kind.clone(),
            };
            let get =
                facts.kubectl_on("get", Target { resource: &kind, namespace: facts.namespace, name: &owner.name });
            let setting = facts.setting(party.actor, &owner.kind, &owner.name);
            let title = setting.map(|Setting { kind, name, path, .. }| {
                format!("remove {path} from the {kind} {name}, from which {} sets {what}", party.actor)
            });
            vec![Remedy::show(
                title.unwrap_or_else(|| {
                    let Owner { kind, name, .. } = owner;
                    format!("leave {what} out of the {kind} {name}, from which {} makes the object", party.actor)
                }),
                format!("{get} -o yaml"),
                "find the setting, and remove it".into(),
            )]
        }
        None => vec![Remedy {
            title: format!("find the setting of {} for {what}, and remove it", party.actor),
            ..owners_of_fields(facts)
        }],
    }
}

/// Stop one of two installations of a program: replicas of one account that write against each other, or accounts of the
/// same name in two namespaces.
pub(super) fn installations(facts: &Facts<'_>) -> Vec<Remedy> {
    let mut installations: BTreeMap<(&str, &str), BTreeSet<&String>> = BTreeMap::new();
    for party in &facts.parties {
        let Some((namespace, name)) = service_account(party.actor) else { return Vec::new() };
        let pods = party.pods.iter().filter(|pod| is_word(pod));
        installations.entry((name, namespace)).or_default().extend(pods);
    }
    let is_one_program = installations.keys().map(|(name, _)| name).collect::<BTreeSet<_>>().len() == 1;
    let is_several = installations.len() > 1 || installations.values().any(|pods| pods.len() > 1);
    let Some((program, _)) = installations.keys().next().filter(|_| is_one_program && is_several) else {
        return Vec::new();
    };
    let commands = installations.iter().map(|((_, namespace), pods)| {
        let pods: String = pods.iter().map(|pod| format!(" {}", quoted(pod))).collect();
        format!("{} get pods -n {}{pods} -o wide", facts.program(), quoted(namespace))
    });
    vec![Remedy::show(
        format!("if {program} is installed twice, remove one installation"),
        commands.collect::<Vec<_>>().join("; "),
        "the output shows the pods that may write the object".into(),
    )]
}

/// What to do if nothing better is known.
pub(super) fn owners_of_fields(facts: &Facts<'_>) -> Remedy {
    Remedy::show(
        "check which actor owns which field, and remove it from one of them".into(),
        format!("{} -o yaml --show-managed-fields", facts.kubectl("get")),
        "the output shows which program owns which field".into(),
    )
}
