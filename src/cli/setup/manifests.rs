//! Prints the manifests of a server in a cluster: those of `deploy/kustomize`, and a Secret with its certificates.

use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const CONFIG: &str = include_str!("../../../deploy/kustomize/base/configmap.yaml");
/// The manifests, in the order in which they must be applied.
const FILES: &[&str] = &[
    include_str!("../../../deploy/kustomize/base/namespace.yaml"),
    include_str!("../../../deploy/kustomize/base/serviceaccount.yaml"),
    include_str!("../../../deploy/kustomize/base/auth.yaml"),
    CONFIG,
    include_str!("../../../deploy/kustomize/base/service.yaml"),
    include_str!("../../../deploy/kustomize/base/networkpolicy.yaml"),
    include_str!("../../../deploy/kustomize/overlays/webhook/deployment.yaml"),
];

/// Returns all manifests as YAML, with the certificates from this directory.
///
/// # Errors
/// A file cannot be read.
pub(super) fn print(certs: &Path) -> Result<String> {
    let read = |name: &str| -> Result<String> {
        let path = certs.join(name);
        let text = std::fs::read(&path)
            .with_context(|| format!("{}: create it with `editwar setup certs`", path.display()))?;
        Ok(STANDARD.encode(text))
    };
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: editwar-tls\n  namespace: editwar\ntype: kubernetes.io/tls\n\
         data:\n  tls.crt: {}\n  tls.key: {}\n  ca.crt: {}\n",
        read("server.crt")?,
        read("server.key")?,
        read("ca.crt")?
    );
    let mut all: Vec<&str> = FILES.to_vec();
    all.insert(1, &secret);
    let text = all.iter().map(|text| text.trim_end()).collect::<Vec<_>>().join("\n---\n") + "\n";
    Ok(hashed(&text))
}

/// Appends a hash of the configuration to the name of its ConfigMap, as kustomize's generator does, so that a changed
/// configuration results in new pods.
fn hashed(manifests: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, CONFIG.as_bytes());
    let name: String = hash.as_ref()[..5].iter().map(|byte| format!("{byte:02x}")).collect();
    manifests
        .replace(
            "kind: ConfigMap\nmetadata:\n  name: editwar\n",
            &format!("kind: ConfigMap\nmetadata:\n  name: editwar-{name}\n"),
        )
        .replace("configMap: {name: editwar}", &format!("configMap: {{name: editwar-{name}}}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn pods_mount_the_config_map_by_its_hashed_name() {
        let text = super::hashed(&super::FILES.join("\n---\n"));
        let name = text.split("configMap: {name: ").nth(1).and_then(|rest| rest.split('}').next()).unwrap();
        assert!(name.len() == "editwar-".len() + 10, "{name}");
        assert_eq!(text.matches(name).count(), 2);
    }
}
