//! What an object would become by being applied, compared with what it is. Pure.

use serde_json::Value;

/// What the server sets, and nobody holds.
const SERVER_SET: &[&str] = &["managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"];
/// Fields that an Event or a log line names.
const NAMED_MAX: usize = 5;

/// The paths that differ between a live object and a dry-run of applying the wanted one; none is no drift.
pub fn between(live: &Value, dry_run: &Value) -> Vec<String> {
    let patch = json_patch::diff(&comparable(live), &comparable(dry_run));
    patch.0.iter().map(|operation| operation.path().to_string()).collect()
}

/// Paths, as many as are worth naming.
pub fn named(paths: &[String]) -> String {
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
    fn what_the_server_sets_is_no_drift() {
        let live = json!({"metadata": {"name": "a", "resourceVersion": "1", "generation": 1, "managedFields": []}, "spec": {"x": 1}, "status": {"y": 1}});
        let same = json!({"metadata": {"name": "a", "resourceVersion": "2", "generation": 2, "managedFields": [{}]}, "spec": {"x": 1}, "status": {"y": 2}});
        assert!(between(&live, &same).is_empty());
        let other = json!({"metadata": {"name": "a", "labels": {"l": "1"}}, "spec": {"x": 2}});
        let paths = between(&live, &other);
        assert_eq!(paths, ["/metadata/labels", "/spec/x"]);
        assert_eq!(named(&paths), "/metadata/labels, /spec/x");
    }
}
