//! Prometheus metrics: the names of virt-platform-autopilot's runbook (`virt_platform_…`), and `editwar_…` for the
//! pipeline itself. The number of series is bounded.
//!
//! To add a metric, add a field to [`Metrics`], create it in [`Metrics::new`], and add a row to `docs/metrics.md`. Those that
//! are read from the pipeline are in `metrics/pipeline.rs`. A part of the server that counts by itself registers its metrics with [`Metrics::register`], as the journal does in
//! `journal/shared.rs`.

mod kafka;
mod pipeline;
mod registrar;
mod tail;
mod thrashing;

use std::sync::Arc;
use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{Encoder, Histogram, IntCounterVec, Opts, Registry, TextEncoder};

use self::kafka::KafkaMetrics;
use self::pipeline::PipelineMetrics;
use self::registrar::Registrar;
use self::tail::TailMetrics;
pub use self::thrashing::SeriesLimits;
use self::thrashing::{ThrashingCollector, ThrashingCounters};
use super::golden_state_metrics::GoldenStateMetrics;
use crate::detect::assessment::{Assessment, WarAssessment};
use crate::detect::object::ObjectState;
use crate::detect::resource_kind;
use crate::detect::verdict::{Confidence, State};
use crate::escape;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;

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
    /// Writes whose time is implausible, by kind of error.
    pub wrong_clocks: IntCounterVec,
    /// Changes of the states of wars, by the new state.
    pub transitions: IntCounterVec,
    notifications: IntCounterVec,
    kafka: KafkaMetrics,
    pipeline: PipelineMetrics,
    tail: TailMetrics,
    thrashing: Arc<ThrashingCounters>,
    sources: prometheus::GaugeVec,
    paused: prometheus::IntGaugeVec,
}

/// Sinks that send wars to other systems, and what becomes of a notification.
const SINKS: [&str; 2] = ["alertmanager", "cloud_events"];
const RESULTS: [&str; 3] = ["sent", "failed", "dropped"];
/// Outcomes of batches.
const BATCHES: [&str; 2] = ["accepted", "truncated"];
/// Reasons for rejecting requests.
const REJECTIONS: [&str; 18] = [
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
    "encoding",
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
        let registrar = Registrar(&registry);
        let thrashing = Arc::new(ThrashingCounters::new(limits));
        registry.register(Box::new(ThrashingCollector(thrashing.clone()))).expect("registered once");
        let build = registrar.gauges(
            "editwar_build_info",
            "Version and commit of the server. Always 1.",
            &["version", "commit"],
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), crate::COMMIT]).set(1);
        Metrics {
            batches: registrar.counters("editwar_batches_total", "Audit batches, by outcome.", "outcome", &BATCHES),
            bytes: registrar.counters(
                "editwar_batch_bytes_total",
                "Bytes of audit batches, by outcome.",
                "outcome",
                &BATCHES,
            ),
            rejected: registrar.counters(
                "editwar_requests_rejected_total",
                "Rejected HTTP requests, by reason.",
                "reason",
                &REJECTIONS,
            ),
            batch_decode_duration: registrar
                .durations("editwar_batch_decode_duration_seconds", "Time to decode a batch, in seconds."),
            webhook_request_duration: registrar.durations(
                "editwar_webhook_request_duration_seconds",
                "Time from the first byte of a batch to its response, in seconds.",
            ),
            wrong_clocks: registrar.counters(
                "editwar_wrong_clock_writes_total",
                "Writes with an implausible time, which are processed with their arrival time.",
                "time",
                &["future", "long_ago"],
            ),
            transitions: registrar.counters(
                "editwar_transitions_total",
                "Changes of the states of wars, by the new state. calm is the end of a war.",
                "to",
                &State::ALL.map(State::as_str),
            ),
            notifications: notifications(registrar),
            sources: registrar.float_gauges(
                "editwar_source_last_batch_timestamp_seconds",
                "Time of the last batch of a source, as a Unix timestamp in seconds.",
                &["cluster", "source"],
            ),
            paused: registrar.gauges(
                "virt_platform_paused_resources",
                "Objects that are paused. 1 for each.",
                &["kind", "name", "namespace"],
            ),
            golden_state: GoldenStateMetrics::new(&registry),
            kafka: KafkaMetrics::new(registrar),
            pipeline: PipelineMetrics::new(registrar),
            tail: TailMetrics::new(registrar),
            thrashing,
            registry,
        }
    }

    /// Counts thrashing events of one object by one party.
    pub fn count_thrashing(&self, object: &ObjectKey, kind: Option<Arc<str>>, party: &Arc<str>, count: u32) {
        self.thrashing.add(object, kind, party, count, Instant::now());
    }

    /// Registers a metric of another part of the server.
    pub fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        Registrar(&self.registry).register(collector)
    }

    /// Counts notifications of a sink, by result.
    pub fn count_notifications(&self, sink: &str, result: &str, count: usize) {
        self.notifications.with_label_values(&[sink, result]).inc_by(count as u64);
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

    /// Records how many messages of a topic have not been read yet.
    pub fn record_kafka_lag(&self, topic: &str, lag: i64) {
        self.kafka.lag.with_label_values(&[topic]).set(lag);
    }

    /// Records how many partitions of a topic are read.
    pub fn record_kafka_partitions(&self, topic: &str, count: usize) {
        self.kafka.partitions.with_label_values(&[topic]).set(count as i64);
    }

    /// Records whether this replica has everything that was in the log half a minute ago.
    pub fn set_log_current(&self, topic: &str, is_current: bool) {
        self.kafka.current.with_label_values(&[topic]).set(is_current.into());
    }

    /// Counts a failed connection to a broker, or a failed read.
    pub fn count_kafka_error(&self) {
        self.kafka.errors.inc();
    }

    /// Records whether a tailed log can be read, how many bytes are unread, and how many gaps it has had so far.
    pub fn record_tail(&self, file: &str, is_readable: bool, lag_bytes: u64, gaps: u64) {
        self.tail.record(file, is_readable, lag_bytes, gaps);
    }

    /// Returns all metrics as Prometheus text, updated from the pipeline.
    pub fn text(&self, pipeline: &Pipeline, now_seconds: f64) -> String {
        self.refresh(pipeline, now_seconds);
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out).expect("a Vec takes everything");
        escape::metrics(&String::from_utf8(out).expect("labels are text")).into_owned()
    }

    fn refresh(&self, pipeline: &Pipeline, now_seconds: f64) {
        self.pipeline.refresh(pipeline, now_seconds);
        self.thrashing.expire(Instant::now());
        let over = |state: &ObjectState| {
            let assessment = Assessment::of(state);
            let worst = assessment.worst(Confidence::Probable).or(assessment.wars().next());
            worst.filter(|war| war.is_thrashing() && war.is_ongoing()).map(WarAssessment::over)
        };
        self.thrashing.describe(|key| pipeline.table().with(key, over).flatten());
    }
}

/// Returns the counters of notifications, all at zero.
fn notifications(registrar: Registrar<'_>) -> IntCounterVec {
    let help = "Notifications, by sink and result: sent, failed (will be tried again), dropped.";
    let counters = IntCounterVec::new(Opts::new("editwar_notifications_total", help), &["sink", "result"]);
    let counters = counters.expect("the name is valid");
    for (sink, result) in SINKS.iter().flat_map(|sink| RESULTS.map(|result| (sink, result))) {
        drop(counters.with_label_values(&[sink, result]));
    }
    registrar.register(counters)
}

#[cfg(test)]
mod tests;
