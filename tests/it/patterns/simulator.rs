//! A small API server simulation that stores objects and records every request, to be formatted at any audit level.
//!
//! Bodies do not contain `managedFields`, as with `omitManagedFields: true` in an audit policy.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::actors::Actor;
use super::exchange::Exchange;
use super::kinds::{self, Kind};
use super::paths::{self, Change};
use super::rng::Rng;
use super::webhooks::{self, Webhook};

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// How a change is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum How {
    /// Read, modify, PUT.
    Put,
    Merge,
    Strategic,
    Json,
    /// Server-side apply of only these fields, with force.
    Apply,
    /// A PUT and a merge patch of the scale subresource.
    ScalePut,
    ScalePatch,
    /// The same for the status.
    StatusPut,
    StatusMerge,
}

pub(crate) const PATCHES: [How; 3] = [How::Merge, How::Strategic, How::Json];

/// The content of a request.
enum Request {
    Create(Value),
    Put(Value),
    Merge(Value),
    Strategic(Value),
    Json(Value),
    Apply(Value),
}

#[derive(Clone, Debug)]
struct Stored {
    body: Value,
    /// Fields by their manager. Only appliers, and managers that took over fields from them, are tracked.
    owned: BTreeMap<String, BTreeSet<String>>,
}

/// The server: objects, revisions, time, and all requests.
pub(crate) struct Server {
    pub(crate) now: i64,
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) webhooks: Vec<Webhook>,
    revision: u64,
    rng: Rng,
    objects: BTreeMap<Target, Stored>,
    is_dry_run: bool,
}

/// Names of one field in the two versions of routes.
const HOST_NAMES: [(Kind, &str); 2] = [(kinds::ROUTE_OLD, "spec.hostName"), (kinds::ROUTE, "spec.host")];

/// Start time of every scenario.
pub(crate) const START: i64 = 1_795_300_000_000_000;

// === impl Target ===

impl Target {
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Target {
        let namespace = if kind.is_namespaced { namespace } else { "" };
        Target { kind, namespace: namespace.into(), name: name.into() }
    }

    /// Returns the same object in another version.
    pub(crate) fn in_version(&self, kind: Kind) -> Target {
        Target { kind, ..self.clone() }
    }

    /// Returns the key in the storage version.
    fn key(&self) -> Target {
        if self.kind == kinds::ROUTE_OLD { self.in_version(kinds::ROUTE) } else { self.clone() }
    }

    /// Formats as `deployments.apps shop/web`, the form used in tests.
    pub(crate) fn text(&self) -> String {
        format!("{} {}/{}", self.kind.full_resource(), self.namespace, self.name)
    }
}

// === impl Server ===

impl Server {
    pub(crate) fn new(seed: u64) -> Server {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let revision = 1_000 + rng.next() % 100_000;
        Server {
            now: START,
            exchanges: Vec::new(),
            webhooks: Vec::new(),
            revision,
            rng,
            objects: BTreeMap::new(),
            is_dry_run: false,
        }
    }

    /// Returns the stored object.
    pub(crate) fn get(&self, target: &Target) -> Option<&Value> {
        self.objects.get(&target.key()).map(|stored| &stored.body)
    }

    pub(crate) fn field(&self, target: &Target, path: &str) -> Option<&Value> {
        paths::get(self.get(target)?, path)
    }

    /// Returns the object in the requested version.
    fn read(&self, target: &Target) -> Option<Stored> {
        let mut stored = self.objects.get(&target.key()).cloned()?;
        convert(&mut stored.body, target.kind);
        Some(stored)
    }

    /// Executes `what` as dry-runs, so that nothing is stored.
    pub(crate) fn dry_run(&mut self, what: impl FnOnce(&mut Server)) {
        self.is_dry_run = true;
        what(self);
        self.is_dry_run = false;
    }

    /// Creates a plain object with these fields.
    pub(crate) fn create(&mut self, actor: &Actor, target: &Target, fields: &[Change]) -> u16 {
        let mut body = paths::changed(&target.kind.body(), fields);
        name(&mut body, target);
        self.send(actor, target, "", Request::Create(body))
    }

    /// Creates an object with a generated name, and returns it.
    pub(crate) fn create_generated(&mut self, actor: &Actor, prefix: &Target, fields: &[Change]) -> Target {
        let target = Target { name: format!("{}-{}", prefix.name, self.rng.hex(5)), ..prefix.clone() };
        self.create(actor, &target, fields);
        let exchange = self.exchanges.last_mut().expect("just created");
        exchange.is_unnamed = true;
        let metadata = &mut exchange.request.as_mut().expect("a body")["metadata"];
        metadata.as_object_mut().expect("metadata").remove("name");
        metadata["generateName"] = format!("{}-", prefix.name).into();
        target
    }

