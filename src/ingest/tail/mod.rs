//! Tails logs as they are written, with one thread. File system notifications wake it; in addition it polls every
//! second, for file systems that send no notifications (network mounts, changed links).
//!
//! The position in each log is saved in a checkpoint. It is saved after the events were ingested and their writes were
//! stored in the journal, or after another server has accepted them: after a crash, at most the events of the last second are read again, and none is lost.

mod checkpoint;
mod forward;
mod log;
mod rotated;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{oneshot, watch};

pub use self::checkpoint::{Checkpoint, Error, Position};
pub(crate) use self::forward::Forwarder;
pub use self::log::{Step, Tail};
use super::Source;
use super::intake::{Intake, Origin};
use crate::journal::committer::Unavailable;
use crate::telemetry::metrics::Metrics;
use crate::util::clock;
use crate::util::readiness::Readiness;

/// Polling interval when there are no notifications.
const POLL: Duration = Duration::from_secs(1);
/// Interval of checkpoints. Each one needs two disk syncs.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Delay after a notification to collect more lines. A writer that flushes each line would otherwise wake the thread
/// for each.
const GATHER: Duration = Duration::from_millis(50);

/// What to tail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The paths of the logs.
    pub files: Vec<PathBuf>,
    /// The cluster that the logs are from.
    pub cluster: String,
    /// Path of the checkpoint. Without one, every start reads the current files from their beginning.
    pub checkpoint: Option<PathBuf>,
}

/// The source that tails logs.
pub struct TailSource {
    worker: Worker,
    woken: Receiver<WakeReason>,
    wake: SyncSender<WakeReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WakeReason {
    Changed,
    Stop,
}

/// Where the lines go.
pub(crate) enum LineSink {
    /// This server ingests them.
    Intake(Intake),
    /// Another server does.
    Forwarder(Forwarder),
}

struct Worker {
    sink: LineSink,
    cluster: String,
    tails: Vec<(String, Tail)>,
    checkpoint: Checkpoint,
    path: Option<PathBuf>,
    saved: Instant,
    metrics: Metrics,
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
    /// Logs whose errors were reported already.
    troubled: HashSet<String>,
    /// Lines that were rejected, and their log. No more lines are read before these are ingested.
    rejected: Option<(String, Vec<u8>)>,
}

// === impl TailSource ===

impl TailSource {
    /// Creates the source. Its thread starts when it runs.
    ///
    /// # Errors
    /// The checkpoint cannot be read or written.
    pub(crate) fn new(settings: Settings, sink: LineSink, metrics: Metrics) -> Result<TailSource, Error> {
        let checkpoint = match &settings.checkpoint {
            Some(path) => {
                let checkpoint = Checkpoint::load(path)?;
                // Saved at once, so that an error is reported now and not at the first event.
                checkpoint.save(path)?;
                checkpoint
            }
            None => Checkpoint::default(),
        };
        let (wake, woken) = sync_channel(1);
        let waker = wake.clone();
        let watcher = notify::recommended_watcher(move |_: Result<notify::Event, notify::Error>| {
            // If the channel is full, another wake-up is already pending.
            if let Err(TrySendError::Disconnected(_)) = waker.try_send(WakeReason::Changed) {
                tracing::trace!("no reader is left");
            }
        });
        let watcher = watcher
            .inspect_err(
                |error| tracing::info!(%error, "file notifications are not available; checking logs every second"),
            )
            .ok();
        let tails = settings.files.iter().map(|path| {
            let tail = Tail::new(path.clone(), checkpoint.positions.get(path).cloned());
            (path.display().to_string(), tail)
        });
        let worker = Worker {
            tails: tails.collect(),
            sink,
            cluster: settings.cluster,
            checkpoint,
            path: settings.checkpoint,
            saved: Instant::now(),
            metrics,
            watcher,
            watched: HashSet::new(),
            troubled: HashSet::new(),
            rejected: None,
        };
        Ok(TailSource { worker, woken, wake })
    }
}

impl Source for TailSource {
    fn name(&self) -> &'static str {
        "tail"
    }

    fn readiness(&self) -> Readiness {
        match &self.worker.sink {
            LineSink::Intake(_) => Readiness::always(),
            LineSink::Forwarder(forwarder) => forwarder.readiness(),
        }
    }

    /// Tails until `stop` turns true. Returns after everything that was read is ingested and a checkpoint is saved.
    fn run(self: Box<Self>, mut stop: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
        let TailSource { mut worker, woken, wake } = *self;
        Box::pin(async move {
            let (ended, has_ended) = oneshot::channel();
            let thread = std::thread::Builder::new().name("tail".into()).spawn(move || {
                worker.run(&woken);
                // The receiver is gone if the server was not shut down gracefully.
                let _ = ended.send(());
            });
            if let Err(error) = thread {
                tracing::error!(%error, "cannot start the thread that tails logs");
                return;
            }
            drop(stop.wait_for(|stop| *stop).await);
            // Sending may block: the channel may still contain a wake-up that the thread has not received.
            let stopped = tokio::task::spawn_blocking(move || wake.send(WakeReason::Stop)).await;
            if !matches!(stopped, Ok(Ok(()))) || has_ended.await.is_err() {
                tracing::error!("the thread that tails logs ended unexpectedly");
            }
        })
    }
}

