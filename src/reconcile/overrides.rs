//! Annotations with which people deviate from the Golden State on an object: `patch`, `ignore`, `ignore-fields`. Pure.
//!
//! A patch that is not allowed or does not apply is dropped as a whole and reported; the Golden State then applies
//! without it.

use serde_json::Value;

use crate::detect::annotations::{UNPATCHED_KINDS, UNPATCHED_PATHS};

/// Maximum size of an annotation in bytes. The API server limits all annotations of an object to 256 KiB in total.
const BYTES_MAX: usize = 256 << 10;

/// The override annotations of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides<'a> {
    /// An RFC 6902 array, or an object for a merge patch.
    pub patch: Option<&'a str>,
    /// Comma-separated dotted paths.
    pub ignore: Option<&'a str>,
    /// Comma-separated JSON Pointers.
    pub ignore_fields: Option<&'a str>,
}

/// An override that was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The patch, and the reason.
    #[error("ignoring the patch annotation: {0}")]
    Patch(String),
    /// A path to ignore, and the reason.
    #[error("cannot ignore the field `{0}`: {1}")]
    Ignore(String, &'static str),
}

// === impl Overrides ===

impl<'a> Overrides<'a> {
    /// Reads the annotations of a live object.
    pub fn of(live: &'a Value) -> Overrides<'a> {
        let annotation = |key: &str| {
            let value = live.get("metadata")?.get("annotations")?.get(format!("platform.kubevirt.io/{key}"))?;
            value.as_str().filter(|text| !text.is_empty())
        };
        Overrides {
            patch: annotation("patch"),
            ignore: annotation("ignore"),
            ignore_fields: annotation("ignore-fields"),
        }
    }

    /// Applies the overrides to the Golden State. Returns those that were rejected.
    pub fn apply(&self, desired: &mut Value, live: &Value) -> Vec<Invalid> {
        let mut invalid = Vec::new();
        if let Some(text) = self.patch {
            match patched(desired, text) {
                Ok(patched) => *desired = patched,
                Err(why) => invalid.push(Invalid::Patch(why)),
            }
        }
        let dotted = self.ignore.into_iter().flat_map(split).map(|path| (path, dotted(path)));
        let pointers = self.ignore_fields.into_iter().flat_map(split).map(|path| (path, pointer(path)));
        for (path, parts) in dotted.chain(pointers) {
            match parts.and_then(|parts| ignore(desired, live, &parts)) {
                Ok(()) => {}
                Err(why) => invalid.push(Invalid::Ignore(path.to_owned(), why)),
            }
        }
        invalid
    }
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    let text = if text.len() > BYTES_MAX { "" } else { text };
    text.split(',').map(str::trim).filter(|path| !path.is_empty())
}

/// Returns the Golden State with a patch applied, or the reason why the patch is rejected.
fn patched(desired: &Value, text: &str) -> Result<Value, String> {
    let kind = desired["kind"].as_str().unwrap_or_default();
    if UNPATCHED_KINDS.contains(&kind) {
        return Err(format!("a {kind} cannot be patched by an annotation"));
    }
    if text.len() > BYTES_MAX {
        return Err(format!("longer than {BYTES_MAX} bytes"));
    }
    let patch: Value = serde_json::from_str(text).map_err(|e| format!("not valid JSON: {e}"))?;
    let mut patched = desired.clone();
    match &patch {
        Value::Object(_) => json_patch::merge(&mut patched, &patch),
        Value::Array(operations) => {
            for key in operations.iter().flat_map(|o| [o.get("path"), o.get("from")]).flatten() {
                let path = key.as_str().unwrap_or_default();
                if is_unpatched(path) {
                    return Err(format!("`{path}` cannot be patched"));
                }
            }
            let operations: json_patch::Patch =
                serde_json::from_value(patch.clone()).map_err(|e| format!("not a valid JSON Patch: {e}"))?;
            json_patch::patch(&mut patched, &operations).map_err(|e| format!("cannot apply the patch: {e}"))?;
        }
        _ => return Err("expected a JSON Patch (an array of operations, RFC 6902) or an object to merge".into()),
    }
    // Checks the result too, since a merge patch has no list of paths: the identity of the object must not change.
    match UNPATCHED_PATHS.iter().find(|path| patched.pointer(path) != desired.pointer(path)) {
        Some(path) => Err(format!("`{path}` cannot be patched")),
        None => Ok(patched),
    }
}

/// Returns whether a path is protected from patches, is below a protected one, or contains one.
fn is_unpatched(path: &str) -> bool {
    let is_below = |path: &str, top: &str| path.strip_prefix(top).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    UNPATCHED_PATHS.iter().any(|top| is_below(path, top) || is_below(top, path))
}

/// Parses a path like `spec.template.metadata.annotations['a.b/c']`.
fn dotted(path: &str) -> Result<Vec<String>, &'static str> {
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (part, behind) = match rest.strip_prefix("['") {
            Some(quoted) => quoted.split_once("']").ok_or("a bracket is not closed: expected ['KEY']")?,
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        if part.is_empty() {
            return Err("a part of the path is empty");
        }
        parts.push(part.to_owned());
        rest = match behind.strip_prefix('.') {
            Some("") => return Err("a part of the path is empty"),
            Some(next) => next,
            None if behind.is_empty() || behind.starts_with("['") => behind,
            None => return Err("use a JSON Pointer in ignore-fields for items of lists"),
        };
    }
    Ok(parts)
}

