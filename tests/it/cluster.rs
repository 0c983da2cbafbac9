//! A small API server simulation that writes audit events, for cases without a recording. Like a real one, it stores
//! objects, counts revisions and recognises no-ops. It logs each request at the given audit level.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The audit level of the events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Level {
    Metadata,
    Request,
    RequestResponse,
}

pub(crate) const LEVELS: [Level; 3] = [Level::Metadata, Level::Request, Level::RequestResponse];

pub(crate) struct Cluster {
    level: Level,
    now: i64,
    revision: u64,
    objects: BTreeMap<String, Value>,
    lines: Vec<String>,
    /// The fields that a mutating webhook sets with every patch.
    pub(crate) webhook: Option<Value>,
}

/// A user and its tool.
pub(crate) type Who = (&'static str, &'static str);

pub(crate) const HPA: Who = ("system:serviceaccount:kube-system:horizontal-pod-autoscaler", "kube-controller-manager");
pub(crate) const OPERATOR: Who =
    ("system:serviceaccount:openshift-cnv:virt-platform-autopilot", "virt-platform-autopilot");
pub(crate) const DEPLOYER: Who = ("system:serviceaccount:kube-system:deployment-controller", "kube-controller-manager");
pub(crate) const ALICE: Who = ("alice", "kubectl-edit");
pub(crate) const BOB: Who = ("bob", "kubectl-patch");

impl Cluster {
    pub(crate) fn new(level: Level) -> Cluster {
        Cluster::at(level, 1_795_400_000_000_000)
    }

    /// Creates a cluster whose clock starts at `now`, in microseconds since 1970.
    pub(crate) fn at(level: Level, now: i64) -> Cluster {
        Cluster { level, now, revision: 100, objects: BTreeMap::new(), lines: Vec::new(), webhook: None }
    }

    pub(crate) fn wait(&mut self, seconds: f64) {
        self.now += (seconds * 1e6) as i64;
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(|line| line.as_bytes())
    }

    pub(crate) fn create(&mut self, who: Who, path: &str, body: Value) {
        let mut stored = body.clone();
        let name = path.rsplit('/').next().unwrap();
        self.revision += 1;
        stored["metadata"]["name"] = name.into();
        stored["metadata"]["uid"] = format!("uid-{}", self.revision).into();
        stored["metadata"]["resourceVersion"] = self.revision.to_string().into();
        self.objects.insert(path.to_owned(), stored.clone());
        self.event(who, "create", path, "", 201, Some(body), Some(stored), None);
    }

