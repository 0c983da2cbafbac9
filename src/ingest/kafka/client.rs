//! The configuration of librdkafka, and what it reports.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::util::Timeout;

use super::merge::Partition;
use super::token::Token;
use super::{Error, Sasl, Settings, Tls};
use crate::telemetry::metrics::Metrics;
use crate::util::lock::lock;
use crate::util::readiness::Readiness;

/// Interval of librdkafka's statistics, which contain how many messages are left.
const STATISTICS_MS: &str = "1000";
/// Memory for messages that were fetched and not read yet, in kB.
const FETCHED_KB: &str = "16384";
/// Memory for a response with messages, in bytes. A single larger message is accepted nevertheless.
const RESPONSE_BYTES: &str = "16777216";

/// Receives what librdkafka reports.
pub(super) struct Context {
    metrics: Metrics,
    readiness: Readiness,
    token_file: Option<PathBuf>,
    /// The number of messages that were not received yet of each partition, as of the latest statistics.
    lags: Mutex<BTreeMap<Partition, i64>>,
}

/// Returns librdkafka's configuration.
pub(super) fn config(settings: &Settings) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", settings.brokers.join(","))
        .set("client.id", "editwar")
        .set("group.id", &settings.group)
        // A member of this name replaces the one before at once. Otherwise, partitions would be without a reader for 45 seconds
        // after a crash.
        .set("group.instance.id", "editwar")
        // A new group starts with the oldest messages, so that wars that are going on are found.
        .set("auto.offset.reset", "earliest")
        // Stored by the consumer when the events are durable, and committed every second.
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("statistics.interval.ms", STATISTICS_MS)
        .set("queued.max.messages.kbytes", FETCHED_KB)
        .set("fetch.max.bytes", RESPONSE_BYTES)
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
    pub(super) fn new(settings: &Settings, metrics: Metrics, readiness: Readiness) -> Context {
        let token_file = match &settings.sasl {
            Some(Sasl::Token { token_file }) => Some(token_file.clone()),
            _ => None,
        };
        Context { metrics, readiness, token_file, lags: Mutex::default() }
    }

    /// Returns the number of messages that were not received yet, where it is known, and forgets it.
    pub(super) fn take_lags(&self) -> BTreeMap<Partition, i64> {
        std::mem::take(&mut *lock(&self.lags))
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Errors that matter are also passed to `error`.
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.metrics.count_kafka_error();
        tracing::warn!(%error, reason, "Kafka: a connection or request failed; librdkafka tries again");
    }

    fn stats(&self, statistics: Statistics) {
        let mut lags = lock(&self.lags);
        for (topic, found) in &statistics.topics {
            let mut lag = 0;
            for partition in found.partitions.values().filter(|p| p.partition >= 0 && p.consumer_lag >= 0 && p.desired)
            {
                lag += partition.consumer_lag;
                lags.insert((topic.clone(), partition.partition), partition.consumer_lag);
            }
            self.metrics.record_kafka_lag(topic, lag);
        }
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
                self.readiness.set(true);
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

/// Creates the consumer, and subscribes to the topics.
pub(super) fn consumer(
    settings: &Settings,
    metrics: Metrics,
    readiness: Readiness,
) -> Result<Arc<BaseConsumer<Context>>, Error> {
    use rdkafka::consumer::Consumer as _;
    let context = Context::new(settings, metrics, readiness);
    let settings_error = |error: KafkaError| Error::Settings(error.to_string());
    let consumer: BaseConsumer<Context> = config(settings)?.create_with_context(context).map_err(settings_error)?;
    let topics: Vec<&str> = settings.topics.keys().map(String::as_str).collect();
    consumer.subscribe(&topics).map_err(settings_error)?;
    Ok(Arc::new(consumer))
}
