//! The hand that writes: annotations by server-side apply, with a field manager of its own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, PartialObjectMeta};
use kube::{Client, ResourceExt, discovery};
use serde_json::json;

use super::plan::Verdict;
use crate::audit::event::{Micros, parse_timestamp};
use crate::detect::annotations::{MODE, PAUSED, PAUSED_BECAUSE, PAUSED_UNTIL};
use crate::pipeline::key::ObjectKey;

/// The field manager that pauses are set with.
pub const MANAGER: &str = "editwar";
/// Set to `off` on a namespace: nothing in it is paused.
pub const SWITCH: &str = "editwar.dev/enforce";
/// Objects that are listed at a time.
const PAGE: u32 = 500;

/// Why an object could not be written to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The account may not do that.
    #[error("{message}; allow it: {rule}")]
    Forbidden {
        /// What the API server says.
        message: String,
        /// The rule that is missing.
        rule: String,
    },
    /// No such kind.
    #[error("the API server does not know {0}")]
    Unknown(String),
    /// It was deleted, or made anew.
    #[error("it is gone")]
    Gone,
    /// The API server does not answer, or not as it should.
    #[error("the API server: {0}")]
    Unavailable(String),
}

/// An object as it is now.
#[derive(Clone, Debug)]
pub struct Live {
    meta: PartialObjectMeta<DynamicObject>,
    resource: ApiResource,
}

/// Access to the objects of a cluster.
pub struct Hand {
    client: Client,
    resources: BTreeMap<String, ApiResource>,
}

// === impl Live ===

impl Live {
    /// Whether all these labels and annotations are there; an empty value matches any.
    pub fn has(&self, labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> bool {
        let all = |wanted: &BTreeMap<String, String>, are: &BTreeMap<String, String>| {
            wanted.iter().all(|(key, value)| are.get(key).is_some_and(|is| value.is_empty() || is == value))
        };
        all(labels, self.meta.labels()) && all(annotations, self.meta.annotations())
    }

    /// Whether a person gave it up.
    pub fn is_unmanaged(&self) -> bool {
        self.meta.annotations().get(MODE).is_some_and(|mode| mode == "unmanaged")
    }

    /// What events about it refer to.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.resource.api_version.clone()),
            kind: Some(self.resource.kind.clone()),
            name: self.meta.metadata.name.clone(),
            namespace: self.meta.metadata.namespace.clone(),
            uid: self.meta.metadata.uid.clone(),
            resource_version: None,
            field_path: None,
        }
    }

    /// `Deployment/web`, as the runbook has it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.resource.kind, self.meta.name_any())
    }
}

// === impl Hand ===

impl Hand {
    /// Writes with this client.
    pub fn new(client: Client) -> Hand {
        Hand { client, resources: BTreeMap::new() }
    }

    /// The object; `None` where it is gone.
    ///
    /// # Errors
    /// [`Error`] where it cannot be read.
    pub async fn live(&mut self, key: &ObjectKey) -> Result<Option<Live>, Error> {
        let object = key.object();
        let resource = self.resource(object.group, object.resource).await?;
        let api = self.api(&resource, object.namespace);
        let meta = api.get_metadata_opt(object.name).await;
        Ok(meta.map_err(|e| explained(e, &resource, "get"))?.map(|meta| Live { meta, resource }))
    }

    /// Sets the pause of the object that was read.
    ///
    /// # Errors
    /// [`Error::Gone`] where it is another one by now.
    pub async fn pause(&self, live: &Live, verdict: &Verdict) -> Result<(), Error> {
        let mut annotations = json!({PAUSED: "true", PAUSED_BECAUSE: because(verdict)});
        if let Some(until) = verdict.until {
            annotations[PAUSED_UNTIL] = json!(clock(until));
        }
        self.apply(live, annotations).await
    }

    /// Takes the pause away that was set with [`MANAGER`]; one that a person set stays.
    ///
    /// # Errors
    /// [`Error::Gone`] where it is another one by now.
    pub async fn lift(&self, live: &Live) -> Result<(), Error> {
        self.apply(live, json!({})).await
    }

