//! Recipes for webhooks and policies.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::kubectl::argument;
use super::{Facts, Party, Remedy, RemedyKind, short_hash};
use crate::detect::actor_class::Role;
use crate::detect::instance::account;
use crate::util::shell::quoted;

/// The prefix of the annotations that tell cert-manager's cainjector where the CA bundle is.
const INJECT: &str = "cert-manager.io/inject-";

/// Exempt the other parties from a mutating webhook, or the object from a policy of Kyverno.
pub(super) fn exempt(facts: &Facts<'_>) -> Vec<Remedy> {
    let is_kyverno = |party: &Party<'_>| party.role == Role::Policy && party.actor.contains("kyverno");
    if let Some(party) = facts.parties.iter().find(|party| is_kyverno(party)) {
        return vec![exclude_in_kyverno(facts, party)];
    }
    facts.parties.iter().filter_map(|party| exempt_from_webhook(facts, party.actor)).collect()
}

fn exempt_from_webhook(facts: &Facts<'_>, actor: &str) -> Option<Remedy> {
    let (configuration, webhook) = actor.strip_prefix("webhook ")?.split_once('/')?;
    // Only accounts have names that a condition can compare.
    let others = facts.parties.iter().map(|party| party.actor).filter(|other| !other.starts_with("webhook "));
    let others: BTreeSet<&str> = others.map(account).collect();
    if others.is_empty() {
        return None;
    }
    let exempt: Vec<String> =
        others.iter().map(|other| format!("request.userInfo.username != {}", Value::from(*other))).collect();
    let exempt = exempt.join(" && ");
    // Conditions of the same name replace each other.
    let name = format!("editwar-exempt-{}", short_hash(&exempt));
    let patch = |condition: Value| {
        let patch = json!({"webhooks": [{"name": webhook, "matchConditions": [condition]}]});
        format!(
            "{} patch {} --type=strategic -p {}",
            facts.program(),
            argument("mutatingwebhookconfigurations.admissionregistration.k8s.io", configuration),
            quoted(&patch.to_string())
        )
    };
    Some(Remedy {
        kind: RemedyKind::Change,
        title: format!("exempt {} from the webhook {webhook}", facts.rivals(actor)),
        command: patch(json!({"name": name, "expression": exempt})),
        changes: "the webhook no longer sees these requests; its other conditions stay".into(),
        tradeoff: format!("{webhook} has no effect on their requests, for all objects"),
        undo: Some(patch(json!({"name": name, "$patch": "delete"}))),
    })
}

/// Kyverno maintains its webhook configuration itself and reverts changes within a second.
fn exclude_in_kyverno(facts: &Facts<'_>, party: &Party<'_>) -> Remedy {
    Remedy::show(
        format!("exclude {} in the Kyverno policy that changes {}", facts.title(), facts.field_names(party.actor)),
        format!("{} get clusterpolicies.kyverno.io,policies.kyverno.io -A -o wide", facts.program()),
        "add the object to the `exclude` block of the rule".into(),
    )
}

/// Choose between cert-manager's CA bundle and that of the manifest.
pub(super) fn injected(facts: &Facts<'_>) -> Vec<Remedy> {
    let Some(party) = facts.party(|role| role == Role::CertManager) else { return Vec::new() };
    if !facts.fields_of(party.actor).iter().any(|field| field.path.ends_with("caBundle")) {
        return Vec::new();
    }
    vec![Remedy::show(
        "if cert-manager must not set the CA bundle, remove its annotation from the manifest".into(),
        format!("{} -o jsonpath={}", facts.kubectl("get"), quoted(r#"{.metadata.annotations}{"\n"}"#)),
        format!("the annotation is the one that begins with {INJECT}"),
    )]
}

/// Investigate a policy or webhook that alternately accepts and rejects.
pub(super) fn flapping(facts: &Facts<'_>) -> Vec<Remedy> {
    facts.flapping.and_then(|flapping| investigate(facts, flapping)).into_iter().collect()
}

fn investigate(facts: &Facts<'_>, flapping: &str) -> Option<Remedy> {
    let (kind, name) = flapping.split_once(' ')?;
    let (title, target) = match kind {
        "policy" => ("the policy", argument("validatingadmissionpolicies.admissionregistration.k8s.io", name)),
        _ => (
            "the configuration of the webhook",
            "validatingwebhookconfigurations.admissionregistration.k8s.io".to_owned(),
        ),
    };
    Some(Remedy::show(
        format!("find out why {title} {name} decides differently about the same request"),
        format!("{} get {target} -o yaml", facts.program()),
        "make its decisions independent of time, chance and order".into(),
    ))
}
