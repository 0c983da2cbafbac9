//! The state that the handlers of the HTTP API use. `dispatch` passes requests to the handlers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::change_signal::ChangeSignal;
use super::overview_snapshot::Overviews;
use super::reporter::Reporter;
use super::views::{Coverage, Problem, ProblemKind};
use crate::audit::event::Micros;
use crate::detect::actor_class::ActorClassifier;
use crate::detect::remedy::Contexts;
use crate::enforce::control::Control;
use crate::journal::committer::Journal;
use crate::net::budget::Budget;
use crate::pipeline::Pipeline;
use crate::telemetry::logs::LogLevels;
use crate::telemetry::metrics::Metrics;
use crate::util::clock;
use crate::util::lock::lock;
use crate::util::readiness::Readiness;

/// Maximum number of queries of the journal that wait while one runs. Each loads up to 64 MiB of writes into memory.
const WAITING_MAX: usize = 8;
/// Maximum number of watched decisions, of all clients and of each. Beyond it, a client can still query without
/// `watch`.
const STREAMS_MAX: usize = 512;
const CLIENT_STREAMS_MAX: usize = 128;

/// The query side of a server.
#[derive(Clone)]
pub struct Api {
    pipeline: Arc<Pipeline>,
    classes: Arc<ActorClassifier>,
    metrics: Metrics,
    journal: Option<Arc<Journal>>,
    journal_queries: Arc<JournalQueries>,
    streams: Budget,
    report_bytes_max: Option<usize>,
    is_ready: Readiness,
    sources: Arc<[SourceStatus]>,
    enforcer: Option<Control>,
    change_signal: ChangeSignal,
    log_level: Option<LogLevel>,
    contexts: Contexts,
    /// The URL of the server that gets the events instead of this one.
    forward: Option<Arc<str>>,
    overviews: Overviews,
    present: PresentTime,
}

/// The name of the log that replicas share, as a source.
pub const SHARED_LOG: &str = "shared log";

/// A source of events, for health checks.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    /// Its name.
    pub name: &'static str,
    /// Whether it delivers events.
    pub readiness: Readiness,
}

/// The present time for the question whether events are late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresentTime {
    /// The clock of this machine.
    Clock,
    /// The time of the latest event, for a recording that is played faster than it happened.
    LatestEvent,
}

/// Access to the log level of a server.
#[derive(Clone)]
pub struct LogLevel {
    /// Reads and changes the level.
    pub levels: LogLevels,
    /// Whether the listener authenticates its clients.
    pub is_authenticated: bool,
}

/// Lets one query of the journal run at a time.
#[derive(Debug, Default)]
pub(super) struct JournalQueries {
    inside: Mutex<()>,
    waiting: AtomicUsize,
}

// === impl JournalQueries ===

impl JournalQueries {
    /// Waits until no other query runs. Returns `None` if too many are waiting.
    pub(super) fn enter(&self) -> Option<MutexGuard<'_, ()>> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let inside = lock(&self.inside);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(inside)
    }
}

// === impl Api ===

impl Api {
    /// Returns an API for the objects of `pipeline`.
    pub fn new(pipeline: Arc<Pipeline>, classes: Arc<ActorClassifier>, metrics: Metrics) -> Api {
        Api {
            pipeline,
            classes,
            metrics,
            journal: None,
            journal_queries: Arc::default(),
            streams: Budget::new(STREAMS_MAX, CLIENT_STREAMS_MAX),
            report_bytes_max: None,
            is_ready: Readiness::default(),
            sources: Arc::default(),
            enforcer: None,
            change_signal: ChangeSignal::default(),
            log_level: None,
            contexts: Contexts::default(),
            forward: None,
            overviews: Overviews::default(),
            present: PresentTime::Clock,
        }
    }

    /// Says in all answers that another server gets the events.
    pub fn with_forward(self, url: Option<String>) -> Api {
        Api { forward: url.map(Into::into), ..self }
    }

    /// Adds the contexts in the user's kubeconfig to the commands of remedies.
    pub fn with_contexts(self, contexts: Contexts) -> Api {
        Api { contexts, ..self }
    }

