//! The log of a server: one line per transition of a war, never one per event. The level can be changed at run time.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::serve::Server;
use crate::{require, util};

#[test]
fn transitions_are_logged_and_events_are_not() {
    let (server, lines) = Server::start_logging("127.0.0.1:0", &[]);
    let lines = std::thread::spawn(move || lines.collect::<Vec<_>>());
    server.post_log("hpa-vs-applier");
    let events = util::lines(&util::log("hpa-vs-applier")).len();
    server.signal("TERM");
    let lines = lines.join().unwrap();
    assert!(events > 500 && lines.len() < 10, "{events} events: {lines:#?}");
    let told: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON, off a terminal")).collect();
    let turns: Vec<(&str, &str)> = told
        .iter()
        .filter(|line| line["name"] == "web")
        .map(|line| (line["from"].as_str().unwrap(), line["to"].as_str().unwrap()))
        .collect();
    // At the end of the recording the object is deleted, which ends its war.
    let expected =
        [("calm", "contested"), ("contested", "thrashing"), ("thrashing", "sustained"), ("sustained", "calm")];
    assert_eq!(turns, expected);
    // The lines that need attention are warnings, and say who fights over what.
    let warnings: Vec<&Value> = told.iter().filter(|line| line["level"] == "WARN").collect();
    assert_eq!(
        warnings.iter().map(|line| line["to"].as_str().unwrap()).collect::<Vec<_>>(),
        ["thrashing", "sustained"]
    );
    for warning in warnings {
        assert_eq!(warning["over"], "spec.replicas (3 ⇄ 5)", "{warning}");
        let parties = warning["parties"].as_str().unwrap();
        assert!(
            parties.contains("virt-platform-autopilot") && parties.contains("horizontal-pod-autoscaler"),
            "{warning}"
        );
        assert!(warning["retakes"].as_u64() > Some(5), "{warning}");
    }
    let others: BTreeSet<&str> =
        told.iter().filter(|line| line["name"] != "web").map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(others, ["stopped", "stopping after open requests are answered"].into());
}

#[test]
fn the_log_level_can_be_changed_at_run_time() {
    let (server, lines) = Server::start_logging("127.0.0.1:0", &["--log-level", "info"]);
    let lines = std::thread::spawn(move || lines.collect::<Vec<_>>());
    assert_eq!(server.ask("GET", "/log-level"), (200, "info\n".into()));
    assert_eq!(server.ask("PUT", "/log-level?level=error"), (200, "error\n".into()));
    server.post_log("gitops-vs-kubectl");
    let (status, why) = server.ask("PUT", "/log-level?level=editwar=loud");
    assert!(status == 400 && why.contains("expected error, warn"), "{why}");
    assert_eq!(server.ask("GET", "/log-level").1, "error\n", "a mistake changes nothing");
    assert_eq!(server.ask("PUT", "/log-level?level=info").0, 200);
    server.post_log("hpa-vs-applier");
    server.signal("TERM");
    let lines = lines.join().unwrap();
    assert!(lines.iter().any(|line| line.contains(r#""name":"web""#)), "told again: {lines:#?}");
    let turns = lines.iter().filter(|line| line.contains(r#""to":"#) && !line.contains(r#""name":"web""#));
    assert_eq!(turns.count(), 0, "nothing was told in between: {lines:#?}");
    assert!(lines[0].contains(r#""now":"error""#), "the change itself is told: {lines:#?}");
}

#[test]
fn control_characters_in_logs_and_responses_are_escaped() {
    let (server, lines) = Server::start_logging("127.0.0.1:0", &[]);
    let lines = std::thread::spawn(move || lines.collect::<Vec<_>>());
    let hostile = "web\u{9b}2J\u{202e}\u{200b}\u{2028}\u{e0041}\u{feff}";
    let log = String::from_utf8(util::log("hpa-vs-applier"))
        .unwrap()
        .replace("\"name\":\"web\"", &format!("\"name\":\"{hostile}\""));
    server.post_lines(&util::lines(log.as_bytes()));
    let answers = [server.get("/api/v1/wars?all=1").1, server.get("/api/v1/participants?name=nobody%C2%9B%E2%80%AE").1];
    server.signal("TERM");
    let lines = lines.join().unwrap();
    let is_plain =
        |c: char| !(c.is_control() || matches!(c, '\u{200b}' | '\u{2028}'..='\u{202e}' | '\u{feff}' | '\u{e0041}'));
    for text in lines.iter().chain(&answers) {
        assert!(text.chars().all(is_plain), "{text:?}");
    }
    let named = |text: &String| serde_json::from_str::<Value>(text).unwrap().to_string().contains(hostile);
    assert!(lines.iter().any(named) && named(&answers[0]), "they mean the same: {lines:#?}");
}

#[test]
fn the_log_is_human_readable_on_a_terminal() {
    // `script` runs the command in a terminal.
    let Some(script) = require::program("script", &["script"]) else { return };
    let output = Command::new(script)
        .args([
            "-qec",
            &format!(
                "timeout 2 {} serve --listen 127.0.0.1:0 --webhook-listen 127.0.0.1:0",
                env!("CARGO_BIN_EXE_editwar")
            ),
        ])
        .arg("/dev/null")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("INFO listening") && !told.contains(r#"{"timestamp""#), "{told}");
}
