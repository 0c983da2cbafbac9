//! Configuration: the keys, their defaults, and their conversion into the settings of other modules. Plain values
//! without side effects.
//!
//! The doc comments of the configuration types are user documentation: docs/configuration.md is generated from them.

mod keys;
mod load;
mod overlay;
mod units;
mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use self::load::{ENVIRONMENT, Error};
pub use self::overlay::Overlay;
pub use self::units::{Bytes, Duration};

use crate::auth::Right;
use crate::detect::annotations::MANAGED;
use crate::detect::bucket::Limit;
use crate::detect::class::{Class, Classes, HONOURING, Role, Rule};
use crate::detect::cooperation::{Cooperations, Row};
use crate::detect::policy::{Limits, Override, Policy};
use crate::detect::verdict::Confidence;
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
    /// Treat all objects like Secrets: compare values, but neither keep nor show them.
    pub redact_values: bool,
    /// Limits on memory.
    pub bounds: BoundsConfig,
    /// Limits on the number of metric series.
    pub metrics: Metrics,
    /// What editwar writes to the cluster.
    pub enforce: Enforce,
    /// Logs that editwar reads as they are written.
    pub tail: Tail,
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
    /// What to call it if it happens too often. Without this name, no frequency is too high.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess: Option<String>,
}

fn any() -> String {
    "*".to_owned()
}

fn any_two() -> [String; 2] {
    [any(), any()]
}

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

/// Returns the schema of a minimum confidence: the enforcer does not wait for a confirmed verdict.
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

/// The audit webhook's listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Certificate and key. Without them, the listener uses plain HTTP and must listen on loopback.
    pub tls: Option<Tls>,
    /// Maximum number of bytes that editwar reads of one batch.
    pub max_body_bytes: Bytes,
    /// Authentication of clients that post events. Without it, any client that reaches the listener may post.
    pub auth: Auth,
    /// Allow a listener beyond loopback without TLS or authentication.
    pub allow_insecure: bool,
}

/// The listener for queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Certificate and key. Without them, the listener uses plain HTTP and must listen on loopback.
    pub tls: Option<Tls>,
    /// Authentication of clients that scrape metrics, read and administer. Without it, any client that reaches the
    /// listener may do so.
    pub auth: Auth,
    /// Allow a listener beyond loopback without TLS or authentication.
    pub allow_insecure: bool,
}

/// Authentication and authorization of clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// CA certificates to verify client certificates, in PEM.
    pub client_ca: Option<PathBuf>,
    /// Certificate revocation lists of these CAs, in PEM. Certificates of a CA without a list are then rejected.
    pub client_crl: Option<PathBuf>,
    /// File with bearer tokens, one `TOKEN NAME` per line. Reloaded on changes; without a valid line, rejects all tokens.
    pub token_file: Option<PathBuf>,
    /// Authenticate other tokens by TokenReview, and authorize them by SubjectAccessReview on URLs: `/audit` (post) for
    /// `ingest`, `/metrics` (get) for `metrics`, `/editwar` (get) for `read`, `/editwar` (post) for `admin`.
    pub token_review: bool,
    /// Rights of authenticated clients. Empty: all rights except `admin`.
    pub allow: Vec<AllowConfig>,
}

/// The rights of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowConfig {
    /// Pattern of the common name or DNS name of a certificate, or of the name of a token.
    pub name: String,
    /// Rights: `ingest` (post events), `metrics` (scrape), `read` (query), `admin` (kill switch, log level).
    pub rights: Vec<Right>,
    /// Clusters that the client may post for. Empty: any cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
}

/// A certificate and its private key, as PEM files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// What counts as a war. Absent keys keep their values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Token buckets. Each retake takes a token from every bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Vec<BucketConfig>>,
    /// Number of thrashing events within the window of a bucket after which a war is sustained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_after: Option<NonZeroU32>,
    /// Quiet period: time without a retake after which a sustained war becomes subsiding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_period: Option<Duration>,
    /// Maximum quiet period. Each relapse doubles it up to this limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_quiet_period: Option<Duration>,
    /// Maximum age of an earlier write that makes a later one a retake. Default: the longest window of the buckets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retake_window: Option<Duration>,
    /// Maximum number of writes per minute of one actor to one object. Above, the actor is in a hot loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_loop_writes_per_minute: Option<NonZeroU32>,
    /// Number of consecutive no-ops of one actor that count as a hot loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_loop_no_ops: Option<NonZeroU32>,
    /// Maximum number of conflicts on one object. Above, it counts as contention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contention: Option<ContentionConfig>,
    /// Number of changes between accepted and rejected that count as flapping admission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flapping_changes: Option<NonZeroU32>,
}

/// One token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// Maximum number of tokens, and so of retakes within the window.
    pub burst: NonZeroU32,
    /// Time after which a token returns.
    pub window: Duration,
}

/// When conflicts between writers count as contention.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentionConfig {
    /// Maximum number of conflicts within the window.
    pub conflicts: NonZeroU32,
    /// Length of the window.
    pub window: Duration,
}

/// Limits for some objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverrideConfig {
    /// `resource.group`, such as `deployments.apps`. `*` matches any resource or group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Namespace of the objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Ignore these objects.
    pub ignore: bool,
    /// Limits that differ for these objects.
    pub limits: LimitsConfig,
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
    pub class: Class,
    /// Role of the actor. Default: the general role of its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// Information about reconcilers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Platform {
    /// Patterns of actors that honour the annotations `platform.kubevirt.io/…`. Only their remedies use them.
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

