//! The path of a field of an object: how it is printed, and how to find it in an object or in a set of owned fields.

use serde_json::{Map, Value};

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// The key of a map.
    Key(String),
    /// The item of a list whose `name` this is.
    Named(String),
}

/// The path of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(Vec<Step>);

// === impl Path ===

impl Path {
    /// Returns the path of these keys.
    pub(super) fn keys(keys: &[&str]) -> Path {
        Path(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
    }

    /// Returns the path with one more key.
    pub(super) fn key(&self, key: &str) -> Path {
        self.with(Step::Key(key.to_owned()))
    }

    /// Returns the path of an item of the list at this path.
    pub(super) fn item(&self, name: &str) -> Path {
        self.with(Step::Named(name.to_owned()))
    }

    fn with(&self, step: Step) -> Path {
        Path(self.0.iter().cloned().chain([step]).collect())
    }

    /// Returns the path of a JSON Pointer without list items, or `None` if it has one or is none.
    pub(super) fn of_pointer(pointer: &str) -> Option<Path> {
        let tokens = pointer.strip_prefix('/')?.split('/');
        let keys: Vec<Step> = tokens.map(|token| Step::Key(token.replace("~1", "/").replace("~0", "~"))).collect();
        let is_index = |step: &Step| matches!(step, Step::Key(key) if key == "-" || key.parse::<usize>().is_ok());
        (!keys.iter().any(is_index)).then_some(Path(keys))
    }

    /// Returns the value at this path, or `None` if the object does not have it.
    pub(super) fn value<'v>(&self, object: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(object, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Named(name) => value.as_array()?.iter().find(|item| item["name"] == **name),
        })
    }

    /// Whether a set of owned fields (`FieldsV1`) has this field, or the map or list that contains it as a whole.
    pub(super) fn is_owned(&self, fields: &Value) -> bool {
        let mut below = fields;
        for (depth, step) in self.0.iter().enumerate() {
            let Some(members) = below.as_object() else { return false };
            if members.is_empty() {
                // A leaf above the field: the whole list or map is one value.
                return depth > 0;
            }
            match member(members, step) {
                Some(found) => below = found,
                None => return false,
            }
        }
        true
    }

    /// Whether this path is at or below another one, regardless of which item of a list is meant.
    pub(super) fn is_covered_by(&self, keys: &[String]) -> bool {
        let own: Vec<&String> = self.0.iter().filter_map(Step::as_key).collect();
        own.len() >= keys.len() && own.iter().zip(keys).all(|(own, key)| *own == key)
    }

    /// Returns the JSON Pointer in this state of the object, with the indices of items of lists.
    pub(super) fn pointer(&self, object: &Value) -> Option<String> {
        let mut value = object;
        let mut pointer = String::new();
        for step in &self.0 {
            match step {
                Step::Key(key) => {
                    pointer.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1")));
                    value = value.get(key).unwrap_or(&Value::Null);
                }
                Step::Named(name) => {
                    let index = value.as_array()?.iter().position(|item| item["name"] == **name)?;
                    pointer.push_str(&format!("/{index}"));
                    value = &value[index];
                }
            }
        }
        Some(pointer)
    }
}

impl std::fmt::Display for Path {
    /// Formats the path in editwar's notation: `spec.replicas`, `metadata.labels['example.com/a']`, `webhooks[name=v]`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if is_plain(key) => write!(f, "{}{key}", if index == 0 { "" } else { "." })?,
                Step::Key(key) => write!(f, "['{}']", escaped(key))?,
                Step::Named(name) if name.is_empty() || name.contains([']', '[', ',', '=', '\'', '"', ' ']) => {
                    write!(f, "[name='{}']", escaped(name))?;
                }
                Step::Named(name) => write!(f, "[name={name}]")?,
            }
        }
        Ok(())
    }
}

// === impl Step ===

