//! Sets and removes pauses: annotations that are written by server-side apply, with a separate field manager.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, PartialObjectMeta};
use kube::{Client, ResourceExt, discovery};
use serde_json::json;

use super::calls::within;
use super::means::Means;
use super::pauses::Target;
use super::plan::Verdict;
use super::selection::CLUSTER;
use super::selection::{Exclusion, Selection, title};
use crate::audit::event::{Micros, parse_timestamp};
use crate::detect::annotations::{MODE, PAUSED, PAUSED_BECAUSE, PAUSED_UNTIL, Tool};
use crate::detect::write::ObjectName;
use crate::pipeline::key::ObjectKey;
use crate::util::lock::lock;

/// The field manager of pauses.
pub const MANAGER: &str = "editwar";
/// Annotation of a namespace. With the value `off`, no object in the namespace is paused.
pub const SWITCH: &str = "editwar.dev/enforce";
/// Page size of lists.
const PAGE: u32 = 500;

/// The reason why a call for an object failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The account does not have the permission.
    #[error("{message}; add this RBAC rule: {rule}")]
    Forbidden {
        /// The message of the API server.
        message: String,
        /// The missing RBAC rule.
        rule: String,
    },
    /// The API server does not know the kind.
    #[error("the API server does not know {0}")]
    Unknown(String),
    /// The object was deleted, or replaced by another one with the same name.
    #[error("the object no longer exists")]
    Gone,
    /// The API server does not respond, or responds with an unexpected error.
    #[error("API server: {0}")]
    Unavailable(String),
}

/// The current metadata of an object.
#[derive(Clone, Debug)]
pub struct LiveObject {
    meta: PartialObjectMeta<DynamicObject>,
    resource: ApiResource,
}

/// A pause that editwar has set.
#[derive(Clone, Debug)]
pub struct ExistingPause {
    /// The object that carries it.
    pub key: ObjectKey,
    /// The same object, as the API server refers to it.
    pub target: Target,
    /// The end of the pause, if it is annotated.
    pub until: Option<Micros>,
}

/// A kind of objects, as the configuration or a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Plural name and group: `deployments`, `apps`.
    Resource(String, String),
    /// `apiVersion` and `kind`.
    Manifest(String, String),
}

/// Client for pauses. Each call has a timeout.
pub struct PauseClient {
    client: Client,
    limit: Duration,
    resources: Mutex<BTreeMap<String, ApiResource>>,
}

// === impl Kind ===

/// Formats as `deployments.apps` or `ConfigMap (v1)`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Resource(plural, group) => f.write_str(&title(plural, group)),
            Kind::Manifest(api_version, kind) => write!(f, "{kind} ({api_version})"),
        }
    }
}

// === impl LiveObject ===

impl LiveObject {
    /// Returns why the object may not be paused according to its labels and annotations.
    pub fn excluded_by(&self, selection: &Selection) -> Option<Exclusion> {
        selection.excluded_by_metadata(self.meta.labels(), self.meta.annotations())
    }

    /// Returns whether a person has set `mode=unmanaged`.
    pub fn is_unmanaged(&self) -> bool {
        self.meta.annotations().get(MODE).is_some_and(|mode| mode == "unmanaged")
    }

    /// Returns the reference that is needed to write to the object.
    pub fn target(&self) -> Target {
        Target {
            resource: self.resource.clone(),
            namespace: self.meta.metadata.namespace.clone().unwrap_or_default(),
            name: self.meta.name_any(),
            uid: self.meta.metadata.uid.clone(),
        }
    }

    /// Returns when the pause of this object ends, if editwar has set one. The inner `None` is a pause without an end.
    pub fn pause(&self) -> Option<Option<Micros>> {
        pause_of(self.meta.annotations())
    }
}

// === impl PauseClient ===

impl PauseClient {
    /// Creates a client with a timeout per call.
    pub fn new(client: Client, limit: Duration) -> PauseClient {
        PauseClient { client, limit, resources: Mutex::default() }
    }

    /// Reads an object. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// [`Error`] if it cannot be read.
    pub async fn live(&self, key: &ObjectKey) -> Result<Option<LiveObject>, Error> {
        let object = key.object();
        let resource = self.resource(object.group, object.resource).await?;
        let api = self.api(&resource, object.namespace);
        let meta = within(self.limit, api.get_metadata_opt(object.name)).await;
        Ok(meta.map_err(|e| explained(e, &resource, "get"))?.map(|meta| LiveObject { meta, resource }))
    }

