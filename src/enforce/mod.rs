//! The way out, writing: pauses of objects that are fought over. [`plan`] decides and is pure; the others do.

pub mod events;
pub mod hand;
pub mod lease;
pub mod look;
pub mod plan;
pub mod run;
