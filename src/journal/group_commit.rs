//! The journal's thread: commits groups of writes to the store, checks its health, and reopens it after failures. Handles
//! writes that cannot be stored, for example because the disk is full, as `on_failure` says.

use std::mem::Discriminant;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Error;
use super::head::Head;
use super::reader::SealedSegments;
use super::record::Record;
use super::shared::{AppendRequest, OnFailure, Replay, Settings, Unavailable, WriterStatus};
use super::store::{self, Location, Store};
use crate::audit::event::Micros;
use crate::pipeline::Transition;
use crate::util::clock;
use crate::util::lock::lock;

/// Maximum number of bytes of records in one group.
const GROUP_BYTES_MAX: usize = 32 << 20;
/// Divisor of the time spent on attempts to open: after a slow attempt, the next one is delayed in proportion.
const TRY_SHARE: u32 = 10;

/// Writes groups to the store while it is open.
pub(super) struct GroupCommitWriter {
    settings: Settings,
    requests: Receiver<AppendRequest>,
    shared: Arc<WriterStatus>,
    replay: Option<Replay>,
    store: Option<Store>,
    /// State of sealed segments that is carried over when the store is opened again.
    files: Arc<SealedSegments>,
    /// Time of the last health check, and the delay until the next one.
    looked: Instant,
    wait: Duration,
    /// Size of the group whose write failed. That many bytes must be writable before the journal is used again.
    failed_bytes: usize,
    /// The latest event time of writes that were accepted but not stored since the journal was last open.
    lost_until: Option<Micros>,
    /// What was logged about the current outage: the consequence for writes, and the kind of error.
    logged: Option<(&'static str, Discriminant<Error>)>,
}

// === impl GroupCommitWriter ===

impl GroupCommitWriter {
    /// Returns a writer whose store is not open yet.
    pub(super) fn new(
        settings: Settings,
        requests: Receiver<AppendRequest>,
        shared: Arc<WriterStatus>,
        replay: Replay,
    ) -> GroupCommitWriter {
        GroupCommitWriter {
            wait: settings.look_every,
            settings,
            requests,
            shared,
            replay: Some(replay),
            store: None,
            files: Arc::default(),
            looked: Instant::now(),
            failed_bytes: 0,
            lost_until: None,
            logged: None,
        }
    }

