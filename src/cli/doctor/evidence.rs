//! Names the evidence that a user has, and the next better kind. Without a server, it is what this account may read in the
//! cluster. Only reads, and asks the API server what the account may do.

use anyhow::{Context, Result};
use http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use super::apiserver::send;
use super::findings::Findings;
use crate::cli::evidence::{Reach, Rights, Standing};

/// Kinds that are often contested, and that show what an account may read: group, version, resource.
const KINDS: [(&str, &str, &str); 3] =
    [("apps", "v1", "deployments"), ("", "v1", "configmaps"), ("", "v1", "services")];
/// Objects that are searched for `managedFields`. An object that was created with nothing but a name may have none.
const OBJECTS_MAX: usize = 20;
/// Maximum number of resources that are named.
const NAMES_SHOWN: usize = 5;
/// Media type of a list of objects without specification and status.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// What an account may do in a namespace, as the API server lists it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rules {
    /// Null if there are none.
    resource_rules: Option<Vec<Rule>>,
    /// Whether the account may be allowed to do more: an authorizer such as a webhook cannot list rules.
    incomplete: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What an account may read, with names for people.
#[derive(Debug, Default, PartialEq, Eq)]
struct Readable {
    rights: Rights,
    /// The resources that it may list and watch.
    watched: Vec<String>,
}

/// Checks what this account may read, and reports the evidence that it can have without a server. `flags` choose the
/// cluster on the command line.
pub(super) async fn check_cluster(client: &kube::Client, namespace: &str, flags: &str, findings: &mut Findings) {
    let readable = match readable(client, namespace).await {
        Ok(readable) => readable,
        Err(error) => {
            let hint = "next: a watch, which needs permission to list and watch: editwar watch";
            return findings.unknown("evidence", format!("cannot tell what this account may read: {error:#}"), hint);
        }
    };
    let Readable { mut rights, watched } = readable;
    let place = match rights.watch {
        Reach::Namespace => format!("in namespace {namespace}"),
        Reach::Everywhere | Reach::Nowhere => "in all namespaces".to_owned(),
    };
    if rights.watch == Reach::Nowhere {
        let hint = "ask for the ClusterRole view, or see deploy/rbac/watch.yaml";
        findings.weak("read access", "this account may not list and watch objects".into(), hint);
    } else {
        findings.good("read access", format!("this account may list and watch {} {place}", named(&watched)));
    }
    rights.has_managed_fields = has_managed_fields(client, &rights, namespace).await;
    match rights.has_managed_fields {
        Some(true) => findings.good("managedFields", "objects say which manager owns which of their fields".into()),
        Some(false) => findings.weak(
            "managedFields",
            "objects do not say who owns their fields".into(),
            "use Kubernetes 1.18 or later, and check that no proxy removes them",
        ),
        None => {}
    }
    findings.evidence(Standing::of_rights(&rights, flags, namespace));
}

/// Returns the names of resources for a sentence.
fn named(resources: &[String]) -> String {
    let more = resources.len().saturating_sub(NAMES_SHOWN);
    let shown = resources[..resources.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more resources") } else { shown }
}

/// Asks what this account may read: first everywhere, then in the namespace.
async fn readable(client: &kube::Client, namespace: &str) -> Result<Readable> {
    let everywhere = |watched: Vec<String>| Readable {
        rights: Rights { read: Reach::Everywhere, watch: Reach::Everywhere, has_managed_fields: None },
        watched,
    };
    if may_watch(client, "*", "*", "").await? {
        return Ok(everywhere(vec!["every resource".to_owned()]));
    }
    let mut watched = Vec::new();
    for (group, _, resource) in KINDS {
        if may_watch(client, group, resource, "").await? {
            watched.push(name(group, resource));
        }
    }
    if !watched.is_empty() {
        return Ok(everywhere(watched));
    }
    let rules = rules(client, namespace).await?;
    let mut readable = rules.readable();
    if rules.incomplete && readable.rights.watch == Reach::Nowhere {
        for (group, _, resource) in KINDS {
            if may_watch(client, group, resource, namespace).await? {
                readable.rights = Rights { read: Reach::Namespace, watch: Reach::Namespace, has_managed_fields: None };
                readable.watched.push(name(group, resource));
            }
        }
    }
    Ok(readable)
}

/// Asks whether this account may list and watch a resource, in all namespaces if `namespace` is empty.
async fn may_watch(client: &kube::Client, group: &str, resource: &str, namespace: &str) -> Result<bool> {
    for verb in ["list", "watch"] {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource, "namespace": namespace}}});
        let answer = send(client, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await?;
        if !answer["status"]["allowed"].as_bool().context("the review contains no decision")? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn rules(client: &kube::Client, namespace: &str) -> Result<Rules> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace}});
    let mut answer = send(client, "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &review).await?;
    serde_json::from_value(answer["status"].take()).context("the list of permissions")
}

