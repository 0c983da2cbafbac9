//! Logs: for people on a terminal, JSON elsewhere. Never one per event.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging to stderr at `level` (`error`, `warn`, `info`, `debug`, `trace`, or a filter such as
/// `info,editwar::ingest=debug`).
///
/// # Errors
/// Where the filter makes no sense.
pub fn start(level: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(level)?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let is_terminal = std::io::stderr().is_terminal();
    let started = match is_terminal {
        true => builder.with_ansi(std::env::var_os("NO_COLOR").is_none()).finish().try_init(),
        false => builder.json().flatten_event(true).finish().try_init(),
    };
    // A second start, as tests do it, keeps the first.
    drop(started);
    Ok(())
}
