//! Sinks: the receivers of state transitions and thrashing events.
//!
//! To add a sink, implement [`Sink`] in one file, and add it to one of two lists in `Server::build` (`cli/server.rs`):
//! `sinks` receive only the changes of new events, `state` also those of the journal's replay at startup.

pub(crate) mod log;
pub mod metrics;
pub(crate) mod turn;

use std::sync::Arc;

use crate::audit::event::Micros;
use crate::pipeline::key::ObjectKey;
use crate::pipeline::{Batch, Pipeline, ThrashingEvent, Transition};

/// What a batch of events changed.
#[derive(Clone, Copy, Debug)]
pub struct Changes<'a> {
    /// Changes of the states of wars, in the order in which they happened.
    pub transitions: &'a [Transition],
    /// Thrashing events, by object and party.
    pub thrashing: &'a [ThrashingEvent],
}

/// Receives every change once. It is called from the thread that ingests a batch, before the batch
/// is acknowledged, and must not wait for anything.
pub trait Sink: Send + Sync {
    /// Handles the changes of one batch.
    fn publish(&self, changes: &Changes<'_>);
}

/// Learns that a person has lifted the pause of an object, which ends the war over it for now.
pub(crate) trait LiftedPauses: Send + Sync {
    /// Records that the pause of this object was lifted at this time.
    fn lift(&self, object: &ObjectKey, at: Micros);
}

impl LiftedPauses for Pipeline {
    fn lift(&self, object: &ObjectKey, at: Micros) {
        self.resume(object, at);
    }
}

/// Several sinks.
#[derive(Clone)]
pub struct Sinks(Arc<[Arc<dyn Sink>]>);

// === impl Changes ===

impl<'a> Changes<'a> {
    /// Makes the transitions that are due, and returns what a batch of events has changed. Call it once, when all events
    /// of the batch have been processed.
    pub fn of(batch: &'a mut Batch<'_>) -> Changes<'a> {
        batch.pass_time();
        Changes { transitions: &batch.transitions, thrashing: &batch.thrashes }
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.transitions.is_empty() && self.thrashing.is_empty()
    }
}

// === impl Sinks ===

impl Sinks {
    /// Creates the list of sinks, which are called in this order.
    pub fn new(sinks: Vec<Arc<dyn Sink>>) -> Sinks {
        Sinks(sinks.into())
    }

    /// Passes new changes to all sinks.
    pub fn publish(&self, changes: &Changes<'_>) {
        if !changes.is_empty() {
            self.0.iter().for_each(|sink| sink.publish(changes));
        }
    }
}
