//! Loads the configuration from a file, the environment and flags, and validates it.

use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

use super::{Config, Mode};
use crate::detect::cooperation::Cooperations;

/// Prefix of environment variables that set a key: `EDITWAR_LIMITS__QUIET_PERIOD=5m` sets `limits.quiet_period`. A key in
/// a section contains two underscores, and the keys without a section are known. Other variables are ignored: Kubernetes
/// injects `EDITWAR_SERVICE_HOST` into every pod next to a Service named `editwar`.
const ENVIRONMENT: &str = "EDITWAR_";
/// The keys that are not in a section.
const WITHOUT_SECTION: [&str; 1] = ["redact_values"];
/// Minimum of `bounds.max_memory`.
const MEMORY_BYTES_MIN: usize = 64 << 20;
/// Minimum of `journal.max_size`: a few of the smallest segments.
const JOURNAL_BYTES_MIN: usize = 16 << 20;

/// The reason why a configuration is rejected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The configuration is not valid.
    #[error("{origin}: {message}")]
    Invalid {
        /// The file, variable or flag.
        origin: String,
        /// What is wrong, with a suggestion if there is one.
        message: String,
    },
}

// === impl Config ===

impl Config {
    /// Loads a file, environment variables and `KEY=VALUE` settings. Later sources override earlier ones.
    ///
    /// # Errors
    /// A source cannot be read, names an unknown key, or has an invalid value.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        settings: &[String],
    ) -> Result<Config, Error> {
        let mut tree = Value::Mapping(serde_yaml_ng::Mapping::new());
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })?;
            let origin = path.display().to_string();
            // Parsed into the typed configuration first, for error messages with line numbers.
            Config::parse(&text, &origin)?;
            let read: Value = serde_yaml_ng::from_str(&text).map_err(|e| invalid(&origin, &e.to_string()))?;
            if !read.is_null() {
                tree = read;
            }
        }
        for (name, value) in environment {
            let Some(key) = name.strip_prefix(ENVIRONMENT).map(|key| key.to_ascii_lowercase().replace("__", "."))
            else {
                continue;
            };
            if key.contains('.') || WITHOUT_SECTION.contains(&key.as_str()) {
                set(&mut tree, &key, &value, &name)?;
            }
        }
        for setting in settings {
            let origin = format!("--set {setting}");
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| invalid(&origin, "expected KEY=VALUE, such as limits.quiet_period=5m"))?;
            set(&mut tree, key, value, &origin)?;
        }
        let config: Config = serde_yaml_ng::from_value(tree).map_err(|e| invalid("configuration", &e.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// Parses the text of a configuration file.
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
            if auth.client_crl.is_some() && auth.client_ca.is_none() {
                return Err(invalid(
                    &format!("{name}.auth.client_crl"),
                    &format!("revocation lists need a client CA: configure {name}.auth.client_ca"),
                ));
            }
            if !listen.ip().is_loopback() && has_tls && !auth.is_on() && !is_allowed {
                return Err(invalid(
                    &format!("{name}.auth"),
                    &format!(
                        "{listen} is reachable from outside without authentication: configure \
                         {name}.auth.client_ca, token_file or token_review, or set {name}.allow_insecure=true"
                    ),
                ));
            }
            if !listen.ip().is_loopback() && !has_tls && !is_allowed {
                return Err(invalid(
                    &format!("{name}.listen"),
                    &format!(
                        "{listen} is reachable from outside without TLS: configure {name}.tls, listen on \
                         127.0.0.1, or set {name}.allow_insecure=true"
                    ),
                ));
            }
        }
        let all = std::iter::once(&self.limits).chain(self.overrides.iter().map(|o| &o.limits));
        for limits in all {
            if limits.buckets.as_ref().is_some_and(Vec::is_empty) {
                return Err(invalid("limits.buckets", "expected at least one bucket"));
            }
            let windows = limits.buckets.iter().flatten().map(|b| b.window);
            if windows.chain(limits.contention.map(|c| c.window)).any(|w| w.0.as_secs() == 0) {
                return Err(invalid("window", "a window must be at least one second"));
            }
        }
        let names = Cooperations::names();
        if let Some(unknown) = self.cooperation.disabled.iter().find(|name| !names.contains(&name.as_str())) {
            let why = format!("unknown co-operation {unknown}; expected one of {}", names.join(", "));
            return Err(invalid("cooperation.disabled", &why));
        }
        if self.enforce.mode == Mode::Pause && self.enforce.resources.is_empty() {
            return Err(invalid(
                "enforce.resources",
                "set the resources that may be paused, such as enforce.resources=[deployments.apps]",
            ));
        }
        if self.enforce.mode == Mode::Reconcile && !self.enforce.assets.is_dir() {
            return Err(invalid(
                "enforce.assets",
                &format!("{} is not a directory: set the directory of the Golden State", self.enforce.assets.display()),
            ));
        }
        if self.journal.retention.0.as_secs() < 60 || self.journal.max_size.0 < JOURNAL_BYTES_MIN {
            return Err(invalid("journal", "retention must be at least 1m, and max_size at least 16MiB"));
        }
        if self.bounds.max_memory.is_some_and(|memory| memory.0 < MEMORY_BYTES_MIN) {
            return Err(invalid("bounds.max_memory", "must be at least 64MiB"));
        }
        if self.bounds.max_objects == 0 || self.bounds.max_remembered_requests == 0 {
            return Err(invalid("bounds", "max_objects and max_remembered_requests must be at least 1"));
        }
        Ok(())
    }
}

