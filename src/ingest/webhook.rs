//! The server side of kube-apiserver's audit webhook backend, and of everything else that posts events.
//!
//! kube-apiserver retries a batch after *any* error, and drops it after five attempts. Therefore, input that can never
//! be decoded is counted and answered with 200. Errors are only returned for batches that may succeed later, and for
//! requests that no API server sends.

mod clusters;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONTENT_ENCODING, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::watch;
use tracing::Instrument as _;

use self::clusters::Clusters;
use super::Source;
use super::buffer_pool::BufferPool;
use super::intake::{Intake, Origin};
use super::push::binary::{Unreadable, unpacked};
use super::push::{Protocol, Route, admission};
use crate::audit::envelope;
use crate::ingest::decompress;
use crate::journal::committer::Unavailable;
use crate::net::budget::{Budget, Reservation};
use crate::net::{Listener, Peer, Reply};
use crate::telemetry::metrics::Metrics;
use crate::util::clock;

/// Timeout for receiving a batch. kube-apiserver itself allows 30 s per attempt.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A body that exceeds the limit by this factor is not read to its end.
const DRAIN_FACTOR: usize = 4;
/// Maximum number of sources with their own metrics.
const SOURCES_MAX: usize = 256;
/// Divisor of the budget for batches: one client can use at most this fraction, so that other clients are not blocked.
const SHARES: usize = 4;

/// The webhook handler of a server.
#[derive(Clone)]
pub struct Webhook {
    intake: Intake,
    metrics: Metrics,
    body_bytes_max: usize,
    budget: Budget,
    buffers: BufferPool,
    clusters: Arc<Mutex<Clusters>>,
    sources: Arc<Mutex<BTreeSet<(String, String)>>>,
}

/// The encodings that are recognized by their first bytes. Data in another one would look like text.
const ENCODINGS: [&str; 4] = ["identity", "gzip", "x-gzip", "zstd"];
/// Number of bytes from the start of a review that contain its ID.
const REVIEW_HEAD_BYTES: usize = 1 << 10;
/// The start of what kube-apiserver posts. It is decoded in place.
const EVENT_LIST: &[u8] = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","#;

/// Number of bytes that are reserved at a time for a body of unknown length.
const STEP_BYTES: usize = 64 << 10;
/// Maximum time between two parts of a body. An API server sends it without pauses.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of reading a body.
enum Read {
    /// The complete body.
    Whole(Vec<u8>),
    /// The first part, up to the limit. The rest was read and discarded.
    Cut(Vec<u8>),
    /// The client disconnected or was too slow.
    Lost(&'static str),
    /// The budget is exhausted.
    Full,
}

// === impl Webhook ===

impl Webhook {
    /// Creates a webhook that feeds `intake`. A batch may have `body_bytes_max` bytes, and all batches in flight
    /// `in_flight_bytes_max` bytes.
    pub fn new(intake: Intake, metrics: Metrics, body_bytes_max: usize, in_flight_bytes_max: usize) -> Webhook {
        // There is memory for at least two bodies.
        let body_bytes_max = body_bytes_max.min(in_flight_bytes_max / 2);
        let budget = Budget::new(in_flight_bytes_max, (in_flight_bytes_max / SHARES).max(body_bytes_max));
        let (clusters, sources) = (Arc::default(), Arc::default());
        Webhook {
            intake,
            metrics,
            body_bytes_max,
            budget,
            buffers: BufferPool::new(in_flight_bytes_max / 2),
            clusters,
            sources,
        }
    }

    /// Always accepts events of these clusters, independent of the limit on learned clusters.
    pub fn with_clusters(self, names: impl IntoIterator<Item = String>) -> Webhook {
        self.clusters().names.extend(names);
        self
    }

