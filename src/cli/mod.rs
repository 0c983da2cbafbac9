//! The command line: arguments, output and exit codes. This module may use all others, and none of them uses it.

mod admin;
mod analyze;
pub mod args;
mod check;
pub mod completions;
mod connection;
mod demo;
mod descriptors;
mod doctor;
mod enforcer_setup;
mod evidence;
mod explain_input;
mod forward;
mod journal_setup;
mod junit;
mod listener_auth;
pub mod markdown;
mod memory_budget;
mod notify_setup;
pub mod output;
mod owners;
pub mod plugin;
mod query_limits;
mod render;
mod serve;
mod server;
mod service;
mod settings;
mod setup;
mod shared_log;
mod simulate;
mod style;
mod support_bundle;
mod timeline_chart;
mod war_counts;
mod wars;
mod watch;
mod who;

use std::process::ExitCode;

use anyhow::Result;

use crate::query::views::Coverage;

/// Runs a command. Data goes to stdout, everything else to stderr.
pub fn run(args: args::Args) -> ExitCode {
    args.colour.apply();
    let outcome: Result<Outcome> = match args.command {
        args::Command::Analyze(args) => analyze::run(&args),
        args::Command::Who(args) => who::run(&args),
        args::Command::Simulate(args) => simulate::run(&args),
        args::Command::Render(args) => render::run(&args),
        args::Command::Serve(args) => serve::run(&args),
        args::Command::Demo(args) => demo::run(&args),
        args::Command::Wars(args) => wars::run(&args),
        args::Command::Watch(args) => watch::run(&args),
        args::Command::Check(args) => check::run(&args),
        args::Command::Setup { what } => setup::run(&what),
        args::Command::Doctor(args) => doctor::run(&args),
        args::Command::SupportBundle(args) => support_bundle::run(&args),
        args::Command::Version => completions::version(),
        args::Command::Completions { shell } => completions::completions(shell),
        args::Command::Man { dir } => completions::man(&dir),
    };
    end(outcome)
}

/// Prints an error, and returns the exit code.
fn end(outcome: Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(outcome) => outcome.into(),
        // The reader of our output is gone, so there is nothing left to report.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("editwar: {}", output::clean(&error_chain(&error)));
            Outcome::Unusable.into()
        }
    }
}

/// Formats an error with its causes. A cause that is already part of the text is not repeated.
fn error_chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| {
        if text.is_empty() {
            cause
        } else if text.contains(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

/// The result of a command, which determines its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 0: no war.
    Calm,
    /// 1: a war was found.
    War,
    /// 2: invalid usage, or unreadable input.
    Unusable,
}

// === impl Outcome ===

impl Outcome {
    /// Returns the outcome of a search for wars. If the answer may be incomplete, neither result is certain.
    fn of_search(coverage: &Coverage, is_war: bool) -> Outcome {
        if coverage.is_incomplete() {
            Outcome::Unusable
        } else if is_war {
            Outcome::War
        } else {
            Outcome::Calm
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(match outcome {
            Outcome::Calm => 0,
            Outcome::War => 1,
            Outcome::Unusable => 2,
        })
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_it = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(is_it)
}