// === impl Worker ===

impl Worker {
    fn run(&mut self, woken: &Receiver<WakeReason>) {
        loop {
            // Directories are watched before the logs are read, so that no change in between is missed.
            self.watch();
            let is_idle = !self.step();
            if self.saved.elapsed() >= SAVE_EVERY {
                self.save();
            }
            let wait = if is_idle { POLL } else { Duration::ZERO };
            if self.wait(woken, wait) {
                self.save();
                return;
            }
        }
    }

    /// Waits for a change, for at most `wait`. Returns `true` if the thread should stop.
    fn wait(&self, woken: &Receiver<WakeReason>, wait: Duration) -> bool {
        match woken.recv_timeout(wait) {
            Ok(WakeReason::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
            Ok(WakeReason::Changed) if wait.is_zero() => return false,
            Ok(WakeReason::Changed) => {}
        }
        let until = Instant::now() + GATHER;
        loop {
            match woken.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(WakeReason::Changed) => {}
                Ok(WakeReason::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Ingests at most one chunk of each log. Returns `true` if there may be more.
    fn step(&mut self) -> bool {
        let mut has_more = false;
        let Worker { sink, cluster, tails, metrics, rejected, .. } = self;
        for (name, tail) in tails {
            if !retry(sink, cluster, rejected) || sink.check().is_err() {
                return false;
            }
            let step = tail.step(&mut |lines| {
                let origin = Origin { cluster, source: name };
                match rejected {
                    Some((_, waiting)) => waiting.extend_from_slice(lines),
                    None if sink.ingest(origin, lines).is_err() => {
                        *rejected = Some((name.clone(), lines.to_vec()));
                    }
                    None => {}
                }
                metrics.set_last_batch(cluster, name, clock::now_seconds());
            });
            match step {
                Ok(step) => {
                    has_more |= step == Step::More;
                    self.troubled.remove(name);
                }
                Err(error) => {
                    if self.troubled.insert(name.clone()) {
                        tracing::warn!(file = name, %error, "cannot read the log; retrying every second");
                    }
                }
            }
            metrics.record_tail(name, !self.troubled.contains(name), tail.behind(), tail.gaps());
        }
        has_more
    }

    /// Saves a checkpoint if anything has changed.
    fn save(&mut self) {
        self.saved = Instant::now();
        let Some(path) = &self.path else { return };
        let now = self.tails.iter().filter_map(|(_, tail)| Some((tail.path().to_owned(), tail.position()?.clone())));
        // Positions of logs that are no longer tailed are kept, in case they are tailed again.
        let mut next = self.checkpoint.clone();
        next.positions.extend(now);
        // The position is after the lines that were rejected.
        if next == self.checkpoint || self.rejected.is_some() {
            return;
        }
        match next.save(path) {
            Ok(()) => {
                self.checkpoint = next;
                self.troubled.remove("checkpoint");
            }
            // Retried a second later.
            Err(error) if self.troubled.insert("checkpoint".into()) => {
                tracing::error!(%error, "cannot write the checkpoint; a restart would read events again");
            }
            Err(_) => {}
        }
    }

    /// Watches the directories of the logs that exist.
    fn watch(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let folders: HashSet<PathBuf> = self.tails.iter().flat_map(|(_, tail)| tail.folders()).collect();
        for folder in &folders {
            if !self.watched.contains(folder) && watcher.watch(folder, RecursiveMode::NonRecursive).is_ok() {
                self.watched.insert(folder.clone());
            }
        }
        let gone: Vec<PathBuf> = self.watched.difference(&folders).cloned().collect();
        for folder in gone {
            // A deleted directory is not watched any more.
            drop(watcher.unwatch(&folder));
            self.watched.remove(&folder);
        }
    }
}

// === impl LineSink ===

impl LineSink {
    /// Ingests lines. On `Ok`, their writes are stored.
    ///
    /// # Errors
    /// [`Unavailable`] if they must be passed again.
    fn ingest(&self, origin: Origin<'_>, lines: &[u8]) -> Result<(), Unavailable> {
        match self {
            LineSink::Intake(intake) => intake.ingest_lines(origin, lines),
            LineSink::Forwarder(forwarder) => forwarder.post(lines),
        }
    }

    /// Checks whether lines are accepted at the moment.
    ///
    /// # Errors
    /// [`Unavailable`] if not.
    fn check(&self) -> Result<(), Unavailable> {
        match self {
            LineSink::Intake(intake) => intake.check(),
            // Only an attempt shows it.
            LineSink::Forwarder(_) => Ok(()),
        }
    }
}

/// Passes rejected lines again. Returns `false` if they are rejected again.
fn retry(sink: &LineSink, cluster: &str, rejected: &mut Option<(String, Vec<u8>)>) -> bool {
    let Some((source, lines)) = rejected else { return true };
    let is_ingested = sink.ingest(Origin { cluster, source }, lines).is_ok();
    if is_ingested {
        *rejected = None;
    }
    is_ingested
}
