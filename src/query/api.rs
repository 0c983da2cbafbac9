//! The HTTP API: what its handlers use, and how a request reaches them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Request, Response, StatusCode};

use super::log_level::LogLevel;
use super::reply::problem;
use super::reporter::Reporter;
use super::route::{Call, Handler};
use super::routes::{self, Found};
use super::watch::{Answer, Changed};
use crate::detect::actor_class::ActorClassifier;
use crate::journal::committer::Journal;
use crate::net::Reply;
use crate::net::budget::Budget;
use crate::pipeline::Pipeline;
use crate::telemetry::control::Control;
use crate::telemetry::metrics::Metrics;
use crate::util::lock::lock;

/// Maximum number of queries of the journal that wait while one runs. Each loads up to 64 MiB of writes into memory.
const WAITING_MAX: usize = 8;
/// Maximum number of watched decisions, of all clients and of each. Beyond it, a client can still ask without `watch`.
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
    is_ready: Arc<AtomicBool>,
    enforcer: Option<Control>,
    changed: Changed,
    log_level: Option<LogLevel>,
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
            is_ready: Arc::default(),
            enforcer: None,
            changed: Changed::default(),
            log_level: None,
        }
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
    pub fn with_changed(self, changed: Changed) -> Api {
        Api { changed, ..self }
    }

    /// Adds `/log-level`.
    pub fn with_log_level(self, log_level: LogLevel) -> Api {
        Api { log_level: Some(log_level), ..self }
    }

    /// Sets whether the server accepts events.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
    }

    /// Answers a request of this client. The client's rights must have been checked.
    pub fn answer(&self, request: &Request<Incoming>, client: IpAddr) -> Response<Answer> {
        let uri = request.uri();
        let _span = tracing::debug_span!("answer", method = %request.method(), path = uri.path()).entered();
        let (route, segments) = match routes::find(request.method(), uri.path()) {
            Found::Route(route, segments) => (route, segments),
            other => return without_route(&other).map(BodyExt::boxed_unsync),
        };
        let query = uri.query().unwrap_or_default();
        let call = Call::new(self, client, request.headers(), segments, query);
        if let Err(failure) = route.check(&call.parameters) {
            return failure.reply().map(BodyExt::boxed_unsync);
        }
        let computed = match route.handler {
            Handler::Watchable(_, stream) if route.is_stream(query) => return stream(&call),
            Handler::Immediate(handler) => Ok(handler(&call)),
            Handler::Computed(handler) | Handler::Watchable(handler, _) => handler(&call),
        };
        computed.unwrap_or_else(|failure| failure.reply()).map(BodyExt::boxed_unsync)
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

    pub(super) fn changed(&self) -> &Changed {
        &self.changed
    }

    pub(super) fn report_bytes_max(&self) -> Option<usize> {
        self.report_bytes_max
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    pub(super) fn reporter(&self) -> Reporter<'_> {
        Reporter { pipeline: &self.pipeline, classes: &self.classes }
    }
}

/// Returns the response to a request that has no route.
fn without_route(found: &Found<'_>) -> Reply {
    let Found::OtherMethods(methods) = found else {
        let error = "unknown path: try /, /openapi.json, /api/v1/wars, /metrics, /livez or /readyz; an object has \
                     /api/v1/objects/RESOURCE.GROUP/NAMESPACE/NAME, with - as the namespace of cluster-scoped objects";
        return problem(StatusCode::NOT_FOUND, error);
    };
    let methods: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    let methods = methods.join(", ").replace("GET", "GET, HEAD");
    let mut reply = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("this path only has {methods}"));
    if let Ok(allowed) = HeaderValue::from_str(&methods) {
        reply.headers_mut().insert(ALLOW, allowed);
    }
    reply
}
