//! The answers of the API that are not views of a report: decisions, the two sides of a war, timelines, the kill switch,
//! and errors.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::views::{Moment, Object, Party, TransitionView, time_option};
use crate::audit::event::Micros;
use crate::detect::verdict::{Confidence, State};

/// The answer to a reconciler that asks whether it may write an object now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// Whether the reconciler may write.
    pub allowed: bool,
    /// The state of the war that the decision follows from.
    pub state: State,
    /// How sure the verdict is; null for an object that nobody fights over.
    pub confidence: Option<Confidence>,
    /// Since when the state holds.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub since: Option<Micros>,
    /// The parties of the war.
    pub opponents: Vec<String>,
    /// The reason, in a sentence.
    pub reason: String,
    /// When to ask again; null if there is nothing to wait for.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub retry_at: Option<Micros>,
    /// The time of the latest event, which the decision is based on.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub as_of: Option<Micros>,
}

/// The actors of an object: the parties of its most urgent war, and the other writers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sides {
    /// The object.
    pub object: Object,
    /// The state of the object's war.
    pub state: State,
    /// The parties of the war.
    pub parties: Vec<Party>,
    /// The actors that write the object but are not parties.
    pub other_writers: Vec<Party>,
}

/// An object's writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// The object.
    pub object: Object,
    /// Its writes in order, as far as they are kept.
    pub timeline: Vec<Moment>,
    /// The time from which no write is missing. Only in answers from the journal.
    #[serde(default, with = "time_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub complete_since: Option<Micros>,
    /// The transitions of the object's wars. Only in answers from the journal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<TransitionView>,
}

/// The state of the kill switch.
#[derive(Serialize, JsonSchema)]
pub(super) struct Switched {
    /// Whether the enforcer is stopped: it writes nothing except to lift pauses.
    pub(super) stopped: bool,
    /// How many pauses were lifted since the switch was turned on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lifted: Option<usize>,
    /// Pauses that are not lifted yet, and resources that could not be searched for pauses, each with the reason. They
    /// are retried until the list is empty; `/readyz?verbose` shows the progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_lifted: Option<Vec<String>>,
    /// Says that another replica enforces, which this replica's switch does not stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// An error response.
#[derive(Serialize, JsonSchema)]
pub(super) struct Problem<'a> {
    /// What is wrong, and what to do about it.
    pub(super) error: Cow<'a, str>,
}
