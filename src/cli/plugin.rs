//! `kubectl editwar`: runs the commands for a server against the server in kubectl's current cluster, and all other
//! commands unchanged.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};

use super::args::doctor::{Archive, DoctorChecks};
use super::args::setup::Setup;
use super::args::{
    Access, AnalyzeArgs, Args, CheckOptions, Colour, Format, KubeAccess, SimulateArgs, WatchOptions, Which, WhoArgs,
};
use super::connection::ServerTarget;
use super::{Outcome, analyze, check, completions, doctor, end, setup, simulate, support_bundle, wars, watch, who};
use crate::escape;
use crate::query::client::{Error, with_query};
use crate::query::views::Report;

/// Timeout of a completion, which must not delay the shell for long.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(2);
/// Tells kubectl's completion not to complete file names.
const NO_FILES: &str = ":4";

/// Find out who is fighting over a Kubernetes object (which field, which values, since when), and stop it.
///
/// Queries the editwar server in the cluster through the API server. Without a command, lists the wars.
#[derive(Debug, Parser)]
#[command(name = "kubectl-editwar", bin_name = "kubectl editwar", version, max_term_width = 100)]
struct Plugin {
    /// Colours.
    #[command(flatten)]
    colour: Colour,
    /// The cluster.
    #[command(flatten)]
    access: Access,
    /// Show only objects in this namespace. Default: all namespaces, and cluster-scoped objects.
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,
    /// Show objects in all namespaces, which is the default.
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Command to run.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the wars. Exit code: 0 if no war was found, 1 if a war was found, 2 if the server cannot be queried.
    Wars(Which),
    /// Show who writes one object: actors, fields, values, timeline.
    #[command(after_help = "Example:\n  kubectl editwar who deployment/web -n shop")]
    Who {
        /// Object to show, such as deployment/web or deployment web.
        #[arg(value_name = "KIND/NAME", required_unless_present = "actor", num_args = 1..=2)]
        object: Vec<String>,
        /// Show what the actors whose names contain this text have changed, instead of who changed an object.
        #[arg(long, value_name = "TEXT")]
        actor: Option<String>,
        /// Cluster of the object, if the server watches several.
        #[arg(long, value_name = "NAME")]
        cluster: Option<String>,
        /// Print the most recent writes.
        #[arg(long)]
        timeline: bool,
        /// Number of most recent writes to print, or 0 for all. Implies --timeline.
        #[arg(long, value_name = "N")]
        timeline_limit: Option<usize>,
        /// Show times in UTC instead of relative to now.
        #[arg(long)]
        utc: bool,
        /// Output format.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Find edit wars in the cluster while they happen, with read access only. Needs no editwar server.
    #[command(after_help = "Examples:\n  \
        kubectl editwar watch\n  \
        kubectl editwar watch deployment/web -n shop --for 10m")]
    Watch(WatchOptions),
    /// Name fights that will happen, before they start, with read access only. Needs no editwar server.
    #[command(after_help = "Examples:\n  \
        kubectl editwar check\n  \
        kubectl editwar check -n shop -f manifests/")]
    Check(CheckOptions),
    /// Check each step of an audit event from the API server to the verdict, and report what is missing. Without a
    /// server, tell which evidence this account has, and what comes next.
    Doctor(DoctorChecks),
    /// Write what a bug report needs to an archive, without names and values of the cluster.
    SupportBundle(Archive),
    /// Find edit wars in audit logs.
    Analyze(AnalyzeArgs),
    /// Replay a log with other limits, and show what they would have paused, and when.
    Simulate(SimulateArgs),
    /// Print what a cluster needs to send audit events to editwar, and the kinds of evidence there are.
    Setup {
        /// What to print.
        #[command(subcommand)]
        what: Setup,
    },
    /// Print the version.
    Version,
}

/// What `editwar` does if it is called by the name of the plugin. The binary `kubectl-editwar` calls it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is `kubectl editwar`.
    Plugin,
    /// It prints completions for kubectl.
    Completer,
}

// === impl Role ===

impl Role {
    /// Returns the role by the name that the process was called by, or `None` if that is not the plugin's.
    pub fn of_call() -> Option<Role> {
        let path = std::env::args_os().next()?;
        match Path::new(&path).file_name()?.to_str()? {
            "kubectl-editwar" => Some(Role::Plugin),
            "kubectl_complete-editwar" => Some(Role::Completer),
            _ => None,
        }
    }

    /// Runs the plugin with the arguments of the process.
    pub fn run(self) -> ExitCode {
        match self {
            Role::Plugin => end(Plugin::parse().run().map_err(with_hint)),
            Role::Completer => complete(&std::env::args().skip(1).collect::<Vec<_>>()),
        }
    }
}

/// Adds a hint to errors of the API server's proxy: port forwarding may work instead.
fn with_hint(error: anyhow::Error) -> anyhow::Error {
    let Some(Error::Refused { status, .. }) = error.downcast_ref::<Error>() else { return error };
    match status.as_u16() {
        401 | 403 | 502 | 503 => error
            .context("cannot reach editwar through the API server's proxy; try --port-forward to use port forwarding"),
        _ => error,
    }
}

// === impl Plugin ===

