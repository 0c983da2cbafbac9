//! The binary: answers completion scripts, parses the arguments, runs the command, and returns its exit code.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    editwar::cli::completions::answer();
    editwar::cli::run(editwar::cli::args::Args::parse())
}
