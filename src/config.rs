//! Configuration: the keys, their defaults, and their conversion into the settings of other modules. Plain values
//! without side effects.
//!
//! `enforce`, `kafka`, `limits`, `listeners` and `notify` define the sections that their headers name. This file defines all others:
//! `actors`, `cooperation`, `platform`, `contexts`, `redact_values`, `bounds`, `metrics`, `tail` and `journal`.
//!
//! To add a key, add a field to the type of its section, and its default to that type's `Default`. A single value outside
//! of the sections also needs an entry in `WITHOUT_SECTION` (`load.rs`), so that an environment variable can set it. A key
//! with a flag also needs a field in `overlay.rs`. `validate.rs` rejects invalid values and combinations.
//!
//! The doc comments of the configuration types are user documentation: docs/configuration.md and
//! docs/configuration.schema.json are generated from them by `UPDATE_DOCS=1 cargo test --test it configuration`.

mod enforce;
mod kafka;
mod limits;
mod listeners;
mod load;
mod notify;
mod overlay;
mod units;
mod unknown_keys;
mod validate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::enforce::{Enforce, Mode};
pub use self::kafka::{Kafka, KafkaSasl, KafkaTls, SaslMechanism};
pub use self::limits::{BucketConfig, ContentionConfig, LimitsConfig, OverrideConfig};
pub use self::listeners::{Admin, AllowConfig, Auth, OidcConfig, Tls, Webhook};
pub use self::load::{ENVIRONMENT, Error};
pub use self::notify::{AlertmanagerConfig, CloudEventsConfig, Notify};
pub use self::overlay::Overlay;
pub use self::units::{Bytes, Duration};

use crate::detect::actor_class::{ActorClass, ActorClassifier, ActorRule, HONOURING, Role};
use crate::detect::cooperation::{self, CooperationRules};
use crate::detect::policy::{CountedUndecided, Limits, Override, Policy};
use crate::detect::remedy::Contexts;
use crate::journal::committer::{LOOK_EVERY, OnFailure, Settings};
use crate::journal::disk::Disk;
use crate::journal::replay;
use crate::journal::store::Retention;
use crate::pipeline::Bounds;
use crate::pipeline::clock::Tolerance;

/// The configuration of editwar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The listener for audit events from kube-apiserver.
    pub webhook: Webhook,
    /// The listener for the query API, the metrics and the health checks.
    pub admin: Admin,
    /// What counts as a war.
    pub limits: LimitsConfig,
    /// Different limits for some objects. The first match applies.
    pub overrides: Vec<OverrideConfig>,
    /// Classes and roles of actors, which take precedence over the built-in list. The first match applies.
    pub actors: Vec<ActorConfig>,
    /// Actors that are designed to write the same field. This does not count as a war.
    pub cooperation: CooperationConfig,
    /// Information about reconcilers.
    pub platform: Platform,
    /// Contexts in the kubeconfig of the users, by the name of the cluster, for the commands of remedies. The name of a
    /// cluster without a name is empty.
    pub contexts: BTreeMap<String, String>,
    /// Treat all objects like Secrets: compare values, but neither keep nor show them.
    pub redact_values: bool,
    /// Limits on memory.
    pub bounds: BoundsConfig,
    /// What is counted in metrics, and limits on the number of series.
    pub metrics: Metrics,
    /// Where wars are sent, besides the log and the metrics.
    pub notify: Notify,
    /// What editwar writes to the cluster.
    pub enforce: Enforce,
    /// Logs that editwar reads as they are written.
    pub tail: Tail,
    /// Topics of Kafka that editwar reads.
    pub kafka: Kafka,
    /// The objects of the cluster that editwar watches.
    pub watch: Watch,
    /// The journal, which keeps writes across restarts.
    pub journal: Journal,
}

/// Actors that are designed to write the same field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CooperationConfig {
    /// Names of built-in co-operations to ignore, so that they count as wars.
    pub disabled: Vec<String>,
    /// Additional co-operations, which take precedence over the built-in ones.
    pub rules: Vec<CooperationRule>,
}

/// Two actors that are designed to write the same field. `*` in a pattern matches any characters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CooperationRule {
    /// Name of the co-operation.
    pub name: String,
    /// Pattern of `resource.group`, such as `deployments.apps`. Default: any resource.
    #[serde(default = "any")]
    pub resource: String,
    /// Pattern of the field path as editwar shows it, or `(object)` for creation and deletion.
    pub path: String,
    /// Patterns of the two actors, in any order.
    #[serde(default = "any_two")]
    pub actors: [String; 2],
    /// Why this is not a war. Reports show this text.
    pub reason: String,
    /// Name under which reports list the co-operation if it happens too often, such as `leader flapping`. Without it, no
    /// frequency counts as too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess: Option<String>,
}

fn any() -> String {
    "*".to_owned()
}

fn any_two() -> [String; 2] {
    [any(), any()]
}