    /// Handles one request.
    pub async fn handle(self, request: Request<Incoming>, peer: SocketAddr) -> Reply {
        let Some(route) = Route::of(request.uri().path()) else {
            return self.refuse(StatusCode::NOT_FOUND, "path", "post audit events to /audit or /audit/CLUSTER\n");
        };
        let headers = request.headers().clone();
        let protocol = route.protocol;
        if protocol == Protocol::Admission {
            return self.review(request, route.cluster, peer).await;
        }
        let reply = self.post(request, route, peer).await;
        protocol.answer(&headers, reply)
    }

    /// Allows what an admission review asks, and processes it afterwards.
    async fn review(self, request: Request<Incoming>, cluster: String, peer: SocketAddr) -> Reply {
        let length = (request.body().size_hint().lower() as usize).min(self.body_bytes_max);
        let Some(mut reservation) = self.budget.reserve(peer.ip(), length) else {
            // The review is dropped; the answer must still repeat its ID.
            self.metrics.rejected.with_label_values(&["full"]).inc();
            return admission::answer(&beginning(request.into_body()).await);
        };
        let dropped = |reason| self.metrics.rejected.with_label_values(&[reason]).inc();
        let body = match self.body(request.into_body(), &mut reservation).await {
            Read::Whole(body) => body,
            Read::Cut(body) => {
                dropped("too_large");
                return admission::answer(&body);
            }
            Read::Lost(reason) => {
                dropped(reason);
                return admission::answer(b"");
            }
            Read::Full => {
                dropped("full");
                return admission::answer(b"");
            }
        };
        let reply = admission::answer(&body);
        if self.intake.check().is_err() {
            dropped("journal");
        } else if !self.clusters().has_room_for(&cluster, peer.ip()) {
            dropped("clusters");
        } else {
            self.metrics.batches.with_label_values(&["accepted"]).inc();
            self.metrics.bytes.with_label_values(&["accepted"]).inc_by(body.len() as u64);
            let body = admission::dated(body);
            tokio::spawn(async move {
                let source = format!("admission {}", peer.ip());
                let origin = Origin { cluster: &cluster, source: &source };
                if matches!(self.intake.ingest_converted(origin, body).await, Ok(1..)) {
                    self.clusters().learn(&cluster, peer.ip());
                    self.record_source(&cluster, peer);
                }
                drop(reservation);
            });
        }
        reply
    }

    async fn post(self, request: Request<Incoming>, route: Route, peer: SocketAddr) -> Reply {
        let started = Instant::now();
        let Route { protocol, cluster, .. } = route;
        if let Some(rejection) = self.rejection(&request, protocol, &cluster, peer) {
            return rejection;
        }
        let headers = request.headers().clone();
        let length = (request.body().size_hint().lower() as usize).min(self.body_bytes_max);
        let Some(mut reservation) = self.budget.reserve(peer.ip(), length) else { return self.full() };
        let (body, is_whole) = match self.body(request.into_body(), &mut reservation).await {
            Read::Whole(body) => (body, true),
            Read::Cut(body) => (body, false),
            Read::Full => return self.full(),
            Read::Lost(reason) => {
                return self.refuse(StatusCode::REQUEST_TIMEOUT, reason, "the batch did not arrive in full\n");
            }
        };
        let outcome = if is_whole { "accepted" } else { "truncated" };
        self.metrics.batches.with_label_values(&[outcome]).inc();
        self.metrics.bytes.with_label_values(&[outcome]).inc_by(body.len() as u64);
        let body = if protocol.is_binary(&headers) {
            // It is decoded as a whole, so that its memory is reserved.
            let grow = |bytes| reservation.grow(bytes);
            let decode = || unpacked(body, grow).map(|body| protocol.json(&body));
            match self.intake.compute(decode).await {
                Ok(Some(body)) => body,
                Err(Unreadable::TooLarge) => {
                    let text = "the batch is too large: send smaller batches\n";
                    return self.refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text);
                }
                Ok(None) | Err(Unreadable::Damaged) => {
                    let text = "the body is not in the encoding that its headers name\n";
                    return self.refuse(StatusCode::BAD_REQUEST, "encoding", text);
                }
                Err(Unreadable::Full) => return self.full(),
            }
        } else {
            body
        };
        let is_converted = is_converted(&body);
        let (intake, buffers, name) = (self.intake.clone(), self.buffers.clone(), cluster.clone());
        let span = tracing::debug_span!("batch", cluster, source = %peer.ip(), bytes = body.len());
        let task = async move {
            let source = peer.ip().to_string();
            let origin = Origin { cluster: &name, source: &source };
            if is_converted {
                let ingested = intake.ingest_converted(origin, body).await;
                drop(reservation);
                return ingested;
            }
            let ingested = intake.ingest_body(origin, &body, |bytes| reservation.grow(bytes)).await;
            buffers.release(body);
            ingested
        };
        // A separate task: a batch whose writes were sent to the journal must be observed even if the client
        // disconnects.
        let ingested = tokio::spawn(task.instrument(span)).await;
        let Ok(events) = ingested.unwrap_or(Err(Unavailable)) else { return self.unavailable() };
        // An empty batch is a connectivity check.
        if events > 0 {
            self.clusters().learn(&cluster, peer.ip());
            self.record_source(&cluster, peer);
        }
        self.metrics.webhook_request_duration.observe(started.elapsed().as_secs_f64());
        Response::new(Full::default())
    }