/// Parses a path like `/spec/template/spec/containers/0/image`.
fn pointer(path: &str) -> Result<Vec<String>, &'static str> {
    let rest = path.strip_prefix('/').ok_or("a JSON Pointer must start with /")?;
    Ok(rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
}

/// Sets a field to its value in the live object, or removes it if it does not exist there.
fn ignore(desired: &mut Value, live: &Value, parts: &[String]) -> Result<(), &'static str> {
    let top = parts.first().map(String::as_str).ok_or("it stands for the whole object")?;
    if matches!(top, "apiVersion" | "kind" | "status") || (top == "metadata" && parts.len() == 1) {
        return Err("it identifies the object");
    }
    if top == "metadata" && matches!(parts[1].as_str(), "name" | "namespace" | "managedFields") {
        return Err("it identifies the object");
    }
    let lived = parts.iter().try_fold(live, |node, part| child(node, part));
    let (last, parents) = parts.split_last().ok_or("it stands for the whole object")?;
    let mut node = desired;
    for part in parents {
        node = match node {
            Value::Object(map) => {
                if !map.contains_key(part) && lived.is_none() {
                    return Ok(());
                }
                map.entry(part.as_str()).or_insert_with(|| Value::Object(serde_json::Map::new()))
            }
            Value::Array(items) => {
                let item = part.parse::<usize>().ok().and_then(|index| items.get_mut(index));
                item.ok_or("the Golden State does not contain this item")?
            }
            _ => return Err("the Golden State contains nothing below this path"),
        };
    }
    match (node, lived) {
        (Value::Object(map), Some(lived)) => drop(map.insert(last.clone(), lived.clone())),
        (Value::Object(map), None) => drop(map.remove(last)),
        (Value::Array(items), lived) => {
            let index = last.parse::<usize>().ok().filter(|i| *i < items.len());
            let index = index.ok_or("the Golden State does not contain this item")?;
            match lived {
                Some(lived) => items[index] = lived.clone(),
                None => drop(items.remove(index)),
            }
        }
        _ => return Err("the Golden State contains nothing below this path"),
    }
    Ok(())
}

