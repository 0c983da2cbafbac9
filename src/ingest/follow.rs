//! Following logs as they are written: one thread, woken by the operating system where it tells of changes, and looking
//! by itself every second where it does not (network mounts, links that change).
//!
//! What was taken in is kept in a checkpoint. It is written behind the events, and behind the journal's writes of them: after
//! a crash at most the last second's events are read again, and no one is left out.

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

/// Time between two looks where nothing tells of changes.
const POLL: Duration = Duration::from_secs(1);
/// Time between two checkpoints: each is two waits for the disk.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Time to gather lines after the first: a writer that flushes each line would wake us for each.
const GATHER: Duration = Duration::from_millis(50);

/// What is followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The logs, by the names they are written under.
    pub files: Vec<PathBuf>,
    /// Where the checkpoint is kept; without one, every start begins at the start of the files that are there.
    pub checkpoint: Option<PathBuf>,
}

/// Who takes in what is read: everything that must have happened before a checkpoint may say so.
pub trait Sink: Send + 'static {
    /// Whether more can be taken in now.
    fn is_ready(&mut self) -> bool {
        true
    }
    /// Takes in whole lines of a log.
    fn take(&mut self, source: &str, lines: &[u8]);
    /// Makes what was taken in survive a crash; `false` where it could not, and no checkpoint may be written.
    fn sync(&mut self) -> bool {
        true
    }
}

/// The sink that feeds a pipeline, and keeps the writes in the journal.
pub struct Intake {
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
    cluster: String,
    journal: Option<Arc<Journal>>,
    /// Writes that were taken in and are not kept yet: those of one chunk, since no more is read before they are.
    unkept: Vec<Record>,
}

/// Logs that are being followed.
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
    /// Logs whose trouble was told.
    troubled: HashSet<String>,
}

// === impl Intake ===

impl Intake {
    /// Feeds `pipeline` with events of this cluster, and `journal` with their writes.
    pub fn new(pipeline: Arc<Pipeline>, metrics: Metrics, cluster: String, journal: Option<Arc<Journal>>) -> Intake {
        Intake { pipeline, metrics, cluster, journal, unkept: Vec::new() }
    }

    /// Keeps what is not kept yet; `false` where the journal refuses it for now.
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
        let timer = self.metrics.decode_seconds.start_timer();
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
    /// Begins to follow.
    ///
    /// # Errors
    /// Where the checkpoint cannot be read, or not be written.
    pub fn start(settings: Settings, sink: impl Sink, metrics: Metrics) -> Result<Follower, Error> {
        let checkpoint = match &settings.checkpoint {
            Some(path) => {
                let checkpoint = Checkpoint::load(path)?;
                // Told now, not with the first event.
                checkpoint.save(path)?;
                checkpoint
            }
            None => Checkpoint::default(),
        };
        let (wake, woken) = sync_channel(1);
        let waker = wake.clone();
        let watcher = notify::recommended_watcher(move |_: Result<notify::Event, notify::Error>| {
            // A full channel is a wake that is already on its way.
            if let Err(TrySendError::Disconnected(_)) = waker.try_send(Wake::Changed) {
                tracing::trace!("nobody follows any more");
            }
        });
        let watcher = watcher.inspect_err(|error| tracing::info!(%error, "logs are looked at every second")).ok();
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

    /// Ends: what was read is taken in and checkpointed first.
    pub fn stop(self) {
        if self.wake.send(Wake::Stop).is_err() || self.thread.join().is_err() {
            tracing::error!("the thread that follows logs had ended before");
        }
    }
}

// === impl Worker ===

impl<S: Sink> Worker<S> {
    fn run(&mut self, woken: &Receiver<Wake>) {
        loop {
            // Watched first: what changes between a look and the next wait is told.
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

    /// Waits for a change, at most so long; `true` where it is time to end.
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

    /// Takes in what is there, at most a chunk of each log; `true` where there may be more.
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
                        tracing::warn!(file = name, %error, "cannot read the log; trying again every second");
                    }
                }
            }
            self.metrics.followed(name, !self.troubled.contains(name), tail.behind(), tail.gaps());
        }
        has_more
    }

    /// Writes the checkpoint, if anything changed.
    fn save(&mut self) {
        self.saved = Instant::now();
        let Some(path) = &self.path else { return };
        let now = self.tails.iter().filter_map(|(_, tail)| Some((tail.path().to_owned(), tail.position()?.clone())));
        // Logs that are followed no more keep their positions: they may be followed again.
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
            // Tried again a second later.
            Err(error) if self.troubled.insert("checkpoint".into()) => {
                tracing::error!(%error, "after a restart, events would be read again");
            }
            Err(_) => {}
        }
    }

    /// Watches the directories of the logs, as far as they exist.
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
            // A directory that was deleted is unwatched already.
            drop(watcher.unwatch(&folder));
            self.watched.remove(&folder);
        }
    }
}
