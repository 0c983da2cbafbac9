//! The HTTP API: wars, objects, decisions and the kill switch, and also metrics and health.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::answers::{Decision, Problem, Sides, Switched, Timeline};
use super::lens::Lens;
use super::past::{self, History};
use super::views::{Filter, Participants, Party, Transitions, time};
use super::{openapi, page};
use crate::audit::event::Micros;
use crate::detect::class::Classes;
use crate::detect::verdict::{Confidence, State};
use crate::detect::write::ObjectName;
use crate::escape;
use crate::journal;
use crate::journal::committer::Journal;
use crate::journal::reader::Reader;
use crate::net::budget::Budget;
use crate::net::{Reply, web};
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;
use crate::telemetry::control::Control;
use crate::telemetry::metrics::Metrics;
use crate::util::lock::lock;

/// The path of the transitions in the journal.
const TRANSITIONS: &str = "/api/v1/transitions";
/// Maximum number of queries of the journal that wait while one runs. Each loads up to 64 MiB of writes into memory.
const WAITING_MAX: usize = 8;
/// Maximum number of watched decisions, of all clients and of each. Beyond it, a client can still ask without `watch`.
const STREAMS_MAX: usize = 512;
const CLIENT_STREAMS_MAX: usize = 128;
/// How long the response of the kill switch waits for pauses to be lifted.
const LIFTED_WITHIN: Duration = Duration::from_secs(5);
/// Number of objects in a report, by default and at most. Each takes some kilobytes.
const OBJECTS_SHOWN: usize = 1_000;
const OBJECTS_SHOWN_MAX: usize = 5_000;
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The query side of a server.
#[derive(Clone)]
pub struct Api {
    pipeline: Arc<Pipeline>,
    classes: Arc<Classes>,
    metrics: Metrics,
    journal: Option<Arc<Journal>>,
    turnstile: Arc<Turnstile>,
    streams: Budget,
    report_bytes_max: Option<usize>,
    is_ready: Arc<AtomicBool>,
    enforcer: Option<Control>,
}

/// Lets one query of the journal run at a time.
#[derive(Debug, Default)]
struct Turnstile {
    inside: Mutex<()>,
    waiting: AtomicUsize,
}

// === impl Turnstile ===

impl Turnstile {
    /// Waits until no other query runs. Returns `None` if too many are waiting.
    fn enter(&self) -> Option<MutexGuard<'_, ()>> {
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
    pub fn new(pipeline: Arc<Pipeline>, classes: Arc<Classes>, metrics: Metrics) -> Api {
        Api {
            pipeline,
            classes,
            metrics,
            is_ready: Arc::default(),
            enforcer: None,
            journal: None,
            turnstile: Arc::default(),
            streams: Budget::new(STREAMS_MAX, CLIENT_STREAMS_MAX),
            report_bytes_max: None,
        }
    }

    /// Leaves the least urgent objects out of a report that takes more than this number of bytes.
    pub fn with_report_bytes_max(self, bytes: usize) -> Api {
        Api { report_bytes_max: Some(bytes), ..self }
    }

    /// Adds the kill switch, and the status of the enforcer in `/readyz?verbose`.
    pub fn with_enforcer(self, control: Control) -> Api {
        Api { enforcer: Some(control), ..self }
    }

    /// Also answers queries from the journal.
    pub fn with_journal(self, journal: Option<Arc<Journal>>) -> Api {
        Api { journal, ..self }
    }

    /// Returns the budget of watched decisions.
    pub(super) fn streams(&self) -> &Budget {
        &self.streams
    }

