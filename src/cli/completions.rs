//! Version, shell completions and man pages for packages. They are generated from the argument parser, so that they are
//! always up to date.
//!
//! The completion scripts run `editwar` itself, which queries the server for names if one is configured.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{CommandFactory, FromArgMatches};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter as _};
use clap_complete::env::{CompleteEnv, Shells};

use super::Outcome;
use super::args::{Args, Remote};
use super::connection::ServerTarget;
use crate::escape;
use crate::query::client::with_query;
use crate::query::views::{Report, War};

/// The variable by which the completion scripts ask for completions.
const VARIABLE: &str = "COMPLETE";
/// Timeout of a completion, which must not delay the shell for long.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the version with build information.
pub fn version_line() -> String {
    format!(
        "{} (commit {}, {} {})",
        env!("CARGO_PKG_VERSION"),
        crate::COMMIT,
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

/// Prints the version.
///
/// # Errors
/// Errors of standard output.
pub fn version() -> Result<Outcome> {
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "editwar {}", version_line())?;
    stdout.flush()?;
    Ok(Outcome::Calm)
}

/// Prints the completion script of a shell.
///
/// # Errors
/// Errors of standard output.
pub fn completions(shell: clap_complete::Shell) -> Result<Outcome> {
    let shells = Shells::builtins();
    let completer = shells.completer(&shell.to_string()).context("the shell is not supported")?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "editwar", "editwar", "editwar", &mut script)?;
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(&script)?;
    stdout.flush()?;
    Ok(Outcome::Calm)
}

/// Answers a completion script and exits, if this process was started by one.
pub fn answer() {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

/// Returns the command line, with completions of names.
fn command() -> clap::Command {
    let with = |argument: clap::Arg, names: fn(&War) -> Vec<String>| {
        argument.add(ArgValueCompleter::new(move |current: &OsStr| candidates(current, names)))
    };
    let mut all = Args::command();
    for name in ["who", "wars"] {
        all = all.mut_subcommand(name, |command| {
            command.mut_args(|argument| match argument.get_id().as_str() {
                "object" => {
                    with(argument, |war| vec![format!("{}/{}", war.object.kind.to_lowercase(), war.object.name)])
                }
                "namespace" => with(argument, |war| vec![war.object.namespace.clone()]),
                "cluster" => with(argument, |war| vec![war.object.cluster.clone()]),
                "actor" => with(argument, |war| war.parties.iter().map(|party| party.actor.clone()).collect()),
                _ => argument,
            })
        });
    }
    all
}

/// Returns the names of contested objects and their parties that begin with `current`. Without a server, returns files,
/// since the first argument may also be a log.
fn candidates(current: &OsStr, names: fn(&War) -> Vec<String>) -> Vec<CompletionCandidate> {
    let Some(remote) = remote() else { return PathCompleter::any().complete(current) };
    let current = current.to_string_lossy();
    // The names come from the cluster, and the shell prints them.
    let is_offered =
        |name: &String| !name.is_empty() && name.starts_with(&*current) && !name.contains(escape::is_harmful);
    let names: BTreeSet<String> = wars(remote).iter().flat_map(names).filter(is_offered).collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Returns the server on the command line that is being completed, or in the environment.
fn remote() -> Option<Remote> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let matches = Args::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    let (_, command) = matches.subcommand()?;
    Remote::from_arg_matches(command).ok().filter(|remote| remote.server.is_some())
}

/// Returns the wars that a server knows, or none if it does not answer in time.
fn wars(remote: Remote) -> Vec<War> {
    let ask = async {
        let server = ServerTarget::At(remote).open().await?;
        anyhow::Ok(server.get::<Report>(&with_query("/api/v1/wars", &[("all", Some("true"))])).await?.wars)
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let answer = runtime.block_on(async { tokio::time::timeout(TIMEOUT, ask).await });
    answer.ok().and_then(Result::ok).unwrap_or_default()
}

/// Writes a man page for every command.
///
/// # Errors
/// The directory cannot be written.
pub fn man(dir: &Path) -> Result<Outcome> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    clap_mangen::generate_to(Args::command(), dir).with_context(|| dir.display().to_string())?;
    Ok(Outcome::Calm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_man_page() {
        let mut command = Args::command();
        command.clone().debug_assert();
        command.build();
        let dir = std::env::temp_dir().join(format!("editwar-man-{}", std::process::id()));
        man(&dir).unwrap();
        for below in command.get_subcommands().map(clap::Command::get_name).filter(|name| *name != "help") {
            let page = std::fs::read_to_string(dir.join(format!("editwar-{below}.1"))).unwrap();
            assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH NAME"), "{below}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
