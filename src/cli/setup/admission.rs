//! `editwar setup admission`: prints the configuration of an admission webhook that shows editwar every write.

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use serde_json::json;

use crate::audit::event::ADMISSION_WEBHOOK;
use crate::cli::args::setup::AdmissionArgs;
use crate::util::cluster_name;

/// Requests that are never about a war, or must not be shown: CEL expressions that are true for all others.
const CONDITIONS: [(&str, &str); 4] = [
    ("no-leases", r#"request.resource.group != "coordination.k8s.io""#),
    ("no-events", r#"request.resource.resource != "events""#),
    ("no-secrets", r#"!(request.resource.group == "" && request.resource.resource == "secrets")"#),
    ("no-endpoints", r#"!(request.resource.resource in ["endpoints", "endpointslices"])"#),
];

/// Returns the manifest.
///
/// # Errors
/// The CA cannot be read.
pub(super) fn print(args: &AdmissionArgs) -> Result<String> {
    if !cluster_name::is_valid(&args.cluster) {
        bail!("a cluster name has at most 63 letters, digits, `-`, `_` and `.`");
    }
    let path = match &*args.cluster {
        "" => "/admission".to_owned(),
        cluster => format!("/admission/{cluster}"),
    };
    let ca = args.certs.join("ca.crt");
    let bundle = std::fs::read(&ca).with_context(|| format!("{}: run `editwar setup certs` first", ca.display()))?;
    let mut client = match &args.server {
        Some(url) => json!({"url": format!("{}{path}", url.trim_end_matches('/'))}),
        None => json!({"service": {"name": "editwar", "namespace": "editwar", "path": path, "port": 8443}}),
    };
    client["caBundle"] = base64::engine::general_purpose::STANDARD.encode(bundle).into();
    let conditions: Vec<_> =
        CONDITIONS.iter().map(|(name, expression)| json!({"name": name, "expression": expression})).collect();
    let webhook = json!({
        "name": ADMISSION_WEBHOOK,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
        "timeoutSeconds": 1,
        "matchPolicy": "Equivalent",
        "clientConfig": client,
        "rules": [{
            "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE", "DELETE"],
            "resources": ["*", "*/status", "*/scale"], "scope": "*",
        }],
        "matchConditions": conditions,
    });
    let manifest = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "editwar"}, "webhooks": [webhook],
    });
    let comment = "# Shows editwar each write, and allows all. A write goes through if editwar does not answer within a second.\n\
                   # Remove it before the server: kubectl delete validatingwebhookconfiguration editwar\n";
    Ok(format!("{comment}{}", serde_yaml_ng::to_string(&manifest)?))
}
