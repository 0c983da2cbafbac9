//! Configuration: plain values with defaults; parsed from YAML, environment and flags, validated, without effects.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_yaml_ng::Value;

use crate::audit::event::Micros;
use crate::auth::Right;
use crate::detect::annotations::MANAGED;
use crate::detect::bucket::Limit;
use crate::detect::class::{Class, Classes, HONOURING, Role, Rule};
use crate::detect::policy::{Limits, Override, Policy};
use crate::journal::committer::{OnFailure, Settings};
use crate::journal::replay;
use crate::journal::store::Retention;
use crate::pipeline::Bounds;

/// Environment variables that set a key: `EDITWAR_LIMITS__QUIET=5m` sets `limits.quiet`. Every key has a section, and
/// so every such variable two underscores: Kubernetes injects others, `EDITWAR_SERVICE_HOST` into every pod beside a
/// Service named `editwar`.
const ENVIRONMENT: &str = "EDITWAR_";
/// The least memory that there may be.
const MEMORY_BYTES_MIN: usize = 64 << 20;
/// The least that a journal may be told to keep: a few of its smallest files.
const JOURNAL_BYTES_MIN: usize = 16 << 20;

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
    /// The same part was written in turns.
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
    /// Bearer tokens, `TOKEN NAME` to a line; read again when the file changes.
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

/// A time span, written `90s`, `10m`, `6h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub struct Duration(#[schemars(with = "String")] pub std::time::Duration);

/// A size, written as a number of bytes or `64KiB`, `32MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub struct Bytes(#[schemars(with = "String")] pub usize);

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Is no configuration.
    #[error("{origin}: {message}")]
    Invalid {
        /// The file, or the variable or flag.
        origin: String,
        /// What is wrong, and what was perhaps meant.
        message: String,
    },
}

// === impl Config ===

