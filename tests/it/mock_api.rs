//! Tests each API call of the enforcer against a mock API server: what it sends, and how it interprets each response.

use std::time::Duration;

use editwar::detect::verdict::{Confidence, State};
use editwar::enforce::leader_election::LeaderElector;
use editwar::enforce::lease::Lease;
use editwar::enforce::pause_client::{Error, PauseClient};
use editwar::enforce::pauses::Target;
use editwar::enforce::plan::Verdict;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower_test::mock::Handle;

const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/editwar/leases/editwar";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/editwar/leases";
/// A timeout that no test reaches, unless it says so.
const LIMIT: Duration = Duration::from_secs(60);

/// The API server: receives requests in order, and answers each.
struct Server(Handle<Request<Body>, Response<Body>>);

/// A received request.
struct Call {
    method: String,
    path: String,
    query: String,
    content_type: String,
    body: Value,
}

// === impl Server ===

impl Server {
    fn new() -> (Client, Server) {
        let (service, handle) = tower_test::mock::pair();
        (Client::new(service, "default"), Server(handle))
    }

    /// Receives the next request and answers it.
    async fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: Value) -> Call {
        let (request, respond) = self.0.next_request().await.expect("there is a request");
        let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        respond.send_response(response.body(Body::from(body.to_string().into_bytes())).unwrap());
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Call {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            content_type: head.headers.get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    /// Answers the next request with an error.
    async fn refuse(&mut self, code: u16, reason: &str, headers: &[(&str, &str)]) -> Call {
        let message = format!("refused: {reason}");
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code});
        self.answer(code, headers, status).await
    }
}

// === impl Call ===

impl Call {
    fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

fn target() -> Target {
    let kind = GroupVersionKind::gvk("apps", "v1", "Deployment");
    Target {
        resource: ApiResource::from_gvk_with_plural(&kind, "deployments"),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        uid: Some("uid-1".to_owned()),
    }
}

fn verdict() -> Verdict {
    Verdict {
        state: State::Sustained,
        confidence: Confidence::Confirmed,
        until: Some(1_795_400_000_000_000),
        parties: vec!["alice".into(), "bob".into()],
        over: "spec.replicas (3 ⇄ 5)".to_owned(),
        retakes: 12,
        since: None,
        removal: None,
        is_unmanaged: false,
    }
}

fn metadata() -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "web", "namespace": "shop"}})
}

#[tokio::test]
async fn a_pause_is_a_forced_apply_of_annotations_with_the_uid() {
    let (client, mut server) = Server::new();
    let hand = PauseClient::new(client, LIMIT);
    let (target, verdict) = (target(), verdict());
    let (paused, call) = tokio::join!(hand.pause(&target, &verdict), server.answer(200, &[], metadata()));
    paused.unwrap();
    assert_eq!(call.line(), format!("PATCH {WEB}"));
    assert_eq!(call.content_type, "application/apply-patch+yaml");
    let mut query: Vec<&str> = call.query.split('&').filter(|part| !part.is_empty()).collect();
    query.sort_unstable();
    assert_eq!(query, ["fieldManager=editwar", "force=true"]);
    let expected = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "uid": "uid-1", "annotations": {
            "platform.kubevirt.io/reconcile-paused": "true",
            "platform.kubevirt.io/reconcile-paused-because": "alice and bob fight over spec.replicas (3 ⇄ 5): 12 retakes",
            "platform.kubevirt.io/reconcile-paused-until": "2026-11-23T02:13:20Z",
        }},
    });
    assert_eq!(call.body, expected);

    // Server-side apply removes what a manager no longer applies.
    let (lifted, call) = tokio::join!(hand.lift(&target), server.answer(200, &[], metadata()));
    lifted.unwrap();
    assert_eq!(call.line(), format!("PATCH {WEB}"));
    assert_eq!(call.body["metadata"], json!({"name": "web", "uid": "uid-1", "annotations": {}}));
}

#[tokio::test]
async fn not_found_and_conflict_mean_that_the_object_is_gone() {
    let (client, mut server) = Server::new();
    let hand = PauseClient::new(client, LIMIT);
    let (target, verdict) = (target(), verdict());
    for (code, reason) in [(404, "NotFound"), (409, "Conflict")] {
        let (paused, _) = tokio::join!(hand.pause(&target, &verdict), server.refuse(code, reason, &[]));
        assert!(matches!(paused, Err(Error::Gone)), "{code}: {paused:?}");
        let (lifted, _) = tokio::join!(hand.lift(&target), server.refuse(code, reason, &[]));
        assert!(matches!(lifted, Err(Error::Gone)), "{code}: {lifted:?}");
    }
}

