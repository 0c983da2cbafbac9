//! Test support: a minimal API server with one object, and the conclusions from its audit log.

use std::sync::Arc;

use json_patch::merge;
use serde_json::{Value, json};

use super::actor::{Client, Origin};
use super::analysis::Analysis;
use super::assessment::{Assessment, WarAssessment};
use super::instance::instance;
use super::object::{ObjectState, Observed};
use super::policy::Limits;
use super::verdict::{State, StateChange};
use super::write::{Write, classify_write};
use super::write_history::WriteHistory;
use crate::audit::decode::{Decoded, decode};
use crate::audit::event::Micros;

pub(super) const SECOND: Micros = 1_000_000;
/// The time from which tests count seconds: 2026-11-23T02:00:00Z.
pub(super) const START: Micros = 1_795_399_200 * SECOND;

/// Calls `look` with the write that an audit event reports, and its client.
pub(super) fn attributed<T>(event: &Value, look: impl FnOnce(&Write<'_>, &Arc<Client>) -> T) -> T {
    let text = event.to_string();
    let Ok(Decoded::Event(event)) = decode(text.as_bytes()) else { panic!("no event: {text}") };
    let write = classify_write(&event).unwrap_or_else(|why| panic!("{}: {text}", why.reason()));
    let tool = write.field_manager.as_deref().unwrap_or(write.identity.product());
    let origin =
        Origin { source_ip: event.source_ip.as_ref().into(), pod: event.pod.as_ref().into(), ..Origin::default() };
    let mut client = Client::new(&write.identity.actor(), tool, write.identity.agent, origin);
    if let Some(instance) = event.request_object.and_then(|body| instance(body, &client.actor)) {
        client = client.of_instance(&instance);
    }
    look(&write, &Arc::new(client))
}

/// An API server with one object. Each request has a time in seconds, and returns its audit event.
#[derive(Clone)]
pub(super) struct Server {
    /// `Metadata`, `Request` or `RequestResponse`.
    pub(super) level: &'static str,
    /// Group, resource and kind.
    pub(super) of: (&'static str, &'static str, &'static str),
    pub(super) stored: Option<Value>,
    pub(super) revision: u64,
    pub(super) epoch: u32,
    pub(super) requests: u32,
}

impl Server {
    pub(super) fn new(level: &'static str) -> Server {
        let of = ("", "configmaps", "ConfigMap");
        Server { level, of, stored: None, revision: 100, epoch: 0, requests: 0 }
    }

    fn event(
        &mut self,
        second: i64,
        who: &str,
        verb: &str,
        code: u16,
        request: Option<Value>,
        response: Option<Value>,
    ) -> Value {
        self.requests += 1;
        let (account, tool) = who.split_once('@').unwrap_or((who, "tool"));
        let at = jiff::Timestamp::from_microsecond(START + second * SECOND).unwrap().to_string();
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": self.level,
            "auditID": format!("{}", self.requests), "stage": "ResponseComplete", "verb": verb,
            "requestURI": format!("/apis/x?fieldManager={tool}"), "user": {"username": account}, "userAgent": format!("{tool}/v1"),
            "objectRef": {"apiGroup": self.of.0, "resource": self.of.1, "namespace": "shop", "name": "web"},
            "responseStatus": {"code": code}, "requestReceivedTimestamp": at, "stageTimestamp": at,
        });
        if let Some(revision) = request.as_ref().and_then(|body| body.pointer("/metadata/resourceVersion")) {
            event["objectRef"]["resourceVersion"] = revision.clone();
        }
        if self.level != "Metadata" {
            event["requestObject"] = request.unwrap_or_default();
        }
        if self.level == "RequestResponse" {
            event["responseObject"] = response.unwrap_or_default();
        }
        event
    }

    /// Stores an object. Its revision changes only if the object does.
    fn store(&mut self, mut wanted: Value) -> Value {
        let bare = |object: &Value| {
            let mut object = object.clone();
            object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
            object
        };
        wanted["metadata"]["uid"] = format!("uid-{}", self.epoch).into();
        if self.stored.as_ref().is_none_or(|stored| bare(stored) != bare(&wanted)) {
            self.revision += 1;
        }
        wanted["metadata"]["resourceVersion"] = self.revision.to_string().into();
        self.stored = Some(wanted.clone());
        wanted
    }

    fn object(&self, content: &Value) -> Value {
        let version = if self.of.0.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.of.0) };
        let mut object =
            json!({"apiVersion": version, "kind": self.of.2, "metadata": {"name": "web", "namespace": "shop"}});
        merge(&mut object, content);
        object
    }

    pub(super) fn create(&mut self, second: i64, who: &str, content: Value) -> Value {
        self.epoch += 1;
        let body = self.object(&content);
        self.stored = None;
        let stored = self.store(body.clone());
        self.event(second, who, "create", 201, Some(body), Some(stored))
    }

    /// A full update of the stored revision.
    pub(super) fn update(&mut self, second: i64, who: &str, content: Value) -> Value {
        let mut body = self.object(&content);
        body["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let stored = self.store(body.clone());
        self.event(second, who, "update", 200, Some(body), Some(stored))
    }

    /// A merge patch.
    pub(super) fn patch(&mut self, second: i64, who: &str, patch: Value) -> Value {
        let mut wanted = self.stored.clone().expect("an object");
        merge(&mut wanted, &patch);
        let stored = self.store(wanted);
        self.event(second, who, "patch", 200, Some(patch), Some(stored))
    }

    /// A merge patch that a webhook changes during admission.
    pub(super) fn patch_through(&mut self, second: i64, who: &str, patch: Value, webhook: (&str, Value)) -> Value {
        let mut wanted = self.stored.clone().expect("an object");
        merge(&mut wanted, &patch);
        json_patch::patch(&mut wanted, &serde_json::from_value::<json_patch::Patch>(webhook.1.clone()).unwrap())
            .unwrap();
        let stored = self.store(wanted);
        let mut event = self.event(second, who, "patch", 200, Some(patch), Some(stored));
        let annotation = json!({"configuration": webhook.0, "webhook": format!("{}.example.com", webhook.0), "patch": webhook.1, "patchType": "JSONPatch"});
        event["annotations"] = json!({"patch.webhook.admission.k8s.io/round_0_index_0": annotation.to_string()});
        event
    }

    pub(super) fn delete(&mut self, second: i64, who: &str) -> Value {
        self.stored = None;
        self.revision += 1;
        let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"name": "web", "uid": format!("uid-{}", self.epoch)}});
        self.event(second, who, "delete", 200, None, Some(gone))
    }
}

