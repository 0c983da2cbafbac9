//! Where the events come from, and what they show.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::coverage::{Coverage, StatsView};
use super::time;
use crate::audit::event::Micros;

/// The sources of a server, and what it would not see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sources {
    /// The present time of the server.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub now: Micros,
    /// The configured sources.
    pub sources: Vec<SourceReadiness>,
    /// The kinds of objects that were written, those with the most writes first.
    pub kinds: Vec<KindCoverage>,
    /// Times, gaps, audit levels and caveats.
    pub coverage: Coverage,
    /// Counts of events and requests.
    pub stats: StatsView,
}

/// A configured source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceReadiness {
    /// Its name: `webhook`, `tail` or `watch`.
    pub name: String,
    /// Whether it is ready.
    pub is_ready: bool,
}

/// What is known about the objects of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KindCoverage {
    /// The API group; empty for the core group.
    pub group: String,
    /// The plural resource name.
    pub resource: String,
    /// Number of objects in memory.
    pub objects: u64,
    /// Number of objects of which a body was seen, so that fields and values are known.
    pub with_fields: u64,
    /// Number of writes to these objects.
    pub writes: u64,
}
