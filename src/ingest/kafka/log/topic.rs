//! Creates the topics of the log and of transitions, or checks what there is.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::runtime::Handle;

use super::{LogSettings, MESSAGE_BYTES_MAX};
use crate::ingest::kafka::Sasl;
use crate::ingest::kafka::client::{self, Context};
use crate::telemetry::metrics::Metrics;

/// How long the brokers may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// Number of copies with which one broker may be down while two confirm each write.
const COPIES_SAFE: usize = 3;
/// The replication factor that brokers are configured with.
const DEFAULT_REPLICATION: i32 = -1;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It may work later.
    #[error("{0}")]
    Unreachable(KafkaError),
    /// Somebody has to change the topic or the configuration.
    #[error("{0}")]
    Unsuitable(String),
}

/// Creates the topics unless they exist, and checks that the log has what it needs.
///
/// # Errors
/// The brokers do not answer, or the topic is unsuitable.
pub(super) fn prepare(
    settings: &LogSettings,
    consumer: &BaseConsumer<Context>,
    metrics: &Metrics,
    handle: &Handle,
) -> Result<(), Refusal> {
    // The client for administration does not ask for tokens. The topics must already exist, and are not checked further.
    if matches!(settings.kafka.sasl, Some(Sasl::Token { .. })) {
        return copies(settings, consumer).map(drop);
    }
    let config = client::config(&settings.kafka).map_err(|error| Refusal::Unsuitable(error.to_string()))?;
    let context = Context::new(&settings.kafka, metrics.clone());
    let admin: AdminClient<Context> = config.create_with_context(context).map_err(Refusal::Unreachable)?;
    let topic = settings.topic.as_str();
    let retention_ms = (settings.retention.max(settings.window) / 1_000).to_string();
    let bytes_max = MESSAGE_BYTES_MAX.to_string();
    let brokers = consumer.fetch_metadata(None, ANSWERED_WITHIN).map_err(Refusal::Unreachable)?.brokers().len();
    let is_safe = brokers >= COPIES_SAFE;
    let replication = || TopicReplication::Fixed(if is_safe { COPIES_SAFE as i32 } else { DEFAULT_REPLICATION });
    let mut new = NewTopic::new(topic, 1, replication())
        .set("retention.ms", &retention_ms)
        .set("cleanup.policy", "delete")
        .set("max.message.bytes", &bytes_max);
    if is_safe {
        new = new.set("min.insync.replicas", "2");
    }
    let compacted = |topic| NewTopic::new(topic, 1, replication()).set("cleanup.policy", "compact");
    let transitions = settings.transitions.as_deref().map(compacted);
    let options = AdminOptions::new().request_timeout(Some(ANSWERED_WITHIN));
    let new = std::iter::once(&new).chain(&transitions);
    let created = handle.block_on(admin.create_topics(new, &options)).map_err(Refusal::Unreachable)?;
    for created in created {
        match created {
            Ok(topic) => tracing::info!(topic, "Kafka: created a topic"),
            // Without the right to create topics, they must already exist.
            Err((_, code)) if is_existing(code) => {}
            Err((topic, code)) if is_refused(code) => {
                return Err(Refusal::Unsuitable(format!(
                    "the brokers refuse to create topic {topic} ({code}): create it yourself"
                )));
            }
            Err((_, code)) => return Err(Refusal::Unreachable(KafkaError::AdminOp(code))),
        }
    }
    let copies = copies(settings, consumer)?;
    let resource = [ResourceSpecifier::Topic(topic)];
    let described = handle.block_on(admin.describe_configs(&resource, &options)).map_err(Refusal::Unreachable)?;
    match described.into_iter().next() {
        Some(Ok(found)) => check(&found, copies, settings),
        // Whether it is suitable is not known without the right to read its configuration.
        Some(Err(error)) => {
            tracing::warn!(topic, %error, "Kafka: the configuration of the topic cannot be checked");
            Ok(())
        }
        None => Ok(()),
    }
}

