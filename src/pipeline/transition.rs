//! What a batch reports: state changes and thrashing events of objects.

use std::sync::Arc;

use super::key::ObjectKey;
use crate::audit::event::Micros;
use crate::detect::object::Labels;
use crate::detect::verdict::{State, StateChange};

/// Thrashing events of one party on one object.
#[derive(Clone, Debug, PartialEq)]
pub struct ThrashingEvent {
    /// The object.
    pub object: ObjectKey,
    /// The party whose writes they were.
    pub party: Arc<str>,
    /// The number of thrashing events.
    pub count: u32,
}

/// A change of the state of an object's war.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The object.
    pub object: ObjectKey,
    /// The state before it.
    pub from: State,
    /// The state after it.
    pub to: State,
    /// Its event time.
    pub at: Micros,
    /// The labels of the object that say who owns it.
    pub labels: Labels,
}

// === impl Transition ===

impl Transition {
    pub(super) fn new(object: ObjectKey, StateChange { from, to, at }: StateChange, labels: Labels) -> Transition {
        Transition { object, from, to, at, labels }
    }
}