/// Limits on metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Maximum number of objects with series of their own. Others are counted as `other`.
    pub max_objects: usize,
    /// Maximum number of actors per object with series of their own. Others are counted as `other`.
    pub max_actors_per_object: usize,
    /// Time without a change after which series are removed.
    pub series_ttl: Duration,
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
}

// === impl Config ===

impl Config {
    /// Returns the policy by which objects are judged.
    pub fn policy(&self) -> Policy {
        let rows = self.cooperation.rules.iter().map(|rule| Row {
            name: rule.name.clone(),
            resource: rule.resource.clone(),
            path: rule.path.clone(),
            sides: rule.actors.clone().into(),
            reason: rule.reason.clone(),
            excess: rule.excess.clone(),
        });
        let cooperations = Arc::new(Cooperations::with(rows.collect(), &self.cooperation.disabled));
        let defaults = Limits { redacts: self.redact_values, cooperations, ..Limits::default() };
        let limits = self.limits.over(&defaults);
        let overrides = self.overrides.iter().map(|o| Override {
            resource: o.resource.clone(),
            namespace: o.namespace.clone(),
            name: o.name.clone(),
            limits: o.limits.over(&limits),
            is_ignored: o.ignore,
        });
        Policy { overrides: overrides.collect(), limits, follow: None, classes: Arc::new(self.classes()) }
    }

    /// Returns the classification of actors.
    pub fn classes(&self) -> Classes {
        let rules = self.actors.iter().map(|a| Rule {
            actor: a.actor.clone(),
            tool: a.tool.clone(),
            class: a.class,
            role: a.role.unwrap_or(match a.class {
                Class::Controller => Role::Operator,
                Class::Gitops => Role::Gitops,
                Class::Automation => Role::Ci,
                Class::Person => Role::Person,
                Class::Node => Role::Node,
                Class::Apiserver => Role::Apiserver,
                Class::Webhook => Role::Webhook,
            }),
        });
        Classes::with(rules.collect()).with_honouring(self.platform.pause_aware_actors.clone())
    }

    /// Returns the settings of the journal, or `None` if there is no directory for it.
    pub fn journal(&self) -> Option<Settings> {
        let Journal { path, retention, max_size, on_failure } = &self.journal;
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

// === impl LimitsConfig ===

impl LimitsConfig {
    /// Returns these limits, with the values of `base` where a key is absent.
    fn over(&self, base: &Limits) -> Limits {
        let seconds =
            |d: Duration| NonZeroU32::new(d.0.as_secs().min(u64::from(u32::MAX)) as u32).unwrap_or(NonZeroU32::MIN);
        let limit = |burst, window| Limit { burst, window_s: seconds(window) };
        Limits {
            buckets: match &self.buckets {
                Some(buckets) => {
                    let mut buckets: Vec<Limit> = buckets.iter().map(|b| limit(b.burst, b.window)).collect();
                    buckets.sort_by_key(|b| b.window_s);
                    buckets.into_iter().collect()
                }
                None => base.buckets.clone(),
            },
            pause_after: self.pause_after.unwrap_or(base.pause_after),
            quiet: self.quiet_period.map_or(base.quiet, Duration::micros),
            quiet_max: self.max_quiet_period.map_or(base.quiet_max, Duration::micros),
            contest_window: self.retake_window.map(Duration::micros).or(base.contest_window),
            hot_loop_per_minute: self.hot_loop_writes_per_minute.unwrap_or(base.hot_loop_per_minute),
            hot_loop_no_ops: self.hot_loop_no_ops.unwrap_or(base.hot_loop_no_ops),
            contention: self.contention.map_or(base.contention, |c| limit(c.conflicts, c.window)),
            flapping_turns: self.flapping_changes.unwrap_or(base.flapping_turns),
            redacts: base.redacts,
            own: base.own.clone(),
            cooperations: base.cooperations.clone(),
        }
    }
}

// === impl Auth ===

impl Auth {
    /// Returns whether clients must authenticate.
    pub fn is_on(&self) -> bool {
        self.client_ca.is_some() || self.token_file.is_some() || self.token_review
    }
}

// === impl Webhook, Admin, BoundsConfig, Metrics, Journal ===

impl Default for Webhook {
    /// Plain HTTP on loopback: works immediately, and is not reachable by others.
    fn default() -> Webhook {
        Webhook {
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            tls: None,
            // kube-apiserver truncates events to 100 KiB and sends 400 per batch; this leaves some room for batches
            // without truncation.
            max_body_bytes: Bytes(64 << 20),
            auth: Auth::default(),
            allow_insecure: false,
        }
    }
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls: None,
            auth: Auth::default(),
            allow_insecure: false,
        }
    }
}

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

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            max_objects: 500,
            max_actors_per_object: 8,
            series_ttl: Duration(std::time::Duration::from_secs(24 * 3600)),
        }
    }
}

impl Default for Journal {
    fn default() -> Journal {
        Journal {
            path: None,
            retention: Duration(std::time::Duration::from_secs(7 * 24 * 3600)),
            max_size: Bytes(4 << 30),
            on_failure: OnFailure::default(),
        }
    }
}
