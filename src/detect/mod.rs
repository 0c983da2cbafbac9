//! The engine: event → write → retake → bucket → verdict. It is pure: no clock, no I/O. Times come with the events.
//!
//! [`mod@write`] determines which object an event wrote, [`actor`] who did it, and [`fields`] which fields. [`object`]
//! keeps the state of one object. Once the object has two clients, [`write_history`] orders their writes, [`analysis`]
//! detects retakes, [`bucket`] counts them, and [`verdict`] decides when there are too many, and when a war has ended.
//! [`assessment`] holds the conclusions about one object, from which all reports are made. [`cause`] determines why a
//! war happens, and [`remedy`] how to end it. [`actor_class`] and [`cooperation`] are tables of known actors and of
//! intended co-operation. [`annotations`] names the annotations for reconcilers, and [`policy`] the limits.

pub(crate) mod actor;
pub mod actor_class;
mod admission;
pub(crate) mod analysis;
pub mod annotations;
pub(crate) mod application;
pub(crate) mod assessment;
pub mod bucket;
pub(crate) mod cause;
pub(crate) mod cooperation;
mod existence;
pub(crate) mod failures;
pub(crate) mod field_history;
pub mod fields;
pub(crate) mod instance;
pub(crate) mod meter;
pub mod object;
mod ownership;
mod part_history;
mod pending_writes;
mod pipeline_account;
pub mod policy;
pub mod record;
pub mod remedy;
pub(crate) mod resource_kind;
mod sketch;
pub(crate) mod symptoms;
#[cfg(test)]
mod tests;
pub mod verdict;
pub(crate) mod war;
pub mod write;
pub(crate) mod write_history;
mod write_order;
pub(crate) mod writer_stats;
mod writers;

use std::hash::{BuildHasher, Hash};
use std::sync::OnceLock;

use foldhash::quality::RandomState;

/// A keyed hash: equal texts have equal hashes within this process, and clients cannot provoke collisions.
pub(crate) fn hash(text: &str) -> u64 {
    hash_of(text)
}

/// A keyed hash of any value.
pub(crate) fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    static HASHER: OnceLock<RandomState> = OnceLock::new();
    HASHER.get_or_init(RandomState::default).hash_one(value)
}
