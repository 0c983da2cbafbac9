//! The audit webhook backend: kube-apiserver posts batches here.
//!
//! kube-apiserver posts a batch again after *any* error, and drops it after five attempts. So what can never be read is
//! counted and answered 200; only what may succeed later, and what no API server sends, is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::buffers::Buffers;
use super::{keep, news};
use crate::audit::envelope;
use crate::journal::committer::{Journal, Unavailable};
use crate::journal::record::Record;
use crate::net::budget::{Budget, Reservation, client_of};
use crate::net::{Reply, web};
use crate::pipeline::Pipeline;
use crate::telemetry::metrics::Metrics;

/// Time for a batch to arrive: kube-apiserver itself gives an attempt 30 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// A body this many times over the bound is not even read to its end.
const DRAIN_FACTOR: usize = 4;
/// Clusters that are learned from paths of batches with events: of all clients, and of each.
const CLUSTERS_MAX: usize = 64;
const CLIENT_CLUSTERS_MAX: usize = 32;
/// Sources that have a metric.
const SOURCES_MAX: usize = 256;
/// Parts of the budget for batches of which one client has one at most: others find room too.
const SHARES: usize = 4;

/// The webhook's side of a server.
#[derive(Clone)]
pub struct Webhook {
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
    journal: Option<Arc<Journal>>,
    body_bytes_max: usize,
    budget: Budget,
    buffers: Buffers,
    /// Batches that are decoded at once: no more than there are cores. More threads would only hold more memory.
    decoders: Arc<Semaphore>,
    clusters: Arc<Mutex<Clusters>>,
    sources: Arc<Mutex<BTreeSet<(String, String)>>>,
}

/// The clusters that events came from.
#[derive(Debug, Default)]
struct Clusters {
    names: BTreeSet<String>,
    /// How many a client was the first to name.
    by_client: BTreeMap<IpAddr, usize>,
}

/// Bytes of a body of which no length is known that are reserved at once.
const STEP_BYTES: usize = 64 << 10;
/// Bodies up to this size are decoded in well below a millisecond: 400 events of Metadata have 340 kB.
const AT_ONCE_BYTES: usize = 512 << 10;
/// Time within which more of a body must come: an API server sends it in one go.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A body, as far as it was read.
enum Read {
    /// All of it.
    Whole(Vec<u8>),
    /// As much as may be; the rest was read and thrown away.
    Cut(Vec<u8>),
    /// The peer went away, or was too slow.
    Lost(&'static str),
    /// The budget has no more for it.
    Full,
}

// === impl Webhook ===

impl Webhook {
    /// A webhook that feeds `pipeline`, with at most `body_bytes_max` of a batch and `in_flight_bytes_max` of all that are on
    /// their way.
    pub fn new(
        pipeline: Arc<Pipeline>,
        metrics: Metrics,
        body_bytes_max: usize,
        in_flight_bytes_max: usize,
    ) -> Webhook {
        // At least two find room.
        let body_bytes_max = body_bytes_max.min(in_flight_bytes_max / 2);
        let budget = Budget::new(in_flight_bytes_max, (in_flight_bytes_max / SHARES).max(body_bytes_max));
        let (clusters, sources) = (Arc::default(), Arc::default());
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Webhook {
            pipeline,
            metrics,
            journal: None,
            body_bytes_max,
            budget,
            buffers: Buffers::new(in_flight_bytes_max / 2),
            decoders: Arc::new(Semaphore::new(cores)),
            clusters,
            sources,
        }
    }

    /// Keeps every write before it is answered.
    pub fn with_journal(self, journal: Option<Arc<Journal>>) -> Webhook {
        Webhook { journal, ..self }
    }

    /// Takes events of these clusters, whatever others came from before.
    pub fn with_clusters(self, names: impl IntoIterator<Item = String>) -> Webhook {
        self.clusters().names.extend(names);
        self
    }

    /// Answers one request.
    pub async fn handle(self, request: Request<Incoming>, peer: SocketAddr) -> Reply {
        let started = Instant::now();
        let Some(cluster) = cluster(request.uri().path()) else {
            return self.refuse(StatusCode::NOT_FOUND, "path", "post audit events to /audit or /audit/CLUSTER\n");
        };
        if request.method() != Method::POST {
            let mut reply = self.refuse(StatusCode::METHOD_NOT_ALLOWED, "method", "audit events are posted\n");
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return reply;
        }
        // A page in a browser may send anything else to this machine without being asked.
        if !web::is_json(request.headers()) {
            let text = "send Content-Type: application/json, or application/x-ndjson\n";
            return self.refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", text);
        }
        if request.body().size_hint().lower() > (self.body_bytes_max * DRAIN_FACTOR) as u64 {
            return self.refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "smaller batches, please\n");
        }
        if self.journal.as_ref().is_some_and(|journal| journal.check().is_err()) {
            return self.unavailable();
        }
        if !self.clusters().has_room_for(&cluster, peer.ip()) {
            let text = "events of too many clusters came already: see webhook.auth.allow[].clusters\n";
            return self.refuse(StatusCode::TOO_MANY_REQUESTS, "clusters", text);
        }
        // Before anything of the body is read: one that is refused costs next to nothing.
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
        let outcome = if is_whole { "taken" } else { "cut" };
        self.metrics.batches.with_label_values(&[outcome]).inc();
        self.metrics.bytes.with_label_values(&[outcome]).inc_by(body.len() as u64);
        let this = self.clone();
        let name = cluster.clone();
        let span = tracing::debug_span!("batch", cluster, source = %peer.ip(), bytes = body.len());
        let task = async move {
            let taken = this.keep_and_take(&name, &peer.ip().to_string(), &body).await;
            this.buffers.give(body);
            drop(reservation);
            taken
        };
        let task = task.instrument(span);
        let taken = match self.journal {
            None => task.await,
            // A task of its own: what is on its way to the journal is taken in, also where nobody waits for the answer any
            // more.
            Some(_) => tokio::spawn(task).await.unwrap_or(Err(Unavailable)),
        };
        let Ok(events) = taken else { return self.unavailable() };
        // An empty batch is somebody who looks whether we are there.
        if events > 0 {
            self.clusters().learn(&cluster, peer.ip());
            self.note_source(&cluster, peer);
        }
        self.metrics.ack_seconds.observe(started.elapsed().as_secs_f64());
        Response::new(Full::default())
    }

