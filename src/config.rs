//! Configuration: the keys, their defaults, and their conversion into the settings of other modules. Plain values
//! without side effects.
//!
//! The doc comments of the configuration types are user documentation: docs/configuration.md is generated from them.

mod load;
mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::load::Error;
pub use self::units::{Bytes, Duration};

use crate::auth::Right;
use crate::detect::annotations::MANAGED;
use crate::detect::bucket::Limit;
use crate::detect::class::{Class, Classes, HONOURING, Role, Rule};
use crate::detect::cooperation::{Cooperations, Row};
use crate::detect::policy::{Limits, Override, Policy};
use crate::journal::committer::{LOOK_EVERY, OnFailure, Settings};
use crate::journal::disk::Disk;
use crate::journal::replay;
use crate::journal::store::Retention;
use crate::pipeline::Bounds;
use crate::pipeline::clock::Tolerance;

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where kube-apiserver posts its audit events.
    pub webhook: Webhook,
    /// Query API, metrics, health.
    pub admin: Admin,
    /// What counts as a war.
    pub limits: LimitsConfig,
    /// Other limits for some objects; the first match counts.
    pub overrides: Vec<OverrideConfig>,
    /// What actors are, before the built-in list is asked; the first match counts.
    pub actors: Vec<ActorConfig>,
    /// Actors that are made to write the same field, which is then no war.
    pub cooperation: CooperationConfig,
    /// What is known of reconcilers.
    pub platform: Platform,
    /// What may be kept of values.
    pub values: Values,
    /// Bounds of what is kept.
    pub bounds: BoundsConfig,
    /// Bounds of the metrics' series.
    pub metrics: Metrics,
    /// What is written to the cluster.
    pub enforce: Enforce,
    /// Logs that are read as they are written.
    pub follow: Follow,
    /// What survives a restart.
    pub journal: Journal,
}

/// Actors that are made to write the same field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CooperationConfig {
    /// Names of built-in co-operations that count as wars all the same.
    pub disabled: Vec<String>,
    /// More of them, asked before the built-in ones.
    pub rows: Vec<CooperationRow>,
}

/// Two actors that are made to write the same field. `*` in a pattern stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CooperationRow {
    /// Its name.
    pub name: String,
    /// Pattern of `resource.group`, such as `deployments.apps`; any where absent.
    #[serde(default = "any")]
    pub resource: String,
    /// Pattern of the field's path as editwar shows it; `(object)` for creation and deletion.
    pub path: String,
    /// Patterns of the two actors, in either order.
    #[serde(default = "any_two")]
    pub actors: [String; 2],
    /// Why it is no war: shown beside it.
    pub reason: String,
    /// What it is called where it happens too often; without it, it never is too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess: Option<String>,
}

fn any() -> String {
    "*".to_owned()
}

fn any_two() -> [String; 2] {
    [any(), any()]
}

/// What is written to the cluster, and to which objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Enforce {
    /// Nothing, or pauses.
    pub mode: Mode,
    /// Lift all pauses and set none: the kill switch.
    pub stop: bool,
    /// How sure a verdict must be.
    pub confidence: Sure,
    /// How the API server is reached; by default as kubectl would, or as a pod does.
    pub kubeconfig: Option<PathBuf>,
    /// Resources that may be paused, such as `deployments.apps`.
    pub resources: Vec<String>,
    /// Patterns of the namespaces whose objects may be paused; all where empty.
    pub namespaces: Vec<String>,
    /// Patterns of namespaces whose objects are left alone.
    pub except_namespaces: Vec<String>,
    /// Labels that an object must have; an empty value stands for any.
    pub labels: BTreeMap<String, String>,
    /// Annotations that an object must have; an empty value stands for any.
    pub annotations: BTreeMap<String, String>,
    /// Pauses that are set within a minute.
    pub per_minute: NonZeroU32,
    /// Age of the latest event beyond which nothing new is decided.
    pub fresh_for: Duration,
    /// The directory of the Golden State, `<category>/<resource>.yaml`.
    pub assets: PathBuf,
    /// The field manager that the Golden State is applied with.
    pub field_manager: String,
    /// The value of the label `managed-by` on its objects; tombstones delete only what has it.
    pub managed_by: String,
    /// Namespace of the Lease that one replica holds; by default the pod's own, else `editwar`.
    pub lease_namespace: Option<String>,
}

/// What is written to the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing.
    #[default]
    Observe,
    /// Pauses of objects that are fought over.
    Pause,
    /// Pauses, and a Golden State that objects are held at.
    Reconcile,
}

/// How sure a verdict must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sure {
    /// The same part was written alternately.
    Possible,
    /// The same fields were named by both sides, or values returned.
    #[default]
    Probable,
}