#[tokio::test]
async fn a_forbidden_call_names_the_rbac_rule_that_allows_it() {
    let (client, mut server) = Server::new();
    let hand = PauseClient::new(client, LIMIT);
    let (target, verdict) = (target(), verdict());
    let (paused, _) = tokio::join!(hand.pause(&target, &verdict), server.refuse(403, "Forbidden", &[]));
    let Err(Error::Forbidden { message, rule }) = paused else { panic!("{paused:?}") };
    assert_eq!(message, "refused: Forbidden");
    assert_eq!(rule, r#"{apiGroups: ["apps"], resources: [deployments], verbs: [patch]}"#);
}

#[tokio::test]
async fn a_busy_api_server_fails_the_call_without_retries() {
    let (client, mut server) = Server::new();
    let hand = PauseClient::new(client, LIMIT);
    let (target, verdict) = (target(), verdict());
    for (code, reason) in [(429, "TooManyRequests"), (503, "ServiceUnavailable"), (500, "InternalError")] {
        let refused = server.refuse(code, reason, &[("retry-after", "1")]);
        let (paused, _) = tokio::join!(hand.pause(&target, &verdict), refused);
        assert!(matches!(&paused, Err(Error::Unavailable(why)) if why.contains(reason)), "{code}: {paused:?}");
    }
    drop(hand);
    assert!(server.0.next_request().await.is_none(), "the plan decides when to try again");
}

#[tokio::test]
async fn unanswered_calls_time_out() {
    let (client, _server) = Server::new();
    let hand = PauseClient::new(client, Duration::from_millis(20));
    let paused = hand.pause(&target(), &verdict()).await;
    assert!(matches!(&paused, Err(Error::Unavailable(why)) if why.contains("no answer within")), "{paused:?}");
}

/// Returns the Lease as the API server has it.
fn lease_of(holder: &str, revision: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "editwar", "namespace": "editwar", "resourceVersion": revision},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 10, "leaseTransitions": 3,
            "acquireTime": "2026-11-23T02:00:00.000000Z", "renewTime": "2026-11-23T02:00:00.000000Z"}})
}

#[tokio::test]
async fn a_lease_is_created_and_then_renewed_at_the_revision_that_was_read() {
    let (client, mut server) = Server::new();
    let mut lease = Lease::new(client, "editwar", "editwar", "me");
    let now = Instant::now();
    let created = async {
        let read = server.refuse(404, "NotFound", &[]).await;
        (read, server.answer(201, &[], lease_of("me", "1")).await)
    };
    let (is_held, (read, created)) = tokio::join!(lease.renew(now), created);
    assert!(is_held.unwrap());
    assert_eq!((read.line(), created.line()), (format!("GET {LEASE}"), format!("POST {LEASES}")));
    assert_eq!(created.body["spec"]["holderIdentity"], "me");
    assert_eq!(created.body["spec"]["leaseTransitions"], 1);

    let renewed = async {
        server.answer(200, &[], lease_of("me", "7")).await;
        server.answer(200, &[], lease_of("me", "8")).await
    };
    let (is_held, renewed) = tokio::join!(lease.renew(now), renewed);
    assert!(is_held.unwrap() && lease.held_until().is_some_and(|until| until > now));
    assert_eq!(renewed.line(), format!("PUT {LEASE}"));
    assert_eq!(renewed.body["metadata"]["resourceVersion"], "7");
    assert_eq!(renewed.body["spec"]["acquireTime"], "2026-11-23T02:00:00.000000Z");
    assert_eq!(renewed.body["spec"]["leaseTransitions"], 3);
}

#[tokio::test]
async fn a_lease_held_or_taken_by_another_replica_is_lost() {
    let (client, mut server) = Server::new();
    let mut lease = Lease::new(client, "editwar", "editwar", "me");
    let now = Instant::now();
    let gained = async {
        server.answer(200, &[], lease_of("", "1")).await;
        server.answer(200, &[], lease_of("me", "2")).await
    };
    assert!(tokio::join!(lease.renew(now), gained).0.unwrap());

    let conflict = async {
        server.answer(200, &[], lease_of("me", "2")).await;
        server.refuse(409, "Conflict", &[]).await
    };
    assert!(!tokio::join!(lease.renew(now), conflict).0.unwrap());
    assert_eq!(lease.held_until(), None);

    // Only reads, since the other replica may still act.
    let (is_held, _) = tokio::join!(lease.renew(now), server.answer(200, &[], lease_of("other", "3")));
    assert!(!is_held.unwrap());
    drop(lease);
    assert!(server.0.next_request().await.is_none());
}

#[tokio::test]
async fn a_failed_renewal_does_not_extend_the_lease() {
    let (client, mut server) = Server::new();
    let mut lease = Lease::new(client, "editwar", "editwar", "me");
    let now = Instant::now();
    let gained = async {
        server.answer(200, &[], lease_of("me", "1")).await;
        server.answer(200, &[], lease_of("me", "2")).await
    };
    assert!(tokio::join!(lease.renew(now), gained).0.unwrap());
    let until = lease.held_until();
    let later = now + Duration::from_secs(2);
    let (failed, _) = tokio::join!(lease.renew(later), server.refuse(429, "TooManyRequests", &[("retry-after", "1")]));
    assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    assert_eq!(lease.held_until(), until);
}

#[tokio::test]
async fn the_leadership_ends_when_another_replica_holds_the_lease() {
    let (client, mut server) = Server::new();
    let (elector, mut leadership) = LeaderElector::new(Lease::new(client, "editwar", "editwar", "me"));
    assert!(!leadership.is_held());
    let electing = tokio::spawn(elector.run());
    server.answer(200, &[], lease_of("", "1")).await;
    server.answer(200, &[], lease_of("me", "2")).await;
    leadership.wait_until_held(LIMIT).await;
    assert!(leadership.is_held());
    server.answer(200, &[], lease_of("other", "3")).await;
    leadership.wait_until_lost().await;
    assert!(!leadership.is_held());
    assert_eq!(leadership.problem(), editwar::enforce::control::STANDING_BY);
    // The keeper ends with the last tenure, and does not release a Lease that it does not hold.
    drop(leadership);
    electing.await.unwrap();
    assert!(server.0.next_request().await.is_none());
}
