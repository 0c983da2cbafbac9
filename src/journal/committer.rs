//! One thread writes what all requests bring: whatever came while the last group was on its way to the disk is the next
//! group, and one fsync stands for all of it.
//!
//! Where the disk fails, the thread tries again from the start every few seconds. Meanwhile writes are taken without being
//! kept, or refused, as configured; either is said aloud.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts};
use tokio::sync::oneshot;

use super::Error;
use super::record::Record;
use super::store::{Reader, Retention, Store};
use crate::audit::event::Micros;
use crate::pipeline::{Turn, lock};
use crate::telemetry::metrics::Metrics;

/// Bytes of records that are written at once.
const GROUP_BYTES_MAX: usize = 32 << 20;
/// Time between two tries to open what could not be opened.
const RETRY: Duration = Duration::from_secs(2);

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The directory.
    pub folder: PathBuf,
    /// How long and how much.
    pub retention: Retention,
    /// What happens where that is not possible.
    pub on_failure: OnFailure,
}

/// The journal of a server.
pub struct Journal {
    orders: Mutex<Option<Sender<Order>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

/// The writes could not be kept, and are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be written")]
pub struct Unavailable;

/// What happens once, when the store is open for the first time: the past is shown. The turns that follow from it and may
/// not have been kept.
pub type Replay = Box<dyn FnOnce(&Reader, Option<Micros>) -> Result<Vec<Turn>, Error> + Send>;

struct Shared {
    /// What can be read, or why nothing can.
    state: Mutex<Result<Reader, String>>,
    on_failure: OnFailure,
    outcomes: IntCounterVec,
    up: IntGauge,
    bytes: IntGauge,
    commit_seconds: Histogram,
}

/// The records of one batch and who waits for them, or turns for which nobody does. Their number and size are bounded by the
/// requests that are open.
struct Order {
    records: Vec<Record>,
    turns: Vec<Turn>,
    done: Option<oneshot::Sender<Result<(), Unavailable>>>,
}

struct Committer {
    settings: Settings,
    orders: Receiver<Order>,
    shared: Arc<Shared>,
    replay: Option<Replay>,
    store: Option<Store>,
    tried: Instant,
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
        let mut committer =
            Committer { settings, orders, shared: shared.clone(), replay: Some(replay), store: None, tried: now() };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
            committer.open();
            let _ = opened.send(());
            committer.run();
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
        lock(&self.shared.state).clone()
    }

