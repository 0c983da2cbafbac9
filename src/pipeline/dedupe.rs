//! At-least-once in, once counted: requests that were seen before.
//!
//! kube-apiserver posts a batch again when it got no answer, minutes later. A client may choose its audit ID, so the ID
//! alone is no identity.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use foldhash::quality::RandomState;

use crate::audit::event::{Event, Micros};

/// Time of events that one generation covers: a batch is tried for less than two minutes, and a restart may lie between.
const GENERATION: Micros = 15 * 60 * 1_000_000;

/// Hashes of the requests of the last one to two generations.
#[derive(Debug)]
pub struct Dedupe {
    young: HashSet<u64, BuildHasherDefault<Hashed>>,
    old: HashSet<u64, BuildHasherDefault<Hashed>>,
    since: Micros,
    generation_max: usize,
}

/// The hash of what is a hash already.
#[derive(Debug, Default)]
struct Hashed(u64);

// === impl Hashed ===

impl Hasher for Hashed {
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
    /// Remembers at most `requests_max` requests.
    pub fn new(requests_max: usize) -> Dedupe {
        Dedupe {
            young: HashSet::default(),
            old: HashSet::default(),
            since: i64::MIN,
            generation_max: (requests_max / 2).max(1),
        }
    }

    /// Whether this request was seen before; it is remembered.
    pub fn is_repeated(&mut self, request: u64, at: Micros) -> bool {
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

/// What a request is recognised by.
pub fn identity(hasher: &RandomState, cluster: &str, event: &Event<'_>) -> u64 {
    let (uri, verb) = (event.request_uri.as_ref(), event.verb);
    hasher.hash_one((cluster, event.audit_id.as_ref(), event.stage, event.received, verb, uri))
}
