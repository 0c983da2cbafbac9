//! Field paths as in reports, and request bodies that change such fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    /// An item of a list, identified by its merge keys.
    Item(Vec<(String, String)>),
    /// A member of a set of strings.
    Member(String),
}

/// A change of one field: its path, and its new value or `None` to remove it.
pub(crate) type Change = (String, Option<Value>);

fn steps(path: &str) -> Vec<Step> {
    let mut found = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("['") {
            let (key, behind) = quoted.split_once("']").expect("a closed key");
            found.push(Step::Key(key.into()));
            rest = behind;
        } else if let Some(inner) = rest.strip_prefix('[') {
            let (selector, behind) = inner.split_once(']').expect("a closed selector");
            found.push(if selector.contains('=') {
                Step::Item(
                    selector
                        .split(',')
                        .map(|pair| pair.split_once('=').expect("key=value"))
                        .map(|(key, value)| (key.into(), value.into()))
                        .collect(),
                )
            } else {
                Step::Member(selector.into())
            });
            rest = behind;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            found.push(Step::Key(rest[..end].into()));
            rest = &rest[end..];
        }
    }
    found
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

fn is_item(item: &Value, keys: &[(String, String)]) -> bool {
    keys.iter().all(|(key, wanted)| match item.get(key) {
        Some(found) => text(found) == *wanted,
        None => key == "protocol" && wanted == "TCP",
    })
}

fn new_item(keys: &[(String, String)]) -> Value {
    let value = |key: &str, text: &str| match text.parse::<i64>() {
        Ok(number) if key.ends_with("ort") => number.into(),
        _ => Value::from(text),
    };
    Value::Object(keys.iter().map(|(key, text)| (key.clone(), value(key, text))).collect())
}

fn position(list: &Value, step: &Step) -> Option<usize> {
    let items = list.as_array()?;
    match step {
        Step::Item(keys) => items.iter().position(|item| is_item(item, keys)),
        Step::Member(member) => items.iter().position(|item| item == member.as_str()),
        Step::Key(_) => None,
    }
}

fn find<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(value, |at, step| match step {
        Step::Key(key) => at.get(key),
        _ => at.get(position(at, step)?),
    })
}

pub(crate) fn get<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    find(value, &steps(path))
}

fn put(value: &mut Value, path: &[Step], wanted: Value) {
    let Some((step, rest)) = path.split_first() else {
        *value = wanted;
        return;
    };
    if let Step::Key(key) = step {
        if !value.is_object() {
            *value = json!({});
        }
        return put(&mut value[key], rest, wanted);
    }
    if !value.is_array() {
        *value = json!([]);
    }
    let at = position(value, step);
    let items = value.as_array_mut().expect("a list");
    let at = at.unwrap_or_else(|| {
        items.push(match step {
            Step::Item(keys) => new_item(keys),
            _ => Value::Null,
        });
        items.len() - 1
    });
    match step {
        Step::Item(keys) if rest.is_empty() => {
            items[at] = wanted;
            for (key, value) in new_item(keys).as_object().into_iter().flatten() {
                items[at][key] = value.clone();
            }
        }
        Step::Member(member) => items[at] = member.as_str().into(),
        _ => put(&mut items[at], rest, wanted),
    }
}