impl Plugin {
    fn run(self) -> Result<Outcome> {
        self.colour.apply();
        let target = ServerTarget::In(self.access.clone());
        let namespace = self.namespace.as_deref();
        match &self.command {
            None => wars::list(&Which::default(), namespace, &target),
            Some(Command::Watch(options)) => {
                watch::watch_cluster(options, namespace, &self.access.cluster, "kubectl editwar watch")
            }
            Some(Command::Check(options)) => check::check_cluster(options, namespace, &self.access.cluster),
            Some(Command::Wars(which)) => wars::list(which, namespace, &target),
            Some(Command::Who { object, actor, cluster, timeline, timeline_limit, utc, output }) => {
                let mut args = WhoArgs {
                    actor: actor.clone(),
                    timeline: *timeline,
                    timeline_limit: *timeline_limit,
                    access: self.access.cluster.clone(),
                    ..who_args(&object.join("/"), namespace, cluster.as_deref(), *output)?
                };
                args.log.utc = *utc;
                if object.is_empty() {
                    args.object = None;
                }
                who::answer(&args, Some(target))
            }
            Some(Command::Doctor(look)) => doctor::look(look, namespace, &self.access, &target),
            Some(Command::SupportBundle(archive)) => support_bundle::pack(archive, &self.access, &target),
            Some(Command::Analyze(args)) => analyze::run(args),
            Some(Command::Simulate(args)) => simulate::run(args),
            Some(Command::Setup { what }) => setup::run(what),
            Some(Command::Version) => completions::version(),
        }
    }
}

/// Returns the equivalent arguments of `editwar who`.
fn who_args(object: &str, namespace: Option<&str>, cluster: Option<&str>, output: Format) -> Result<WhoArgs> {
    use clap::ValueEnum as _;
    let output = output.to_possible_value().context("every format has a name")?;
    let mut words = vec!["editwar", "who", "-o", output.get_name()];
    words.extend(namespace.iter().flat_map(|n| ["-n", n]));
    words.extend(cluster.iter().flat_map(|c| ["--cluster", c]));
    words.extend(["--", object]);
    match Args::try_parse_from(words)?.command {
        super::args::Command::Who(args) => Ok(args),
        _ => unreachable!("the command is `who`"),
    }
}

/// Prints completions for kubectl. `words` are the words after `kubectl editwar`; the last one is incomplete.
fn complete(words: &[String]) -> ExitCode {
    let mut candidates = candidates(words);
    // The names come from the cluster, and the shell prints them.
    candidates.retain(|candidate| !candidate.contains(escape::is_harmful));
    candidates.push(NO_FILES.to_owned());
    let mut stdout = anstream::stdout().lock();
    // If the shell no longer reads the output, there is nothing to do.
    drop(writeln!(stdout, "{}", candidates.join("\n")));
    ExitCode::SUCCESS
}

fn candidates(words: &[String]) -> Vec<String> {
    let (unfinished, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[][..]),
    };
    let mut command = Plugin::command();
    command.build();
    let mut command = &command;
    let mut depth = 0;
    for word in before {
        if let Some(below) = command.find_subcommand(word) {
            command = below;
            depth += 1;
        }
    }
    let previous = before.last().map(String::as_str).unwrap_or_default();
    let found: Vec<String> = if unfinished.starts_with('-') {
        command.get_arguments().filter_map(|a| Some(format!("--{}", a.get_long()?))).collect()
    } else if matches!(previous, "-o" | "--output") {
        <Format as clap::ValueEnum>::value_variants()
            .iter()
            .filter_map(|f| Some(clap::ValueEnum::to_possible_value(f)?.get_name().to_owned()))
            .collect()
    } else if command.get_name() == "who" && depth == 1 {
        objects(before)
    } else {
        let visible = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
        visible.map(|c| c.get_name().to_owned()).collect()
    };
    found.into_iter().filter(|candidate| candidate.starts_with(unfinished)).collect()
}

/// Returns the contested objects as `KIND/NAME`. Empty if the server does not answer in time.
fn objects(words: &[String]) -> Vec<String> {
    let value = |long: &str, short: &str| {
        let is_it = |word: &&[String]| word[0] == long || word[0] == short;
        words.windows(2).find(is_it).map(|pair| pair[1].clone())
    };
    let access = Access {
        cluster: KubeAccess {
            kubeconfig: value("--kubeconfig", "--kubeconfig").map(Into::into),
            context: value("--context", "--context"),
        },
        port_forward: words.iter().any(|word| word == "--port-forward"),
    };
    let ask = async {
        let namespace = value("--namespace", "-n");
        let server = ServerTarget::In(access).open().await?;
        let path = with_query("/api/v1/wars", &[("all", Some("true")), ("namespace", namespace.as_deref())]);
        let report: Report = server.get(&path).await?;
        anyhow::Ok(
            report.wars.iter().map(|war| format!("{}/{}", war.object.kind.to_lowercase(), war.object.name)).collect(),
        )
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    runtime
        .block_on(async { tokio::time::timeout(COMPLETION_TIMEOUT, ask).await })
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(words: &[&str]) -> Vec<String> {
        candidates(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_plugin_has_every_command_that_queries_a_server() {
        Plugin::command().debug_assert();
        let plugin = Plugin::command();
        let asks = |command: &&clap::Command| command.get_arguments().any(|a| a.get_id() == "server");
        let all = Args::command();
        let asking: Vec<&str> = all.get_subcommands().filter(asks).map(clap::Command::get_name).collect();
        assert_eq!(asking, ["who", "wars", "doctor", "support-bundle"]);
        assert!(asking.iter().all(|name| plugin.find_subcommand(name).is_some()));
    }

    #[test]
    fn commands_flags_and_formats_are_completed() {
        assert_eq!(completed(&["wh"]), ["who"]);
        assert!(completed(&[""]).contains(&"wars".to_owned()));
        assert_eq!(completed(&["setup", "cer"]), ["certs"]);
        assert_eq!(completed(&["wars", "--kubec"]), ["--kubeconfig"]);
        assert_eq!(completed(&["wars", "-o", "j"]), ["json", "jsonl"]);
    }
}
