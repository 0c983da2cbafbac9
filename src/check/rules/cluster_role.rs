//! An aggregated ClusterRole, whose rules Kubernetes fills in, and a manifest that has rules too.

use crate::check::applier::{self, Applier};
use crate::check::field::Path;
use crate::check::finding::{Certainty, Contender, Finding};
use crate::check::gitops::{self, Write};
use crate::check::remedies::{self, Opponent};
use crate::check::snapshot::{Object, Snapshot};
use crate::detect::actor_class::Role;

/// The field manager of the controller.
const CONTROLLER: &str = "clusterrole-aggregation-controller";

/// Returns the findings.
pub(super) fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let roles = snapshot.of_kind("rbac.authorization.k8s.io", "ClusterRole").filter(|object| is_aggregated(object));
    roles.filter_map(|object| by_claim(snapshot, object).or_else(|| by_state(snapshot, object))).collect()
}

/// Whether Kubernetes fills in the rules. ClusterRoles are read without anything but their metadata.
fn is_aggregated(object: &Object) -> bool {
    let rule = Path::keys(&["aggregationRule"]);
    let is_in = |value: &serde_json::Value| rule.value(value).is_some_and(serde_json::Value::is_object);
    match &object.manifest {
        Some(manifest) => is_in(&manifest.body),
        None => {
            object.live.as_ref().is_some_and(is_in)
                || object.last_applied().as_ref().is_some_and(is_in)
                || object.managed().any(|entry| rule.is_owned(entry.fields))
        }
    }
}

/// The manifest has rules.
fn by_claim(snapshot: &Snapshot, object: &Object) -> Option<Finding> {
    let rules = Path::keys(&["rules"]);
    let claims = applier::claims(snapshot, object, &rules, None, &[CONTROLLER]);
    let is_left_alone =
        |applier: &Applier<'_>| applier.role == Role::ArgoCd && gitops::ignores_aggregated_roles(snapshot);
    let claim = claims.into_iter().find(|claim| !is_left_alone(&claim.applier))?;
    let evidence = vec![claim.applier.evidence.clone()];
    Some(finding(snapshot, object, &claim.applier, claim.certainty(), claim.when(), evidence))
}

/// Argo CD creates RBAC objects without storing the manifest. Then the state of the Application shows whether it has
/// rules.
fn by_state(snapshot: &Snapshot, object: &Object) -> Option<Finding> {
    if gitops::ignores_aggregated_roles(snapshot) || object.last_applied().is_some() || object.manifest.is_some() {
        return None;
    }
    let appliers = applier::appliers(snapshot, object);
    let applier = appliers.into_iter().find(|applier| applier.role == Role::ArgoCd)?;
    let application = gitops::object_of(snapshot, applier.application.as_ref()?)?;
    let is_synced = gitops::is_synced(application, &object.id)?;
    let write = Write { object, path: Some(&Path::keys(&["rules"])), opponents: &[CONTROLLER] };
    let repeats = applier::repeats(snapshot, &applier, write)?;
    let gitops::Repeats::ByItself(when) = repeats else { return None };
    let evidence = format!("{} says that the object is not as in its repository", application.id);
    (!is_synced).then(|| finding(snapshot, object, &applier, Certainty::Possible, when, vec![evidence]))
}

fn finding(
    snapshot: &Snapshot,
    object: &Object,
    applier: &Applier<'_>,
    certainty: Certainty,
    when: String,
    mut evidence: Vec<String>,
) -> Finding {
    let rules = Path::keys(&["rules"]);
    evidence.push("the object has an aggregationRule".to_owned());
    let opponent =
        Opponent { actor: "clusterrole-aggregation-controller (Apply)", role: Role::InTree, autoscaler: None };
    Finding {
        rule: "aggregated_rules",
        certainty,
        object: object.id.clone(),
        more_objects: Vec::new(),
        fields: vec![rules.to_string()],
        contenders: vec![
            Contender { name: applier.name.clone(), does: "sets them to what is in the manifest".to_owned() },
            Contender { name: CONTROLLER.to_owned(), does: "sets them to the rules of other ClusterRoles".to_owned() },
        ],
        evidence,
        when,
        advice: format!("leave rules out of {}, also an empty list", super::source_of(applier, object)),
        remedies: remedies::against(snapshot, object, applier, opponent, std::slice::from_ref(&rules)),
        involved: vec![object.id.clone()],
    }
}
