//! The way out, writing: pauses of objects that are fought over. [`plan`] decides and is pure; the others do.
//!
//! Three tasks, none of which waits for another: [`keeper`] renews the Lease, [`run`] acts while it is held, [`kill_switch`]
//! lifts all pauses when it is told to. [`calls`] holds the time limits of all of them.

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
