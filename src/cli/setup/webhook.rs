//! Generates the kubeconfig with which kube-apiserver connects to editwar. All files are embedded, since kube-apiserver
//! runs in a container that can access few directories.

use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cli::args::setup::WebhookArgs;

/// Returns the kubeconfig as YAML, for a webhook at `server`.
///
/// # Errors
/// A file cannot be read, or `server` is not an HTTPS address.
pub(super) fn print(args: &WebhookArgs, server: &str) -> Result<String> {
    let uri: http::Uri = server.parse().with_context(|| format!("--server {server}"))?;
    let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        bail!("--server {server}: expected https://ADDRESS:PORT, such as https://10.96.0.50:8443");
    };
    let is_name = args.cluster.len() <= 63
        && args.cluster.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !is_name {
        bail!("--cluster {}: expected at most 63 letters, digits, -, _ and .", args.cluster);
    }
    // The path identifies the cluster: events do not name it, and kube-apiserver drops query parameters.
    let path = if args.cluster.is_empty() { "/audit".to_owned() } else { format!("/audit/{}", args.cluster) };
    let read = |name: &str| encoded(&args.certs.join(name));
    let user = match &args.token_file {
        Some(path) => {
            let token = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            format!("    token: '{}'", token.trim())
        }
        None => format!(
            "    client-certificate-data: {}\n    client-key-data: {}",
            read("client.crt")?,
            read("client.key")?
        ),
    };
    Ok(format!(
        "\
# The connection from kube-apiserver to editwar. Give this file to kube-apiserver as --audit-webhook-config-file;
# `editwar setup apiserver` prints how. kube-apiserver reads it when it starts. It contains a secret, so only
# kube-apiserver should be able to read it.
apiVersion: v1
kind: Config
clusters:
- name: editwar
  cluster:
    server: https://{authority}{path}
    # kube-apiserver verifies this name instead of the address.
    tls-server-name: {}
    certificate-authority-data: {}
users:
- name: kube-apiserver
  user:
{user}
contexts:
- name: editwar
  context: {{cluster: editwar, user: kube-apiserver}}
current-context: editwar
",
        args.server_name,
        read("ca.crt")?
    ))
}

fn encoded(path: &Path) -> Result<String> {
    let text =
        std::fs::read(path).with_context(|| format!("{}: create it with `editwar setup certs`", path.display()))?;
    Ok(STANDARD.encode(text))
}