    /// Deletes all objects of a kind in a namespace with one request.
    pub(crate) fn delete_all(&mut self, actor: &Actor, like: &Target) {
        self.tick();
        let is_meant = |target: &Target| target.kind == like.kind && target.namespace == like.namespace;
        let items: Vec<Value> =
            self.objects.iter().filter(|(target, _)| is_meant(target)).map(|(_, stored)| stored.body.clone()).collect();
        self.objects.retain(|target, _| !is_meant(target));
        self.revision += items.len() as u64;
        let list = json!({"kind": format!("{}List", like.kind.kind), "apiVersion": like.kind.api_version(),
            "metadata": {"resourceVersion": self.revision.to_string()}, "items": items});
        let mut exchange = Exchange::new(actor, "deletecollection", like);
        exchange.is_unnamed = true;
        self.answer(exchange, 200, None, Some(list));
    }

    /// Changes fields of an object that exists. An apply also creates it.
    pub(crate) fn write(&mut self, actor: &Actor, how: How, target: &Target, fields: &[Change]) -> u16 {
        let stored = match self.read(target) {
            Some(stored) => stored.body,
            None if how == How::Apply => Value::Null,
            None => return 404,
        };
        let (subresource, request) = match how {
            How::Put => ("", Request::Put(paths::changed(&stored, fields))),
            How::Merge => ("", Request::Merge(paths::merge_patch(&stored, fields))),
            How::Strategic => ("", Request::Strategic(paths::strategic_patch(fields))),
            How::Json => ("", Request::Json(paths::json_operations(&stored, fields))),
            How::StatusPut => ("status", Request::Put(paths::changed(&stored, fields))),
            How::StatusMerge => ("status", Request::Merge(paths::merge_patch(&stored, fields))),
            How::ScalePut | How::ScalePatch => {
                let replicas = fields[0].1.clone().expect("replicas");
                match how {
                    How::ScalePut => {
                        let mut scale = self.scale_of(target, &stored);
                        scale["spec"]["replicas"] = replicas;
                        ("scale", Request::Put(scale))
                    }
                    _ => ("scale", Request::Merge(json!({"spec": {"replicas": replicas}}))),
                }
            }
            How::Apply => {
                let mut intent = json!({"kind": target.kind.kind, "apiVersion": target.kind.api_version()});
                name(&mut intent, target);
                fields.iter().for_each(|(path, wanted)| paths::set(&mut intent, path, wanted.clone()));
                ("", Request::Apply(intent))
            }
        };
        self.send(actor, target, subresource, request)
    }

    /// Sends a PUT of a body that was read earlier.
    pub(crate) fn put_body(&mut self, actor: &Actor, target: &Target, body: Value) -> u16 {
        self.send(actor, target, "", Request::Put(body))
    }

    /// Transfers all fields of one manager to another, as Flux does before it applies.
    pub(crate) fn adopt(&mut self, target: &Target, from: &str, to: &str) {
        if let Some(stored) = self.objects.get_mut(target) {
            let fields = stored.owned.remove(from).unwrap_or_default();
            stored.owned.entry(to.into()).or_default().extend(fields);
        }
    }

    pub(crate) fn delete(&mut self, actor: &Actor, target: &Target) -> u16 {
        self.tick();
        let Some(stored) = self.objects.get(target).cloned() else {
            let status = failure(target, 404, "NotFound", "not found");
            return self.answer(Exchange::new(actor, "delete", target), 404, None, Some(status));
        };
        let mut body = stored.body;
        let is_held = body["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
        let is_graceful = target.kind.kind == "Pod" && !actor.user.starts_with("system:node:");
        self.revision += 1;
        if is_held || is_graceful {
            if body["metadata"]["deletionTimestamp"].is_null() {
                body["metadata"]["deletionTimestamp"] = seconds(self.now).into();
                body["metadata"]["deletionGracePeriodSeconds"] = if is_graceful { 30 } else { 0 }.into();
                body["metadata"]["resourceVersion"] = self.revision.to_string().into();
                self.objects.get_mut(target).expect("just looked").body = body.clone();
            }
            return self.answer(Exchange::new(actor, "delete", target), 200, None, Some(body));
        }
        self.objects.remove(target);
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": target.name, "kind": target.kind.resource, "uid": body["metadata"]["uid"]}});
        self.answer(Exchange::new(actor, "delete", target), 200, None, Some(status))
    }

    /// Evicts a pod. There is no delete event from this account.
    pub(crate) fn evict(&mut self, actor: &Actor, target: &Target) -> u16 {
        self.tick();
        let request = json!({"kind": "Eviction", "apiVersion": "policy/v1",
            "metadata": {"name": target.name, "namespace": target.namespace}});
        let Some(stored) = self.objects.get_mut(target) else { return 404 };
        self.revision += 1;
        stored.body["metadata"]["deletionTimestamp"] = seconds(self.now).into();
        stored.body["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let mut exchange = Exchange::new(actor, "create", target);
        exchange.subresource = "eviction";
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        self.answer(exchange, 201, Some(request), Some(status))
    }

    fn scale_of(&self, target: &Target, body: &Value) -> Value {
        let replicas = paths::get(body, target.kind.replicas_path).cloned().unwrap_or(json!(0));
        let of = &body["metadata"];
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {"name": of["name"], "namespace": of["namespace"], "uid": of["uid"],
                "resourceVersion": of["resourceVersion"], "creationTimestamp": of["creationTimestamp"]},
            "spec": {"replicas": replicas}, "status": {"replicas": replicas, "selector": "app=web"}})
    }