    /// Asks for a change of nothing, as a dry-run: its audit event shows that events still come, and what time it is.
    ///
    /// # Errors
    /// [`Error`] where even that is not answered.
    pub async fn ping(&mut self, key: &ObjectKey) -> Result<(), Error> {
        let object = key.object();
        let resource = self.resource(object.group, object.resource).await?;
        let api = self.api(&resource, object.namespace);
        let how = PatchParams { dry_run: true, field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch_metadata(object.name, &how, &Patch::Merge(json!({}))).await {
            Ok(_) => Ok(()),
            Err(error) => Err(explained(error, &resource, "patch")),
        }
    }

    async fn apply(&self, live: &Live, annotations: serde_json::Value) -> Result<(), Error> {
        let resource = &live.resource;
        // With the uid, an object that was deleted meanwhile is not made again.
        let patch = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": live.meta.metadata.name, "uid": live.meta.metadata.uid, "annotations": annotations},
        });
        let api = self.api(resource, live.meta.metadata.namespace.as_deref().unwrap_or_default());
        let how = PatchParams::apply(MANAGER).force();
        match api.patch_metadata(&live.meta.name_any(), &how, &Patch::Apply(&patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Err(Error::Gone),
            Err(error) => Err(explained(error, resource, "patch")),
        }
    }

    /// All objects of a resource that are paused with [`MANAGER`], and until when.
    ///
    /// # Errors
    /// [`Error`] where they cannot be listed.
    pub async fn paused(&mut self, group: &str, plural: &str) -> Result<Vec<(ObjectKey, Option<Micros>)>, Error> {
        let resource = self.resource(group, plural).await?;
        let api = self.api(&resource, "");
        let mut found = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = api.list_metadata(&page).await.map_err(|e| explained(e, &resource, "list"))?;
            for meta in &list.items {
                let until = meta.annotations().get(PAUSED_UNTIL);
                let is_ours = meta.annotations().contains_key(PAUSED_BECAUSE);
                if is_ours && meta.annotations().get(PAUSED).is_some_and(|paused| paused == "true") {
                    let namespace = meta.namespace().unwrap_or_default();
                    let name = crate::detect::write::ObjectName {
                        group,
                        resource: plural,
                        namespace: &namespace,
                        name: &meta.name_any(),
                    };
                    found.push((ObjectKey::new("", &name), until.and_then(|text| parse_timestamp(text))));
                }
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// Whether a namespace is switched off.
    ///
    /// # Errors
    /// [`Error`] where it cannot be read.
    pub async fn is_switched_off(&self, namespace: &str) -> Result<bool, Error> {
        if namespace.is_empty() {
            return Ok(false);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let namespaces = ApiResource::erase::<Namespace>(&());
        let found = api.get_metadata_opt(namespace).await.map_err(|e| explained(e, &namespaces, "get"))?;
        Ok(found.is_some_and(|n| n.annotations().get(SWITCH).is_some_and(|switch| switch == "off")))
    }

    fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        match namespace {
            "" => Api::all_with(self.client.clone(), resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, resource),
        }
    }

    /// The kind and version behind a plural name.
    async fn resource(&mut self, group: &str, plural: &str) -> Result<ApiResource, Error> {
        let name = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        if let Some(known) = self.resources.get(&name) {
            return Ok(known.clone());
        }
        let found = match discovery::group(&self.client, group).await {
            Ok(group) => group,
            Err(kube::Error::Discovery(_)) => return Err(Error::Unknown(name)),
            Err(error) => return Err(Error::Unavailable(error.to_string())),
        };
        let resource = found.recommended_resources().into_iter().map(|(resource, _)| resource);
        let resource = resource.into_iter().find(|r| r.plural == plural).ok_or(Error::Unknown(name.clone()))?;
        self.resources.insert(name, resource.clone());
        Ok(resource)
    }
}

/// Why and against whom, in one line.
pub fn because(verdict: &Verdict) -> String {
    let since = verdict.since.map(|at| format!(" since {}", clock(at))).unwrap_or_default();
    let text =
        format!("{} fight over {}: {} retakes{since}", verdict.parties.join(" and "), verdict.over, verdict.retakes);
    // An Event's note holds 1024 bytes.
    text.chars().take(900).collect()
}

/// A time to the second.
pub fn clock(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |t| format!("{t:.0}"))
}

/// An error, and the rule that is missing where the account may not do something.
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
