//! The section `enforce`: what editwar writes to the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Duration;
use crate::detect::annotations::{MANAGED, Tool};
use crate::detect::verdict::Confidence;

/// What editwar writes to the cluster, and to which objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Enforce {
    /// What editwar may write: nothing, pauses, or pauses and the Golden State.
    pub mode: Mode,
    /// The kill switch: lifts all pauses and sets no new ones.
    pub kill_switch: bool,
    /// Minimum confidence of a verdict to pause an object.
    #[schemars(schema_with = "pausing_confidence")]
    pub min_confidence: Confidence,
    /// Kubeconfig file for access to the API server. Default: as for kubectl, or the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// Resources that may be paused, such as `deployments.apps`.
    pub resources: Vec<String>,
    /// Patterns of namespaces whose objects may be paused. Empty: all namespaces.
    pub namespaces: Vec<String>,
    /// Patterns of namespaces whose objects are never paused.
    pub excluded_namespaces: Vec<String>,
    /// Labels that an object needs to be paused. An empty value matches any value.
    pub labels: BTreeMap<String, String>,
    /// Annotations that an object needs to be paused. An empty value matches any value.
    pub annotations: BTreeMap<String, String>,
    /// Tools whose own switches are used as a pause if no party honours the annotations of a pause: `flux` (an annotation
    /// on the object) and `argo_cd` (an annotation on its Application, which then applies none of its objects).
    pub tools: BTreeSet<Tool>,
    /// Maximum number of pauses set per minute.
    pub max_pauses_per_minute: NonZeroU32,
    /// Maximum age of the latest event. If it is older, editwar makes no new decisions.
    pub max_event_age: Duration,
    /// Directory of the Golden State, with files `<category>/<resource>.yaml`.
    pub assets: PathBuf,
    /// Field manager with which editwar applies the Golden State.
    pub field_manager: String,
    /// Value of the label `managed-by` on objects of the Golden State. Tombstones only delete objects with this label.
    pub managed_by: String,
    /// Namespace of the Lease. Default: the namespace of the pod, or else `editwar`.
    pub lease_namespace: Option<String>,
}

/// Returns the schema of a minimum confidence. It excludes `confirmed`, since the enforcer does not wait for that.
fn pausing_confidence(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["possible", "probable"]})
}

/// What editwar writes to the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Write nothing.
    #[default]
    Observe,
    /// Pause objects that several actors fight over, say why on the object, and lift the pause when the war is over.
    Pause,
    /// As pause, and keep the objects of a Golden State in that state.
    Reconcile,
}

// === impl Enforce ===

impl Default for Enforce {
    fn default() -> Enforce {
        Enforce {
            mode: Mode::Observe,
            kill_switch: false,
            min_confidence: Confidence::Probable,
            kubeconfig: None,
            resources: Vec::new(),
            namespaces: Vec::new(),
            excluded_namespaces: vec!["kube-system".to_owned()],
            labels: BTreeMap::new(),
            annotations: BTreeMap::from([(MANAGED.to_owned(), "true".to_owned())]),
            tools: BTreeSet::new(),
            max_pauses_per_minute: NonZeroU32::new(30).expect("at least one"),
            max_event_age: Duration(std::time::Duration::from_secs(120)),
            assets: PathBuf::from("assets"),
            // The values of virt-platform-autopilot, so that its fields are taken over without conflicts.
            field_manager: "virt-platform-autopilot".to_owned(),
            managed_by: "virt-platform-autopilot".to_owned(),
            lease_namespace: None,
        }
    }
}
