//! A field that is not as Argo CD has applied it, although nobody else has written it: a webhook replaces it at each request.
//!
//! The API server attributes what a webhook changes to the requester. Argo CD compares on the client side and applies
//! again.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::check::applier::{self, Applier};
use crate::check::field::Path;
use crate::check::finding::{Certainty, Contender, Finding};
use crate::check::remedies::{self, Opponent};
use crate::check::snapshot::{Object, Snapshot};
use crate::detect::actor_class::Role;

/// Keys below which values have several notations, so that a difference may be none.
const NOTATIONS: &[&str] = &[
    "resources",
    "requests",
    "limits",
    "capacity",
    "hard",
    "sizeLimit",
    "storage",
    "divisor",
    "averageValue",
    "value",
];
/// Maximum depth of a manifest.
const DEPTH_MAX: usize = 16;

/// Returns the findings. `known` are those that name a policy.
pub(super) fn find(snapshot: &Snapshot, known: &[Finding]) -> Vec<Finding> {
    snapshot.objects().filter_map(|object| of(snapshot, object, known)).collect()
}

fn of(snapshot: &Snapshot, object: &Object, known: &[Finding]) -> Option<Finding> {
    if object.manifest.is_some() || object.live.as_ref()?.get("spec").is_none() {
        return None;
    }
    let applied = object.last_applied()?;
    let appliers = applier::appliers(snapshot, object);
    let applier = appliers.into_iter().find(|applier| applier.role == Role::ArgoCd)?;
    let is_known = |path: &Path| {
        known.iter().any(|finding| finding.object == object.id && finding.fields.contains(&path.to_string()))
    };
    let mut replaced = Vec::new();
    differences(&applied, object, &Path::default(), 0, &mut replaced);
    let claimed: Vec<_> = replaced
        .into_iter()
        .filter(|path| is_owner(object, &applier, path) && !is_known(path))
        .filter_map(|path| {
            let claims = applier::claims(snapshot, object, &path, None, &[]);
            let claim = claims.into_iter().find(|claim| claim.applier.role == Role::ArgoCd)?;
            (claim.certainty() == Certainty::Bound).then_some((path, claim))
        })
        .collect();
    let (first, claim) = claimed.first()?;
    let live = object.live.as_ref().and_then(|live| first.value(live)).map(Value::to_string).unwrap_or_default();
    let value = claim.value.as_ref().map(Value::to_string).unwrap_or_default();
    let paths: Vec<Path> = claimed.iter().map(|(path, _)| path.clone()).collect();
    let webhooks = webhooks(snapshot, object);
    let name = match webhooks.as_slice() {
        [only] => only.clone(),
        _ => "a mutating webhook or policy".to_owned(),
    };
    let mut evidence =
        vec![applier.evidence.clone(), format!("it is {live}, not {value}, and no other manager has written it")];
    if webhooks.len() > 1 {
        evidence.push(format!("these webhooks see the object: {}", webhooks.join(", ")));
    }
    Some(Finding {
        rule: "admission_and_manifest",
        certainty: Certainty::Bound,
        object: object.id.clone(),
        more_objects: Vec::new(),
        fields: paths.iter().map(Path::to_string).collect(),
        contenders: vec![
            Contender { name: claim.applier.name.clone(), does: format!("sets it to {value}") },
            Contender { name, does: format!("replaces that with {live} during admission") },
        ],
        evidence,
        when: claim.when(),
        advice: format!("set {first} to {live} in {}, or leave it out", super::source_of(&claim.applier, object)),
        remedies: remedies::against(
            snapshot,
            object,
            &claim.applier,
            Opponent { actor: "a mutating webhook", role: Role::Webhook, autoscaler: None },
            &paths,
        ),
        involved: vec![object.id.clone()],
    })
}

/// Collects the fields that the object has with another value than the manifest.
fn differences(applied: &Value, object: &Object, path: &Path, depth: usize, found: &mut Vec<Path>) {
    let Some(live) = object.live.as_ref().and_then(|live| path.value(live)) else { return };
    match applied {
        Value::Object(members) if depth < DEPTH_MAX => {
            let is_compared = |key: &str| {
                let is_bookkeeping = depth == 0 && !matches!(key, "metadata" | "spec" | "data");
                !is_bookkeeping && !NOTATIONS.contains(&key)
            };
            for (key, below) in members.iter().filter(|(key, _)| is_compared(key)) {
                differences(below, object, &path.key(key), depth + 1, found);
            }
        }
        Value::Array(items) if depth < DEPTH_MAX => {
            for (item, name) in items.iter().filter_map(|item| Some((item, item["name"].as_str()?))) {
                differences(item, object, &path.item(name), depth + 1, found);
            }
        }
        // A value of another type is a notation.
        Value::String(text) if live.is_string() && live != text => found.push(path.clone()),
        Value::Bool(_) if live.is_boolean() && live != applied => found.push(path.clone()),
        Value::Number(_) if live.is_number() && live != applied => found.push(path.clone()),
        _ => {}
    }
}

/// Whether nobody but the applier owns a field.
fn is_owner(object: &Object, applier: &Applier<'_>, path: &Path) -> bool {
    let owners: BTreeSet<String> = object
        .managed()
        .filter(|entry| path.is_owned(entry.fields))
        .map(|entry| format!("{} ({})", entry.manager, entry.operation))
        .collect();
    owners.len() == 1 && owners.contains(&applier.actor)
}

/// Returns the configurations of mutating webhooks that see the object.
fn webhooks(snapshot: &Snapshot, object: &Object) -> Vec<String> {
    let resource = object.id.resource();
    let plural = resource.split('.').next().unwrap_or_default();
    let sees = |webhook: &Value| {
        let rules = webhook["rules"].as_array().into_iter().flatten();
        rules.into_iter().any(|rule| {
            let has = |key: &str, text: &str| {
                let list = rule[key].as_array().into_iter().flatten().filter_map(Value::as_str);
                list.into_iter().any(|found| found == text || found.starts_with('*'))
            };
            has("apiGroups", &object.id.group) && has("resources", plural)
        })
    };
    let configurations = snapshot.of_kind("admissionregistration.k8s.io", "MutatingWebhookConfiguration");
    configurations
        .filter(|found| found.wanted()["webhooks"].as_array().is_some_and(|all| all.iter().any(sees)))
        .map(|found| found.id.to_string())
        .collect()
}
