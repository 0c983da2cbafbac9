//! Reads audit events from topics of Kafka, as a member of a consumer group.
//!
//! An offset is committed only after the writes of its message, and of all before it in the partition, are durable. After a
//! crash, what was not committed yet is read again, and its events count once. A message without a valid event is
//! counted as malformed, and does not block the others. While the journal cannot be written, nothing is read.
//!
//! Partitions are merged by the times of their messages. [`log`] is the log that replicas share. All of it but the settings is
//! only compiled with the feature `kafka`.

#[cfg(feature = "kafka")]
mod client;
#[cfg(feature = "kafka")]
mod consumer;
pub(crate) mod log;
#[cfg(feature = "kafka")]
mod merge;
#[cfg(feature = "kafka")]
mod messages;
#[cfg(feature = "kafka")]
mod token;

use std::collections::BTreeMap;
use std::path::PathBuf;

use thiserror::Error;

use super::Source;
use super::intake::Intake;
use crate::telemetry::metrics::Metrics;

/// What to read, and how to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Addresses of brokers.
    pub brokers: Vec<String>,
    /// The topics, each with the cluster that its events are from.
    pub topics: BTreeMap<String, String>,
    /// The consumer group.
    pub group: String,
    /// How connections are encrypted, if they are.
    pub tls: Option<Tls>,
    /// How the client authenticates.
    pub sasl: Option<Sasl>,
}

/// Encryption of the connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// CA certificates in PEM. Default: those that this machine trusts.
    pub ca_file: Option<PathBuf>,
    /// The client certificate in PEM.
    pub cert_file: Option<PathBuf>,
    /// The key of the client certificate in PEM.
    pub key_file: Option<PathBuf>,
}

/// Authentication by SASL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sasl {
    /// A user name and a password.
    Password {
        /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
        mechanism: &'static str,
        /// The user name.
        username: String,
        /// File with the password.
        password_file: PathBuf,
    },
    /// A token for `OAUTHBEARER`.
    Token {
        /// File with a JSON web token.
        token_file: PathBuf,
    },
}

/// An error that prevents the source from starting.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// This build cannot read Kafka.
    #[cfg(not(feature = "kafka"))]
    #[error(
        "kafka: this build cannot read Kafka: take the image, or build with `cargo build --release --features kafka`"
    )]
    Unsupported,
    /// A file cannot be read.
    #[cfg(feature = "kafka")]
    #[error("kafka: {}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The settings are not accepted.
    #[cfg(feature = "kafka")]
    #[error("kafka: {0}")]
    Settings(String),
}

/// Checks settings without connecting.
///
/// # Errors
/// A file cannot be read, or the settings are not accepted.
#[cfg(feature = "kafka")]
pub(crate) fn check(settings: &Settings) -> Result<(), Error> {
    client::consumer_config(settings).map(drop)
}

/// Returns an error.
///
/// # Errors
/// Always: this build has no support for Kafka.
#[cfg(not(feature = "kafka"))]
pub(crate) fn check(_: &Settings) -> Result<(), Error> {
    Err(Error::Unsupported)
}

/// Creates the source. It connects when it runs.
///
/// # Errors
/// This build has no support for Kafka, a file cannot be read, or the settings are not accepted.
#[cfg(feature = "kafka")]
pub(crate) fn source(settings: Settings, intake: Intake, metrics: Metrics) -> Result<Box<dyn Source>, Error> {
    Ok(Box::new(consumer::KafkaSource::new(settings, intake, metrics)?))
}

/// Returns an error.
///
/// # Errors
/// Always: this build has no support for Kafka.
#[cfg(not(feature = "kafka"))]
pub(crate) fn source(_: Settings, _: Intake, _: Metrics) -> Result<Box<dyn Source>, Error> {
    Err(Error::Unsupported)
}
