//! Prints the configuration that makes kube-apiserver use the policy and the webhook kubeconfig, for each distribution.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cli::args::setup::{ApiserverArgs, Distribution};

/// Flags besides the two files, and the reason for each. The defaults are good for the buffer (10000 events), the batch
/// size (400) and the initial backoff (10 s, which covers an outage of almost two minutes).
const TUNED: &[(&str, &str, &str)] = &[
    ("audit-webhook-batch-max-wait", "2s", "detects wars within seconds; by default, events wait up to 30 s"),
    ("audit-webhook-truncate-enabled", "true", "only an event that is too large loses its bodies, not the whole batch"),
    ("audit-webhook-truncate-max-event-size", "524288", "most large objects keep their bodies"),
];

/// Returns the configuration, as a file that can be used without changes.
///
/// # Errors
/// A file cannot be read.
pub(super) fn print(args: &ApiserverArgs) -> Result<String> {
    let dir = args.dir.as_deref().unwrap_or(match args.distribution {
        Distribution::K3s => "/var/lib/rancher/k3s/server/editwar",
        Distribution::Rke2 => "/etc/rancher/rke2/editwar",
        Distribution::Talos => "/var/lib/editwar",
        Distribution::Kubeadm | Distribution::Kind | Distribution::Flags => "/etc/kubernetes/editwar",
    });
    let dir = dir.trim_end_matches('/');
    Ok(match args.distribution {
        Distribution::Flags => flags(dir).iter().map(|(k, v, why)| format!("{}--{k}={v}\n", comment(why))).collect(),
        Distribution::Kubeadm => kubeadm(dir),
        Distribution::Kind => kind(dir),
        Distribution::K3s => k3s(dir),
        Distribution::Rke2 => rke2(dir),
        Distribution::Talos => {
            let read = |path: &Option<std::path::PathBuf>| {
                let path = path.as_deref().unwrap_or(Path::new(""));
                std::fs::read_to_string(path).with_context(|| path.display().to_string())
            };
            talos(dir, &read(&args.policy)?, &read(&args.webhook)?)
        }
    })
}

fn flags(dir: &str) -> Vec<(&'static str, String, &'static str)> {
    let files = [("audit-policy-file", "policy.yaml"), ("audit-webhook-config-file", "webhook.yaml")];
    let files = files.into_iter().map(|(flag, file)| (flag, format!("{dir}/{file}"), ""));
    files.chain(TUNED.iter().map(|(flag, value, why)| (*flag, (*value).to_owned(), *why))).collect()
}

fn comment(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!("# {why}\n") }
}

/// Formats `extraArgs` as a list, as in kubeadm's v1beta4 configuration.
fn args_list(dir: &str) -> String {
    let item = |(k, v, why): &(&str, String, &str)| format!("{}- {{name: {k}, value: '{v}'}}\n", comment(why));
    flags(dir).iter().map(item).collect()
}

/// Formats `extraArgs` as a map, as in kubeadm's v1beta3 configuration.
fn args_map(dir: &str) -> String {
    flags(dir).iter().map(|(k, v, why)| format!("{}{k}: '{v}'\n", comment(why))).collect()
}

fn volume(dir: &str) -> String {
    format!(
        "- name: editwar-audit\n  hostPath: {dir}\n  mountPath: {dir}\n  readOnly: true\n  pathType: DirectoryOrCreate\n"
    )
}

fn kubeadm(dir: &str) -> String {
    format!(
        "\
# kubeadm: copy policy.yaml and webhook.yaml to {dir} on every control plane node. Then:
#   new cluster:     merge this into the file for `kubeadm init --config`.
#   running cluster: merge this with `kubectl -n kube-system edit configmap kubeadm-config`, write the ClusterConfiguration to
#                    a file, and run `kubeadm init phase control-plane apiserver --config FILE` on one node after the other.
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
apiServer:
  extraArgs:
{}  extraVolumes:
{}",
        indented(&args_list(dir), 2),
        indented(&volume(dir), 2)
    )
}

fn kind(dir: &str) -> String {
    let patch = |version: &str, args: &str| {
        format!(
            "  - |\n    apiVersion: kubeadm.k8s.io/{version}\n    kind: ClusterConfiguration\n    apiServer:\n      extraArgs:\n{}      extraVolumes:\n{}",
            indented(args, if version == "v1beta3" { 8 } else { 6 }),
            indented(&volume(dir), 6)
        )
    };
    format!(
        "\
# kind: copy policy.yaml and webhook.yaml to ./editwar next to this file, then run `kind create cluster --config FILE`.
apiVersion: kind.x-k8s.io/v1alpha4
kind: Cluster
nodes:
- role: control-plane
  extraMounts:
  - {{hostPath: ./editwar, containerPath: {dir}, readOnly: true}}
  # kind uses one of the two, depending on the Kubernetes version of the node.
  kubeadmConfigPatches:
{}{}",
        patch("v1beta3", &args_map(dir)),
        patch("v1beta4", &args_list(dir))
    )
}