    /// Whether the server accepts events.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    /// Sets whether the server accepts events.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
    }

    /// Handles one request.
    pub fn handle(&self, request: &Request<Incoming>) -> Reply {
        let _span = tracing::debug_span!("answer", method = %request.method(), path = request.uri().path()).entered();
        if request.method() == Method::POST
            && let Some(is_stopped) = switch(request.uri().path())
        {
            return self.switch(request, is_stopped);
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut reply = problem(StatusCode::METHOD_NOT_ALLOWED, "use GET: this path is read-only");
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return reply;
        }
        let query = Query::of(request.uri().query().unwrap_or_default());
        let path = request.uri().path();
        let turn = (query.get("since").is_some() || path == TRANSITIONS).then(|| self.turnstile.enter());
        if matches!(turn, Some(None)) {
            return problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many concurrent queries of the journal: try again later",
            );
        }
        match path {
            "/livez" => text(StatusCode::OK, "ok\n".into()),
            "/readyz" if self.is_ready.load(Ordering::Relaxed) => match self.journal.as_ref().map(|j| j.check()) {
                Some(Err(why)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
                _ => text(StatusCode::OK, self.readiness(&query)),
            },
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n".into()),
            "/metrics" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
                text(StatusCode::OK, self.metrics.text(&self.pipeline, now))
            }
            "/openapi.json" => json(StatusCode::OK, &openapi::document()),
            "/api/v1/wars" => match query.filter() {
                Ok(filter) => {
                    let filter = Filter { bytes_max: self.report_bytes_max, ..filter };
                    json(StatusCode::OK, &self.lens().report(&filter))
                }
                Err(error) => problem(StatusCode::BAD_REQUEST, &error),
            },
            "/api/v1/participants" => match query.without("since").filter() {
                Ok(filter) => match self.find(&filter, &query) {
                    Ok(found) => json(StatusCode::OK, &found),
                    Err((status, why)) => problem(status, &why),
                },
                Err(error) => problem(StatusCode::BAD_REQUEST, &error),
            },
            TRANSITIONS => match self.transitions(&query) {
                Ok(transitions) => json(StatusCode::OK, &transitions),
                Err((status, why)) => problem(status, &why),
            },
            _ => match path.strip_prefix("/api/v1/objects/") {
                Some(rest) => self.object(rest, request.uri().query().unwrap_or_default()),
                None => page::file(path).unwrap_or_else(|| {
                    problem(
                        StatusCode::NOT_FOUND,
                        "unknown path: try /, /openapi.json, /api/v1/wars, /metrics, /livez or /readyz",
                    )
                }),
            },
        }
    }

    /// The kill switch. Requires JSON content: a browser sends that from another site's page only after a CORS
    /// preflight, which this server never permits.
    fn switch(&self, request: &Request<Incoming>, is_stopped: bool) -> Reply {
        let Some(enforcer) = &self.enforcer else {
            return problem(StatusCode::NOT_FOUND, "this server has no enforcer: start it with --enforce");
        };
        if !web::is_json(request.headers()) {
            return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json");
        }
        enforcer.stop(is_stopped);
        tracing::warn!(is_stopped, "the API toggled the kill switch");
        if !is_stopped {
            return json(StatusCode::OK, &Switched { stopped: false, lifted: None, not_lifted: None, note: None });
        }
        // Requests are handled on threads that may block.
        let lifting = tokio::runtime::Handle::current().block_on(enforcer.lifted_within(LIFTED_WITHIN));
        let not_lifted = lifting.not_lifted.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        let lifted = Some(lifting.lifted.len());
        let note = enforcer.other_replica();
        json(StatusCode::OK, &Switched { stopped: true, lifted, not_lifted: Some(not_lifted), note })
    }

    /// Returns `ok` and, with `?verbose`, the time of the latest event and the status of the enforcer.
    fn readiness(&self, query: &Query<'_>) -> String {
        let mut out = String::new();
        if query.get("verbose").is_some() {
            let latest = self.pipeline.latest().map_or_else(|| "none yet".to_owned(), time::text);
            out.push_str(&format!("latest event: {latest}\n"));
            let enforcer = self.enforcer.as_ref().map_or_else(|| "off".to_owned(), Control::status);
            out.push_str(&format!("enforcer: {enforcer}\n"));
        }
        out.push_str("ok\n");
        out
    }

    fn lens(&self) -> Lens<'_> {
        Lens { pipeline: &self.pipeline, classes: &self.classes }
    }

    /// Parses `{resource.group}/{namespace or -}/{name}[/participants|/timeline|/decision]` into the object and the
    /// view.
    pub(super) fn named<'p>(path: &'p str, query: &str) -> Option<(ObjectKey, Cow<'p, str>)> {
        let parts: Vec<Cow<'p, str>> = path.split('/').map(decoded).collect();
        let (resource, namespace, name, view) = match parts.as_slice() {
            [resource, namespace, name] => (resource, namespace, name, Cow::Borrowed("")),
            [resource, namespace, name, view] => (resource, namespace, name, view.clone()),
            _ => return None,
        };
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let namespace = if namespace == "-" { "" } else { namespace };
        let cluster = Query::of(query).get("cluster").unwrap_or_default();
        Some((ObjectKey::new(&cluster, &ObjectName { group, resource, namespace, name }), view))
    }

    fn object(&self, path: &str, query: &str) -> Reply {
        let Some((key, view)) = Api::named(path, query) else {
            return problem(
                StatusCode::NOT_FOUND,
                "expected RESOURCE.GROUP/NAMESPACE/NAME, with - as the namespace of cluster-scoped objects",
            );
        };
        if view == "decision" {
            return json(StatusCode::OK, &self.decision(&key));
        }
        let found = match self.participants(&key, &Query::of(query)) {
            Ok(found) => found,
            Err((status, why)) => return problem(status, &why),
        };
        match view.as_ref() {
            "" => json(StatusCode::OK, &found),
            "timeline" => {
                let Participants { object, timeline, complete_since, transitions, .. } = found;
                json(StatusCode::OK, &Timeline { object, timeline, complete_since, transitions })
            }
            "participants" => {
                let war = found.wars.first();
                let is_party = |p: &Party| war.is_some_and(|w| w.parties.iter().any(|q| q.actor == p.actor));
                let (parties, other_writers) = found.actors.into_iter().partition(is_party);
                json(StatusCode::OK, &Sides { object: found.object, state: found.state, parties, other_writers })
            }
            _ => problem(StatusCode::NOT_FOUND, "unknown path: an object has /participants, /timeline and /decision"),
        }
    }

    /// Finds the one object that the filter matches, in memory and, with `since`, in the journal.
    fn find(&self, filter: &Filter, query: &Query<'_>) -> Result<Participants, Refusal> {
        let kept = match self.history(query)? {
            Some((reader, since)) => self.look_back(&reader, since).named(filter).map_err(unreadable)?,
            None => Vec::new(),
        };
        let key = self.lens().meant(filter, kept).map_err(|why| (StatusCode::NOT_FOUND, why))?;
        self.participants(&key, query)
    }

    /// Returns the transitions since a time, by default those of the last day.
    fn transitions(&self, query: &Query<'_>) -> Result<Transitions, Refusal> {
        let filter = query.without("since").filter().map_err(|why| (StatusCode::BAD_REQUEST, why))?;
        let day = Query::of("since=1d");
        let asked = if query.get("since").is_some() { query } else { &day };
        let Some((reader, since)) = self.history(asked)? else { unreachable!("a time is asked for") };
        self.look_back(&reader, since).transitions(&filter).map_err(unreadable)
    }

    /// Returns the participants of an object, from the journal if the query has `since`.
    fn participants(&self, key: &ObjectKey, query: &Query<'_>) -> Result<Participants, Refusal> {
        let found = match self.history(query)? {
            Some((reader, since)) => self.look_back(&reader, since).participants(key).map_err(unreadable)?,
            None => self.lens().participants(key),
        };
        found.ok_or_else(|| (StatusCode::NOT_FOUND, "editwar has seen no write to this object".to_owned()))
    }

    /// Returns a reader of the journal and the start time, or `None` if the query has no `since`.
    fn history(&self, query: &Query<'_>) -> Result<Option<(Reader, Micros)>, Refusal> {
        let Some(text) = query.get("since") else { return Ok(None) };
        let Some(since) = past::since(&text, self.pipeline.latest().unwrap_or(0)) else {
            let error =
                format!("expected a time such as 2026-02-11T10:00:00Z or a duration such as 7d, got \"{text}\"");
            return Err((StatusCode::BAD_REQUEST, error));
        };
        let Some(journal) = &self.journal else {
            let error = "the server has no journal: start it with --journal DIR to query the past";
            return Err((StatusCode::NOT_IMPLEMENTED, error.to_owned()));
        };
        match journal.reader() {
            Ok(reader) => Ok(Some((reader, since))),
            Err(why) => Err((StatusCode::SERVICE_UNAVAILABLE, why)),
        }
    }

    fn look_back<'a>(&'a self, reader: &'a Reader, since: Micros) -> History<'a> {
        History { reader, pipeline: &self.pipeline, classes: &self.classes, since }
    }

    /// Decides whether a reconciler may write this object now. Only a war whose fields are known can forbid it.
    pub fn decision(&self, key: &ObjectKey) -> Decision {
        let as_of = self.pipeline.latest_of(key.cluster());
        let calm = || Decision {
            allowed: true,
            state: State::Calm,
            confidence: None,
            since: None,
            opponents: Vec::new(),
            reason: "no war over this object".into(),
            retry_at: None,
            as_of,
        };
        let look = |state: &crate::detect::object::ObjectState| {
            let war = state.contest()?.findings().worst(Confidence::Probable)?;
            let tally = &war.tally;
            let machine = &tally.machine;
            if machine.state() == State::Calm {
                return None;
            }
            let opponents: Vec<String> = tally.parties.keys().map(|p| p.to_string()).collect();
            let until = machine.until();
            let reason = match (machine.state(), until) {
                (State::Sustained, Some(until)) => format!(
                    "{} fight over the object; the last retake was at {}, and the quiet period lasts until {}",
                    opponents.join(" and "),
                    time::text(machine.last_retake()),
                    time::text(until)
                ),
                (State::Subsiding, _) => "no retake for the quiet period, so one trial write is allowed".into(),
                _ => format!("{} retake fields from each other, but not often enough to stop", opponents.join(" and ")),
            };
            Some(Decision {
                allowed: machine.state() != State::Sustained,
                state: machine.state(),
                confidence: Some(war.confidence),
                since: Some(machine.since()),
                opponents,
                reason,
                retry_at: until,
                as_of,
            })
        };
        let found = self.pipeline.table().with(key, look).flatten();
        found.unwrap_or_else(calm)
    }
}