/// The audit webhook's listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Address and port.
    pub listen: SocketAddr,
    /// Certificate and key; without them the listener speaks plain HTTP and must stay on loopback.
    pub tls: Option<Tls>,
    /// The most bytes of one batch that are taken in.
    pub body_max: Bytes,
    /// Who may post; everybody who reaches the listener where nothing is said.
    pub auth: Auth,
    /// Listen beyond loopback without TLS, or without knowing who posts.
    pub allow_insecure: bool,
}

/// The listener for people and programs that ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address and port.
    pub listen: SocketAddr,
    /// Certificate and key; without them the listener speaks plain HTTP and must stay on loopback.
    pub tls: Option<Tls>,
    /// Who may scrape, read and act; everybody who reaches the listener where nothing is said.
    pub auth: Auth,
    /// Listen beyond loopback without TLS, or without knowing who asks.
    pub allow_insecure: bool,
}

/// Who is known, by what, and what they may do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// CAs of client certificates (PEM).
    pub client_ca: Option<PathBuf>,
    /// Revocation lists (CRLs, PEM) of these CAs. With it, a certificate of a CA that has no list in the file is refused.
    pub client_crl: Option<PathBuf>,
    /// Bearer tokens, `TOKEN NAME` to a line; read again when the file changes. Without a readable line it lets nobody in.
    pub tokens: Option<PathBuf>,
    /// Ask the API server about other tokens: TokenReview, then SubjectAccessReview on the
    /// URLs `/metrics` (get) to scrape, `/editwar` (get) to read, `/editwar` (post) to act, `/audit` (post) to post.
    pub kubernetes: bool,
    /// What the known may do; where empty, anything but act.
    pub allow: Vec<AllowConfig>,
}

/// What a name may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowConfig {
    /// Pattern of a certificate's common name or DNS name, or of a token's name.
    pub name: String,
    /// post, scrape, read, act.
    pub rights: Vec<Right>,
    /// Clusters that it may post for; any where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// What counts as a war; absent keys keep what would hold otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Buckets that every retake takes a token from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Vec<BucketConfig>>,
    /// Thrashing events within one bucket's window that pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_after: Option<NonZeroU32>,
    /// Time without a retake after which a pause is tried to be lifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Duration>,
    /// The longest that relapses stretch the quiet period to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_max: Option<Duration>,
    /// How far back an earlier write makes a later one a retake; by default the longest bucket's window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contest_window: Option<Duration>,
    /// Writes of one actor to one object per minute beyond which it is in a hot loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_loop_per_minute: Option<NonZeroU32>,
    /// No-ops of one actor in a row that are a hot loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot_loop_no_ops: Option<NonZeroU32>,
    /// Conflicts on one object beyond which it is contended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contention: Option<ContentionConfig>,
    /// Turns from accepted to refused and back that are flapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flapping_turns: Option<NonZeroU32>,
}

/// One token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// Retakes that it holds.
    pub retakes: NonZeroU32,
    /// Time in which it fills.
    pub window: Duration,
}

/// When writers race too much.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentionConfig {
    /// Conflicts that are borne.
    pub conflicts: NonZeroU32,
    /// Within this time.
    pub window: Duration,
}

/// Limits for some objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverrideConfig {
    /// `resource.group`, such as `deployments.apps`; `*` stands for any resource or group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Do not look at these objects at all.
    pub ignore: bool,
    /// What differs for them.
    pub limits: LimitsConfig,
}

/// What an actor is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActorConfig {
    /// Pattern of the user's name; `*` stands for any characters.
    pub actor: String,
    /// Pattern of the field manager or user agent's product; any where absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tool: String,
    /// Its class.
    pub class: Class,
    /// Its role; by default the plain one of its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// What is known of reconcilers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Platform {
    /// Patterns of the actors that honour the annotations `platform.kubevirt.io/…`: remedies propose these for them.
    pub actors: Vec<String>,
}

/// What may be kept of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Values {
    /// Keep no values of any object, as if all were Secrets: fields are named, values only compared.
    pub redact: bool,
}

/// Bounds of what is kept in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BoundsConfig {
    /// Objects that are tracked; the calmest and oldest make room.
    pub objects: usize,
    /// Stored bodies that are kept unread until a second client writes.
    pub bodies: Bytes,
    /// Requests that are remembered, to recognise repeated ones.
    pub requests: usize,
    /// How far ahead of this machine's clock the time of an event may be. An event dated later counts as of when it came.
    pub clock_skew: Duration,
    /// Memory that everything together may have; by default what the control group has. Tightens the other bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
}

/// Bounds of the metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Objects with series of their own; further ones are counted as `other`.
    pub objects: usize,
    /// Actors with series of their own for each object; further ones are counted as `other`.
    pub actors: usize,
    /// Series that did not change for this long are dropped.
    pub idle: Duration,
}