impl Config {
    /// The configuration from a file, environment variables and `KEY=VALUE` settings, the later over the earlier.
    ///
    /// # Errors
    /// Where one of them cannot be read, names an unknown key, or has a value that makes no sense.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        settings: &[String],
    ) -> Result<Config, Error> {
        let mut tree = Value::Mapping(serde_yaml_ng::Mapping::new());
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })?;
            let origin = path.display().to_string();
            // Read as what it is first, for an error that knows the line.
            Config::parse(&text, &origin)?;
            let read: Value = serde_yaml_ng::from_str(&text).map_err(|e| invalid(&origin, &e.to_string()))?;
            if !read.is_null() {
                tree = read;
            }
        }
        for (name, value) in environment {
            let Some(key) = name.strip_prefix(ENVIRONMENT).filter(|key| key.contains("__")) else {
                continue;
            };
            set(&mut tree, &key.to_ascii_lowercase().replace("__", "."), &value, &name)?;
        }
        for setting in settings {
            let origin = format!("--set {setting}");
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| invalid(&origin, "expected KEY=VALUE, such as limits.quiet=5m"))?;
            set(&mut tree, key, value, &origin)?;
        }
        let config: Config = serde_yaml_ng::from_value(tree).map_err(|e| invalid("configuration", &e.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// The configuration in a file's text.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn parse(text: &str, origin: &str) -> Result<Config, Error> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Config::default());
        }
        serde_yaml_ng::from_str(text).map_err(|e| invalid(origin, &e.to_string()))
    }

    fn validate(&self) -> Result<(), Error> {
        let listeners = [
            ("webhook", self.webhook.listen, &self.webhook.tls, &self.webhook.auth, self.webhook.allow_insecure),
            ("admin", self.admin.listen, &self.admin.tls, &self.admin.auth, self.admin.allow_insecure),
        ];
        for (name, listen, tls, auth, is_allowed) in listeners {
            let has_tls = tls.is_some();
            if auth.client_ca.is_some() && !has_tls {
                return Err(invalid(
                    &format!("{name}.auth.client_ca"),
                    &format!("client certificates need TLS: configure {name}.tls"),
                ));
            }
            if !listen.ip().is_loopback() && has_tls && !auth.is_on() && !is_allowed {
                return Err(invalid(
                    &format!("{name}.auth"),
                    &format!(
                        "{listen} is reachable from outside, and nobody is asked who they are: configure \
                         {name}.auth.client_ca, tokens or kubernetes, or set {name}.allow_insecure=true"
                    ),
                ));
            }
            if !listen.ip().is_loopback() && !has_tls && !is_allowed {
                return Err(invalid(
                    &format!("{name}.listen"),
                    &format!(
                        "{listen} is reachable from outside, and there is no {name}.tls: configure it, listen on \
                         127.0.0.1, or set {name}.allow_insecure=true"
                    ),
                ));
            }
        }
        let all = std::iter::once(&self.limits).chain(self.overrides.iter().map(|o| &o.limits));
        for limits in all {
            if limits.buckets.as_ref().is_some_and(Vec::is_empty) {
                return Err(invalid("limits.buckets", "at least one bucket is needed"));
            }
            let windows = limits.buckets.iter().flatten().map(|b| b.window);
            if windows.chain(limits.contention.map(|c| c.window)).any(|w| w.0.as_secs() == 0) {
                return Err(invalid("window", "a window is at least one second"));
            }
        }
        if self.enforce.mode == Mode::Pause && self.enforce.resources.is_empty() {
            return Err(invalid(
                "enforce.resources",
                "name the resources that may be paused, such as enforce.resources=[deployments.apps]",
            ));
        }
        if self.enforce.mode == Mode::Reconcile && !self.enforce.assets.is_dir() {
            return Err(invalid(
                "enforce.assets",
                &format!("{} is no directory: name that of the Golden State", self.enforce.assets.display()),
            ));
        }
        if self.journal.retention.0.as_secs() < 60 || self.journal.size_max.0 < JOURNAL_BYTES_MIN {
            return Err(invalid("journal", "retention is at least 1m, and size_max at least 16MiB"));
        }
        if self.bounds.memory.is_some_and(|memory| memory.0 < MEMORY_BYTES_MIN) {
            return Err(invalid("bounds.memory", "nothing useful fits in less than 64MiB"));
        }
        if self.bounds.objects == 0 || self.bounds.requests == 0 {
            return Err(invalid("bounds", "objects and requests must be at least 1"));
        }
        Ok(())
    }

    /// The limits by which objects are judged.
    pub fn policy(&self) -> Policy {
        let limits = Limits { redacts: self.values.redact, ..self.limits.over(&Limits::default()) };
        let overrides = self.overrides.iter().map(|o| Override {
            resource: o.resource.clone(),
            namespace: o.namespace.clone(),
            name: o.name.clone(),
            limits: o.limits.over(&limits),
            is_ignored: o.ignore,
        });
        Policy { overrides: overrides.collect(), limits, follow: None }
    }

    /// What actors are.
    pub fn classes(&self) -> Classes {
        let rules = self.actors.iter().map(|a| Rule {
            actor: a.actor.clone(),
            tool: a.tool.clone(),
            class: a.class,
            role: a.role.unwrap_or(match a.class {
                Class::Controller => Role::Operator,
                Class::Gitops => Role::Gitops,
                Class::Person => Role::Person,
                Class::Node => Role::Node,
                Class::Apiserver => Role::Apiserver,
                Class::Webhook => Role::Webhook,
            }),
        });
        Classes::with(rules.collect()).with_honouring(self.platform.actors.clone())
    }

    /// Where and how much is kept on disk, if anything.
    pub fn journal(&self) -> Option<Settings> {
        let Journal { path, retention, size_max, on_failure } = &self.journal;
        let window = replay::window(&self.policy());
        let retention = Retention { age: retention.micros(), bytes: size_max.0 as u64, window };
        path.clone().map(|folder| Settings { folder, retention, on_failure: *on_failure })
    }

    /// The bounds of the pipeline.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            objects_max: self.bounds.objects,
            body_bytes_max: self.bounds.bodies.0,
            requests_max: self.bounds.requests,
        }
    }
}

