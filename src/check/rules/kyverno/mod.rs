//! A policy of Kyverno that sets what somebody applies with another value.
//!
//! A policy for existing objects writes by itself, against any tool. A policy for requests changes what is applied. That
//! ends in a fight with tools that compare on the client side, such as Argo CD, but not with those that compare by a
//! dry-run, which passes through the policy too, such as Flux.

mod policy;

use std::collections::BTreeMap;

use serde_json::Value;

use self::policy::{Mutation, Setting, mutations};
use crate::check::applier::{self, Applier, Claim};
use crate::check::field::Path;
use crate::check::finding::{Certainty, Contender, Finding};
use crate::check::remedies::{self, Opponent};
use crate::check::snapshot::{Object, Snapshot};
use crate::detect::actor_class::Role;

/// The field managers of Kyverno.
const MANAGERS: &[&str] = &["kyverno", "background-controller", "kyverno-background-controller"];

/// Returns the findings.
pub(super) fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mutations = mutations(snapshot);
    let mut found = Vec::new();
    for mutation in &mutations {
        for object in snapshot.objects().filter(|object| mutation.selects(object)) {
            found.extend(of(snapshot, mutation, object));
        }
    }
    found
}

fn of(snapshot: &Snapshot, mutation: &Mutation<'_>, object: &Object) -> Option<Finding> {
    // Patches of several rules may set one field.
    let settings: BTreeMap<Path, Setting> =
        mutation.settings(object).into_iter().map(|setting| (setting.path.clone(), setting)).collect();
    let claimed: Vec<(Setting, Claim<'_>)> = settings
        .into_values()
        .filter_map(|setting| {
            let claims = applier::claims(snapshot, object, &setting.path, None, MANAGERS);
            let is_contested = |claim: &Claim<'_>| is_contested(mutation, object, &setting, claim);
            let claim = claims.into_iter().find(is_contested)?;
            Some((setting, claim))
        })
        .collect();
    let (_, claim) = claimed.first()?;
    let paths: Vec<Path> = claimed.iter().map(|(setting, _)| setting.path.clone()).collect();
    let (rule, policy) = (mutation.rule, mutation.policy);
    let is_certain = !mutation.is_conditional && claimed.iter().any(|(setting, _)| setting.value.is_some());
    let applied = to_values(claimed.iter().filter_map(|(_, claim)| claim.value.as_ref()));
    let set = to_values(claimed.iter().filter_map(|(setting, _)| setting.value.as_ref()));
    let it = if paths.len() == 1 { "it" } else { "them" };
    let opponent = Opponent { actor: "kyverno (Update)", role: Role::Policy, autoscaler: None };
    Some(Finding {
        rule: "policy_and_manifest",
        certainty: if is_certain { claim.certainty() } else { Certainty::Possible },
        object: object.id.clone(),
        more_objects: Vec::new(),
        fields: paths.iter().map(Path::to_string).collect(),
        contenders: vec![
            Contender { name: claim.applier.name.clone(), does: format!("sets {it}{applied}") },
            Contender { name: policy.to_string(), does: format!("sets {it}{set}") },
        ],
        evidence: vec![claim.applier.evidence.clone(), format!("rule {rule} of {policy} matches the object")],
        when: claim.when(),
        advice: format!(
            "leave {it} out of {}, or exclude the object in {policy}",
            super::source_of(&claim.applier, object)
        ),
        remedies: remedies::against(snapshot, object, &claim.applier, opponent, &paths),
        involved: vec![object.id.clone(), policy.clone()],
    })
}

/// Returns ` to 1, 2`, or nothing if no value is known.
fn to_values<'v>(values: impl Iterator<Item = &'v Value>) -> String {
    let texts: Vec<String> = values.map(Value::to_string).collect();
    if texts.is_empty() { String::new() } else { format!(" to {}", texts.join(", ")) }
}

/// Whether a policy and an applier change each other's value.
fn is_contested(mutation: &Mutation<'_>, object: &Object, setting: &Setting, claim: &Claim<'_>) -> bool {
    let is_equal = claim.value.is_some() && claim.value == setting.value;
    let fights = if mutation.is_background {
        claim.certainty() == Certainty::Bound || object.manifest.is_some()
    } else {
        compares_on_the_client(&claim.applier, object)
    };
    fights && !is_equal
}

/// Whether an applier sees what a policy for requests has changed as a difference, and applies again.
fn compares_on_the_client(applier: &Applier<'_>, object: &Object) -> bool {
    match (&object.manifest, applier.role) {
        (None, Role::ArgoCd) => object.last_applied().is_some(),
        (None, _) | (Some(_), Role::Flux) => false,
        (Some(_), _) => true,
    }
}
