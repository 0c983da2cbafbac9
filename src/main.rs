//! Parse, run, exit.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    editwar::cli::run(editwar::cli::args::Args::parse())
}
