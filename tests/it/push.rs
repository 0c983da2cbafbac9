//! Everything that posts events to a server: every format, with the answers that the protocols specify.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::serve::Server;
use crate::util;
use crate::wrappers::{Facts, WRAPPERS, Wrapped};

const JSON: &str = "Content-Type: application/json\r\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn contested(server: &Server, cluster: &str) -> Vec<String> {
    let (status, answer) = server.get(&format!("/api/v1/wars?cluster={cluster}"));
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let war = |war: &Value| {
        let parties: Vec<String> =
            war["parties"].as_array().unwrap().iter().map(|p| format!("{} {}", p["actor"], p["retakes"])).collect();
        let fields: Vec<&Value> = war["fields"].as_array().unwrap().iter().map(|f| &f["path"]).collect();
        format!(
            "{}/{} {} {} {parties:?} {fields:?}",
            war["object"]["resource"], war["object"]["name"], war["confidence"], war["retakes"]
        )
    };
    answer["wars"].as_array().unwrap().iter().map(war).collect()
}

#[test]
fn every_format_that_is_posted_has_the_verdicts_of_the_plain_log() {
    let server = Server::start(&[]);
    let log = util::log("gitops-vs-kubectl");
    let log = std::str::from_utf8(&log).unwrap();
    let events: Vec<&str> = log.lines().filter(|line| line.contains(r#""app-config""#)).collect();
    let post = |path: &str, body: &[u8]| {
        let (status, answer) = server.request(server.webhook, "POST", path, JSON, body);
        assert_eq!(status, 200, "{path}: {answer}");
    };
    post("/audit/plain", events.join("\n").as_bytes());
    let plain = contested(&server, "plain");
    assert!(!plain.is_empty());
    for (number, wrapper) in WRAPPERS.iter().enumerate() {
        let wrapped = Wrapped::new(wrapper, &events);
        // Half of them compressed. A client of another protocol may use the path of its own.
        let path = match wrapped.name {
            name if name.starts_with("Firehose") => format!("/firehose/c{number}"),
            name if name.starts_with("OTLP") => format!("/otlp/c{number}/v1/logs"),
            name if name.starts_with("GKE") => format!("/pubsub/c{number}"),
            _ => format!("/audit/c{number}"),
        };
        let body = if number % 2 == 0 { gzip(&wrapped.bytes) } else { wrapped.bytes };
        // There is room for a share of all names for each client.
        if number < 31 {
            post(&path, &body);
            let found = contested(&server, &format!("c{number}"));
            match wrapped.facts {
                Facts::All | Facts::WithoutImpersonation => assert_eq!(found, plain, "{}", wrapped.name),
                Facts::WithoutQuery => assert_eq!(found.len(), plain.len(), "{}", wrapped.name),
            }
        }
    }
}

#[test]
fn firehose_is_answered_with_the_id_of_its_request_and_its_key_is_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "s3cret firehose\n").unwrap();
    let server = Server::start(&["--set", &format!("webhook.auth.token_file={}", tokens.display())]);
    let ask = |key: &str, body: &[u8]| {
        let headers = format!("{JSON}X-Amz-Firehose-Request-Id: ed4acda5\r\nX-Amz-Firehose-Access-Key: {key}\r\n");
        let (status, answer) = server.request(server.webhook, "POST", "/firehose/east", &headers, body);
        (status, serde_json::from_str::<Value>(&answer).unwrap_or_default())
    };
    let log = util::log("setup");
    let events: Vec<&str> = std::str::from_utf8(&log).unwrap().lines().collect();
    let (_, _, wrap) = WRAPPERS.iter().find(|(name, ..)| *name == "Firehose").unwrap();
    let (status, answer) = ask("s3cret", &wrap(&events));
    assert_eq!((status, &answer["requestId"]), (200, &"ed4acda5".into()));
    assert!(answer["timestamp"].is_i64() && answer.get("errorMessage").is_none());
    assert_eq!(ask("wrong", b"{}").0, 401);
}

