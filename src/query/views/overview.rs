//! The overview: one short row for each finding, for lists that show many of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::coverage::Coverage;
use super::object::Object;
use super::report::Matched;
use super::time;
use super::time_option;
use super::war::Value;
use crate::audit::event::Micros;
use crate::detect::actor_class::{ActorClass, Role};
use crate::detect::assessment::Progress;
use crate::detect::cause::Cause;
use crate::detect::verdict::{Confidence, State};

/// One line of the overview's stream. Without `watch`, the answer is one line with everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
    /// Whether this line replaces all earlier ones. True for the first line of a stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// What the rows are based on, if it has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<OverviewHead>,
    /// New and changed rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<OverviewRow>,
    /// Rows that no longer exist, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
    /// Whether the rows are complete up to this line. Rows are sent in several lines if they are many.
    #[serde(default)]
    pub complete: bool,
}

/// What an overview is based on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OverviewHead {
    /// The time of the latest event.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub as_of: Option<Micros>,
    /// The objects and writes that were looked at.
    pub matched: Matched,
    /// Sources without an event for more than five minutes, and sources that are not ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late_sources: Vec<String>,
    /// Number of objects, the least urgent ones, that are left out.
    pub omitted: usize,
    /// The status of the enforcer; absent if the server runs without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcer: Option<String>,
    /// The times and sources that the overview is based on.
    pub coverage: Coverage,
}

/// One finding about one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OverviewRow {
    /// Identifies the row among all rows of this server.
    pub id: String,
    /// What was found.
    pub finding: Finding,
    /// The object.
    pub object: Object,
    /// The parties of a war, or the actors of another finding.
    pub actors: Vec<ActorSummary>,
    /// When it began.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// The last time.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
    /// What is known about a war; absent for other findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub war: Option<WarSummary>,
    /// A sentence about any other finding.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

/// What was found about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// A war.
    War,
    /// An actor that writes the object far too often.
    HotLoop,
    /// Requests that fail with conflicts.
    Contention,
    /// Requests that admission alternately accepts and rejects.
    Flapping,
    /// A co-operation that happens too often.
    Cooperation,
}

/// An actor of a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActorSummary {
    /// The actor.
    pub actor: String,
    /// The kind of account, of the parties of a war.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ActorClass>,
    /// What the account does, of the parties of a war.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Its writes.
    #[serde(default)]
    pub writes: u32,
    /// Its retakes.
    #[serde(default)]
    pub retakes: u32,
}

/// A war, as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WarSummary {
    /// Whether it goes on.
    pub progress: Progress,
    /// Its state.
    pub state: State,
    /// How sure the verdict is.
    pub confidence: Confidence,
    /// Why it happens.
    pub cause: Cause,
    /// When the object was deleted, which ended the war.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub deleted: Option<Micros>,
    /// Whether the object is paused, no matter who set the pause.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_paused: bool,
    /// Number of retakes.
    pub retakes: u32,
    /// Number of retakes that found a bucket empty.
    pub thrashing_events: u32,
    /// Retakes per minute, from the first to the last; absent if they are less than a minute apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retakes_per_minute: Option<f64>,
    /// The contested fields, those with the most retakes first: the first eight, with three values each.
    pub fields: Vec<FieldSummary>,
    /// Number of contested fields.
    pub field_count: usize,
    /// The labels of the object that say who owns it, as far as they are configured and known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A contested field, as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FieldSummary {
    /// The path.
    pub path: String,
    /// Its most frequent values.
    pub values: Vec<Value>,
}