/// Class and role of an actor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActorConfig {
    /// Pattern of the user name. `*` matches any characters.
    pub actor: String,
    /// Pattern of the field manager or of the product in the user agent. Default: any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tool: String,
    /// Class of the actor.
    pub class: ActorClass,
    /// Role of the actor. Default: the general role of its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// Information about reconcilers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Platform {
    /// Patterns of actors that honour the annotations `platform.kubevirt.io/…`. editwar proposes these annotations only for
    /// wars with such an actor. It pauses an object only in such a war, unless the object belongs to the Golden State or
    /// `enforce.tools` allows another switch.
    pub pause_aware_actors: Vec<String>,
}

/// Limits on memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BoundsConfig {
    /// Maximum number of tracked objects. Above, editwar evicts old, uncontested objects first.
    pub max_objects: usize,
    /// Maximum size of bodies that editwar keeps until a second client writes the object.
    pub max_retained_body_bytes: Bytes,
    /// Maximum number of requests that editwar remembers to detect duplicates.
    pub max_remembered_requests: usize,
    /// Maximum time by which an event may be ahead of the local clock. Later events are processed with their arrival time.
    pub max_clock_skew: Duration,
    /// Memory limit of the whole process. Default: the limit of the control group. A small limit reduces the other limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<Bytes>,
}

/// What is counted, and limits on the number of series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Maximum number of objects with series of their own. Others are counted as `other`.
    pub max_objects: usize,
    /// Maximum number of actors per object with series of their own. Others are counted as `other`.
    pub max_actors_per_object: usize,
    /// Time without a change after which series are removed.
    pub series_ttl: Duration,
    /// Which undecided wars are counted as thrashing. At audit level Metadata, it is not known whether the actors of such
    /// a war write the same fields.
    pub count_undecided: CountUndecided,
}

/// Which undecided wars are counted as thrashing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CountUndecided {
    /// Those in which one of `platform.pause_aware_actors` takes part.
    #[default]
    PauseAware,
    /// All.
    Always,
    /// None.
    Never,
}

/// Logs that editwar reads as they are written, if kube-apiserver cannot post to a webhook.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tail {
    /// Paths of the logs. editwar finds the rotated files next to them.
    pub files: Vec<PathBuf>,
    /// Name of the cluster that the events belong to.
    pub cluster: String,
    /// Checkpoint file with the read positions. Without it, a restart reads all existing files from the start.
    pub checkpoint: Option<PathBuf>,
    /// Another editwar that gets the lines, so that a war between clients of several API servers is found. This one then only reads.
    pub forward: Option<Forward>,
}

/// Another editwar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// The URL of its webhook, such as `https://editwar.editwar.svc:8443/audit`, or `…/audit/CLUSTER`.
    pub url: String,
    /// File with a bearer token that has the right `ingest`. Read for each request.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// CA certificates in PEM. Default: those that this machine trusts.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// The objects of the cluster that editwar watches, if there is no audit log, or one without fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// Whether `serve` watches.
    pub enabled: bool,
    /// Name of the cluster that the events belong to. With an audit log of the same cluster, both must have one name.
    pub cluster: String,
    /// Namespaces to watch. Default: all, and cluster-scoped objects.
    pub namespaces: Vec<String>,
    /// Resources that are not watched, as `resource` or `resource.group`.
    pub excluded_resources: Vec<String>,
    /// Maximum number of objects whose values are watched at the same time. Each needs a connection to the API server.
    pub max_objects_with_values: usize,
    /// Kubeconfig file for access to the API server. Default: as for kubectl, or the service account of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
}

/// The journal, which keeps writes across restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Directory of the journal. Without it, a restart loses all writes.
    pub path: Option<PathBuf>,
    /// How long writes are kept.
    pub retention: Duration,
    /// Maximum size of the journal. Above, editwar deletes the oldest writes first.
    pub max_size: Bytes,
    /// What to do if writes cannot be stored: `degrade` accepts them without storing them, `reject` answers 503.
    pub on_failure: OnFailure,
    /// The log that replicas share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<JournalKafka>,
}

/// A topic of Kafka that replicas share as their journal. The section `kafka` says how to connect. Every replica stores the
/// writes that it receives there before it answers, and observes those of all replicas. Then `journal.path` is a local copy for
/// questions about the past. A write that the brokers do not confirm is rejected, whatever `on_failure` is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JournalKafka {
    /// The topic. It has one partition, because replicas need one order of all writes. If it does not exist, editwar creates
    /// it, with the retention of `journal.retention`. With three brokers or more, it has three copies, of which two must confirm a write.
    pub topic: String,
    /// A topic to which one of the replicas writes each transition of a war, for any other program: a CloudEvent in JSON, by
    /// object. If it does not exist, editwar creates it as a compacted topic. `null`: none.
    pub transitions: Option<String>,
}

// === impl Config ===

impl Config {
    /// Returns the contexts for the commands of remedies.
    pub fn contexts(&self) -> Contexts {
        Contexts(self.contexts.clone())
    }

