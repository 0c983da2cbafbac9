//! `simulate` with the live limits must agree with the decisions of `serve`, and count correctly with other limits.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::{fixture, run, scratch};
use crate::serve::Server;
use crate::util;

/// For each thrashing object: its state and since when, confidence, and counts.
type Decisions = BTreeMap<String, Value>;

/// Returns the decisions of a server after the log was posted in batches of 400, like kube-apiserver.
fn served(recording: &str) -> (Server, Decisions) {
    let server = Server::start(&[]);
    server.post_log(recording);
    let wars = server.json("/api/v1/wars?all=true")["wars"].as_array().unwrap().clone();
    let decisions = wars.iter().filter(|war| war["thrashing_events"] != 0).map(decision);
    let decisions = decisions.collect();
    (server, decisions)
}

fn simulated(recording: &str, arguments: &[&str]) -> Value {
    let file = fixture(recording);
    let (_, out, err) = run(&[&["simulate", "-o", "json", "-q", &file], arguments].concat(), None);
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{recording}: {e}: {out}{err}"))
}

/// Returns the key and content of a decision. The wars of one object are distinguished by their parties, which are
/// names in the output of `simulate` and objects in that of a server.
fn decision(of: &Value) -> (String, Value) {
    let keys = ["state", "confidence", "retakes", "thrashing_events"];
    let name = |party: &Value| party["actor"].as_str().or(party.as_str()).unwrap().to_owned();
    let mut parties: Vec<String> = of["parties"].as_array().unwrap().iter().map(name).collect();
    parties.sort();
    (
        format!("{} {}", of["object"], parties.join(" ")),
        keys.iter().map(|key| ((*key).to_owned(), of[key].clone())).collect(),
    )
}

fn decision_path(object: &Value) -> String {
    let text = |key: &str| object[key].as_str().unwrap();
    let group = if text("group").is_empty() { String::new() } else { format!(".{}", text("group")) };
    let namespace = if text("namespace").is_empty() { "-" } else { text("namespace") };
    format!("/api/v1/objects/{}{group}/{namespace}/{}/decision", text("resource"), text("name"))
}

#[test]
fn simulate_with_the_live_limits_agrees_with_serve() {
    let mut thrashed = 0;
    for recording in util::smaller_recordings() {
        let (server, served) = served(&recording);
        let simulation = simulated(&recording, &["--min-confidence", "possible"]);
        let hits = simulation["scenarios"][0]["wars"].as_array().unwrap();
        assert_eq!(hits.iter().map(decision).collect::<Decisions>(), served, "{recording}");
        thrashed += hits.len();
        // Decisions require more than a possible war.
        let sure = simulated(&recording, &[]);
        let sure = sure["scenarios"][0]["wars"].as_array().unwrap();
        for object in hits.iter().map(|hit| &hit["object"]) {
            // The most urgent war of an object determines the decision.
            let hits: Vec<_> = sure.iter().filter(|hit| hit["object"] == *object).collect();
            let decided = server.json(&decision_path(object));
            let is_paused = hits.iter().any(|hit| hit["state"] == "sustained");
            assert_eq!(decided["allowed"] == false, is_paused, "{recording}: {decided}, {hits:?}");
            if !hits.is_empty() {
                assert!(hits.iter().any(|hit| hit["state"] == decided["state"]), "{recording}: {decided}");
            }
        }
    }
    assert!(thrashed >= 6, "the recordings with wars are gone: {thrashed}");
}

#[test]
fn a_sweep_simulates_every_combination_of_limits() {
    let arguments = ["--limit", "5/10m", "--limit", "100/10m,200/6h", "--pause-after", "1", "--pause-after", "3"];
    let simulation = simulated("hpa-vs-applier", &arguments);
    // The recording has twenty-one retakes (the operator's creation of the object counts as a write). The first
    // thrashing event is 30 s after the first retake, and the third 46 s after it. With five tokens, sixteen retakes
    // are thrashing events. The first (or third) one pauses the object, and the retakes after it are spared.
    let tried: Vec<_> = simulation["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            let count = |key: &str| s[key].as_u64().unwrap();
            (s["buckets"][0].as_str().unwrap(), count("pause_after"), count("thrashing"), count("spared"))
        })
        .collect();
    assert_eq!(tried, [("5/10m", 1, 1, 15), ("5/10m", 3, 1, 13), ("100/10m", 1, 0, 0), ("100/10m", 3, 0, 0)]);
}

#[test]
fn a_pause_after_the_last_retake_is_reported_as_needless() {
    // Twenty-one retakes: the sixteenth thrashing event is the last of them.
    let simulation = simulated("hpa-vs-applier", &["--pause-after", "16"]);
    assert_eq!(simulation["scenarios"][0]["needless"], 1, "{simulation:#}");
    assert_eq!(simulation["scenarios"][0]["wars"][0]["needless"], true);
    let simulation = simulated("hpa-vs-applier", &["--pause-after", "15"]);
    assert_eq!(simulation["scenarios"][0]["needless"], 0);
}

#[test]
fn simulate_exits_1_and_writes_junit_for_a_war() {
    let report = scratch("simulate-junit").join("report.xml");
    let path = report.to_str().unwrap();
    let (code, out, _) = run(&["simulate", &fixture("gitops-vs-kubectl"), "--junit", path], None);
    assert_eq!(code, 1);
    assert!(out.contains("ConfigMap war/app-config"), "{out}");
    let xml = std::fs::read_to_string(&report).unwrap();
    assert!(xml.contains(r#"<testsuite name="editwar" tests="1" failures="1" errors="0">"#), "{xml}");
    assert!(xml.contains(r#"name="no war over ConfigMap war/app-config""#), "{xml}");
    assert!(xml.contains("72 retakes") && xml.contains("alice and bob"), "{xml}");

    let (code, _, _) = run(&["simulate", &fixture("bootstrap"), "--junit", path], None);
    assert_eq!(code, 0);
    let xml = std::fs::read_to_string(&report).unwrap();
    assert!(xml.contains(r#"tests="1" failures="0""#) && !xml.contains("<failure"), "{xml}");

    // At Metadata, no war is certain enough to fail a pipeline, unless requested.
    let metadata = fixture("gitops-vs-kubectl-metadata");
    assert_eq!(run(&["simulate", &metadata], None).0, 0);
    assert_eq!(run(&["simulate", &metadata, "--min-confidence", "possible"], None).0, 1);
}

#[test]
fn invalid_limits_are_rejected_with_an_example() {
    for (arguments, reason) in [
        (["--limit", "5"], "expected a limit such as 5/10m, got \"5\""),
        (["--quiet-period", "soon"], "expected a duration such as 90s, 10m or 1h30m, got \"soon\""),
        (["--pause-after", "0"], "number would be zero for non-zero type"),
    ] {
        let (code, _, err) = run(&[&["simulate", &fixture("bootstrap")], &arguments[..]].concat(), None);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(reason), "{err}");
    }
}