    /// Returns the response to a request that is rejected before any of its body is read, so that it costs almost nothing.
    fn rejection(
        &self,
        request: &Request<Incoming>,
        protocol: Protocol,
        cluster: &str,
        peer: SocketAddr,
    ) -> Option<Reply> {
        if request.method() != Method::POST {
            let mut reply = self.refuse(StatusCode::METHOD_NOT_ALLOWED, "method", "use POST to send audit events\n");
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return Some(reply);
        }
        // A page in a browser can send requests with other content types to this server without a CORS preflight.
        if !protocol.accepts(request.headers()) {
            let text = "send Content-Type: application/json, or application/x-ndjson\n";
            return Some(self.refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", text));
        }
        let mut encodings = request.headers().get_all(CONTENT_ENCODING).iter();
        if !encodings.all(|name| ENCODINGS.iter().any(|known| name.as_bytes().eq_ignore_ascii_case(known.as_bytes()))) {
            let text = "compress with gzip or zstd, or not at all\n";
            return Some(self.refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding", text));
        }
        if request.body().size_hint().lower() > (self.body_bytes_max * DRAIN_FACTOR) as u64 {
            let text = "the batch is too large: lower --audit-webhook-batch-max-size of kube-apiserver\n";
            return Some(self.refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text));
        }
        if self.intake.check().is_err() {
            return Some(self.unavailable());
        }
        if !self.clusters().has_room_for(cluster, peer.ip()) {
            let text = "too many clusters: list the permitted ones in webhook.auth.allow[].clusters\n";
            return Some(self.refuse(StatusCode::TOO_MANY_REQUESTS, "clusters", text));
        }
        None
    }

    fn clusters(&self) -> MutexGuard<'_, Clusters> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record_source(&self, cluster: &str, peer: SocketAddr) {
        let source = (cluster.to_owned(), peer.ip().to_string());
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.contains(&source) || sources.len() < SOURCES_MAX {
            self.metrics.set_last_batch(&source.0, &source.1, clock::now_seconds());
            sources.insert(source);
        }
    }

    async fn body(&self, mut body: Incoming, reservation: &mut Reservation) -> Read {
        let mut whole = self.buffers.acquire(reservation.amount());
        let mut dropped = 0;
        let read = async {
            loop {
                let Ok(frame) = tokio::time::timeout(STALL_TIMEOUT, body.frame()).await else {
                    return Read::Lost("stalled");
                };
                let Some(frame) = frame else { break };
                let Ok(frame) = frame else { return Read::Lost("aborted") };
                let Ok(data) = frame.into_data() else { continue };
                let room = self.body_bytes_max - whole.len();
                let taken = data.len().min(room);
                let missing = (whole.len() + taken).saturating_sub(reservation.amount());
                if missing > 0 && !reservation.grow(missing.max(STEP_BYTES)) {
                    return Read::Full;
                }
                whole.extend_from_slice(&data[..taken]);
                dropped += data.len().saturating_sub(room);
                if dropped > self.body_bytes_max * DRAIN_FACTOR {
                    break;
                }
            }
            match dropped {
                0 => Read::Whole(std::mem::take(&mut whole)),
                _ => Read::Cut(std::mem::take(&mut whole)),
            }
        };
        tokio::time::timeout(BODY_TIMEOUT, read).await.unwrap_or(Read::Lost("too_slow"))
    }

