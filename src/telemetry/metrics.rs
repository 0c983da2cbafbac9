//! Prometheus metrics: the names of virt-platform-autopilot's runbook (`virt_platform_…`), and `editwar_…` for the
//! pipeline itself. The number of series is bounded.
//!
//! To add a metric, add a field to [`Metrics`], create it in [`Metrics::new`], and add a row to `docs/metrics.md`. A part
//! of the server that counts by itself registers its metrics with [`Metrics::register`], as the journal does in
//! `journal/shared.rs`.

mod thrashing;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

pub use self::thrashing::SeriesLimits;
use self::thrashing::{ThrashingCollector, ThrashingCounters};
use super::golden_state_metrics::GoldenStateMetrics;
use crate::audit::decode::Malformed;
use crate::detect::assessment::{Assessment, WarAssessment};
use crate::detect::object::ObjectState;
use crate::detect::resource_kind;
use crate::detect::verdict::{Confidence, State};
use crate::escape;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;
use crate::pipeline::stats::{Counters, Stats};
use crate::pipeline::table::Reclaimable;
use crate::util::lock::lock;

/// All metrics of a server.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Batches by outcome.
    pub batches: IntCounterVec,
    /// Bytes of batches by outcome.
    pub bytes: IntCounterVec,
    /// HTTP requests that were rejected, by reason.
    pub rejected: IntCounterVec,
    /// Seconds to decode and ingest a batch.
    pub batch_decode_duration: Histogram,
    /// Seconds from the first byte of a batch to its response.
    pub webhook_request_duration: Histogram,
    /// Metrics of the Golden State.
    pub golden_state: GoldenStateMetrics,
    events: IntCounterVec,
    malformed: IntCounterVec,
    evicted: prometheus::IntCounter,
    memory_reclaims: IntCounterVec,
    /// Writes whose time is implausible, by kind of error.
    pub wrong_clocks: IntCounterVec,
    /// Changes of the states of wars, by the new state.
    pub transitions: IntCounterVec,
    objects: IntGauge,
    undecided: IntGauge,
    latest: IntGauge,
    lag: prometheus::Gauge,
    thrashing: Arc<ThrashingCounters>,
    last_stats: Arc<Mutex<Stats>>,
    sources: prometheus::GaugeVec,
    paused: prometheus::IntGaugeVec,
    tail_lag: prometheus::IntGaugeVec,
    tail_gaps: IntCounterVec,
    tail_up: prometheus::IntGaugeVec,
}

/// Outcomes of batches.
const BATCHES: [&str; 2] = ["accepted", "truncated"];
/// Reasons for rejecting requests.
const REJECTIONS: [&str; 17] = [
    "unauthenticated",
    "forbidden",
    "host",
    "origin",
    "review_unavailable",
    "path",
    "clusters",
    "method",
    "content_type",
    "too_large",
    "stalled",
    "too_slow",
    "aborted",
    "full",
    "journal",
    "busy",
    "unread",
];

// === impl Metrics ===

