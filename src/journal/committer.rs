//! One thread writes what all requests bring: what arrived while the last group was on its way to the disk is the next
//! group, and one commit stands for all of it.
//!
//! Every two seconds the thread looks whether the next write would be kept: whether the directory is still there, and has
//! space. After a failed write it first tries to write as much again, and opens the journal only then. Meanwhile writes are
//! accepted without being kept, or refused, as configured. The log has one error for each time the journal fails.

use std::mem::{Discriminant, discriminant};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts};
use tokio::sync::oneshot;

use super::Error;
use super::disk::Disk;
use super::head::Head;
use super::reader::{Reader, SealedFiles};
use super::record::Record;
use super::store::{self, Place, Retention, Store};
use crate::audit::event::Micros;
use crate::pipeline::{Turn, lock};
use crate::telemetry::metrics::Metrics;

/// Bytes of records that are written at once.
const GROUP_BYTES_MAX: usize = 32 << 20;
/// Time between two looks at the journal's condition, and two tries to open what could not be opened.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The part of the time that is spent on tries: one that took long is repeated later.
const TRY_SHARE: u32 = 10;

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

/// Called when the store is open for the first time, and again only if that failed: it is shown the past, and answers the
/// turns that follow from it and may not have been kept.
pub type Replay = Box<dyn FnMut(&Reader, Option<Micros>) -> Result<Vec<Turn>, Error> + Send>;

struct Shared {
    /// What can be read.
    reader: Mutex<Option<Reader>>,
    /// Why the next write would not be kept, or may not be.
    trouble: Mutex<Option<String>>,
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
    /// What is known of sealed files from one opening to the next.
    files: Arc<SealedFiles>,
    /// When the condition was looked at, and how long it is left then.
    looked: Instant,
    wait: Duration,
    /// Bytes of the group that could not be written: as many must be possible before the journal is used again.
    failed_bytes: usize,
    /// The latest event time of what was accepted and not kept since the journal was open.
    lost_until: Option<Micros>,
    /// The kind of trouble that was logged, while there is any.
    logged: Option<Discriminant<Error>>,
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
        let mut committer = Committer {
            wait: settings.look_every,
            settings,
            orders,
            shared: shared.clone(),
            replay: Some(replay),
            store: None,
            files: Arc::default(),
            looked: Instant::now(),
            failed_bytes: 0,
            lost_until: None,
            logged: None,
        };
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
            reader: Mutex::new(None),
            trouble: Mutex::new(Some("the journal is being opened".into())),
            on_failure,
            outcomes: metrics.add(outcomes),
            up: gauge("editwar_journal_up", "Whether the journal can be written."),
            bytes: gauge("editwar_journal_bytes", "Bytes of the journal's files."),
            commit_seconds: metrics.add(Histogram::with_opts(seconds).expect("valid")),
        }
    }

    fn refusal(&self) -> Result<(), Unavailable> {
        match (self.on_failure, lock(&self.trouble).is_some()) {
            (OnFailure::Refuse, true) => Err(Unavailable),
            _ => Ok(()),
        }
    }
}

// === impl Committer ===

