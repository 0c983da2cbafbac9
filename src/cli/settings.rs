//! The configuration that a command runs with: the file, the environment, `--set`, and the flags of the command.

use std::path::Path;

use anyhow::{Result, anyhow};

use super::args::{ConfigArgs, ServeArgs};
use crate::config::{Config, ENVIRONMENT, JournalKafka, Kafka, KafkaSasl, KafkaTls, Overlay, SaslMechanism, Watch};
use crate::ingest::kafka;
use crate::ingest::kafka::log::LogSettings;
use crate::ingest::watch::Settings;
use crate::journal::replay;
use crate::telemetry::metrics::SeriesLimits;

/// The argument of `--journal` that turns the journal off.
const OFF: &str = "off";

// === impl ServeArgs ===

impl ServeArgs {
    /// Loads the configuration for these arguments.
    ///
    /// # Errors
    /// The configuration is not valid.
    pub fn config(&self) -> Result<Config> {
        let flags = Overlay {
            admin_listen: self.listen,
            webhook_listen: self.webhook_listen,
            mode: self.enforce,
            assets: self.assets.clone(),
            kubeconfig: self.kubeconfig.clone(),
            tail_files: Some(self.tail.clone()).filter(|files| !files.is_empty()),
            max_memory: self.memory_limit,
            journal: self.journal.clone().map(|folder| Some(folder).filter(|folder| folder != Path::new(OFF))),
            redact_values: None,
            watch: self.watch.then_some(true),
        };
        Ok(Config::load(self.config.as_deref(), environment()?, &self.set, &flags)?)
    }
}

// === impl ConfigArgs ===

impl ConfigArgs {
    /// Loads the configuration for these arguments.
    ///
    /// # Errors
    /// The configuration is not valid.
    pub fn load(&self) -> Result<Config> {
        let flags = Overlay { redact_values: self.redact.then_some(true), ..Overlay::default() };
        Ok(Config::load(self.config.as_deref(), environment()?, &self.set, &flags)?)
    }
}

/// Returns the environment variables that may concern editwar.
fn environment() -> Result<Vec<(String, String)>> {
    let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    named
        .filter(|(name, _)| name.starts_with(ENVIRONMENT))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(anyhow!("{name}: expected text in UTF-8")),
        })
        .collect()
}

// === impl Config ===

impl Config {
    /// Returns what to watch.
    pub(super) fn watch_settings(&self) -> Settings {
        let Watch { cluster, namespaces, excluded_resources, max_objects_with_values, .. } = self.watch.clone();
        Settings {
            cluster,
            namespaces,
            only: Vec::new(),
            excluded: excluded_resources,
            objects_with_values_max: max_objects_with_values,
            redacts: self.redact_values,
        }
    }

    /// Returns which topics of Kafka to read, or `None` if there are none.
    pub(super) fn kafka_settings(&self) -> Option<kafka::Settings> {
        let Kafka { brokers, topics, group, tls, sasl } = self.kafka.clone();
        let KafkaTls { enabled, ca_file, cert_file, key_file } = tls;
        let sasl = sasl.and_then(|KafkaSasl { mechanism, username, password_file, token_file }| match mechanism {
            SaslMechanism::OauthBearer => Some(kafka::Sasl::Token { token_file: token_file? }),
            _ => Some(kafka::Sasl::Password { mechanism: mechanism.as_str(), username, password_file: password_file? }),
        });
        let tls = enabled.then_some(kafka::Tls { ca_file, cert_file, key_file });
        (!brokers.is_empty()).then_some(kafka::Settings { brokers, topics, group, tls, sasl })
    }

    /// Returns the settings of the log that replicas share, if there is one.
    pub(super) fn log_settings(&self) -> Option<LogSettings> {
        let JournalKafka { topic, transitions } = self.journal.kafka.clone()?;
        let retention = self.journal.retention.micros();
        let window = replay::window(&self.policy());
        Some(LogSettings { kafka: self.kafka_settings()?, topic, transitions, retention, window })
    }

    /// Returns the limits on the series of metrics.
    pub(super) fn series_limits(&self) -> SeriesLimits {
        SeriesLimits {
            max_objects: self.metrics.max_objects,
            max_actors_per_object: self.metrics.max_actors_per_object,
            ttl: self.metrics.series_ttl.0,
        }
    }
}
