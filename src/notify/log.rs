//! The sink that writes one log line for each transition.

use super::{Changes, Sink};
use crate::detect::verdict::State;
use crate::pipeline::Transition;

/// Logs transitions.
#[derive(Clone, Copy, Debug)]
pub struct Log;

// === impl Log ===

impl Sink for Log {
    fn publish(&self, changes: &Changes<'_>) {
        changes.transitions.iter().for_each(log);
    }
}

fn log(transition: &Transition) {
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