#[test]
fn otlp_is_answered_as_specified() {
    let server = Server::start(&[]);
    let ask = |media_type: &str, body: &[u8]| {
        let headers = format!("Content-Type: {media_type}\r\n");
        server.request(server.webhook, "POST", "/v1/logs", &headers, body)
    };
    assert_eq!(ask("application/json", br#"{"resourceLogs":[]}"#), (200, "{}".to_owned()));
    assert_eq!(ask("application/x-protobuf", b""), (200, String::new()));
    assert_eq!(ask("application/x-protobuf", b"\xff\xff\xff").0, 400, "sending it again would not help");
    assert_eq!(ask("text/plain", b"{}").0, 415);
}

/// Returns the review of the `n`th write of two accounts that set a field back.
fn review(n: u32, id: &str) -> Value {
    let object = |mode: &str| {
        json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"mode": mode},
               "metadata": {"name": "app", "namespace": "shop", "uid": "u", "resourceVersion": n.to_string()}})
    };
    let (user, before, after) = turn(n);
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": id, "operation": "UPDATE", "namespace": "shop", "name": "app",
        "resource": {"group": "", "version": "v1", "resource": "configmaps"},
        "userInfo": {"username": user}, "object": object(after), "oldObject": object(before),
        "dryRun": false, "options": {"kind": "PatchOptions", "fieldManager": "kubectl-patch"}}})
}

fn turn(n: u32) -> (&'static str, &'static str, &'static str) {
    if n.is_multiple_of(2) { ("alice", "green", "blue") } else { ("bob", "blue", "green") }
}

#[test]
fn a_restart_joins_reviews_and_audit_events_of_the_journal_again() {
    let folder = tempfile::tempdir().unwrap();
    let journal = ["--journal", folder.path().to_str().unwrap()];
    let mut server = Server::start(&journal);
    for n in 0..12 {
        let id = format!("11111111-2222-4333-8444-{n:012}");
        let received = jiff::Timestamp::now();
        let body = review(n, &id).to_string();
        let (status, answer) = server.request(server.webhook, "POST", "/admission/east", JSON, body.as_bytes());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let key = format!("review.{id}");
        assert_eq!((status, answer["response"]["auditAnnotations"].get(&key)), (200, Some(&"".into())), "{answer}");
        let event = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": format!("a-{n}"),
            "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/shop/configmaps/app?fieldManager=kubectl-patch",
            "verb": "patch", "user": {"username": turn(n).0}, "sourceIPs": ["10.0.0.1"], "userAgent": "kubectl/v1.36.1",
            "objectRef": {"resource": "configmaps", "namespace": "shop", "name": "app", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 200}, "requestReceivedTimestamp": format!("{received:.6}"),
            "stageTimestamp": format!("{:.6}", jiff::Timestamp::now()),
            "annotations": {format!("observe.editwar.dev/{key}"): ""}});
        let (status, _) = server.request(server.webhook, "POST", "/audit/east", JSON, event.to_string().as_bytes());
        assert_eq!(status, 200);
    }
    let war = |server: &Server| {
        let answer = server.json("/api/v1/wars?cluster=east");
        let war = &answer["wars"][0];
        let parties = war["parties"].as_array().cloned().unwrap_or_default();
        let parties: Vec<String> = parties
            .iter()
            .map(|party| format!("{} {} {}", party["actor"], party["writes"], party["user_agents"]))
            .collect();
        (war["retakes"].clone(), war["fields"].clone(), parties, answer["coverage"]["levels"].clone())
    };
    util::until("all are joined", || war(&server).3["fields_reviewed"] == 12);
    let before = war(&server);
    assert_eq!(before.2.len(), 2, "{before:?}");
    assert!(before.2.iter().all(|party| party.contains(" 6 ") && party.contains("kubectl/v1.36.1")), "{before:?}");
    assert_eq!((&before.0, &before.3["metadata"]), (&10.into(), &12.into()), "{before:?}");
    server.terminate();
    let server = Server::start(&journal).ready();
    let after = war(&server);
    assert_eq!((&after.1, &after.2), (&before.1, &before.2));
    assert_eq!(after.0, before.0);
}

#[test]
fn an_admission_review_is_always_allowed() {
    let server = Server::start(&[]);
    let ask = |body: &[u8]| {
        let (status, answer) = server.request(server.webhook, "POST", "/admission/east", JSON, body);
        (status, serde_json::from_str::<Value>(&answer).unwrap()["response"]["allowed"].clone())
    };
    for body in [&b""[..], b"{", b"[1]", b"{\"kind\":\"AdmissionReview\"}"] {
        assert_eq!(ask(body), (200, true.into()));
    }
    for n in 0..12 {
        assert_eq!(ask(review(n, &format!("review-{n}")).to_string().as_bytes()), (200, true.into()));
    }
    // Reviews are processed after the answer.
    util::until("the reviews are processed", || contested(&server, "east").iter().any(|war| war.contains("data.mode")));
    let wars = contested(&server, "east");
    assert_eq!(wars.len(), 1, "{wars:?}");
    assert!(wars[0].contains("data.mode") && wars[0].contains("alice") && wars[0].contains("bob"), "{wars:?}");
}
