//! The thrashing counters of virt-platform-autopilot's runbook, and `editwar_war_info`, which names the contested fields of
//! each object. The number of objects with series, and of actors per object, is limited: all others are counted as `other`.
//! Series that have not changed for some time are removed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::detect::resource_kind;
use crate::pipeline::key::ObjectKey;
use crate::util::lock::lock;

/// The label value for everything beyond a limit.
const OTHER: &str = "other";

/// Thrashing counters with a bounded number of series.
pub(super) struct ThrashingCounters {
    series: Mutex<HashMap<ObjectKey, ObjectSeries>>,
    limits: SeriesLimits,
    by_object: Desc,
    by_actor: Desc,
    info: Desc,
}

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
    /// The fields that the object's most urgent war is over, if there is a war.
    over: Option<String>,
    changed: Instant,
}

// === impl ThrashingCounters ===

impl ThrashingCounters {
    pub(super) fn new(limits: SeriesLimits) -> ThrashingCounters {
        let labels = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let desc = |name: &str, help: &str, names: &[&str]| {
            Desc::new(name.to_owned(), help.to_owned(), labels(names), HashMap::new()).expect("the name is valid")
        };
        ThrashingCounters {
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
            info: desc(
                "editwar_war_info",
                "The fields that the most urgent war over an object is over, with their values. 1 for each object.",
                &["cluster", "kind", "name", "namespace", "over"],
            ),
        }
    }

    pub(super) fn add(&self, object: &ObjectKey, kind: Option<Arc<str>>, party: &Arc<str>, count: u32, now: Instant) {
        let mut series = lock(&self.series);
        let has_capacity = series.len() < self.limits.max_objects || series.contains_key(object);
        let other = || ObjectKey::from(["", "", OTHER, "", OTHER].join("\0").as_str());
        let key = if has_capacity { object.clone() } else { other() };
        let name = key.object();
        let built_in = || resource_kind::built_in(name.group, name.resource).unwrap_or(name.resource).into();
        let kind = kind.filter(|_| has_capacity).unwrap_or_else(built_in);
        let entry =
            series.entry(key).or_insert(ObjectSeries { kind, total: 0, actors: Vec::new(), over: None, changed: now });
        entry.total += u64::from(count);
        entry.changed = now;
        let has_capacity = entry.actors.len() < self.limits.max_actors_per_object;
        let party = if entry.actors.iter().any(|(actor, _)| actor == party) || has_capacity {
            party.clone()
        } else {
            OTHER.into()
        };
        match entry.actors.iter_mut().find(|(actor, _)| *actor == party) {
            Some((_, total)) => *total += u64::from(count),
            None => entry.actors.push((party, u64::from(count))),
        }
    }

    /// Returns whether counters may be created for objects that are not thrashing yet. Half of the capacity is reserved
    /// for those that are.
    pub(super) fn has_capacity(&self) -> bool {
        lock(&self.series).len() < self.limits.max_objects / 2
    }

    /// Updates what the wars are over. `over` returns it for an object with a war.
    pub(super) fn describe(&self, over: impl Fn(&ObjectKey) -> Option<String>) {
        lock(&self.series).iter_mut().for_each(|(key, series)| series.over = over(key));
    }

    pub(super) fn expire(&self, now: Instant) {
        lock(&self.series).retain(|_, series| now.duration_since(series.changed) < self.limits.ttl);
    }

    fn families(&self) -> Vec<MetricFamily> {
        let series = lock(&self.series);
        let mut objects: Vec<_> = series.iter().collect();
        objects.sort_by_key(|(key, _)| (*key).clone());
        let labelled = |key: &ObjectKey, kind: &str, more: Option<(&str, &str)>| {
            let name = key.object();
            let mut labels = vec![("kind", kind), ("name", name.name), ("namespace", name.namespace)];
            labels.extend(more);
            // A single cluster has no name and no label, as the runbook's queries expect.
            labels.extend(Some(("cluster", key.cluster())).filter(|(_, c)| !c.is_empty()));
            labels.sort_unstable();
            let mut metric = Metric::default();
            metric.set_label(labels.into_iter().map(|(name, value)| label(name, value)).collect());
            metric
        };
        let metric = |key: &ObjectKey, kind: &str, actor: Option<&str>, value: u64| {
            let mut metric = labelled(key, kind, actor.map(|actor| ("actor", actor)));
            let mut counter = Counter::default();
            counter.set_value(value as f64);
            metric.set_counter(counter);
            metric
        };
        let by_object = objects.iter().map(|(key, s)| metric(key, &s.kind, None, s.total)).collect();
        let by_actor = objects
            .iter()
            .flat_map(|(key, s)| s.actors.iter().map(|(actor, n)| metric(key, &s.kind, Some(actor.as_ref()), *n)));
        let info = objects.iter().filter_map(|(key, series)| {
            let mut metric = labelled(key, &series.kind, Some(("over", series.over.as_deref()?)));
            let mut gauge = Gauge::default();
            gauge.set_value(1.0);
            metric.set_gauge(gauge);
            Some(metric)
        });
        let counter = MetricType::COUNTER;
        [
            (&self.by_object, counter, by_object),
            (&self.by_actor, counter, by_actor.collect()),
            (&self.info, MetricType::GAUGE, info.collect()),
        ]
        .into_iter()
        .filter(|(_, _, metrics): &(_, _, Vec<Metric>)| !metrics.is_empty())
        .map(|(desc, kind, metrics)| family(desc, kind, metrics))
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

pub(super) struct ThrashingCollector(pub(super) Arc<ThrashingCounters>);

impl Collector for ThrashingCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.by_object, &self.0.by_actor, &self.0.info]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.families()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::write::ObjectName;

    #[test]
    fn idle_series_expire() {
        let key =
            |name| ObjectKey::new("", &ObjectName { group: "apps", resource: "deployments", namespace: "shop", name });
        let limits = SeriesLimits { max_objects: 2, max_actors_per_object: 2, ttl: Duration::from_secs(60) };
        let counters = ThrashingCounters::new(limits);
        let start = Instant::now();
        counters.add(&key("a"), None, &"x".into(), 1, start);
        counters.add(&key("b"), None, &"x".into(), 1, start + Duration::from_secs(30));
        counters.expire(start + Duration::from_secs(70));
        assert_eq!(lock(&counters.series).len(), 1);
    }
}
