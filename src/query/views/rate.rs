//! Rates of retakes and requests.

use crate::audit::event::Micros;

/// Formats a rate: `12.5/min`, or `14 in 1 s` without a rate per minute.
pub(super) fn text(count: u32, first: Micros, last: Micros, per_minute: Option<f64>) -> String {
    match per_minute {
        Some(rate) => format!("{rate}/min"),
        None => format!("{count} in {} s", (last - first).max(0) / 1_000_000 + 1),
    }
}

/// Returns the rate per minute, rounded to a tenth, or `None` for less than a minute, where it would be misleading.
pub(in crate::query) fn per_minute(count: u32, first: Micros, last: Micros) -> Option<f64> {
    let minutes = (last - first) as f64 / 60e6;
    (minutes >= 1.0).then(|| (f64::from(count) / minutes * 10.0).round() / 10.0)
}
