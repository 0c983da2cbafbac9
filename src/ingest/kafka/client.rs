//! The configuration of librdkafka, and what it reports.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::util::Timeout;

use super::merge::Partition;
use super::token::Token;
use super::{Error, Sasl, Settings, Tls};
use crate::telemetry::metrics::Metrics;
use crate::util::lock::lock;

/// Interval of librdkafka's statistics, which contain how many messages are left.
const STATISTICS_MS: &str = "1000";
/// Memory for messages that were fetched and not read yet, in kB.
const FETCHED_KB: &str = "16384";
/// Memory for a response with messages, in bytes. A single larger message is accepted nevertheless.
const RESPONSE_BYTES: &str = "16777216";

/// Minimum time between two warnings of one kind.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Receives what librdkafka reports.
pub(super) struct Context {
    metrics: Metrics,
    token_file: Option<PathBuf>,
    progress: Mutex<Vec<Progress>>,
    /// When a kind of error was last logged.
    warned: Mutex<BTreeMap<String, Instant>>,
}

/// What the latest statistics say about a partition.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    pub(super) partition: Partition,
    /// Whether this process reads it.
    pub(super) is_read: bool,
    /// Whether everything in it was received.
    pub(super) is_at_end: bool,
}

/// Returns librdkafka's configuration of a consumer.
pub(super) fn consumer_config(settings: &Settings) -> Result<ClientConfig, Error> {
    let mut config = config(settings)?;
    config
        .set("group.id", &settings.group)
        // After a crash, partitions are without a reader for that long.
        .set("session.timeout.ms", "10000")
        // A new group starts with the oldest messages, so that wars that are going on are found.
        .set("auto.offset.reset", "earliest")
        // Stored by the consumer when the events are durable, and committed every second.
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("statistics.interval.ms", STATISTICS_MS)
        .set("queued.max.messages.kbytes", FETCHED_KB)
        .set("fetch.max.bytes", RESPONSE_BYTES)
        // By default, a second passes after this memory was full.
        .set("fetch.queue.backoff.ms", "10");
    Ok(config)
}

/// Returns what librdkafka's configuration of every client has: how to connect.
pub(super) fn config(settings: &Settings) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", settings.brokers.join(","))
        .set("client.id", "editwar")
        .set_log_level(RDKafkaLogLevel::Info);
    config.set(
        "security.protocol",
        match (&settings.tls, &settings.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        },
    );
    if let Some(Tls { ca_file, cert_file, key_file }) = &settings.tls {
        let files =
            [("ssl.ca.location", ca_file), ("ssl.certificate.location", cert_file), ("ssl.key.location", key_file)];
        for (key, file) in files {
            if let Some(file) = file {
                // librdkafka does not name the file that it cannot read.
                readable(file)?;
                config.set(key, file.display().to_string());
            }
        }
        if ca_file.is_none() {
            config.set("ssl.ca.location", "probe");
        }
    }
    match &settings.sasl {
        None => {}
        Some(Sasl::Password { mechanism, username, password_file }) => {
            let password = readable(password_file)?;
            config.set("sasl.mechanism", *mechanism);
            config.set("sasl.username", username).set("sasl.password", password.trim_end_matches(['\r', '\n']));
        }
        Some(Sasl::Token { token_file }) => {
            Token::read(token_file, SystemTime::now()).map_err(Error::Settings)?;
            config.set("sasl.mechanism", "OAUTHBEARER");
        }
    }
    Ok(config)
}

/// Returns the content of a file.
fn readable(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

// === impl Context ===

impl Context {
    pub(super) fn new(settings: &Settings, metrics: Metrics) -> Context {
        let token_file = match &settings.sasl {
            Some(Sasl::Token { token_file }) => Some(token_file.clone()),
            _ => None,
        };
        Context { metrics, token_file, progress: Mutex::default(), warned: Mutex::default() }
    }

    /// Returns what the latest statistics say, if there are new ones.
    pub(super) fn take_progress(&self) -> Vec<Progress> {
        std::mem::take(&mut *lock(&self.progress))
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Such as an offset whose messages were deleted before they were read. Failed connections are passed to `error`, too.
        if level as i32 <= RDKafkaLogLevel::Warning as i32 && facility != "FAIL" && facility != "ERROR" {
            tracing::warn!(facility, message, "Kafka");
        } else {
            tracing::debug!(?level, facility, message, "Kafka");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The reader of the log asks to be told of the end of the partition, and librdkafka reports it here, too.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        self.metrics.count_kafka_error();
        let (mut warned, now, kind) = (lock(&self.warned), Instant::now(), error.to_string());
        warned.retain(|_, at| *at + WARN_EVERY > now);
        if let Entry::Vacant(entry) = warned.entry(kind) {
            entry.insert(now);
            tracing::warn!(%error, reason, "Kafka: a connection or a request failed, and is tried again");
        }
    }

    fn stats(&self, statistics: Statistics) {
        let connected: Vec<i32> =
            statistics.brokers.values().filter(|broker| broker.state == "UP").map(|broker| broker.nodeid).collect();
        let mut progress = Vec::new();
        for (topic, found) in &statistics.topics {
            let mut lag = 0;
            // Those of a topic that was deleted are unknown.
            for partition in found.partitions.values().filter(|p| p.partition >= 0 && !p.unknown) {
                // The offset after the last message that was received, or else after the last one that was committed.
                let position = partition.app_offset.max(partition.committed_offset).max(partition.lo_offset);
                let left = (partition.ls_offset - position).max(0);
                let is_known = partition.ls_offset >= 0 && connected.contains(&partition.broker);
                // The end of a transaction occupies an offset, and is never received as a message.
                let is_at_end = is_known && (left == 0 || (left == 1 && partition.next_offset >= partition.ls_offset));
                lag += if partition.desired && is_known { left } else { 0 };
                let of = (topic.clone(), partition.partition);
                progress.push(Progress { partition: of, is_read: partition.desired, is_at_end });
            }
            if found.partitions.values().any(|partition| partition.desired) {
                self.metrics.record_kafka_lag(topic, lag);
            }
        }
        *lock(&self.progress) = progress;
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        let Some(path) = &self.token_file else { return Err("no token_file is configured".into()) };
        let token = Token::read(path, SystemTime::now())?;
        Ok(OAuthToken { token: token.text, principal_name: token.principal, lifetime_ms: token.expires_ms })
    }
}

impl ConsumerContext for Context {
    fn post_rebalance(&self, _: &BaseConsumer<Context>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                tracing::info!(partitions = partitions.count(), "Kafka: partitions were assigned");
            }
            Rebalance::Revoke(partitions) => {
                tracing::info!(partitions = partitions.count(), "Kafka: partitions were revoked");
            }
            Rebalance::Error(error) => tracing::warn!(%error, "Kafka: partitions cannot be assigned"),
        }
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(Duration::from_millis(200))
    }
}

/// Creates the consumer, which joins its group once it subscribes to topics.
pub(super) fn consumer(settings: &Settings, metrics: Metrics) -> Result<BaseConsumer<Context>, Error> {
    let context = Context::new(settings, metrics);
    consumer_config(settings)?.create_with_context(context).map_err(|error| Error::Settings(error.to_string()))
}
