//! Opens the journal on the local disk, and restores what it has.

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use tokio::sync::oneshot;

use crate::audit::event::Micros;
use crate::config::Config;
use crate::journal::committer::Journal;
use crate::journal::reader::Reader;
use crate::journal::replay;
use crate::notify::{Changes, Sinks};
use crate::pipeline::Pipeline;
use crate::telemetry::metrics::Metrics;

/// What is restored from the journal on the local disk.
pub(super) enum Restored {
    /// The state, which these sinks rebuild, too.
    State(Sinks),
    /// Nothing but the time of its newest write: the log that replicas share has the state.
    Newest(Arc<OnceLock<Option<Micros>>>),
}

/// Opens the journal, if one is configured, and replays its recent past into the pipeline, if the state is restored from there.
///
/// # Errors
/// The thread of the journal cannot be started.
pub(super) fn open(
    config: &Config,
    pipeline: &Arc<Pipeline>,
    metrics: &Metrics,
    restored: Restored,
) -> Result<Option<(Journal, oneshot::Receiver<()>)>> {
    let Some(settings) = config.journal() else { return Ok(None) };
    let pipeline = pipeline.clone();
    let window = settings.retention.window;
    let replay = Box::new(move |reader: &Reader, newest: Option<Micros>| {
        let sinks = match &restored {
            Restored::State(sinks) => sinks,
            Restored::Newest(found) => {
                // Set once: a journal that is opened again has what it had before.
                let _ = found.set(newest);
                return Ok(Vec::new());
            }
        };
        let Some(newest) = newest else { return Ok(Vec::new()) };
        let since = newest.saturating_sub(window);
        let mut recent = Vec::new();
        let count = replay::replay(reader, since, &pipeline, |changes: &Changes<'_>| {
            sinks.publish(changes);
            let is_recent = |at: Micros| at > newest.saturating_sub(replay::MARGIN);
            recent.extend(changes.transitions.iter().filter(|transition| is_recent(transition.at)).cloned());
        })?;
        tracing::info!(writes = count, "replayed recent writes from the journal");
        Ok(recent)
    });
    Ok(Some(Journal::start(settings, metrics, replay)?))
}