fn args_rancher(dir: &str, without: &str) -> String {
    let all = flags(dir);
    let item = |(k, v, why): &(&str, String, &str)| format!("{}- '{k}={v}'\n", comment(why));
    all.iter().filter(|(k, ..)| *k != without).map(item).collect()
}

fn k3s(dir: &str) -> String {
    format!(
        "\
# k3s: on every server, copy policy.yaml and webhook.yaml to {dir}, and this file to
# /etc/rancher/k3s/config.yaml.d/50-editwar.yaml. Then run `systemctl restart k3s` on one server after the other.
kube-apiserver-arg+:
{}",
        args_rancher(dir, "")
    )
}

fn rke2(dir: &str) -> String {
    format!(
        "\
# RKE2: on every server, copy policy.yaml and webhook.yaml to {dir}, and this file to
# /etc/rancher/rke2/config.yaml.d/50-editwar.yaml. Then run `systemctl restart rke2-server` on one server after the other.
# If you cannot set a webhook, read the log instead: editwar serve --tail /var/lib/rancher/rke2/server/logs/audit.log
audit-policy-file: {dir}/policy.yaml
kube-apiserver-arg+:
{}kube-apiserver-extra-mount+:
- '{dir}:{dir}:ro'
",
        args_rancher(dir, "audit-policy-file")
    )
}

fn talos(dir: &str, policy: &str, webhook: &str) -> String {
    let args: String = flags(dir)
        .iter()
        .filter(|(k, ..)| *k != "audit-policy-file")
        .map(|(k, v, why)| format!("{}{k}: '{v}'\n", comment(why)))
        .collect();
    format!(
        "\
# Talos: run `talosctl patch machineconfig --patch @FILE` for every control plane node.
machine:
  files:
  - path: {dir}/webhook.yaml
    op: create
    # On Talos, kube-apiserver runs as a separate user, which must be able to read this file.
    permissions: 0o444
    content: |
{}cluster:
  apiServer:
    extraArgs:
{}    extraVolumes:
    - {{hostPath: {dir}, mountPath: {dir}, readonly: true}}
    auditPolicy:
{}",
        indented(webhook, 6),
        indented(&args, 6),
        indented(policy, 6)
    )
}

/// Indents each line of a text.
fn indented(text: &str, by: usize) -> String {
    let indent = " ".repeat(by);
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{indent}{line}\n") }).collect()
}

#[cfg(test)]
mod tests {
    use serde_yaml_ng::Value;

    use super::*;

    fn parsed(text: &str) -> Value {
        serde_yaml_ng::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    #[test]
    fn every_distribution_gets_a_complete_document_with_every_flag() {
        let policy = super::super::policy::print(&[], false).unwrap();
        for text in [kubeadm("/d"), kind("/d"), k3s("/d"), rke2("/d"), talos("/d", &policy, "kind: Config\n")] {
            parsed(&text);
            for (flag, value, _) in TUNED {
                assert!(text.contains(flag) && text.contains(value), "{flag}\n{text}");
            }
            assert!(text.contains("/d/webhook.yaml"), "{text}");
        }
    }

    #[test]
    fn documents_have_the_structure_of_their_distribution() {
        let kubeadm = parsed(&kubeadm("/d"));
        assert_eq!(kubeadm["apiServer"]["extraArgs"][0]["name"], "audit-policy-file");
        assert_eq!(kubeadm["apiServer"]["extraVolumes"][0]["hostPath"], "/d");
        let kind = parsed(&kind("/d"));
        let patches = kind["nodes"][0]["kubeadmConfigPatches"].as_sequence().unwrap();
        let patch = |i: usize| parsed(patches[i].as_str().unwrap());
        assert_eq!(patch(0)["apiServer"]["extraArgs"]["audit-webhook-config-file"], "/d/webhook.yaml");
        assert_eq!(patch(1)["apiServer"]["extraArgs"][1]["value"], "/d/webhook.yaml");
        assert_eq!(patch(1)["apiServer"]["extraVolumes"][0]["mountPath"], "/d");
        assert_eq!(parsed(&k3s("/d"))["kube-apiserver-arg+"][0], "audit-policy-file=/d/policy.yaml");
        assert_eq!(parsed(&rke2("/d"))["kube-apiserver-extra-mount+"][0], "/d:/d:ro");
        let policy = super::super::policy::print(&[], false).unwrap();
        let talos = parsed(&talos("/d", &policy, "kind: Config\nusers: []\n"));
        assert_eq!(talos["machine"]["files"][0]["content"], "kind: Config\nusers: []\n");
        assert_eq!(talos["cluster"]["apiServer"]["auditPolicy"]["kind"], "Policy");
        assert_eq!(talos["cluster"]["apiServer"]["extraArgs"]["audit-webhook-config-file"], "/d/webhook.yaml");
    }
}
