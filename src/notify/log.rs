//! The sink that writes one log line for each transition. A line about a war that thrashes or is sustained is a warning, and
//! names the parties, the fields and their values.

use std::sync::Arc;

use super::{Changes, Sink};
use crate::detect::assessment::Assessment;
use crate::detect::verdict::{Confidence, State};
use crate::pipeline::{Pipeline, Transition};

/// Logs transitions.
#[derive(Debug)]
pub(crate) struct Log {
    pipeline: Arc<Pipeline>,
}

/// What a warning says about a war.
struct Description {
    parties: String,
    over: String,
    retakes: u32,
}

// === impl Log ===

impl Log {
    /// Creates a sink that looks up wars in this pipeline.
    pub(crate) fn new(pipeline: Arc<Pipeline>) -> Log {
        Log { pipeline }
    }

    fn log(&self, transition: &Transition) {
        let object = transition.object.object();
        let message = match transition.to {
            State::Calm => "the edit war is over",
            State::Contested => "two writers retake a field from each other",
            State::Thrashing => "an edit war",
            State::Sustained => "a sustained edit war: reconcilers should pause",
            State::Subsiding => "no retake for the quiet period: reconcilers may try again",
        };
        macro_rules! log_at {
            ($log:ident, $($more:tt)*) => {
                tracing::$log!(
                    cluster = transition.object.cluster(),
                    resource = object.resource,
                    group = object.group,
                    namespace = object.namespace,
                    name = object.name,
                    from = transition.from.as_str(),
                    to = transition.to.as_str(),
                    $($more)*
                    "{message}"
                )
            };
        }
        match self.describe(transition) {
            Some(Description { parties, over, retakes }) => log_at!(warn, parties, over, retakes,),
            None => log_at!(info,),
        }
    }

    /// Describes the war that has become worse, unless it has ended in the meantime.
    fn describe(&self, transition: &Transition) -> Option<Description> {
        if !matches!(transition.to, State::Thrashing | State::Sustained) {
            return None;
        }
        let describe = |state: &_| {
            let assessment = Assessment::of(state);
            let war = assessment.worst(Confidence::Probable)?;
            let parties: Vec<&str> = war.parties.iter().map(|party| &**party).collect();
            Some(Description { parties: parties.join(", "), over: war.over(), retakes: war.tally.retakes })
        };
        self.pipeline.table().with(&transition.object, describe)?
    }
}

impl Sink for Log {
    fn publish(&self, changes: &Changes<'_>) {
        changes.transitions.iter().for_each(|transition| self.log(transition));
    }
}
