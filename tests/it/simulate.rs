//! What-if: `simulate` says with the live limits what `serve` decided, and counts right with others.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::{fixture, run, scratch};
use crate::serve::Server;
use crate::util;

/// Of each object that thrashed: its state, since when, how sure, and the counts.
type Decisions = BTreeMap<String, Value>;

/// What a server says after it was posted the log as kube-apiserver posts it: in batches of 400.
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

fn decision(of: &Value) -> (String, Value) {
    let keys = ["state", "confidence", "retakes", "thrashing_events"];
    (of["object"].to_string(), keys.iter().map(|key| ((*key).to_owned(), of[key].clone())).collect())
}

fn decision_path(object: &Value) -> String {
    let text = |key: &str| object[key].as_str().unwrap();
    let group = if text("group").is_empty() { String::new() } else { format!(".{}", text("group")) };
    let namespace = if text("namespace").is_empty() { "-" } else { text("namespace") };
    format!("/api/v1/objects/{}{group}/{namespace}/{}/decision", text("resource"), text("name"))
}

#[test]
fn simulate_with_the_live_limits_is_what_serve_decided_on_every_recording() {
    let mut thrashed = 0;
    for recording in util::recordings() {
        let (server, served) = served(&recording);
        let simulation = simulated(&recording, &["--confidence", "possible"]);
        let hits = simulation["scenarios"][0]["objects"].as_array().unwrap();
        assert_eq!(hits.iter().map(decision).collect::<Decisions>(), served, "{recording}");
        thrashed += hits.len();
        // Decisions want more than a possible war.
        let sure = simulated(&recording, &[]);
        let sure = sure["scenarios"][0]["objects"].as_array().unwrap();
        for object in hits.iter().map(|hit| &hit["object"]) {
            let hit = sure.iter().find(|hit| hit["object"] == *object);
            let decided = server.json(&decision_path(object));
            let is_paused = hit.is_some_and(|hit| hit["state"] == "paused");
            assert_eq!(decided["write"] == false, is_paused, "{recording}: {decided}, {hit:?}");
            if let Some(hit) = hit {
                assert_eq!(decided["state"], hit["state"], "{recording}: {decided}");
            }
        }
    }
    assert!(thrashed >= 6, "the recordings with wars are gone: {thrashed}");
}

#[test]
fn a_sweep_tries_every_combination_and_tells_each_apart() {
    let arguments = ["--limit", "5/10m", "--limit", "100/10m,200/6h", "--pause-after", "1", "--pause-after", "3"];
    let simulation = simulated("hpa-vs-applier", &arguments);
    // The recording: twenty retakes, the first thrashing event 45 s and the third 61 s after the first of them.
    // Five tokens leave fifteen thrashing events; the first (or third) pauses; what comes after that is spared.
    let tried: Vec<_> = simulation["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            let count = |key: &str| s[key].as_u64().unwrap();
            (s["buckets"][0].as_str().unwrap(), count("pause_after"), count("thrashing"), count("spared"))
        })
        .collect();
    assert_eq!(tried, [("5/10m", 1, 1, 14), ("5/10m", 3, 1, 12), ("100/10m", 1, 0, 0), ("100/10m", 3, 0, 0)]);
}

#[test]
fn a_pause_after_the_last_retake_is_called_needless() {
    // Twenty retakes: the fifteenth thrashing event is the last of them.
    let simulation = simulated("hpa-vs-applier", &["--pause-after", "15"]);
    assert_eq!(simulation["scenarios"][0]["needless"], 1, "{simulation:#}");
    assert_eq!(simulation["scenarios"][0]["objects"][0]["needless"], true);
    let simulation = simulated("hpa-vs-applier", &["--pause-after", "14"]);
    assert_eq!(simulation["scenarios"][0]["needless"], 0);
}

#[test]
fn simulate_is_a_gate_for_a_pipeline() {
    let report = scratch("simulate-junit").join("report.xml");
    let path = report.to_str().unwrap();
    let (code, out, _) = run(&["simulate", &fixture("gitops-vs-kubectl"), "--junit", path], None);
    assert_eq!(code, 1);
    assert!(out.contains("ConfigMap war/app-config"), "{out}");
    let xml = std::fs::read_to_string(&report).unwrap();
    assert!(xml.contains(r#"<testsuite name="editwar" tests="1" failures="1">"#), "{xml}");
    assert!(xml.contains(r#"name="ConfigMap war/app-config is not fought over""#), "{xml}");
    assert!(xml.contains("71 retakes") && xml.contains("alice and bob"), "{xml}");

    let (code, _, _) = run(&["simulate", &fixture("bootstrap"), "--junit", path], None);
    assert_eq!(code, 0);
    let xml = std::fs::read_to_string(&report).unwrap();
    assert!(xml.contains(r#"tests="1" failures="0""#) && !xml.contains("<failure"), "{xml}");

    // Where only Metadata is logged, nothing is sure enough to fail a pipeline, unless asked to be.
    let metadata = fixture("gitops-vs-kubectl-metadata");
    assert_eq!(run(&["simulate", &metadata], None).0, 0);
    assert_eq!(run(&["simulate", &metadata, "--confidence", "possible"], None).0, 1);
}

#[test]
fn wrong_limits_are_refused_with_an_example() {
    for (arguments, reason) in [
        (["--limit", "5"], "`5` is no limit such as 5/10m"),
        (["--quiet-period", "soon"], "`soon` is no duration such as 10m"),
        (["--pause-after", "0"], "number would be zero for non-zero type"),
    ] {
        let (code, _, err) = run(&[&["simulate", &fixture("bootstrap")], &arguments[..]].concat(), None);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(reason), "{err}");
    }
}
