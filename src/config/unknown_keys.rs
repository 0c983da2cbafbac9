//! Suggests a key for one that is unknown. The known keys come from the schema of the configuration.

use schemars::generate::SchemaSettings;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::Config;

/// Returns the key of the same section that is most similar to one that does not exist. Returns `None` if the key exists.
pub(super) fn nearest(path: &Path) -> Option<String> {
    let segments: Vec<&Segment> = path.iter().collect();
    let (Segment::Map { key }, section) = segments.split_last()? else { return None };
    let known = keys_of(section)?;
    if known.contains(key) {
        return None;
    }
    let likeness = |name: &String| strsim::jaro_winkler(name, key);
    known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
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