/// Sets one key, given with dots, in a tree.
fn set(tree: &mut Value, key: &str, value: &str, origin: &str) -> Result<(), Error> {
    let value: Value = serde_yaml_ng::from_str(value).map_err(|e| invalid(origin, &e.to_string()))?;
    let mut node = &mut *tree;
    for part in key.split('.') {
        if !node.is_mapping() {
            *node = Value::Mapping(serde_yaml_ng::Mapping::new());
        }
        let Value::Mapping(map) = node else { unreachable!("just made one") };
        node = map.entry(Value::from(part)).or_insert(Value::Null);
    }
    *node = value;
    let check: Result<Config, _> = serde_yaml_ng::from_value(tree.clone());
    match check.map_err(|e| e.to_string()) {
        // What is missing may be set by the next one: a certificate has a key.
        Err(message) if !message.contains("missing field") => Err(invalid(origin, &message)),
        _ => Ok(()),
    }
}

/// An error, with the nearest known key where an unknown one was named.
fn invalid(origin: &str, message: &str) -> Error {
    let quoted = |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let names = quoted(message);
    let mut message = message.to_owned();
    if let (true, Some((unknown, known))) = (message.contains("unknown field"), names.split_first()) {
        let place = message.split(" at line").nth(1).map(|rest| format!(" (line{rest})")).unwrap_or_default();
        let path = message.split("unknown field").next().unwrap_or_default().trim_end_matches([' ', ':']).to_owned();
        let path = if path.is_empty() { unknown.clone() } else { format!("{path}.{unknown}") };
        let nearest =
            known.iter().max_by(|a, b| strsim::jaro_winkler(a, unknown).total_cmp(&strsim::jaro_winkler(b, unknown)));
        let hint = nearest.map(|n| format!(": did you mean `{n}`?")).unwrap_or_default();
        message = format!("unknown key `{path}`{place}{hint}");
    }
    Error::Invalid { origin: origin.to_owned(), message }
}

// === impl LimitsConfig ===

impl LimitsConfig {
    /// These limits, and `base` where nothing is said.
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
        }
    }
}

// === impl Auth ===

impl Auth {
    /// Whether anybody is asked who they are.
    pub fn is_on(&self) -> bool {
        self.client_ca.is_some() || self.tokens.is_some() || self.kubernetes
    }
}

// === impl Webhook, Admin, BoundsConfig, Metrics, Journal ===

