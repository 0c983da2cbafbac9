//! Loads the configuration. The file, the environment and `--set` are layers of one tree, which is parsed once into the
//! typed configuration. The flags of a command are already typed, and are applied on top of it.

use std::path::{Path, PathBuf};

use serde_path_to_error::Path as KeyPath;
use serde_yaml_ng::{Mapping, Value};

use super::{Config, Overlay, unknown_keys};

/// Prefix of environment variables that set a key: `EDITWAR_LIMITS__QUIET_PERIOD=5m` sets `limits.quiet_period`. A
/// variable for a key in a section contains two underscores; keys outside of sections are listed below. Other variables
/// are ignored: Kubernetes injects `EDITWAR_SERVICE_HOST` into every pod next to a Service named `editwar`.
pub const ENVIRONMENT: &str = "EDITWAR_";
/// The keys that are not in a section.
const WITHOUT_SECTION: [&str; 4] = ["redact_values", "overrides", "actors", "contexts"];
/// How similar a variable must be to one of these keys to count as a misspelling of it. Such a variable is rejected,
/// because ignoring it would reveal values that should be redacted.
const MISSPELT: f64 = 0.85;

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
        /// The file, variable, flag or key.
        origin: String,
        /// What is wrong, with a suggestion if there is one.
        message: String,
    },
}

/// The layers of a configuration, merged into one tree.
#[derive(Debug)]
struct Layers {
    tree: Value,
    /// The lowest layer, if there is a file.
    file: Option<Text>,
    /// The keys that the other layers set, in this order.
    settings: Vec<Setting>,
}

#[derive(Debug)]
struct Text {
    origin: String,
    text: String,
}

#[derive(Debug)]
struct Setting {
    /// The dotted path.
    key: String,
    /// The environment variable or the flag.
    origin: String,
}

// === impl Config ===

impl Config {
    /// Loads a file, environment variables, `KEY=VALUE` settings, and the flags of the command. Later sources override
    /// earlier ones.
    ///
    /// # Errors
    /// A source cannot be read, names an unknown key, or has an invalid value.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        settings: &[String],
        flags: &Overlay,
    ) -> Result<Config, Error> {
        let mut layers = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })?;
                Layers::of_file(Text { origin: path.display().to_string(), text })?
            }
            None => Layers::default(),
        };
        for (name, value) in environment {
            let Some(key) = name.strip_prefix(ENVIRONMENT).map(|key| key.to_ascii_lowercase().replace("__", "."))
            else {
                continue;
            };
            if key.contains('.') || WITHOUT_SECTION.contains(&key.as_str()) {
                layers.set(&key, &value, name)?;
            } else if let Some(meant) = WITHOUT_SECTION.iter().find(|k| strsim::jaro_winkler(k, &key) > MISSPELT) {
                let meant = meant.to_ascii_uppercase();
                return Err(invalid(&name, &format!("unknown variable: did you mean {ENVIRONMENT}{meant}?")));
            }
        }
        for setting in settings {
            let origin = format!("--set {setting}");
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| invalid(&origin, "expected KEY=VALUE, such as limits.quiet_period=5m"))?;
            layers.set(key, value, origin)?;
        }
        let mut config = layers.config()?;
        flags.apply(&mut config);
        config.validate()?;
        Ok(config)
    }

    /// Parses the text of a configuration file, without validating it.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn parse(text: &str, origin: &str) -> Result<Config, Error> {
        Layers::of_file(Text { origin: origin.to_owned(), text: text.to_owned() })?.config()
    }
}

// === impl Layers ===

impl Default for Layers {
    fn default() -> Layers {
        Layers { tree: Value::Mapping(Mapping::new()), file: None, settings: Vec::new() }
    }
}

impl Layers {
    fn of_file(file: Text) -> Result<Layers, Error> {
        let tree: Value = serde_yaml_ng::from_str(&file.text).map_err(|e| invalid(&file.origin, &e.to_string()))?;
        let tree = if tree.is_null() { Value::Mapping(Mapping::new()) } else { tree };
        Ok(Layers { tree, file: Some(file), settings: Vec::new() })
    }

    /// Sets one key, given as a dotted path, to a value in YAML.
    fn set(&mut self, key: &str, value: &str, origin: String) -> Result<(), Error> {
        let value: Value = serde_yaml_ng::from_str(value).map_err(|e| invalid(&origin, &e.to_string()))?;
        let mut node = &mut self.tree;
        for part in key.split('.') {
            if !node.is_mapping() {
                *node = Value::Mapping(Mapping::new());
            }
            let Value::Mapping(map) = node else { unreachable!("just made one") };
            node = map.entry(Value::from(part)).or_insert(Value::Null);
        }
        *node = value;
        self.settings.push(Setting { key: key.to_owned(), origin });
        Ok(())
    }

