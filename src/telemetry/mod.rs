//! Telemetry of the server itself: logs, metrics and, if built in, traces.

pub mod golden_state_metrics;
pub mod logs;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod traces;