    /// Advances time by a few milliseconds for a request.
    fn tick(&mut self) {
        self.now += 2_000 + (self.rng.next() % 6_000) as i64;
    }

    fn send(&mut self, actor: &Actor, target: &Target, subresource: &'static str, request: Request) -> u16 {
        self.tick();
        let before = self.read(target);
        let is_apply = matches!(request, Request::Apply(_));
        let verb = match request {
            Request::Create(_) => "create",
            Request::Put(_) => "update",
            _ => "patch",
        };
        let mut exchange = Exchange::new(actor, verb, target);
        exchange.subresource = subresource;
        exchange.is_forced = is_apply;
        exchange.is_dry_run = self.is_dry_run;
        // Bodies of creations and updates are logged as decoded by the server.
        let (logged, sent) = match request {
            Request::Create(mut body) | Request::Put(mut body) => {
                if subresource != "scale" {
                    target.kind.complete(&mut body);
                }
                (body.clone(), Request::Put(body))
            }
            Request::Merge(ref body)
            | Request::Strategic(ref body)
            | Request::Json(ref body)
            | Request::Apply(ref body) => (body.clone(), request),
        };
        let base = before.as_ref().map_or(json!({}), |stored| stored.body.clone());
        if verb == "create" && before.is_some() {
            let status = failure(target, 409, "AlreadyExists", "already exists");
            return self.answer(exchange, 409, Some(logged), Some(status));
        }
        let precondition = logged["metadata"]["resourceVersion"].clone();
        if verb == "update" && precondition != base["metadata"]["resourceVersion"] {
            let message = "the object has been modified; please apply your changes to the latest version and try again";
            return self.answer(exchange, 409, Some(logged), Some(failure(target, 409, "Conflict", message)));
        }
        let mut after = self.merged(target, subresource, &base, &sent, before.as_ref(), actor);
        if subresource.is_empty() {
            if let Err((code, status)) = webhooks::admit(&self.webhooks, target, actor, &mut after, &mut exchange) {
                return self.answer(exchange, code, Some(logged), Some(status));
            }
            target.kind.complete(&mut after);
        }
        self.store(target, actor, before, &base, &mut after, is_apply.then_some(&logged));
        let response = if subresource == "scale" { self.scale_of(target, &after) } else { after };
        let code = if base == json!({}) { 201 } else { 200 };
        self.answer(exchange, code, Some(logged), Some(response))
    }

    /// Returns the object that results from a request.
    fn merged(
        &self,
        target: &Target,
        subresource: &str,
        base: &Value,
        request: &Request,
        before: Option<&Stored>,
        actor: &Actor,
    ) -> Value {
        let mut after = base.clone();
        if subresource == "scale" {
            let (Request::Put(scale) | Request::Merge(scale)) = request else { panic!("scale is PUT or merged") };
            paths::set(&mut after, target.kind.replicas_path, Some(scale["spec"]["replicas"].clone()));
            return after;
        }
        match request {
            Request::Create(body) | Request::Put(body) => after = body.clone(),
            Request::Merge(patch) => json_patch::merge(&mut after, patch),
            Request::Strategic(patch) => paths::merge_by_key("", &mut after, patch),
            Request::Json(operations) => {
                let operations: json_patch::Patch = serde_json::from_value(operations.clone()).unwrap();
                json_patch::patch(&mut after, &operations).unwrap();
            }
            Request::Apply(intent) => {
                let named = paths::leaves(intent);
                let owned = before.map(|stored| &stored.owned);
                let manager = actor.field_manager();
                let pruned = owned.and_then(|owned| owned.get(&manager)).into_iter().flatten();
                for path in pruned.filter(|path| !named.contains_key(*path)) {
                    let is_shared =
                        owned.into_iter().flatten().any(|(other, paths)| *other != manager && paths.contains(path));
                    if !is_shared {
                        paths::set(&mut after, path, None);
                    }
                }
                paths::merge_by_key("", &mut after, intent);
            }
        }
        // Each endpoint keeps the other's part, and the server sets the metadata.
        let kept = if subresource == "status" { "spec" } else { "status" };
        if *base != json!({}) && target.kind.has_status_apart {
            match base.get(kept) {
                Some(value) => after[kept] = value.clone(),
                None => drop(after.as_object_mut().expect("an object").remove(kept)),
            }
            if subresource == "status" {
                after["metadata"] = base["metadata"].clone();
            }
        }
        after
    }