/// Returns whether the path turns the kill switch on or off, or `None` for other paths.
fn switch(path: &str) -> Option<bool> {
    match path {
        "/api/v1/enforcement/stop" => Some(true),
        "/api/v1/enforcement/start" => Some(false),
        _ => None,
    }
}

/// Why a query fails, and the HTTP status for it.
type Refusal = (StatusCode, String);

/// The parameters of a query string, without one that has been handled already.
pub(super) struct Query<'a>(&'a str, Option<&'a str>);

// === impl Query ===

impl<'a> Query<'a> {
    pub(super) fn of(text: &'a str) -> Query<'a> {
        Query(text, None)
    }

    fn without(&self, name: &'a str) -> Query<'a> {
        Query(self.0, Some(name))
    }

    fn pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        form_urlencoded::parse(self.0.as_bytes()).filter(|(key, _)| self.1 != Some(key.as_ref()))
    }

    pub(super) fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.pairs().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn filter(&self) -> Result<Filter, String> {
        let mut filter = Filter { limit: Some(OBJECTS_SHOWN), ..Filter::default() };
        for (key, value) in self.pairs() {
            let text = Some(value.clone().into_owned());
            match key.as_ref() {
                "namespace" => filter.namespace = text,
                "kind" => filter.kind = text,
                "name" => filter.name = text,
                "cluster" => filter.cluster = text,
                "actor" => filter.actor = text,
                "limit" => match value.parse() {
                    Ok(limit @ 1..=OBJECTS_SHOWN_MAX) => filter.limit = Some(limit),
                    _ => return Err(format!("`limit` must be a number from 1 to {OBJECTS_SHOWN_MAX}")),
                },
                "all" => filter.all = matches!(value.as_ref(), "" | "1" | "true"),
                _ => {
                    return Err(format!(
                        "unknown parameter `{key}`: expected namespace, kind, name, cluster, actor, limit or all"
                    ));
                }
            }
        }
        Ok(filter)
    }
}

/// Returns the response for a journal that cannot be read.
#[expect(clippy::needless_pass_by_value, reason = "it is the end of an error's way")]
fn unreadable(error: journal::Error) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// Decodes a segment of a path. `+` is not a space there: names of roles may contain it.
fn decoded(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8().unwrap_or(Cow::Borrowed(segment))
}

pub(super) fn text(status: StatusCode, text: String) -> Reply {
    reply(status, TEXT, text.into_bytes().into_boxed_slice().into())
}

fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(body) => reply(status, JSON, harmless(body)),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Escapes JSON so that it is safe to show on a terminal.
fn harmless(body: String) -> Bytes {
    let body = match escape::json(&body) {
        Cow::Borrowed(_) => body,
        Cow::Owned(escaped) => escaped,
    };
    // Drops the spare capacity, because the body is held until the client has read it.
    body.into_bytes().into_boxed_slice().into()
}

pub(super) fn problem(status: StatusCode, error: &str) -> Reply {
    let body = serde_json::to_string(&Problem { error: error.into() }).unwrap_or_default();
    reply(status, JSON, harmless(body))
}

fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_is_itself_in_a_path_and_a_space_in_a_query() {
        let path = "clusterroles.rbac.authorization.k8s.io/-/a+b%3Ac/timeline";
        let (key, view) = Api::named(path, "cluster=x+y%2Bz&cluster=other").unwrap();
        assert_eq!((key.object().name, key.object().namespace, key.cluster()), ("a+b:c", "", "x y+z"));
        assert_eq!(view, "timeline");
        let (key, _) = Api::named("configmaps/n/%ff", "cluster=%ff").unwrap();
        assert_eq!(
            (key.object().name, key.cluster()),
            ("%ff", "\u{fffd}"),
            "neither is a name of an object or a cluster"
        );
    }
}
