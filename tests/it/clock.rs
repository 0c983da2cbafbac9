//! Tests that wrong clocks and forged times neither end nor hide a war, and do not affect other clusters.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::serve::Server;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
/// 2300-01-01.
const IN_2300: i64 = 10_413_792_000 * SECOND;
/// 0001-06-01.
const IN_YEAR_1: i64 = -62_122_550_400 * SECOND;

pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

fn text(at: i64) -> String {
    format!("{:.6}", jiff::Timestamp::from_microsecond(at).unwrap())
}

/// A patch by `user` that sets `data.v` of a ConfigMap.
fn patch(name: &str, user: &str, value: &str, at: i64) -> Value {
    event(name, user, &json!({"data": {"v": value}}), at)
}

fn event(name: &str, user: &str, patch: &Value, at: i64) -> Value {
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request", "auditID": format!("{name}-{user}-{at}"),
        "stage": "ResponseComplete", "requestURI": format!("/api/v1/namespaces/shop/configmaps/{name}"), "verb": "patch",
        "user": {"username": user}, "sourceIPs": ["10.0.0.1"], "userAgent": "tool/1",
        "objectRef": {"resource": "configmaps", "namespace": "shop", "name": name, "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 200}, "requestObject": patch,
        "requestReceivedTimestamp": text(at), "stageTimestamp": text(at),
    })
}

/// Alice and Bob overwrite each other's `data.v` 40 times, ten seconds apart, until `end`. `of_bob` maps a time to that
/// of Bob's API server, whose clock is wrong.
fn war(name: &str, end: i64, of_bob: impl Fn(i64) -> i64) -> Vec<Value> {
    let one = |n: i64| {
        let at = end - (40 - n) * 10 * SECOND;
        if n % 2 == 0 { patch(name, "alice", "a", at) } else { patch(name, "bob", "b", of_bob(at)) }
    };
    (0..40).map(one).collect()
}

fn list(items: &[Value]) -> Vec<u8> {
    serde_json::to_vec(&json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items}))
        .unwrap()
}

fn post(server: &Server, cluster: &str, items: &[Value]) {
    assert_eq!(server.post(&format!("/audit/{cluster}"), &list(items)).0, 200);
}

/// Returns the state of the war over `name` in a cluster, and whether its controllers may write.
fn verdict(server: &Server, cluster: &str, name: &str) -> (String, bool) {
    let report = server.json(&format!("/api/v1/wars?cluster={cluster}"));
    let of = |war: &&Value| war["object"]["name"] == name;
    let state = report["wars"].as_array().unwrap().iter().find(of).map_or(Value::Null, |war| war["state"].clone());
    let decision = server.json(&format!("/api/v1/objects/configmaps/shop/{name}/decision?cluster={cluster}"));
    (state.as_str().unwrap_or("none").to_owned(), decision["allowed"].as_bool().unwrap())
}

fn paused() -> (String, bool) {
    ("sustained".to_owned(), false)
}

