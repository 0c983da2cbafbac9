//! Logging: human-readable on a terminal, JSON elsewhere. The level can be changed at run time. Nothing is logged per
//! event.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::escape;
use crate::util::lock::lock;

/// The current log filter, and a handle to change it.
#[derive(Clone)]
pub struct LogLevels {
    handle: reload::Handle<EnvFilter, Registry>,
    text: Arc<Mutex<String>>,
    #[cfg(feature = "otlp")]
    traces: Option<super::traces::Traces>,
}

/// Starts logging to stderr at `level` (`error`, `warn`, `info`, `debug`, `trace`, or a filter such as
/// `info,editwar::ingest=debug`).
///
/// # Errors
/// The filter is not valid.
pub(crate) fn start(level: &str) -> Result<LogLevels, Unknown> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let is_terminal = io::stderr().is_terminal();
    let writer = move || EscapingWriter { inner: io::stderr(), is_json: !is_terminal };
    let layer = fmt::layer().with_writer(writer).with_target(false);
    let layer = if is_terminal {
        layer.with_ansi(std::env::var_os("NO_COLOR").is_none()).boxed()
    } else {
        // Spans are only for traces; log lines contain everything that they need.
        layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    };
    let registry = tracing_subscriber::registry().with(layer.with_filter(filter));
    #[cfg(feature = "otlp")]
    let traces = super::traces::Traces::start();
    #[cfg(feature = "otlp")]
    let registry = registry.with(traces.as_ref().map(|traces| traces.layer()));
    // A second call, as in tests, keeps the first subscriber.
    drop(registry.try_init());
    Ok(LogLevels {
        handle,
        text: Arc::new(Mutex::new(level.to_owned())),
        #[cfg(feature = "otlp")]
        traces,
    })
}

/// Escapes terminal control sequences in log lines, since anyone can choose the names in them.
struct EscapingWriter<W> {
    inner: W,
    is_json: bool,
}

impl<W: Write> Write for EscapingWriter<W> {
    /// The subscriber writes a whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let escaped = if self.is_json { escape::json(&text) } else { escape::coloured(&text) };
        self.inner.write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// An invalid filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected error, warn, info, debug, trace, or a filter such as info,editwar::ingest=debug, got \"{0}\"")]
pub struct Unknown(String);

/// Parses a filter. A single word must be a level: `EnvFilter` would take a typo such as `inof` as the name of a
/// module.
fn filter(text: &str) -> Result<EnvFilter, Unknown> {
    let is_known = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    let parsed = EnvFilter::builder().parse(text).ok().filter(|_| text.split(',').all(is_known));
    parsed.ok_or_else(|| Unknown(text.to_owned()))
}

// === impl LogLevels ===

impl LogLevels {
    /// Flushes the traces, if they are enabled.
    pub fn stop(&self) {
        #[cfg(feature = "otlp")]
        if let Some(traces) = &self.traces {
            traces.stop();
        }
    }

    /// Returns the current filter.
    pub fn text(&self) -> String {
        lock(&self.text).clone()
    }

    /// Changes the filter.
    ///
    /// # Errors
    /// The filter is not valid. The current one is kept.
    pub fn set(&self, level: &str) -> Result<(), Unknown> {
        let filter = filter(level)?;
        let before = std::mem::replace(&mut *lock(&self.text), level.to_owned());
        // Logged before and after the change, since one of the two levels may suppress it.
        tracing::warn!(before, now = level, "changing the log level");
        drop(self.handle.reload(filter));
        tracing::warn!(before, now = level, "changed the log level");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmful_characters_in_log_lines_are_escaped() {
        let line = "{\"name\":\"a\u{9b}2J\u{202e}\u{200b}\u{2028}\u{e0041}\"}\n";
        let mut json = EscapingWriter { inner: Vec::new(), is_json: true };
        json.write_all(line.as_bytes()).unwrap();
        let written = String::from_utf8(json.inner).unwrap();
        assert!(!written.trim_end().contains(escape::is_harmful), "{written}");
        let values = [line, &written].map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert_eq!(values[0], values[1]);
        let mut coloured = EscapingWriter { inner: Vec::new(), is_json: false };
        coloured.write_all("\u{1b}[31mERROR\u{1b}[0m a\u{9b}b\n".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(coloured.inner).unwrap(), "\u{1b}[31mERROR\u{1b}[0m a\\u{9b}b\n");
    }
}
