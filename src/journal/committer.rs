//! The journal's front end: appends writes with group commit on a separate thread.
//!
//! While one group is being written to disk, new requests queue up. Together they form the next group, which is durable
//! after a single commit.
//!
//! Every two seconds the thread checks whether the next write would succeed: whether the directory still exists and has
//! free space. After a failed write it first tries to write the same number of bytes, and reopens the journal only if
//! that succeeds. In the meantime, writes are accepted without being stored, or rejected, as configured. The log has
//! one error per outage.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::append::Append;
use super::group_commit::GroupCommitWriter;
use super::reader::Reader;
use super::record::Record;
use super::shared::{AppendRequest, WriterStatus};
pub use super::shared::{LOOK_EVERY, OnFailure, Replay, Settings, Unavailable};
use crate::notify::{Changes, Sink};
use crate::telemetry::metrics::Metrics;
use crate::util::lock::lock;

/// The journal of a server.
pub struct Journal {
    requests: Mutex<Option<Sender<AppendRequest>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<WriterStatus>,
}

// === impl Journal ===

impl Journal {
    /// Starts the journal's thread, which opens the files and replays the recent past into `replay`. The receiver
    /// resolves when that has completed, or has failed for the first time.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        settings: Settings,
        metrics: &Metrics,
        replay: Replay,
    ) -> std::io::Result<(Journal, oneshot::Receiver<()>)> {
        let shared = Arc::new(WriterStatus::new(settings.on_failure, metrics));
        let (sender, requests) = mpsc::channel();
        let (opened, is_opened) = oneshot::channel();
        let mut writer = GroupCommitWriter::new(settings, requests, shared.clone(), replay);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
            writer.open();
            let _ = opened.send(());
            writer.run();
        })?;
        let journal = Journal { requests: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), shared };
        Ok((journal, is_opened))
    }

    /// Sends records to the thread. Returns `None` if there is nothing to wait for.
    fn request(&self, records: Vec<Record>) -> Result<Option<oneshot::Receiver<Result<(), Unavailable>>>, Unavailable> {
        if records.is_empty() {
            return self.shared.refusal().map(|()| None);
        }
        let (done, is_done) = oneshot::channel();
        let requests = lock(&self.requests);
        let request = AppendRequest { records, transitions: Vec::new(), done: Some(done) };
        let sent = requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        sent.then_some(Some(is_done)).ok_or(Unavailable)
    }

    /// Returns a reader for the files as they are now.
    ///
    /// # Errors
    /// The reason why the journal cannot be read, as text for users.
    pub fn reader(&self) -> Result<Reader, String> {
        let reader = lock(&self.shared.reader).clone();
        reader.ok_or_else(|| lock(&self.shared.trouble).clone().unwrap_or_default())
    }

    /// Writes all queued records and closes the files.
    pub fn close(&self) {
        drop(lock(&self.requests).take());
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
    }
}

impl Append for Journal {
    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(async move {
            match self.request(records)? {
                Some(is_done) => is_done.await.unwrap_or(Err(Unavailable)),
                None => Ok(()),
            }
        })
    }

    fn append_blocking(&self, records: Vec<Record>) -> Result<(), Unavailable> {
        match self.request(records)? {
            Some(is_done) => is_done.blocking_recv().unwrap_or(Err(Unavailable)),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        match (self.shared.on_failure, &*lock(&self.shared.trouble)) {
            (OnFailure::Reject, Some(why)) => Err(why.clone()),
            _ => Ok(()),
        }
    }

    /// An event has a maximum size itself.
    fn record_bytes_max(&self) -> usize {
        usize::MAX
    }
}

impl Sink for Journal {
    /// Appends transitions with the next group, without waiting for it. Transitions are derived from stored writes, so a
    /// replay restores those that a crash loses.
    fn publish(&self, changes: &Changes<'_>) {
        if !changes.transitions.is_empty()
            && let Some(requests) = &*lock(&self.requests)
        {
            // If the thread has ended, that was already reported.
            let _ = requests.send(AppendRequest {
                records: Vec::new(),
                transitions: changes.transitions.to_vec(),
                done: None,
            });
        }
    }
}
