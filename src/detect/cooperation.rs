//! Co-operation: actors that write the same field by design, such as handshakes, shared counters, locks and restarts.
//! It is not a war. If it happens too often, it is reported under a name of its own.
//!
//! Some co-operations can be recognised from the events alone and need no rule: see `field_history` (an author removes
//! its own value; one side only switches replicas between zero and more) and `existence` (a finished Job, an owned
//! Pod). The table has rules for those that cannot, such as requests that one side makes and the other one consumes.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::actor::Client;
use super::write::Part;
use crate::util::glob::is_match;

/// A designed co-operation. In patterns, `*` matches any number of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CooperationRule {
    /// The name, by which a configuration can switch the rule off.
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
pub struct CooperationRules {
    rules: Vec<CooperationRule>,
    /// The resources of the rules, in the same order.
    resources: Vec<ResourcePattern>,
    /// The indices of the rules that can apply to a resource with this name, in their order.
    of_names: HashMap<Box<str>, Vec<usize>, FixedState>,
    /// The indices of the rules that can apply to resources with any other name: those with a wildcard.
    of_other_names: Vec<usize>,
    /// The indices of the rules that can apply to a part (main, status) whose fields are not known. They are looked up
    /// for every write to an object with several writers at audit level Metadata.
    of_parts: [Vec<(ResourcePattern, usize)>; 2],
}

/// A parsed pattern for `resource.group`. Most resources are ruled out without building this string.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ResourcePattern {
    /// One resource.
    Exact { group: Box<str>, resource: Box<str> },
    /// A pattern, with its text after the last `*`.
    Wildcard { pattern: Box<str>, suffix: Box<str> },
}

/// The name of a mechanism: a Pod is deleted to restart it.
pub(crate) const RESTART: &str = "pod-restart";
/// The name of a mechanism: a finished Job is removed, and created again.
pub(crate) const FINISHED_JOB: &str = "finished-job";
/// The name of a mechanism: a program removes an annotation or label whose key names the program.
pub(crate) const CONSUMED_MARK: &str = "consumed-mark";
/// The name of a mechanism: one of two scalers only switches between zero and more.
pub(crate) const ACTIVATION: &str = "activation";

/// Matches all actors.
const ANY: &str = "*";
const LEADER: Option<&str> = Some("leader flapping");
const CONDITION: Option<&str> = Some("flapping condition");
const NEVER: Option<&str> = None;

/// A built-in rule; see [`CooperationRule`].
struct BuiltInRule {
    name: &'static str,
    resource: &'static str,
    path: &'static str,
    sides: (&'static str, &'static str),
    reason: &'static str,
    excess: Option<&'static str>,
}

const fn rule(
    name: &'static str,
    resource: &'static str,
    path: &'static str,
    left: &'static str,
    right: &'static str,
    reason: &'static str,
    excess: Option<&'static str>,
) -> BuiltInRule {
    BuiltInRule { name, resource, path, sides: (left, right), reason, excess }
}

