//! Telemetry of the server itself: logs, metrics and, if built in, traces. [`control`] holds the enforcer's status and
//! kill switch.

pub mod control;
pub mod golden_state_metrics;
pub mod logs;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod traces;
