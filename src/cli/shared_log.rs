//! The log that replicas share, as a part of the server.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow};

use crate::audit::event::Micros;
use crate::ingest::kafka::log::{Log, Reading, Target};
use crate::journal::append::Append;
use crate::notify::LiftedPauses;
use crate::notify::turn::Turn;
use crate::query::api::{SHARED_LOG, SourceStatus};
use crate::util::clock;
use crate::util::readiness::Readiness;

/// The log, and what its writes are passed to.
pub(super) struct SharedLog {
    log: Log,
    target: Target,
    /// The time of the newest write on the local disk, once its journal is open.
    newest: Arc<OnceLock<Option<Micros>>>,
    reading: Option<Reading>,
}

// === impl SharedLog ===

impl SharedLog {
    pub(super) fn new(log: Log, target: Target, newest: Arc<OnceLock<Option<Micros>>>) -> SharedLog {
        SharedLog { log, target, newest, reading: None }
    }

    /// Returns where sources store writes.
    pub(super) fn appender(&self) -> Arc<dyn Append> {
        self.log.append.clone()
    }

    /// Returns what says whether this replica leads.
    pub(super) fn turn(&self) -> Arc<dyn Turn> {
        self.log.turn.clone()
    }

    /// Returns what tells all replicas of lifted pauses.
    pub(super) fn lifted_pauses(&self) -> Arc<dyn LiftedPauses> {
        self.log.lifted_pauses.clone()
    }

    /// Returns the state of the log for health checks.
    pub(super) fn status(&self) -> SourceStatus {
        SourceStatus { name: SHARED_LOG, readiness: self.readiness() }
    }

    /// Returns whether this replica has what is in the log.
    pub(super) fn readiness(&self) -> Readiness {
        self.target.readiness.clone()
    }

    /// Starts to read, and waits until everything that was in the log before was read.
    ///
    /// # Errors
    /// The topic is unsuitable.
    pub(super) async fn start(&mut self) -> Result<()> {
        // If the local journal could not be opened yet, only the window is read.
        let newest = self.newest.get().copied().unwrap_or_else(|| Some(clock::now()));
        let reading = self.reading.insert(self.log.read(self.target.clone(), newest)?);
        let caught_up = (&mut reading.caught_up).await.context("the thread that reads the log ended unexpectedly")?;
        caught_up.map_err(|why| anyhow!("journal.kafka: {why}"))
    }

    /// Stops to read, and waits until what was received is observed.
    pub(super) async fn stop(self) {
        if let Some(reading) = self.reading {
            reading.is_stopped.store(true, Ordering::Relaxed);
            // An error means that the thread has ended.
            let _ = reading.ended.await;
        }
        tokio::task::block_in_place(|| self.log.flush());
    }
}