/// The built-in rules: name, resource, path, the two sides, reason, excess. The first that matches decides. Sources: the
/// source code of the projects.
#[rustfmt::skip]
const RULES: &[BuiltInRule] = &[
    // Locks: one holder after another.
    rule("lease", "leases.coordination.k8s.io", "*", ANY, ANY, "a Lease is a lock: its holders take turns", LEADER),
    rule("leader-annotation", "*", "metadata.annotations['control-plane.alpha.kubernetes.io/leader']", ANY, ANY,
        "the annotation is a leader lock: its holders take turns", LEADER),
    rule("patroni-leader", "*", "metadata.annotations.leader", ANY, ANY, "Patroni keeps its leader lock in this annotation", LEADER),
    rule("patroni-leader", "endpoints", "metadata.annotations.*", "*postgres*", "*postgres*",
        "Patroni keeps its leader lock and its configuration in the annotations of this object", LEADER),
    rule("kured-lock", "daemonsets.apps", "metadata.annotations['*-node-lock']", ANY, ANY,
        "the annotation is the lock of nodes that reboot one after another", LEADER),
    rule("lock-holder", "*", "*holderIdentity", ANY, ANY, "the field names the holder of a lock: its holders take turns", LEADER),
    rule("terraform-state", "secrets", "data.tfstate", ANY, ANY, "each Terraform run writes its resulting state", NEVER),
    // Counters that one side increases and the other one corrects.
    rule("quota-usage", "resourcequotas", "status.*", "system:apiserver", "*resourcequota-controller",
        "admission increases the usage, and the quota controller corrects it", NEVER),
    // Nodes: the kubelet reports the state of its node; controllers add to it, or mark a node whose kubelet is silent.
    rule("node-conditions", "nodes", "status.*", "system:node:*", "*node-*controller",
        "the node controller marks a silent node as unknown, and the kubelet reverts this when it reports again", CONDITION),
    rule("node-conditions", "nodes", "status.*", "system:node:*", "*cloud-*", "the cloud controller adds what the kubelet does not know", CONDITION),
    rule("node-taints", "nodes", "spec.taints*", "*node-*controller", ANY,
        "the node controller adds taints for the conditions of a node, and removes them again", CONDITION),
    rule("autoscaler-taints", "nodes", "spec.taints[key=*OfClusterAutoscaler*", "*cluster-autoscaler*", ANY,
        "the autoscaler marks a node that it may remove, and removes the mark again", NEVER),
    rule("autoscaler-taints", "nodes", "spec.taints[key=*ByClusterAutoscaler*", "*cluster-autoscaler*", ANY,
        "the autoscaler marks a node that it removes, and removes the mark again", NEVER),
    rule("karpenter-taints", "nodes", "spec.taints[key=*karpenter.sh/*", "*karpenter*", ANY,
        "Karpenter marks a node that it may remove, and removes the mark again", NEVER),
    rule("node-cordon", "nodes", "spec.unschedulable", "*machine-config-controller", ANY, "a node is cordoned for an update and uncordoned after it", NEVER),
    rule("node-cordon", "nodes", "spec.unschedulable", "*:kured", "*:kured", "a node is cordoned for a reboot and uncordoned after it", NEVER),
    rule("machine-config", "nodes", "metadata.annotations['machineconfiguration.openshift.io/*']", "*:machine-config-*", "*:machine-config-*",
        "the controller and the daemon of a node exchange requests and answers in annotations", NEVER),
    // Volumes: each side performs its own step.
    rule("volume-binding", "persistentvolumes", "spec.claimRef*", "*:persistent-volume-binder", ANY, "the binder completes the work of a provisioner", NEVER),
    rule("volume-node", "persistentvolumeclaims", "metadata.annotations['volume.kubernetes.io/selected-node']", "system:kube-scheduler", ANY,
        "the scheduler proposes a node, and a provisioner that cannot serve it removes the proposal", NEVER),
    rule("volume-resize", "persistentvolumeclaims", "status.*", "system:node:*", ANY, "the resizer and the kubelet each perform their step of a resize", NEVER),
    // Requests by annotation or field, which their controller consumes.
    rule("argocd-operation", "applications.argoproj.io", "operation*", ANY, "*application-controller*",
        "setting `operation` requests a sync, and the application controller removes it again", NEVER),
    rule("argocd-operation", "applications.argoproj.io", "status.operationState*", ANY, "*application-controller*",
        "a sync request clears the state of the last sync, and the application controller writes the new state", NEVER),
    rule("argocd-refresh", "applications.argoproj.io", "metadata.annotations['argocd.argoproj.io/*']", ANY, "*application-controller*",
        "the annotation requests a refresh, and the application controller removes it again", NEVER),
    rule("argocd-refresh", "applicationsets.argoproj.io", "metadata.annotations['argocd.argoproj.io/*']", ANY, "*applicationset-controller*",
        "the annotation requests a refresh, and the controller removes it again", NEVER),
    rule("rollout-pause", "rollouts.argoproj.io", "status.pauseConditions*", ANY, "*argo-rollouts*",
        "the controller pauses at a step, and a promotion clears the pause", NEVER),
    rule("restarted-at", "*", "*annotations['kubectl.kubernetes.io/restartedAt']", ANY, ANY, "each restart writes its time here", NEVER),
    rule("restarted-at", "rollouts.argoproj.io", "spec.restartAt", ANY, ANY, "each restart writes its time here", NEVER),
    rule("requested-at", "*", "metadata.annotations['*/*equestedAt']", ANY, ANY, "writing the time here requests a reconciliation", NEVER),
    rule("requested-at", "*", "metadata.annotations['*/*equested-at']", ANY, ANY, "writing the time here requests a reconciliation", NEVER),
    rule("requested-at", "*.toolkit.fluxcd.io", "metadata.annotations['reconcile.fluxcd.io/*']", ANY, ANY,
        "writing the time here requests a reconciliation", NEVER),
    rule("force-sync", "*", "metadata.annotations*force-sync*", ANY, ANY, "writing a new value here requests a synchronisation", NEVER),
    rule("certificate-issuing", "certificates.cert-manager.io", "status.conditions[type=Issuing]*", "*cert-manager*", ANY,
        "setting `Issuing` requests a certificate, and cert-manager removes it when the certificate is issued", NEVER),
    rule("certificate-issuing", "certificates.cert-manager.io", "status.nextPrivateKeySecretName", "*cert-manager*", "*cert-manager*",
        "one controller of cert-manager names the next key, and another one uses it", NEVER),
    rule("kueue-admission", "*", "spec.suspend", "*kueue*", ANY, "a suspended job waits for admission, and Kueue resumes it", NEVER),
    rule("scheduling-gates", "pods", "spec.schedulingGates*", ANY, ANY, "a scheduling gate exists to be removed by its controller", NEVER),
    rule("velero-phase", "*.velero.io", "status.*", "*:velero", "*:velero", "the server and the agents of Velero advance the phase", NEVER),
    rule("longhorn-owner", "*.longhorn.io", "status.*", "*longhorn*", "*longhorn*", "Longhorn managers take over objects from each other", NEVER),
    // Mechanisms, which are recognised from the events. A configuration can switch them off by these names.
    rule(CONSUMED_MARK, MECHANISM, "", ANY, ANY, "the mark is a request to a program, which removes it when the request is done", NEVER),
    rule(ACTIVATION, MECHANISM, "", ANY, ANY, "one side only switches between zero and more, and the other one only scales what runs", NEVER),
    rule(RESTART, MECHANISM, "", ANY, ANY, "deleting a Pod of a controller restarts it", Some("restart loop")),
    rule(FINISHED_JOB, MECHANISM, "", ANY, ANY, "a finished Job is deleted after some time, and the next Job has the same name", Some("noisy job")),
];