/// Logs that are read as they are written, where kube-apiserver cannot post to a webhook.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Follow {
    /// The logs, by the names they are written under; rotated files beside them are found.
    pub files: Vec<PathBuf>,
    /// The cluster that their events are of.
    pub cluster: String,
    /// File that keeps how far they were read; without one, a restart begins at the start of the files that are there.
    pub checkpoint: Option<PathBuf>,
}

/// What survives a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// The directory of the journal; without one nothing is kept.
    pub path: Option<PathBuf>,
    /// How long writes are kept.
    pub retention: Duration,
    /// How many bytes of writes are kept; the oldest go first.
    pub size_max: Bytes,
    /// What happens where writes cannot be kept: `degrade` takes them without, `refuse` answers 503.
    pub on_failure: OnFailure,
}

// === impl Config ===

impl Config {
    /// Returns the policy by which objects are judged.
    pub fn policy(&self) -> Policy {
        let rows = self.cooperation.rows.iter().map(|row| Row {
            name: row.name.clone(),
            resource: row.resource.clone(),
            path: row.path.clone(),
            sides: row.actors.clone().into(),
            reason: row.reason.clone(),
            excess: row.excess.clone(),
        });
        let cooperations = Arc::new(Cooperations::with(rows.collect(), &self.cooperation.disabled));
        let defaults = Limits { redacts: self.values.redact, cooperations, ..Limits::default() };
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
        Classes::with(rules.collect()).with_honouring(self.platform.actors.clone())
    }

    /// Returns the settings of the journal, or `None` if there is no directory for it.
    pub fn journal(&self) -> Option<Settings> {
        let Journal { path, retention, size_max, on_failure } = &self.journal;
        let window = replay::window(&self.policy());
        let retention = Retention {
            age: retention.micros(),
            bytes: size_max.0 as u64,
            window,
            ahead: self.bounds.clock_skew.micros(),
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
            objects_max: self.bounds.objects,
            bytes_max: Bounds::default().bytes_max,
            body_bytes_max: self.bounds.bodies.0,
            requests_max: self.bounds.requests,
            tolerance: Tolerance { ahead: self.bounds.clock_skew.micros(), behind: self.journal.retention.micros() },
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
                    let mut buckets: Vec<Limit> = buckets.iter().map(|b| limit(b.retakes, b.window)).collect();
                    buckets.sort_by_key(|b| b.window_s);
                    buckets.into_iter().collect()
                }
                None => base.buckets.clone(),
            },
            pause_after: self.pause_after.unwrap_or(base.pause_after),
            quiet: self.quiet.map_or(base.quiet, Duration::micros),
            quiet_max: self.quiet_max.map_or(base.quiet_max, Duration::micros),
            contest_window: self.contest_window.map(Duration::micros).or(base.contest_window),
            hot_loop_per_minute: self.hot_loop_per_minute.unwrap_or(base.hot_loop_per_minute),
            hot_loop_no_ops: self.hot_loop_no_ops.unwrap_or(base.hot_loop_no_ops),
            contention: self.contention.map_or(base.contention, |c| limit(c.conflicts, c.window)),
            flapping_turns: self.flapping_turns.unwrap_or(base.flapping_turns),
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
        self.client_ca.is_some() || self.tokens.is_some() || self.kubernetes
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
            body_max: Bytes(64 << 20),
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
            stop: false,
            confidence: Sure::Probable,
            kubeconfig: None,
            resources: Vec::new(),
            namespaces: Vec::new(),
            except_namespaces: vec!["kube-system".to_owned()],
            labels: BTreeMap::new(),
            annotations: BTreeMap::from([(MANAGED.to_owned(), "true".to_owned())]),
            per_minute: NonZeroU32::new(30).expect("at least one"),
            fresh_for: Duration(std::time::Duration::from_secs(120)),
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
        Platform { actors: HONOURING.iter().map(|pattern| (*pattern).to_owned()).collect() }
    }
}

impl Default for BoundsConfig {
    fn default() -> BoundsConfig {
        let bounds = Bounds::default();
        BoundsConfig {
            objects: bounds.objects_max,
            bodies: Bytes(bounds.body_bytes_max),
            requests: bounds.requests_max,
            clock_skew: Duration(std::time::Duration::from_micros(bounds.tolerance.ahead.unsigned_abs())),
            memory: None,
        }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics { objects: 500, actors: 8, idle: Duration(std::time::Duration::from_secs(24 * 3600)) }
    }
}

impl Default for Journal {
    fn default() -> Journal {
        Journal {
            path: None,
            retention: Duration(std::time::Duration::from_secs(7 * 24 * 3600)),
            size_max: Bytes(4 << 30),
            on_failure: OnFailure::default(),
        }
    }
}