    fn clusters(&self) -> MutexGuard<'_, Clusters> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_source(&self, cluster: &str, peer: SocketAddr) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        let source = (cluster.to_owned(), peer.ip().to_string());
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.contains(&source) || sources.len() < SOURCES_MAX {
            self.metrics.source(&source.0, &source.1, now);
            sources.insert(source);
        }
    }

    async fn body(&self, mut body: Incoming, reservation: &mut Reservation) -> Read {
        let mut whole = self.buffers.take(reservation.amount());
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

    /// Keeps the writes of a body, then takes in all of it; how many events there were.
    async fn keep_and_take(&self, cluster: &str, source: &str, body: &[u8]) -> Result<u64, Unavailable> {
        if let Some(journal) = &self.journal {
            let records = self.decoding(body, || self.records(cluster, source, body)).await;
            let span = tracing::debug_span!("journal", records = records.len());
            journal.append(records).instrument(span).await?;
        }
        Ok(self.decoding(body, || self.take(cluster, source, body)).await)
    }

    /// Does what takes a core for a while, when there is one.
    async fn decoding<T>(&self, body: &[u8], work: impl FnOnce() -> T) -> T {
        // It is never closed; if it were, that would be no reason to lose a batch.
        let _turn = self.decoders.acquire().await;
        match body.len() <= AT_ONCE_BYTES {
            true => work(),
            // Other tasks of this thread move elsewhere meanwhile, which costs more than a small batch.
            false => tokio::task::block_in_place(work),
        }
    }

    /// The writes of a body, as they are kept. Decoded apart from what is taken in: a body's events may be many times its
    /// size, records are not.
    fn records(&self, cluster: &str, source: &str, body: &[u8]) -> Vec<Record> {
        let mut records = Vec::new();
        envelope::values(body, |event| records.extend(keep::record(self.pipeline.policy(), cluster, source, event)));
        records
    }

    /// Takes in the events of a body; how many there were.
    fn take(&self, cluster: &str, source: &str, body: &[u8]) -> u64 {
        let span = tracing::debug_span!("observe", events = tracing::field::Empty).entered();
        let timer = self.metrics.decode_seconds.start_timer();
        let mut batch = self.pipeline.batch(cluster, source);
        let events = batch.body(body);
        news::tell(&batch, &self.pipeline, &self.metrics, self.journal.as_deref());
        drop(batch);
        timer.observe_duration();
        span.record("events", events);
        events
    }

    /// The answer where the budget is used up.
    fn full(&self) -> Reply {
        let mut reply = self.refuse(StatusCode::TOO_MANY_REQUESTS, "full", "too much is on its way in\n");
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        reply
    }

    /// The answer that makes an API server come again.
    fn unavailable(&self) -> Reply {
        let mut reply = self.refuse(StatusCode::SERVICE_UNAVAILABLE, "journal", "the journal cannot be written\n");
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        reply
    }

    fn refuse(&self, status: StatusCode, reason: &str, text: &'static str) -> Reply {
        self.metrics.refused.with_label_values(&[reason]).inc();
        let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *reply.status_mut() = status;
        reply
    }
}

/// The cluster that a path names; `None` where it is not the webhook's.
fn cluster(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/audit")?.trim_end_matches('/');
    let Some(name) = rest.strip_prefix('/') else { return rest.is_empty().then(String::new) };
    let is_name = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    is_name.then(|| name.to_owned())
}

// === impl Clusters ===

impl Clusters {
    /// Whether events of a cluster are taken from this client: a known one's, or one more.
    fn has_room_for(&self, name: &str, address: IpAddr) -> bool {
        let of_client = self.by_client.get(&client_of(address)).copied().unwrap_or(0);
        name.is_empty()
            || self.names.contains(name)
            || (self.by_client.values().sum::<usize>() < CLUSTERS_MAX && of_client < CLIENT_CLUSTERS_MAX)
    }

    /// Events came from a cluster.
    fn learn(&mut self, name: &str, address: IpAddr) {
        if !name.is_empty() && self.has_room_for(name, address) && self.names.insert(name.to_owned()) {
            *self.by_client.entry(client_of(address)).or_default() += 1;
        }
    }
}
