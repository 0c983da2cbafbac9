//! A small API server over real sockets whose responses can be withheld, delayed or truncated. It supports what the
//! enforcer uses: discovery, Leases, Deployments, ConfigMaps, namespaces and Events.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::envtest::{pause, scratch};

pub(crate) const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/editwar/leases/editwar";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/editwar/leases";
const PAUSED: &str = "platform.kubevirt.io/reconcile-paused";

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The request is not executed and gets no response.
    Silent,
    /// The request is executed; the response ends in the middle of its body.
    HalfBody,
    /// The request is executed and answered after a delay.
    After(Duration),
    /// The request is not executed, and answered with 503.
    Busy,
    /// A watch that sends nothing after its response head, and ignores the requested timeout.
    SilentWatch,
}

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) method: String,
    pub(crate) path: String,
    /// What went wrong with it.
    pub(crate) fault: Option<Fault>,
    /// When the client closed the connection of a request that was never answered.
    pub(crate) given_up: Option<Instant>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    /// Annotations owned by the field manager `editwar`, by path.
    owned: BTreeMap<String, BTreeSet<String>>,
    faults: Vec<(String, String, Fault)>,
    seen: Vec<Seen>,
    revision: u64,
    is_down: bool,
    connections: Vec<TcpStream>,
}

/// The API server. Its threads end with their connections.
#[derive(Clone)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
    port: u16,
}

// === impl FakeApi ===

impl FakeApi {
    pub(crate) fn start() -> FakeApi {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = FakeApi { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        api.put("/api/v1/namespaces/shop", "v1", "Namespace", json!({"metadata": {"name": "shop"}}));
        let accepting = api.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let api = accepting.clone();
                {
                    let mut state = api.state.lock().unwrap();
                    if state.is_down {
                        continue;
                    }
                    state.connections.push(stream.try_clone().unwrap());
                }
                std::thread::spawn(move || api.serve(stream));
            }
        });
        api
    }

    /// Writes a kubeconfig for this server.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let path = scratch("fake-api").join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://127.0.0.1:{}", self.port)}}],
            "users": [{"name": "fake", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Creates a managed Deployment with a new uid.
    pub(crate) fn deployment(&self, name: &str) {
        let body = json!({"metadata": {"name": name, "namespace": "shop",
            "annotations": {"platform.kubevirt.io/managed": "true"}}, "spec": {"replicas": 3}});
        self.put(&deployment(name), "apps/v1", "Deployment", body);
    }

    fn put(&self, path: &str, api_version: &str, kind: &str, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        object["metadata"]["uid"] = format!("uid-{}", state.revision + 1).into();
        state.owned.remove(path);
        state.store(path, object);
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, path: &str) {
        let mut state = self.state.lock().unwrap();
        state.objects.remove(path);
        state.owned.remove(path);
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    /// Pauses an object like an earlier process of editwar.
    pub(crate) fn pause(&self, path: &str) {
        let annotations = json!({PAUSED: "true", "platform.kubevirt.io/reconcile-paused-because": "a war before"});
        let patch = json!({"metadata": {"annotations": annotations}});
        let (status, _) = self.state.lock().unwrap().patch(path, "fieldManager=editwar", &patch);
        assert_eq!(status, 200);
    }

    /// Creates a ConfigMap in namespace `shop`.
    pub(crate) fn configmap(&self, name: &str) {
        let body =
            json!({"metadata": {"name": name, "namespace": "shop", "annotations": {}}, "data": {"mode": "good"}});
        self.put(&configmap(name), "v1", "ConfigMap", body);
    }

    pub(crate) fn is_paused(&self, name: &str) -> bool {
        self.carries_pause(&deployment(name))
    }

    pub(crate) fn carries_pause(&self, path: &str) -> bool {
        self.object(path).is_some_and(|o| o["metadata"]["annotations"][PAUSED] == "true")
    }

    /// From now on, requests with this method (empty for any) whose path and query contain `part` have this fault.
    pub(crate) fn fail(&self, method: &str, part: &str, fault: Fault) {
        self.state.lock().unwrap().faults.push((method.to_owned(), part.to_owned(), fault));
    }

    /// Removes all faults for future requests. Withheld responses stay withheld.
    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// Goes down: closes all connections, and new ones immediately.
    pub(crate) fn halt(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_down = true;
        state.connections.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    /// Comes back up.
    pub(crate) fn resume(&self) {
        self.state.lock().unwrap().is_down = false;
    }

    /// Returns the requests with this method whose path and query contain `part`, in order of arrival.
    pub(crate) fn seen(&self, method: &str, part: &str) -> Vec<Seen> {
        let state = self.state.lock().unwrap();
        state.seen.iter().filter(|seen| seen.method == method && seen.path.contains(part)).cloned().collect()
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some((method, path, body)) = request(&mut reader) {
            let (number, fault) = {
                let mut state = self.state.lock().unwrap();
                let matches = |(m, part, _): &&(String, String, Fault)| {
                    (m.is_empty() || *m == method) && path.contains(part.as_str())
                };
                let fault = state.faults.iter().find(matches).map(|(_, _, fault)| *fault);
                let (method, path) = (method.clone(), path.clone());
                state.seen.push(Seen { at: Instant::now(), method, path, fault, given_up: None });
                (state.seen.len() - 1, fault)
            };
            match fault {
                Some(Fault::Silent) => {
                    // Returns when the client gives up.
                    drop(reader.read(&mut [0; 1]));
                    self.state.lock().unwrap().seen[number].given_up = Some(Instant::now());
                    return;
                }
                Some(Fault::After(time)) => pause(time.as_millis() as u64),
                _ => {}
            }
            if path.contains("watch=true") {
                self.watch(&stream, &path, fault == Some(Fault::SilentWatch));
                return;
            }
            let (status, answer) = match fault {
                Some(Fault::Busy) => failure(503),
                _ => self.state.lock().unwrap().answer(&method, &path, &body),
            };
            let text = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                text.len()
            );
            let mut writer = &stream;
            let sent = if fault == Some(Fault::HalfBody) { &text[..text.len() / 2] } else { &text };
            if writer.write_all((head + sent).as_bytes()).is_err() {
                return;
            }
            if fault == Some(Fault::HalfBody) {
                drop(reader.read(&mut [0; 1]));
                self.state.lock().unwrap().seen[number].given_up = Some(Instant::now());
                return;
            }
        }
    }

    /// Serves a watch without events. It ends after the requested timeout, unless `is_silent` is set.
    fn watch(&self, mut stream: &TcpStream, path: &str, is_silent: bool) {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        drop(stream.write_all(head.as_bytes()));
        let seconds = path.split("timeoutSeconds=").nth(1).and_then(|rest| rest.split('&').next()?.parse().ok());
        let timeout = seconds.map(Duration::from_secs).filter(|_| !is_silent);
        stream.set_read_timeout(timeout).unwrap();
        if stream.read(&mut [0; 1]).is_err() {
            drop(stream.write_all(b"0\r\n\r\n"));
        }
    }
}

// === impl State ===

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if let Some(found) = discovery(path) {
            return (200, found);
        }
        match method {
            "POST" if path.ends_with("/selfsubjectreviews") => (
                201,
                json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
                "status": {"userInfo": {"username": "system:serviceaccount:editwar:editwar"}}}),
            ),
            "POST" if path == LEASES => (201, self.store(LEASE, body)),
            "POST" => (201, self.store(&format!("{path}/{}", self.revision), body)),
            "PUT" => {
                let is = self.objects.get(path).map(|o| o["metadata"]["resourceVersion"].clone());
                let asked = &body["metadata"]["resourceVersion"];
                match is {
                    Some(is) if asked.is_null() || *asked == is => (200, self.store(path, body)),
                    Some(_) => failure(409),
                    None => failure(404),
                }
            }
            "PATCH" => self.patch(path, query, &body),
            "GET" if path.rsplit('/').next().is_some_and(|last| ["deployments", "configmaps"].contains(&last)) => {
                let plural = format!("/{}/", path.rsplit('/').next().unwrap());
                let of_it = self.objects.iter().filter(|(path, _)| path.contains(&plural));
                let items: Vec<Value> = of_it.map(|(_, object)| object.clone()).collect();
                let metadata = json!({"resourceVersion": self.revision.to_string()});
                (
                    200,
                    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": metadata, "items": items}),
                )
            }
            "GET" => self.objects.get(path).map_or_else(|| failure(404), |object| (200, object.clone())),
            _ => failure(405),
        }
    }

    /// Applies annotations by server-side apply of a single manager, or an empty merge patch.
    fn patch(&mut self, path: &str, query: &str, patch: &Value) -> (u16, Value) {
        if !self.objects.contains_key(path) && query.contains("force") && !query.contains("fieldManager=editwar") {
            let mut object = patch.clone();
            object["metadata"]["uid"] = format!("uid-{}", self.revision + 1).into();
            return (201, self.store(path, object));
        }
        let Some(mut object) = self.objects.get(path).cloned() else { return failure(404) };
        let uid = &patch["metadata"]["uid"];
        if !uid.is_null() && *uid != object["metadata"]["uid"] {
            return failure(409);
        }
        if query.contains("dryRun") {
            return (200, object);
        }
        if query.contains("fieldManager=editwar") {
            let wanted = patch["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
            let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
            for key in self.owned.remove(path).unwrap_or_default() {
                annotations.remove(&key);
            }
            annotations.extend(wanted.clone());
            self.owned.insert(path.to_owned(), wanted.keys().cloned().collect());
        } else {
            json_patch::merge(&mut object, patch);
        }
        (200, self.store(path, object))
    }
}

