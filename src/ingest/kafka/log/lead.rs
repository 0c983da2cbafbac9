//! Whether this replica leads, by the claims that it reads and sends.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use super::claims::{Claim, Claims};
use super::message::Notice;
use super::producer::Producer;
use crate::audit::event::Micros;
use crate::notify::LiftedPauses;
use crate::notify::turn::Turn;
use crate::pipeline::key::ObjectKey;
use crate::util::clock;
use crate::util::lock::lock;

/// Whether this replica leads.
pub(super) struct Lead {
    claims: Mutex<Claims>,
    producer: Arc<Producer>,
}

/// The metric that says whether this replica leads. It is computed when it is read, because the lead ends by the clock.
#[derive(Clone)]
pub(super) struct LeadGauge {
    lead: Arc<Lead>,
    gauge: IntGaugeVec,
}

// === impl Lead ===

impl Lead {
    pub(super) fn new(producer: Arc<Producer>) -> Lead {
        let host = std::env::var("HOSTNAME").unwrap_or_default();
        // A process that is started again is another one: what the one before has sent may still arrive.
        let me = format!("{host}/{}/{}", std::process::id(), clock::now());
        Lead { claims: Mutex::new(Claims::new(me, Instant::now())), producer }
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
}

/// Sends a notice to all replicas, including this one.
impl LiftedPauses for Lead {
    fn lift(&self, object: &ObjectKey, at: Micros) {
        self.producer.notify(&Notice::Resumed { object: object.as_ref().to_owned(), at });
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

// === impl LeadGauge ===

impl LeadGauge {
    pub(super) fn new(lead: Arc<Lead>) -> LeadGauge {
        let options = Opts::new("editwar_log_leader", "Whether this replica leads those that share a log.");
        let gauge = IntGaugeVec::new(options, &["topic"]).expect("the name is valid");
        LeadGauge { lead, gauge }
    }
}

impl Collector for LeadGauge {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let leads = self.lead.is_mine(Duration::ZERO);
        self.gauge.with_label_values(&[self.lead.producer.topic()]).set(leads.into());
        self.gauge.collect()
    }
}
