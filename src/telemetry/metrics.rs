//! Prometheus metrics: the names of virt-platform-autopilot's runbook (`virt_platform_…`), and `editwar_…` for the
//! pipeline itself. The number of series is bounded.
//!
//! To add a metric, add a field to [`Metrics`], create it in [`Metrics::new`], and add a row to `docs/metrics.md`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::golden_state_metrics::GoldenStateMetrics;
use crate::audit::decode::Malformed;
use crate::detect::resource_kind;
use crate::detect::verdict::State;
use crate::escape;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;
use crate::pipeline::stats::{Counters, Stats};
use crate::pipeline::table::Reclaimable;
use crate::util::lock::lock;

/// The label value for everything beyond a limit.
const OTHER: &str = "other";

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
    latest: IntGauge,
    lag: prometheus::Gauge,
    thrashing: Arc<Wars>,
    counted: Arc<Mutex<Stats>>,
    sources: prometheus::GaugeVec,
    paused: prometheus::IntGaugeVec,
    tail_lag: prometheus::IntGaugeVec,
    tail_gaps: IntCounterVec,
    tail_up: prometheus::IntGaugeVec,
}

/// Thrashing counters with a bounded number of series.
struct Wars {
    series: Mutex<HashMap<ObjectKey, ObjectSeries>>,
    limits: SeriesLimits,
    by_object: Desc,
    by_actor: Desc,
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

/// Limits of the thrashing series.
#[derive(Clone, Copy, Debug)]
pub struct SeriesLimits {
    /// Maximum number of objects with series of their own.
    pub max_objects: usize,
    /// Maximum number of actors per object with series of their own.
    pub max_actors_per_object: usize,
    /// Time without a change after which the series of an object are removed.
    pub ttl: Duration,
}

struct ObjectSeries {
    kind: Arc<str>,
    total: u64,
    actors: Vec<(Arc<str>, u64)>,
    changed: Instant,
}

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
        let thrashing = Arc::new(Wars::new(limits));
        registry.register(Box::new(Shared(thrashing.clone()))).expect("registered once");
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
            counted: Arc::default(),
            registry,
        }
    }

    /// Counts thrashing events of one object by one party.
    pub fn thrash(&self, object: &ObjectKey, kind: Option<Arc<str>>, party: &Arc<str>, count: u32) {
        self.thrashing.add(object, kind, party, count, Instant::now());
    }

    /// Registers a metric of another part of the server.
    pub fn add<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        register(&self.registry, collector)
    }

    /// Returns whether counters may be created for objects that are not thrashing yet.
    pub fn has_room_for_thrashing(&self) -> bool {
        self.thrashing.has_room()
    }

    /// Records that a source posted a batch.
    pub fn source(&self, cluster: &str, source: &str, at_seconds: f64) {
        self.sources.with_label_values(&[cluster, source]).set(at_seconds);
    }

    /// Replaces the set of paused objects.
    pub fn paused<'a>(&self, pipeline: &Pipeline, objects: impl Iterator<Item = &'a ObjectKey>) {
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
    pub fn tailed(&self, file: &str, is_readable: bool, lag_bytes: u64, gaps: u64) {
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
        let mut counted = lock(&self.counted);
        for (outcome, now, then) in outcomes(&stats.counters, &counted.counters) {
            self.events.with_label_values(&[outcome]).inc_by(now.saturating_sub(then));
        }
        for (reason, (now, _)) in &stats.malformed {
            let then = counted.malformed.get(reason).map_or(0, |(n, _)| *n);
            self.malformed.with_label_values(&[*reason]).inc_by(now.saturating_sub(then));
        }
        self.evicted.inc_by(stats.counters.evicted.saturating_sub(counted.counters.evicted));
        for (reclaimable, now) in pipeline.table().reclaimed() {
            let counter = self.memory_reclaims.with_label_values(&[reclaimable.as_str()]);
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        self.objects.set(stats.counters.objects as i64);
        if let Some(latest) = pipeline.latest() {
            self.latest.set(latest / 1_000_000);
            self.lag.set(((now_seconds - latest as f64 / 1e6) * 1e3).round() / 1e3);
        }
        *counted = stats;
        self.thrashing.expire(Instant::now());
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

// === impl Wars ===

impl Wars {
    fn new(limits: SeriesLimits) -> Wars {
        let labels = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let desc = |name: &str, help: &str, names: &[&str]| {
            Desc::new(name.to_owned(), help.to_owned(), labels(names), HashMap::new()).expect("the name is valid")
        };
        Wars {
            series: Mutex::default(),
            limits,
            by_object: desc(
                "virt_platform_thrashing_total",
                "Thrashing events of an object: retakes that found a token bucket empty.",
                &["cluster", "kind", "name", "namespace"],
            ),
            by_actor: desc(
                "virt_platform_thrashing_by_actor_total",
                "Thrashing events of an object, by the actor of the retake.",
                &["cluster", "kind", "name", "namespace", "actor"],
            ),
        }
    }

    fn add(&self, object: &ObjectKey, kind: Option<Arc<str>>, party: &Arc<str>, count: u32, now: Instant) {
        let mut series = lock(&self.series);
        let is_room = series.len() < self.limits.max_objects || series.contains_key(object);
        let other = || ObjectKey::from(["", "", OTHER, "", OTHER].join("\0").as_str());
        let key = if is_room { object.clone() } else { other() };
        let name = key.object();
        let built_in = || resource_kind::built_in(name.group, name.resource).unwrap_or(name.resource).into();
        let kind = kind.filter(|_| is_room).unwrap_or_else(built_in);
        let entry = series.entry(key).or_insert(ObjectSeries { kind, total: 0, actors: Vec::new(), changed: now });
        entry.total += u64::from(count);
        entry.changed = now;
        let is_room = entry.actors.len() < self.limits.max_actors_per_object;
        let party =
            if entry.actors.iter().any(|(actor, _)| actor == party) || is_room { party.clone() } else { OTHER.into() };
        match entry.actors.iter_mut().find(|(actor, _)| *actor == party) {
            Some((_, total)) => *total += u64::from(count),
            None => entry.actors.push((party, u64::from(count))),
        }
    }

    /// Returns whether counters may be created for objects that are not thrashing yet. Half of the capacity is reserved
    /// for those that are.
    fn has_room(&self) -> bool {
        lock(&self.series).len() < self.limits.max_objects / 2
    }

    fn expire(&self, now: Instant) {
        lock(&self.series).retain(|_, series| now.duration_since(series.changed) < self.limits.ttl);
    }

    fn families(&self) -> Vec<MetricFamily> {
        let series = lock(&self.series);
        let mut objects: Vec<_> = series.iter().collect();
        objects.sort_by_key(|(key, _)| (*key).clone());
        let metric = |key: &ObjectKey, kind: &str, actor: Option<&str>, value: u64| {
            let name = key.object();
            let mut labels = vec![("kind", kind), ("name", name.name), ("namespace", name.namespace)];
            labels.extend(actor.map(|actor| ("actor", actor)));
            // A single cluster has no name and no label, as the runbook's queries expect.
            labels.extend(Some(("cluster", key.cluster())).filter(|(_, c)| !c.is_empty()));
            labels.sort_unstable();
            let mut metric = Metric::default();
            metric.set_label(labels.into_iter().map(|(name, value)| label(name, value)).collect());
            let mut counter = Counter::default();
            counter.set_value(value as f64);
            metric.set_counter(counter);
            metric
        };
        let by_object = objects.iter().map(|(key, s)| metric(key, &s.kind, None, s.total)).collect();
        let by_actor = objects
            .iter()
            .flat_map(|(key, s)| s.actors.iter().map(|(actor, n)| metric(key, &s.kind, Some(actor.as_ref()), *n)));
        [(&self.by_object, by_object), (&self.by_actor, by_actor.collect())]
            .into_iter()
            .filter(|(_, metrics): &(_, Vec<Metric>)| !metrics.is_empty())
            .map(|(desc, metrics)| family(desc, MetricType::COUNTER, metrics))
            .collect()
    }
}

/// Builds a family of metrics, whose label names may differ between metrics.
fn family(desc: &Desc, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

struct Shared(Arc<Wars>);

impl Collector for Shared {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.by_object, &self.0.by_actor]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.families()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::policy::Policy;
    use crate::detect::write::ObjectName;

    fn key(cluster: &str, name: &str) -> ObjectKey {
        ObjectKey::new(cluster, &ObjectName { group: "apps", resource: "deployments", namespace: "shop", name })
    }

    fn text(metrics: &Metrics) -> String {
        let pipeline = Pipeline::new(Policy::default(), crate::pipeline::Bounds::default());
        let text = metrics.text(&pipeline, 0.0);
        text.lines().filter(|line| line.starts_with("virt_platform_thrashing")).collect::<Vec<_>>().join("\n")
    }

    fn limits() -> SeriesLimits {
        SeriesLimits { max_objects: 2, max_actors_per_object: 2, ttl: Duration::from_secs(60) }
    }

    #[test]
    fn the_runbooks_series_have_its_labels() {
        let metrics = Metrics::new(limits());
        metrics.thrash(&key("", "web"), None, &"alice".into(), 2);
        metrics.thrash(&key("", "web"), None, &"b\"o\nb".into(), 1);
        metrics.thrash(&key("east", "web"), None, &"alice".into(), 1);
        assert_eq!(
            text(&metrics),
            r#"virt_platform_thrashing_by_actor_total{actor="alice",kind="Deployment",name="web",namespace="shop"} 2
virt_platform_thrashing_by_actor_total{actor="b\"o\nb",kind="Deployment",name="web",namespace="shop"} 1
virt_platform_thrashing_by_actor_total{actor="alice",cluster="east",kind="Deployment",name="web",namespace="shop"} 1
virt_platform_thrashing_total{kind="Deployment",name="web",namespace="shop"} 3
virt_platform_thrashing_total{cluster="east",kind="Deployment",name="web",namespace="shop"} 1"#
        );
    }

    #[test]
    fn a_paused_custom_resource_has_its_kind() {
        let event = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a","stage":"ResponseComplete","requestURI":"/apis/hco.kubevirt.io/v1/namespaces/cnv/hyperconvergeds/hco","verb":"update","user":{"username":"alice"},"objectRef":{"resource":"hyperconvergeds","namespace":"cnv","name":"hco","apiGroup":"hco.kubevirt.io","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200},"responseObject":{"kind":"HyperConverged","apiVersion":"hco.kubevirt.io/v1","metadata":{"name":"hco","namespace":"cnv","uid":"u","resourceVersion":"7"}},"requestReceivedTimestamp":"2026-11-23T02:00:00.000000Z","stageTimestamp":"2026-11-23T02:00:00.001000Z"}"#;
        let pipeline = Pipeline::new(Policy::default(), crate::pipeline::Bounds::default());
        let mut batch = pipeline.batch("", "test");
        batch.ingest(&crate::audit::decoded_chunk::DecodedChunk::of(event, false, Vec::new()), 0);
        drop(batch);
        let metrics = Metrics::new(limits());
        let name = ObjectName { group: "hco.kubevirt.io", resource: "hyperconvergeds", namespace: "cnv", name: "hco" };
        metrics.paused(&pipeline, [&ObjectKey::new("", &name), &key("", "web")].into_iter());
        let text = metrics.text(&pipeline, 0.0);
        for paused in [
            r#"virt_platform_paused_resources{kind="HyperConverged",name="hco",namespace="cnv"} 1"#,
            r#"virt_platform_paused_resources{kind="Deployment",name="web",namespace="shop"} 1"#,
        ] {
            assert!(text.lines().any(|line| line == paused), "{paused} is missing:\n{text}");
        }
    }

    #[test]
    fn series_beyond_the_limits_become_other() {
        let metrics = Metrics::new(limits());
        for object in ["a", "b", "c", "d"] {
            for actor in ["x", "y", "z"] {
                metrics.thrash(&key("", object), None, &actor.into(), 1);
            }
        }
        let text = text(&metrics);
        assert!(text.contains(r#"virt_platform_thrashing_total{kind="other",name="other",namespace=""} 6"#), "{text}");
        assert!(text.contains(r#"actor="other",kind="Deployment",name="a",namespace="shop"} 1"#), "{text}");
        assert_eq!(text.lines().filter(|l| l.starts_with("virt_platform_thrashing_total")).count(), 3);
    }

    #[test]
    fn idle_series_expire() {
        let wars = Wars::new(limits());
        let start = Instant::now();
        wars.add(&key("", "a"), None, &"x".into(), 1, start);
        wars.add(&key("", "b"), None, &"x".into(), 1, start + Duration::from_secs(30));
        wars.expire(start + Duration::from_secs(70));
        assert_eq!(lock(&wars.series).len(), 1);
    }
}
