//! Event → write → retake → bucket → verdict. Pure: no clock, no I/O, no async; time comes in with the event.
//!
//! [`mod@write`] says which object an event wrote, [`actor`] by whom, [`fields`] what of it. [`object`] keeps what is known
//! of one object; once it has two clients, [`contest`] puts their writes in order, [`findings`] tells who takes back what, and
//! [`verdict`] when it is too much.

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

/// A keyed hash: equal texts have equal hashes within this process, and nobody outside can make two collide.
pub(crate) fn hash(text: &str) -> u64 {
    hash_of(text)
}

/// A keyed hash of anything.
pub(crate) fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    static HASHER: OnceLock<RandomState> = OnceLock::new();
    HASHER.get_or_init(RandomState::default).hash_one(value)
}
