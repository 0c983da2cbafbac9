//! `editwar setup source`: prints the other side's configuration, so that a platform or a log shipper posts events to editwar.

use anyhow::{Result, bail};

use crate::cli::args::setup::{SourceArgs, SourceKind};
use crate::util::cluster_name;

/// Returns the configuration.
///
/// # Errors
/// The URL or the name of the cluster is not usable there.
pub(super) fn print(args: &SourceArgs) -> Result<String> {
    let url = args.url.trim_end_matches('/');
    let Ok(uri) = url.parse::<http::Uri>() else {
        bail!("expected a URL such as https://editwar.example.com:8443, got \"{url}\"")
    };
    let (Some("https" | "http"), Some(host)) = (uri.scheme_str(), uri.host()) else {
        bail!("expected a URL such as https://editwar.example.com:8443, got \"{url}\"");
    };
    let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    let port = uri.port_u16().unwrap_or(default);
    if !cluster_name::is_valid(&args.cluster) || url.contains(['"', '\'', '\\', '$', ' ', '{', '}']) {
        bail!("a cluster name has at most 63 letters, digits, `-`, `_` and `.`, and a URL no quotes, spaces or braces");
    }
    let template = match args.kind {
        SourceKind::Eks if uri.scheme_str() != Some("https") || port != 443 => {
            bail!("Firehose only delivers to https on port 443: give the URL of a load balancer in front of editwar");
        }
        SourceKind::Gke | SourceKind::FluentBit if uri.scheme_str() != Some("https") => {
            bail!("give a URL that begins with https: the configuration uses TLS");
        }
        SourceKind::Eks => include_str!("../../../deploy/sources/eks.tf"),
        SourceKind::Gke => include_str!("../../../deploy/sources/gke.sh"),
        SourceKind::Aks => include_str!("../../../deploy/sources/aks.sh"),
        SourceKind::Openshift => include_str!("../../../deploy/sources/openshift.yaml"),
        SourceKind::FluentBit => include_str!("../../../deploy/sources/fluent-bit.yaml"),
        SourceKind::Vector => include_str!("../../../deploy/sources/vector.yaml"),
        SourceKind::Otel => include_str!("../../../deploy/sources/otel-collector.yaml"),
    };
    let needs_name = matches!(args.kind, SourceKind::Eks | SourceKind::Gke | SourceKind::Aks);
    if needs_name && args.cluster.is_empty() {
        bail!("--cluster NAME is needed: it names the cluster at the cloud provider, and in editwar");
    }
    // Without a name, the paths have none either.
    let named = if args.cluster.is_empty() {
        template.replace("/otlp/{{cluster}}/v1/logs", "/v1/logs").replace("/{{cluster}}", "")
    } else {
        template.replace("{{cluster}}", &args.cluster)
    };
    Ok(named.replace("{{url}}", url).replace("{{host}}", host).replace("{{port}}", &port.to_string()))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_placeholder_is_replaced() {
        for kind in SourceKind::value_variants() {
            for cluster in ["east", ""] {
                let args =
                    SourceArgs { kind: *kind, url: "https://editwar.example.com/".into(), cluster: cluster.into() };
                match print(&args) {
                    Ok(text) => {
                        // Azure posts to no URL.
                        let names_server = *kind == SourceKind::Aks || text.contains("editwar.example.com");
                        assert!(!text.contains("{{") && names_server, "{text}");
                    }
                    Err(error) => assert!(cluster.is_empty(), "{error}"),
                }
            }
        }
    }

    #[test]
    fn arguments_that_would_end_up_in_other_places_are_rejected() {
        let text =
            |kind, url: &str, cluster: &str| print(&SourceArgs { kind, url: url.into(), cluster: cluster.into() });
        assert!(text(SourceKind::Eks, "https://e.example.com:8443", "a").is_err(), "Firehose needs port 443");
        for (url, cluster) in
            [("editwar", "a"), ("ftp://x", "a"), ("https://e\"x", "a"), ("https://e", "a b"), ("https://e", "a\"\n")]
        {
            assert!(text(SourceKind::Vector, url, cluster).is_err(), "{url} {cluster}");
        }
    }
}
