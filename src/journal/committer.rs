//! One thread writes what all requests bring: what arrived while the last group was on its way to the disk is the next
//! group, and one commit stands for all of it.
//!
//! Every two seconds the thread looks whether the next write would be kept: whether the directory is still there, and has
//! space. After a failed write it first tries to write as much again, and opens the journal only then. Meanwhile writes are
//! accepted without being kept, or refused, as configured. The log has one error for each time the journal fails.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::reader::Reader;
use super::record::Record;
pub use super::shared::{LOOK_EVERY, OnFailure, Replay, Settings, Unavailable};
use super::shared::{Order, Shared};
use super::writer::GroupWriter;
use crate::pipeline::{Turn, lock};
use crate::telemetry::metrics::Metrics;

/// The journal of a server.
pub struct Journal {
    orders: Mutex<Option<Sender<Order>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

// === impl Journal ===

impl Journal {
    /// Begins to open the journal and to show its past to `replay`; the receiver hears when that is done, or has failed
    /// for now.
    ///
    /// # Errors
    /// That there can be no thread.
    pub fn start(
        settings: Settings,
        metrics: &Metrics,
        replay: Replay,
    ) -> std::io::Result<(Journal, oneshot::Receiver<()>)> {
        let shared = Arc::new(Shared::new(settings.on_failure, metrics));
        let (sender, orders) = mpsc::channel();
        let (opened, is_opened) = oneshot::channel();
        let mut writer = GroupWriter::new(settings, orders, shared.clone(), replay);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
            writer.open();
            let _ = opened.send(());
            writer.run();
        })?;
        let journal = Journal { orders: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), shared };
        Ok((journal, is_opened))
    }

    /// Keeps these records; they are on disk when this returns `Ok`, or given up as configured.
    ///
    /// # Errors
    /// [`Unavailable`], where writes that cannot be kept are refused.
    pub async fn append(&self, records: Vec<Record>) -> Result<(), Unavailable> {
        match self.order(records)? {
            Some(is_done) => is_done.await.unwrap_or(Err(Unavailable)),
            None => Ok(()),
        }
    }

    /// As [`Journal::append`], for a thread of its own.
    ///
    /// # Errors
    /// [`Unavailable`], where writes that cannot be kept are refused.
    pub fn append_blocking(&self, records: Vec<Record>) -> Result<(), Unavailable> {
        match self.order(records)? {
            Some(is_done) => is_done.blocking_recv().unwrap_or(Err(Unavailable)),
            None => Ok(()),
        }
    }

    /// Keeps these turns with the next group of writes. Nobody waits for them: they follow from writes that are kept, and
    /// after a crash they are found again.
    pub fn note(&self, turns: &[Turn]) {
        if let (false, Some(orders)) = (turns.is_empty(), &*lock(&self.orders)) {
            // A thread that is gone was told of already.
            let _ = orders.send(Order { records: Vec::new(), turns: turns.to_vec(), done: None });
        }
    }

    /// Sends records on their way; `None` where there are none to wait for.
    fn order(&self, records: Vec<Record>) -> Result<Option<oneshot::Receiver<Result<(), Unavailable>>>, Unavailable> {
        if records.is_empty() {
            return self.shared.refusal().map(|()| None);
        }
        let (done, is_done) = oneshot::channel();
        let orders = lock(&self.orders);
        let order = Order { records, turns: Vec::new(), done: Some(done) };
        let sent = orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        sent.then_some(Some(is_done)).ok_or(Unavailable)
    }

    /// What can be read now.
    ///
    /// # Errors
    /// Why nothing can, in words.
    pub fn reader(&self) -> Result<Reader, String> {
        let reader = lock(&self.shared.reader).clone();
        reader.ok_or_else(|| lock(&self.shared.trouble).clone().unwrap_or_default())
    }

    /// Whether batches would be accepted.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self) -> Result<(), String> {
        match (self.shared.on_failure, &*lock(&self.shared.trouble)) {
            (OnFailure::Refuse, Some(why)) => Err(why.clone()),
            _ => Ok(()),
        }
    }

    /// Writes what is on its way, and closes the files.
    pub fn close(&self) {
        drop(lock(&self.orders).take());
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
    }
}
