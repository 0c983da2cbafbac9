//! The report on everything that was found, and the order of its findings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::coverage::{Coverage, StatsView};
use super::findings::{Contention, Cooperation, Flapping, HotLoop};
use super::war::War;

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The objects and writes that match the filter.
    #[serde(default)]
    pub matched: Matched,
    /// Objects that are fought over, the worst first.
    pub wars: Vec<War>,
    /// Number of objects, the least urgent ones, that are left out because of `limit` or because the answer would be
    /// too large.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
    /// Actors that write one object far too often.
    pub hot_loops: Vec<HotLoop>,
    /// Objects that several clients write at the same time, so that requests fail with conflicts.
    pub contention: Vec<Contention>,
    /// Writers whose requests admission alternately accepts and rejects.
    pub flapping: Vec<Flapping>,
    /// Co-operations that happen too often.
    #[serde(default)]
    pub cooperation: Vec<Cooperation>,
    /// The times and sources that the report is based on, and their audit levels.
    #[serde(default)]
    pub coverage: Coverage,
    /// Counts of events and requests.
    pub stats: StatsView,
}

/// The objects and writes that match a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Matched {
    /// Objects in memory that match. With a filter by actor, those that the actor wrote.
    pub objects: u64,
    /// Writes to these objects. With a filter by actor, those of the actor.
    pub writes: u64,
    /// Wars over these objects, if none of them has the properties that the filter requires.
    #[serde(default, skip_serializing_if = "is_none")]
    pub other_wars: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde requires this signature")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

// === impl Report ===

impl Report {
    /// Adds the findings of another report, but not its counts.
    pub(in crate::query) fn append(&mut self, other: Report) {
        self.wars.extend(other.wars);
        self.hot_loops.extend(other.hot_loops);
        self.contention.extend(other.contention);
        self.flapping.extend(other.flapping);
        self.cooperation.extend(other.cooperation);
    }

    /// Whether there are findings that are not wars.
    pub(in crate::query) fn has_other_findings(&self) -> bool {
        !(self.hot_loops.is_empty()
            && self.contention.is_empty()
            && self.flapping.is_empty()
            && self.cooperation.is_empty())
    }

    /// Sorts wars by severity, ongoing ones first, and everything else by object.
    pub(in crate::query) fn sort(&mut self) {
        self.wars.sort_by(|a, b| b.rank().cmp(&a.rank()).then_with(|| a.object.cmp(&b.object)));
        self.hot_loops.sort_by(|a, b| a.object.cmp(&b.object));
        self.contention.sort_by(|a, b| a.object.cmp(&b.object));
        self.flapping.sort_by(|a, b| a.object.cmp(&b.object));
        self.cooperation.sort_by(|a, b| a.object.cmp(&b.object));
    }
}