    /// Whether batches would be taken.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self) -> Result<(), String> {
        match (self.shared.on_failure, &*lock(&self.shared.state)) {
            (OnFailure::Refuse, Err(why)) => Err(why.clone()),
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

// === impl Shared ===

impl Shared {
    fn new(on_failure: OnFailure, metrics: &Metrics) -> Shared {
        let gauge = |name: &str, help: &str| metrics.add(IntGauge::new(name, help).expect("valid"));
        let outcomes =
            Opts::new("editwar_journal_records_total", "Writes by what became of them: kept, lost, refused.");
        let outcomes = IntCounterVec::new(outcomes, &["outcome"]).expect("valid");
        // A series that begins with its first loss has no rate then.
        ["kept", "lost", "refused"].iter().for_each(|outcome| drop(outcomes.with_label_values(&[outcome])));
        let seconds = HistogramOpts::new("editwar_journal_commit_seconds", "Time to write a group of batches to disk.")
            .buckets(vec![0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]);
        Shared {
            state: Mutex::new(Err("it is being opened".into())),
            on_failure,
            outcomes: metrics.add(outcomes),
            up: gauge("editwar_journal_up", "Whether the journal can be written."),
            bytes: gauge("editwar_journal_bytes", "Bytes of the journal's files."),
            commit_seconds: metrics.add(Histogram::with_opts(seconds).expect("valid")),
        }
    }

    fn refusal(&self) -> Result<(), Unavailable> {
        match (self.on_failure, lock(&self.state).is_err()) {
            (OnFailure::Refuse, true) => Err(Unavailable),
            _ => Ok(()),
        }
    }

    fn set(&self, state: Result<Reader, String>) {
        self.up.set(i64::from(state.is_ok()));
        *lock(&self.state) = state;
    }
}

// === impl Committer ===

impl Committer {
    fn run(&mut self) {
        loop {
            let order = match &self.store {
                Some(_) => self.orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                None => self.orders.recv_timeout(RETRY),
            };
            if self.store.is_none() && self.tried.elapsed() >= RETRY {
                self.open();
            }
            match order {
                Ok(order) => self.commit(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    fn open(&mut self) {
        self.tried = now();
        let sets_aside = self.settings.on_failure == OnFailure::Degrade;
        let opened = Store::open(&self.settings.folder, self.settings.retention, sets_aside, clock());
        let opened = opened.and_then(|(mut store, damages)| {
            for damage in damages {
                tracing::error!(%damage, "a journal file was set aside, as its name says now; its writes are not in the history");
            }
            if let Some(replay) = self.replay.take() {
                let turns = replay(&store.reader(), store.newest())?;
                if !turns.is_empty() {
                    store.append(&[], &turns.iter().collect::<Vec<_>>(), clock())?;
                }
            }
            Ok(store)
        });
        match opened {
            Ok(store) => {
                tracing::info!(path = %self.settings.folder.display(), bytes = store.bytes(), "the journal is open");
                self.note(&store);
                self.store = Some(store);
            }
            Err(error) => self.fail(&error),
        }
    }

    fn commit(&mut self, first: Order) {
        let mut bytes = first.bytes();
        let mut group = vec![first];
        while bytes < GROUP_BYTES_MAX
            && let Ok(order) = self.orders.try_recv()
        {
            bytes += order.bytes();
            group.push(order);
        }
        let records: Vec<&Record> = group.iter().flat_map(|order| &order.records).collect();
        let turns: Vec<&Turn> = group.iter().flat_map(|order| &order.turns).collect();
        let count = records.len() as u64;
        let outcome = match &mut self.store {
            Some(store) => {
                let timer = self.shared.commit_seconds.start_timer();
                let appended = store.append(&records, &turns, clock());
                timer.observe_duration();
                appended.map_err(Some)
            }
            None => Err(None),
        };
        let answer = match (&outcome, self.settings.on_failure) {
            (Ok(()), _) => ("kept", Ok(())),
            (Err(_), OnFailure::Degrade) => ("lost", Ok(())),
            (Err(_), OnFailure::Refuse) => ("refused", Err(Unavailable)),
        };
        self.shared.outcomes.with_label_values(&[answer.0]).inc_by(count);
        match outcome {
            Ok(()) => {
                if let Some(store) = &self.store {
                    self.note(store);
                }
            }
            Err(Some(error)) => {
                self.store = None;
                self.fail(&error);
            }
            Err(None) => {}
        }
        for order in group {
            // Whoever went away meanwhile brings it again, and it is the same record again.
            let _ = order.done.map(|done| done.send(answer.1));
        }
    }

    fn note(&self, store: &Store) {
        self.shared.bytes.set(store.bytes().cast_signed());
        self.shared.set(Ok(store.reader()));
    }

    fn fail(&self, error: &Error) {
        let what = match self.settings.on_failure {
            OnFailure::Degrade => "writes are taken and not kept until this is mended",
            OnFailure::Refuse => "writes are refused until this is mended",
        };
        let error = error.to_string();
        // Said once, not with every try.
        if lock(&self.shared.state).as_ref().err() != Some(&error) {
            tracing::error!(error, "{what}");
        }
        self.shared.set(Err(error));
    }
}

// === impl Order ===

impl Order {
    fn bytes(&self) -> usize {
        self.records.iter().map(Record::bytes).sum::<usize>() + self.turns.len() * 256
    }
}

fn now() -> Instant {
    Instant::now()
}

fn clock() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}
