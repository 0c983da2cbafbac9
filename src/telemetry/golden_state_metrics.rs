//! Metrics of the Golden State. Their names are those of virt-platform-autopilot, so that its runbook applies.

use prometheus::{Histogram, HistogramOpts, IntGaugeVec, Opts, Registry};

/// Gauges of assets, and the duration of their reconciliation.
#[derive(Clone)]
pub struct GoldenStateMetrics {
    /// 1 if an object matches the Golden State, else 0.
    pub compliance: IntGaugeVec,
    /// 1 for each override that is set on an object, by type.
    pub customizations: IntGaugeVec,
    /// 1 for each kind that the API server does not know.
    pub missing: IntGaugeVec,
    /// 1 for each tombstone whose object still exists.
    pub tombstones: IntGaugeVec,
    /// Seconds to reconcile one asset.
    pub seconds: Histogram,
}

// === impl GoldenStateMetrics ===

impl GoldenStateMetrics {
    /// Creates and registers the metrics.
    pub fn new(registry: &Registry) -> GoldenStateMetrics {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntGaugeVec::new(Opts::new(name, help), labels).expect("the name is valid");
            registry.register(Box::new(vec.clone())).expect("each name is registered once");
            vec
        };
        let seconds = Histogram::with_opts(HistogramOpts::new(
            "virt_platform_reconcile_duration_seconds",
            "Time to compare an object of the Golden State with the live object and to correct it, in seconds.",
        ))
        .expect("the name is valid");
        registry.register(Box::new(seconds.clone())).expect("each name is registered once");
        GoldenStateMetrics {
            compliance: gauge(
                "virt_platform_compliance_status",
                "Whether an object matches the Golden State: 1 or 0.",
                &["kind", "name", "namespace"],
            ),
            customizations: gauge(
                "virt_platform_customization_info",
                "Overrides that are set on an object. 1 for each.",
                &["kind", "name", "namespace", "type"],
            ),
            missing: gauge(
                "virt_platform_missing_dependency",
                "Kinds in the Golden State that the API server does not serve. 1 for each.",
                &["group", "version", "kind"],
            ),
            tombstones: gauge(
                "virt_platform_tombstone_status",
                "Objects of tombstones that still exist. 1 for each.",
                &["kind", "name", "namespace"],
            ),
            seconds,
        }
    }
}
