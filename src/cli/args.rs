//! Command-line arguments, only parsed here and validated where they are used.
//!
//! The doc comments on arguments and commands are their help texts.
//!
//! A flag that sets a key of the configuration also needs a field of `Overlay` (`config/overlay.rs`), which
//! `cli/settings.rs` fills in.

mod common;
pub(crate) mod doctor;
pub(crate) mod setup;

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};

pub use self::common::{Access, Colour, Format, KubeAccess, Remote};
use crate::check::Certainty;
use crate::config::{Bytes, Duration, Mode};
use crate::detect::cause::Cause;
use crate::detect::verdict::Confidence;
use crate::query::views::{PartyClass, WarStatus, variant};

/// Find out who is fighting over a Kubernetes object (which field, which values, since when), and stop it.
#[derive(Debug, Parser)]
#[command(name = "editwar", version, max_term_width = 100)]
pub struct Args {
    /// Colours.
    #[command(flatten)]
    pub colour: Colour,
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find edit wars in kube-apiserver audit logs.
    ///
    /// Exit code: 0 if no war was found, 1 if a war was found, 2 on wrong usage, or if the answer may be incomplete:
    /// unreadable or incomplete input, a filter that matches nothing, a time range without events.
    #[command(after_help = "Examples:\n  \
        editwar analyze /var/log/kubernetes/audit*.log*\n  \
        oc adm node-logs --role=master --path=kube-apiserver/audit.log | editwar analyze -\n  \
        editwar analyze must-gather/audit_logs -n shop -o json")]
    Analyze(AnalyzeArgs),
    /// Show who writes one object: actors, fields, values, timeline.
    ///
    /// Without a log and without a server, shows who owns each field of the object in the cluster now.
    ///
    /// Exit code: 0 if there is no war over the object, 1 if there is one, 2 on wrong usage, unreadable or incomplete
    /// input, or if the object is not found.
    #[command(after_help = "Examples:\n  \
        editwar who deployment/web -n shop audit.log\n  \
        editwar who deployment/web -n shop audit.log --timeline\n  \
        editwar who deployment/web -n shop    (who owns each field now, from the cluster)\n  \
        editwar who deployment/web -n shop --server http://127.0.0.1:8080\n  \
        editwar who deployment/web -n shop --server http://127.0.0.1:8080 --since 7d    (from the server's journal)")]
    Who(WhoArgs),
    /// List the wars that a running server knows about.
    ///
    /// Exit code: 0 if no war was found, 1 if a war was found, 2 if the server cannot be queried, has received no
    /// events, or if the filters match nothing.
    #[command(after_help = "Example:\n  editwar wars --server http://127.0.0.1:8080 -n shop")]
    Wars(WarsArgs),
    /// Find edit wars in a cluster while they happen, with read access only.
    ///
    /// Watches the metadata of all objects that this account may list and watch, and the values of contested objects.
    /// Field managers stand for the accounts, which a watch does not show.
    ///
    /// Exit code: 0 if no war was found, 1 if a war was found, 2 on wrong usage, if the cluster cannot be watched, or if
    /// the answer may be incomplete.
    #[command(after_help = "Examples:\n  \
        editwar watch\n  \
        editwar watch deployment/web -n shop\n  \
        editwar watch deployments configmaps -n shop --for 10m -o json")]
    Watch(WatchArgs),
    /// Name fights that will happen, before they start: reads the cluster once, with read access only.
    ///
    /// Looks for contenders that are known to fight, such as an autoscaler and a manifest with replicas. With -f, checks
    /// manifests against the cluster before they are applied.
    ///
    /// Exit code: 0 if nothing was found, 1 if a fight is bound to happen or possible, 2 on wrong usage, if the cluster
    /// cannot be read, or if the answer may be incomplete.
    #[command(after_help = "Examples:\n  \
        editwar check\n  \
        editwar check -n shop -o json\n  \
        editwar check -f manifests/ --certainty bound --junit editwar.xml\n  \
        kustomize build overlays/prod | editwar check -f -")]
    Check(CheckArgs),
    /// Replay a log with other limits, and show what they would have paused, and when.
    ///
    /// Exit code: 0 if the first limits find no war, 1 if they find one, 2 on wrong usage or unreadable input.
    #[command(after_help = "Examples:\n  \
        editwar simulate audit.log --limit 5/10m,12/6h --limit 3/5m --pause-after 1 --pause-after 3\n  \
        editwar simulate test-run/audit.log --junit editwar.xml")]
    Simulate(SimulateArgs),
    /// Show how the Golden State would change a live object, and why, without access to a cluster.
    #[command(after_help = "Example:\n  kubectl get deployment web -n shop -o yaml > live.yaml\n  \
        editwar render --asset assets/apps/web.yaml --live live.yaml")]
    Render(RenderArgs),
    /// Run the server: receive audit events from kube-apiserver, answer queries, export metrics.
    #[command(after_help = "Without any configuration, the server listens on loopback only:\n  \
        audit webhook  http://127.0.0.1:8443/audit or /audit/CLUSTER\n  \
        query API      http://127.0.0.1:8080/api/v1/wars\n  \
        metrics        http://127.0.0.1:8080/metrics\n\n\
        Without --journal DIR, the server writes nothing to disk, and a restart loses its history.")]
    Serve(ServeArgs),
    /// See edit wars begin, last and end within a minute, without a cluster.
    ///
    /// Starts a server on loopback, posts recordings of real clusters to its webhook eight times as fast as they happened,
    /// and opens the page. Runs until it is stopped, and keeps nothing.
    #[command(after_help = "Example:\n  editwar demo --no-open")]
    Demo(DemoArgs),
    /// Print what a cluster needs to send audit events to editwar: policy, kubeconfig, flags, certificates. Also lists the
    /// kinds of evidence.
    Setup {
        /// What to print.
        #[command(subcommand)]
        what: setup::Setup,
    },
    /// Check each step of an audit event from the API server to the verdict, and report what is missing.
    ///
    /// Names the kind of evidence that the server has, and the next better kind. Without a server, checks what this
    /// account may read: a watch needs nothing else. `editwar setup evidence` lists the kinds.
    ///
    /// Exit code: 0 if every step works, 1 if a step is broken, 2 on wrong usage.
    #[command(after_help = "Examples:\n  editwar doctor\n  \
        editwar doctor --webhook /etc/kubernetes/editwar/webhook.yaml --probe default")]
    Doctor(doctor::DoctorArgs),
    /// Write what a bug report needs to an archive: version, findings of `doctor`, metrics, readiness.
    ///
    /// Names of objects, actors and places are replaced by hashes, and values of fields are left out. Look through the archive
    /// before you send it.
    #[command(after_help = "Example:\n  editwar support-bundle support.tar.gz --server http://127.0.0.1:8080")]
    SupportBundle(doctor::SupportBundleArgs),
    /// Print the version, the commit and the target platform of the build.
    Version,
    /// Print the completion script for a shell.
    #[command(after_help = "Examples:\n  \
        editwar completions bash > /etc/bash_completion.d/editwar\n  \
        editwar completions fish > ~/.config/fish/completions/editwar.fish")]
    Completions {
        /// Shell to print the script for.
        shell: clap_complete::Shell,
    },
    /// Write one man page per command into a directory.
    #[command(after_help = "Example:\n  editwar man /usr/local/share/man/man1")]
    Man {
        /// Directory for the man pages. It is created if it does not exist.
        dir: PathBuf,
    },
}

