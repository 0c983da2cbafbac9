//! A Job that is deleted after it has finished, and a tool that creates it again.

use crate::check::applier;
use crate::check::field::Path;
use crate::check::finding::{Certainty, Contender, Finding};
use crate::check::gitops::{Repeats, Write};
use crate::check::remedies::{self, Opponent};
use crate::check::snapshot::{Object, Snapshot};
use crate::detect::actor_class::Role;

/// Returns the findings.
pub(super) fn find(snapshot: &Snapshot) -> Vec<Finding> {
    snapshot.of_kind("batch", "Job").filter_map(|object| of(snapshot, object)).collect()
}

fn of(snapshot: &Snapshot, object: &Object) -> Option<Finding> {
    // Hooks of Argo CD and Helm run once for each sync or release.
    if object.annotation("argocd.argoproj.io/hook").is_some() || object.annotation("helm.sh/hook").is_some() {
        return None;
    }
    let ttl = Path::keys(&["spec", "ttlSecondsAfterFinished"]);
    let claim = applier::claims(snapshot, object, &ttl, None, &[]).into_iter().next()?;
    let write = Write { object, path: None, opponents: &[] };
    let repeats = applier::repeats(snapshot, &claim.applier, write)?;
    let seconds = ttl.value(object.wanted()).and_then(serde_json::Value::as_u64)?;
    let (certainty, when) = match repeats {
        Repeats::ByItself(when) => (Certainty::Bound, when),
        // Who runs a pipeline wants the Job to run each time. A tool may apply the same manifest.
        Repeats::When(when) if object.manifest.is_some() && has_gitops(snapshot) => {
            (Certainty::Possible, format!("{when}, if a GitOps tool does so"))
        }
        Repeats::When(_) => return None,
    };
    let source = super::source_of(&claim.applier, object);
    let opponent = Opponent { actor: "kube-controller-manager (Update)", role: Role::InTree, autoscaler: None };
    Some(Finding {
        rule: "expiring_job",
        certainty,
        object: object.id.clone(),
        more_objects: Vec::new(),
        fields: vec!["(object)".to_owned()],
        contenders: vec![
            Contender { name: claim.applier.name.clone(), does: "creates it, and so runs it again".to_owned() },
            Contender {
                name: "kube-controller-manager".to_owned(),
                does: format!("deletes it {seconds}s after it has finished"),
            },
        ],
        evidence: vec![claim.applier.evidence.clone(), format!("{ttl} is {seconds}")],
        when,
        advice: format!("leave ttlSecondsAfterFinished out of the Job in {source}, or use a CronJob"),
        remedies: remedies::against(snapshot, object, &claim.applier, opponent, &[]),
        involved: vec![object.id.clone()],
    })
}

/// Whether the cluster has applications of GitOps tools.
fn has_gitops(snapshot: &Snapshot) -> bool {
    let kinds = [("argoproj.io", "Application"), ("kustomize.toolkit.fluxcd.io", "Kustomization")];
    kinds.into_iter().any(|(group, kind)| snapshot.of_kind(group, kind).next().is_some())
}
