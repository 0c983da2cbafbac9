//! Enforcement: pauses objects that are fought over. [`plan`] decides and is pure; the other modules execute.
//!
//! Three tasks run independently of each other: [`keeper`] renews the Lease, [`run`] acts while it is held, and
//! [`kill_switch`] removes all pauses on request. [`look`] derives the verdicts, [`selection`] says which objects may
//! be paused, [`pauses`] registers what was set, and [`calls`] contains all timeouts.

mod action;
pub mod calls;
pub mod events;
pub mod hand;
pub mod keeper;
pub mod kill_switch;
pub mod lease;
pub mod link;
pub mod look;
pub mod pauses;
pub mod plan;
pub mod run;
pub mod selection;