/// Arguments of `wars`.
#[derive(Debug, clap::Args)]
pub struct WarsArgs {
    /// The server.
    #[command(flatten)]
    pub remote: Remote,
    /// The filters.
    #[command(flatten)]
    pub which: Which,
    /// Show only objects in this namespace.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Show objects in all namespaces, which is the default.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
}

/// Which wars to list, and how.
#[derive(Debug, Default, clap::Args)]
pub struct Which {
    /// Show only this object.
    #[arg(value_name = "KIND/NAME")]
    pub object: Option<String>,
    /// Show only this cluster, if the server watches several.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// The conditions.
    #[command(flatten)]
    pub conditions: Conditions,
    /// Show only wars with a retake since a time, or within a duration such as 1h before now.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Show each change of a verdict since --since (default: 1d), from the server's journal.
    #[arg(long, conflicts_with_all = ["actor", "class", "state", "confidence", "cause", "all", "top", "sort"])]
    pub transitions: bool,
    /// Count the wars since --since (default: 1d) by cluster, namespace, kind or a label that says who owns an object, such as
    /// team (notify.owner_labels), from the server's journal.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["actor", "class", "state", "confidence", "cause", "all", "top", "sort", "transitions"])]
    pub by: Option<String>,
    /// List the wars again whenever they change, until interrupted.
    #[arg(short, long, conflicts_with_all = ["transitions", "by"])]
    pub watch: bool,
    /// Show times in UTC instead of relative to now.
    #[arg(long)]
    pub utc: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Conditions on wars, and the order in which they are listed.
#[derive(Debug, Default, clap::Args)]
pub struct Conditions {
    /// Show only objects of this kind, such as deployment or deploy.
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Show only wars with a party whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    pub actor: Option<String>,
    /// Show only wars with a party of this class or role, such as gitops, person or argo_cd.
    #[arg(long, value_name = "CLASS")]
    pub class: Option<PartyClass>,
    /// Show only wars in this state: thrashing, sustained, subsiding, contested, calm, ongoing, ended or undecided.
    #[arg(long, value_name = "STATE")]
    pub state: Option<WarStatus>,
    /// Show only wars of at least this confidence.
    #[arg(long, value_parser = confidence(), value_name = "CONFIDENCE")]
    pub confidence: Option<Confidence>,
    /// Show only wars with this cause, such as manual_edits or flapping_webhook.
    #[arg(long, value_parser = cause, value_name = "CAUSE")]
    pub cause: Option<Cause>,
    /// Also show objects that were contested but never thrashed.
    #[arg(short, long)]
    pub all: bool,
    /// Show at most this number of objects, the most urgent ones.
    #[arg(long, value_name = "N")]
    pub top: Option<std::num::NonZeroUsize>,
    /// Order of the wars.
    #[arg(long, value_enum, default_value_t, value_name = "KEY")]
    pub sort: SortKey,
}

/// Orders of wars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SortKey {
    /// The most urgent first: ongoing before ended, then by confidence and thrashing events.
    #[default]
    Urgency,
    /// Those that began last first.
    Since,
    /// Those with the latest retake first.
    Last,
    /// Those with the most retakes first.
    Retakes,
    /// By namespace, kind and name.
    Object,
}

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// The cluster.
    #[command(flatten)]
    pub access: KubeAccess,
    /// Watch only this namespace. Default: all namespaces, and cluster-scoped objects.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Watch all namespaces, which is the default.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// The options.
    #[command(flatten)]
    pub options: WatchOptions,
}

