//! Publishes the results of a batch: updates metrics, and for every transition writes a log line and a journal entry.

use crate::detect::verdict::State;
use crate::journal::committer::Journal;
use crate::pipeline::coverage::Doubts;
use crate::pipeline::{Batch, Pipeline};
use crate::telemetry::metrics::Metrics;

/// Publishes the results of a batch. Never logs once per event.
pub fn tell(batch: &Batch<'_>, pipeline: &Pipeline, metrics: &Metrics, journal: Option<&Journal>) {
    metrics.contested(pipeline, batch.transitions.iter());
    metrics.thrashes(pipeline, &batch.thrashes);
    if let Some(journal) = journal {
        journal.note(&batch.transitions);
    }
    for (source, Doubts { future, long_ago }) in batch.doubts() {
        for (time, count) in [("future", future), ("long_ago", long_ago)].into_iter().filter(|(_, count)| *count > 0) {
            let counter = metrics.wrong_clocks.with_label_values(&[time]);
            if counter.get() == 0 {
                tracing::warn!(
                    source,
                    time,
                    "writes have an implausible time and are processed as of now; check the clock of this API server"
                );
            }
            counter.inc_by(count);
        }
    }
    for transition in &batch.transitions {
        let object = transition.object.object();
        let message = match transition.to {
            State::Calm => "the edit war is over",
            State::Contested => "two writers retake a field from each other",
            State::Thrashing => "an edit war",
            State::Sustained => "a sustained edit war: reconcilers should pause",
            State::Subsiding => "no retake for the quiet period: reconcilers may try again",
        };
        tracing::info!(
            cluster = transition.object.cluster(),
            resource = object.resource,
            group = object.group,
            namespace = object.namespace,
            name = object.name,
            from = transition.from.as_str(),
            to = transition.to.as_str(),
            "{message}"
        );
    }
}