/// Returns the path of a Deployment in namespace `shop`.
pub(crate) fn deployment(name: &str) -> String {
    format!("/apis/apps/v1/namespaces/shop/deployments/{name}")
}

/// Returns the path of a ConfigMap in namespace `shop`.
pub(crate) fn configmap(name: &str) -> String {
    format!("/api/v1/namespaces/shop/configmaps/{name}")
}

fn failure(code: u16) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        503 => "ServiceUnavailable",
        _ => "Conflict",
    };
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code}),
    )
}

fn discovery(path: &str) -> Option<Value> {
    let resources = |version: &str, plural: &str, kind: &str| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [
            {"name": plural, "singularName": "", "namespaced": true, "kind": kind,
             "verbs": ["get", "list", "watch", "patch", "update", "create", "delete"]}]})
    };
    match path {
        "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        "/api/v1" => Some(resources("v1", "configmaps", "ConfigMap")),
        "/apis/apps/v1" => Some(resources("apps/v1", "deployments", "Deployment")),
        "/apis" => {
            let version = json!({"groupVersion": "apps/v1", "version": "v1"});
            let apps = json!({"name": "apps", "versions": [version], "preferredVersion": version});
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [apps]}))
        }
        _ => None,
    }
}

/// Reads the next request: method, path with query, and body. Returns `None` at the end of the connection.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, String, Vec<u8>)> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((method, path, body))
}

/// Waits for a condition for at most `seconds`, and checks it five times a second. Returns how long it took.
pub(crate) fn within(what: &str, seconds: u64, mut is_so: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(seconds), "not within {seconds} s: {what}");
        pause(200);
    }
    started.elapsed()
}