    /// Reads the tree.
    fn config(self) -> Result<Config, Error> {
        serde_path_to_error::deserialize(&self.tree).map_err(|error| self.explain(&error))
    }

    /// Returns an error that names the key, its layer and the reason.
    fn explain(&self, error: &serde_path_to_error::Error<serde_yaml_ng::Error>) -> Error {
        let path = error.path();
        let key = path.to_string();
        let (origin, location) = match self.setting(&key) {
            Some(setting) => (setting.origin.as_str(), None),
            None => match &self.file {
                Some(file) => (file.origin.as_str(), file.location(path)),
                None => ("configuration", None),
            },
        };
        let location = location.map(|location| format!(" ({location})")).unwrap_or_default();
        let message = match unknown_keys::nearest(path) {
            Some(nearest) => format!("unknown key `{key}`{location}: did you mean `{nearest}`?"),
            None if path.iter().next().is_none() => format!("{}{location}", error.inner()),
            None => format!("{key}: {}{location}", error.inner()),
        };
        invalid(origin, &message)
    }

    /// Returns the last setting that concerns a key: it sets the key, a section around it, or a part of it.
    fn setting(&self, key: &str) -> Option<&Setting> {
        let is_within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.settings.iter().rev().find(|set| is_within(key, &set.key) || is_within(&set.key, key))
    }
}

// === impl Text ===

impl Text {
    /// Returns the position of the section that contains this path, if parsing fails there. The tree has no positions,
    /// so the text is parsed again.
    fn location(&self, path: &KeyPath) -> Option<String> {
        let reader = serde_yaml_ng::Deserializer::from_str(&self.text);
        let error = serde_path_to_error::deserialize::<_, Config>(reader).err()?;
        let location = error.inner().location().filter(|_| error.path().to_string() == path.to_string())?;
        Some(format!("line {} column {}", location.line(), location.column()))
    }
}

