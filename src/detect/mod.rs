//! The engine: event → write → retake → bucket → verdict. It is pure: no clock, no I/O. Times come with the events.
//!
//! [`mod@write`] determines which object an event wrote, [`actor`] who did it, and [`fields`] which fields. [`object`]
//! keeps the state of one object. Once the object has two clients, [`contest`] orders their writes, [`findings`]
//! detects retakes, and [`verdict`] decides when there are too many.

pub mod actor;
pub mod admission;
pub mod annotations;
pub mod bucket;
pub mod cause;
pub mod class;
pub mod contest;
pub mod cooperation;
mod existence;
pub mod field_history;
pub mod fields;
pub mod findings;
pub mod instance;
pub mod kind;
pub mod meter;
pub mod object;
pub mod order;
mod part_history;
mod pipeline_account;
pub mod policy;
pub mod recent;
pub mod record;
pub mod remedy;
pub mod seen;
mod sketch;
#[cfg(test)]
mod tests;
pub mod trouble;
pub mod verdict;
pub mod war;
pub mod write;

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
