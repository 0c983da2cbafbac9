//! Arguments of `editwar setup`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::common::Access;

/// Name by which kube-apiserver verifies the server's certificate: that of the Service in the cluster.
pub(crate) const SERVER_NAME: &str = "editwar.editwar.svc";

/// The things that `setup` prints.
#[derive(Debug, Subcommand)]
pub enum Setup {
    /// Print an audit policy that logs no more than editwar needs.
    #[command(after_help = "Example:\n  editwar setup policy --resource '*.kubevirt.io' > policy.yaml")]
    Policy(PolicyArgs),
    /// Print the kubeconfig with which kube-apiserver connects to editwar (--audit-webhook-config-file).
    #[command(after_help = "Example:\n  \
        editwar setup webhook --cluster east --certs certs > webhook.yaml")]
    Webhook(WebhookArgs),
    /// Print the settings that make kube-apiserver use the policy and the kubeconfig, and where to put them.
    #[command(after_help = "Example:\n  editwar setup apiserver --distribution kubeadm")]
    Apiserver(ApiserverArgs),
    /// Print the configuration with which a cloud or a log shipper posts audit events to editwar.
    #[command(
        after_help = "Example:\n  editwar setup source vector --url https://editwar.example.com:8443 --cluster east"
    )]
    Source(SourceArgs),
    /// Print the configuration of an admission webhook that shows editwar each write, where the audit level cannot be changed.
    ///
    /// It allows every request, and a write goes through if editwar does not answer.
    #[command(after_help = "Example:\n  editwar setup admission --certs certs > admission.yaml")]
    Admission(AdmissionArgs),
    /// Write a private CA and certificates for the server and for kube-apiserver, or renew those that expire soon.
    #[command(after_help = "Example:\n  editwar setup certs certs --name 10.96.0.50")]
    Certs(CertsArgs),
    /// Print the kinds of evidence, from least to most: what each needs, what it shows and misses, and the commands.
    ///
    /// `editwar doctor` tells which kind you have.
    #[command(after_help = "Example:\n  editwar setup evidence")]
    Evidence,
    /// Print the manifests of a server that only observes, with its certificates.
    #[command(after_help = "Example:\n  editwar setup manifests --certs certs | kubectl apply -f -")]
    Manifests(ManifestsArgs),
}

/// Arguments of `setup source`.
#[derive(Debug, clap::Args)]
pub struct SourceArgs {
    /// The platform or the log shipper.
    #[arg(value_enum)]
    pub kind: SourceKind,
    /// URL at which it reaches editwar's webhook, without a path.
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// Name of the cluster.
    #[arg(long, default_value = "", value_name = "NAME")]
    pub cluster: String,
}

/// A platform or a log shipper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceKind {
    /// Amazon EKS: a subscription of CloudWatch Logs, and Amazon Data Firehose (Terraform).
    Eks,
    /// Google GKE: a log sink and a push subscription of Pub/Sub (gcloud).
    Gke,
    /// Azure AKS: diagnostic settings to an event hub (az).
    Aks,
    /// OpenShift: a ClusterLogForwarder.
    Openshift,
    /// Fluent Bit.
    FluentBit,
    /// Vector.
    Vector,
    /// The OpenTelemetry Collector.
    Otel,
}

/// Arguments of `setup admission`.
#[derive(Debug, clap::Args)]
pub struct AdmissionArgs {
    /// Directory that `setup certs` wrote.
    #[arg(long, value_name = "DIR")]
    pub certs: PathBuf,
    /// URL at which kube-apiserver reaches the webhook, without a path. Default: the Service editwar in the namespace editwar.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Name of the cluster, if the server watches several.
    #[arg(long, default_value = "", value_name = "NAME")]
    pub cluster: String,
}

/// Arguments of `setup manifests`.
#[derive(Debug, clap::Args)]
pub struct ManifestsArgs {
    /// Directory that `setup certs` wrote.
    #[arg(long, value_name = "DIR")]
    pub certs: PathBuf,
}

/// Arguments of `setup policy`.
#[derive(Debug, clap::Args)]
pub struct PolicyArgs {
    /// Also log this resource with bodies: RESOURCE.GROUP, such as virtualmachines.kubevirt.io or *.kubevirt.io (can be
    /// repeated).
    #[arg(long, value_name = "RESOURCE.GROUP")]
    pub resource: Vec<String>,
    /// Log all resources except Secrets with bodies.
    #[arg(long, conflicts_with = "resource")]
    pub all_resources: bool,
}

/// Arguments of `setup webhook`.
#[derive(Debug, clap::Args)]
pub struct WebhookArgs {
    /// URL at which kube-apiserver reaches the webhook. Default: the cluster IP of the Service, since kube-apiserver
    /// cannot resolve the names of Services.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The cluster.
    #[command(flatten)]
    pub access: Access,
    /// Name of the cluster, if the server watches several.
    #[arg(long, default_value = "", value_name = "NAME")]
    pub cluster: String,
    /// Directory that `setup certs` wrote.
    #[arg(long, value_name = "DIR")]
    pub certs: PathBuf,
    /// Name to verify the server's certificate against.
    #[arg(long, default_value = SERVER_NAME, value_name = "NAME")]
    pub server_name: String,
    /// Authenticate with the bearer token in this file instead of the client certificate.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Arguments of `setup apiserver`.
#[derive(Debug, clap::Args)]
pub struct ApiserverArgs {
    /// Distribution that runs the control plane.
    #[arg(long, value_enum)]
    pub distribution: Distribution,
    /// Directory with policy.yaml and webhook.yaml on the control plane nodes. Default: depends on the distribution.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<String>,
    /// Talos only: file with the audit policy to put into the machine configuration.
    #[arg(long, value_name = "FILE", required_if_eq("distribution", "talos"))]
    pub policy: Option<PathBuf>,
    /// Talos only: file with the kubeconfig to put into the machine configuration.
    #[arg(long, value_name = "FILE", required_if_eq("distribution", "talos"))]
    pub webhook: Option<PathBuf>,
}

/// Arguments of `setup certs`.
#[derive(Debug, clap::Args)]
pub struct CertsArgs {
    /// Directory for the files ca.crt, ca.key, server.crt, server.key, client.crt and client.key.
    pub dir: PathBuf,
    /// Additional name or address of the server, such as the cluster IP of the Service (can be repeated).
    #[arg(long, value_name = "NAME|ADDRESS")]
    pub name: Vec<String>,
    /// Validity of the server and client certificates, in days.
    #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Create new certificates even if the old ones are still valid.
    #[arg(long)]
    pub renew: bool,
}

/// The distribution that runs a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    /// Static pods of kubeadm.
    Kubeadm,
    /// kind (Kubernetes in Docker).
    Kind,
    /// k3s.
    K3s,
    /// RKE2.
    Rke2,
    /// Talos Linux.
    Talos,
    /// Only the flags of kube-apiserver.
    Flags,
}
