//! Computes drift: compares an object with the result of a dry-run apply. Pure.

use serde_json::Value;

/// Metadata that the API server sets, which is not compared.
const SERVER_SET: &[&str] = &["managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"];
/// Maximum number of fields in an Event or a log line.
const NAMED_MAX: usize = 5;

/// Returns the JSON Pointers at which a live object differs from the dry-run of applying the desired one. Empty means
/// no drift.
pub(crate) fn between(live: &Value, dry_run: &Value) -> Vec<String> {
    let patch = json_patch::diff(&comparable(live), &comparable(dry_run));
    patch.0.iter().map(|operation| operation.path().to_string()).collect()
}

/// Formats paths for messages, up to a maximum number.
pub(crate) fn named(paths: &[String]) -> String {
    let more = paths.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", paths.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", "))
}

fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            SERVER_SET.iter().for_each(|key| drop(metadata.remove(*key)));
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_set_by_the_server_are_not_drift() {
        let live = json!({"metadata": {"name": "a", "resourceVersion": "1", "generation": 1, "managedFields": []}, "spec": {"x": 1}, "status": {"y": 1}});
        let same = json!({"metadata": {"name": "a", "resourceVersion": "2", "generation": 2, "managedFields": [{}]}, "spec": {"x": 1}, "status": {"y": 2}});
        assert!(between(&live, &same).is_empty());
        let other = json!({"metadata": {"name": "a", "labels": {"l": "1"}}, "spec": {"x": 2}});
        let paths = between(&live, &other);
        assert_eq!(paths, ["/metadata/labels", "/spec/x"]);
        assert_eq!(named(&paths), "/metadata/labels, /spec/x");
    }
}
