//! Command-line arguments, only parsed here and validated where they are used.
//!
//! The doc comments on arguments and commands are their help texts.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Who is fighting over my Kubernetes object, over which field, with which values, since when; and make it stop.
#[derive(Debug, Parser)]
#[command(name = "editwar", version, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find edit wars in kube-apiserver audit logs.
    ///
    /// Exit code: 0 no war, 1 a war was found, 2 bad usage or unreadable input.
    #[command(after_help = "Examples:\n  \
        editwar analyze /var/log/kubernetes/audit*.log*\n  \
        oc adm node-logs --role=master --path=kube-apiserver/audit.log | editwar analyze -\n  \
        editwar analyze must-gather/audit_logs -n shop -o json")]
    Analyze(AnalyzeArgs),
    /// Show who takes part in one object: actors, fields, values, timeline.
    #[command(after_help = "Examples:\n  \
        editwar who deployment/web -n shop audit.log\n  \
        editwar who deployment/web -n shop --server http://127.0.0.1:8080\n  \
        editwar who deployment/web -n shop --server http://127.0.0.1:8080 --since 7d    (from its journal)")]
    Who(WhoArgs),
    /// List the wars that a running server knows of.
    ///
    /// Exit code: 0 no war, 1 a war was found, 2 the server cannot be asked.
    #[command(after_help = "Example:\n  editwar wars --server http://127.0.0.1:8080 -n shop")]
    Wars(WarsArgs),
    /// Show what other limits would have paused, and when, on a recorded log.
    ///
    /// Exit code: 0 no object is fought over by the first limits, 1 one is, 2 bad usage or unreadable input.
    #[command(after_help = "Examples:\n  \
        editwar simulate audit.log --limit 5/10m,12/6h --limit 3/5m --pause-after 1 --pause-after 3\n  \
        editwar simulate test-run/audit.log --junit editwar.xml")]
    Simulate(SimulateArgs),
    /// Show what the Golden State would make of a live object, and why; without a cluster.
    #[command(after_help = "Example:\n  kubectl get deployment web -n shop -o yaml > live.yaml\n  \
        editwar render --asset assets/apps/web.yaml --live live.yaml")]
    Render(RenderArgs),
    /// Take in audit events as a kube-apiserver webhook backend; answer queries; export metrics.
    #[command(after_help = "Without any configuration it listens on loopback only:\n  \
        audit webhook  http://127.0.0.1:8443/audit or /audit/CLUSTER\n  \
        query API      http://127.0.0.1:8080/api/v1/wars\n  \
        metrics        http://127.0.0.1:8080/metrics\n\n\
        Nothing is written to disk unless --journal DIR is given: a restart then begins anew.")]
    Serve(ServeArgs),
    /// Print what a cluster needs so that its audit events arrive: policy, kubeconfig, flags, certificates.
    Setup {
        /// What to print.
        #[command(subcommand)]
        what: super::setup::Setup,
    },
    /// Look at the way of an audit event from the API server to the verdict, and say what is missing.
    ///
    /// Exit code: 0 nothing is broken, 1 something is, 2 bad usage.
    #[command(after_help = "Example:\n  editwar doctor --webhook /etc/kubernetes/editwar/webhook.yaml --probe default")]
    Doctor(super::doctor::DoctorArgs),
    /// Print the version, the commit it was built from, and what it was built for.
    Version,
    /// Print a script that completes commands and flags in a shell.
    #[command(after_help = "Examples:\n  \
        editwar completions bash > /etc/bash_completion.d/editwar\n  \
        editwar completions fish > ~/.config/fish/completions/editwar.fish")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write man pages into a directory, one for each command.
    #[command(after_help = "Example:\n  editwar man /usr/local/share/man/man1")]
    Man {
        /// Where.
        dir: PathBuf,
    },
}

/// A running server, and what it is shown.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Remote {
    /// A running `editwar serve`, such as http://127.0.0.1:8080; https:// where it has a certificate.
    #[arg(long, env = "EDITWAR_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// The CA that signed the server's certificate, PEM; by default the system's.
    #[arg(long, env = "EDITWAR_SERVER_CA", value_name = "FILE")]
    pub server_ca: Option<PathBuf>,
    /// A file with the bearer token that says who asks.
    #[arg(long, env = "EDITWAR_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A client certificate that says so, PEM.
    #[arg(long, env = "EDITWAR_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, env = "EDITWAR_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
}

