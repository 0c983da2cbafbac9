//! Explains why a key is unknown: it was renamed, or it is misspelt. The known keys come from the schema of the
//! configuration.

use std::fmt;

use schemars::generate::SchemaSettings;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::Config;

/// Names of keys in earlier versions, and the names of the keys that replace them in the same section.
const RENAMED: [(&str, &str); 26] = [
    ("quiet", "quiet_period"),
    ("quiet_max", "max_quiet_period"),
    ("retakes", "burst"),
    ("contest_window", "retake_window"),
    ("hot_loop_per_minute", "hot_loop_writes_per_minute"),
    ("flapping_turns", "flapping_changes"),
    ("values", "redact_values"),
    ("objects", "max_objects"),
    ("bodies", "max_retained_body_bytes"),
    ("requests", "max_remembered_requests"),
    ("clock_skew", "max_clock_skew"),
    ("memory", "max_memory"),
    ("actors", "max_actors_per_object"),
    ("actors", "pause_aware_actors"),
    ("idle", "series_ttl"),
    ("stop", "kill_switch"),
    ("confidence", "min_confidence"),
    ("fresh_for", "max_event_age"),
    ("per_minute", "max_pauses_per_minute"),
    ("except_namespaces", "excluded_namespaces"),
    ("body_max", "max_body_bytes"),
    ("size_max", "max_size"),
    ("follow", "tail"),
    ("tokens", "token_file"),
    ("kubernetes", "token_review"),
    ("rows", "rules"),
];

/// A key that does not exist, and what to use instead.
pub(super) enum Unknown {
    /// The key has a new name.
    Renamed(&'static str),
    /// The most similar key of the same section.
    Nearest(String),
}

// === impl Unknown ===

impl Unknown {
    /// Returns `None` if the key exists.
    pub(super) fn at(path: &Path) -> Option<Unknown> {
        let segments: Vec<&Segment> = path.iter().collect();
        let (Segment::Map { key }, section) = segments.split_last()? else { return None };
        let known = keys_of(section)?;
        if known.contains(key) {
            return None;
        }
        if let Some((_, new)) = RENAMED.iter().find(|(old, new)| old == key && known.iter().any(|name| name == new)) {
            return Some(Unknown::Renamed(new));
        }
        let likeness = |name: &String| strsim::jaro_winkler(name, key);
        known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).map(Unknown::Nearest)
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Renamed(name) => write!(f, "it is now `{name}`"),
            Unknown::Nearest(name) => write!(f, "did you mean `{name}`?"),
        }
    }
}

/// Returns the keys of a section, or `None` if its keys are arbitrary, as in a map.
fn keys_of(section: &[&Segment]) -> Option<Vec<String>> {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
    let mut node = &schema;
    for segment in section {
        node = match segment {
            Segment::Map { key } => without_null(node)["properties"].get(key)?,
            Segment::Seq { .. } => without_null(node).get("items")?,
            Segment::Enum { .. } | Segment::Unknown => return None,
        };
    }
    Some(without_null(node)["properties"].as_object()?.keys().cloned().collect())
}

/// Returns the schema of an optional value.
fn without_null(schema: &Value) -> &Value {
    let choices = schema["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    choices.iter().find(|choice| choice["type"] != "null").unwrap_or(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renamed_keys_exist_under_their_new_name_only() {
        fn sections(schema: &Value, found: &mut Vec<Vec<String>>) {
            let schema = without_null(schema);
            if let Some(keys) = schema["properties"].as_object() {
                found.push(keys.keys().cloned().collect());
                keys.values().for_each(|below| sections(below, found));
            }
            if let Some(items) = schema.get("items") {
                sections(items, found);
            }
        }
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let mut found = Vec::new();
        sections(&settings.into_generator().into_root_schema_for::<Config>().to_value(), &mut found);
        for (old, new) in RENAMED {
            let with_new: Vec<_> = found.iter().filter(|keys| keys.iter().any(|key| key == new)).collect();
            assert!(!with_new.is_empty(), "{new} is no key");
            assert!(with_new.iter().all(|keys| keys.iter().all(|key| key != old)), "{old} is a key beside {new}");
        }
    }
}
