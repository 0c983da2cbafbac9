//! Policies of Kyverno that change objects: which objects, and which fields to which values.
//!
//! Source: Kyverno (`docs/writing-policies/mutate`, `match-exclude`). A condition that cannot be decided here, such as one
//! on the user, is taken not to match.

use serde_json::Value;

use crate::check::field::Path;
use crate::check::finding::ObjectId;
use crate::check::snapshot::{Object, Snapshot, group_of};
use crate::util::glob::is_match;

/// A rule of a policy that changes objects.
pub(super) struct Mutation<'s> {
    /// The policy.
    pub policy: &'s ObjectId,
    /// The name of the rule.
    pub rule: &'s str,
    /// Whether it changes existing objects, by itself, rather than requests.
    pub is_background: bool,
    /// Whether it has conditions that are not evaluated here.
    pub is_conditional: bool,
    body: &'s Value,
}

/// A field that a rule sets.
pub(super) struct Setting {
    /// The field.
    pub path: Path,
    /// Its value; `None` if it is computed.
    pub value: Option<Value>,
}

/// Returns the rules that change objects.
pub(super) fn mutations(snapshot: &Snapshot) -> Vec<Mutation<'_>> {
    let policies = snapshot.of_kind("kyverno.io", "ClusterPolicy").chain(snapshot.of_kind("kyverno.io", "Policy"));
    policies
        .flat_map(|policy| {
            let body = policy.wanted();
            // Kyverno derives rules for Deployments and the like from rules for Pods.
            let lists = [&body["spec"]["rules"], &policy.status()["autogen"]["rules"]];
            let rules = lists.into_iter().filter_map(Value::as_array).flatten();
            rules.filter(|rule| rule["mutate"].is_object()).map(|rule| Mutation {
                policy: &policy.id,
                rule: rule["name"].as_str().unwrap_or_default(),
                is_background: rule["mutate"]["targets"].is_array(),
                is_conditional: !rule["preconditions"].is_null(),
                body: rule,
            })
        })
        .collect()
}

// === impl Mutation ===

impl Mutation<'_> {
    /// Whether the rule changes an object.
    pub(super) fn selects(&self, object: &Object) -> bool {
        if self.policy.kind == "Policy" && self.policy.namespace != object.id.namespace {
            return false;
        }
        if self.is_background {
            let targets = self.body["mutate"]["targets"].as_array().into_iter().flatten();
            return targets.into_iter().any(|target| is_target(target, &object.id));
        }
        let is_excluded = filters(&self.body["exclude"]).any(|filter| is_selected(filter, object).unwrap_or(true));
        let all = self.body["match"]["all"].as_array();
        let is_matched = match all {
            Some(all) => !all.is_empty() && all.iter().all(|filter| is_selected(filter, object) == Some(true)),
            None => filters(&self.body["match"]).any(|filter| is_selected(filter, object) == Some(true)),
        };
        is_matched && !is_excluded
    }

    /// Returns the fields of an object that the rule sets.
    pub(super) fn settings(&self, object: &Object) -> Vec<Setting> {
        let mutate = &self.body["mutate"];
        let mut found = Vec::new();
        merge(&mutate["patchStrategicMerge"], object.wanted(), &Path::default(), &mut found);
        if is_conditional(&mutate["patchStrategicMerge"]) {
            // It is not evaluated whether the conditions hold.
            found.iter_mut().for_each(|setting| setting.value = None);
        }
        found.extend(json_patch(&mutate["patchesJson6902"]));
        found
    }
}

/// Returns the filters of a `match` or `exclude` block: `any`, `all`, or the block itself, which is older.
fn filters(block: &Value) -> impl Iterator<Item = &Value> {
    let lists = [&block["any"], &block["all"]];
    let own = block["resources"].is_object().then_some(block);
    lists.into_iter().filter_map(Value::as_array).flatten().chain(own)
}