impl Step {
    fn as_key(&self) -> Option<&String> {
        match self {
            Step::Key(key) => Some(key),
            Step::Named(_) => None,
        }
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

/// Returns the member of a set of fields that a step names. The key of an item of a list is JSON: `k:{"name":"web"}`.
fn member<'f>(members: &'f Map<String, Value>, step: &Step) -> Option<&'f Value> {
    match step {
        Step::Key(key) => members.get(&format!("f:{key}")),
        Step::Named(name) => members.iter().find_map(|(key, below)| {
            let keys: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
            (keys["name"] == **name).then_some(below)
        }),
    }
}

/// Returns the keys that a jq path expression selects, without list items, filters and pipes: `.webhooks[]?.a."b"` is
/// `webhooks`, `a`, `b`. Returns `None` for other expressions.
pub(super) fn keys_of_jq(expression: &str) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    let mut rest = expression.trim();
    while !rest.is_empty() {
        if let Some(bracket) = rest.strip_prefix('[') {
            let end = bracket.find(']')?;
            let inner = bracket[..end].trim();
            if let Some(key) = inner.strip_prefix('"').and_then(|key| key.strip_suffix('"')) {
                keys.push(key.to_owned());
            }
            rest = &bracket[end + 1..];
        } else if let Some(quoted) = rest.strip_prefix(".\"") {
            let end = quoted.find('"')?;
            keys.push(quoted[..end].to_owned());
            rest = &quoted[end + 1..];
        } else if let Some(filter) = rest.strip_prefix("select(") {
            rest = &filter[closing(filter)? + 1..];
        } else if let Some(plain) = rest.strip_prefix('.') {
            let end = plain.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(plain.len());
            if end > 0 {
                keys.push(plain[..end].to_owned());
            }
            rest = &plain[end..];
        } else {
            rest = rest.strip_prefix(['|', '?', ' '])?;
        }
    }
    Some(keys)
}

/// Returns the position of the parenthesis that closes one that was opened before the text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_finds_its_field_in_objects_and_in_sets_of_owned_fields() {
        let bundle = Path::keys(&["webhooks"]).item("v").key("clientConfig").key("caBundle");
        assert_eq!(bundle.to_string(), "webhooks[name=v].clientConfig.caBundle");
        let object = json!({"webhooks": [{"name": "a"}, {"name": "v", "clientConfig": {"caBundle": "Cg=="}}]});
        assert_eq!(bundle.value(&object), Some(&json!("Cg==")));
        assert_eq!(bundle.pointer(&object).unwrap(), "/webhooks/1/clientConfig/caBundle");
        let owned = json!({"f:webhooks": {"k:{\"name\":\"v\"}": {".": {}, "f:clientConfig": {"f:caBundle": {}}}}});
        assert!(bundle.is_owned(&owned));
        assert!(
            !bundle.is_owned(&json!({"f:webhooks": {"k:{\"name\":\"a\"}": {"f:clientConfig": {"f:caBundle": {}}}}}))
        );
        // A list without keys is one value.
        assert!(bundle.is_owned(&json!({"f:webhooks": {}})) && !bundle.is_owned(&json!({})));
        let label = Path::keys(&["metadata", "labels", "example.com/it's"]);
        assert_eq!(label.to_string(), r"metadata.labels['example.com/it\'s']");
    }

    #[test]
    fn notations_of_tools_are_read() {
        let keys = |expression| keys_of_jq(expression).unwrap();
        assert_eq!(keys(".spec.replicas"), ["spec", "replicas"]);
        assert_eq!(keys(".webhooks[]?.clientConfig.caBundle"), ["webhooks", "clientConfig", "caBundle"]);
        assert_eq!(keys(r#".spec[] | select(.name == "a") | .image"#), ["spec", "image"]);
        assert_eq!(keys(r#".metadata.annotations."a/b""#), ["metadata", "annotations", "a/b"]);
        assert_eq!(keys(r#".metadata.annotations["a/b"]"#), ["metadata", "annotations", "a/b"]);
        assert_eq!(keys_of_jq("del(.a)"), None);
        let path = Path::of_pointer("/metadata/labels/a~1b").unwrap();
        assert_eq!(path, Path::keys(&["metadata", "labels", "a/b"]));
        assert!(path.is_covered_by(&["metadata".into()]) && !path.is_covered_by(&["spec".into()]));
        assert_eq!(Path::of_pointer("/webhooks/0/name"), None);
    }
}
