//! Takes decoded events, keeps the states of the objects, and returns verdicts.
//!
//! One [`Pipeline`] is shared by all sources and all queries; events enter it in a [`Batch`]. Locks cover one shard of the
//! objects each and are never held across an await. Counters are added once per batch.
//!
//! - [`table`], `shard`, [`key`]: the objects, their eviction and their deadlines.
//! - [`dedupe`]: recognises requests that are delivered again.
//! - `join`: joins audit events without fields with the revisions of a watch.
//! - [`clients`]: interns the accounts and tools behind the writes.
//! - [`clock`]: event time, and which event times are plausible.
//! - [`coverage`], [`stats`]: what verdicts are based on, and counters.

mod batch;
mod bounds;
mod clients;
pub mod clock;
pub(crate) mod coverage;
pub(crate) mod dedupe;
pub(crate) mod feed;
mod join;
pub mod key;
mod shard;
mod shared;
pub(crate) mod stats;
pub mod table;
mod transition;

pub use self::batch::Batch;
pub use self::bounds::{Bounds, TimeRange};
pub use self::shared::Pipeline;
pub use self::transition::{ThrashingEvent, Transition};
