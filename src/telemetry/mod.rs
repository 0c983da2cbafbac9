//! What is told about ourselves: logs, metrics and, where they are built in, traces.

pub mod control;
pub mod golden;
pub mod logs;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod traces;