    fn store(
        &mut self,
        target: &Target,
        actor: &Actor,
        before: Option<Stored>,
        base: &Value,
        after: &mut Value,
        intent: Option<&Value>,
    ) {
        name(after, target);
        let mut stored = before.unwrap_or(Stored { body: Value::Null, owned: BTreeMap::new() });
        let is_new = *base == json!({});
        if target.kind == kinds::SERVICE {
            let address = format!("10.96.{}.{}", self.rng.within(0, 250), self.rng.within(1, 250));
            let known = base["spec"]["clusterIP"].as_str().map_or(address, Into::into);
            after["spec"]["clusterIP"] = known.into();
        }
        if is_new {
            after["metadata"]["uid"] = self.rng.uid().into();
            after["metadata"]["creationTimestamp"] = seconds(self.now).into();
            if target.kind.has_generation() {
                after["metadata"]["generation"] = 1.into();
            }
        } else {
            for key in ["uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp"] {
                if let Some(value) = base["metadata"].get(key) {
                    after["metadata"][key] = value.clone();
                }
            }
        }
        let manager = actor.field_manager();
        let (old, new) = (paths::leaves(base), paths::leaves(after));
        let changed = |path: &&String| old.get(*path) != new.get(*path);
        let moved: BTreeSet<String> = old.keys().chain(new.keys()).filter(changed).cloned().collect();
        for (other, paths) in &mut stored.owned {
            if *other != manager {
                paths.retain(|path| !moved.contains(path));
            }
        }
        let own = stored.owned.entry(manager).or_default();
        match intent {
            Some(intent) => *own = paths::leaves(intent).into_keys().collect(),
            None => own.extend(moved.into_iter().filter(|path| new.contains_key(path))),
        }
        if is_new || after != base {
            if !self.is_dry_run {
                self.revision += 1;
                after["metadata"]["resourceVersion"] = self.revision.to_string().into();
            }
            if !is_new && target.kind.has_generation() && after["spec"] != base["spec"] {
                after["metadata"]["generation"] = (base["metadata"]["generation"].as_u64().unwrap_or(1) + 1).into();
            }
        }
        if self.is_dry_run {
            return;
        }
        let is_released =
            !after["metadata"]["deletionTimestamp"].is_null() && after["metadata"]["finalizers"].is_null();
        if is_released && target.kind.kind != "Pod" {
            self.objects.remove(target);
            return;
        }
        stored.body = after.clone();
        convert(&mut stored.body, target.key().kind);
        self.objects.insert(target.key(), stored);
    }

    fn answer(&mut self, exchange: Exchange, code: u16, request: Option<Value>, response: Option<Value>) -> u16 {
        let took = 1_000 + (self.rng.next() % 4_000) as i64;
        let id = self.rng.uid();
        self.exchanges.push(Exchange { at: self.now, took, id, code, request, response, ..exchange });
        code
    }
}

/// Converts a body to another version of its kind.
fn convert(body: &mut Value, kind: Kind) {
    let Some((_, wanted)) = HOST_NAMES.iter().find(|(of, _)| *of == kind) else { return };
    for (_, name) in HOST_NAMES.iter().filter(|(of, _)| *of != kind) {
        if let Some(value) = paths::get(body, name).cloned() {
            paths::set(body, name, None);
            paths::set(body, wanted, Some(value));
        }
    }
    body["apiVersion"] = kind.api_version().into();
}

fn name(body: &mut Value, target: &Target) {
    body["metadata"]["name"] = target.name.as_str().into();
    if target.kind.is_namespaced {
        body["metadata"]["namespace"] = target.namespace.as_str().into();
    }
}

pub(crate) fn seconds(at: i64) -> String {
    jiff::Timestamp::from_second(at / 1_000_000).unwrap().to_string()
}

pub(crate) fn failure(target: &Target, code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{} \"{}\": {message}", target.kind.full_resource(), target.name), "reason": reason,
        "details": {"name": target.name, "group": target.kind.group, "kind": target.kind.resource}, "code": code})
}
