//! Enforcement: pauses objects that are fought over. [`plan`] decides and is pure; the other modules execute.
//!
//! Three tasks run independently of each other: [`leader_election`] renews the Lease, [`controller`] acts while it is
//! held, and [`kill_switch`] removes all pauses on request, which [`control`] passes on. [`pause_client`] writes the
//! annotations of a pause, whose names are in [`crate::detect::annotations`]. [`verdicts`] derives the verdicts,
//! [`selection`] says which objects may be paused, `unpaused` reports wars over the others, [`pauses`] registers what was set, and [`calls`] contains all
//! timeouts.

mod action;
mod applications;
pub(crate) mod calls;
pub(crate) mod control;
pub(crate) mod controller;
pub(crate) mod events;
#[cfg(test)]
pub(crate) mod fake_api;
#[cfg(test)]
mod fixtures;
pub(crate) mod inbox;
pub(crate) mod kill_switch;
pub(crate) mod leader_election;
pub(crate) mod lease;
pub mod means;
pub mod pause_client;
pub mod pauses;
pub mod plan;
pub mod selection;
mod unpaused;
pub mod verdicts;