pub(super) fn invalid(origin: &str, message: &str) -> Error {
    Error::Invalid { origin: origin.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::Mode;

    fn load(text: &str, environment: &[(&str, &str)], settings: &[&str]) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        let loaded = Config::load(Some(file.path()), environment, &settings, &Overlay::default());
        loaded.map_err(|e| e.to_string())
    }

    #[test]
    fn the_default_configuration_round_trips() {
        let text = serde_yaml_ng::to_string(&Config::default()).unwrap();
        assert_eq!(Config::parse(&text, "default").unwrap(), Config::default());
        assert_eq!(Config::parse("# nothing\n", "empty").unwrap(), Config::default());
    }

    #[test]
    fn keys_that_need_each_other_can_be_set_separately() {
        let tls = [("EDITWAR_WEBHOOK__TLS__CERT", "/c"), ("EDITWAR_WEBHOOK__TLS__KEY", "/k")];
        assert_eq!(load("", &tls, &[]).unwrap().webhook.tls.unwrap().key, Path::new("/k"));
        let one = load("", &tls[..1], &[]).unwrap_err();
        assert_eq!(one, "EDITWAR_WEBHOOK__TLS__CERT: webhook.tls: missing field `key`");
        let set = ["webhook.tls.cert=/c", "webhook.tls.key=/k"];
        assert_eq!(load("", &[], &set).unwrap().webhook.tls.unwrap().cert, Path::new("/c"));
    }

    #[test]
    fn set_overrides_the_environment_which_overrides_the_file() {
        let text = "limits: {quiet_period: 1m, pause_after: 4}";
        let config = load(
            text,
            &[("EDITWAR_LIMITS__QUIET_PERIOD", "2m"), ("EDITWAR_SERVICE_HOST", "x")],
            &["limits.pause_after=5"],
        )
        .unwrap();
        assert_eq!(config.limits.quiet_period, Some("2m".parse().unwrap()));
        assert_eq!(config.limits.pause_after, NonZeroU32::new(5));
    }

    #[test]
    fn flags_override_everything_and_are_validated() {
        let flags = Overlay { mode: Some(Mode::Pause), journal: Some(None), ..Overlay::default() };
        let settings = ["journal.path=/x".to_owned(), "enforce.resources=[deployments.apps]".to_owned()];
        let config = Config::load(None, [], &settings, &flags).unwrap();
        assert_eq!((config.enforce.mode, config.journal.path), (Mode::Pause, None));
        assert_eq!(config.enforce.resources, ["deployments.apps"], "a flag that is absent changes nothing");
        assert!(Config::load(None, [], &[], &flags).is_err(), "what flags say is validated");
    }

    #[test]
    fn top_level_keys_can_be_set_by_variables() {
        let config = load("", &[("EDITWAR_REDACT_VALUES", "true")], &[]).unwrap();
        assert!(config.redact_values && config.policy().limits.redacts);
        for misspelt in ["EDITWAR_REDACT", "EDITWAR_REDACT_VALUE", "EDITWAR_REDACTED_VALUES"] {
            let error = load("", &[(misspelt, "true")], &[]).unwrap_err();
            assert!(error.starts_with(misspelt) && error.ends_with("did you mean EDITWAR_REDACT_VALUES?"), "{error}");
        }
        for other in ["EDITWAR_SERVICE_HOST", "EDITWAR_PORT_8080_TCP_ADDR", "EDITWAR_SERVER", "EDITWAR_TOKEN_FILE"] {
            assert!(load("", &[(other, "x")], &[]).is_ok(), "{other}");
        }
    }

    #[test]
    fn lists_and_maps_at_the_top_level_can_be_set_by_variables() {
        let variables = [
            ("EDITWAR_OVERRIDES", "[{resource: configmaps, ignore: true}]"),
            ("EDITWAR_ACTORS", "[{actor: bot, class: automation}]"),
            ("EDITWAR_CONTEXTS", "{prod: admin@prod}"),
            ("EDITWAR_CONFIG", "/etc/editwar.yaml"),
        ];
        let config = load("", &variables, &[]).unwrap();
        assert_eq!((config.overrides.len(), config.actors.len()), (1, 1));
        assert_eq!(config.contexts.get("prod").map(String::as_str), Some("admin@prod"));
    }

    #[test]
    fn unknown_keys_suggest_the_nearest_known_one() {
        let error = load("limits:\n  quite_period: 5m\n", &[], &[]).unwrap_err();
        assert!(
            error.contains("unknown key `limits.quite_period`") && error.contains("did you mean `quiet_period`?"),
            "{error}"
        );
        assert!(error.contains("line 2"), "{error}");
        let error = load("", &[("EDITWAR_WEBHOK__LISTEN", "x")], &[]).unwrap_err();
        assert_eq!(error, "EDITWAR_WEBHOK__LISTEN: unknown key `webhok`: did you mean `webhook`?");
        let error = load("", &[], &["limits.buckets=[{brust: 5, window: 1m}]"]).unwrap_err();
        assert!(error.contains("unknown key `limits.buckets[0].brust`: did you mean `burst`?"), "{error}");
    }

    #[test]
    fn errors_name_the_key_and_the_last_source_that_set_it() {
        let quiet = "expected a duration such as 90s, 10m or 1h30m, got \"soon\"";
        let error = load("limits:\n  quiet_period: soon\n", &[], &[]).unwrap_err();
        // The position is that of the section's first key, since the parser does not keep others.
        assert!(error.ends_with(&format!("limits.quiet_period: {quiet} (line 2 column 3)")), "{error}");
        let variable = [("EDITWAR_LIMITS__QUIET_PERIOD", "soon")];
        let error = load("limits: {quiet_period: 5m}", &variable, &["limits.pause_after=4"]).unwrap_err();
        assert_eq!(error, format!("EDITWAR_LIMITS__QUIET_PERIOD: limits.quiet_period: {quiet}"));
        let section = "limits={quiet_period: soon}";
        let error = load("", &[], &[section]).unwrap_err();
        assert_eq!(error, format!("--set {section}: limits.quiet_period: {quiet}"));
        let error = load("webhook: {listen: '127.0.0.1:8443', auth: {allow: [{name: x, rights: [fly]}]}}", &[], &[]);
        assert!(error.unwrap_err().contains("webhook.auth.allow[0].rights[0]: unknown variant `fly`"));
    }

    #[test]
    fn invalid_values_are_rejected() {
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
    fn overrides_change_only_what_they_name() {
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
        assert_eq!((shop.quiet_period, shop.pause_after.get()), (60_000_000, 4));
        assert_eq!(policy.limits(&object("apps", "deployments", "other")).unwrap().quiet_period, 600_000_000);
        assert!(policy.limits(&object("coordination.k8s.io", "leases", "x")).is_none());
    }
}