/// Removes a field, and maps and lists that become empty.
fn remove(value: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else { return };
    match step {
        Step::Key(key) => {
            let Some(map) = value.as_object_mut() else { return };
            let is_gone = rest.is_empty()
                || map.get_mut(key).is_some_and(|below| {
                    remove(below, rest);
                    is_empty(below)
                });
            if is_gone {
                map.remove(key);
            }
        }
        _ => {
            let Some(at) = position(value, step) else { return };
            let items = value.as_array_mut().expect("a list");
            if rest.is_empty() { drop(items.remove(at)) } else { remove(&mut items[at], rest) }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

pub(crate) fn set(value: &mut Value, path: &str, wanted: Option<Value>) {
    let path = steps(path);
    match wanted {
        Some(wanted) => put(value, &path, wanted),
        None => remove(value, &path),
    }
}

/// Returns the body with all changes applied.
pub(crate) fn changed(body: &Value, changes: &[Change]) -> Value {
    let mut after = body.clone();
    changes.iter().for_each(|(path, wanted)| set(&mut after, path, wanted.clone()));
    after
}

// === Request bodies ===

/// Returns a merge patch. Lists are sent as a whole.
pub(crate) fn merge_patch(stored: &Value, changes: &[Change]) -> Value {
    let after = changed(stored, changes);
    let mut patch = json!({});
    for (path, _) in changes {
        let path = steps(path);
        let whole = path.iter().position(|step| !matches!(step, Step::Key(_))).unwrap_or(path.len());
        let value = find(&after, &path[..whole]).cloned().unwrap_or(Value::Null);
        put(&mut patch, &path[..whole], value);
    }
    patch
}

/// Returns a strategic merge patch. List items are identified by name.
pub(crate) fn strategic_patch(changes: &[Change]) -> Value {
    let mut patch = json!({});
    for (path, wanted) in changes {
        let path = steps(path);
        match (wanted, path.last()) {
            (Some(wanted), _) => put(&mut patch, &path, wanted.clone()),
            (None, Some(Step::Item(_))) => put(&mut patch, &path, json!({"$patch": "delete"})),
            (None, Some(Step::Member(member))) => {
                let Some(Step::Key(list)) = path.get(path.len() - 2) else { panic!("a set has a name") };
                let mut above = path[..path.len() - 2].to_vec();
                above.push(Step::Key(format!("$deleteFromPrimitiveList/{list}")));
                put(&mut patch, &above, json!([member]));
            }
            (None, _) => put(&mut patch, &path, Value::Null),
        }
    }
    patch
}

fn pointer(stored: &Value, path: &[Step]) -> String {
    let mut at = Some(stored);
    let mut pointer = String::new();
    for step in path {
        let part = match step {
            Step::Key(key) => key.replace('~', "~0").replace('/', "~1"),
            _ => at.and_then(|list| position(list, step)).map_or("-".into(), |index| index.to_string()),
        };
        at = at.and_then(|at| find(at, std::slice::from_ref(step)));
        pointer.push('/');
        pointer.push_str(&part);
    }
    pointer
}

/// Returns JSON Patch operations. List items are identified by index.
pub(crate) fn json_operations(stored: &Value, changes: &[Change]) -> Value {
    let mut now = stored.clone();
    let mut operations = Vec::new();
    for (path, wanted) in changes {
        let path = steps(path);
        // Missing parents of the field are added with it.
        let known = (0..path.len()).rev().find(|n| find(&now, &path[..*n]).is_some()).unwrap_or(0) + 1;
        let is_there = find(&now, &path).is_some();
        match wanted {
            Some(wanted) => {
                let place = pointer(&now, &path[..known]);
                put(&mut now, &path, wanted.clone());
                let value = find(&now, &path[..known]).cloned().expect("just put");
                let operation = if is_there { "replace" } else { "add" };
                operations.push(json!({"op": operation, "path": place, "value": value}));
            }
            None if is_there => {
                operations.push(json!({"op": "remove", "path": pointer(&now, &path)}));
                remove(&mut now, &path);
            }
            None => {}
        }
    }
    Value::Array(operations)
}

// === Merging, as in the API server ===

/// Returns the merge keys of a list with this name.
fn merge_keys(list: &str, first: &Value) -> &'static [&'static str] {
    match list {
        "volumeMounts" => &["mountPath"],
        "ports" if first.get("containerPort").is_some() => &["containerPort", "protocol"],
        "ports" => &["port", "protocol"],
        "conditions" | "addresses" => &["type"],
        "ownerReferences" => &["uid"],
        "taints" => &["key", "effect"],
        "tolerations" | "rules" | "subjects" | "endpoints" | "subsets" => &[],
        _ => &["name"],
    }
}

fn item_keys(list: &str, item: &Value) -> Option<Vec<(String, String)>> {
    let keys = merge_keys(list, item);
    let of = |key: &&str| match item.get(*key) {
        Some(value) => Some(((*key).to_owned(), text(value))),
        None => (*key == "protocol").then(|| ("protocol".into(), "TCP".into())),
    };
    (!keys.is_empty() && item.is_object()).then(|| keys.iter().map(of).collect()).flatten()
}

/// Merges a partial object like a strategic merge patch or server-side apply: lists by their keys, sets by their
/// members.
pub(crate) fn merge_by_key(name: &str, into: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => {
            if !into.is_object() {
                *into = json!({});
            }
            for (key, value) in fields {
                if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
                    let gone = value.as_array().expect("a list");
                    if let Some(items) = into[list].as_array_mut() {
                        items.retain(|item| !gone.contains(item));
                    }
                    if is_empty(&into[list]) {
                        into.as_object_mut().expect("a map").remove(list);
                    }
                } else if value.is_null() {
                    into.as_object_mut().expect("a map").remove(key);
                } else {
                    merge_by_key(key, &mut into[key], value);
                }
            }
        }
        Value::Array(items) if name == "finalizers" => {
            let set = into.as_array().cloned().unwrap_or_default();
            let new = items.iter().filter(|item| !set.contains(item)).cloned();
            *into = set.iter().cloned().chain(new).collect();
        }
        Value::Array(items) if items.iter().all(|item| item_keys(name, item).is_some()) && !items.is_empty() => {
            if !into.is_array() {
                *into = json!([]);
            }
            for item in items {
                let step = Step::Item(item_keys(name, item).expect("just looked"));
                let at = position(into, &step);
                let list = into.as_array_mut().expect("a list");
                match (at, item.get("$patch").is_some()) {
                    (Some(at), true) => drop(list.remove(at)),
                    (None, true) => {}
                    (Some(at), false) => merge_by_key("", &mut list[at], item),
                    (None, false) => list.push(item.clone()),
                }
            }
        }
        _ => *into = patch.clone(),
    }
}

/// Returns every field of a body by its path. List items are identified by their keys.
pub(crate) fn leaves(body: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    collect(String::new(), "", body, &mut found);
    found
}

fn collect(path: String, name: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let is_plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
                let below = if !is_plain {
                    format!("{path}['{key}']")
                } else if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect(below, key, value, found);
            }
        }
        Value::Array(items) if name == "finalizers" => {
            found.extend(items.iter().map(|item| (format!("{path}[{}]", text(item)), item.clone())));
        }
        Value::Array(items) if items.iter().all(|item| item_keys(name, item).is_some()) && !items.is_empty() => {
            for item in items {
                let keys = item_keys(name, item).expect("just looked");
                let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let below = format!("{path}[{}]", keys.join(","));
                match name {
                    "ownerReferences" => drop(found.insert(below, item.clone())),
                    _ => collect(below, "", item, found),
                }
            }
        }
        _ => drop(found.insert(path, value.clone())),
    }
}
