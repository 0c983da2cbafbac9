//! The sink that counts thrashing events and transitions.

use std::sync::Arc;

use super::{Changes, Sink};
use crate::detect::assessment::Assessment;
use crate::detect::object::ObjectState;
use crate::detect::verdict::State;
use crate::pipeline::key::ObjectKey;
use crate::pipeline::{Pipeline, Transition};
use crate::telemetry::metrics::Metrics;

/// Updates the thrashing counters, and the counter of transitions.
pub struct MetricsSink {
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
}

// === impl MetricsSink ===

impl MetricsSink {
    /// Creates a sink that updates `metrics`. The kinds of the objects are looked up in `pipeline`.
    pub fn new(pipeline: Arc<Pipeline>, metrics: Metrics) -> MetricsSink {
        MetricsSink { pipeline, metrics }
    }

    /// Creates counters at zero for an object that became contested, since `increase()` misses the first value of a
    /// counter that starts above 0.
    fn begin(&self, object: &ObjectKey) {
        let look = |object: &ObjectState| {
            let assessment = Assessment::of(object);
            let parties = assessment.wars().flat_map(|war| war.parties.iter().cloned()).collect::<Vec<_>>();
            (object.kind().cloned(), parties)
        };
        if let Some((kind, parties)) = self.pipeline.table().with(object, look)
            && self.metrics.has_thrashing_capacity()
        {
            parties.iter().for_each(|party| self.metrics.count_thrashing(object, kind.clone(), party, 0));
        }
    }
}

impl Sink for MetricsSink {
    fn publish(&self, changes: &Changes<'_>) {
        for Transition { object, to, .. } in changes.transitions {
            self.metrics.transitions.with_label_values(&[to.as_str()]).inc();
            if *to == State::Contested {
                self.begin(object);
            }
        }
        for thrashing in changes.thrashing {
            let kind = self.pipeline.table().with(&thrashing.object, |o| o.kind().cloned()).flatten();
            self.metrics.count_thrashing(&thrashing.object, kind, &thrashing.party, thrashing.count);
        }
    }
}
