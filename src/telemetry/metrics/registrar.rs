//! Creates metrics and registers them.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Buckets of durations, in seconds.
const SECONDS: [f64; 13] = [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Creates the metrics of a registry. Each name may occur once.
#[derive(Clone, Copy)]
pub(super) struct Registrar<'r>(pub(super) &'r Registry);

// === impl Registrar ===

impl Registrar<'_> {
    pub(super) fn register<C: Collector + Clone + 'static>(self, collector: C) -> C {
        self.0.register(Box::new(collector.clone())).expect("each name is registered once");
        collector
    }

    pub(super) fn counter(self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help).expect("the name is valid"))
    }

    /// Returns a counter for each value of a label. All known values start at zero: if a series started with its first
    /// increment, `rate()` would miss it and no alert would fire.
    pub(super) fn counters(self, name: &str, help: &str, label: &str, values: &[&str]) -> IntCounterVec {
        let vec = IntCounterVec::new(Opts::new(name, help), &[label]).expect("the name is valid");
        values.iter().for_each(|value| drop(vec.with_label_values(&[value])));
        self.register(vec)
    }

    pub(super) fn gauge(self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help).expect("the name is valid"))
    }

    pub(super) fn gauges(self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels).expect("the name is valid"))
    }

    pub(super) fn float_gauge(self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::new(name, help).expect("the name is valid"))
    }

    pub(super) fn float_gauges(self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(Opts::new(name, help), labels).expect("the name is valid"))
    }

    /// Returns a histogram of durations in seconds.
    pub(super) fn durations(self, name: &str, help: &str) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        self.register(Histogram::with_opts(options).expect("the name is valid"))
    }
}
