//! Telemetry of the server itself: logs, metrics and, if built in, traces.

pub(crate) mod golden_state_metrics;
pub(crate) mod logs;
pub mod metrics;
#[cfg(feature = "otlp")]
mod traces;