/// Sets one key, given as a dotted path.
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
        // A missing field may be set later: for example, a certificate and its key are two settings.
        Err(message) if !message.contains("missing field") => Err(invalid(origin, &message)),
        _ => Ok(()),
    }
}

/// Creates an error. For an unknown key, suggests the most similar known one.
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::Duration;

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
        let text = "limits: {quiet_period: 1m, pause_after: 4}";
        let config = load(
            text,
            &[("EDITWAR_LIMITS__QUIET_PERIOD", "2m"), ("EDITWAR_SERVICE_HOST", "x")],
            &["limits.pause_after=5"],
        )
        .unwrap();
        assert_eq!(config.limits.quiet_period, Duration::parse("2m"));
        assert_eq!(config.limits.pause_after, NonZeroU32::new(5));
    }

    #[test]
    fn a_key_without_a_section_can_be_set_by_a_variable() {
        let config = load("", &[("EDITWAR_REDACT_VALUES", "true")], &[]).unwrap();
        assert!(config.redact_values && config.policy().limits.redacts);
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest_known_one() {
        let error = load("limits:\n  quite_period: 5m\n", &[], &[]).unwrap_err();
        assert!(
            error.contains("unknown key `limits.quite_period`") && error.contains("did you mean `quiet_period`?"),
            "{error}"
        );
        assert!(error.contains("line 2"), "{error}");
        let error = load("", &[("EDITWAR_WEBHOK__LISTEN", "x")], &[]).unwrap_err();
        assert!(error.starts_with("EDITWAR_WEBHOK__LISTEN") && error.contains("`webhook`"), "{error}");
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for (text, expected) in [
            ("limits: {quiet_period: soon}", "expected a duration"),
            ("limits: {buckets: []}", "at least one bucket"),
            ("limits: {buckets: [{burst: 0, window: 1m}]}", "nonzero"),
            ("limits: {buckets: [{burst: 5, window: 0s}]}", "at least one second"),
            ("webhook: {listen: '0.0.0.0:8443'}", "allow_insecure"),
            ("bounds: {max_retained_body_bytes: many}", "expected a size"),
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
- {resource: deployments.apps, namespace: shop, limits: {quiet_period: 1m}}
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
}
