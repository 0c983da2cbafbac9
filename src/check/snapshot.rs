//! What a cluster contains at one moment, and the manifests that are to be applied to it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::finding::ObjectId;

/// The annotation in which client-side appliers keep the manifest.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A manifest that is to be applied.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    /// The file.
    pub source: String,
    /// The object.
    pub body: Value,
}

/// An object of the cluster, of the manifests, or of both.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// The object.
    pub id: ObjectId,
    /// Its state in the cluster. Some kinds are read without anything but their metadata.
    pub live: Option<Value>,
    /// The manifest that is to be applied.
    pub manifest: Option<Manifest>,
}

/// The objects of a cluster at one moment, and the manifests that are to be applied to it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    objects: BTreeMap<ObjectId, Object>,
    /// The context in the user's kubeconfig, if the user has chosen one. Commands name it.
    pub context: Option<String>,
}

/// An entry of `metadata.managedFields`, borrowed from its object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Managed<'s> {
    /// The field manager.
    pub manager: &'s str,
    /// `Apply` or `Update`.
    pub operation: &'s str,
    /// The subresource; empty for the object itself.
    pub subresource: &'s str,
    /// The owned fields, as `FieldsV1`.
    pub fields: &'s Value,
}

// === impl Snapshot ===

impl Snapshot {
    /// Adds an object of the cluster. Returns `false` if it has no kind or name.
    pub fn add_live(&mut self, object: Value) -> bool {
        let Some(id) = id_of(&object) else { return false };
        self.entry(id).live = Some(object);
        true
    }

    /// Removes an object of the cluster.
    pub fn remove_live(&mut self, id: &ObjectId) {
        self.objects.remove(id);
    }

    /// Adds a manifest, and the file that it is from. Returns `false` if it has no kind or name.
    pub fn add_manifest(&mut self, source: &str, object: Value) -> bool {
        let Some(id) = id_of(&object) else { return false };
        self.entry(id).manifest = Some(Manifest { source: source.to_owned(), body: object });
        true
    }

    fn entry(&mut self, id: ObjectId) -> &mut Object {
        self.objects.entry(id.clone()).or_insert_with(|| Object { id, live: None, manifest: None })
    }

    /// Returns the number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether an object is in a manifest.
    pub fn is_in_manifest(&self, id: &ObjectId) -> bool {
        self.objects.get(id).is_some_and(|object| object.manifest.is_some())
    }

    /// Returns the groups and kinds of the objects that autoscalers target.
    pub fn scaled_kinds(&self) -> Vec<(String, String)> {
        let of = |group, kind| self.of_kind(group, kind);
        let scalers = of("autoscaling", "HorizontalPodAutoscaler").chain(of("keda.sh", "ScaledObject"));
        let mut kinds: Vec<(String, String)> = scalers
            .map(|scaler| {
                let target = &scaler.wanted()["spec"]["scaleTargetRef"];
                let text = |key, default| target[key].as_str().unwrap_or(default);
                (group_of(text("apiVersion", "apps/v1")).to_owned(), text("kind", "Deployment").to_owned())
            })
            .collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// Returns the namespaces of the objects of a kind that are in the cluster.
    pub fn namespaces_of(&self, group: &str, kind: &str) -> BTreeSet<String> {
        let live = self.of_kind(group, kind).filter(|object| object.live.is_some());
        live.map(|object| object.id.namespace.clone()).filter(|name| !name.is_empty()).collect()
    }

    /// Whether a namespace has objects in the cluster, or is created by the manifests.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        let is_in = |object: &Object| object.live.is_some() && object.id.namespace == namespace;
        let is_created = |object: &Object| object.id.kind == "Namespace" && object.id.name == namespace;
        self.objects.values().any(|object| is_in(object) || is_created(object))
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    pub(super) fn get(&self, id: &ObjectId) -> Option<&Object> {
        self.objects.get(id)
    }

    pub(super) fn of_kind<'s>(&'s self, group: &'s str, kind: &'s str) -> impl Iterator<Item = &'s Object> {
        let first = ObjectId { group: group.to_owned(), kind: kind.to_owned(), ..ObjectId::default() };
        let of_kind = self.objects.range(first..).map(|(_, object)| object);
        of_kind.take_while(move |object| object.id.group == group && object.id.kind == kind)
    }

    /// Returns the object of a kind, whose namespace may not be known.
    pub(super) fn find<'s>(&'s self, group: &'s str, kind: &'s str, namespace: &str, name: &str) -> Option<&'s Object> {
        let of_kind = self.of_kind(group, kind);
        let mut found =
            of_kind.filter(|Object { id, .. }| id.name == name && (namespace.is_empty() || id.namespace == namespace));
        // If there are several, it is not known which one is meant.
        found.next().filter(|_| found.next().is_none())
    }
}

// === impl Object ===

impl Object {
    /// Returns the object as it will be: the manifest if there is one, else its state in the cluster.
    pub(super) fn wanted(&self) -> &Value {
        static NOTHING: Value = Value::Null;
        self.manifest.as_ref().map(|manifest| &manifest.body).or(self.live.as_ref()).unwrap_or(&NOTHING)
    }

    /// Returns the status. Manifests have none that counts.
    pub(super) fn status(&self) -> &Value {
        static NOTHING: Value = Value::Null;
        self.live.as_ref().map_or(&NOTHING, |live| &live["status"])
    }

    /// Returns a label, of the cluster's state or of the manifest.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.metadata("labels", name)
    }

    /// Returns an annotation, of the cluster's state or of the manifest.
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata("annotations", name)
    }

    fn metadata(&self, map: &str, name: &str) -> Option<&str> {
        let manifest = self.manifest.as_ref().map(|manifest| &manifest.body);
        let states = [manifest, self.live.as_ref()];
        states.into_iter().flatten().find_map(|state| state["metadata"][map][name].as_str())
    }

    /// Returns the owners of its fields.
    pub(super) fn managed(&self) -> impl Iterator<Item = Managed<'_>> {
        static NOTHING: Value = Value::Null;
        let entries = self.live.as_ref().and_then(|live| live["metadata"]["managedFields"].as_array());
        entries.into_iter().flatten().map(|entry| {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
            Managed {
                manager: text("manager"),
                operation: text("operation"),
                subresource: text("subresource"),
                fields: entry.get("fieldsV1").unwrap_or(&NOTHING),
            }
        })
    }

    /// Returns the manifest that a client-side applier stored in the object.
    pub(super) fn last_applied(&self) -> Option<Value> {
        let text = self.live.as_ref()?["metadata"]["annotations"][LAST_APPLIED].as_str()?;
        serde_json::from_str(text).ok().filter(Value::is_object)
    }

    /// Returns the owner that controls the object.
    pub(super) fn controller(&self) -> Option<&Value> {
        let owners = self.live.as_ref()?["metadata"]["ownerReferences"].as_array()?;
        owners.iter().find(|owner| owner["controller"] == true)
    }
}

/// Returns the group of an `apiVersion`.
pub(super) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Returns the identity of an object, or `None` if it has no kind or name.
pub fn id_of(object: &Value) -> Option<ObjectId> {
    let metadata = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let id = ObjectId {
        group: group_of(object["apiVersion"].as_str()?).to_owned(),
        kind: text(&object["kind"]),
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
    };
    (!id.kind.is_empty() && !id.name.is_empty()).then_some(id)
}
