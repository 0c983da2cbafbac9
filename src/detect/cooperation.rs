//! Co-operation: actors that write the same field by design, such as handshakes, shared counters, locks and restarts.
//! It is not a war. If it happens too often, it is reported under a name of its own.
//!
//! A mechanism that events show takes precedence over a row of the table: see `field_history` (the author of a value
//! removes it; a scale of zero beside scales above zero) and `existence` (a finished Job, an owned Pod). Rows are for
//! what events cannot show: that one side requests something and the other one consumes the request.

use super::actor::Client;
use super::write::Part;
use crate::util::glob::is_match;

/// A designed co-operation. In patterns, `*` matches any number of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name, by which a configuration can switch the row off.
    pub name: String,
    /// The `resource.group` of the objects, or only the resource in the core group.
    pub resource: String,
    /// The path of the field; `(object)` for creation and deletion.
    pub path: String,
    /// The two sides, in either order.
    pub sides: (String, String),
    /// Why it is not a war, in one sentence.
    pub reason: String,
    /// Its name if it happens too often; `None` if that is normal.
    pub excess: Option<String>,
}

/// All known co-operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cooperations {
    rows: Vec<Row>,
    /// The rows that can apply to a part (main, status) whose fields are not known. They are consulted at every write
    /// to an object with several writers at audit level Metadata.
    of_parts: [Vec<usize>; 2],
}

/// The name of the mechanism by which a Pod is deleted to restart it.
pub const RESTART: &str = "pod-restart";
/// The name of the mechanism by which a finished Job is removed, and created again.
pub const FINISHED_JOB: &str = "finished-job";
/// The name of the mechanism by which the program that is named in a key removes that annotation or label.
pub const CONSUMED_MARK: &str = "consumed-mark";
/// The name of the mechanism by which one of two scalers only switches between zero and more.
pub const ACTIVATION: &str = "activation";

/// Matches all actors.
const ANY: &str = "*";
const LEADER: Option<&str> = Some("leader flapping");
const CONDITION: Option<&str> = Some("flapping condition");
const NEVER: Option<&str> = None;