/// Whether a filter selects an object. `None` if that depends on something that is not known here.
fn is_selected(filter: &Value, object: &Object) -> Option<bool> {
    let resources = &filter["resources"];
    let id = &object.id;
    let texts = |key: &str| resources[key].as_array().map(|list| list.iter().filter_map(Value::as_str));
    let is_kind = texts("kinds").is_none_or(|mut kinds| kinds.any(|kind| is_kind(kind, id)));
    let is_in = texts("namespaces").is_none_or(|mut names| names.any(|name| is_match(name, &id.namespace)));
    let mut names: Vec<&str> = texts("names").into_iter().flatten().collect();
    names.extend(resources["name"].as_str());
    let is_named = names.is_empty() || names.iter().any(|name| is_match(name, &id.name));
    let is_written = texts("operations").is_none_or(|mut all| all.any(|name| matches!(name, "CREATE" | "UPDATE")));
    let labels = resources["selector"]["matchLabels"].as_object().into_iter().flatten();
    let is_labelled = labels.into_iter().all(|(key, value)| {
        object.label(key).is_some_and(|label| value.as_str().is_some_and(|pattern| is_match(pattern, label)))
    });
    let annotations = resources["annotations"].as_object().into_iter().flatten();
    let is_annotated = annotations.into_iter().all(|(key, value)| {
        object.annotation(key).is_some_and(|text| value.as_str().is_some_and(|pattern| is_match(pattern, text)))
    });
    if !(is_kind && is_in && is_named && is_written && is_labelled && is_annotated) {
        return Some(false);
    }
    let is_open = ["subjects", "roles", "clusterRoles"].iter().any(|key| !filter[*key].is_null())
        || !resources["namespaceSelector"].is_null()
        || !resources["selector"]["matchExpressions"].is_null();
    (!is_open).then_some(true)
}

/// Whether a kind in Kyverno's notation is that of an object: `Deployment`, `apps/v1/Deployment`, `*/Deployment`, `*`.
fn is_kind(pattern: &str, id: &ObjectId) -> bool {
    let mut parts = pattern.rsplit('/');
    let kind = parts.next().unwrap_or_default();
    let group = parts.nth(1);
    is_match(kind, &id.kind) && group.is_none_or(|group| is_match(group, &id.group))
}

/// Whether an object is a target of a rule for existing objects. A name that is computed may be any.
fn is_target(target: &Value, id: &ObjectId) -> bool {
    let is = |key: &str, text: &str| match target[key].as_str() {
        Some(pattern) => pattern.contains("{{") || is_match(pattern, text),
        None => true,
    };
    let group = target["apiVersion"].as_str().map(group_of);
    let is_group = group.is_none_or(|group| group.contains('*') || group == id.group);
    is_group && is("kind", &id.kind) && is("namespace", &id.namespace) && is("name", &id.name)
}

/// Whether a strategic merge patch has anchors that are conditions. Those that add what is missing, and the names of items of
/// lists, are none.
fn is_conditional(patch: &Value) -> bool {
    let is_condition = |key: &String| key.contains('(') && !key.starts_with("+(") && key != "(name)";
    match patch {
        Value::Object(members) => members.iter().any(|(key, below)| is_condition(key) || is_conditional(below)),
        Value::Array(items) => items.iter().any(is_conditional),
        _ => false,
    }
}

/// Collects what a strategic merge patch sets. Members with anchors are left out; conditions are not evaluated.
fn merge(patch: &Value, object: &Value, path: &Path, found: &mut Vec<Setting>) {
    match patch {
        Value::Object(members) => {
            for (key, below) in members {
                if !key.contains('(') {
                    merge(below, object, &path.key(key), found);
                }
            }
        }
        Value::Array(items) if items.iter().all(Value::is_object) => {
            for item in items {
                let pattern = item.get("(name)").or_else(|| item.get("name")).and_then(Value::as_str);
                let live = path.value(object).and_then(Value::as_array).into_iter().flatten();
                for name in live.filter_map(|item| item["name"].as_str()) {
                    if pattern.is_some_and(|pattern| is_match(pattern, name)) {
                        let mut item = item.clone();
                        if let Some(members) = item.as_object_mut() {
                            members.remove("name");
                        }
                        merge(&item, object, &path.item(name), found);
                    }
                }
            }
        }
        // A null removes the field.
        Value::Null => {}
        value => found.push(Setting { path: path.clone(), value: constant(value) }),
    }
}

/// Returns a value, unless it is computed.
fn constant(value: &Value) -> Option<Value> {
    let is_computed = value.as_str().is_some_and(|text| text.contains("{{"));
    (!is_computed).then(|| value.clone())
}

/// Returns what a JSON Patch sets, without items of lists.
fn json_patch(patch: &Value) -> Vec<Setting> {
    let operations: Option<Value> = patch.as_str().and_then(|text| serde_yaml_ng::from_str(text).ok());
    let operations = operations.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
    let of = |operation: &Value| {
        let is_set = matches!(operation["op"].as_str(), Some("add" | "replace"));
        let path = Path::of_pointer(operation["path"].as_str()?).filter(|_| is_set)?;
        let value = operation.get("value").filter(|value| !value.is_object() && !value.is_array())?;
        Some(Setting { path, value: constant(value) })
    };
    operations.iter().filter_map(of).collect()
}
