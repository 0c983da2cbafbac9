//! `editwar setup`: prints what a cluster needs for its audit events to arrive. Nothing is sent to a cluster; only
//! `certs` writes files, into the given directory.

pub mod apiserver;
pub mod certs;
pub mod manifests;
pub mod policy;
pub mod webhook;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};

use super::Outcome;
use super::reach::Access;

/// The things that `setup` prints.
#[derive(Debug, Subcommand)]
pub enum Setup {
    /// Print an audit policy: the smallest load that still answers who fights over what.
    #[command(after_help = "Example:\n  editwar setup policy --kind '*.kubevirt.io' > policy.yaml")]
    Policy(PolicyArgs),
    /// Print the kubeconfig by which kube-apiserver finds editwar (--audit-webhook-config-file).
    #[command(after_help = "Example:\n  \
        editwar setup webhook --cluster east --certs certs > webhook.yaml")]
    Webhook(WebhookArgs),
    /// Print the lines that make kube-apiserver use the policy and the kubeconfig, and say where they go.
    #[command(after_help = "Example:\n  editwar setup apiserver --on kubeadm")]
    Apiserver(ApiserverArgs),
    /// Write a private CA, a certificate for the server and one for kube-apiserver; run again, renew what is due.
    #[command(after_help = "Example:\n  editwar setup certs certs --name 10.96.0.50")]
    Certs(CertsArgs),
    /// Print the manifests of a server that watches and writes nothing, with its certificates.
    #[command(after_help = "Example:\n  editwar setup manifests --certs certs | kubectl apply -f -")]
    Manifests(ManifestsArgs),
}

/// Arguments of `setup manifests`.
#[derive(Debug, clap::Args)]
pub struct ManifestsArgs {
    /// The directory that `setup certs` wrote.
    #[arg(long, value_name = "DIR")]
    pub certs: PathBuf,
}

/// Arguments of `setup policy`.
#[derive(Debug, clap::Args)]
pub struct PolicyArgs {
    /// Also log these with their bodies: RESOURCE.GROUP, such as virtualmachines.kubevirt.io, or *.kubevirt.io; may be
    /// given several times.
    #[arg(long, value_name = "RESOURCE.GROUP")]
    pub kind: Vec<String>,
    /// Log every kind with its bodies, but Secrets.
    #[arg(long, conflicts_with = "kind")]
    pub all_kinds: bool,
}

/// Arguments of `setup webhook`.
#[derive(Debug, clap::Args)]
pub struct WebhookArgs {
    /// The webhook's address as kube-apiserver reaches it; by default that of the Service in the cluster, by its IP, for
    /// kube-apiserver does not resolve names of Services.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The cluster.
    #[command(flatten)]
    pub access: Access,
    /// The cluster's name, where a server watches several.
    #[arg(long, default_value = "", value_name = "NAME")]
    pub cluster: String,
    /// The directory that `setup certs` wrote.
    #[arg(long, value_name = "DIR")]
    pub certs: PathBuf,
    /// The name that the server's certificate is checked for.
    #[arg(long, default_value = certs::SERVER_NAMES[2], value_name = "NAME")]
    pub server_name: String,
    /// Show a bearer token, from this file, instead of the client certificate.
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
}

/// Arguments of `setup apiserver`.
#[derive(Debug, clap::Args)]
pub struct ApiserverArgs {
    /// What runs the control plane.
    #[arg(long, value_enum)]
    pub on: Distribution,
    /// The directory on the control plane's nodes that holds policy.yaml and webhook.yaml; by default one that fits.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<String>,
    /// Talos: the policy to put into the machine configuration.
    #[arg(long, value_name = "FILE", required_if_eq("on", "talos"))]
    pub policy: Option<PathBuf>,
    /// Talos: the kubeconfig to put into the machine configuration.
    #[arg(long, value_name = "FILE", required_if_eq("on", "talos"))]
    pub webhook: Option<PathBuf>,
}

/// Arguments of `setup certs`.
#[derive(Debug, clap::Args)]
pub struct CertsArgs {
    /// Where the files are, or will be: ca.crt, ca.key, server.crt, server.key, client.crt, client.key.
    pub dir: PathBuf,
    /// A further name or address of the server, such as the Service's cluster IP; may be given several times.
    #[arg(long, value_name = "NAME|ADDRESS")]
    pub name: Vec<String>,
    /// Days that the certificates of server and client are good for.
    #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Make new certificates although the old ones are still good.
    #[arg(long)]
    pub renew: bool,
}

/// What runs a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    /// Static pods made by kubeadm.
    Kubeadm,
    /// A cluster of kind, in containers.
    Kind,
    /// k3s.
    K3s,
    /// RKE2.
    Rke2,
    /// Talos Linux.
    Talos,
    /// The flags alone.
    Flags,
}

/// Runs `editwar setup`.
///
/// # Errors
/// A file cannot be read or written, or an argument is not valid.
pub fn run(setup: &Setup) -> Result<Outcome> {
    let text = match setup {
        Setup::Policy(args) => policy::print(&args.kind, args.all_kinds)?,
        Setup::Webhook(args) => match &args.server {
            Some(server) => webhook::print(args, server)?,
            None => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                webhook::print(args, &runtime.block_on(args.access.webhook())?)?
            }
        },
        Setup::Apiserver(args) => apiserver::print(args)?,
        Setup::Manifests(args) => manifests::print(&args.certs)?,
        Setup::Certs(args) => certs::run(args, std::time::SystemTime::now())?,
    };
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("standard output")?;
    Ok(Outcome::Calm)
}

/// Indents each line of a text.
fn indented(text: &str, by: usize) -> String {
    let indent = " ".repeat(by);
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{indent}{line}\n") }).collect()
}