/// A built-in row: name, resource, path, the two sides, reason, excess.
type BuiltIn =
    (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str, Option<&'static str>);

/// The built-in rows; the first that matches decides. Sources: the types and controllers of the projects themselves.
#[rustfmt::skip]
const ROWS: &[BuiltIn] = &[
    // Locks: one holder after another.
    ("lease", "leases.coordination.k8s.io", "*", ANY, ANY, "a Lease is a lock: its holders take turns", LEADER),
    ("leader-annotation", "*", "metadata.annotations['control-plane.alpha.kubernetes.io/leader']", ANY, ANY,
        "the annotation is a leader lock: its holders take turns", LEADER),
    ("patroni-leader", "*", "metadata.annotations.leader", ANY, ANY, "Patroni keeps its leader lock in this annotation", LEADER),
    ("patroni-leader", "endpoints", "metadata.annotations.*", "*postgres*", "*postgres*",
        "Patroni keeps its leader lock and its configuration in the annotations of this object", LEADER),
    ("kured-lock", "daemonsets.apps", "metadata.annotations['*-node-lock']", ANY, ANY,
        "the annotation is the lock of nodes that reboot one after another", LEADER),
    ("lock-holder", "*", "*holderIdentity", ANY, ANY, "the field names the holder of a lock: its holders take turns", LEADER),
    ("terraform-state", "secrets", "data.tfstate", ANY, ANY, "each Terraform run writes its resulting state", NEVER),
    // Counters that one side counts up and the other one down.
    ("quota-usage", "resourcequotas", "status.*", "system:apiserver", "*resourcequota-controller",
        "admission increases the usage, and the quota controller corrects it", NEVER),
    // Nodes: the kubelet says how it is, others that they do not hear from it.
    ("node-conditions", "nodes", "status.*", "system:node:*", "*node-*controller",
        "the node controller marks a silent node as unknown, and the kubelet reverts this when it reports again", CONDITION),
    ("node-conditions", "nodes", "status.*", "system:node:*", "*cloud-*", "the cloud controller adds what the kubelet does not know", CONDITION),
    ("node-taints", "nodes", "spec.taints*", "*node-*controller", ANY,
        "the node controller adds taints for the conditions of a node, and removes them again", CONDITION),
    ("autoscaler-taints", "nodes", "spec.taints[key=*OfClusterAutoscaler*", "*cluster-autoscaler*", ANY,
        "the autoscaler marks a node that it may remove, and removes the mark again", NEVER),
    ("autoscaler-taints", "nodes", "spec.taints[key=*ByClusterAutoscaler*", "*cluster-autoscaler*", ANY,
        "the autoscaler marks a node that it removes, and removes the mark again", NEVER),
    ("karpenter-taints", "nodes", "spec.taints[key=*karpenter.sh/*", "*karpenter*", ANY,
        "Karpenter marks a node that it may remove, and removes the mark again", NEVER),
    ("node-cordon", "nodes", "spec.unschedulable", "*machine-config-controller", ANY, "a node is cordoned for an update and uncordoned after it", NEVER),
    ("node-cordon", "nodes", "spec.unschedulable", "*:kured", "*:kured", "a node is cordoned for a reboot and uncordoned after it", NEVER),
    ("machine-config", "nodes", "metadata.annotations['machineconfiguration.openshift.io/*']", "*:machine-config-*", "*:machine-config-*",
        "the controller and the daemon of a node exchange requests and answers in annotations", NEVER),
    // Volumes: each side does its part.
    ("volume-binding", "persistentvolumes", "spec.claimRef*", "*:persistent-volume-binder", ANY, "the binder completes the work of a provisioner", NEVER),
    ("volume-node", "persistentvolumeclaims", "metadata.annotations['volume.kubernetes.io/selected-node']", "system:kube-scheduler", ANY,
        "the scheduler proposes a node, and a provisioner that cannot serve it removes the proposal", NEVER),
    ("volume-resize", "persistentvolumeclaims", "status.*", "system:node:*", ANY, "the resizer and the kubelet each do their part of a resize", NEVER),
    // Requests by annotation or field, which their controller consumes.
    ("argocd-operation", "applications.argoproj.io", "operation*", ANY, "*application-controller*",
        "setting `operation` requests a sync, and the application controller removes it again", NEVER),
    ("argocd-operation", "applications.argoproj.io", "status.operationState*", ANY, "*application-controller*",
        "a sync request clears the state of the last sync, and the application controller writes the new state", NEVER),
    ("argocd-refresh", "applications.argoproj.io", "metadata.annotations['argocd.argoproj.io/*']", ANY, "*application-controller*",
        "the annotation requests a refresh, and the application controller removes it again", NEVER),
    ("argocd-refresh", "applicationsets.argoproj.io", "metadata.annotations['argocd.argoproj.io/*']", ANY, "*applicationset-controller*",
        "the annotation requests a refresh, and the controller removes it again", NEVER),
    ("rollout-pause", "rollouts.argoproj.io", "status.pauseConditions*", ANY, "*argo-rollouts*",
        "the controller pauses at a step, and a promotion clears the pause", NEVER),
    ("restarted-at", "*", "*annotations['kubectl.kubernetes.io/restartedAt']", ANY, ANY, "each restart writes its time here", NEVER),
    ("restarted-at", "rollouts.argoproj.io", "spec.restartAt", ANY, ANY, "each restart writes its time here", NEVER),
    ("requested-at", "*", "metadata.annotations['*/*equestedAt']", ANY, ANY, "writing the time here requests a reconciliation", NEVER),
    ("requested-at", "*", "metadata.annotations['*/*equested-at']", ANY, ANY, "writing the time here requests a reconciliation", NEVER),
    ("requested-at", "*.toolkit.fluxcd.io", "metadata.annotations['reconcile.fluxcd.io/*']", ANY, ANY,
        "writing the time here requests a reconciliation", NEVER),
    ("force-sync", "*", "metadata.annotations*force-sync*", ANY, ANY, "writing a new value here requests a synchronisation", NEVER),
    ("certificate-issuing", "certificates.cert-manager.io", "status.conditions[type=Issuing]*", "*cert-manager*", ANY,
        "setting `Issuing` requests a certificate, and cert-manager removes it when the certificate is issued", NEVER),
    ("certificate-issuing", "certificates.cert-manager.io", "status.nextPrivateKeySecretName", "*cert-manager*", "*cert-manager*",
        "one controller of cert-manager names the next key, and another one uses it", NEVER),
    ("kueue-admission", "*", "spec.suspend", "*kueue*", ANY, "a suspended job waits for admission, and Kueue resumes it", NEVER),
    ("scheduling-gates", "pods", "spec.schedulingGates*", ANY, ANY, "a scheduling gate exists to be removed by its controller", NEVER),
    ("velero-phase", "*.velero.io", "status.*", "*:velero", "*:velero", "the server and the agents of Velero advance the phase", NEVER),
    ("longhorn-owner", "*.longhorn.io", "status.*", "*longhorn*", "*longhorn*", "the managers of Longhorn hand over the responsibility", NEVER),
    // Mechanisms, which the events show; a configuration may switch them off by these names.
    (CONSUMED_MARK, MECHANISM, "", ANY, ANY, "the mark is a request to a program, which removes it when the request is done", NEVER),
    (ACTIVATION, MECHANISM, "", ANY, ANY, "one side only switches between zero and more, and the other one only scales what runs", NEVER),
    (RESTART, MECHANISM, "", ANY, ANY, "deleting a Pod of a controller restarts it", Some("restart loop")),
    (FINISHED_JOB, MECHANISM, "", ANY, ANY, "a finished Job is deleted after some time, and the next Job has the same name", Some("noisy job")),
];

/// Used instead of a resource for mechanisms, so that no object matches the row by name.
const MECHANISM: &str = "-";

/// Parts of annotation domains that do not identify a program.
const COMMON_LABELS: &[&str] =
    &["kubernetes", "x-k8s", "github", "example", "cluster", "apps", "controller", "operator"];

// === impl Cooperations ===

impl Cooperations {
    /// Returns these rows followed by the built-in ones, without the rows whose names are in `off`.
    pub fn with(first: Vec<Row>, off: &[String]) -> Cooperations {
        let built_in = ROWS.iter().map(|(name, resource, path, left, right, reason, excess)| Row {
            name: (*name).into(),
            resource: (*resource).into(),
            path: (*path).into(),
            sides: ((*left).into(), (*right).into()),
            reason: (*reason).into(),
            excess: excess.map(Into::into),
        });
        let rows: Vec<Row> = first.into_iter().chain(built_in).filter(|row| !off.contains(&row.name)).collect();
        let of_parts = ["(main)", "(status)"].map(|part| {
            let is_possible = |index: &usize| rows[*index].resource != MECHANISM && is_path(&rows[*index].path, part);
            (0..rows.len()).filter(is_possible).collect()
        });
        Cooperations { rows, of_parts }
    }

    /// Returns the co-operation of two actors over a part of an object whose fields are not known.
    pub fn find_part(&self, resource: &str, part: Part, a: &Client, b: &Client) -> Option<&Row> {
        let rows = self.of_parts[part as usize].iter().map(|index| &self.rows[*index]);
        rows.filter(|row| is_match(&row.resource, resource)).find(|row| row.is_of(a, b))
    }

    /// Returns the names of the built-in rows, without duplicates.
    pub fn names() -> Vec<&'static str> {
        let mut names: Vec<&str> = ROWS.iter().map(|row| row.0).collect();
        names.dedup();
        names
    }

    /// Returns the co-operation of two actors over one field of an object.
    pub fn find(&self, resource: &str, path: &str, a: &Client, b: &Client) -> Option<&Row> {
        self.rows.iter().find(|row| is_match(&row.resource, resource) && is_path(&row.path, path) && row.is_of(a, b))
    }

    /// Returns the row of a mechanism, unless it is switched off.
    pub fn mechanism(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }
}

