//! Metrics that are read from the pipeline when they are scraped.

use std::sync::{Arc, Mutex};

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge};

use super::registrar::Registrar;
use crate::audit::decode::Malformed;
use crate::detect::assessment::{Assessment, WarAssessment};
use crate::pipeline::Pipeline;
use crate::pipeline::stats::{Counters, Stats};
use crate::pipeline::table::Reclaimable;
use crate::util::lock::lock;

/// Counts of events, and what is known of the objects.
#[derive(Clone)]
pub(super) struct PipelineMetrics {
    events: IntCounterVec,
    malformed: IntCounterVec,
    evicted: IntCounter,
    memory_reclaims: IntCounterVec,
    objects: IntGauge,
    undecided: IntGauge,
    latest: IntGauge,
    lag: Gauge,
    /// What the counters were increased to last.
    last_stats: Arc<Mutex<Stats>>,
}

// === impl PipelineMetrics ===

impl PipelineMetrics {
    pub(super) fn new(registrar: Registrar<'_>) -> PipelineMetrics {
        PipelineMetrics {
            events: registrar.counters("editwar_events_total", "Audit events, by outcome.", "outcome", &[]),
            malformed: registrar.counters(
                "editwar_malformed_events_total",
                "Input that could not be decoded as an audit event, by reason.",
                "reason",
                &Malformed::REASONS,
            ),
            memory_reclaims: registrar.counters(
                "editwar_memory_reclaims_total",
                "Number of times that data was discarded to save memory, by what was discarded.",
                "what",
                &Reclaimable::ALL.map(Reclaimable::as_str),
            ),
            evicted: registrar.counter("editwar_evicted_objects_total", "Objects evicted from memory."),
            undecided: registrar.gauge(
                "editwar_undecided_objects",
                "Objects that several actors write alternately, although it is not known whether they write the same fields.",
            ),
            objects: registrar.gauge("editwar_tracked_objects", "Objects with at least one known writer."),
            latest: registrar.gauge(
                "editwar_last_event_timestamp_seconds",
                "Time of the latest audit event, as a Unix timestamp in seconds.",
            ),
            lag: registrar.float_gauge("editwar_event_lag_seconds", "Age of the latest audit event, in seconds."),
            last_stats: Arc::default(),
        }
    }

    /// Updates the metrics from the pipeline.
    pub(super) fn refresh(&self, pipeline: &Pipeline, now_seconds: f64) {
        // In this order: of two scrapes at the same time, the later one to count must not have the older counts.
        let mut last_stats = lock(&self.last_stats);
        let stats = pipeline.stats();
        for (outcome, now, then) in outcomes(&stats.counters, &last_stats.counters) {
            self.events.with_label_values(&[outcome]).inc_by(now.saturating_sub(then));
        }
        for (reason, now) in &stats.malformed {
            let then = last_stats.malformed.get(reason).map_or(0, |then| then.count);
            self.malformed.with_label_values(&[*reason]).inc_by(now.count.saturating_sub(then));
        }
        self.evicted.inc_by(stats.counters.evicted.saturating_sub(last_stats.counters.evicted));
        for (reclaimable, now) in pipeline.table().reclaimed() {
            let counter = self.memory_reclaims.with_label_values(&[reclaimable.as_str()]);
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        self.objects.set(stats.counters.objects as i64);
        let is_counted =
            |war: &WarAssessment<'_>| war.is_thrashing() && war.is_ongoing() && !war.confidence.is_decided();
        let undecided = pipeline.table().select(|_, state| Assessment::of(state).wars().any(is_counted).then_some(()));
        self.undecided.set(undecided.len() as i64);
        if let Some(latest) = pipeline.latest() {
            self.latest.set(latest / 1_000_000);
            self.lag.set(((now_seconds - latest as f64 / 1e6) * 1e3).round() / 1e3);
        }
        *last_stats = stats;
    }
}

fn outcomes(now: &Counters, then: &Counters) -> [(&'static str, u64, u64); 8] {
    [
        ("write", now.writes, then.writes),
        ("read", now.reads, then.reads),
        ("dry_run", now.dry_runs, then.dry_runs),
        ("no_op", now.no_ops, then.no_ops),
        ("failed", now.failed, then.failed),
        ("other", now.others, then.others),
        ("ignored", now.ignored, then.ignored),
        ("duplicate", now.duplicates, then.duplicates),
    ]
}
