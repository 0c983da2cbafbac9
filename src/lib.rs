//! crate
pub mod audit;
pub mod detect;
pub mod pipeline;