// === impl Row ===

impl Row {
    /// Whether the two clients match its sides, in either order.
    fn is_of(&self, a: &Client, b: &Client) -> bool {
        let side = |pattern: &str, client: &Client| is_match(pattern, &client.actor);
        let (left, right) = (&self.sides.0, &self.sides.1);
        (side(left, a) && side(right, b)) || (side(left, b) && side(right, a))
    }
}

impl Default for Cooperations {
    fn default() -> Cooperations {
        Cooperations::with(Vec::new(), &[])
    }
}

/// Whether a path matches a pattern. If the fields are not known, `(status)` matches every pattern of a status field.
fn is_path(pattern: &str, path: &str) -> bool {
    if path == "(status)" && pattern.starts_with("status.") {
        return true;
    }
    is_match(pattern, path)
}

/// Whether the key of an annotation or label names this client, as `strimzi.io/manual-rolling-update` names
/// `strimzi-cluster-operator`. A client that removes such a mark has done what the mark requested.
pub fn is_own_mark(path: &str, client: &Client) -> bool {
    let is_mark = path.starts_with("metadata.annotations['") || path.starts_with("metadata.labels['");
    let Some((domain, _)) = path.split_once("['").and_then(|(_, key)| key.split_once('/')) else { return false };
    let is_telling = |label: &&str| label.len() >= 4 && !COMMON_LABELS.contains(label);
    is_mark
        && domain.split('.').filter(is_telling).any(|label| client.actor.contains(label) || client.tool.contains(label))
}

#[cfg(test)]
#[path = "cooperation/tests.rs"]
mod tests;
