//! A fake API server that supports the calls of the enforcer. It can withhold responses to certain calls.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// The calls that the enforcer makes to an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    WhoAmI,
    LeaseGet,
    LeaseWrite,
    Discovery,
    List,
    Get,
    Patch,
    DryRun,
    Namespace,
    Event,
    Other,
}

/// The server. Its threads end with the process.
pub(crate) struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The kind of calls that are not answered.
    silent: Option<Call>,
    calls: Vec<(Instant, Call)>,
    lease: Option<Value>,
    /// Deployments in namespace `shop`, by name.
    objects: Map<String, Value>,
    revision: u64,
}

/// The relevant parts of a request.
struct Request {
    method: String,
    path: String,
    query: String,
    body: Value,
}

// === impl ApiServer ===

impl ApiServer {
    /// Starts a server with the managed Deployments `web` and `api` in namespace `shop`.
    pub(crate) fn start() -> io::Result<ApiServer> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let mut state = State::default();
        for name in ["web", "api"] {
            let object = json!({
                "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "resourceVersion": "1",
                    "annotations": {"platform.kubevirt.io/managed": "true"}}});
            state.objects.insert(name.to_owned(), object);
        }
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = served.clone();
                std::thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Ok(ApiServer { address, shared })
    }

    /// Writes a kubeconfig for this server.
    pub(crate) fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let path = folder.join("kubeconfig");
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }

    /// Stops answering this kind of call from now on. `None` answers all calls again.
    pub(crate) fn silence(&self, call: Option<Call>) {
        self.shared.state.lock().unwrap().silent = call;
        self.shared.changed.notify_all();
    }

    /// Returns whether the object carries a pause.
    pub(crate) fn is_paused(&self, name: &str) -> bool {
        let state = self.shared.state.lock().unwrap();
        state.objects[name]["metadata"]["annotations"]["platform.kubevirt.io/reconcile-paused"] == "true"
    }

    /// Returns how many calls of a kind arrived since an instant.
    pub(crate) fn calls_since(&self, since: Instant, call: Call) -> usize {
        let state = self.shared.state.lock().unwrap();
        state.calls.iter().filter(|(at, is)| *at >= since && *is == call).count()
    }

    /// Returns the holder of the Lease.
    pub(crate) fn holder(&self) -> Option<String> {
        let state = self.shared.state.lock().unwrap();
        state.lease.as_ref()?["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty()).map(str::to_owned)
    }
}

// === impl Shared ===

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        while let Some(request) = Request::read(&mut reader)? {
            let call = request.call();
            let mut state = self.state.lock().unwrap();
            state.calls.push((Instant::now(), call));
            // The connection stays open without a response.
            while state.silent == Some(call) {
                (state, _) = self.changed.wait_timeout(state, Duration::from_millis(200)).unwrap();
            }
            let (status, body) = state.answer(&request, call);
            drop(state);
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes())?;
        }
        Ok(())
    }
}

// === impl State ===

impl State {
    fn answer(&mut self, request: &Request, call: Call) -> (u16, Value) {
        let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found", "metadata": {}});
        match call {
            Call::WhoAmI => {
                let mut review = request.body.clone();
                review["status"] = json!({"userInfo": {"username": "system:serviceaccount:editwar:editwar"}});
                (201, review)
            }
            Call::LeaseGet => self.lease.clone().map_or((404, missing), |lease| (200, lease)),
            Call::LeaseWrite => {
                let mut lease = request.body.clone();
                self.revision += 1;
                lease["metadata"]["resourceVersion"] = self.revision.to_string().into();
                lease["metadata"]["namespace"] = "editwar".into();
                self.lease = Some(lease.clone());
                (200, lease)
            }
            Call::Discovery => (200, discovery(&request.path)),
            Call::List => {
                let items: Vec<Value> = self.objects.values().map(partial).collect();
                (
                    200,
                    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items}),
                )
            }
            Call::Get => self.objects.get(request.name()).map_or((404, missing), |object| (200, partial(object))),
            Call::DryRun => self.objects.get(request.name()).map_or((404, missing), |object| (200, partial(object))),
            Call::Patch => {
                self.revision += 1;
                let revision = self.revision.to_string();
                let Some(object) = self.objects.get_mut(request.name()) else { return (404, missing) };
                // Server-side apply by a single manager: fields that are no longer named are removed.
                let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
                annotations.retain(|key, _| !key.contains("reconcile-paused"));
                let applied = request.body["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
                annotations.extend(applied);
                object["metadata"]["resourceVersion"] = revision.into();
                (200, partial(object))
            }
            Call::Namespace => {
                (200, partial(&json!({"metadata": {"name": "shop", "uid": "uid-shop", "resourceVersion": "1"}})))
            }
            Call::Event => (201, request.body.clone()),
            Call::Other => (404, missing),
        }
    }
}

fn partial(object: &Value) -> Value {
    let mut object = object.clone();
    object["kind"] = "PartialObjectMetadata".into();
    object["apiVersion"] = "meta.k8s.io/v1".into();
    object
}

fn discovery(path: &str) -> Value {
    let version = json!({"groupVersion": "apps/v1", "version": "v1"});
    let group = json!({"name": "apps", "versions": [version], "preferredVersion": version});
    match path.trim_end_matches('/') {
        "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}),
        "/apis/apps" => {
            let mut one = group;
            one["kind"] = "APIGroup".into();
            one["apiVersion"] = "v1".into();
            one
        }
        _ => json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1", "resources": [
            {"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment",
             "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]}]}),
    }
}

// === impl Request ===

impl Request {
    /// Reads the next request. Returns `None` if the client has disconnected.
    fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Some(Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }))
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn call(&self) -> Call {
        let (path, is_get) = (self.path.as_str(), self.method == "GET");
        match path.trim_end_matches('/') {
            "/apis" | "/apis/apps" | "/apis/apps/v1" => Call::Discovery,
            "/apis/apps/v1/deployments" | "/apis/apps/v1/namespaces/shop/deployments" => Call::List,
            _ if path.contains("selfsubjectreviews") => Call::WhoAmI,
            _ if path.contains("/leases") && is_get => Call::LeaseGet,
            _ if path.contains("/leases") => Call::LeaseWrite,
            _ if path.contains("/events") => Call::Event,
            _ if path.contains("/deployments/") && is_get => Call::Get,
            _ if path.contains("/deployments/") && self.query.contains("dryRun") => Call::DryRun,
            _ if path.contains("/deployments/") => Call::Patch,
            _ if path.starts_with("/api/v1/namespaces/") => Call::Namespace,
            _ => Call::Other,
        }
    }
}
