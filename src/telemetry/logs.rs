//! Logs: for people on a terminal, JSON elsewhere; their level can change while the program runs. Never one per event.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// What is logged, and the way to change it.
#[derive(Clone)]
pub struct Levels {
    handle: reload::Handle<EnvFilter, Registry>,
    text: Arc<Mutex<String>>,
}

/// Starts logging to stderr at `level` (`error`, `warn`, `info`, `debug`, `trace`, or a filter such as
/// `info,editwar::ingest=debug`).
///
/// # Errors
/// Where the filter makes no sense.
pub fn start(level: &str) -> Result<Levels, ParseError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::builder().parse(level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let started = match std::io::stderr().is_terminal() {
        true => registry.with(layer.with_ansi(std::env::var_os("NO_COLOR").is_none())).try_init(),
        false => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    // A second start, as tests do it, keeps the first.
    drop(started);
    Ok(Levels { handle, text: Arc::new(Mutex::new(level.to_owned())) })
}

// === impl Levels ===

impl Levels {
    /// What is logged now.
    pub fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs by another filter from now on.
    ///
    /// # Errors
    /// Where the filter makes no sense; then nothing changes.
    pub fn set(&self, level: &str) -> Result<(), ParseError> {
        let filter = EnvFilter::builder().parse(level)?;
        let before =
            std::mem::replace(&mut *self.text.lock().unwrap_or_else(PoisonError::into_inner), level.to_owned());
        // Told before and after: one of the two levels may leave it out.
        tracing::warn!(before, now = level, "the log level changes");
        drop(self.handle.reload(filter));
        tracing::warn!(before, now = level, "the log level has changed");
        Ok(())
    }
}
