//! The lead among replicas, by the claims that this one reads and sends.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::claims::{Claim, Claims};
use super::message::Notice;
use super::producer::Producer;
use crate::audit::event::Micros;
use crate::notify::turn::Turn;
use crate::pipeline::key::ObjectKey;
use crate::telemetry::metrics::Metrics;
use crate::util::clock;
use crate::util::lock::lock;

/// Whether this replica leads.
pub(super) struct Lead {
    claims: Mutex<Claims>,
    producer: Arc<Producer>,
    metrics: Metrics,
}

// === impl Lead ===

impl Lead {
    pub(super) fn new(producer: Arc<Producer>, metrics: Metrics) -> Lead {
        let host = std::env::var("HOSTNAME").unwrap_or_default();
        // A process that is started again is another one: what the one before has sent may still arrive.
        let me = format!("{host}/{}/{}", std::process::id(), clock::now());
        Lead { claims: Mutex::new(Claims::new(me, Instant::now())), producer, metrics }
    }

    /// Processes the next claim in the log.
    pub(super) fn follow(&self, claim: &Claim) {
        let mut claims = lock(&self.claims);
        let was_mine = claims.until().is_some();
        claims.read(claim, Instant::now());
        match (was_mine, claims.until().is_some()) {
            (false, true) => tracing::info!("this replica leads: it publishes transitions"),
            (true, false) => tracing::info!(latest = claim.holder, "this replica no longer leads"),
            _ => {}
        }
    }

    /// Tells all replicas that a person has lifted the pause of an object.
    pub(super) fn tell_resumed(&self, object: &ObjectKey, at: Micros) {
        self.producer.notify(&Notice::Resumed { object: object.as_ref().to_owned(), at });
    }

    /// Waits until what was told is stored, for some seconds at most.
    pub(super) fn flush(&self) {
        self.producer.flush();
    }

    /// Claims the lead, or repeats the claim, if it is time to. A replica that is behind the log must not.
    pub(super) fn claim(&self) {
        let epoch_min = (clock::now() / 1_000).unsigned_abs();
        let claim = lock(&self.claims).next(Instant::now(), epoch_min);
        if let Some(claim) = claim {
            self.producer.notify(&Notice::Claim(claim));
        }
    }

    /// Sets the metric.
    pub(super) fn record(&self) {
        self.metrics.set_log_leader(&self.producer.topic, self.is_mine(Duration::ZERO));
    }
}

impl Turn for Lead {
    fn is_mine(&self, needed: Duration) -> bool {
        lock(&self.claims).until().is_some_and(|until| Instant::now() + needed < until)
    }

    fn tell_published(&self, id: String) {
        self.producer.notify(&Notice::Published(id));
    }
}