/// Used instead of a resource for mechanisms, so that no object matches the rule by name.
const MECHANISM: &str = "-";

/// The accounts behind the field managers of Kubernetes' own programs, as far as rules are about them.
const MANAGERS: &[(&str, &[&str])] = &[
    ("kubelet", &["system:node:"]),
    ("kube-scheduler", &["system:kube-scheduler"]),
    ("kube-apiserver", &["system:apiserver"]),
    (
        "kube-controller-manager",
        &[
            "system:serviceaccount:kube-system:node-controller",
            "system:serviceaccount:kube-system:resourcequota-controller",
            "system:serviceaccount:kube-system:persistent-volume-binder",
        ],
    ),
];

/// Parts of annotation domains that do not identify a program.
const COMMON_LABELS: &[&str] =
    &["kubernetes", "x-k8s", "github", "example", "cluster", "apps", "controller", "operator"];

// === impl CooperationRules ===

impl CooperationRules {
    /// Returns these rules followed by the built-in ones, without the rules whose names are in `off`.
    pub fn with(first: Vec<CooperationRule>, off: &[String]) -> CooperationRules {
        let built_in = RULES.iter().map(|rule| CooperationRule {
            name: rule.name.into(),
            resource: rule.resource.into(),
            path: rule.path.into(),
            sides: (rule.sides.0.into(), rule.sides.1.into()),
            reason: rule.reason.into(),
            excess: rule.excess.map(Into::into),
        });
        let rules: Vec<CooperationRule> =
            first.into_iter().chain(built_in).filter(|rule| !off.contains(&rule.name)).collect();
        let of_parts = ["(main)", "(status)"].map(|part| {
            let is_possible = |rule: &CooperationRule| rule.resource != MECHANISM && is_path(&rule.path, part);
            let possible = rules.iter().enumerate().filter(|(_, rule)| is_possible(rule));
            possible.map(|(index, rule)| (ResourcePattern::new(&rule.resource), index)).collect()
        });
        let resources: Vec<ResourcePattern> = rules.iter().map(|rule| ResourcePattern::new(&rule.resource)).collect();
        let indices = |name: Option<&str>| -> Vec<usize> {
            let is_possible = |pattern: &ResourcePattern| pattern.name().is_none_or(|its| Some(its) == name);
            (0..rules.len()).filter(|index| is_possible(&resources[*index])).collect()
        };
        let names = resources.iter().filter_map(ResourcePattern::name);
        let of_names = names.map(|name| (name.into(), indices(Some(name)))).collect();
        CooperationRules { of_names, of_other_names: indices(None), rules, resources, of_parts }
    }

    /// Returns the co-operation of two actors over a part of an object whose fields are not known.
    pub fn find_part(
        &self,
        group: &str,
        resource: &str,
        part: Part,
        a: &Client,
        b: &Client,
    ) -> Option<&CooperationRule> {
        let of_resource = self.of_parts[part as usize].iter().filter(|(pattern, _)| pattern.matches(group, resource));
        of_resource.map(|(_, index)| &self.rules[*index]).find(|rule| rule.matches(a, b))
    }

