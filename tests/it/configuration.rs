//! Checks that `docs/configuration.md` and its JSON schema, which are generated from the configuration types, are up to
//! date and complete.
//!
//! `UPDATE_DOCS=1 cargo test --test it configuration` generates them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use editwar::config::{Config, Duration};
use editwar::detect::bucket::Limit;
use editwar::detect::policy::Limits;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::util;

const HEAD: &str = "\
# Configuration

This page is generated from the source code: `UPDATE_DOCS=1 cargo test --test it configuration`.

You can set every key in a YAML file (`--config FILE`), with an environment variable, or with a flag. Flags override
environment variables, which override the file. For example, `limits.quiet_period` is `limits: {quiet_period: 5m}` in the
file, `EDITWAR_LIMITS__QUIET_PERIOD=5m`, or `--set limits.quiet_period=5m`. editwar rejects unknown keys and suggests the
nearest known one. `editwar serve --check-config` checks the configuration, and `--print-config` prints the effective
configuration. Editors can use `docs/configuration.schema.json` to complete YAML.

Times are written as `90s`, `10m`, `1h30m` or `7d`, and sizes as `64KiB`, `32MiB` or `1GiB`. `[]` after a key stands for each
item of a list. Keys without a default are optional.
";

fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
    schema["title"] = "editwar".into();
    schema
}

/// A key: its path, type, default and description.
struct Key {
    path: String,
    kind: String,
    default: String,
    meaning: String,
}

/// Collects the keys of a schema recursively.
fn keys(path: &str, schema: &Value, default: Option<&Value>, found: &mut Vec<Key>) {
    let schema = without_null(schema);
    let default = schema.get("default").or(default);
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, below) in properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let given = below.get("default").or_else(|| default.and_then(|d| d.get(name)));
            let plain = without_null(below);
            let is_plain = plain.get("properties").is_none() && plain["items"].get("properties").is_none();
            if path == "overrides[].limits" {
                let meaning = format!("{} The keys of `limits`.", meaning(below));
                found.push(Key { path, kind: "map".into(), default: String::new(), meaning });
            } else if is_plain {
                found.push(Key {
                    default: given.filter(|d| !d.is_null()).map_or_else(|| built_in(&path), shown),
                    path,
                    kind: kind(plain),
                    meaning: meaning(below),
                });
            } else {
                keys(&path, below, given, found);
            }
        }
    } else if schema["items"].get("properties").is_some() {
        keys(&format!("{path}[]"), &schema["items"], None, found);
    }
}

/// Returns the default of a limit that is not set.
fn built_in(path: &str) -> String {
    let limits = Limits::default();
    let time = |seconds: i64| Duration(std::time::Duration::from_secs(seconds.unsigned_abs())).to_string();
    let bucket = |of: fn(&Limit) -> String| limits.buckets.iter().map(of).collect::<Vec<_>>().join("` and `");
    let default = match path {
        "limits.buckets[].burst" => bucket(|b| b.burst.to_string()),
        "limits.buckets[].window" => {
            bucket(|b| Duration(std::time::Duration::from_secs(b.window_s.get().into())).to_string())
        }
        "limits.contention.conflicts" => limits.contention.burst.to_string(),
        "limits.contention.window" => time(limits.contention.window_s.get().into()),
        "limits.flapping_changes" => limits.flapping_turns.to_string(),
        "limits.hot_loop_no_ops" => limits.hot_loop_no_ops.to_string(),
        "limits.hot_loop_writes_per_minute" => limits.hot_loop_per_minute.to_string(),
        "limits.pause_after" => limits.pause_after.to_string(),
        "limits.quiet_period" => time(limits.quiet_period / 1_000_000),
        "limits.max_quiet_period" => time(limits.quiet_period_max / 1_000_000),
        _ => return String::new(),
    };
    format!("`{default}`")
}

/// Returns the schema of an optional value.
fn without_null(schema: &Value) -> &Value {
    let choices = schema["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    choices.iter().find(|choice| choice["type"] != "null").unwrap_or(schema)
}

fn kind(schema: &Value) -> String {
    let all = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|v| format!("`{}`", v.as_str().unwrap_or_default())).collect()
    };
    if schema.get("enum").is_some() {
        return all(&schema["enum"]).join(", ");
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let words = choices.iter().flat_map(|c| {
            if c.get("const").is_some() { vec![format!("`{}`", c["const"].as_str().unwrap())] } else { all(&c["enum"]) }
        });
        return words.collect::<Vec<_>>().join(", ");
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).find(|t| *t != "null").unwrap_or_default(),
        one => one.as_str().unwrap_or_default(),
    };
    match types {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" => "map".into(),
        "boolean" => "yes or no".into(),
        "integer" => "number".into(),
        "string" => "text".into(),
        other => panic!("a kind that the reference has no word for: {other} in {schema}"),
    }
}

fn shown(default: &Value) -> String {
    match default {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn meaning(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn reference() -> String {
    let schema = schema();
    let mut text = HEAD.to_owned();
    for (section, below) in schema["properties"].as_object().unwrap() {
        let mut found = Vec::new();
        let only = serde_json::json!({"properties": {section: below}});
        keys("", &only, schema.get("default"), &mut found);
        write!(
            text,
            "\n## `{section}`\n\n{}\n\n| key | kind | default | meaning |\n|---|---|---|---|\n",
            meaning(below)
        )
        .unwrap();
        for Key { path, kind, default, meaning } in found {
            assert!(!meaning.is_empty(), "{path} has no meaning");
            writeln!(text, "| `{path}` | {kind} | {default} | {meaning} |").unwrap();
        }
    }
    text
}

fn compare(path: &str, text: &str) {
    let file = util::path(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(kept, text, "{path} is old: UPDATE_DOCS=1 cargo test --test it configuration");
}

#[test]
fn the_reference_matches_the_types() {
    compare("docs/configuration.md", &reference());
    compare("docs/configuration.schema.json", &format!("{:#}\n", schema()));
}

/// Collects every key of a printed configuration, with list indexes removed.
fn printed(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, below) in map {
                printed(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, below, found);
            }
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

#[test]
fn every_printed_key_is_in_the_reference() {
    let reference = reference();
    let known: Vec<&str> = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut found = BTreeSet::new();
    printed("", &serde_json::to_value(Config::default()).unwrap(), &mut found);
    assert!(found.len() > 20, "{found:?}");
    for path in found {
        // A map is a key with user-defined keys below it. An empty list or section is a key without any.
        let is_below =
            |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with(['.', '[']));
        let is_there = known.iter().any(|key| *key == path || is_below(&path, key) || is_below(key, &path));
        assert!(is_there, "{path} is not in the reference");
    }
}