/// Arguments of `wars`.
#[derive(Debug, clap::Args)]
pub struct WarsArgs {
    /// The server.
    #[command(flatten)]
    pub remote: Remote,
    /// Which of them.
    #[command(flatten)]
    pub which: Which,
    /// Only objects in this namespace.
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// Which wars are listed, and how.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// Only this cluster, where a server watches several.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Only wars with a party whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub actor: Option<String>,
    /// Also objects that were contested but never thrashed.
    #[arg(short, long)]
    pub all: bool,
    /// How verdicts changed since then, from the server's journal: a time, or a duration back such as 7d.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["actor", "all"])]
    pub since: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// Audit logs: files (plain or .gz), directories, or - for standard input.
    #[arg(required = true, value_name = "FILE|DIR|-")]
    pub inputs: Vec<PathBuf>,
    /// Token buckets to try, RETAKES/WINDOW, several with commas; may be given several times. Without any, the
    /// configured ones are tried.
    #[arg(long, value_name = "N/TIME,…")]
    pub limit: Vec<String>,
    /// Thrashing events that pause, to try; may be given several times.
    #[arg(long, value_name = "N")]
    pub pause_after: Vec<std::num::NonZeroU32>,
    /// Quiet periods to try; may be given several times.
    #[arg(long, value_name = "TIME")]
    pub quiet_period: Vec<String>,
    /// How sure a pause must be.
    #[arg(long, value_enum, default_value_t = Sureness::Probable)]
    pub confidence: Sureness,
    /// Write a JUnit report: a failed test for each object that the first limits find fought over.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// How sure a verdict must be to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sureness {
    /// The same part was written alternately.
    Possible,
    /// The same fields were named.
    Probable,
}

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
pub struct RenderArgs {
    /// File of the Golden State.
    #[arg(long, value_name = "FILE")]
    pub asset: PathBuf,
    /// The object as `kubectl get -o yaml` or `-o json` prints it; without it, as if it were not there.
    #[arg(long, value_name = "FILE")]
    pub live: Option<PathBuf>,
    /// The value of the label `managed-by`.
    #[arg(long, value_name = "VALUE", default_value = "virt-platform-autopilot")]
    pub managed_by: String,
    /// How to print: yaml or json.
    #[arg(short, long, value_enum, default_value_t = Format::Yaml)]
    pub output: Format,
}

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Configuration file (YAML).
    #[arg(short, long, env = "EDITWAR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the query API, metrics and health.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<std::net::SocketAddr>,
    /// Address of the audit webhook.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub webhook_listen: Option<std::net::SocketAddr>,
    /// What to write to the cluster: nothing, or pauses of objects that are fought over.
    #[arg(long, value_enum, value_name = "MODE")]
    pub enforce: Option<Enforce>,
    /// The directory of the Golden State.
    #[arg(long, value_name = "DIR")]
    pub assets: Option<PathBuf>,
    /// How to reach the API server for that; by default as kubectl would, or as a pod does.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Also read this audit log as it is written, through rotations; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub follow: Vec<PathBuf>,
    /// Memory that everything together may have, such as 512MiB; by default what the control group has.
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<String>,
    /// Keep every write in this directory, so that a restart forgets nothing and the past can be asked for; off by default.
    #[arg(long, value_name = "DIR|off")]
    pub journal: Option<PathBuf>,
    /// Set one key of the configuration, such as limits.quiet=5m; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Check the configuration and exit.
    #[arg(long)]
    pub check_config: bool,
    /// Print the configuration as it would be used, and exit.
    #[arg(long)]
    pub print_config: bool,
    /// What to log: error, warn, info, debug, trace.
    #[arg(long, env = "EDITWAR_LOG", default_value = "info", value_name = "LEVEL")]
    pub log: String,
}

/// What is written to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Enforce {
    /// Nothing.
    Observe,
    /// Pauses of objects that are fought over, explained on the object, lifted when it is quiet again.
    Pause,
    /// Pauses, and a Golden State that objects are held at.
    Reconcile,
}

/// Which part of a log is looked at, and how.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// Only events at or after this time (RFC 3339), or this long before the last event of the log (30m, 2h, 7d).
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only events before this time (RFC 3339), or this long before the last event of the log.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// How many cores to use; by default all, up to eight.
    #[arg(long, value_name = "N")]
    pub workers: Option<std::num::NonZeroUsize>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Keep and print no values: fields are named, values only compared.
    #[arg(long)]
    pub redact: bool,
    /// Configuration file (YAML): limits, overrides, actors.
    #[arg(short, long, env = "EDITWAR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key of the configuration, such as limits.quiet=5m; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// No progress bar and no summary on stderr.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Arguments of `analyze`.
#[derive(Debug, clap::Args)]
pub struct AnalyzeArgs {
    /// Audit logs: files (plain or .gz), directories, or - for standard input. KIND/NAME shows that object only.
    #[arg(required = true, value_name = "FILE|DIR|-|KIND/NAME")]
    pub inputs: Vec<PathBuf>,
    /// Only objects in this namespace.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Only this object.
    #[arg(long, value_name = "KIND/NAME")]
    pub object: Option<String>,
    /// Only wars with a party whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub actor: Option<String>,
    /// Also objects that were contested but never thrashed.
    #[arg(short, long)]
    pub all: bool,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Arguments of `who`.
#[derive(Debug, clap::Args)]
pub struct WhoArgs {
    /// The object.
    #[arg(value_name = "KIND/NAME")]
    pub object: String,
    /// Audit logs to read; without any, the server is asked.
    #[arg(value_name = "FILE|DIR|-")]
    pub inputs: Vec<PathBuf>,
    /// The object's namespace.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// The object's cluster, where a server watches several.
    #[arg(long)]
    pub cluster: Option<String>,
    /// The server.
    #[command(flatten)]
    pub remote: Remote,
    /// How many writes of the timeline to print, from the last; 0 prints all that are kept.
    #[arg(long, default_value_t = 40, value_name = "N")]
    pub writes: usize,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Ways to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, as wide as the terminal.
    Table,
    /// For people, with everything.
    Wide,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
    /// For tickets and chats.
    Markdown,
}