/// What to watch, and how to show it.
#[derive(Debug, clap::Args)]
pub struct WatchOptions {
    /// Kinds or objects to watch, such as deployments or deployment/web. Default: everything except Events and Leases.
    #[arg(value_name = "KIND[/NAME]")]
    pub objects: Vec<String>,
    /// Stop after this time, such as 10m. Default: when interrupted.
    #[arg(long = "for", value_name = "TIME")]
    pub duration: Option<Duration>,
    /// Also write the events of the watch to this file, for `analyze` and `who`.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Show times in UTC instead of relative to now.
    #[arg(long)]
    pub utc: bool,
    /// Output format. In a terminal, the table is kept up to date; otherwise a line is printed when a war begins or
    /// changes, and the table at the end. jsonl prints a war when it begins or changes.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print nothing to stderr but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The cluster.
    #[command(flatten)]
    pub access: KubeAccess,
    /// Check only objects in this namespace, and the manifests without one in this namespace. Default: all namespaces, and
    /// cluster-scoped objects.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Check all namespaces, which is the default.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// The options.
    #[command(flatten)]
    pub options: CheckOptions,
}

/// What to check, and how to show it.
#[derive(Debug, clap::Args)]
pub struct CheckOptions {
    /// Check these manifests against the cluster, before they are applied: files, directories, or - for standard input (can
    /// be repeated).
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,
    /// Check the manifests alone, without a cluster.
    #[arg(long, requires = "files")]
    pub offline: bool,
    /// Show only fights that are at least as certain.
    #[arg(long, value_enum, default_value_t, value_name = "CERTAINTY")]
    pub certainty: CertaintyArg,
    /// Write a JUnit report to this file, with a failed test for each fight.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Output format: table, wide, json, yaml or markdown.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Print nothing to stderr but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

/// How certain a fight must be to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CertaintyArg {
    /// Also fights that happen only when somebody applies or syncs something.
    #[default]
    Possible,
    /// Only fights between programs that write by themselves.
    Bound,
}

