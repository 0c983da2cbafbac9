//! What is told about ourselves: logs and metrics.

pub mod logs;
pub mod metrics;
