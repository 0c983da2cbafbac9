//! What is told about ourselves: logs and metrics.

pub mod control;
pub mod golden;
pub mod logs;
pub mod metrics;