    /// Returns the names of the built-in rules, without duplicates.
    pub fn names() -> Vec<&'static str> {
        let mut names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
        names.dedup();
        names
    }

    /// Returns the co-operation of two actors over one field of an object.
    pub fn find(&self, group: &str, resource: &str, path: &str, a: &Client, b: &Client) -> Option<&CooperationRule> {
        let possible = self.of_names.get(resource).unwrap_or(&self.of_other_names).iter();
        let of_resource = possible.filter(|index| self.resources[**index].matches(group, resource));
        of_resource.map(|index| &self.rules[*index]).find(|rule| is_path(&rule.path, path) && rule.matches(a, b))
    }

    /// Returns the rule of a mechanism, unless it is switched off.
    pub fn mechanism(&self, name: &str) -> Option<&CooperationRule> {
        self.rules.iter().find(|rule| rule.name == name)
    }
}

// === impl CooperationRule ===

impl CooperationRule {
    /// Whether the two clients match its sides, in either order.
    fn matches(&self, a: &Client, b: &Client) -> bool {
        let (left, right) = (&self.sides.0, &self.sides.1);
        (is_side(left, a) && is_side(right, b)) || (is_side(left, b) && is_side(right, a))
    }
}

/// Whether a client matches the pattern of a side. A field manager, of which only a watch knows, matches if an account behind
/// it may match.
fn is_side(pattern: &str, client: &Client) -> bool {
    if is_match(pattern, &client.actor) {
        return true;
    }
    let accounts = MANAGERS.iter().find(|(manager, _)| *manager == &*client.tool).map(|(_, accounts)| *accounts);
    client.is_manager
        && match accounts {
            Some(accounts) => accounts.iter().any(|account| is_match(pattern, account)),
            None => is_match(pattern, &format!("system:serviceaccount::{}", client.tool)),
        }
}

// === impl ResourcePattern ===

impl ResourcePattern {
    fn new(pattern: &str) -> ResourcePattern {
        match pattern.rsplit_once('*') {
            Some((_, suffix)) => ResourcePattern::Wildcard { pattern: pattern.into(), suffix: suffix.into() },
            None => {
                let (resource, group) = pattern.split_once('.').unwrap_or((pattern, ""));
                ResourcePattern::Exact { group: group.into(), resource: resource.into() }
            }
        }
    }

    /// Returns the name of the resource, if the pattern names one.
    fn name(&self) -> Option<&str> {
        match self {
            ResourcePattern::Exact { resource, .. } => Some(resource),
            ResourcePattern::Wildcard { .. } => None,
        }
    }

    /// Returns whether the pattern matches, as [`is_match`] does for `resource.group`, or for `resource` if the group is
    /// empty.
    fn matches(&self, group: &str, resource: &str) -> bool {
        match self {
            ResourcePattern::Exact { group: its_group, resource: its_resource } => {
                **its_resource == *resource && **its_group == *group
            }
            ResourcePattern::Wildcard { pattern, .. } if **pattern == *ANY => true,
            ResourcePattern::Wildcard { pattern, .. } if group.is_empty() => is_match(pattern, resource),
            ResourcePattern::Wildcard { pattern, suffix } => {
                // Check the suffix first: this rules out nearly all resources without building the name.
                let is_possible = match suffix.strip_suffix(group) {
                    Some("") => true,
                    Some(rest) => rest.strip_suffix('.').is_some_and(|rest| resource.ends_with(rest)),
                    None => group.ends_with(&**suffix),
                };
                is_possible && is_match(pattern, &format!("{resource}.{group}"))
            }
        }
    }
}

impl Default for CooperationRules {
    fn default() -> CooperationRules {
        CooperationRules::with(Vec::new(), &[])
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
pub(crate) fn is_own_mark(path: &str, client: &Client) -> bool {
    let is_mark = path.starts_with("metadata.annotations['") || path.starts_with("metadata.labels['");
    let Some((domain, _)) = path.split_once("['").and_then(|(_, key)| key.split_once('/')) else { return false };
    let is_telling = |label: &&str| label.len() >= 4 && !COMMON_LABELS.contains(label);
    is_mark
        && domain.split('.').filter(is_telling).any(|label| client.actor.contains(label) || client.tool.contains(label))
}

#[cfg(test)]
#[path = "cooperation/tests.rs"]
mod tests;
