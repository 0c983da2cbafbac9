//! The section `kafka`: topics with audit events.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Topics of Kafka that contain audit events, in any format that editwar recognizes, and how to connect. Needs a build with the
/// feature `kafka`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// Addresses of some of the brokers, such as `kafka-0.example.com:9092`. Empty: editwar does not use Kafka.
    pub brokers: Vec<String>,
    /// The topics, each with the name of the cluster that its events belong to. The name is empty if there is only one cluster.
    pub topics: BTreeMap<String, String>,
    /// The consumer group, under which the brokers store how far editwar has read. Unless replicas share a log
    /// (`journal.kafka`), only one editwar may use it: each member of a group receives a part of the events only.
    pub group: String,
    /// Encryption of the connections.
    pub tls: KafkaTls,
    /// Authentication with a user name or a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
}

/// Encryption of the connections to brokers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaTls {
    /// Whether connections are encrypted.
    pub enabled: bool,
    /// CA certificates in PEM. Default: those that this machine trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The client certificate in PEM, with the key in `key_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// The key of the client certificate in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

/// Authentication by SASL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSasl {
    /// The mechanism that the brokers expect.
    pub mechanism: SaslMechanism,
    /// The user name, for `PLAIN` and `SCRAM`. For Azure Event Hubs, it is `$ConnectionString`.
    #[serde(default)]
    pub username: String,
    /// File with the password, for `PLAIN` and `SCRAM`. It is read at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// File with a JSON web token, for `OAUTHBEARER`. It is read again before the token expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// A mechanism of SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// User name and password. Without TLS, anybody on the network can read them.
    #[serde(rename = "PLAIN")]
    Plain,
    /// User name and password, which are not sent.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// User name and password, which are not sent.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// A token.
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl SaslMechanism {
    /// Returns the name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            SaslMechanism::OauthBearer => "OAUTHBEARER",
        }
    }
}

impl Default for Kafka {
    fn default() -> Kafka {
        Kafka {
            brokers: Vec::new(),
            topics: BTreeMap::new(),
            group: "editwar".to_owned(),
            tls: KafkaTls::default(),
            sasl: None,
        }
    }
}
