//! An API server for tests, at the seam of [`kube::Client`]: records each request, and answers it as the test says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::BoxError;

use crate::util::lock::lock;

const DISCOVERY: [&str; 4] = ["GET /api", "GET /apis", "GET /api/v1", "GET /apis/apps/v1"];

/// The response to a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status code and a body.
    Json(u16, Value),
    /// Status 200 with a body as it is: malformed, or the events of a watch.
    Text(String),
    /// The connection breaks before the response. The request may have been executed.
    Broken,
    /// No response.
    Silent,
    /// A response after this time.
    Late(Duration, Box<Reply>),
}

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Verb and path, such as `PATCH /api/v1/…`. The verb is the HTTP method, or else `WATCH` or `DRY-RUN`.
    pub(crate) line: String,
    pub(crate) query: String,
    pub(crate) content_type: String,
    pub(crate) body: Value,
    /// Whether the client still waits for the response.
    pub(crate) is_open: bool,
}

/// The API server. Clones share everything.
#[derive(Clone, Default)]
pub(crate) struct FakeApi {
    replies: Arc<Mutex<BTreeMap<String, VecDeque<Reply>>>>,
    calls: Arc<watch::Sender<Vec<Call>>>,
}

/// Marks a call as closed when the client has its response, or has given up.
struct Open(FakeApi, usize);

// === impl Reply ===

impl Reply {
    /// Returns an error as the API server describes it.
    pub(crate) fn error(code: u16, reason: &str) -> Reply {
        let message = format!("refused: {reason}");
        Reply::Json(
            code,
            json!({"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": code}),
        )
    }

    /// Delays this reply.
    pub(crate) fn after(self, seconds: u64) -> Reply {
        Reply::Late(Duration::from_secs(seconds), Box::new(self))
    }
}

// === impl FakeApi ===

impl FakeApi {
    /// Creates an API server that knows ConfigMaps and Deployments, but has no objects.
    pub(crate) fn new() -> FakeApi {
        let api = FakeApi::default();
        let resources = |version: &str, plural: &str, kind: &str| {
            let verbs = ["get", "list", "watch", "patch", "create", "delete"];
            json!({"kind": "APIResourceList", "groupVersion": version, "resources": [
                {"name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": verbs}]})
        };
        let version = json!({"groupVersion": "apps/v1", "version": "v1"});
        let groups = json!([{"name": "apps", "versions": [version], "preferredVersion": version}]);
        let answers = [
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
            json!({"kind": "APIGroupList", "groups": groups}),
            resources("v1", "configmaps", "ConfigMap"),
            resources("apps/v1", "deployments", "Deployment"),
        ];
        DISCOVERY.into_iter().zip(answers).for_each(|(line, answer)| api.on(line, [Reply::Json(200, answer)]));
        api
    }

    /// Answers requests with this line by these replies, in order. The last one repeats.
    pub(crate) fn on(&self, line: &str, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.replies).insert(line.to_owned(), replies.into_iter().collect());
    }

    /// Returns a client of this API server.
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let answer = move |request| {
            let api = api.clone();
            async move { api.answer(request).await }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    /// Returns all requests so far, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    /// Returns the lines of the requests for objects, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.calls().into_iter().map(|call| call.line);
        lines.filter(|line| !DISCOVERY.contains(&line.as_str())).collect()
    }

    /// Returns the last request with this line.
    pub(crate) fn last(&self, line: &str) -> Call {
        let calls = self.calls();
        calls.iter().rfind(|call| call.line == line).unwrap_or_else(|| panic!("no {line} in {calls:?}")).clone()
    }

    /// Waits until this holds for the requests so far.
    pub(crate) async fn wait_until(&self, is_so: impl Fn(&[Call]) -> bool) {
        self.calls.subscribe().wait_for(|calls| is_so(calls)).await.expect("`self` holds the sender");
    }

    async fn answer(&self, request: http::Request<Body>) -> Result<Response<Body>, BoxError> {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let verb = match &query {
            watch if watch.contains("watch=true") => "WATCH",
            dry_run if dry_run.contains("dryRun=All") => "DRY-RUN",
            _ => head.method.as_str(),
        };
        let line = format!("{verb} {}", head.uri.path());
        let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let body = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap_or_default();
        let mut reply = self.next(&line);
        let mut number = 0;
        self.calls.send_modify(|calls| {
            number = calls.len();
            calls.push(Call { line, query, content_type: content_type.to_owned(), body, is_open: true });
        });
        let _open = Open(self.clone(), number);
        while let Reply::Late(time, later) = reply {
            tokio::time::sleep(time).await;
            reply = *later;
        }
        let (status, text) = match reply {
            Reply::Json(status, value) => (status, value.to_string()),
            Reply::Text(text) => (200, text),
            Reply::Broken => return Err("connection reset by peer".into()),
            Reply::Silent | Reply::Late(..) => return std::future::pending().await,
        };
        Ok(Response::builder().status(status).body(Body::from(text.into_bytes()))?)
    }

    fn next(&self, line: &str) -> Reply {
        let mut replies = lock(&self.replies);
        match replies.get_mut(line) {
            Some(replies) if replies.len() > 1 => replies.pop_front(),
            Some(replies) => replies.front().cloned(),
            None => None,
        }
        .unwrap_or_else(|| Reply::error(501, &format!("the test does not expect {line}")))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.calls.send_modify(|calls| calls[self.1].is_open = false);
    }
}
