//! Checks the API server: whether audit logging is enabled, whether events were lost, whether editwar's account has the
//! permissions of the enforcer, and whether a test change arrives.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::findings::Findings;
use super::server;
use crate::cli::service;
use crate::query::client::Server;
use crate::query::views::Participants;

/// The account of editwar in a cluster.
const ACCOUNT: &str = "system:serviceaccount:editwar:editwar";
/// Permissions of the enforcer besides read access: verb, group, resource, name.
const RIGHTS: &[(&str, &str, &str, &str)] = &[
    ("patch", "apps", "deployments", ""),
    ("create", "events.k8s.io", "events", ""),
    ("update", "coordination.k8s.io", "leases", "editwar"),
];
/// Time for a change to arrive. kube-apiserver delays a batch by at most 30 s by default.
const PROBE_TIMEOUT: Duration = Duration::from_secs(45);

/// A reachable API server.
pub(super) struct Cluster {
    pub(super) client: kube::Client,
    /// The time of its clock.
    pub(super) date: Timestamp,
}

/// Checks the API server. Returns `None` if it is not reachable.
pub(super) async fn check(client: kube::Client, findings: &mut Findings) -> Option<Cluster> {
    let request = Request::get("/version").body(kube::client::Body::empty()).expect("a path");
    let answer = match client.send(request).await {
        Ok(answer) => answer,
        Err(error) => {
            let error = anyhow!(error);
            findings.bad("API server", format!("does not respond: {error:#}"), "check that kubectl can reach it");
            return None;
        }
    };
    let date = answer.headers().get("date").and_then(|d| d.to_str().ok()).and_then(server::parse_date);
    let version = answer.into_body().collect().await.ok().map(|body| body.to_bytes());
    let version: Value = version.and_then(|v| serde_json::from_slice(&v).ok()).unwrap_or_default();
    findings.good("API server", format!("responds, {}", version["gitVersion"].as_str().unwrap_or("unknown version")));
    check_audit(&client, findings).await;
    check_rights(&client, findings).await;
    Some(Cluster { client, date: date.unwrap_or_else(Timestamp::now) })
}

/// Sums the samples of a metric whose labels contain `label`.
fn sum(metrics: &str, name: &str, label: &str) -> Option<f64> {
    let lines = metrics.lines().filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let values = lines.filter(|l| l.contains(label)).filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

/// Checks whether the API server creates audit events, and whether it has lost any.
async fn check_audit(client: &kube::Client, findings: &mut Findings) {
    let hint = "check that you may get /metrics: `kubectl auth can-i get /metrics`";
    let metrics = match service::get(client, "/metrics").await {
        Ok((StatusCode::OK, metrics)) => metrics,
        Ok((status, _)) => return findings.unknown("audit", format!("/metrics returns {status}"), hint),
        Err(error) => return findings.unknown("audit", format!("{error:#}"), hint),
    };
    let events = sum(&metrics, "apiserver_audit_event_total", "").unwrap_or(0.0);
    let errors = sum(&metrics, "apiserver_audit_error_total", "webhook").unwrap_or(0.0);
    if events == 0.0 {
        let hint =
            "set --audit-policy-file and --audit-webhook-config-file of kube-apiserver: `editwar setup apiserver`";
        findings.bad("audit", "the API server creates no audit events".into(), hint);
    } else if errors > 0.0 {
        let text = format!("the API server lost {errors} of {events} events that it could not post");
        findings.bad(
            "audit",
            text,
            "see its log for the reason; the counter includes past losses until the API server restarts",
        );
    } else {
        findings.good("audit", format!("the API server created {events} events and lost none"));
    }
}

/// Checks the permissions of editwar's account for enforcement. Observing needs none.
async fn check_rights(client: &kube::Client, findings: &mut Findings) {
    let mut missing = Vec::new();
    for right in RIGHTS {
        match may(client, right).await {
            Ok(true) => {}
            Ok(false) => missing.push(format!("{} {}", right.0, right.2)),
            Err(error) => {
                let hint = "check that you may create subjectaccessreviews";
                return findings.unknown("RBAC", format!("{error:#}"), hint);
            }
        }
    }
    if missing.is_empty() {
        findings.good("RBAC", format!("{ACCOUNT} may pause objects"));
    } else if missing.len() == RIGHTS.len() {
        findings.good("RBAC", format!("{ACCOUNT} may only observe"));
    } else {
        findings.bad(
            "RBAC",
            format!("{ACCOUNT} may not {}", missing.join(", ")),
            "apply all manifests of the mode that editwar runs in",
        );
    }
}

async fn may(client: &kube::Client, (verb, group, resource, name): &(&str, &str, &str, &str)) -> Result<bool> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": ACCOUNT,
        "groups": ["system:serviceaccounts", "system:serviceaccounts:editwar", "system:authenticated"],
        "resourceAttributes": {"verb": verb, "group": group, "resource": resource, "name": name, "namespace": "editwar"}}});
    let answer = send(client, "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await?;
    answer["status"]["allowed"].as_bool().ok_or_else(|| anyhow!("the review contains no decision"))
}

/// Sends a request with a body, and returns the answer.
pub(super) async fn send(client: &kube::Client, method: &str, path: &str, body: &Value) -> Result<Value> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    client.request(request.body(serde_json::to_vec(body)?)?).await.map_err(|error| match error {
        kube::Error::Api(status) => anyhow!(status.message),
        error => error.into(),
    })
}

/// Makes a change and waits for it to arrive.
pub(super) async fn probe(cluster: &Cluster, server: &Server, namespace: &str, findings: &mut Findings) {
    let name = format!("editwar-doctor-{}", std::process::id());
    let all = format!("/api/v1/namespaces/{namespace}/configmaps");
    let one = format!("{all}/{name}");
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "editwar-doctor"}}});
    let client = &cluster.client;
    let made = async {
        send(client, "POST", &all, &body).await?;
        send(client, "PATCH", &one, &json!({"data": {"probe": "1"}})).await?;
        send(client, "DELETE", &one, &json!({})).await
    };
    if let Err(error) = made.await {
        return findings.unknown(
            "probe",
            format!("{error:#}"),
            "check that you may create, patch and delete configmaps in this namespace",
        );
    }
    let started = Instant::now();
    let question = format!("/api/v1/participants?kind=configmap&namespace={namespace}&name={name}");
    while started.elapsed() < PROBE_TIMEOUT {
        if let Ok(found) = server.get::<Participants>(&question).await {
            let after = started.elapsed().as_secs_f64();
            let actors: Vec<&str> = found.actors.iter().map(|a| a.actor.as_str()).collect();
            return findings.good("probe", format!("a change by {} arrived after {after:.1} s", actors.join(", ")));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    findings.bad(
        "probe",
        format!("a change did not arrive within {} s", PROBE_TIMEOUT.as_secs()),
        "check that the policy logs configmaps, and that the API server of this cluster posts to this server",
    );
}
