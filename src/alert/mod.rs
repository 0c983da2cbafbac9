//! Sinks that send wars to other systems: Alertmanager, and receivers of CloudEvents.
//!
//! - [`grouping`]: which alerts there are, without I/O: one for each pair of actors that fight, with its objects.
//!   `annotations`: what people read in it.
//! - [`alertmanager`]: keeps the alerts of Alertmanagers up to date.
//! - [`cloud_events`]: posts each transition.

pub(crate) mod alertmanager;
mod annotations;
pub(crate) mod cloud_events;
pub(crate) mod grouping;
