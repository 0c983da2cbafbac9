//! Tests of the parts of an answer besides the verdict: timeline charts, gaps, the basis of the answer, notes for
//! tickets, and redacted values.

use serde_json::Value;

use crate::cli::{fixture, run};
use crate::serve::Server;
use crate::util;

/// Returns the time of an event without its fraction.
fn time_of(line: &[u8]) -> String {
    let event: Value = serde_json::from_slice(line).unwrap();
    event["stageTimestamp"].as_str().unwrap()[..19].to_owned()
}

/// Returns the log of gitops-vs-kubectl (157 s long) without the events between 10 s and 140 s, and the ends of that
/// gap.
fn with_a_gap() -> (Vec<u8>, String, String) {
    let log = util::log("gitops-vs-kubectl");
    let mut lines = util::lines(&log);
    lines.sort_by_key(|line| time_of(line));
    let is_kept = |line: &&[u8]| {
        let time = time_of(line);
        time.as_str() < "2026-11-23T02:01:12" || time.as_str() > "2026-11-23T02:03:22"
    };
    let kept: Vec<&[u8]> = lines.into_iter().filter(is_kept).collect();
    let after = kept.iter().position(|line| time_of(line).as_str() > "2026-11-23T02:03:22").unwrap();
    (kept.join(&b'\n'), time_of(kept[after - 1]), time_of(kept[after]))
}

#[test]
fn gaps_in_the_events_are_reported_and_shaded() {
    let (log, from, to) = with_a_gap();
    let (_, out, _) = run(&["who", "cm/app-config", "-n", "war", "-"], Some(&log));
    let told = format!("No audit events from {} {}Z to {}Z.", &from[..10], &from[11..], &to[11..]);
    assert!(out.contains(&told), "{told} is missing:\n{out}");
    let lane = out.lines().find(|line| line.contains("alice") && line.contains('░')).expect("a shaded lane");
    // 130 s of 157 s are missing.
    let share = lane.matches('░').count() as f64 / lane.matches(['░', '·', 'g', 'r', 'e', 'n', '•']).count() as f64;
    assert!(share > 0.6, "{share}: {lane}");
    let (_, json, _) = run(&["analyze", "-o", "json", "-q", "-"], Some(&log));
    let gaps = &serde_json::from_str::<Value>(&json).unwrap()["coverage"]["gaps"];
    assert_eq!(gaps.as_array().unwrap().len(), 1, "{gaps}");
    assert!(gaps[0]["from"].as_str().unwrap().starts_with(&from), "{gaps}");
    assert!(gaps[0]["to"].as_str().unwrap().starts_with(&to), "{gaps}");

    let whole = util::log("gitops-vs-kubectl");
    assert!(!run(&["analyze", "-"], Some(&whole)).1.contains("No audit events"));
}

#[test]
fn lanes_show_each_partys_values_at_their_time() {
    let (_, out, _) = run(&["who", "deployment/web", "-n", "shop", &fixture("hpa-vs-applier")], None);
    let at = out.find("\nspec.replicas\n").expect("the lanes of spec.replicas");
    let lanes: Vec<&str> = out[at..].lines().skip(2).take(3).collect();
    let (operator, autoscaler) = (lanes[0], lanes[1]);
    assert!(operator.contains("virt-platform-autopilot") && autoscaler.contains("horizontal-pod-autoscaler"), "{out}");
    let values = |lane: &str, digit: char| lane.rsplit("  ").next().unwrap().matches(digit).count();
    // According to truth.txt, the autoscaler wrote 5 eleven times, and each time the operator wrote 3 again.
    assert_eq!((values(operator, '3'), values(operator, '5')), (11, 0), "{operator}");
    assert_eq!((values(autoscaler, '5'), values(autoscaler, '3')), (11, 0), "{autoscaler}");
    assert!(operator.find('3') >= autoscaler.find('5'), "the autoscaler was first:\n{operator}\n{autoscaler}");
}

#[test]
fn every_report_states_the_audit_levels_it_is_based_on() {
    let told = |recording: &str| run(&["analyze", &fixture(recording)], None).1;
    assert!(told("setup").contains("All writes have request and response bodies (RequestResponse)."));
    let metadata = told("gitops-vs-kubectl-metadata");
    assert!(metadata.contains("100 % of the writes have no bodies (Metadata), so their fields are unknown."));
    let request = told("gitops-vs-kubectl-request");
    assert!(request.contains("100 % have no response bodies (Request), so only the requested changes are known."));
    let read = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/api/v1/pods","verb":"list","user":{"username":"u"},"objectRef":{"resource":"pods","apiVersion":"v1"},"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-11-23T02:00:00.000000Z","stageTimestamp":"2026-11-23T02:00:00.001000Z"}"#;
    let (code, out, _) = run(&["analyze", "-"], Some(read));
    assert_eq!(code, 0);
    assert!(out.contains("None of the events is a write."), "{out}");
}

#[test]
fn markdown_has_the_cause_parties_and_commands() {
    let (code, out, _) =
        run(&["who", "deployment/web", "-n", "shop", "-o", "markdown", &fixture("hpa-vs-applier")], None);
    assert_eq!(code, 1);
    for part in [
        "## Deployment shop/web: ended: deleted, confirmed",
        "Cause: **conflicting automation**",
        "| `system:serviceaccount:kube-system:horizontal-pod-autoscaler` | horizontal pod autoscaler | 11 | 10 |",
        "kubectl annotate deployments.apps web -n shop platform.kubevirt.io/ignore=spec.replicas",
        "To check that the war is over:",
        "_Based on ",
    ] {
        assert!(out.contains(part), "{part} is missing:\n{out}");
    }
    assert_eq!(out.matches("```").count() % 2, 0, "{out}");
}

/// The values that alice and bob fight with.
const VALUES: [&str; 4] = ["green", "blue", "silver", "gold"];

#[test]
fn redacted_values_appear_in_no_output() {
    let file = fixture("gitops-vs-kubectl");
    for format in ["table", "wide", "json", "yaml", "markdown"] {
        for command in [&["analyze", "--all"][..], &["who", "cm/app-config", "-n", "war"]] {
            let arguments = [command, &["-o", format, "--redact", &file]].concat();
            let (code, out, err) = run(&arguments, None);
            assert_eq!(code, 1, "{arguments:?}: {err}");
            assert!(out.contains("data.mode"), "{arguments:?}: the field is named:\n{out}");
            let shown: Vec<_> = VALUES.iter().filter(|value| out.contains(**value)).collect();
            assert!(shown.is_empty(), "{arguments:?} shows {shown:?}:\n{out}");
        }
    }
    // Without redaction, the values are shown.
    let (_, out, _) = run(&["who", "cm/app-config", "-n", "war", &file], None);
    assert!(VALUES.iter().all(|value| out.contains(value)), "{out}");

    let server = Server::start(&["--set", "redact_values=true"]);
    server.post_log("gitops-vs-kubectl");
    for path in ["", "/participants", "/timeline", "/decision"] {
        let (status, body) = server.get(&format!("/api/v1/objects/configmaps/war/app-config{path}"));
        assert_eq!(status, 200, "{path}");
        assert!(VALUES.iter().all(|value| !body.contains(value)), "{path}: {body}");
    }
    assert!(VALUES.iter().all(|value| !server.get("/metrics").1.contains(value)));
}
