//! Metrics of topics of Kafka that are read.

use prometheus::{IntCounter, IntGaugeVec};

use super::registrar::Registrar;

/// The metrics of each topic, and errors of the client.
#[derive(Clone)]
pub(super) struct KafkaMetrics {
    pub(super) lag: IntGaugeVec,
    pub(super) partitions: IntGaugeVec,
    pub(super) errors: IntCounter,
    pub(super) current: IntGaugeVec,
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
            current: registrar.gauges(
                "editwar_log_current",
                "Whether this replica has everything that was in the log half a minute ago.",
                &["topic"],
            ),
            errors: registrar
                .counter("editwar_kafka_errors_total", "Connections to brokers and reads from them that failed."),
        }
    }
}