// === impl CertaintyArg ===

impl From<CertaintyArg> for Certainty {
    fn from(arg: CertaintyArg) -> Certainty {
        match arg {
            CertaintyArg::Possible => Certainty::Possible,
            CertaintyArg::Bound => Certainty::Bound,
        }
    }
}

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// Audit logs to read: files (plain or compressed), archives, directories, or - for standard input.
    #[arg(required = true, value_name = "FILE|DIR|-")]
    pub inputs: Vec<PathBuf>,
    /// Token buckets to try, as RETAKES/WINDOW, separated by commas (can be repeated). Default: the configured buckets.
    #[arg(long, value_name = "N/TIME,…")]
    pub limit: Vec<String>,
    /// Number of thrashing events after which to pause (can be repeated).
    #[arg(long, value_name = "N")]
    pub pause_after: Vec<std::num::NonZeroU32>,
    /// Quiet period to try (can be repeated).
    #[arg(long, value_name = "TIME")]
    pub quiet_period: Vec<Duration>,
    /// Minimum confidence of a verdict to pause an object.
    #[arg(long, value_parser = confidence(), default_value = "probable", value_name = "CONFIDENCE")]
    pub min_confidence: Confidence,
    /// Write a JUnit report to this file, with a failed test for each object with a war under the first limits.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
pub struct RenderArgs {
    /// File with an object of the Golden State.
    #[arg(long, value_name = "FILE")]
    pub asset: PathBuf,
    /// File with the live object, as printed by `kubectl get -o yaml` or `-o json`. Default: the object does not exist.
    #[arg(long, value_name = "FILE")]
    pub live: Option<PathBuf>,
    /// Value of the label `managed-by`.
    #[arg(long, value_name = "VALUE", default_value = "virt-platform-autopilot")]
    pub managed_by: String,
    /// Output format: yaml or json.
    #[arg(short, long, value_enum, default_value_t = Format::Yaml)]
    pub output: Format,
}

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Port of the page on 127.0.0.1. Default: 8080, or any other if it is in use.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Do not open the page in a browser.
    #[arg(long)]
    pub no_open: bool,
}

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Configuration file (YAML).
    #[arg(short, long, env = "EDITWAR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the query API, the metrics and the health checks.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<std::net::SocketAddr>,
    /// Address of the audit webhook.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub webhook_listen: Option<std::net::SocketAddr>,
    /// What editwar may write to the cluster.
    #[arg(long, value_enum, value_name = "MODE")]
    pub enforce: Option<Mode>,
    /// Directory of the Golden State.
    #[arg(long, value_name = "DIR")]
    pub assets: Option<PathBuf>,
    /// Kubeconfig file for access to the API server. Default: as for kubectl, or the service account of the pod.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Also read this audit log as it is written, across rotations (can be repeated).
    #[arg(long, value_name = "FILE")]
    pub tail: Vec<PathBuf>,
    /// Memory limit of the whole process, such as 512MiB. Default: the limit of the control group.
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<Bytes>,
    /// Also watch the objects of the cluster, for clusters without an audit log.
    #[arg(long)]
    pub watch: bool,
    /// Keep every write in this directory, to survive restarts and answer queries about the past. Default: off.
    #[arg(long, value_name = "DIR|off")]
    pub journal: Option<PathBuf>,
    /// Set one key of the configuration, such as limits.quiet_period=5m (can be repeated).
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Check the configuration and exit.
    #[arg(long)]
    pub check_config: bool,
    /// Print the effective configuration and exit.
    #[arg(long)]
    pub print_config: bool,
    /// Log level: error, warn, info, debug or trace.
    #[arg(long, env = "EDITWAR_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
}