    /// Returns the policy by which objects are judged.
    pub fn policy(&self) -> Policy {
        let rows = self.cooperation.rules.iter().map(|rule| cooperation::CooperationRule {
            name: rule.name.clone(),
            resource: rule.resource.clone(),
            path: rule.path.clone(),
            sides: rule.actors.clone().into(),
            reason: rule.reason.clone(),
            excess: rule.excess.clone(),
        });
        let cooperations = Arc::new(CooperationRules::with(rows.collect(), &self.cooperation.disabled));
        let counted_undecided = match self.metrics.count_undecided {
            CountUndecided::PauseAware => CountedUndecided::Of(self.platform.pause_aware_actors.clone().into()),
            CountUndecided::Always => CountedUndecided::Always,
            CountUndecided::Never => CountedUndecided::Never,
        };
        let defaults = Limits { redacts: self.redact_values, cooperations, counted_undecided, ..Limits::default() };
        let limits = self.limits.over(&defaults);
        let overrides = self.overrides.iter().map(|o| Override {
            resource: o.resource.clone(),
            namespace: o.namespace.clone(),
            name: o.name.clone(),
            limits: o.limits.over(&limits),
            is_ignored: o.ignore,
        });
        Policy {
            overrides: overrides.collect(),
            limits,
            history_of: None,
            classes: Arc::new(self.classes()),
            owner_labels: self.notify.owner_labels.clone(),
        }
    }

    /// Returns the classification of actors.
    pub fn classes(&self) -> ActorClassifier {
        let rules = self.actors.iter().map(|a| ActorRule {
            actor: a.actor.clone(),
            tool: a.tool.clone(),
            class: a.class,
            role: a.role.unwrap_or(match a.class {
                ActorClass::Controller => Role::Operator,
                ActorClass::Gitops => Role::Gitops,
                ActorClass::Automation => Role::Ci,
                ActorClass::Person => Role::Person,
                ActorClass::Node => Role::Node,
                ActorClass::Apiserver => Role::Apiserver,
                ActorClass::Webhook => Role::Webhook,
            }),
        });
        ActorClassifier::with(rules.collect()).with_honouring(self.platform.pause_aware_actors.clone())
    }

    /// Returns the settings of the journal, or `None` if there is no directory for it.
    pub fn journal(&self) -> Option<Settings> {
        let Journal { path, retention, max_size, on_failure, kafka: _ } = &self.journal;
        let window = replay::window(&self.policy());
        let retention = Retention {
            age: retention.micros(),
            bytes: max_size.0 as u64,
            window,
            ahead: self.bounds.max_clock_skew.micros(),
        };
        let on_failure = *on_failure;
        path.clone().map(|folder| Settings {
            folder,
            retention,
            on_failure,
            disk: Disk::default(),
            look_every: LOOK_EVERY,
        })
    }

    /// Returns the limits of the pipeline.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            objects_max: self.bounds.max_objects,
            bytes_max: Bounds::default().bytes_max,
            body_bytes_max: self.bounds.max_retained_body_bytes.0,
            requests_max: self.bounds.max_remembered_requests,
            tolerance: Tolerance {
                ahead: self.bounds.max_clock_skew.micros(),
                behind: self.journal.retention.micros(),
            },
        }
    }
}

// === impl Platform, BoundsConfig, Watch, Metrics, Journal ===

impl Default for Platform {
    fn default() -> Platform {
        Platform { pause_aware_actors: HONOURING.iter().map(|pattern| (*pattern).to_owned()).collect() }
    }
}

impl Default for BoundsConfig {
    fn default() -> BoundsConfig {
        let bounds = Bounds::default();
        BoundsConfig {
            max_objects: bounds.objects_max,
            max_retained_body_bytes: Bytes(bounds.body_bytes_max),
            max_remembered_requests: bounds.requests_max,
            max_clock_skew: Duration(std::time::Duration::from_micros(bounds.tolerance.ahead.unsigned_abs())),
            max_memory: None,
        }
    }
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            enabled: false,
            cluster: String::new(),
            namespaces: Vec::new(),
            excluded_resources: ["events", "events.events.k8s.io", "leases.coordination.k8s.io"]
                .map(str::to_owned)
                .into(),
            max_objects_with_values: 100,
            kubeconfig: None,
        }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            max_objects: 500,
            max_actors_per_object: 8,
            series_ttl: Duration(std::time::Duration::from_secs(24 * 3600)),
            count_undecided: CountUndecided::default(),
        }
    }
}

impl Default for JournalKafka {
    fn default() -> JournalKafka {
        JournalKafka { topic: "editwar.writes".to_owned(), transitions: Some("editwar.transitions".to_owned()) }
    }
}

impl Default for Journal {
    fn default() -> Journal {
        Journal {
            path: None,
            retention: Duration(std::time::Duration::from_secs(7 * 24 * 3600)),
            max_size: Bytes(4 << 30),
            on_failure: OnFailure::default(),
            kafka: None,
        }
    }
}
