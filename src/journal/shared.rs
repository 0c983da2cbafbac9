//! What the journal and its thread share: settings, what is to be written, and the condition that is published.

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
use crate::pipeline::{Turn, lock};
use crate::telemetry::metrics::Metrics;

/// Time between two looks at the journal's condition, and two tries to open what could not be opened.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What happens to writes that cannot be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// They count, and are not in the history. Files that cannot be read are set aside.
    #[default]
    Degrade,
    /// They are refused; an API server brings them again for about two minutes.
    Refuse,
}

/// Where and how much is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory.
    pub folder: PathBuf,
    /// How long and how much.
    pub retention: Retention,
    /// What happens where that is not possible.
    pub on_failure: OnFailure,
    /// How files are written.
    pub disk: Disk,
    /// Time between two looks at the journal's condition.
    pub look_every: Duration,
}

/// The writes could not be kept, and are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be written")]
pub struct Unavailable;

/// Called when the store is open for the first time, and again only if that failed: it is shown the past, and answers the
/// turns that follow from it and may not have been kept.
pub type Replay = Box<dyn FnMut(&Reader, Option<Micros>) -> Result<Vec<Turn>, Error> + Send>;

/// What the writer publishes.
pub(super) struct Shared {
    /// What can be read.
    pub(super) reader: Mutex<Option<Reader>>,
    /// Why the next write would not be kept, or may not be.
    pub(super) trouble: Mutex<Option<String>>,
    pub(super) on_failure: OnFailure,
    pub(super) outcomes: IntCounterVec,
    pub(super) up: IntGauge,
    pub(super) bytes: IntGauge,
    pub(super) commit_seconds: Histogram,
}

/// The records of one batch and who waits for them, or turns for which nobody does. Their number and size are bounded by the
/// requests that are open.
pub(super) struct Order {
    pub(super) records: Vec<Record>,
    pub(super) turns: Vec<Turn>,
    pub(super) done: Option<oneshot::Sender<Result<(), Unavailable>>>,
}

// === impl Shared ===

impl Shared {
    /// Metrics at zero, and nothing to read yet.
    pub(super) fn new(on_failure: OnFailure, metrics: &Metrics) -> Shared {
        let gauge = |name: &str, help: &str| metrics.add(IntGauge::new(name, help).expect("valid"));
        let outcomes =
            Opts::new("editwar_journal_records_total", "Writes by what became of them: kept, lost, refused.");
        let outcomes = IntCounterVec::new(outcomes, &["outcome"]).expect("valid");
        // A series that begins with its first loss has no rate then.
        ["kept", "lost", "refused"].iter().for_each(|outcome| drop(outcomes.with_label_values(&[outcome])));
        let seconds = HistogramOpts::new("editwar_journal_commit_seconds", "Time to write a group of batches to disk.")
            .buckets(vec![0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]);
        Shared {
            reader: Mutex::new(None),
            trouble: Mutex::new(Some("the journal is being opened".into())),
            on_failure,
            outcomes: metrics.add(outcomes),
            up: gauge("editwar_journal_up", "Whether the journal can be written."),
            bytes: gauge("editwar_journal_bytes", "Bytes of the journal's files."),
            commit_seconds: metrics.add(Histogram::with_opts(seconds).expect("valid")),
        }
    }

    /// Whether a batch without writes is refused too.
    pub(super) fn refusal(&self) -> Result<(), Unavailable> {
        match (self.on_failure, lock(&self.trouble).is_some()) {
            (OnFailure::Refuse, true) => Err(Unavailable),
            _ => Ok(()),
        }
    }
}

// === impl Order ===

impl Order {
    /// Bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.records.iter().map(Record::bytes).sum::<usize>() + self.turns.len() * 256
    }
}