    /// Sets a pause.
    ///
    /// # Errors
    /// [`Error::Gone`] if the object was replaced in the meantime. After [`Error::Unavailable`], the pause may have
    /// been set.
    pub async fn pause(&self, target: &Target, verdict: &Verdict) -> Result<(), Error> {
        let mut annotations = json!({PAUSED: "true", PAUSED_BECAUSE: because(verdict)});
        if let Some(until) = verdict.until {
            annotations[PAUSED_UNTIL] = json!(clock(until));
        }
        if let Some((key, value)) = verdict.means.as_ref().and_then(Means::annotation) {
            annotations[key] = json!(value);
        }
        self.apply(target, annotations).await
    }

    /// Removes a pause that was set with [`MANAGER`]. Pauses set by others are kept.
    ///
    /// # Errors
    /// [`Error::Gone`] if the object was replaced in the meantime.
    pub async fn lift(&self, target: &Target) -> Result<(), Error> {
        self.apply(target, json!({})).await
    }

    /// Sends an empty patch as a dry-run. Its audit event shows that events still arrive, and advances event time.
    ///
    /// # Errors
    /// [`Error`] if the API server does not answer it.
    pub async fn ping(&self, key: &ObjectKey) -> Result<(), Error> {
        let object = key.object();
        let resource = self.resource(object.group, object.resource).await?;
        let api = self.api(&resource, object.namespace);
        let how = PatchParams { dry_run: true, field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let change = Patch::Merge(json!({}));
        let answer = within(self.limit, api.patch_metadata(object.name, &how, &change)).await;
        answer.map(drop).map_err(|error| explained(error, &resource, "patch"))
    }

    async fn apply(&self, target: &Target, annotations: serde_json::Value) -> Result<(), Error> {
        let resource = &target.resource;
        // The uid prevents the patch from recreating an object that was deleted in the meantime.
        let patch = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": target.name, "uid": target.uid, "annotations": annotations},
        });
        let api = self.api(resource, &target.namespace);
        let how = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&patch);
        match within(self.limit, api.patch_metadata(&target.name, &how, &patch)).await {
            Ok(_) => Ok(()),
            // The API server answers 409 if the object was deleted, and 422 if another one has its name. Both codes
            // have other causes too, such as an admission webhook.
            Err(kube::Error::Api(status))
                if [409, 422].contains(&status.code) && !self.exists(target, &api).await? =>
            {
                Err(Error::Gone)
            }
            Err(error) => Err(explained(error, resource, "patch")),
        }
    }

    /// Returns whether an object still exists, with its uid.
    async fn exists(&self, target: &Target, api: &Api<DynamicObject>) -> Result<bool, Error> {
        let live = within(self.limit, api.get_metadata_opt(&target.name)).await;
        let live = live.map_err(|error| explained(error, &target.resource, "get"))?;
        Ok(live.is_some_and(|live| target.uid.is_none() || live.metadata.uid == target.uid))
    }

    /// Lists all objects of a kind that editwar has paused.
    ///
    /// # Errors
    /// [`Error`] if they cannot be listed.
    pub async fn paused(&self, kind: &Kind) -> Result<Vec<ExistingPause>, Error> {
        self.list(kind, |_, _| {}).await
    }

    /// Like [`PauseClient::paused`], but also calls `visit` for every object of the kind, with its key.
    ///
    /// # Errors
    /// [`Error`] if they cannot be listed.
    pub async fn list(
        &self,
        kind: &Kind,
        mut visit: impl FnMut(&ObjectKey, &PartialObjectMeta<DynamicObject>),
    ) -> Result<Vec<ExistingPause>, Error> {
        let resource = match kind {
            Kind::Resource(plural, group) => self.resource(group, plural).await?,
            Kind::Manifest(api_version, kind) => self.manifest(api_version, kind).await?,
        };
        let api = self.api(&resource, "");
        let mut found = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = within(self.limit, api.list_metadata(&page)).await;
            let list = list.map_err(|e| explained(e, &resource, "list")).inspect_err(|error| {
                // The API server no longer serves this version of the resource. The next lookup finds out which one it
                // does.
                if matches!(error, Error::Gone) {
                    lock(&self.resources).remove(&title(&resource.plural, &resource.group));
                }
            })?;
            for meta in &list.items {
                let (namespace, name) = (meta.namespace().unwrap_or_default(), meta.name_any());
                let (group, plural) = (&resource.group, &resource.plural);
                let object = ObjectName { group, resource: plural, namespace: &namespace, name: &name };
                let key = ObjectKey::new(CLUSTER, &object);
                visit(&key, meta);
                let Some(until) = pause_of(meta.annotations()) else { continue };
                let target = Target { resource: resource.clone(), uid: meta.uid(), namespace, name };
                found.push(ExistingPause { key, target, until });
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// Returns whether pauses are switched off for a namespace.
    ///
    /// # Errors
    /// [`Error`] if the namespace cannot be read.
    pub async fn is_switched_off(&self, namespace: &str) -> Result<bool, Error> {
        if namespace.is_empty() {
            return Ok(false);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let namespaces = ApiResource::erase::<Namespace>(&());
        let found = within(self.limit, api.get_metadata_opt(namespace)).await;
        let found = found.map_err(|e| explained(e, &namespaces, "get"))?;
        Ok(found.is_some_and(|n| n.annotations().get(SWITCH).is_some_and(|switch| switch == "off")))
    }

    /// Returns whether an Application of Argo CD applies an object, according to the Application's status.
    ///
    /// # Errors
    /// [`Error`] if the Application cannot be read.
    pub async fn application_has(&self, application: &ObjectKey, object: &Target) -> Result<bool, Error> {
        let name = application.object();
        let resource = self.resource(name.group, name.resource).await?;
        let api = self.api(&resource, name.namespace);
        let found = within(self.limit, api.get_opt(name.name)).await;
        let Some(found) = found.map_err(|error| explained(error, &resource, "get"))? else { return Ok(false) };
        let is_it = |listed: &serde_json::Value| {
            let text = |key: &str| listed[key].as_str().unwrap_or_default();
            // Objects that only carry the mark of the Application are listed as to be pruned.
            text("group") == object.resource.group
                && text("kind") == object.resource.kind
                && text("namespace") == object.namespace
                && text("name") == object.name
                && listed["requiresPruning"] != true
        };
        Ok(found.data["status"]["resources"].as_array().is_some_and(|listed| listed.iter().any(is_it)))
    }

    fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        match namespace {
            "" => Api::all_with(self.client.clone(), resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, resource),
        }
    }

    /// Looks up the resource of a manifest's kind.
    async fn manifest(&self, api_version: &str, kind: &str) -> Result<ApiResource, Error> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = GroupVersionKind::gvk(group, version, kind);
        match within(self.limit, discovery::pinned_kind(&self.client, &kind)).await {
            Ok((resource, _)) => Ok(resource),
            Err(kube::Error::Discovery(_)) => Err(Error::Unknown(kind.kind)),
            Err(kube::Error::Api(status)) if status.code == 404 => Err(Error::Unknown(kind.kind)),
            Err(error) => Err(Error::Unavailable(error.to_string())),
        }
    }

    /// Looks up the kind and version of a plural resource name.
    async fn resource(&self, group: &str, plural: &str) -> Result<ApiResource, Error> {
        let name = title(plural, group);
        let known = || lock(&self.resources);
        if let Some(known) = known().get(&name) {
            return Ok(known.clone());
        }
        let found = match within(self.limit, discovery::group(&self.client, group)).await {
            Ok(group) => group,
            Err(kube::Error::Discovery(_)) => return Err(Error::Unknown(name)),
            Err(error) => return Err(Error::Unavailable(error.to_string())),
        };
        let resource = found.recommended_resources().into_iter().map(|(resource, _)| resource);
        let resource = resource.into_iter().find(|r| r.plural == plural).ok_or(Error::Unknown(name.clone()))?;
        known().insert(name, resource.clone());
        Ok(resource)
    }
}

