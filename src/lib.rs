//! crate

pub mod audit;
pub mod cli;
pub mod config;
pub mod detect;
pub mod ingest;
pub mod net;
pub mod pipeline;
pub mod query;
pub mod telemetry;

/// The commit this was built from, where the build knew it.
pub const COMMIT: &str = match option_env!("EDITWAR_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
