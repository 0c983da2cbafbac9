//! Metrics of topics of Kafka that are read.

use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use super::registrar::Registrar;

/// The metrics of each topic, and errors of the client.
#[derive(Clone)]
pub(super) struct KafkaMetrics {
    pub(super) lag: IntGaugeVec,
    pub(super) partitions: IntGaugeVec,
    pub(super) errors: IntCounter,
    pub(super) leader: IntGauge,
}

// === impl KafkaMetrics ===

impl KafkaMetrics {
    pub(super) fn new(registrar: Registrar<'_>) -> KafkaMetrics {
        KafkaMetrics {
            lag: registrar.gauges(
                "editwar_kafka_lag_messages",
                "Messages of a topic that have not been read yet, in the partitions of this process.",
                &["topic"],
            ),
            partitions: registrar.gauges(
                "editwar_kafka_partitions",
                "Partitions of a topic that this process reads.",
                &["topic"],
            ),
            leader: registrar.gauge(
                "editwar_log_leader",
                "Whether this replica publishes what all replicas that share a log have found.",
            ),
            errors: registrar
                .counter("editwar_kafka_errors_total", "Connections to brokers and reads from them that failed."),
        }
    }
}
