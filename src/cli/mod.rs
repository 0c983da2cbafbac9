//! The command line: arguments in, pictures and exit codes out. May use everything; nobody uses it.

pub mod analyze;
pub mod args;
mod computing;
mod descriptors;
pub mod doctor;
mod enforcer;
pub mod forward;
mod gates;
pub mod lanes;
pub mod markdown;
pub mod memory;
pub mod output;
pub mod plugin;
pub mod reach;
mod render;
pub mod serve;
pub mod setup;
pub mod shells;
pub mod simulate;
pub mod wars;
pub mod who;

use std::process::ExitCode;

use anyhow::Result;

/// Runs what the command line asks for. Data goes to stdout, all else to stderr.
pub fn run(args: args::Args) -> ExitCode {
    let outcome: Result<Outcome> = match args.command {
        args::Command::Analyze(args) => analyze::run(&args),
        args::Command::Who(args) => who::run(&args),
        args::Command::Simulate(args) => simulate::run(&args),
        args::Command::Render(args) => render::run(&args),
        args::Command::Serve(args) => serve::run(&args),
        args::Command::Wars(args) => wars::run(&args),
        args::Command::Setup { what } => setup::run(&what),
        args::Command::Doctor(args) => doctor::run(&args),
        args::Command::Version => shells::version(),
        args::Command::Completions { shell } => shells::completions(shell),
        args::Command::Man { dir } => shells::man(&dir),
    };
    end(outcome)
}

/// Tells an error, and how it went.
fn end(outcome: Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(outcome) => outcome.into(),
        // The reader of our output is gone: nothing left to say, and nobody to say it to.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("editwar: {}", output::clean(&told(&error)));
            Outcome::Unusable.into()
        }
    }
}

/// An error and its causes, each once: some say their cause themselves.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        match (told.is_empty(), told.contains(&cause)) {
            (true, _) => cause,
            (_, true) => told,
            (_, false) => format!("{told}: {cause}"),
        }
    })
}

/// How a command ended, as its exit code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 0: no war.
    Calm,
    /// 1: a war was found.
    War,
    /// 2: bad usage, or input that cannot be read.
    Unusable,
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