impl Default for Webhook {
    /// Plain HTTP on loopback: what can be tried at once and reached by nobody else.
    fn default() -> Webhook {
        Webhook {
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            tls: None,
            // 400 events of 100 KiB is what kube-apiserver's truncation leaves of a batch; a little more without it.
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
            // Those of the operator that people come from: its fields are taken over without a conflict.
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

// === impl Duration ===

impl Duration {
    /// In the unit of event time.
    pub fn micros(self) -> Micros {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }

    /// Reads `90s`, `10m`, `6h`, `7d`, and sums such as `1h30m`.
    pub fn parse(text: &str) -> Option<Duration> {
        let mut total = std::time::Duration::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().ok()?;
            let unit_len = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
            let millis = match &rest[digits..digits + unit_len] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            total = total.checked_add(std::time::Duration::from_millis(number.checked_mul(millis)?))?;
            rest = &rest[digits + unit_len..];
        }
        (!text.is_empty()).then_some(Duration(total))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
            if millis >= unit && millis.is_multiple_of(unit) {
                return write!(f, "{}{name}", millis / unit);
            }
        }
        write!(f, "{millis}ms")
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        Duration::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is no duration such as 90s, 10m or 6h")))
    }
}

// === impl Bytes ===

impl Bytes {
    fn parse(text: &str) -> Option<Bytes> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = text[..digits].parse().ok()?;
        let shift = match text[digits..].trim() {
            "" | "B" => 0,
            "KiB" | "Ki" => 10,
            "MiB" | "Mi" => 20,
            "GiB" | "Gi" => 30,
            _ => return None,
        };
        number.checked_mul(1 << shift).map(Bytes)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, name) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{name}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let text = match &value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        Bytes::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no size such as 65536 or 64MiB")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)], settings: &[&str]) -> Result<Config, String> {
        let file = std::env::temp_dir().join(format!(
            "editwar-config-{}-{}.yaml",
            std::process::id(),
            crate::detect::hash(text)
        ));
        std::fs::write(&file, text).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        let loaded = Config::load(Some(&file), environment, &settings);
        std::fs::remove_file(&file).unwrap();
        loaded.map_err(|e| e.to_string())
    }

    #[test]
    fn the_default_survives_being_written_and_read() {
        let text = serde_yaml_ng::to_string(&Config::default()).unwrap();
        assert_eq!(Config::parse(&text, "default").unwrap(), Config::default());
        assert_eq!(Config::parse("# nothing\n", "empty").unwrap(), Config::default());
    }

    #[test]
    fn keys_that_belong_together_may_be_set_one_by_one() {
        let tls = [("EDITWAR_WEBHOOK__TLS__CERT", "/c"), ("EDITWAR_WEBHOOK__TLS__KEY", "/k")];
        assert_eq!(load("", &tls, &[]).unwrap().webhook.tls.unwrap().key, Path::new("/k"));
        let one = load("", &tls[..1], &[]).unwrap_err();
        assert!(one.contains("missing field `key`"), "{one}");
        let set = ["webhook.tls.cert=/c", "webhook.tls.key=/k"];
        assert_eq!(load("", &[], &set).unwrap().webhook.tls.unwrap().cert, Path::new("/c"));
    }

    #[test]
    fn flags_win_over_environment_and_environment_over_the_file() {
        let text = "limits: {quiet: 1m, pause_after: 4}";
        let config =
            load(text, &[("EDITWAR_LIMITS__QUIET", "2m"), ("EDITWAR_SERVICE_HOST", "x")], &["limits.pause_after=5"])
                .unwrap();
        assert_eq!(config.limits.quiet, Duration::parse("2m"));
        assert_eq!(config.limits.pause_after, NonZeroU32::new(5));
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest_known_one() {
        let error = load("limits:\n  quite: 5m\n", &[], &[]).unwrap_err();
        assert!(error.contains("unknown key `limits.quite`") && error.contains("did you mean `quiet`?"), "{error}");
        assert!(error.contains("line 2"), "{error}");
        let error = load("", &[("EDITWAR_WEBHOK__LISTEN", "x")], &[]).unwrap_err();
        assert!(error.starts_with("EDITWAR_WEBHOK__LISTEN") && error.contains("`webhook`"), "{error}");
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for (text, expected) in [
            ("limits: {quiet: soon}", "no duration"),
            ("limits: {buckets: []}", "at least one bucket"),
            ("limits: {buckets: [{retakes: 0, window: 1m}]}", "nonzero"),
            ("limits: {buckets: [{retakes: 5, window: 0s}]}", "at least one second"),
            ("webhook: {listen: '0.0.0.0:8443'}", "allow_insecure"),
            ("bounds: {bodies: many}", "no size"),
            ("actors: [{actor: x, class: robot}]", "robot"),
        ] {
            let error = load(text, &[], &[]).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn overrides_change_what_they_name_and_nothing_else() {
        let text = "
limits: {pause_after: 4}
overrides:
- {resource: deployments.apps, namespace: shop, limits: {quiet: 1m}}
- {resource: leases.coordination.k8s.io, ignore: true}
";
        let policy = load(text, &[], &[]).unwrap().policy();
        let object =
            |group, resource, namespace| crate::detect::write::ObjectName { group, resource, namespace, name: "x" };
        let shop = policy.limits(&object("apps", "deployments", "shop")).unwrap();
        assert_eq!((shop.quiet, shop.pause_after.get()), (60_000_000, 4));
        assert_eq!(policy.limits(&object("apps", "deployments", "other")).unwrap().quiet, 600_000_000);
        assert!(policy.limits(&object("coordination.k8s.io", "leases", "x")).is_none());
    }

    #[test]
    fn durations_and_sizes_are_written_as_they_are_read() {
        for text in ["90s", "10m", "6h", "7d", "250ms"] {
            assert_eq!(Duration::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Duration::parse("1h30m"), Duration::parse("90m"));
        assert_eq!(Duration::parse("10"), None);
        for text in ["64MiB", "1GiB", "4KiB", "1000"] {
            assert_eq!(Bytes::parse(text).unwrap().to_string(), text);
        }
    }
}
