//! Types that the journal and its thread share: settings with `on_failure`, queued writes, the published state, and the
//! metrics.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts};
use tokio::sync::oneshot;

use super::Error;
use super::disk::Disk;
use super::reader::Reader;
use super::record::Record;
use super::store::Retention;
use crate::audit::event::Micros;
use crate::pipeline::Transition;
use crate::telemetry::metrics::Metrics;
use crate::util::lock::lock;

/// Interval of health checks, and of attempts to open a journal that could not be opened.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What happens to writes that cannot be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Accept writes without storing them, and rename files that cannot be read.
    #[default]
    Degrade,
    /// Reject writes. API servers retry them for about two minutes.
    Reject,
}

/// Configuration of a journal.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory.
    pub folder: PathBuf,
    /// How long writes are kept, and how much space they may use.
    pub retention: Retention,
    /// What happens to writes that cannot be stored.
    pub on_failure: OnFailure,
    /// The file system.
    pub disk: Disk,
    /// Interval of health checks.
    pub look_every: Duration,
}

/// The writes could not be stored and are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot write the journal")]
pub struct Unavailable;

/// Called when the store is open for the first time, and again only if that call failed. Replays the past, and returns
/// the resulting transitions, which may not have been stored yet.
pub type Replay = Box<dyn FnMut(&Reader, Option<Micros>) -> Result<Vec<Transition>, Error> + Send>;

/// State that the writer thread publishes.
pub(super) struct WriterStatus {
    /// Reads the journal, while it is open.
    pub(super) reader: Mutex<Option<Reader>>,
    /// Why the next write would not be stored, or may not be.
    pub(super) trouble: Mutex<Option<String>>,
    pub(super) on_failure: OnFailure,
    pub(super) outcomes: IntCounterVec,
    pub(super) up: IntGauge,
    pub(super) bytes: IntGauge,
    pub(super) commit_seconds: Histogram,
}

/// A request to append: the records of one batch and the channel that its caller waits on, or transitions that nobody
/// waits for. Number and size are bounded by the requests that are in flight.
pub(super) struct AppendRequest {
    pub(super) records: Vec<Record>,
    pub(super) transitions: Vec<Transition>,
    pub(super) done: Option<oneshot::Sender<Result<(), Unavailable>>>,
}

// === impl WriterStatus ===

impl WriterStatus {
    /// Creates the metrics, with nothing to read yet.
    pub(super) fn new(on_failure: OnFailure, metrics: &Metrics) -> WriterStatus {
        let gauge = |name: &str, help: &str| metrics.register(IntGauge::new(name, help).expect("valid"));
        let outcomes =
            Opts::new("editwar_journal_records_total", "Writes, by outcome: committed, dropped or rejected.");
        let outcomes = IntCounterVec::new(outcomes, &["outcome"]).expect("valid");
        // Created at zero: if a series began with its first loss, `rate()` would miss that loss.
        ["committed", "dropped", "rejected"].iter().for_each(|outcome| drop(outcomes.with_label_values(&[outcome])));
        let seconds = HistogramOpts::new(
            "editwar_journal_commit_duration_seconds",
            "Time to write a group of batches to disk, in seconds.",
        )
        .buckets(vec![0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]);
        WriterStatus {
            reader: Mutex::new(None),
            trouble: Mutex::new(Some("opening the journal".into())),
            on_failure,
            outcomes: metrics.register(outcomes),
            up: gauge("editwar_journal_up", "Whether the journal can be written."),
            bytes: gauge("editwar_journal_size_bytes", "Bytes of the journal's files."),
            commit_seconds: metrics.register(Histogram::with_opts(seconds).expect("valid")),
        }
    }

    /// Returns an error if batches are rejected at the moment, including those without writes.
    pub(super) fn refusal(&self) -> Result<(), Unavailable> {
        match self.on_failure {
            OnFailure::Reject if lock(&self.trouble).is_some() => Err(Unavailable),
            _ => Ok(()),
        }
    }
}

// === impl AppendRequest ===

impl AppendRequest {
    /// Returns its approximate size in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.records.iter().map(Record::bytes).sum::<usize>() + self.transitions.len() * 256
    }
}