    /// Returns the response for an exhausted budget.
    fn full(&self) -> Reply {
        let mut reply = self.refuse(
            StatusCode::TOO_MANY_REQUESTS,
            "full",
            "too many bytes of batches are in flight: retry later\n",
        );
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        reply
    }

    /// Returns the response that makes an API server retry.
    fn unavailable(&self) -> Reply {
        let mut reply =
            self.refuse(StatusCode::SERVICE_UNAVAILABLE, "journal", "cannot write the journal: retry later\n");
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        reply
    }

    fn refuse(&self, status: StatusCode, reason: &str, text: &'static str) -> Reply {
        self.metrics.rejected.with_label_values(&[reason]).inc();
        let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *reply.status_mut() = status;
        reply
    }
}

/// The source that serves the webhook on a listener.
pub struct WebhookSource<A> {
    listener: Listener,
    admission: A,
    webhook: Webhook,
}

/// Decides which requests the webhook accepts.
pub trait Admission: Clone + Send + Sync + 'static {
    /// Admits a request with events of a cluster, or returns the response to reject it with.
    fn admit(
        &self,
        request: &Request<Incoming>,
        peer: &Peer,
        cluster: &str,
    ) -> impl Future<Output = Result<(), Reply>> + Send;
}

// === impl WebhookSource ===

impl<A: Admission> WebhookSource<A> {
    /// Creates a source that serves `webhook` to the clients that `admission` admits.
    pub fn new(listener: Listener, admission: A, webhook: Webhook) -> WebhookSource<A> {
        WebhookSource { listener, admission, webhook }
    }
}

impl<A: Admission> Source for WebhookSource<A> {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn run(self: Box<Self>, stop: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
        let WebhookSource { listener, admission, webhook } = *self;
        let handler = move |request: Request<Incoming>, peer: Peer| {
            let (admission, webhook) = (admission.clone(), webhook.clone());
            async move {
                let mut request = request;
                let route = Route::of(request.uri().path());
                if let Some(route) = &route {
                    route.identify(&mut request);
                }
                let cluster = route.as_ref().map(|route| route.cluster.clone()).unwrap_or_default();
                match admission.admit(&request, &peer, &cluster).await {
                    Ok(()) => webhook.handle(request, peer.address).await,
                    Err(refusal) => match route {
                        Some(route) => route.protocol.answer(request.headers(), refusal),
                        None => refusal,
                    },
                }
            }
        };
        Box::pin(listener.serve(handler, stop))
    }
}

/// Whether a body must be converted to lines.
fn is_converted(body: &[u8]) -> bool {
    let head = &body[..body.len().min(envelope::HEAD_BYTES)];
    // Lines with JSON behind a prefix are not a sequence of JSON values.
    let is_text =
        || !matches!(body.trim_ascii_start().first(), None | Some(b'{' | b'[')) && memchr::memchr(b'{', head).is_some();
    !body.starts_with(EVENT_LIST) && (decompress::is_packed(body) || is_text() || envelope::is_wrapped(head))
}

/// Reads the beginning of a body.
async fn beginning(mut body: Incoming) -> Vec<u8> {
    let mut head = Vec::new();
    while head.len() < REVIEW_HEAD_BYTES
        && let Ok(Some(Ok(frame))) = tokio::time::timeout(STALL_TIMEOUT, body.frame()).await
    {
        head.extend(frame.into_data().unwrap_or_default().iter().take(REVIEW_HEAD_BYTES));
    }
    head
}