/// Checks that there is one partition, and returns the number of its copies.
fn copies(settings: &LogSettings, consumer: &BaseConsumer<Context>) -> Result<usize, Refusal> {
    let topic = settings.topic.as_str();
    let metadata = consumer.fetch_metadata(Some(topic), ANSWERED_WITHIN).map_err(Refusal::Unreachable)?;
    match metadata.topics().first().map(|topic| (topic.partitions(), topic.error())) {
        Some(([partition], None)) => Ok(partition.replicas().len()),
        // It was created a moment ago, or may not be read.
        Some((_, Some(error))) => Err(Refusal::Unreachable(KafkaError::MetadataFetch(RDKafkaErrorCode::from(error)))),
        Some((partitions, None)) => Err(Refusal::Unsuitable(format!(
            "topic {topic} has {} partitions, but replicas need one order of all writes: create a topic with one \
             partition, or set another name as journal.kafka.topic",
            partitions.len()
        ))),
        None => Err(Refusal::Unreachable(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic))),
    }
}

fn is_existing(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAlreadyExists
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
    )
}

fn is_refused(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::PolicyViolation | RDKafkaErrorCode::InvalidConfig)
}

/// Checks the configuration of the log, of which the brokers have so many copies.
fn check(found: &ConfigResource, copies: usize, settings: &LogSettings) -> Result<(), Refusal> {
    let value = |name: &str| found.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let number = |name: &str| value(name).parse::<i64>().ok();
    let topic = &settings.topic;
    let window_ms = settings.window / 1_000;
    if let Some(retention_ms) = number("retention.ms").filter(|ms| (0..window_ms).contains(ms)) {
        return Err(Refusal::Unsuitable(format!(
            "topic {topic} keeps messages for {} s, but verdicts need those of the last {} s: raise its retention.ms",
            retention_ms / 1_000,
            window_ms / 1_000
        )));
    }
    if value("cleanup.policy").contains("compact") {
        return Err(Refusal::Unsuitable(format!(
            "topic {topic} is compacted, which deletes writes: set its cleanup.policy to delete"
        )));
    }
    // With fewer copies, a higher value would stop all writes while one broker is down.
    if copies >= COPIES_SAFE && number("min.insync.replicas").is_some_and(|confirming| confirming < 2) {
        return Err(Refusal::Unsuitable(format!(
            "topic {topic} has {copies} copies, but a write is confirmed when one broker has it, and is lost with that broker: \
             set its min.insync.replicas to 2"
        )));
    }
    let bytes_max = MESSAGE_BYTES_MAX as i64;
    if let Some(bytes) = number("max.message.bytes").filter(|bytes| *bytes < bytes_max) {
        return Err(Refusal::Unsuitable(format!(
            "topic {topic} accepts messages of {bytes} bytes, but a write has up to {bytes_max}: raise its max.message.bytes"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    use super::*;

    /// Returns why a topic with this configuration is refused, if it is.
    fn refusal(copies: usize, entries: &[(&str, &str)]) -> Option<String> {
        let entry = |(name, value): &(&str, &str)| ConfigEntry {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            source: ConfigSource::Default,
            is_read_only: false,
            is_default: true,
            is_sensitive: false,
        };
        let found = ConfigResource {
            specifier: OwnedResourceSpecifier::Topic("writes".to_owned()),
            entries: entries.iter().map(entry).collect(),
        };
        let settings = LogSettings {
            kafka: Default::default(),
            topic: "writes".to_owned(),
            transitions: None,
            retention: 7 * 24 * 3_600_000_000,
            window: 2 * 3_600_000_000,
        };
        check(&found, copies, &settings).err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn a_topic_that_loses_what_was_acknowledged_is_refused_with_what_to_change() {
        let good = [
            ("retention.ms", "7200000"),
            ("cleanup.policy", "delete"),
            ("max.message.bytes", "3145728"),
            ("min.insync.replicas", "2"),
        ];
        assert_eq!(refusal(3, &good), None);
        assert_eq!(refusal(3, &[("retention.ms", "-1")]), None, "for ever");
        assert_eq!(refusal(3, &[]), None, "nothing is known");
        assert_eq!(refusal(2, &[("min.insync.replicas", "1")]), None, "two would stop writes without one broker");
        for (key, value) in [
            ("retention.ms", "7199999"),
            ("cleanup.policy", "compact,delete"),
            ("max.message.bytes", "1048588"),
            ("min.insync.replicas", "1"),
        ] {
            let why = refusal(3, &[(key, value)]).unwrap_or_else(|| panic!("{key} {value}"));
            assert!(why.contains(&format!("its {key}")), "{why}");
        }
    }
}