pub(super) fn state_change(from: State, to: State, second: i64) -> StateChange {
    StateChange { from, to, at: START + second * SECOND }
}

/// The state of the object as far as its events show it.
pub(super) struct Watcher {
    pub(super) state: ObjectState,
    pub(super) limits: Limits,
}

impl Watcher {
    pub(super) fn new() -> Watcher {
        Watcher { state: ObjectState::new(START), limits: Limits::default() }
    }

    /// Returns a watcher that has processed these events, in this order.
    pub(super) fn of<'e>(events: impl IntoIterator<Item = &'e Value>) -> Watcher {
        let mut watcher = Watcher::new();
        events.into_iter().for_each(|event| drop(watcher.see(event)));
        watcher
    }

    pub(super) fn see(&mut self, event: &Value) -> Observed {
        attributed(event, |write, client| self.state.observe(write, client, &self.limits, write.at))
    }

    /// Processes an event that arrives at this second.
    pub(super) fn see_at(&mut self, second: i64, event: &Value) -> Observed {
        let now = START + second * SECOND;
        attributed(event, |write, client| self.state.observe(write, client, &self.limits, now))
    }

    pub(super) fn advance(&mut self, second: i64) -> Vec<StateChange> {
        self.state.advance(START + second * SECOND, &self.limits)
    }

    /// Returns the second of the new deadline.
    pub(super) fn new_deadline(&mut self) -> Option<i64> {
        self.state.new_deadline(&self.limits).map(|at| (at - START) / SECOND)
    }

    pub(super) fn history(&self) -> &WriteHistory {
        self.state.history().expect("two clients")
    }

    pub(super) fn analysis(&self) -> &Analysis {
        self.history().analysis()
    }

    /// Returns the contested fields as `PATH RETAKES/REVERSALS`.
    pub(super) fn contested(&self) -> Vec<String> {
        let Some(history) = self.state.history() else { return Vec::new() };
        let fields = history.analysis().contested_fields();
        fields.iter().map(|(path, field)| format!("{path} {}/{}", field.retakes, field.reversals)).collect()
    }

    /// Returns the wars as `SCOPE PARTIES RETAKES CONFIDENCE`.
    pub(super) fn wars(&self) -> Vec<String> {
        let show = |war: &WarAssessment<'_>| {
            let scope = format!("{:?}", war.scope);
            let parties: Vec<&str> = war.parties.iter().map(AsRef::as_ref).collect();
            format!("{scope} {} {} {}", parties.join(","), war.tally.retakes, war.confidence.as_str())
        };
        Assessment::of(&self.state).wars().map(show).collect()
    }
}
