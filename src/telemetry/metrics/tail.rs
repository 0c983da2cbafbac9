//! Metrics of tailed logs.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::registrar::Registrar;

/// The metrics of each tailed log, by its file.
#[derive(Clone)]
pub(super) struct TailMetrics {
    lag: IntGaugeVec,
    gaps: IntCounterVec,
    up: IntGaugeVec,
}

// === impl TailMetrics ===

impl TailMetrics {
    pub(super) fn new(registrar: Registrar<'_>) -> TailMetrics {
        TailMetrics {
            lag: registrar.gauges(
                "editwar_tail_lag_bytes",
                "Bytes of a tailed log that have not been read yet.",
                &["file"],
            ),
            up: registrar.gauges("editwar_tail_up", "Whether a tailed log can be read: 1 or 0.", &["file"]),
            gaps: registrar.counters(
                "editwar_tail_gaps_total",
                "Number of times that a tailed log was rotated or truncated before it was read to its end.",
                "file",
                &[],
            ),
        }
    }

    pub(super) fn record(&self, file: &str, is_readable: bool, lag_bytes: u64, gaps: u64) {
        self.up.with_label_values(&[file]).set(i64::from(is_readable));
        self.lag.with_label_values(&[file]).set(i64::try_from(lag_bytes).unwrap_or(i64::MAX));
        let counter = self.gaps.with_label_values(&[file]);
        counter.inc_by(gaps.saturating_sub(counter.get()));
    }
}
