//! Findings other than wars: hot loops, contention, flapping admission and co-operation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::object::Object;
use super::{rate, time};
use crate::audit::event::Micros;

/// An actor that writes one object far too often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HotLoop {
    /// The object.
    pub object: Object,
    /// The actor.
    pub actor: String,
    /// Its writes that changed the object.
    pub writes: u32,
    /// Its requests that changed nothing.
    pub no_ops: u32,
    /// Requests per minute; absent if the first and the last are less than a minute apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<f64>,
    /// The time of the first request.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// The time of the last request.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
}

/// An object that several clients write at the same time, so that requests fail with conflicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contention {
    /// The object.
    pub object: Object,
    /// 409s because of a stale resourceVersion.
    pub stale: u32,
    /// 409s of server-side applies to fields that another manager owns.
    pub apply_conflicts: u32,
    /// The clients, with their conflicts and writes.
    pub parties: Vec<Contender>,
    /// The time of the first conflict.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// The time of the last conflict.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
}

/// A client whose requests conflict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contender {
    /// The actor.
    pub actor: String,
    /// Its 409s.
    pub conflicts: u32,
    /// Its writes.
    pub writes: u32,
}

/// A writer whose requests admission alternately accepts and rejects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flapping {
    /// The object.
    pub object: Object,
    /// The actor whose requests these are.
    pub actor: String,
    /// The webhook or policy that rejects them.
    pub by: String,
    /// The latest message with which it rejected a request.
    pub message: String,
    /// Requests that were accepted since the first rejection.
    pub accepted: u32,
    /// Requests that were rejected.
    pub rejected: u32,
    /// How often an accepted request followed a rejected one, or the reverse.
    pub alternations: u32,
    /// The time of the first rejection.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// The time of the last rejection.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
}

/// Actors that write the same field, or delete and create the same object, by design.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cooperation {
    /// The object.
    pub object: Object,
    /// The name of the mechanism, or of the row in the table of co-operations.
    pub name: String,
    /// What it is called if it happens too often, such as `leader flapping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess: Option<String>,
    /// Why it is not a war.
    pub reason: String,
    /// The actors.
    pub actors: Vec<String>,
    /// The fields; `(object)` if the whole object is deleted and created.
    pub fields: Vec<String>,
    /// How often one actor wrote after the other.
    pub times: u32,
    /// The first time.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// The last time.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
}

// === impl HotLoop ===

impl HotLoop {
    /// Returns the rate of the requests: `120/min`, or `90 in 4 s` if they are less than a minute apart.
    pub fn rate(&self) -> String {
        rate::text(self.writes + self.no_ops, self.since, self.until, self.per_minute)
    }
}
