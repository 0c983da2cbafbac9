//! The binary: answers completion scripts, parses the arguments, runs the command, and returns its exit code. Under the
//! name of the kubectl plugin, it is that plugin.

use std::process::ExitCode;

use clap::Parser;
use editwar::cli::{args::Args, completions, plugin};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match plugin::Role::of_call() {
        None => {
            completions::answer();
            editwar::cli::run(Args::parse())
        }
        Some(role) => role.run(),
    }
}
