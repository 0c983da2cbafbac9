//! A CA bundle that a controller injects, and a manifest that has one too.
//!
//! Sources: cert-manager (`docs/concepts/ca-injector`), OpenShift (service-ca-operator, `README.md`).

use serde_json::Value;

use crate::check::applier;
use crate::check::field::Path;
use crate::check::finding::{Contender, Finding};
use crate::check::remedies::{self, Opponent};
use crate::check::snapshot::{Object, Snapshot};
use crate::detect::actor_class::Role;

/// A program that injects CA bundles into objects with its annotation.
struct Injector {
    /// The beginning of the annotation.
    annotation: &'static str,
    name: &'static str,
    /// Its field managers.
    managers: &'static [&'static str],
    /// The first of them with its operation.
    actor: &'static str,
    role: Role,
}

const INJECTORS: &[Injector] = &[
    Injector {
        annotation: "cert-manager.io/inject-",
        name: "cert-manager's cainjector",
        managers: &["cert-manager-cainjector", "cainjector"],
        actor: "cert-manager-cainjector (Apply)",
        role: Role::CertManager,
    },
    Injector {
        annotation: "service.beta.openshift.io/inject-cabundle",
        name: "OpenShift's service-ca-operator",
        managers: &["service-ca-operator"],
        actor: "service-ca-operator (Update)",
        role: Role::Operator,
    },
];

/// Returns the findings.
pub(super) fn find(snapshot: &Snapshot) -> Vec<Finding> {
    snapshot.objects().filter_map(|object| of(snapshot, object)).collect()
}

fn of(snapshot: &Snapshot, object: &Object) -> Option<Finding> {
    let paths = paths(object);
    if paths.is_empty() {
        return None;
    }
    let (injector, annotation) =
        INJECTORS.iter().find_map(|injector| Some((injector, annotation(object, injector)?)))?;
    let claimed: Vec<_> = paths
        .into_iter()
        .filter_map(|path| {
            let claims = applier::claims(snapshot, object, &path, None, injector.managers);
            let claim = claims.into_iter().find(|claim| !is_injected(object, &path, claim.value.as_ref(), injector))?;
            Some((path, claim))
        })
        .collect();
    let (_, claim) = claimed.first()?;
    let paths: Vec<Path> = claimed.iter().map(|(path, _)| path.clone()).collect();
    let opponent = Opponent { actor: injector.actor, role: injector.role, autoscaler: None };
    let source = super::source_of(&claim.applier, object);
    let names: Vec<String> = paths.iter().map(Path::to_string).collect();
    let advice = format!("leave {} out of {source}, or remove the annotation there", names.join(", "));
    Some(Finding {
        rule: "injected_ca_bundle",
        certainty: claim.certainty(),
        object: object.id.clone(),
        more_objects: Vec::new(),
        fields: names,
        contenders: vec![
            Contender { name: claim.applier.name.clone(), does: "sets it to the value in the manifest".to_owned() },
            Contender { name: injector.name.to_owned(), does: "replaces it with the CA bundle".to_owned() },
        ],
        evidence: vec![claim.applier.evidence.clone(), format!("the object has the annotation {annotation}")],
        when: claim.when(),
        advice,
        remedies: remedies::against(snapshot, object, &claim.applier, opponent, &paths),
        involved: vec![object.id.clone()],
    })
}

/// Returns the paths of the CA bundles of an object.
fn paths(object: &Object) -> Vec<Path> {
    match (object.id.group.as_str(), object.id.kind.as_str()) {
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            let webhooks = object.wanted()["webhooks"].as_array().into_iter().flatten();
            let names = webhooks.filter_map(|webhook| webhook["name"].as_str());
            names.map(|name| Path::keys(&["webhooks"]).item(name).key("clientConfig").key("caBundle")).collect()
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            vec![Path::keys(&["spec", "conversion", "webhook", "clientConfig", "caBundle"])]
        }
        ("apiregistration.k8s.io", "APIService") => vec![Path::keys(&["spec", "caBundle"])],
        ("", "ConfigMap") => vec![Path::keys(&["data", "service-ca.crt"])],
        _ => Vec::new(),
    }
}

/// Returns the annotation that asks for the injection.
fn annotation<'s>(object: &'s Object, injector: &Injector) -> Option<&'s str> {
    let manifest = object.manifest.as_ref().map(|manifest| &manifest.body);
    let states = [manifest, object.live.as_ref()];
    let keys = states.into_iter().flatten().filter_map(|state| state["metadata"]["annotations"].as_object());
    keys.flat_map(serde_json::Map::iter)
        .find(|(key, value)| {
            key.starts_with(injector.annotation) && value.as_str().is_some_and(|text| !text.is_empty())
        })
        .map(|(key, _)| key.as_str())
}

/// Whether the value of a manifest is the one that was injected, so that nobody changes anything.
fn is_injected(object: &Object, path: &Path, value: Option<&Value>, injector: &Injector) -> bool {
    let is_owner =
        object.managed().any(|entry| injector.managers.contains(&entry.manager) && path.is_owned(entry.fields));
    let live = object.live.as_ref().and_then(|live| path.value(live));
    is_owner && live.is_some() && live == value
}