    /// Sets with which time events are compared to find out whether they are late.
    pub fn with_present(self, present: PresentTime) -> Api {
        Api { present, ..self }
    }

    /// Limits reports to this size, by omitting the least urgent objects.
    pub fn with_report_bytes_max(self, bytes: usize) -> Api {
        Api { report_bytes_max: Some(bytes), ..self }
    }

    /// Adds the kill switch, and the status of the enforcer in `/readyz?verbose`.
    pub fn with_enforcer(self, enforcer: Option<Control>) -> Api {
        Api { enforcer, ..self }
    }

    /// Also answers queries from the journal.
    pub fn with_journal(self, journal: Option<Arc<Journal>>) -> Api {
        Api { journal, ..self }
    }

    /// Answers watches as soon as this sink learns of a change.
    pub fn with_change_signal(self, change_signal: ChangeSignal) -> Api {
        Api { change_signal, ..self }
    }

    /// Adds `/log-level`.
    pub fn with_log_level(self, log_level: LogLevel) -> Api {
        Api { log_level: Some(log_level), ..self }
    }

    /// Sets the sources that must be ready before the server is.
    pub fn with_sources(self, sources: Vec<SourceStatus>) -> Api {
        Api { sources: sources.into(), ..self }
    }

    /// Sets whether the server runs its sources.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.set(is_ready);
    }

    pub(super) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    pub(super) fn classes(&self) -> &ActorClassifier {
        &self.classes
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn journal(&self) -> Option<&Journal> {
        self.journal.as_deref()
    }

    pub(super) fn journal_queries(&self) -> &JournalQueries {
        &self.journal_queries
    }

    pub(super) fn enforcer(&self) -> Option<&Control> {
        self.enforcer.as_ref()
    }

    pub(super) fn log_level(&self) -> Option<&LogLevel> {
        self.log_level.as_ref()
    }

    /// Returns the budget of watched decisions.
    pub(super) fn streams(&self) -> &Budget {
        &self.streams
    }

    pub(super) fn change_signal(&self) -> &ChangeSignal {
        &self.change_signal
    }

    pub(super) fn report_bytes_max(&self) -> Option<usize> {
        self.report_bytes_max
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.is_ready()
    }

    pub(super) fn sources(&self) -> &[SourceStatus] {
        &self.sources
    }

    pub(super) fn contexts(&self) -> &Contexts {
        &self.contexts
    }

    pub(super) fn overviews(&self) -> &Overviews {
        &self.overviews
    }

    /// Returns the problems with the events that arrive at this server. Answers from the journal include them too,
    /// because the journal contains no reads and so does not show when the last event arrived.
    pub(super) fn live_problems(&self) -> Vec<Problem> {
        let mut problems = Coverage::from(&self.pipeline.stats()).live(self.now()).problems;
        if let Some(url) = &self.forward {
            let message = format!("this server only forwards the events of its node to {url}: ask that server");
            problems.push(Problem { kind: ProblemKind::NoEvents, message });
        }
        if self.is_behind() {
            let message = "this replica has not read all writes of the log yet; another one may know more".to_owned();
            problems.push(Problem { kind: ProblemKind::StaleEvents, message });
        }
        problems
    }

    /// Whether other replicas may know more.
    pub(super) fn is_behind(&self) -> bool {
        self.sources.iter().any(|source| source.name == SHARED_LOG && !source.readiness.is_ready())
    }

    /// Returns the sources that deliver no events at present.
    pub(super) fn late_sources(&self, coverage: &Coverage) -> Vec<String> {
        let is_waiting = |source: &&SourceStatus| !source.readiness.is_ready();
        let waiting = self.sources.iter().filter(is_waiting).map(|source| source.name.to_owned());
        coverage.late(self.now()).chain(waiting).collect()
    }

    /// Returns the present time, with which the times of events are compared.
    fn now(&self) -> Micros {
        let latest = self.pipeline.latest().filter(|_| self.present == PresentTime::LatestEvent);
        latest.unwrap_or_else(clock::now)
    }

    pub(super) fn reporter(&self) -> Reporter<'_> {
        Reporter::new(&self.pipeline, &self.classes)
    }
}