/// Whether objects have `managedFields`. `None` if that is not known, for example because there are no objects.
async fn has_managed_fields(client: &kube::Client, rights: &Rights, namespace: &str) -> Option<bool> {
    let within = match rights.read {
        Reach::Everywhere => String::new(),
        Reach::Namespace => format!("/namespaces/{namespace}"),
        Reach::Nowhere => return None,
    };
    let mut found = None;
    for (group, version, resource) in KINDS {
        let api = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let request = Request::get(format!("{api}{within}/{resource}?limit={OBJECTS_MAX}")).header("accept", METADATA);
        // A kind that may not be listed does not tell anything.
        let Ok(list) = client.request::<Value>(request.body(Vec::new()).expect("a path")).await else { continue };
        let has_fields =
            |object: &Value| object["metadata"]["managedFields"].as_array().is_some_and(|entries| !entries.is_empty());
        let objects = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        if objects.iter().any(has_fields) {
            return Some(true);
        }
        if !objects.is_empty() {
            found = Some(false);
        }
    }
    found
}

fn name(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

// === impl Rules ===

impl Rules {
    /// Returns what may be read in the namespace. Rules for single objects are left out.
    fn readable(&self) -> Readable {
        let rules = || self.resource_rules.iter().flatten().filter(|rule| rule.resource_names.is_empty());
        let may = |verb: &str, group: &str, resource: &str| rules().any(|rule| rule.allows(verb, group, resource));
        let mut readable = Readable::default();
        for rule in rules() {
            let pairs = rule.api_groups.iter().flat_map(|group| rule.resources.iter().map(move |found| (group, found)));
            // Subresources cannot be watched.
            for (group, resource) in pairs.filter(|(_, resource)| !resource.contains('/')) {
                if may("list", group, resource) && may("watch", group, resource) {
                    readable.watched.push(name(group, resource));
                }
                if may("get", group, resource) || may("list", group, resource) {
                    readable.rights.read = Reach::Namespace;
                }
            }
        }
        readable.watched.sort();
        readable.watched.dedup();
        if !readable.watched.is_empty() {
            readable.rights.watch = Reach::Namespace;
        }
        readable
    }
}

// === impl Rule ===

impl Rule {
    fn allows(&self, verb: &str, group: &str, resource: &str) -> bool {
        let has = |values: &[String], wanted: &str| values.iter().any(|value| value == "*" || value == wanted);
        has(&self.verbs, verb) && has(&self.api_groups, group) && has(&self.resources, resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(rules: Value) -> Readable {
        serde_json::from_value::<Rules>(json!({"resourceRules": rules, "incomplete": false})).unwrap().readable()
    }

    #[test]
    fn a_watch_needs_list_and_watch_which_different_rules_may_grant() {
        let found = readable(json!([
            {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews"]},
            {"verbs": ["list"], "apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"]},
            {"verbs": ["watch"], "apiGroups": ["apps"], "resources": ["*"]},
            {"verbs": ["*"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["key"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
        ]));
        assert_eq!(found.watched, ["deployments.apps"]);
        assert_eq!((found.rights.read, found.rights.watch), (Reach::Namespace, Reach::Namespace));
    }

    #[test]
    fn without_watch_or_list_only_single_objects_can_be_read() {
        let found = readable(json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
        assert_eq!((found.rights.read, found.rights.watch), (Reach::Namespace, Reach::Nowhere));
        assert_eq!(readable(json!([])), Readable::default());
        assert_eq!(readable(json!(null)), Readable::default());
    }

    #[test]
    fn many_resources_are_counted() {
        let names: Vec<String> = (0..7).map(|number| format!("r{number}")).collect();
        assert_eq!(named(&names), "r0, r1, r2, r3, r4 and 2 more resources");
        assert_eq!(named(&names[..2]), "r0, r1");
    }
}
