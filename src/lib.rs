//! crate
pub mod audit;
pub mod cli;
pub mod detect;
pub mod ingest;
pub mod pipeline;
pub mod query;