#[test]
fn an_event_from_the_year_2300_neither_ends_nor_hides_wars() {
    let server = Server::start(&[]);
    post(&server, "prod", &war("web", now(), |at| at));
    assert_eq!(verdict(&server, "prod", "web"), paused());
    for cluster in ["other", "prod"] {
        post(&server, cluster, &[patch("x", "mallory", "1", IN_2300)]);
        assert_eq!(verdict(&server, "prod", "web"), paused(), "after an event of 2300 in {cluster}");
    }
    post(&server, "prod", &war("db", now(), |at| at));
    assert_eq!(verdict(&server, "prod", "db"), paused(), "a new war shows");
    assert_eq!(server.metric(r#"editwar_wrong_clock_writes_total{time="future"}"#), 2.0);
    let report = server.json("/api/v1/wars");
    assert_eq!(report["coverage"]["wrong_clocks"][0]["future"], 2, "{}", report["coverage"]);
    assert!(!report["coverage"]["last"].as_str().unwrap().starts_with("2300"), "{}", report["coverage"]);
    assert!(server.said().contains("check the clock of this API server"), "{}", server.said());
}

#[test]
fn a_clock_that_is_ahead_does_not_end_wars_of_other_clusters() {
    let server = Server::start(&[]);
    // A window and a pause that end after nine minutes.
    post(&server, "prod", &war("web", now(), |at| at));
    for minutes in [9, 20] {
        post(&server, "east", &[patch("x", "mallory", "1", now() + minutes * MINUTE)]);
        assert_eq!(verdict(&server, "prod", "web"), paused(), "{minutes} minutes ahead");
    }
    assert!(
        server.json("/api/v1/objects/configmaps/shop/web/decision?cluster=prod")["as_of"].as_str()
            < Some(&text(now() + MINUTE))
    );
}

#[test]
fn timestamps_in_annotations_are_ignored() {
    let server = Server::start(&["--set", "webhook.max_body_bytes=64KiB"]);
    post(&server, "prod", &war("web", now(), |at| at));
    let forged = json!({"metadata": {"annotations": {"stageTimestamp": "2300-01-01T00:00:00Z"}}});
    let forged = event("y", "tenant", &forged, now());
    post(&server, "prod", std::slice::from_ref(&forged));
    assert_eq!(verdict(&server, "prod", "web"), paused());
    // A batch above the size limit, truncated after the forged time.
    let long =
        json!({"metadata": {"annotations": {"stageTimestamp": "2300-01-01T00:00:00Z", "x": "x".repeat(100 << 10)}}});
    post(&server, "prod", &[forged, event("z", "tenant", &long, now())]);
    assert_eq!(verdict(&server, "prod", "web"), paused());
    let coverage = &server.json("/api/v1/wars")["coverage"];
    assert!(coverage["last"].as_str().unwrap() < text(now()).as_str(), "{coverage}");
}

#[test]
fn a_rival_with_a_wrong_clock_is_found() {
    for (clock, of_bob) in [("2300", IN_2300), ("the year 1", IN_YEAR_1)] {
        let server = Server::start(&[]);
        for n in 0..40 {
            let event =
                if n % 2 == 0 { patch("web", "alice", "a", now()) } else { patch("web", "bob", "b", of_bob + n) };
            post(&server, "prod", &[event]);
        }
        let (_, may_write) = verdict(&server, "prod", "web");
        let report = server.json("/api/v1/wars");
        let found = &report["wars"][0];
        assert_eq!(found["fields"][0]["path"], "data.v", "a clock in {clock}: {report}");
        assert!(found["retakes"].as_u64().unwrap() >= 36, "a clock in {clock}: {found}");
        assert!(!may_write, "a clock in {clock}");
    }
}

#[test]
fn forged_times_do_not_hide_a_coverage_gap() {
    let server = Server::start(&[]);
    let (before, after) = (now() - 30 * MINUTE, now());
    let forged = json!({"metadata": {"annotations": {"stageTimestamp": text(now() - 15 * MINUTE)}}});
    post(&server, "prod", &[patch("web", "alice", "a", before)]);
    post(&server, "prod", &[event("y", "tenant", &forged, after)]);
    let coverage = &server.json("/api/v1/wars")["coverage"];
    assert_eq!(coverage["gaps"].as_array().unwrap().len(), 1, "{coverage}");
}

#[test]
fn one_wrong_time_in_a_log_is_reported_and_changes_no_verdict() {
    let last_week = now() - 8 * 24 * 60 * MINUTE;
    let plain = war("web", last_week, |at| at);
    for wrong in [IN_2300, 253_402_300_799 * SECOND - 2 * 24 * 60 * MINUTE] {
        for place in [0, 20, 40] {
            let mut events = plain.clone();
            events.insert(place, patch("x", "mallory", "1", wrong));
            let (stdout, _) = analyze(&events);
            let report: Value = serde_json::from_str(&stdout).unwrap();
            assert_eq!(report["wars"][0]["state"], "sustained", "{} at {place}", text(wrong));
            assert_eq!(report["wars"][0]["retakes"], 38);
            assert_eq!(report["coverage"]["wrong_clocks"][0]["future"], 1, "{}", report["coverage"]);
        }
    }
}

#[test]
fn a_log_from_the_future_is_analyzed_normally() {
    let (stdout, _) = analyze(&war("web", now() + 30 * 24 * 60 * MINUTE, |at| at));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&report["wars"][0]["state"], &report["wars"][0]["retakes"]),
        (&json!("sustained"), &json!(38)),
        "{report}"
    );
    assert_eq!(report["coverage"]["wrong_clocks"], Value::Null);
}

#[test]
fn a_log_that_runs_longer_does_not_end_wars_in_the_others() {
    let folder = tempfile("ahead");
    let end = now() - 24 * 60 * MINUTE;
    let lines = |events: &[Value]| events.iter().map(|event| format!("{event}\n")).collect::<String>();
    std::fs::write(folder.join("a.log"), lines(&war("web", end, |at| at))).unwrap();
    // An event every minute, from before the war until 20 hours after it. The clock of this API server is wrong.
    let reads: Vec<Value> = (-10..1200).map(|minute| patch("x", "bob", "1", end + minute * MINUTE)).collect();
    std::fs::write(folder.join("b.log"), lines(&reads)).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_editwar"))
        .args(["analyze", "-o", "json"])
        .args([folder.join("a.log"), folder.join("b.log")])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["wars"][0]["state"], "sustained", "{report}");
    std::fs::remove_dir_all(folder).unwrap();
}

fn tempfile(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("editwar-clock-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn analyze(events: &[Value]) -> (String, String) {
    use std::io::Write;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_editwar"))
        .args(["analyze", "-o", "json", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let log: String = events.iter().map(|event| format!("{event}\n")).collect();
    child.stdin.take().unwrap().write_all(log.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}