/// The configuration by which writes are judged.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// Compare values, but neither keep nor print them.
    #[arg(long)]
    pub redact: bool,
    /// Configuration file (YAML): limits, overrides, actors.
    #[arg(short, long, env = "EDITWAR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key of the configuration, such as limits.quiet_period=5m (can be repeated).
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Which part of a log to read, and how.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// Read only events at or after this time (RFC 3339, or a date such as 2026-02-11, in UTC), or within this duration
    /// before the last event (30m, 1h30m, 7d).
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Read only events before this time or date, or until this duration before the last event.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Number of CPU cores to use. Default: all, up to eight.
    #[arg(long, value_name = "N")]
    pub workers: Option<std::num::NonZeroUsize>,
    /// Show times in UTC instead of relative to the last event.
    #[arg(long)]
    pub utc: bool,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print no progress bar and no warnings to stderr.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `analyze`.
#[derive(Debug, clap::Args)]
pub struct AnalyzeArgs {
    /// Audit logs: files (plain or compressed), archives, directories, or - for standard input. KIND/NAME shows only that object.
    #[arg(required = true, value_name = "FILE|DIR|-|KIND/NAME")]
    pub inputs: Vec<PathBuf>,
    /// Show only objects in this namespace.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Show objects in all namespaces, which is the default.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Show only this object.
    #[arg(long, value_name = "KIND/NAME", conflicts_with = "kind")]
    pub object: Option<String>,
    /// Instead of looking for wars, say what each input is: formats, times, audit levels, and what is missing.
    #[arg(long)]
    pub explain_input: bool,
    /// The conditions.
    #[command(flatten)]
    pub conditions: Conditions,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Arguments of `who`.
#[derive(Debug, clap::Args)]
pub struct WhoArgs {
    /// Object to show, such as deployment/web or deployment web.
    #[arg(value_name = "KIND/NAME", required_unless_present = "actor")]
    pub object: Option<String>,
    /// Show what the actors whose names contain this text have changed, instead of who changed an object.
    #[arg(long, value_name = "TEXT")]
    pub actor: Option<String>,
    /// Audit logs to read: files (plain or compressed), archives, directories, or - for standard input. Default: query the server or, without
    /// one, the cluster.
    #[arg(value_name = "FILE|DIR|-")]
    pub inputs: Vec<PathBuf>,
    /// Namespace of the object.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Cluster of the object, if the server watches several.
    #[arg(long)]
    pub cluster: Option<String>,
    /// The server.
    #[command(flatten)]
    pub remote: Remote,
    /// The cluster in which the object is, if there is neither a log nor a server.
    #[command(flatten)]
    pub access: KubeAccess,
    /// Print the most recent writes.
    #[arg(long)]
    pub timeline: bool,
    /// Number of most recent writes to print, or 0 for all. Implies --timeline.
    #[arg(long, value_name = "N")]
    pub timeline_limit: Option<usize>,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Default number of writes in a timeline.
const TIMELINE_DEFAULT: usize = 40;

// === impl WhoArgs ===

impl WhoArgs {
    /// Returns the number of writes to print: 0 for all, `None` for no timeline.
    pub fn timeline_max(&self) -> Option<usize> {
        self.timeline_limit.or(self.timeline.then_some(TIMELINE_DEFAULT))
    }
}

/// Parses a cause.
fn cause(word: &str) -> Result<Cause, String> {
    variant(word)
}

/// Parses the minimum confidence of a pause.
fn confidence() -> impl TypedValueParser<Value = Confidence> {
    let values = [
        (Confidence::Possible, "The parties wrote the same part of the object alternately"),
        (Confidence::Probable, "The parties wrote the same fields"),
        (Confidence::Confirmed, "Values returned"),
    ];
    let shown = values.map(|(value, help)| PossibleValue::new(value.as_str()).help(help));
    PossibleValuesParser::new(shown).map(move |word| {
        let found = values.into_iter().find(|(value, _)| value.as_str() == word);
        found.expect("the parser accepts no other word").0
    })
}
