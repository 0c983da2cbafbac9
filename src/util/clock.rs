//! The clock of this machine.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the time in microseconds since 1970, like all times of events. A clock that is set before 1970 yields 0.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Returns the time in seconds since 1970, for metrics.
pub(crate) fn now_seconds() -> f64 {
    now() as f64 / 1e6
}
