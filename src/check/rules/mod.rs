//! The rules, each for one constellation of contenders.

mod admission;
mod autoscaler;
mod ca_bundle;
mod certificate;
mod cluster_role;
mod controlled;
mod installations;
mod job;
mod kyverno;
mod owners;

use super::applier::{Applier, title};
use super::finding::Finding;
use super::snapshot::{Object, Snapshot};

/// The rules, in the order in which they are documented.
pub const RULES: &[Rule] = &[
    Rule {
        name: "autoscaler_and_manifest",
        title: "no manifest sets the replicas of an autoscaler's target",
        find: autoscaler::against_manifest,
    },
    Rule {
        name: "two_autoscalers",
        title: "no two autoscalers act on one target",
        find: |snapshot| {
            let mut found = autoscaler::two_on_one_target(snapshot);
            found.extend(autoscaler::vertical_and_horizontal(snapshot));
            found
        },
    },
    Rule { name: "injected_ca_bundle", title: "no manifest sets an injected CA bundle", find: ca_bundle::find },
    Rule { name: "two_owners", title: "no object is applied for two applications", find: owners::find },
    Rule {
        name: "aggregated_rules",
        title: "no manifest sets the rules of an aggregated ClusterRole",
        find: cluster_role::find,
    },
    Rule { name: "expiring_job", title: "no tool creates a Job again that expires", find: job::find },
    Rule {
        name: "policy_and_manifest",
        title: "no Kyverno policy sets what a manifest sets differently",
        find: kyverno::find,
    },
    Rule {
        name: "admission_and_manifest",
        title: "no webhook replaces what Argo CD applies",
        find: |snapshot| admission::find(snapshot, &kyverno::find(snapshot)),
    },
    Rule { name: "shared_secret", title: "no two Certificates have one Secret", find: certificate::find },
    Rule { name: "two_installations", title: "no controller is installed twice", find: installations::find },
    Rule {
        name: "controlled_object",
        title: "no tool applies an object that a controller maintains",
        find: controlled::find,
    },
];

/// A rule.
pub struct Rule {
    /// Its name in JSON.
    pub name: &'static str,
    /// What holds if it finds nothing.
    pub title: &'static str,
    find: fn(&Snapshot) -> Vec<Finding>,
}

// === impl Rule ===

impl Rule {
    /// Returns what the rule finds.
    pub(super) fn findings(&self, snapshot: &Snapshot) -> Vec<Finding> {
        (self.find)(snapshot)
    }
}

/// Stands for the fields in a finding about all of them.
const ALL_FIELDS: &str = "(fields of both manifests)";

/// Returns where a field is to be left out, for a sentence.
fn source_of(applier: &Applier<'_>, object: &Object) -> String {
    match (&object.manifest, &applier.application) {
        (Some(manifest), _) => manifest.source.clone(),
        (None, Some(application)) => format!("the manifests of {}", title(application)),
        (None, None) if applier.name == "kubectl apply" => "the manifest that is applied with kubectl".to_owned(),
        (None, None) => format!("what {} applies", applier.name),
    }
}
