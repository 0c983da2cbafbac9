//! Reads what the rules need from a cluster, by lists in pages.
//!
//! Kinds whose values no rule needs are read without anything but their metadata. Secrets are never read. A kind that the
//! cluster does not have means that the tool is not installed.

use anyhow::{Context, Result};
use futures_util::StreamExt;
use http::Request;
use serde::Deserialize;
use serde_json::Value;

use crate::check::{ObjectId, Snapshot, id_of};
use crate::ingest::watch::resources::{self, Watchable};

/// Objects in a page of a list, which has a few MiB.
const PAGE: usize = 500;
/// Maximum number of objects of a kind. In memory, a large one has some 30 KiB.
const OBJECTS_MAX: usize = 50_000;
/// Lists at the same time.
const CONCURRENCY: usize = 4;

/// How much of an object is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// The object, without parts that no rule needs.
    Object,
    /// Its metadata, which include the owners of its fields and the manifest of client-side appliers.
    Metadata,
}

/// Where the objects of a kind are read if a namespace is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// In the namespace; not at all if the kind has no namespaces.
    Namespace,
    /// Everywhere, because they act on other namespaces.
    Everywhere,
}

/// A kind that rules look at.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    group: &'static str,
    kind: &'static str,
    depth: Depth,
    scope: Scope,
}

const fn wanted(group: &'static str, kind: &'static str, depth: Depth, scope: Scope) -> Wanted {
    Wanted { group, kind, depth, scope }
}

/// The kinds that are read. `deploy/rbac/check.yaml` grants reading them, and `docs/before-it-starts.md` lists them.
const KINDS: &[Wanted] = &[
    wanted("autoscaling", "HorizontalPodAutoscaler", Depth::Object, Scope::Namespace),
    wanted("keda.sh", "ScaledObject", Depth::Object, Scope::Namespace),
    wanted("autoscaling.k8s.io", "VerticalPodAutoscaler", Depth::Object, Scope::Namespace),
    wanted("argoproj.io", "Application", Depth::Object, Scope::Everywhere),
    wanted("kustomize.toolkit.fluxcd.io", "Kustomization", Depth::Object, Scope::Everywhere),
    wanted("helm.toolkit.fluxcd.io", "HelmRelease", Depth::Object, Scope::Everywhere),
    wanted("apps", "Deployment", Depth::Object, Scope::Namespace),
    wanted("apps", "StatefulSet", Depth::Object, Scope::Namespace),
    wanted("apps", "DaemonSet", Depth::Object, Scope::Namespace),
    wanted("batch", "Job", Depth::Object, Scope::Namespace),
    wanted("batch", "CronJob", Depth::Object, Scope::Namespace),
    wanted("", "Service", Depth::Metadata, Scope::Namespace),
    wanted("", "ConfigMap", Depth::Metadata, Scope::Namespace),
    wanted("networking.k8s.io", "Ingress", Depth::Metadata, Scope::Namespace),
    wanted("rbac.authorization.k8s.io", "ClusterRole", Depth::Metadata, Scope::Namespace),
    wanted("admissionregistration.k8s.io", "MutatingWebhookConfiguration", Depth::Object, Scope::Everywhere),
    wanted("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", Depth::Object, Scope::Namespace),
    wanted("apiextensions.k8s.io", "CustomResourceDefinition", Depth::Metadata, Scope::Namespace),
    wanted("apiregistration.k8s.io", "APIService", Depth::Metadata, Scope::Namespace),
    wanted("cert-manager.io", "Certificate", Depth::Object, Scope::Namespace),
    wanted("kyverno.io", "ClusterPolicy", Depth::Object, Scope::Everywhere),
    wanted("kyverno.io", "Policy", Depth::Object, Scope::Namespace),
];

/// A cluster that is read.
pub(super) struct Cluster {
    client: kube::Client,
    known: Vec<Watchable>,
    namespace: Option<String>,
}

/// What was read, and what was not.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// The resources that were read.
    pub read: Vec<String>,
    /// Why something could not be read.
    pub problems: Vec<String>,
}

/// A page of a list.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    /// Null in an empty list of metadata.
    items: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

// === impl Cluster ===

impl Cluster {
    /// Discovers the resources of a cluster.
    ///
    /// # Errors
    /// The cluster cannot be reached, or refuses discovery.
    pub(super) async fn connect(client: kube::Client, namespace: Option<String>) -> Result<Cluster> {
        let known = resources::discover(&client).await.context("cannot discover the resources of the cluster")?;
        Ok(Cluster { client, known, namespace })
    }

