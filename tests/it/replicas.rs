//! Replicas that share a log on a real Kafka: they give the answers of one process, whatever happens to them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::broker::Broker;
use crate::envtest::{scratch, wait_until};
use crate::kafka::{event, now_ms, wars_of, wars_of_log};
use crate::serve::Server;

/// Starts a replica with a local journal.
fn replica(broker: &Broker, journal: &std::path::Path, arguments: &[&str]) -> Server {
    let brokers = format!("kafka.brokers=[\"{}\"]", broker.address());
    let common = ["--set", &brokers, "--set", "journal.kafka={}", "--journal", journal.to_str().unwrap()];
    Server::start(&[&common[..], arguments].concat())
}

/// Returns the writes of a war, and of two that share an object, from some minutes ago on.
fn writes(count: i64) -> Vec<Vec<u8>> {
    let start_ms = now_ms() - 600_000;
    let write = |turn: i64| {
        let (user, name) =
            [("alice", "settings"), ("bob", "settings"), ("carol", "calm"), ("dave", "calm")][turn as usize % 4];
        let value = if name == "calm" { format!("{turn}") } else { user.to_owned() };
        event(&format!("id-{turn}"), user, name, &value, start_ms + turn * 1_000)
    };
    (0..count).map(write).collect()
}

/// Posts a batch until it is accepted, as kube-apiserver does, to one replica after the other.
fn post(replicas: &[&Server], first: usize, batch: &[Vec<u8>]) {
    let body = batch.join(&b'\n');
    let mut turn = first;
    wait_until("the batch is accepted", 60, || {
        turn += 1;
        try_post(replicas[turn % replicas.len()], &body) == Some(200)
    });
}

/// Returns the status, or `None` if nobody listens.
fn try_post(server: &Server, body: &[u8]) -> Option<u16> {
    std::net::TcpStream::connect(server.webhook()).ok()?;
    Some(server.post("/audit/east", body).0)
}

fn transitions(server: &Server) -> BTreeSet<String> {
    let (code, text) = server.get("/api/v1/transitions?since=1d");
    assert_eq!(code, 200, "{text}");
    let found: Value = serde_json::from_str(&text).unwrap();
    let found = found["transitions"].as_array().unwrap();
    found.iter().map(|t| format!("{} {} {} {}", t["object"]["name"], t["from"], t["to"], t["at"])).collect()
}

#[test]
fn replicas_of_one_log_give_the_answers_of_one_process_also_after_kills() {
    let Some(broker) = Broker::start() else { return };
    let written = writes(400);
    let lines: Vec<&[u8]> = written.iter().map(Vec::as_slice).collect();
    let expected = wars_of_log(&lines);
    assert!(!expected.is_empty());
    let folders =
        [scratch("replica-0"), scratch("replica-1"), scratch("replica-2")].map(|folder| folder.join("journal"));
    let mut first = replica(&broker, &folders[0], &[]).ready();
    let second = replica(&broker, &folders[1], &[]).ready();
    let batches: Vec<&[Vec<u8>]> = written.chunks(7).collect();
    let (before, after) = batches.split_at(batches.len() / 2);
    for (number, batch) in before.iter().enumerate() {
        post(&[&first, &second], number, batch);
        // Repeated to the other one, as after an answer that was lost.
        if number % 5 == 0 {
            post(&[&first, &second], number + 1, batch);
        }
    }
    first.kill();
    for (number, batch) in after.iter().enumerate() {
        post(&[&first, &second], number, batch);
    }
    // One comes back, and another one joins, with an empty disk.
    let first = replica(&broker, &folders[0], &[]).ready();
    let third = replica(&broker, &folders[2], &[]).ready();
    for server in [&first, &second, &third] {
        wait_until("the wars are those of the log", 60, || wars_of(server) == expected);
        let counted = server.metric("editwar_events_total{outcome=\"write\"}");
        assert_eq!(counted as usize, written.len(), "each write counts once");
    }
    let all = transitions(&second);
    assert!(all.iter().any(|transition| transition.contains("thrashing")), "{all:?}");
    for server in [&first, &third] {
        wait_until("the transitions are the same", 20, || transitions(server) == all);
    }
    assert!(first.said().contains("reading the log"), "{}", first.said());
}

#[test]
fn an_unsuitable_topic_is_refused_with_what_to_do() {
    let Some(broker) = Broker::start() else { return };
    // The broker creates it with four partitions.
    broker.produce("editwar.writes", &[crate::broker::Message { partition: 0, payload: b"x".to_vec(), at: now_ms() }]);
    let brokers = format!("kafka.brokers=[\"{}\"]", broker.address());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_editwar"))
        .args(["serve", "--webhook-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"])
        .args(["--set", &brokers, "--set", "journal.kafka={}"])
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("has 4 partitions") && said.contains("create a topic with one partition"), "{said}");
}

#[test]
fn while_the_brokers_do_not_answer_batches_are_rejected_and_nothing_acknowledged_is_lost() {
    let Some(broker) = Broker::start() else { return };
    let folder = scratch("replica-without-broker").join("journal");
    let written = writes(120);
    let server = replica(&broker, &folder, &[]).ready();
    let (first, rest) = written.split_at(60);
    post(&[&server], 0, first);
    broker.signal("STOP");
    let rejected = try_post(&server, &rest[..10].join(&b'\n'));
    assert_eq!(rejected, Some(503), "kube-apiserver sends it again");
    wait_until("it says so", 10, || server.said().contains("the brokers do not store writes"));
    wait_until("a replica that does not read the log is not ready", 60, || server.get("/readyz").0 == 503);
    broker.signal("CONT");
    post(&[&server], 0, rest);
    let lines: Vec<&[u8]> = written.iter().map(Vec::as_slice).collect();
    let expected = wars_of_log(&lines);
    wait_until("the wars are those of the log", 60, || wars_of(&server) == expected);
    wait_until("it is ready again", 60, || server.get("/readyz").0 == 200);
}