/// Returns the end of a pause that editwar has set, from an object's annotations.
fn pause_of(annotations: &BTreeMap<String, String>) -> Option<Option<Micros>> {
    // Of a pause that somebody has removed in part, the rest must be found too.
    let switches = std::iter::once((PAUSED, "true")).chain(Tool::ALL.into_iter().map(Tool::switch));
    let is_paused = switches.into_iter().any(|(key, value)| annotations.get(key).is_some_and(|is| is == value));
    let is_ours = annotations.contains_key(PAUSED_BECAUSE);
    (is_paused && is_ours).then(|| annotations.get(PAUSED_UNTIL).and_then(|text| parse_timestamp(text)))
}

/// Returns the reason of a pause in one line: who fights over what.
pub fn because(verdict: &Verdict) -> String {
    let since = verdict.since.map(|at| format!(" since {}", clock(at))).unwrap_or_default();
    let text =
        format!("{} fight over {}: {} retakes{since}", verdict.parties.join(" and "), verdict.over, verdict.retakes);
    // The note of an Event has at most 1024 bytes.
    text.chars().take(900).collect()
}

/// Formats a time, to the second.
pub fn clock(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |t| format!("{t:.0}"))
}

/// Converts an error. If a permission is missing, adds the RBAC rule for it.
pub(crate) fn explained(error: kube::Error, resource: &ApiResource, verb: &str) -> Error {
    match error {
        kube::Error::Api(status) if status.code == 403 => Error::Forbidden {
            message: status.message.clone(),
            rule: format!("{{apiGroups: [\"{}\"], resources: [{}], verbs: [{verb}]}}", resource.group, resource.plural),
        },
        kube::Error::Api(status) if status.code == 404 => Error::Gone,
        error => Error::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