fn child<'v>(node: &'v Value, part: &str) -> Option<&'v Value> {
    match node {
        Value::Object(map) => map.get(part),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn desired() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"replicas": 3, "items": [{"a": 1}, {"a": 2}], "template": {"annotations": {}}}})
    }

    fn with(overrides: Overrides<'_>, live: &Value) -> (Value, Vec<String>) {
        let mut object = desired();
        let invalid = overrides.apply(&mut object, live);
        (object, invalid.iter().map(ToString::to_string).collect())
    }

    fn patch(text: &str) -> (Value, Vec<String>) {
        with(Overrides { patch: Some(text), ..Overrides::default() }, &desired())
    }

    #[test]
    fn json_patches_and_merge_patches_are_applied() {
        for text in [r#"[{"op":"replace","path":"/spec/replicas","value":5}]"#, r#"{"spec":{"replicas":5}}"#] {
            let (object, invalid) = patch(text);
            assert_eq!((object["spec"]["replicas"].as_i64(), invalid.len()), (Some(5), 0), "{text}");
            assert_eq!(object["spec"]["items"], desired()["spec"]["items"]);
        }
    }

    #[test]
    fn invalid_patches_and_patches_of_identity_or_status_are_rejected() {
        for text in [
            r#"[{"op":"replace","path":"","value":{}}]"#,
            r#"[{"op":"replace","path":"/metadata","value":{"name":"x"}}]"#,
            r#"[{"op":"add","path":"/metadata/name","value":"x"}]"#,
            r#"[{"op":"add","path":"/metadata/managedFields/0","value":"x"}]"#,
            r#"[{"op":"remove","path":"/kind"}]"#,
            r#"[{"op":"move","from":"/metadata/namespace","path":"/metadata/labels"}]"#,
            r#"[{"op":"copy","from":"/spec","path":"/status"}]"#,
            r#"[{"op":"replace","path":"/spec/replicas","value":9},{"op":"replace","path":"/apiVersion","value":"v2"}]"#,
            r#"{"metadata":null}"#,
            r#"{"metadata":{"name":"x"},"spec":{"replicas":9}}"#,
            r#"{"kind":"Secret"}"#,
            r#"{"status":{"x":1}}"#,
            r#"[{"op":"test","path":"/spec/replicas","value":4}]"#,
            r#"[{"op":"replace","path":"/spec/none/below","value":1}]"#,
            r#"[{"op":"explode","path":"/spec"}]"#,
            "5",
            "{",
        ] {
            let (object, invalid) = patch(text);
            assert_eq!(object, desired(), "{text}: the Golden State holds as a whole");
            assert_eq!(invalid.len(), 1, "{text}");
        }
    }

    #[test]
    fn security_relevant_kinds_cannot_be_patched() {
        for kind in UNPATCHED_KINDS {
            let mut object = desired();
            object["kind"] = json!(kind);
            let before = object.clone();
            let overrides = Overrides { patch: Some(r#"{"spec":{"replicas":5}}"#), ..Overrides::default() };
            assert_eq!(overrides.apply(&mut object, &before).len(), 1, "{kind}");
            assert_eq!(object, before, "{kind}");
        }
    }

    #[test]
    fn ignored_fields_keep_their_live_values() {
        let live = json!({"spec": {"replicas": 7, "items": [{"a": 1}, {"a": 9}], "template": {"annotations": {"a.b/c": "x"}}}});
        let ignore = |text: &str| with(Overrides { ignore: Some(text), ..Overrides::default() }, &live);
        let fields = |text: &str| with(Overrides { ignore_fields: Some(text), ..Overrides::default() }, &live);
        let (object, invalid) = ignore("spec.replicas, spec.template.annotations['a.b/c'],spec.none");
        assert_eq!(object["spec"]["replicas"], 7);
        assert_eq!(object["spec"]["template"]["annotations"], json!({"a.b/c": "x"}));
        assert!(invalid.is_empty(), "{invalid:?}");
        let (object, invalid) = fields("/spec/items/1/a,/spec/template/annotations/a.b~1c");
        assert_eq!((&object["spec"]["items"][1]["a"], invalid.len()), (&json!(9), 0));
        assert_eq!(object["spec"]["template"]["annotations"], json!({"a.b/c": "x"}));
        // A field that is absent in the live object is also removed from the desired state.
        let bare = json!({"spec": {}});
        let (object, _) = with(Overrides { ignore: Some("spec.replicas"), ..Overrides::default() }, &bare);
        assert_eq!(object["spec"].get("replicas"), None);
    }

    #[test]
    fn invalid_paths_to_ignore_are_reported_and_the_others_applied() {
        let live = json!({"spec": {"replicas": 7}, "metadata": {"name": "evil"}});
        let overrides = Overrides {
            ignore: Some("spec..x,spec.replicas,spec.items[0],metadata.name,kind,spec.['x"),
            ignore_fields: Some("spec/replicas,/,/metadata,/spec/items/9/a,/spec/replicas/below"),
            ..Overrides::default()
        };
        let (object, invalid) = with(overrides, &live);
        assert_eq!(object["spec"]["replicas"], 7);
        assert_eq!(object["metadata"], desired()["metadata"]);
        assert_eq!(invalid.len(), 9, "{invalid:#?}");
    }
}