    /// Writes queued records until all senders are gone.
    pub(super) fn run(&mut self) {
        loop {
            let request = self.requests.recv_timeout(self.wait.saturating_sub(self.looked.elapsed()));
            if self.looked.elapsed() >= self.wait {
                self.look();
            }
            match request {
                Ok(request) => self.commit(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        *lock(&self.shared.trouble) = Some("the journal is closed".into());
        *lock(&self.shared.reader) = None;
        self.store = None;
    }

    /// Checks the health of an open journal, or tries to open it.
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

    /// Tries to open the store.
    pub(super) fn open(&mut self) {
        let started = Instant::now();
        let opened = self.try_open();
        self.wait = self.settings.look_every.max(started.elapsed() * TRY_SHARE);
        self.looked = Instant::now();
        match opened {
            Ok(store) => {
                let checked = store.check();
                tracing::info!(path = %self.settings.folder.display(), bytes = store.bytes(), "opened the journal");
                self.wait = self.settings.look_every;
                self.failed_bytes = 0;
                self.lost_until = None;
                self.record(&store);
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
        let location = Location { disk, folder, retention: *retention, sets_aside };
        let (mut store, damages) = Store::open(location, &self.files, clock::now())?;
        for damage in damages {
            tracing::error!(%damage, "renamed a damaged journal file; its writes are missing from the history");
        }
        if let Some(replay) = &mut self.replay {
            let transitions = replay(&store.reader(), store.newest())?;
            self.replay = None;
            if !transitions.is_empty() {
                store.append(&[], &transitions.iter().collect::<Vec<_>>(), clock::now())?;
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

    fn commit(&mut self, first: AppendRequest) {
        let mut bytes = first.bytes();
        let mut group = vec![first];
        while bytes < GROUP_BYTES_MAX
            && let Ok(request) = self.requests.try_recv()
        {
            bytes += request.bytes();
            group.push(request);
        }
        let records: Vec<&Record> = group.iter().flat_map(|request| &request.records).collect();
        let transitions: Vec<&Transition> = group.iter().flat_map(|request| &request.transitions).collect();
        let count = records.len() as u64;
        let outcome = match &mut self.store {
            Some(store) => {
                let timer = self.shared.commit_seconds.start_timer();
                let appended = store.append(&records, &transitions, clock::now());
                timer.observe_duration();
                appended.map_err(Some)
            }
            None => Err(None),
        };
        let answer = match (&outcome, self.settings.on_failure) {
            (Ok(()), _) => ("committed", Ok(())),
            (Err(_), OnFailure::Degrade) => ("dropped", Ok(())),
            (Err(_), OnFailure::Reject) => ("rejected", Err(Unavailable)),
        };
        self.shared.outcomes.with_label_values(&[answer.0]).inc_by(count);
        let latest = store::latest(&records, &transitions, clock::now().saturating_add(self.settings.retention.ahead));
        match outcome {
            Ok(()) => {
                if let Some(store) = &self.store {
                    self.record(store);
                }
                // The commit may have used up the free space.
                self.look();
            }
            Err(Some(error)) => {
                self.failed_bytes = bytes;
                self.fail(&error);
            }
            Err(None) => {}
        }
        if answer.0 == "dropped"
            && let Some(latest) = latest
        {
            self.note_lost(latest);
        }
        for request in group {
            // If the client has disconnected, it posts the batch again, which results in the same records.
            let _ = request.done.map(|done| done.send(answer.1));
        }
    }

    /// Remembers that writes were accepted but not stored. Also tries to record it on disk, for a restart.
    fn note_lost(&mut self, until: Micros) {
        if self.lost_until.is_none_or(|lost| lost < until) {
            self.lost_until = Some(until);
            // If the journal cannot be opened at all, this is recorded once it is open.
            drop(Head::raise_closed(&self.settings.disk, &self.settings.folder, until.saturating_add(1)));
        }
    }

    /// Records the size of the store, and its reader for queries.
    fn record(&self, store: &Store) {
        self.shared.bytes.set(store.bytes().cast_signed());
        *lock(&self.shared.reader) = Some(store.reader());
    }

    /// Closes the journal until it can be opened again.
    fn fail(&mut self, error: &Error) {
        // Readers must not keep the failed file open when it is opened again.
        *lock(&self.shared.reader) = None;
        self.store = None;
        if matches!(error, Error::Gone(_)) {
            self.files = Arc::default();
            self.lost_until = Some(clock::now());
        }
        self.set_condition(Some(error));
    }

    /// Publishes whether writes are stored. Logs once when that changes, and once when the reason does.
    fn set_condition(&mut self, trouble: Option<&Error>) {
        let meaning = match (self.settings.on_failure, &self.store) {
            (OnFailure::Degrade, None) => "cannot write the journal; accepting writes without storing them",
            (OnFailure::Degrade, Some(_)) => "the journal may soon become unable to store writes",
            (OnFailure::Reject, _) => "cannot write the journal; rejecting writes",
        };
        let condition = trouble.map(|error| (meaning, error.kind()));
        match (trouble, self.logged) {
            (Some(error), Some((logged, _))) if logged == meaning => {
                if condition != self.logged {
                    tracing::warn!(%error, "still cannot write the journal");
                }
            }
            (Some(error), _) => tracing::error!(%error, "{meaning}"),
            (None, Some(_)) => tracing::info!("the journal can be written again"),
            (None, None) => {}
        }
        self.logged = condition;
        self.shared.up.set(i64::from(trouble.is_none()));
        *lock(&self.shared.trouble) = trouble.map(ToString::to_string);
    }
}
