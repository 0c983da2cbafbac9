//! What is told about ourselves: logs and metrics.

pub mod control;
pub mod logs;
pub mod metrics;