impl Committer {
    fn run(&mut self) {
        loop {
            let order = self.orders.recv_timeout(self.wait.saturating_sub(self.looked.elapsed()));
            if self.looked.elapsed() >= self.wait {
                self.look();
            }
            match order {
                Ok(order) => self.commit(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        *lock(&self.shared.trouble) = Some("the journal is closed".into());
        *lock(&self.shared.reader) = None;
        self.store = None;
    }

    /// Looks at the condition of an open journal, or tries to open it.
    fn look(&mut self) {
        self.looked = Instant::now();
        match &self.store {
            Some(store) => match store.check() {
                Err(error @ Error::Gone(_)) => self.fail(&error),
                checked => self.set_condition(checked.err().as_ref()),
            },
            None => self.open(),
        }
    }

    fn open(&mut self) {
        let started = Instant::now();
        let opened = self.try_open();
        self.wait = self.settings.look_every.max(started.elapsed() * TRY_SHARE);
        self.looked = Instant::now();
        match opened {
            Ok(store) => {
                let checked = store.check();
                tracing::info!(path = %self.settings.folder.display(), bytes = store.bytes(), "the journal is open");
                self.wait = self.settings.look_every;
                self.failed_bytes = 0;
                self.lost_until = None;
                self.note(&store);
                self.store = Some(store);
                self.set_condition(checked.err().as_ref());
            }
            Err(error) => self.fail(&error),
        }
    }

    fn try_open(&mut self) -> Result<Store, Error> {
        let Settings { folder, retention, on_failure, disk, .. } = &self.settings;
        if self.failed_bytes > 0 && folder.exists() {
            store::try_space(disk, folder, self.failed_bytes)?;
        }
        let sets_aside = *on_failure == OnFailure::Degrade;
        let place = Place { disk, folder, retention: *retention, sets_aside };
        let (mut store, damages) = Store::open(place, &self.files, clock())?;
        for damage in damages {
            tracing::error!(%damage, "a journal file was set aside, as its name says now; its writes are not in the history");
        }
        if let Some(replay) = &mut self.replay {
            let turns = replay(&store.reader(), store.newest())?;
            self.replay = None;
            if !turns.is_empty() {
                store.append(&[], &turns.iter().collect::<Vec<_>>(), clock())?;
            }
        }
        if let Some(until) = self.lost_until {
            store.note_lost(until)?;
        }
        if self.failed_bytes > 0 {
            store.probe(self.failed_bytes)?;
        }
        Ok(store)
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
        let latest = store::latest(&records, &turns, clock().saturating_add(self.settings.retention.ahead));
        match outcome {
            Ok(()) => {
                if let Some(store) = &self.store {
                    self.note(store);
                }
            }
            Err(Some(error)) => {
                self.failed_bytes = bytes;
                self.fail(&error);
            }
            Err(None) => {}
        }
        if answer.0 == "lost"
            && let Some(latest) = latest
        {
            self.note_lost(latest);
        }
        for order in group {
            // A client that went away meanwhile posts it again, and it is the same record again.
            let _ = order.done.map(|done| done.send(answer.1));
        }
    }

    /// Notes that writes were accepted and not kept: also on disk, as far as that is possible, for a restart.
    fn note_lost(&mut self, until: Micros) {
        if self.lost_until.is_none_or(|lost| lost < until) {
            self.lost_until = Some(until);
            // In a journal that cannot even be opened there is nothing to note it in; it is noted once it is open.
            drop(Head::raise_closed(&self.settings.disk, &self.settings.folder, until.saturating_add(1)));
        }
    }

    fn note(&self, store: &Store) {
        self.shared.bytes.set(store.bytes().cast_signed());
        *lock(&self.shared.reader) = Some(store.reader());
    }

    /// Closes the journal for now.
    fn fail(&mut self, error: &Error) {
        // Nobody may hold the failed file open when it is opened anew.
        *lock(&self.shared.reader) = None;
        self.store = None;
        if matches!(error, Error::Gone(_)) {
            self.files = Arc::default();
            self.lost_until = Some(clock());
        }
        self.set_condition(Some(error));
    }

    /// Publishes whether writes are kept. The log has it when it changes.
    fn set_condition(&mut self, trouble: Option<&Error>) {
        let kind = trouble.map(discriminant);
        let is_change = kind.is_some() != self.logged.is_some();
        match trouble {
            Some(error) if is_change => {
                let what = match (self.settings.on_failure, &self.store) {
                    (OnFailure::Degrade, None) => "writes are accepted and not kept until this is mended",
                    (OnFailure::Degrade, Some(_)) => "writes may soon not be kept; this must be mended",
                    (OnFailure::Refuse, _) => "writes are refused until this is mended",
                };
                tracing::error!(%error, "{what}");
            }
            Some(error) if kind != self.logged => tracing::warn!(%error, "the journal still cannot be used"),
            None if is_change => tracing::info!("the journal can be written again"),
            _ => {}
        }
        self.logged = kind;
        self.shared.up.set(i64::from(trouble.is_none()));
        *lock(&self.shared.trouble) = trouble.map(ToString::to_string);
    }
}

// === impl Order ===

impl Order {
    fn bytes(&self) -> usize {
        self.records.iter().map(Record::bytes).sum::<usize>() + self.turns.len() * 256
    }
}

fn clock() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}