    /// Whether the objects of a kind are in namespaces, if the cluster has the kind.
    pub(super) fn is_namespaced(&self, group: &str, kind: &str) -> Option<bool> {
        self.resource(group, kind).map(|found| found.is_namespaced)
    }

    fn resource(&self, group: &str, kind: &str) -> Option<&Watchable> {
        self.known.iter().find(|found| found.resource.group == group && found.kind == kind)
    }

    /// Reads the objects that the rules need, and those of the kinds of the manifests, into a snapshot.
    pub(super) async fn read(&self, snapshot: &mut Snapshot, manifests: &[ObjectId]) -> Reading {
        let mut reading = Reading::default();
        let lists = KINDS.iter().filter_map(|kind| self.list_of(*kind, manifests));
        self.read_kinds(lists.collect(), snapshot, &mut reading).await;
        // What autoscalers scale, and what is to be applied, may be of any other kind.
        let mut others = snapshot.scaled_kinds();
        others.extend(manifests.iter().map(|id| (id.group.clone(), id.kind.clone())));
        others.retain(|(group, kind)| {
            let is_read = KINDS.iter().any(|known| known.group == group && known.kind == kind);
            !is_read && (group.as_str(), kind.as_str()) != ("", "Secret")
        });
        others.sort();
        others.dedup();
        let lists = others.iter().filter_map(|(group, kind)| {
            let resource = self.resource(group, kind)?;
            Some(List { resource, depth: Depth::Metadata, namespace: self.namespace_of(resource) })
        });
        self.read_kinds(lists.collect(), snapshot, &mut reading).await;
        self.read_settings(snapshot, &mut reading).await;
        reading.read.sort();
        reading
    }

    /// Returns the namespace in which a resource is read.
    fn namespace_of(&self, resource: &Watchable) -> Option<&str> {
        self.namespace.as_deref().filter(|_| resource.is_namespaced)
    }

    fn list_of(&self, kind: Wanted, manifests: &[ObjectId]) -> Option<List<'_>> {
        let resource = self.resource(kind.group, kind.kind)?;
        let namespace = self.namespace_of(resource).filter(|_| kind.scope == Scope::Namespace);
        let is_in_manifest = manifests.iter().any(|id| id.group == kind.group && id.kind == kind.kind);
        let has_no_namespace = !resource.is_namespaced && kind.scope == Scope::Namespace;
        let is_elsewhere = self.namespace.is_some() && has_no_namespace && !is_in_manifest;
        (!is_elsewhere).then_some(List { resource, depth: kind.depth, namespace })
    }

    async fn read_kinds(&self, lists: Vec<List<'_>>, snapshot: &mut Snapshot, reading: &mut Reading) {
        let mut results = futures_util::stream::iter(lists)
            .map(|list| async move { (list, self.list(list).await) })
            .buffered(CONCURRENCY);
        while let Some((list, result)) = results.next().await {
            let name = list.name();
            match result {
                Ok(Objects { objects, is_complete }) => {
                    for object in objects {
                        snapshot.add_live(object);
                    }
                    if !is_complete {
                        reading.problems.push(format!("only the first {OBJECTS_MAX} {name} were read"));
                    }
                    reading.read.push(name);
                }
                // The resource was removed in the meantime.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    let place = list.namespace.map(|namespace| format!(" in namespace {namespace}"));
                    let place = place.unwrap_or_else(|| " in all namespaces".to_owned());
                    let place = if list.resource.is_namespaced { place } else { String::new() };
                    reading.problems.push(format!("{name} were not read: this account may not list them{place}"));
                }
                Err(error) => reading.problems.push(format!("{name} were not read: {error}")),
            }
        }
    }

    /// Lists the objects of a resource.
    async fn list(&self, list: List<'_>) -> kube::Result<Objects> {
        let path = list.resource.resource.path(list.namespace);
        let mut objects = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let token: String = next.iter().flat_map(|token| ["&continue=".to_owned(), encoded(token)]).collect();
            let accept = match list.depth {
                Depth::Object => "application/json",
                Depth::Metadata => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            };
            let request = Request::get(format!("{path}?limit={PAGE}{token}"))
                .header(http::header::ACCEPT, accept)
                .body(Vec::new())
                .map_err(kube::Error::HttpError)?;
            let body = self.client.request_text(request).await?;
            let page: Page = serde_json::from_str(&body).map_err(kube::Error::SerdeError)?;
            objects
                .extend(page.items.into_iter().flatten().filter(Value::is_object).map(|object| list.prepared(object)));
            next = page.metadata.next.filter(|token| !token.is_empty());
            if next.is_none() || objects.len() >= OBJECTS_MAX {
                return Ok(Objects { objects, is_complete: next.is_none() });
            }
        }
    }

    /// Reads the settings of Argo CD, which say which differences it ignores. They need not exist.
    async fn read_settings(&self, snapshot: &mut Snapshot, reading: &mut Reading) {
        for namespace in snapshot.namespaces_of("argoproj.io", "Application") {
            let path = format!("/api/v1/namespaces/{namespace}/configmaps/argocd-cm");
            let body = match Request::get(path).body(Vec::new()) {
                Ok(request) if is_label(&namespace) => self.client.request_text(request).await,
                _ => continue,
            };
            match body {
                Ok(body) => {
                    let object = serde_json::from_str::<Value>(&body).ok();
                    let is_it = |object: &Value| id_of(object).is_some_and(|id| id.kind == "ConfigMap");
                    if let Some(object) = object.filter(is_it) {
                        snapshot.add_live(object);
                    }
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    let why = match error {
                        kube::Error::Api(status) if status.code == 403 => "this account may not get it".to_owned(),
                        error => error.to_string(),
                    };
                    reading.problems.push(format!(
                        "the settings of Argo CD (ConfigMap {namespace}/argocd-cm) were not read, so that fields that it ignores may be reported: {why}"
                    ));
                }
            }
        }
    }
}

