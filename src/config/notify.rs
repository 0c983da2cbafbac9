//! The section `notify`: where wars are sent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::detect::verdict::Confidence;

/// Where wars are sent, besides the log and the metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// The address under which people open the page of this server, for links, such as `https://editwar.example.com`.
    pub page_url: Option<String>,
    /// Keys of the labels of objects that say who owns them. Alerts, CloudEvents, the page and past transitions show these labels.
    pub owner_labels: Vec<String>,
    /// Alertmanager.
    pub alertmanager: AlertmanagerConfig,
    /// A receiver of CloudEvents.
    pub cloud_events: CloudEventsConfig,
}

/// Alerts for Alertmanager: one for each pair of actors that fight, with the list of objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertmanagerConfig {
    /// The addresses of all peers, such as `http://alertmanager-0:9093`. Empty: no alerts are sent.
    pub urls: Vec<String>,
    /// Minimum confidence of a war.
    pub min_confidence: Confidence,
    /// Labels of every alert.
    pub labels: BTreeMap<String, String>,
    /// File with a bearer token, which is read for each request.
    pub token_file: Option<PathBuf>,
    /// CA certificates in PEM. Default: those that this machine trusts.
    pub ca_file: Option<PathBuf>,
}

/// CloudEvents: one for each transition of a war.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CloudEventsConfig {
    /// The URL to post events to. Without it, none are sent.
    pub url: Option<String>,
    /// The attribute `source`. Default: `notify.page_url`, or `/editwar`.
    pub source: Option<String>,
    /// File with a bearer token, which is read for each request.
    pub token_file: Option<PathBuf>,
    /// CA certificates in PEM. Default: those that this machine trusts.
    pub ca_file: Option<PathBuf>,
}

impl Default for Notify {
    fn default() -> Notify {
        Notify {
            page_url: None,
            owner_labels: vec!["team".to_owned(), "app.kubernetes.io/part-of".to_owned()],
            alertmanager: AlertmanagerConfig::default(),
            cloud_events: CloudEventsConfig::default(),
        }
    }
}

impl Default for AlertmanagerConfig {
    fn default() -> AlertmanagerConfig {
        AlertmanagerConfig {
            urls: Vec::new(),
            min_confidence: Confidence::Probable,
            labels: BTreeMap::from([("severity".to_owned(), "warning".to_owned())]),
            token_file: None,
            ca_file: None,
        }
    }
}
