//! What an actor has written: its objects and its writes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::coverage::Coverage;
use super::object::Object;
use super::participants::TimelineEntry;
use super::war::Party;

/// The objects that actors wrote, and their writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActorWrites {
    /// The objects, those written last first.
    pub objects: Vec<WrittenObject>,
    /// Number of objects, those written first, that are left out because of `limit`.
    #[serde(default)]
    pub omitted: usize,
    /// The writes in order, as far as they are kept: a server keeps those to contested objects only.
    pub writes: Vec<ObjectWrite>,
    /// The times and sources that the answer is based on.
    #[serde(default)]
    pub coverage: Coverage,
}

/// An object that an actor wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WrittenObject {
    /// The object.
    pub object: Object,
    /// The actor, and what it did to the object.
    pub writer: Party,
}

/// A write to an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectWrite {
    /// The object.
    pub object: Object,
    /// The write.
    #[serde(flatten)]
    pub write: TimelineEntry,
}