    pub(crate) fn delete(&mut self, who: Who, path: &str) {
        let Some(gone) = self.objects.remove(path) else {
            return self.event(who, "delete", path, "", 404, None, None, None);
        };
        self.revision += 1;
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"uid": gone["metadata"]["uid"]}});
        self.event(who, "delete", path, "", 200, None, Some(status), None);
    }

    /// Sends a merge patch, optionally through a subresource.
    pub(crate) fn patch(&mut self, who: Who, path: &str, subresource: &str, patch: Value) {
        let before = self.objects[path].clone();
        let mut after = before.clone();
        json_patch::merge(&mut after, &patch);
        let mut annotations = None;
        if let Some(webhook) = &self.webhook {
            let asked = after.clone();
            json_patch::merge(&mut after, webhook);
            let operations = json_patch::diff(&asked, &after);
            let text = json!({"configuration": "tags", "webhook": "tags.example.com", "patch": operations, "patchType": "JSONPatch"});
            annotations =
                (asked != after).then(|| json!({"patch.webhook.admission.k8s.io/round_0_index_0": text.to_string()}));
        }
        self.store(path, &before, &mut after);
        let stored = after;
        self.event(who, "patch", path, subresource, 200, Some(patch), Some(stored), annotations);
    }

    /// Sends a PUT of the current object, with `change` merged into it.
    pub(crate) fn update(&mut self, who: Who, path: &str, subresource: &str, change: Value) {
        let before = self.objects[path].clone();
        let mut body = before.clone();
        json_patch::merge(&mut body, &change);
        let mut after = body.clone();
        self.store(path, &before, &mut after);
        self.event(who, "update", path, subresource, 200, Some(body), Some(after), None);
    }

    /// Sends a PUT of an outdated object, which fails with 409.
    pub(crate) fn conflict(&mut self, who: Who, path: &str) {
        let body = self.objects[path].clone();
        self.event(who, "update", path, "", 409, Some(body), None, None);
    }

    /// Sends a PUT of the scale subresource.
    pub(crate) fn scale(&mut self, who: Who, path: &str, replicas: u32) {
        let before = self.objects[path].clone();
        let mut after = before.clone();
        after["spec"]["replicas"] = replicas.into();
        self.store(path, &before, &mut after);
        let scale = |of: &Value| json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": of["metadata"]["name"], "uid": of["metadata"]["uid"], "resourceVersion": of["metadata"]["resourceVersion"]}, "spec": {"replicas": replicas}});
        let (request, response) = (scale(&before), scale(&after));
        self.event(who, "update", path, "scale", 200, Some(request), Some(response), None);
    }

    pub(crate) fn get(&mut self, who: Who, path: &str) {
        self.event(who, "get", path, "", 200, None, None, None);
    }

    /// Stores an object. A write that changes nothing keeps the revision.
    fn store(&mut self, path: &str, before: &Value, after: &mut Value) {
        if before != after {
            self.revision += 1;
            after["metadata"]["resourceVersion"] = self.revision.to_string().into();
        }
        self.objects.insert(path.to_owned(), after.clone());
    }

    #[expect(clippy::too_many_arguments, reason = "an event has this many parts")]
    fn event(
        &mut self,
        (user, tool): Who,
        verb: &str,
        path: &str,
        subresource: &str,
        code: u16,
        request: Option<Value>,
        response: Option<Value>,
        annotations: Option<Value>,
    ) {
        // `deployments.apps/shop/web`
        let [resource, namespace, name] = path.split('/').collect::<Vec<_>>().try_into().unwrap();
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let mut reference = json!({"resource": resource, "namespace": namespace, "name": name, "apiVersion": "v1"});
        if !group.is_empty() {
            reference["apiGroup"] = group.into();
        }
        if !subresource.is_empty() {
            reference["subresource"] = subresource.into();
        }
        if verb == "update"
            && let Some(body) = &request
        {
            reference["resourceVersion"] = body["metadata"]["resourceVersion"].clone();
            reference["uid"] = body["metadata"]["uid"].clone();
        }
        self.now += 1_000;
        let time = |at: i64| format!("{:.6}", jiff::Timestamp::from_microsecond(at).unwrap());
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1",
            "level": format!("{:?}", self.level),
            "auditID": format!("id-{}", self.lines.len()),
            "stage": "ResponseComplete",
            "requestURI": format!("/apis/{resource}/{name}?fieldManager={tool}"),
            "verb": verb,
            "user": {"username": user},
            "sourceIPs": ["10.0.0.1"],
            "userAgent": format!("{tool}/v1"),
            "objectRef": reference,
            "responseStatus": {"metadata": {}, "code": code},
            "requestReceivedTimestamp": time(self.now),
            "stageTimestamp": time(self.now + 500),
        });
        if let Some(request) = request.filter(|_| self.level != Level::Metadata) {
            event["requestObject"] = request;
        }
        if let Some(response) = response.filter(|_| self.level == Level::RequestResponse) {
            event["responseObject"] = response;
        }
        // At Metadata, only the existence of a webhook's patch is logged.
        match annotations {
            Some(annotations) if self.level != Level::Metadata => event["annotations"] = annotations,
            _ => {}
        }
        self.lines.push(event.to_string());
    }
}
