//! Deduplication: an event may be delivered several times, but its request is counted only once.
//!
//! kube-apiserver posts a batch again if it got no answer, which can be minutes later. A client can choose its audit
//! ID, so the ID alone does not identify a request: the object, the account and the content count too.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use foldhash::quality::RandomState;

use crate::audit::event::{Level, Micros, Stage};
use crate::detect::policy::Limits;
use crate::detect::write::Write;

/// Event time that one generation covers. A batch is retried for less than two minutes, possibly with a restart
/// in between.
const GENERATION: Micros = 15 * 60 * 1_000_000;

/// Hashes of the requests of the last one to two generations.
#[derive(Debug)]
pub(crate) struct Dedupe {
    young: HashSet<u64, BuildHasherDefault<IdentityHasher>>,
    old: HashSet<u64, BuildHasherDefault<IdentityHasher>>,
    since: Micros,
    generation_max: usize,
}

/// A hasher for values that are hashes already.
#[derive(Debug, Default)]
struct IdentityHasher(u64);

// === impl IdentityHasher ===

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are kept, and a hash is one u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

// === impl Dedupe ===

impl Dedupe {
    /// Returns an empty set that remembers at most `requests_max` requests.
    pub(crate) fn new(requests_max: usize) -> Dedupe {
        Dedupe {
            young: HashSet::default(),
            old: HashSet::default(),
            since: i64::MIN,
            generation_max: (requests_max / 2).max(1),
        }
    }

    /// Whether this request was seen before. Remembers it.
    pub(crate) fn is_repeated(&mut self, request: u64, at: Micros) -> bool {
        if self.since == i64::MIN {
            self.since = at;
        }
        let is_over = at - self.since > GENERATION || self.young.len() >= self.generation_max;
        if is_over {
            self.old = std::mem::take(&mut self.young);
            self.since = at;
        }
        self.old.contains(&request) || !self.young.insert(request)
    }
}

/// The parts of a request that identify it. They are equal if the request is posted again or replayed from the journal,
/// and different for all other requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestIdentity<'a> {
    /// Cluster, audit ID, stage, verb, URI; group, resource, subresource, namespace, name; account, impersonated
    /// account; the body.
    pub texts: [&'a [u8]; 13],
    /// When the request arrived, according to its API server.
    pub received: Micros,
    /// The HTTP status code of the response.
    pub code: u16,
}

/// Returns the hash by which a request is recognised in memory. It covers the same parts as [`RequestIdentity`];
/// `object` is the hash of cluster, group, resource, namespace and name. If the request `omits_body`, as for a Secret,
/// the journal does not keep the body, so the body is not part of the hash.
pub(super) fn identity(hasher: &RandomState, object: u64, write: &Write<'_>, omits_body: bool) -> u64 {
    let event = write.event;
    let impersonated = event.impersonated.as_deref().unwrap_or_default();
    let body = event.request_object.or(event.response_object).filter(|_| !omits_body).unwrap_or_default();
    let code = event.status.as_ref().map_or(0, |status| status.code);
    let (id, uri, user) = (event.audit_id.as_bytes(), event.request_uri.as_bytes(), event.username.as_bytes());
    let (subresource, impersonated) = (write.subresource.as_bytes(), impersonated.as_bytes());
    let status = u64::from(code) << 16 | (event.stage as u64) << 8 | event.verb as u64;
    let mut hasher = hasher.build_hasher();
    hasher.write_u64(object);
    hasher.write_i64(event.received.unwrap_or(i64::MIN));
    // Hash the lengths too: otherwise, texts that are split at other places would have the same hash. No text is
    // longer than 4 GiB.
    hasher.write_u64(status << 32 | id.len() as u64);
    hasher.write_u64((uri.len() as u64) << 32 | user.len() as u64);
    hasher.write_u64((subresource.len() as u64) << 32 | impersonated.len() as u64);
    hasher.write(id);
    hasher.write(uri);
    hasher.write(user);
    if !subresource.is_empty() {
        hasher.write(subresource);
    }
    if !impersonated.is_empty() {
        hasher.write(impersonated);
    }
    hasher.write(body);
    hasher.finish()
}

/// Whether no body of a write is kept, nor anything that may quote one: of Secrets, of redacted objects, and of objects that
/// the configuration excludes (`limits` is `None`). What a watch of metadata shows has no values.
pub(crate) fn omits_body(limits: Option<&Limits>, write: &Write<'_>) -> bool {
    let is_secret = write.object.resource == "secrets" || limits.is_some_and(|limits| limits.redacts);
    let has_values = !write.event.is_watched() || write.event.level == Level::RequestResponse;
    limits.is_none() || (is_secret && has_values)
}

// === impl RequestIdentity ===

impl<'a> RequestIdentity<'a> {
    /// Returns the identity of a write.
    pub(crate) fn of(cluster: &'a str, write: &Write<'a>, omits_body: bool) -> RequestIdentity<'a> {
        let (event, object) = (write.event, &write.object);
        let stage = match event.stage {
            Stage::RequestReceived => "received",
            Stage::ResponseStarted => "started",
            Stage::ResponseComplete => "complete",
            Stage::Panic => "panic",
        };
        let body = event.request_object.or(event.response_object).filter(|_| !omits_body).unwrap_or_default();
        let texts = [
            cluster,
            &event.audit_id,
            stage,
            event.verb.as_str(),
            &event.request_uri,
            object.group,
            object.resource,
            write.subresource,
            object.namespace,
            object.name,
            &event.username,
            event.impersonated.as_deref().unwrap_or_default(),
        ];
        let mut parts: [&[u8]; 13] = [body; 13];
        for (part, text) in parts.iter_mut().zip(texts) {
            *part = text.as_bytes();
        }
        let code = event.status.as_ref().map_or(0, |status| status.code);
        RequestIdentity { texts: parts, received: event.received.unwrap_or(i64::MIN), code }
    }
}
