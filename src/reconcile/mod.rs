//! Golden State: what objects should be, held without fighting for it.
//!
//! [`asset`] reads it, [`overrides`] lets people have it otherwise on an object, [`drift`] finds what differs,
//! [`plan`] decides; these are pure but for reading files. [`apply`] does.

pub mod apply;
pub mod asset;
pub mod drift;
pub mod overrides;
pub mod plan;
pub mod watch;