/// Whether a text is the name of a namespace, so that it can be part of a path.
pub(super) fn is_label(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A list to read.
#[derive(Clone, Copy)]
struct List<'c> {
    resource: &'c Watchable,
    depth: Depth,
    namespace: Option<&'c str>,
}

/// The objects of a list.
struct Objects {
    objects: Vec<Value>,
    /// Whether the list has no more than these.
    is_complete: bool,
}

// === impl List ===

impl List<'_> {
    /// Returns the resource with its group.
    fn name(&self) -> String {
        let resource = &self.resource.resource;
        if resource.group.is_empty() { resource.name.clone() } else { format!("{}.{}", resource.name, resource.group) }
    }

    /// Returns an object with its type, which lists leave out, and without what no rule needs.
    fn prepared(&self, mut object: Value) -> Value {
        let Watchable { resource, kind, .. } = self.resource;
        let version = if resource.group.is_empty() {
            resource.version.clone()
        } else {
            format!("{}/{}", resource.group, resource.version)
        };
        object["apiVersion"] = version.into();
        object["kind"] = kind.as_str().into();
        prune(&mut object, &resource.group);
        object
    }
}

/// Removes large or private parts that no rule needs: environments of containers, volumes, values of charts.
fn prune(object: &mut Value, group: &str) {
    let remove = |parent: Option<&mut Value>, keys: &[&str]| {
        if let Some(members) = parent.and_then(Value::as_object_mut) {
            keys.iter().for_each(|key| drop(members.remove(*key)));
        }
    };
    match group {
        "apps" | "batch" => {
            remove(Some(object), &["status"]);
            for pod in ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec"] {
                let Some(pod) = object.pointer_mut(pod) else { continue };
                remove(Some(pod), &["volumes"]);
                for list in ["containers", "initContainers"] {
                    let containers = pod.get_mut(list).and_then(Value::as_array_mut);
                    containers.into_iter().flatten().for_each(|container| {
                        remove(Some(container), &["env", "envFrom", "volumeMounts"]);
                    });
                }
            }
        }
        "helm.toolkit.fluxcd.io" => remove(object.get_mut("spec"), &["values", "valuesFrom", "postRenderers"]),
        _ => {}
    }
}

fn encoded(token: &str) -> String {
    form_urlencoded::byte_serialize(token.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_are_not_kept() {
        let mut object = serde_json::json!({"spec": {"template": {"spec": {"volumes": [], "containers": [
            {"name": "a", "image": "b", "env": [{"name": "TOKEN", "value": "secret"}]}]}}}, "status": {}});
        prune(&mut object, "apps");
        let kept = serde_json::json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}});
        assert_eq!(object, kept);
    }
}
