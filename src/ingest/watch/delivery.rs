//! Passes the events of watches to the intake, and writes them to a recording.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::audit::event::Micros;
use crate::audit::revision::event::sign_of_life;
use crate::ingest::intake::{Intake, Origin};
use crate::pipeline::key::ObjectKey;
use crate::util::clock;
use crate::util::lock::lock;

/// Delay before events are passed to the intake again that could not be stored.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Interval of the signs of life in a recording.
const RECORDED_EVERY: Micros = 10_000_000;

/// Where events go.
#[derive(Clone)]
pub(super) struct Delivery {
    cluster: Arc<str>,
    intake: Intake,
    recording: Option<Recording>,
    /// Whether this replica leads. The others watch, too, to be able to go on, but deliver nothing.
    has_led: Arc<AtomicBool>,
}

/// A file with the events of a watch, one a line.
#[derive(Clone, Debug)]
pub(crate) struct Recording(Arc<Mutex<Recorder>>);

#[derive(Debug)]
struct Recorder {
    file: BufWriter<File>,
    /// The time of the last sign of life.
    alive_at: Micros,
    /// The first error. Nothing is written after it.
    error: Option<std::io::Error>,
}

// === impl Delivery ===

impl Delivery {
    pub(super) fn new(cluster: String, intake: Intake, recording: Option<Recording>) -> Delivery {
        Delivery { cluster: cluster.into(), intake, recording, has_led: Arc::default() }
    }

    /// Returns whether this replica delivers. What was missed while none did is noted.
    fn leads(&self) -> bool {
        let leads = self.intake.leads();
        let has_led = self.has_led.swap(leads, Ordering::Relaxed);
        if leads && !has_led && self.intake.is_replicated() {
            self.record_missed(clock::now());
        }
        leads
    }

    /// Returns the cluster that the events belong to.
    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Returns the objects of the cluster over which there is a war, or may be one.
    pub(super) fn contested(&self) -> BTreeSet<ObjectKey> {
        self.intake.contested(&self.cluster)
    }

    /// Records that revisions were missed until this time.
    pub(super) fn record_missed(&self, until: Micros) {
        self.intake.record_missed(until);
    }

    /// Passes events to the intake. Waits as long as the journal rejects them.
    pub(super) async fn deliver(&self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        if let Some(recording) = &self.recording {
            recording.write(lines);
        }
        if !self.leads() {
            return;
        }
        let origin = Origin { cluster: &self.cluster, source: "watch" };
        while tokio::task::block_in_place(|| self.intake.ingest_lines(origin, lines)).is_err() && self.leads() {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Shows that all watches were connected at this time.
    pub(super) async fn sign_of_life(&self, at: Micros) {
        let mut lines = Vec::new();
        sign_of_life(at, &mut lines);
        if let Some(recording) = &self.recording {
            recording.alive(at, &lines);
        }
        if !self.leads() {
            return;
        }
        let origin = Origin { cluster: &self.cluster, source: "watch" };
        // The next one follows in a second.
        let _ = tokio::task::block_in_place(|| self.intake.ingest_lines(origin, &lines));
    }

    /// Completes the recording.
    pub(super) fn finish(&self) {
        if let Some(recording) = &self.recording {
            recording.flush();
        }
    }
}

// === impl Recording ===

impl Recording {
    /// Creates the file.
    ///
    /// # Errors
    /// The file exists or cannot be created.
    pub(crate) fn create(path: &Path) -> std::io::Result<Recording> {
        // It has values of fields.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let file = BufWriter::new(file);
        Ok(Recording(Arc::new(Mutex::new(Recorder { file, alive_at: i64::MIN, error: None }))))
    }

    /// Returns the first error of a write.
    pub(crate) fn error(&self) -> Option<String> {
        lock(&self.0).error.as_ref().map(ToString::to_string)
    }

    fn write(&self, lines: &[u8]) {
        lock(&self.0).write(lines);
    }

    fn alive(&self, at: Micros, line: &[u8]) {
        let mut recorder = lock(&self.0);
        if at.saturating_sub(recorder.alive_at) >= RECORDED_EVERY {
            recorder.alive_at = at;
            recorder.write(line);
        }
    }

    fn flush(&self) {
        let mut recorder = lock(&self.0);
        let flushed = recorder.file.flush();
        recorder.record(flushed);
    }
}

// === impl Recorder ===

impl Recorder {
    fn write(&mut self, lines: &[u8]) {
        if self.error.is_none() {
            let written = self.file.write_all(lines);
            self.record(written);
        }
    }

    fn record(&mut self, result: std::io::Result<()>) {
        if let (Err(error), None) = (result, &self.error) {
            tracing::error!(%error, "cannot write the recording");
            self.error = Some(error);
        }
    }
}
