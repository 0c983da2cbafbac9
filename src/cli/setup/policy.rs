//! Generates the audit policy, which defines what kube-apiserver logs.
//!
//! The first matching rule of a policy decides. Reads are most of an API server's requests and cannot be writes, so
//! they are not logged. Writes are logged with bodies where people and tools conflict, since only bodies contain fields
//! and values.

use std::fmt::Write as _;

use anyhow::{Result, bail};

/// Resources that are often contested, since people, GitOps tools, autoscalers and operators all write them.
const RESOURCES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "configmaps",
            "services",
            "namespaces",
            "nodes",
            "serviceaccounts",
            "persistentvolumeclaims",
            "resourcequotas",
        ],
    ),
    ("apps", &["deployments", "statefulsets", "daemonsets"]),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs"]),
    ("networking.k8s.io", &["ingresses", "networkpolicies"]),
    ("policy", &["poddisruptionbudgets"]),
    ("rbac.authorization.k8s.io", &["roles", "rolebindings", "clusterroles", "clusterrolebindings"]),
    ("apiextensions.k8s.io", &["customresourcedefinitions"]),
    ("admissionregistration.k8s.io", &["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]),
    ("storage.k8s.io", &["storageclasses"]),
];

const HEAD: &str = "\
# Audit policy for editwar. It logs no more than editwar needs to find out who fights over what.
# Give it to kube-apiserver as --audit-policy-file; `editwar setup apiserver` prints how.
apiVersion: audit.k8s.io/v1
kind: Policy
# Log each request once, when it ends.
omitStages: [RequestReceived, ResponseStarted]
# Managed fields are about half of every body, and editwar gets the owners of fields from the requests.
omitManagedFields: true
rules:
# A heartbeat: this Lease is renewed every two seconds, which distinguishes a silent API server from an idle cluster.
- level: Metadata
  verbs: [update]
  namespaces: [kube-system]
  resources: [{group: coordination.k8s.io, resources: [leases], resourceNames: [kube-controller-manager]}]
# Reads change nothing.
- level: None
  verbs: [get, list, watch]
# Neither do non-resource requests, such as health checks and discovery.
- level: None
  nonResourceURLs: ['*']
# By design, these are written frequently, each by a single client.
- level: None
  resources:
  - {group: coordination.k8s.io, resources: [leases]}
  - {group: '', resources: [events, endpoints]}
  - {group: events.k8s.io}
  - {group: discovery.k8s.io, resources: [endpointslices]}
# Reviews, tokens and connections write no object.
- level: None
  resources:
  - {group: authentication.k8s.io}
  - {group: authorization.k8s.io}
  - group: ''
    resources: [serviceaccounts/token, pods/exec, pods/attach, pods/portforward, pods/proxy, services/proxy, nodes/proxy]
# Status reports of kubelets are the most frequent writes, and no other client makes them.
- level: None
  userGroups: [system:nodes]
  resources: [{group: '', resources: [nodes, nodes/status, pods/status]}]
# Never log the body of a Secret: the log would contain its values in plain text.
- level: Metadata
  resources: [{group: '', resources: [secrets]}]
";

const LAST: &str = "\
# Log all other writes without bodies. editwar sees wars over these objects, but not their fields.
- level: Metadata
";

/// Returns the policy as YAML.
///
/// # Errors
/// An argument is not of the form RESOURCE.GROUP.
pub(super) fn print(extra: &[String], all_resources: bool) -> Result<String> {
    let mut text = HEAD.to_owned();
    if all_resources {
        text.push_str(
            "# Log every other write with bodies, which contain the fields and values.\n- level: RequestResponse\n",
        );
        return Ok(text);
    }
    text.push_str("# Log contested resources with bodies, which contain the fields and values.\n");
    text.push_str("- level: RequestResponse\n  resources:\n");
    for (group, resources) in RESOURCES {
        writeln!(text, "  - {{group: '{group}', resources: [{}]}}", with_subresources(resources).join(", "))?;
    }
    for given in extra {
        let (resource, group) = given.split_once('.').unwrap_or((given, ""));
        let is_plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
        if resource.is_empty() || !is_plain(group) || !(resource == "*" || is_plain(resource)) {
            bail!("--resource {given}: expected RESOURCE.GROUP, such as virtualmachines.kubevirt.io or *.kubevirt.io");
        }
        match resource {
            // Without a list of resources, a rule applies to the whole group.
            "*" => writeln!(text, "  - {{group: '{group}'}}")?,
            _ => writeln!(
                text,
                "  - {{group: '{group}', resources: ['{resource}', '{resource}/status', '{resource}/scale']}}"
            )?,
        }
    }
    text.push_str(LAST);
    Ok(text)
}

/// Adds subresources, which need separate entries. Autoscalers write `deployments/scale`.
fn with_subresources(resources: &[&str]) -> Vec<String> {
    let with = |resource: &&str| match *resource {
        "deployments" | "statefulsets" => {
            vec![(*resource).to_owned(), format!("{resource}/scale"), format!("{resource}/status")]
        }
        plain => vec![plain.to_owned(), format!("{plain}/status")],
    };
    resources.iter().flat_map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::policy::{Level, Policy};

    fn policy(kinds: &[&str], all: bool) -> Policy {
        let kinds: Vec<String> = kinds.iter().map(|k| (*k).to_owned()).collect();
        Policy::parse(&print(&kinds, all).unwrap()).unwrap()
    }

    #[test]
    fn bodies_are_logged_for_commonly_contested_kinds() {
        let policy = policy(&["virtualmachines.kubevirt.io", "*.cdi.kubevirt.io"], false);
        for kind in ["deployments.apps", "configmaps", "virtualmachines.kubevirt.io", "datavolumes.cdi.kubevirt.io"] {
            assert_eq!(policy.level(kind, ""), Level::RequestResponse, "{kind}");
        }
        assert_eq!(policy.level("deployments.apps", "scale"), Level::RequestResponse, "an autoscaler writes there");
        assert_eq!(policy.level("widgets.example.com", ""), Level::Metadata);
    }

    #[test]
    fn bodies_of_secrets_are_never_logged() {
        assert_eq!(policy(&["secrets"], false).level("secrets", ""), Level::Metadata);
        assert_eq!(policy(&[], true).level("secrets", ""), Level::Metadata);
    }

    #[test]
    fn uncontested_kinds_are_not_logged() {
        for kind in [
            "leases.coordination.k8s.io",
            "events",
            "endpointslices.discovery.k8s.io",
            "tokenreviews.authentication.k8s.io",
        ] {
            assert_eq!(policy(&[], true).level(kind, ""), Level::None, "{kind}");
        }
    }

    #[test]
    fn invalid_resources_are_rejected() {
        assert!(print(&["a: b".to_owned()], false).unwrap_err().to_string().contains("RESOURCE.GROUP"));
    }
}
