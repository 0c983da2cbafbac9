//! The log that replicas share: a topic with one partition, so that all replicas read the writes in one order.
//!
//! Each replica accepts batches, and acknowledges them once the brokers have stored their writes (`producer`). Each replica
//! reads and observes all writes, including its own (`reader`). So all of them have the same state, and each can answer every
//! question. One of them leads and publishes what they find (`lead`, `transitions`). Which one it is follows from messages in
//! the log (`claims`).

#[cfg(feature = "kafka")]
mod claims;
#[cfg(feature = "kafka")]
mod lead;
#[cfg(feature = "kafka")]
mod message;
#[cfg(feature = "kafka")]
mod producer;
#[cfg(feature = "kafka")]
mod reader;
#[cfg(feature = "kafka")]
mod topic;
#[cfg(feature = "kafka")]
mod transitions;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::oneshot;

use super::{Error, Settings};
use crate::audit::event::Micros;
use crate::journal::append::Append;
use crate::journal::committer::Journal;
use crate::notify::turn::{Outlet, Turn, Unpublished};
use crate::notify::{LiftedPauses, Sinks};
use crate::pipeline::Pipeline;
use crate::telemetry::metrics::Metrics;
use crate::util::readiness::Readiness;

/// The only partition.
#[cfg(feature = "kafka")]
const PARTITION: i32 = 0;
/// Maximum size of a message in bytes. An object in etcd has at most 1.5 MiB, an event has two of them, and both are
/// compressed.
#[cfg(feature = "kafka")]
const MESSAGE_BYTES_MAX: usize = 3 << 20;

/// Which topic it is, and how to connect.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "other builds have no log"))]
pub(crate) struct LogSettings {
    /// How to connect.
    pub kafka: Settings,
    /// The topic.
    pub topic: String,
    /// The topic for transitions, if they are published there.
    pub transitions: Option<String>,
    /// How long writes are kept, if the topic is created here.
    pub retention: Micros,
    /// How far back events can influence the verdicts.
    pub window: Micros,
}

/// What the writes of the log are passed to.
#[derive(Clone)]
#[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "other builds have no log"))]
pub(crate) struct Target {
    /// Observes them.
    pub pipeline: Arc<Pipeline>,
    /// Where they are stored on the local disk, for questions about the past.
    pub journal: Option<Arc<Journal>>,
    /// Receive the changes of writes that were in the log when this replica started.
    pub rebuilding: Sinks,
    /// Receive the changes of all later writes.
    pub sinks: Sinks,
    /// Counts what is read.
    pub metrics: Metrics,
    /// Set while the log is read without delay.
    pub readiness: Readiness,
    /// Keep transitions until the leader has published them.
    pub unpublished: Vec<Arc<dyn Unpublished>>,
}

/// A log that is open.
pub(crate) struct Log {
    /// Stores writes.
    pub append: Arc<dyn Append>,
    /// Whether this replica publishes what all have found.
    pub turn: Arc<dyn Turn>,
    /// Tells all replicas of lifted pauses.
    pub lifted_pauses: Arc<dyn LiftedPauses>,
    /// Where it publishes transitions, besides other receivers.
    pub transitions: Option<Arc<dyn Outlet>>,
    #[cfg(feature = "kafka")]
    settings: LogSettings,
    #[cfg(feature = "kafka")]
    lead: Arc<lead::Lead>,
}

/// A log that is being read.
pub(crate) struct Reading {
    /// Resolves when everything that was in the log at the start was read, or with the reason why it cannot be read.
    pub caught_up: oneshot::Receiver<Result<(), String>>,
    /// Ends the reading.
    pub is_stopped: Arc<AtomicBool>,
    /// Resolves when the thread has ended.
    pub ended: oneshot::Receiver<()>,
}

// === impl Log ===

impl Log {
    /// Creates the producer, which connects in the background.
    ///
    /// # Errors
    /// This build has no support for Kafka, a file cannot be read, or the settings are not accepted.
    #[cfg(feature = "kafka")]
    pub(crate) fn open(settings: LogSettings, metrics: &Metrics) -> Result<Log, Error> {
        let producer = Arc::new(producer::Producer::new(&settings, metrics.clone())?);
        let lead = Arc::new(lead::Lead::new(producer.clone()));
        metrics.register(lead::LeadGauge::new(lead.clone()));
        let transitions = settings.transitions.as_ref().map(|topic| {
            let transitions = transitions::Transitions::new(&settings, topic, metrics.clone())?;
            Ok::<_, Error>(Arc::new(transitions) as Arc<dyn Outlet>)
        });
        let transitions = transitions.transpose()?;
        Ok(Log { append: producer, turn: lead.clone(), lifted_pauses: lead.clone(), transitions, settings, lead })
    }

    /// Returns an error.
    ///
    /// # Errors
    /// Always: this build has no support for Kafka.
    #[cfg(not(feature = "kafka"))]
    pub(crate) fn open(_: LogSettings, _: &Metrics) -> Result<Log, Error> {
        Err(Error::Unsupported)
    }

    /// Waits until what was told is stored, for some seconds at most.
    pub(crate) fn flush(&self) {
        #[cfg(feature = "kafka")]
        self.lead.flush();
    }

    /// Starts to read. `newest` is the time of the newest write on the local disk.
    ///
    /// # Errors
    /// The thread cannot be started, or the settings are not accepted.
    #[cfg(feature = "kafka")]
    pub(crate) fn read(&self, target: Target, newest: Option<Micros>) -> anyhow::Result<Reading> {
        reader::start(self.settings.clone(), self.lead.clone(), target, newest)
    }

    /// Returns an error.
    ///
    /// # Errors
    /// Always: this build has no support for Kafka.
    #[cfg(not(feature = "kafka"))]
    pub(crate) fn read(&self, _: Target, _: Option<Micros>) -> anyhow::Result<Reading> {
        Err(Error::Unsupported.into())
    }
}
