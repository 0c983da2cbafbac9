//! Replicas that share a log on a real Kafka: they give the answers of one process, whatever happens to them.

use std::collections::BTreeSet;

use std::path::Path;

use serde_json::Value;

use crate::broker::{Broker, Message, Secured};
use crate::envtest::{scratch, wait_until};
use crate::kafka::{event, messages, metric, now_ms, wars_of, wars_of_log};
use crate::notify::Recorder;
use crate::serve::Server;

/// Starts a replica with a local journal.
fn replica(broker: &Broker, journal: &Path, arguments: &[&str]) -> Server {
    replica_at(&broker.address(), journal, arguments)
}

fn replica_at(address: &str, journal: &Path, arguments: &[&str]) -> Server {
    let brokers = format!("kafka.brokers=[\"{address}\"]");
    let common = ["--set", &brokers, "--set", "journal.kafka={}", "--journal", journal.to_str().unwrap()];
    Server::start(&[&common[..], arguments].concat())
}

/// Returns the writes of a war, and of two that share an object, from some minutes ago on.
fn writes(count: i64) -> Vec<Vec<u8>> {
    writes_of("settings", count)
}

fn writes_of(war: &str, count: i64) -> Vec<Vec<u8>> {
    let start_ms = now_ms() - 600_000;
    let write = |turn: i64| {
        let (user, name) = [("alice", war), ("bob", war), ("carol", "calm"), ("dave", "calm")][turn as usize % 4];
        let value = if name == "calm" { format!("{turn}") } else { user.to_owned() };
        event(&format!("id-{war}-{turn}"), user, name, &value, start_ms + turn * 1_000)
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
    assert!(!first.said().contains("PartitionEOF"), "the end of the log is no error: {}", first.said());
    assert_eq!(metric(&first, "editwar_kafka_errors_total"), 0.0);
}

/// The same events over one, two and four replicas, while replicas and brokers come, go and hang.
#[test]
fn replicas_and_brokers_that_come_go_and_hang_change_no_answer_and_no_notification() {
    let Some(mut brokers) = Broker::start_three() else { return };
    let addresses = brokers.iter().map(|broker| format!("\"{}\"", broker.address())).collect::<Vec<_>>().join(",");
    let recorder = Recorder::start();
    let url = format!("notify.cloud_events.url={}", recorder.url());
    let folder = scratch("fleet");
    let start = |number: usize| {
        let brokers = format!("kafka.brokers=[{addresses}]");
        let journal = folder.join(number.to_string()).display().to_string();
        let arguments = ["--set", &brokers, "--set", "journal.kafka={}", "--journal", &journal, "--set", &url];
        Server::start(&arguments).ready()
    };
    let wars = ["one", "two", "three", "four", "five", "six"];
    let written: Vec<Vec<Vec<u8>>> = wars.iter().map(|war| writes_of(war, 40)).collect();
    let batches: Vec<Vec<&[Vec<u8>]>> = written.iter().map(|written| written.chunks(5).collect()).collect();
    let post_all = |replicas: &[&Server], war: usize| {
        for (number, batch) in batches[war].iter().enumerate() {
            post(replicas, number, batch);
        }
    };
    let mut replicas = vec![start(0)];
    post_all(&[&replicas[0]], 0);
    // Scale-up to two, and a rolling restart.
    replicas.push(start(1));
    post_all(&[&replicas[0], &replicas[1]], 1);
    for number in [0, 1] {
        assert!(replicas[number].terminate().success());
        post_all(&[&replicas[1 - number]], 2 + number);
        replicas[number] = start(number);
    }
    // Scale-up to four. A broker is killed while writes arrive, and comes back; another one hangs.
    replicas.push(start(2));
    replicas.push(start(3));
    brokers[0].kill();
    post_all(&replicas.iter().collect::<Vec<_>>(), 4);
    replicas[3].kill();
    brokers[0].restart();
    brokers[1].signal("STOP");
    crate::envtest::pause(12_000);
    post_all(&replicas.iter().collect::<Vec<_>>(), 5);
    brokers[1].signal("CONT");
    // Scale-down to two.
    replicas.truncate(3);
    assert!(replicas[2].terminate().success());
    replicas.truncate(2);
    let lines: Vec<&[u8]> = written.iter().flatten().map(Vec::as_slice).collect();
    let expected = wars_of_log(&lines);
    assert_eq!(expected.len(), wars.len());
    for server in &replicas {
        wait_until("the wars are those of the log", 60, || wars_of(server) == expected);
        let counted = server.metric("editwar_events_total{outcome=\"write\"}");
        assert_eq!(counted as usize, lines.len(), "each write counts once");
    }
    wait_until("all wars are in the journal", 30, || transitions(&replicas[0]).len() >= 3 * wars.len());
    let found = transitions(&replicas[0]);
    wait_until("both journals have the same transitions", 30, || transitions(&replicas[1]) == found);
    wait_until("all transitions are published", 60, || {
        published(&recorder).into_iter().collect::<BTreeSet<_>>() == found
    });
    assert_eq!(published(&recorder).len(), found.len(), "each once");
    // Any program can read them from a topic.
    let topic = "editwar.transitions";
    wait_until("all transitions are in the topic", 60, || brokers[2].consume(topic).len() >= found.len());
    let messages = brokers[2].consume(topic);
    let events: Vec<Value> = messages.iter().map(|(_, event)| serde_json::from_slice(event).unwrap()).collect();
    assert!(messages.iter().zip(&events).all(|((key, _), event)| event["subject"] == **key), "{messages:?}");
    assert_eq!(events.iter().map(transition).collect::<BTreeSet<_>>(), found);
    assert_eq!(events.len(), found.len(), "each once");
}

fn leads(server: &Server) -> bool {
    server.get("/metrics").1.contains("editwar_log_leader{topic=\"editwar.writes\"} 1\n")
}

/// Returns the transitions that were published, in order.
fn published(recorder: &Recorder) -> Vec<String> {
    recorder.requests().iter().map(|(_, event)| transition(event)).collect()
}

/// Returns the transition of a CloudEvent.
fn transition(event: &Value) -> String {
    let data = &event["data"];
    format!("{} {} {} {}", data["object"]["name"], data["from"], data["to"], data["at"])
}

#[test]
fn each_transition_is_published_once_although_the_leader_is_cut_off_or_killed() {
    let Some((broker, proxy)) = Broker::start_behind_proxy() else { return };
    let recorder = Recorder::start();
    let url = format!("notify.cloud_events.url={}", recorder.url());
    let arguments = ["--set", &url];
    let folders = [scratch("leader-0"), scratch("leader-1")].map(|folder| folder.join("journal"));
    let cut_off = replica_at(&proxy.address(), &folders[0], &arguments).ready();
    wait_until("it leads", 60, || leads(&cut_off));
    let mut other = replica(&broker, &folders[1], &arguments).ready();
    post(&[&cut_off, &other], 0, &writes_of("first", 60));
    let all = |server: &Server, name: &str| transitions(server).iter().filter(|t| t.contains(name)).count();
    wait_until("the first war is published", 30, || published(&recorder).len() >= 3);
    // It cannot reach the brokers any more, but the receiver.
    proxy.set_cut(true);
    post(&[&other], 0, &writes_of("second", 60));
    assert!(!leads(&other), "the other one must not lead yet");
    wait_until("the other one leads", 20, || {
        assert!(!(leads(&other) && leads(&cut_off)), "both lead");
        leads(&other)
    });
    wait_until("the second war is published", 30, || {
        published(&recorder).iter().filter(|t| t.contains("second")).count() >= 3
    });
    proxy.set_cut(false);
    wait_until("the first one knows of both", 90, || all(&cut_off, "second") == all(&other, "second"));
    // The leader is killed.
    post(&[&cut_off, &other], 0, &writes_of("third", 60));
    other.kill();
    wait_until("the first one leads again", 30, || leads(&cut_off));
    post(&[&cut_off], 0, &writes_of("fourth", 60));
    let expected = || transitions(&cut_off);
    wait_until("everything is published", 30, || {
        published(&recorder).into_iter().collect::<BTreeSet<_>>() == expected() && expected().len() >= 15
    });
    let in_order = published(&recorder);
    assert_eq!(in_order.len(), expected().len(), "each once: {in_order:#?}");
}

#[test]
fn an_unsuitable_topic_is_refused_with_what_to_do() {
    let Some(broker) = Broker::start() else { return };
    // The broker creates it with four partitions.
    broker.produce("divided", &[Message { partition: 0, payload: b"x".to_vec(), at: now_ms() }]);
    broker.create("short", &["retention.ms=60000"]);
    for (topic, why) in [
        ("divided", ["has 4 partitions", "create a topic with one partition"]),
        ("short", ["keeps messages for 60 s", "raise its retention.ms"]),
    ] {
        let brokers = format!("kafka.brokers=[\"{}\"]", broker.address());
        let log = format!("journal.kafka.topic={topic}");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_editwar"))
            .args(["serve", "--webhook-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"])
            .args(["--set", &brokers, "--set", &log])
            .env_clear()
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(why.iter().all(|why| said.contains(why)), "{said}");
    }
}

#[test]
fn replicas_authenticate_as_configured() {
    let Some(secured) = Secured::start("secured-log") else { return };
    let written = writes(40);
    let lines: Vec<&[u8]> = written.iter().map(Vec::as_slice).collect();
    let expected = wars_of_log(&lines);
    for (name, sasl) in &secured.logins {
        // With a token, topics must exist.
        if *name == "oauth" {
            secured.broker.create("oauth", &["max.message.bytes=3145728"]);
            secured.broker.create("editwar.transitions", &["cleanup.policy=compact"]);
        }
        let brokers = format!("kafka.brokers=[\"127.0.0.1:{}\"]", secured.port);
        let (tls, sasl) = (format!("kafka.tls={}", secured.tls), format!("kafka.sasl={sasl}"));
        let transitions = if *name == "oauth" { "editwar.transitions" } else { "null" };
        let log = format!("journal.kafka={{topic: {name}, transitions: {transitions}}}");
        let server = Server::start(&["--set", &brokers, "--set", &tls, "--set", &sasl, "--set", &log]).ready();
        post(&[&server], 0, &written);
        wait_until(&format!("{name}: the wars are those of the log"), 60, || wars_of(&server) == expected);
        if *name == "oauth" {
            let published = || secured.broker.consume("editwar.transitions").len();
            wait_until("the transitions are published", 60, || published() >= 3);
        }
    }
}

#[test]
fn replicas_divide_topics_with_audit_events_and_all_know_what_each_has_read() {
    let Some(broker) = Broker::start() else { return };
    let written = writes(80);
    let lines: Vec<&[u8]> = written.iter().map(Vec::as_slice).collect();
    let expected = wars_of_log(&lines);
    let topics = ["--set", "kafka.topics={kube-audit: east}"];
    // The broker creates the topic with four partitions.
    broker.produce("kube-audit", &messages(&lines[..4]));
    let folders = [scratch("topics-0"), scratch("topics-1")].map(|folder| folder.join("journal"));
    let replicas = folders.map(|folder| replica(&broker, &folder, &topics).ready());
    let partitions = |server: &Server| metric(server, "editwar_kafka_partitions");
    wait_until("each reads half of the partitions", 90, || replicas.iter().all(|server| partitions(server) == 2.0));
    broker.produce("kube-audit", &messages(&lines[4..]));
    for server in &replicas {
        wait_until("both know all wars", 60, || wars_of(server) == expected);
        let counted = server.metric("editwar_events_total{outcome=\"write\"}");
        assert_eq!(counted as usize, lines.len(), "each write counts once");
    }
    // One process alone would miss what another one reads, and says so after a minute.
    crate::envtest::pause(65_000);
    for server in &replicas {
        assert_eq!(server.get("/readyz").0, 200, "{}", server.said());
    }
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
    let answer = server.get("/api/v1/wars").1;
    assert!(answer.contains("has not read all writes of the log yet"), "{answer}");
    broker.signal("CONT");
    post(&[&server], 0, rest);
    let lines: Vec<&[u8]> = written.iter().map(Vec::as_slice).collect();
    let expected = wars_of_log(&lines);
    wait_until("the wars are those of the log", 60, || wars_of(&server) == expected);
    wait_until("it is ready again", 60, || server.get("/readyz").0 == 200);
}
