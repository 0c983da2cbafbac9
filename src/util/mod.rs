//! Small helpers that belong to no other module. Every module may use them; they use no other module.

pub mod duration;
pub mod glob;
pub mod lock;
pub mod readiness;
pub mod shell;
pub mod time_input;
