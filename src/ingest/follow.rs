//! Tails logs as they are written, with one thread. File system notifications wake it; in addition it polls every
//! second, for file systems that send no notifications (network mounts, changed links).
//!
//! The position in each log is saved in a checkpoint. It is saved after the events were ingested and their writes were
//! stored in the journal: after a crash, at most the events of the last second are read again, and none is lost.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::tail::{Checkpoint, Error, Step, Tail};
use super::{keep, news};
use crate::audit::envelope;
use crate::audit::run::Run;
use crate::journal::committer::Journal;
use crate::journal::record::Record;
use crate::pipeline::Pipeline;
use crate::telemetry::metrics::Metrics;

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
    /// Path of the checkpoint. Without one, every start reads the current files from their beginning.
    pub checkpoint: Option<PathBuf>,
}

/// Receives the lines. Everything that must be done before a checkpoint can be saved goes here.
pub trait Sink: Send + 'static {
    /// Returns whether more lines can be ingested now.
    fn is_ready(&mut self) -> bool {
        true
    }
    /// Ingests whole lines of a log.
    fn take(&mut self, source: &str, lines: &[u8]);
    /// Makes the ingested lines durable. Returns `false` if that failed; no checkpoint is saved then.
    fn sync(&mut self) -> bool {
        true
    }
}

/// The sink that feeds a pipeline and stores writes in the journal.
pub struct Intake {
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
    cluster: String,
    journal: Option<Arc<Journal>>,
    /// Writes that were ingested and are not stored yet. They are from one chunk at most, since no more is read before
    /// they are stored.
    unkept: Vec<Record>,
}

/// A handle of the thread that tails logs.
pub struct Follower {
    thread: JoinHandle<()>,
    wake: SyncSender<Wake>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Changed,
    Stop,
}

struct Worker<S> {
    tails: Vec<(String, Tail)>,
    checkpoint: Checkpoint,
    path: Option<PathBuf>,
    saved: Instant,
    sink: S,
    metrics: Metrics,
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
    /// Logs whose errors were reported already.
    troubled: HashSet<String>,
}

// === impl Intake ===

impl Intake {
    /// Creates a sink that feeds `pipeline` with events of this cluster, and stores their writes in `journal`.
    pub fn new(pipeline: Arc<Pipeline>, metrics: Metrics, cluster: String, journal: Option<Arc<Journal>>) -> Intake {
        Intake { pipeline, metrics, cluster, journal, unkept: Vec::new() }
    }

    /// Stores the writes that are not stored yet. Returns `false` if the journal rejects them for now.
    fn keep(&mut self) -> bool {
        let Some(journal) = self.journal.as_ref().filter(|_| !self.unkept.is_empty()) else { return true };
        let is_kept = journal.append_blocking(self.unkept.clone()).is_ok();
        if is_kept {
            self.unkept.clear();
        }
        is_kept
    }
}

impl Sink for Intake {
    fn is_ready(&mut self) -> bool {
        self.keep() && self.journal.as_ref().is_none_or(|journal| journal.check().is_ok())
    }

    fn sync(&mut self) -> bool {
        self.keep()
    }

    fn take(&mut self, source: &str, lines: &[u8]) {
        if self.journal.is_some() {
            let policy = self.pipeline.policy();
            for line in lines.split(|b| *b == b'\n') {
                envelope::line(line, |event| self.unkept.extend(keep::record(policy, &self.cluster, source, event)));
            }
            self.keep();
        }
        let timer = self.metrics.batch_decode_duration.start_timer();
        let mut batch = self.pipeline.batch(&self.cluster, source);
        batch.run(&Run::of(lines, false, Vec::new()), 0);
        batch.lines(lines);
        batch.pass_time();
        news::tell(&batch, &self.pipeline, &self.metrics, self.journal.as_deref());
        drop(batch);
        timer.observe_duration();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        self.metrics.source(&self.cluster, source, now);
    }
}

// === impl Follower ===

impl Follower {
    /// Starts to tail.
    ///
    /// # Errors
    /// The checkpoint cannot be read or written.
    pub fn start(settings: Settings, sink: impl Sink, metrics: Metrics) -> Result<Follower, Error> {
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
            if let Err(TrySendError::Disconnected(_)) = waker.try_send(Wake::Changed) {
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
        let mut worker = Worker {
            tails: tails.collect(),
            checkpoint,
            path: settings.checkpoint,
            saved: Instant::now(),
            sink,
            metrics,
            watcher,
            watched: HashSet::new(),
            troubled: HashSet::new(),
        };
        let spawned = std::thread::Builder::new().name("follow".into()).spawn(move || worker.run(&woken));
        let thread = spawned.map_err(|source| Error::Thread { source })?;
        Ok(Follower { thread, wake })
    }

    /// Stops the thread, after everything that was read is ingested and a checkpoint is saved.
    pub fn stop(self) {
        if self.wake.send(Wake::Stop).is_err() || self.thread.join().is_err() {
            tracing::error!("the thread that tails logs ended unexpectedly");
        }
    }
}

// === impl Worker ===

impl<S: Sink> Worker<S> {
    fn run(&mut self, woken: &Receiver<Wake>) {
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
    fn wait(&self, woken: &Receiver<Wake>, wait: Duration) -> bool {
        match woken.recv_timeout(wait) {
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
            Ok(Wake::Changed) if wait.is_zero() => return false,
            Ok(Wake::Changed) => {}
        }
        let until = Instant::now() + GATHER;
        loop {
            match woken.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Wake::Changed) => {}
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Ingests at most one chunk of each log. Returns `true` if there may be more.
    fn step(&mut self) -> bool {
        let mut has_more = false;
        for (name, tail) in &mut self.tails {
            let sink = &mut self.sink;
            if !sink.is_ready() {
                return false;
            }
            match tail.step(&mut |lines| sink.take(name, lines)) {
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
            self.metrics.tailed(name, !self.troubled.contains(name), tail.behind(), tail.gaps());
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
        if next == self.checkpoint || !self.sink.sync() {
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
