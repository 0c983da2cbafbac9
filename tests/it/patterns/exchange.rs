//! A request with its response, formatted like kube-apiserver at any audit level.

use serde_json::{Map, Value, json};

use super::actors::Actor;
use super::simulator::Target;
use crate::cluster::Level;

/// A request and its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) at: i64,
    pub(crate) took: i64,
    pub(crate) id: String,
    pub(crate) actor: Actor,
    pub(crate) verb: &'static str,
    pub(crate) target: Target,
    pub(crate) subresource: &'static str,
    pub(crate) is_dry_run: bool,
    /// Whether the request names no object: `generateName`, or a whole collection.
    pub(crate) is_unnamed: bool,
    /// Whether it is a server-side apply with force.
    pub(crate) is_forced: bool,
    pub(crate) code: u16,
    pub(crate) request: Option<Value>,
    pub(crate) response: Option<Value>,
    pub(crate) annotations: Vec<(String, String)>,
}

// === impl Exchange ===

impl Exchange {
    pub(crate) fn new(actor: &Actor, verb: &'static str, target: &Target) -> Exchange {
        Exchange {
            at: 0,
            took: 0,
            id: String::new(),
            actor: actor.clone(),
            verb,
            target: target.clone(),
            subresource: "",
            is_dry_run: false,
            is_unnamed: false,
            is_forced: false,
            code: 0,
            request: None,
            response: None,
            annotations: Vec::new(),
        }
    }

    fn uri(&self) -> String {
        let kind = &self.target.kind;
        let mut uri = if kind.group.is_empty() {
            format!("/api/{}", kind.version)
        } else {
            format!("/apis/{}/{}", kind.group, kind.version)
        };
        if kind.is_namespaced {
            uri += &format!("/namespaces/{}", self.target.namespace);
        }
        uri += &format!("/{}", kind.resource);
        if !self.is_unnamed && (self.verb != "create" || !self.subresource.is_empty()) {
            uri += &format!("/{}", self.target.name);
        }
        if !self.subresource.is_empty() {
            uri += &format!("/{}", self.subresource);
        }
        let mut query = Vec::new();
        if self.is_dry_run {
            query.push("dryRun=All".to_owned());
        }
        // Updates of the scale subresource and deletions have no manager.
        if let Some(manager) =
            self.actor.manager.as_ref().filter(|_| self.verb != "delete" && self.subresource != "scale")
        {
            query.push(format!("fieldManager={manager}"));
        }
        if self.is_forced {
            query.push("force=true".to_owned());
        }
        if query.is_empty() { uri } else { format!("{uri}?{}", query.join("&")) }
    }

    fn reference(&self) -> Value {
        let target = &self.target;
        let mut reference = Map::new();
        let mut add = |key: &str, value: &str| {
            if !value.is_empty() {
                reference.insert(key.into(), value.into());
            }
        };
        add("resource", target.kind.resource);
        add("namespace", &target.namespace);
        add("name", if self.is_unnamed { "" } else { &target.name });
        add("apiGroup", target.kind.group);
        add("apiVersion", target.kind.version);
        if let Some(body) = self.request.as_ref().filter(|_| self.verb == "update") {
            add("uid", body["metadata"]["uid"].as_str().unwrap_or_default());
            add("resourceVersion", body["metadata"]["resourceVersion"].as_str().unwrap_or_default());
        }
        add("subresource", self.subresource);
        Value::Object(reference)
    }

    /// Formats the event as a line, with all times shifted by `shift` microseconds.
    pub(crate) fn line(&self, level: Level, shift: i64) -> Vec<u8> {
        let time = |at: i64| Value::from(format!("{:.6}", jiff::Timestamp::from_microsecond(at + shift).unwrap()));
        let mut status = json!({"metadata": {}, "code": self.code});
        if let Some(answer) = self.response.as_ref().filter(|answer| answer["kind"] == "Status") {
            for key in ["status", "message", "reason", "details"] {
                if let Some(value) = answer.get(key).filter(|_| self.code >= 400) {
                    status[key] = value.clone();
                }
            }
        }
        let mut members = vec![
            ("kind", "Event".into()),
            ("apiVersion", "audit.k8s.io/v1".into()),
            ("level", format!("{level:?}").into()),
            ("auditID", self.id.as_str().into()),
            ("stage", "ResponseComplete".into()),
            ("requestURI", self.uri().into()),
            ("verb", self.verb.into()),
        ];
        members.extend(self.actor.members());
        members.push(("objectRef", self.reference()));
        members.push(("responseStatus", status));
        if let Some(request) = self.request.as_ref().filter(|_| level != Level::Metadata) {
            members.push(("requestObject", request.clone()));
        }
        if let Some(response) = self.response.as_ref().filter(|_| level == Level::RequestResponse) {
            members.push(("responseObject", response.clone()));
        }
        members.push(("requestReceivedTimestamp", time(self.at)));
        members.push(("stageTimestamp", time(self.at + self.took)));
        members.push(("annotations", self.annotations_at(level)));
        let member = |(key, value): &(&str, Value)| format!("\"{key}\":{}", ordered(value));
        let text: Vec<String> = members.iter().map(member).collect();
        format!("{{{}}}", text.join(",")).replace('&', "\\u0026").into_bytes()
    }

    fn annotations_at(&self, level: Level) -> Value {
        let mut annotations = json!({"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""});
        for (key, value) in &self.annotations {
            // At Metadata, only the existence of a webhook's patch is logged.
            if level != Level::Metadata || !key.starts_with("patch.") {
                annotations[key] = value.as_str().into();
            }
        }
        annotations
    }
}

/// The first keys in the API server's order. The others follow by name.
const FIRST: [&str; 7] = ["kind", "username", "resource", "namespace", "name", "apiVersion", "metadata"];

/// Formats an object with its members in approximately the API server's order.
fn ordered(value: &Value) -> String {
    let Some(fields) = value.as_object() else { return value.to_string() };
    let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    let mut members: Vec<(&String, &Value)> = fields.iter().collect();
    members.sort_by_key(|(key, _)| rank(key));
    let member = |(key, value): &(&String, &Value)| format!("{}:{value}", Value::from(key.as_str()));
    let text: Vec<String> = members.iter().map(member).collect();
    format!("{{{}}}", text.join(","))
}
