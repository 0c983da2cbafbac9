//! Arguments of `editwar doctor`.

use std::path::PathBuf;

use super::common::{Access, Format, Remote};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// The checks.
    #[command(flatten)]
    pub look: DoctorChecks,
    /// The server.
    #[command(flatten)]
    pub remote: Remote,
    /// The cluster.
    #[command(flatten)]
    pub access: Access,
    /// Without a server: check the permission to read this namespace, if not all may be read. Default: that of the
    /// context.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// Arguments of `support-bundle`.
#[derive(Debug, clap::Args)]
pub struct SupportBundleArgs {
    /// The archive.
    #[command(flatten)]
    pub archive: Archive,
    /// The server.
    #[command(flatten)]
    pub remote: Remote,
    /// The cluster.
    #[command(flatten)]
    pub access: Access,
}

/// What `support-bundle` writes.
#[derive(Debug, clap::Args)]
pub struct Archive {
    /// File to write, such as support.tar.gz. It must not exist.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Configuration of the server, to add it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What `doctor` checks.
#[derive(Debug, Default, clap::Args)]
pub struct DoctorChecks {
    /// Kubeconfig of kube-apiserver's --audit-webhook-config-file, to check the connection that it describes.
    #[arg(long, value_name = "FILE")]
    pub webhook: Option<PathBuf>,
    /// Policy of kube-apiserver's --audit-policy-file, to check what it does not log.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Create, change and delete a ConfigMap in this namespace, to check that its events arrive.
    #[arg(long, value_name = "NAMESPACE")]
    pub probe: Option<String>,
    /// Name of the cluster, if the server watches several.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}