impl Metrics {
    /// Creates and registers the metrics.
    pub fn new(limits: SeriesLimits) -> Metrics {
        let registry = Registry::new();
        // All label values start at zero: if a series started with its first increment, `rate()` would miss it and no
        // alert would fire.
        let counters = |name: &str, help: &str, label: &str, values: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), &[label]).expect("the name is valid");
            values.iter().for_each(|value| drop(vec.with_label_values(&[value])));
            register(&registry, vec)
        };
        let histogram = |name: &str, help: &str| {
            let buckets = vec![0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
            register(&registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)).expect("valid"))
        };
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help).expect("valid"));
        let thrashing = Arc::new(ThrashingCounters::new(limits));
        registry.register(Box::new(ThrashingCollector(thrashing.clone()))).expect("registered once");
        let build = prometheus::IntGaugeVec::new(
            Opts::new("editwar_build_info", "Version and commit of the server. Always 1."),
            &["version", "commit"],
        )
        .expect("valid");
        register(&registry, build).with_label_values(&[env!("CARGO_PKG_VERSION"), crate::COMMIT]).set(1);
        Metrics {
            batches: counters("editwar_batches_total", "Audit batches, by outcome.", "outcome", &BATCHES),
            bytes: counters("editwar_batch_bytes_total", "Bytes of audit batches, by outcome.", "outcome", &BATCHES),
            rejected: counters(
                "editwar_requests_rejected_total",
                "Rejected HTTP requests, by reason.",
                "reason",
                &REJECTIONS,
            ),
            batch_decode_duration: histogram(
                "editwar_batch_decode_duration_seconds",
                "Time to decode a batch, in seconds.",
            ),
            webhook_request_duration: histogram(
                "editwar_webhook_request_duration_seconds",
                "Time from the first byte of a batch to its response, in seconds.",
            ),
            events: counters("editwar_events_total", "Audit events, by outcome.", "outcome", &[]),
            malformed: counters(
                "editwar_malformed_events_total",
                "Input that could not be decoded as an audit event, by reason.",
                "reason",
                &Malformed::REASONS,
            ),
            wrong_clocks: counters(
                "editwar_wrong_clock_writes_total",
                "Writes with an implausible time, which are processed with their arrival time.",
                "time",
                &["future", "long_ago"],
            ),
            transitions: counters(
                "editwar_transitions_total",
                "Changes of the states of wars, by the new state. calm is the end of a war.",
                "to",
                &State::ALL.map(State::as_str),
            ),
            memory_reclaims: counters(
                "editwar_memory_reclaims_total",
                "Number of times that data was discarded to save memory, by what was discarded.",
                "what",
                &Reclaimable::ALL.map(Reclaimable::as_str),
            ),
            evicted: register(
                &registry,
                prometheus::IntCounter::new("editwar_evicted_objects_total", "Objects evicted from memory.")
                    .expect("valid"),
            ),
            undecided: gauge(
                "editwar_undecided_objects",
                "Objects that several actors write alternately, although it is not known whether they write the same fields.",
            ),
            objects: gauge("editwar_tracked_objects", "Objects with at least one known writer."),
            latest: gauge(
                "editwar_last_event_timestamp_seconds",
                "Time of the latest audit event, as a Unix timestamp in seconds.",
            ),
            lag: register(
                &registry,
                prometheus::Gauge::new("editwar_event_lag_seconds", "Age of the latest audit event, in seconds.")
                    .expect("valid"),
            ),
            sources: register(
                &registry,
                prometheus::GaugeVec::new(
                    Opts::new(
                        "editwar_source_last_batch_timestamp_seconds",
                        "Time of the last batch of a source, as a Unix timestamp in seconds.",
                    ),
                    &["cluster", "source"],
                )
                .expect("valid"),
            ),
            paused: register(
                &registry,
                prometheus::IntGaugeVec::new(
                    Opts::new("virt_platform_paused_resources", "Objects that are paused. 1 for each."),
                    &["kind", "name", "namespace"],
                )
                .expect("valid"),
            ),
            golden_state: GoldenStateMetrics::new(&registry),
            tail_lag: register(
                &registry,
                prometheus::IntGaugeVec::new(
                    Opts::new("editwar_tail_lag_bytes", "Bytes of a tailed log that have not been read yet."),
                    &["file"],
                )
                .expect("valid"),
            ),
            tail_up: register(
                &registry,
                prometheus::IntGaugeVec::new(
                    Opts::new("editwar_tail_up", "Whether a tailed log can be read: 1 or 0."),
                    &["file"],
                )
                .expect("valid"),
            ),
            tail_gaps: counters(
                "editwar_tail_gaps_total",
                "Number of times that a tailed log was rotated or truncated before it was read to its end.",
                "file",
                &[],
            ),
            thrashing,
            last_stats: Arc::default(),
            registry,
        }
    }

    /// Counts thrashing events of one object by one party.
    pub fn count_thrashing(&self, object: &ObjectKey, kind: Option<Arc<str>>, party: &Arc<str>, count: u32) {
        self.thrashing.add(object, kind, party, count, Instant::now());
    }

    /// Registers a metric of another part of the server.
    pub fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        register(&self.registry, collector)
    }

    /// Returns whether counters may be created for objects that are not thrashing yet.
    pub fn has_thrashing_capacity(&self) -> bool {
        self.thrashing.has_capacity()
    }

    /// Records that a source posted a batch.
    pub fn set_last_batch(&self, cluster: &str, source: &str, at_seconds: f64) {
        self.sources.with_label_values(&[cluster, source]).set(at_seconds);
    }

    /// Replaces the set of paused objects.
    pub fn set_paused<'a>(&self, pipeline: &Pipeline, objects: impl Iterator<Item = &'a ObjectKey>) {
        self.paused.reset();
        for key in objects {
            let object = key.object();
            // The same kind as in the thrashing counters. The kind of a custom resource is only known from its bodies.
            let seen = pipeline.table().with(key, |o| o.kind().cloned()).flatten();
            let kind =
                seen.as_deref().or(resource_kind::built_in(object.group, object.resource)).unwrap_or(object.resource);
            self.paused.with_label_values(&[kind, object.name, object.namespace]).set(1);
        }
    }

    /// Records whether a tailed log can be read, how many bytes are unread, and how many gaps it has had so far.
    pub fn record_tail(&self, file: &str, is_readable: bool, lag_bytes: u64, gaps: u64) {
        self.tail_up.with_label_values(&[file]).set(i64::from(is_readable));
        self.tail_lag.with_label_values(&[file]).set(i64::try_from(lag_bytes).unwrap_or(i64::MAX));
        let counter = self.tail_gaps.with_label_values(&[file]);
        counter.inc_by(gaps.saturating_sub(counter.get()));
    }

    /// Returns all metrics as Prometheus text, updated from the pipeline.
    pub fn text(&self, pipeline: &Pipeline, now_seconds: f64) -> String {
        self.refresh(pipeline, now_seconds);
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out).expect("a Vec takes everything");
        escape::metrics(&String::from_utf8(out).expect("labels are text")).into_owned()
    }

    fn refresh(&self, pipeline: &Pipeline, now_seconds: f64) {
        let stats = pipeline.stats();
        let mut last_stats = lock(&self.last_stats);
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
        self.thrashing.expire(Instant::now());
        let over = |state: &ObjectState| {
            let assessment = Assessment::of(state);
            let worst = assessment.worst(Confidence::Probable).or(assessment.wars().next());
            worst.filter(|war| war.is_thrashing() && war.is_ongoing()).map(WarAssessment::over)
        };
        self.thrashing.describe(|key| pipeline.table().with(key, over).flatten());
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

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("each name is registered once");
    collector
}

#[cfg(test)]
mod tests;
