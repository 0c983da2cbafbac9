//! `serve` reads topics of a real Kafka broker: the verdicts of the log, whatever happens in between.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::broker::{Broker, Message, Secured};
use crate::envtest::{pause, scratch, wait_until};
use crate::serve::Server;
use crate::util;
use crate::wrappers::{WRAPPERS, Wrapped};

const TOPIC: &str = "kube-audit";
const HOUR_MS: i64 = 3_600_000;

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Starts a server that reads the topic of a broker.
fn start(broker: &Broker, arguments: &[&str]) -> Server {
    let brokers = format!("kafka.brokers=[\"{}\"]", broker.address());
    let topics = format!("kafka.topics={{{TOPIC}: east}}");
    // The recordings become older.
    let common = ["--set", &brokers, "--set", &topics, "--set", "journal.retention=3650d"];
    Server::start(&[&common[..], arguments].concat())
}

/// Returns an event: a user sets `data.v` of a ConfigMap.
pub(crate) fn event(id: &str, user: &str, name: &str, value: &str, at_ms: i64) -> Vec<u8> {
    let at = jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
    let object = |value: &str| {
        json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")}, "data": {"v": value},
        })
    };
    let event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": id,
        "stage": "ResponseComplete", "requestURI": format!("/api/v1/namespaces/shop/configmaps/{name}"), "verb": "update",
        "user": {"username": user}, "sourceIPs": ["10.0.0.1"], "userAgent": format!("{user}-tool/v1"),
        "objectRef": {"resource": "configmaps", "namespace": "shop", "name": name, "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 200}, "requestObject": object(value), "responseObject": object(value),
        "requestReceivedTimestamp": at, "stageTimestamp": at,
    });
    serde_json::to_vec(&event).unwrap()
}

/// Returns the wars of a server by object: parties with their retakes, and fields.
fn wars(report: &Value) -> BTreeSet<String> {
    let wars = report["wars"].as_array().unwrap().iter().map(|war| {
        let parties: BTreeSet<String> = war["parties"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| format!("{} {} of {}", p["actor"], p["retakes"], p["writes"]))
            .collect();
        let fields = war["fields"].as_array().map(|fields| fields.iter().map(|f| f["path"].to_string()).collect());
        let fields: BTreeSet<String> = fields.unwrap_or_default();
        format!("{} {} {parties:?} {fields:?}", war["object"]["namespace"], war["object"]["name"])
    });
    wars.collect()
}

pub(crate) fn wars_of(server: &Server) -> BTreeSet<String> {
    wars(&serde_json::from_str(&server.get("/api/v1/wars?all=1").1).unwrap())
}

pub(crate) fn wars_of_log(lines: &[&[u8]]) -> BTreeSet<String> {
    wars(&serde_json::to_value(util::report(&util::pipeline_of(lines.iter().copied()))).unwrap())
}

/// Returns the sum of all series of a metric.
pub(crate) fn metric(server: &Server, name: &str) -> f64 {
    let metrics = server.get("/metrics").1;
    let of = |line: &str| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        rest.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    metrics.lines().filter_map(of).sum()
}

/// Distributes lines over four partitions, in turns.
pub(crate) fn messages(lines: &[&[u8]]) -> Vec<Message> {
    let message = |(number, line): (usize, &&[u8])| Message {
        partition: (number % 4) as i32,
        payload: line.to_vec(),
        at: editwar::audit::times::of_event(line).unwrap_or_default() / 1_000,
    };
    lines.iter().enumerate().map(message).collect()
}

#[test]
fn topics_give_the_verdicts_of_the_log_also_after_kills_and_restarts() {
    let Some(broker) = Broker::start() else { return };
    // Two fight over one object; two others share one, with a value that each sets once. A restart reads the journal of the
    // last hours, so that the events must be recent.
    let start_ms = now_ms() - 600_000;
    let written = (0..400_i64).map(|turn| {
        let (user, name) =
            [("alice", "settings"), ("bob", "settings"), ("carol", "calm"), ("dave", "calm")][turn as usize % 4];
        let value = if name == "calm" { format!("{turn}") } else { user.to_owned() };
        event(&format!("id-{turn}"), user, name, &value, start_ms + turn * 1_000)
    });
    let written: Vec<Vec<u8>> = written.collect();
    let lines: Vec<&[u8]> = written.iter().map(Vec::as_slice).collect();
    let all = messages(&lines);
    let (first, second) = all.split_at(all.len() / 2);
    broker.produce(TOPIC, first);
    let journal = scratch("kafka-journal");
    let arguments = ["--journal", journal.to_str().unwrap()];
    let mut server = start(&broker, &arguments);
    wait_until("the first events were read", 60, || metric(&server, "editwar_events_total") > 100.0);
    assert_eq!(server.get("/readyz").0, 200);
    // Killed at any time: offsets are committed once a second, so that some messages are read twice.
    server.kill();
    let mut server = start(&broker, &arguments);
    broker.produce(TOPIC, second);
    pause(700);
    server.kill();
    let mut server = start(&broker, &arguments);
    let expected = wars_of_log(&lines);
    assert!(!expected.is_empty());
    wait_until("the wars are those of the log", 90, || wars_of(&server) == expected);
    let has_all = || server.get("/metrics").1.contains(&format!("editwar_kafka_partitions{{topic=\"{TOPIC}\"}} 4\n"));
    wait_until("it has all partitions", 60, has_all);
    let lag = format!("editwar_kafka_lag_messages{{topic=\"{TOPIC}\"}}");
    wait_until("nothing is left", 30, || server.get("/metrics").1.contains(&format!("{lag} 0\n")));
    assert!(server.terminate().success(), "{}", server.said());
    // Nothing is read again after a graceful stop.
    let server = start(&broker, &[]);
    wait_until("it has its partitions", 60, || server.said().contains("partitions were assigned"));
    pause(3_000);
    assert_eq!(wars_of(&server), BTreeSet::new());
}

#[test]
fn messages_in_any_format_count_and_damaged_ones_do_not_block() {
    let Some(broker) = Broker::start() else { return };
    let log = util::log("gitops-vs-kubectl");
    let text = String::from_utf8(log.clone()).unwrap();
    let all: Vec<&str> = text.lines().collect();
    let mut produced = Vec::new();
    let (a, rest) = all.split_at(all.len() / 3);
    let (b, c) = rest.split_at(rest.len() / 2);
    let mut add = |payload: &[u8]| {
        produced.push(Message { partition: 0, payload: payload.to_vec(), at: now_ms() });
        for damaged in
            [&b"not JSON"[..], b"", b"{\"kind\":\"Event\",", b"\x1f\x8b\x08damaged", b"\xff\xfe\x00", b"[[[["]
        {
            produced.push(Message { partition: 0, payload: damaged.to_vec(), at: now_ms() });
        }
    };
    let wrapped = |name: &str, events: &[&str]| {
        let wrapper = WRAPPERS.iter().find(|(wrapper, ..)| *wrapper == name).unwrap_or_else(|| panic!("{name}"));
        Wrapped::new(wrapper, events).bytes
    };
    add(a.join("\n").as_bytes());
    add(&wrapped("Vector", b));
    add(&wrapped("AKS: records", c));
    broker.produce(TOPIC, &produced);
    let server = start(&broker, &[]);
    let expected = wars_of_log(&util::lines(&log));
    wait_until("the wars are those of the log", 60, || wars_of(&server) == expected);
    // Messages from the year 1970 and from the future are read, too.
    let strange = [0, 1_000, now_ms() + 50 * HOUR_MS].map(|at| Message {
        partition: 1,
        payload: event(&format!("id-{at}"), "carol", "strange", "v", now_ms()),
        at,
    });
    let before = metric(&server, "editwar_events_total");
    broker.produce(TOPIC, &strange);
    wait_until("they are read", 60, || metric(&server, "editwar_events_total") >= before + 3.0);
    assert!(metric(&server, "editwar_malformed_events_total") >= 9.0, "{}", server.get("/metrics").1);
}

#[test]
fn a_backlog_whose_parties_are_in_different_partitions_gives_the_same_war() {
    let Some(broker) = Broker::start() else { return };
    let start_ms = now_ms() - 5 * HOUR_MS;
    let padding = "x".repeat(4_000);
    let mut produced = Vec::new();
    let mut lines = Vec::new();
    for turn in 0..3_000_i64 {
        let (user, partition) = if turn % 2 == 0 { ("alice", 0) } else { ("bob", 1) };
        let at = start_ms + turn * 5_000;
        let payload = event(&format!("id-{turn}"), user, "settings", &format!("{user}{padding}"), at);
        lines.push(payload.clone());
        produced.push(Message { partition, payload, at });
    }
    // Everything of one partition is there before anything of the other, as after an outage.
    let by = |partition: i32| produced.iter().filter(move |message| message.partition == partition);
    broker.produce(TOPIC, by(0));
    broker.produce(TOPIC, by(1));
    let server = start(&broker, &[]);
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let expected = wars_of_log(&lines);
    wait_until("the war is that of the log", 120, || wars_of(&server) == expected);
}

#[test]
fn while_the_journal_cannot_be_written_nothing_is_read_and_nothing_is_lost() {
    let Some(broker) = Broker::start() else { return };
    let folder = scratch("kafka-full");
    let journal = folder.join("journal");
    let arguments = ["--journal", journal.to_str().unwrap(), "--set", "journal.on_failure=reject"];
    let write = |turn: i64| {
        let user = if turn % 2 == 0 { "alice" } else { "bob" };
        let at = now_ms();
        Message { partition: 0, payload: event(&format!("id-{turn}"), user, "settings", user, at), at }
    };
    let mut all: Vec<Message> = (0..4).map(write).collect();
    broker.produce(TOPIC, &all);
    let server = start(&broker, &arguments);
    wait_until("the first writes are known", 60, || metric(&server, "editwar_events_total") >= 4.0);
    // A file takes the place of the journal's folder.
    std::fs::rename(&journal, folder.join("away")).unwrap();
    std::fs::write(&journal, "").unwrap();
    let more: Vec<Message> = (4..12).map(write).collect();
    broker.produce(TOPIC, &more);
    let rejected = || server.get("/metrics").1.contains("editwar_journal_up 0\n");
    wait_until("the journal cannot be written", 60, rejected);
    let last: Vec<Message> = (12..16).map(write).collect();
    broker.produce(TOPIC, &last);
    pause(4_000);
    let lag = || metric(&server, "editwar_kafka_lag_messages");
    assert!(metric(&server, "editwar_events_total") < 16.0, "the rest waits: {} messages were not received", lag());
    all.extend(more);
    all.extend(last);
    std::fs::remove_file(&journal).unwrap();
    std::fs::rename(folder.join("away"), &journal).unwrap();
    let lines: Vec<&[u8]> = all.iter().map(|message| &*message.payload).collect();
    let expected = wars_of_log(&lines);
    wait_until("the war is that of the log", 60, || wars_of(&server) == expected);
}

#[test]
fn connections_are_encrypted_and_authenticated_as_configured() {
    let Some(secured) = Secured::start("secured") else { return };
    let log = util::log("flux-vs-alice");
    let lines = util::lines(&log);
    secured.broker.produce(TOPIC, &messages(&lines));
    let expected = wars_of_log(&lines);
    let read = |sasl: &str, tls: &str, group: &str| {
        let brokers = format!("kafka.brokers=[\"127.0.0.1:{}\"]", secured.port);
        let topics = format!("kafka.topics={{{TOPIC}: east}}");
        let (sasl, tls, group) =
            (format!("kafka.sasl={sasl}"), format!("kafka.tls={tls}"), format!("kafka.group={group}"));
        let arguments = [&brokers, &topics, &sasl, &tls, &group, "journal.retention=3650d"];
        Server::start(&arguments.iter().flat_map(|argument| ["--set", argument]).collect::<Vec<_>>())
    };
    let Secured { tls, logins, .. } = &secured;
    for (name, sasl) in logins {
        let server = read(sasl, tls, name);
        wait_until(&format!("{name}: the wars are those of the log"), 60, || wars_of(&server) == expected);
    }
    let wrong = secured.file("wrong", "wrong");
    let sasl = format!("{{mechanism: PLAIN, username: alice, password_file: {wrong}}}");
    let server = read(&sasl, tls, "wrong");
    wait_until("the refused password is logged", 60, || server.said().contains("uthentication"));
    assert_eq!(server.get("/readyz").0, 503);
    assert!(metric(&server, "editwar_kafka_errors_total") > 0.0);
    // The broker's certificate is not one that this machine trusts.
    let server = read(&logins[0].1, "{enabled: true}", "untrusted");
    wait_until("the certificate is not trusted", 60, || server.said().contains("certificate verify failed"));
    assert_eq!(server.get("/readyz").0, 503);
}

#[test]
fn another_program_in_the_group_is_told_since_writes_are_missing() {
    let Some(broker) = Broker::start() else { return };
    let write = |turn: i64| {
        let (user, at) = (if turn % 2 == 0 { "alice" } else { "bob" }, now_ms());
        Message { partition: (turn % 4) as i32, payload: event(&format!("id-{turn}"), user, "settings", user, at), at }
    };
    broker.produce(TOPIC, &(0..4).map(write).collect::<Vec<_>>());
    let first = start(&broker, &[]);
    wait_until("the first one is ready", 60, || first.get("/readyz").0 == 200);
    let mut second = start(&broker, &[]);
    wait_until("the second one has partitions, too", 60, || second.get("/readyz").0 == 200);
    for server in [&first, &second] {
        wait_until("it says why writes are missing", 120, || {
            server.said().contains("another program in the same group")
        });
        assert_eq!(server.get("/readyz").0, 503);
    }
    assert!(second.terminate().success());
    wait_until("the first one has all partitions again", 60, || first.get("/readyz").0 == 200);
    assert!(first.get("/metrics").1.contains(&format!("editwar_kafka_partitions{{topic=\"{TOPIC}\"}} 4\n")));
}

#[test]
fn a_topic_that_is_added_to_the_configuration_is_read_after_a_restart() {
    let Some(broker) = Broker::start() else { return };
    let log = util::log("flux-vs-alice");
    let lines = util::lines(&log);
    let (first, second) = lines.split_at(lines.len() / 2);
    broker.produce(TOPIC, &messages(first));
    broker.produce("more", &messages(second));
    let mut server = start(&broker, &[]);
    wait_until("the first topic was read", 60, || metric(&server, "editwar_events_total") > 100.0);
    server.kill();
    let topics = format!("kafka.topics={{{TOPIC}: east, more: east}}");
    let server = start(&broker, &["--set", &topics, "--set", "kafka.group=another"]);
    let expected = wars_of_log(&lines);
    wait_until("topics of one cluster are merged", 60, || wars_of(&server) == expected);
    drop(server);
    let server = start(&broker, &["--set", &topics]);
    wait_until("the new topic is read in the old group", 60, || {
        server.get("/metrics").1.contains("editwar_kafka_partitions{topic=\"more\"} 4\n")
    });
}

#[test]
fn a_topic_that_does_not_exist_yet_is_told_and_read_later() {
    let Some(broker) = Broker::start() else { return };
    let server = start(&broker, &[]);
    wait_until("the missing topic is logged", 60, || server.said().contains("Unknown topic or partition"));
    let log = util::log("flux-vs-alice");
    let lines = util::lines(&log);
    broker.produce(TOPIC, &messages(&lines));
    let expected = wars_of_log(&lines);
    wait_until("the wars are those of the log", 90, || wars_of(&server) == expected);
    // The broker hangs for longer than a request may take, and comes back.
    broker.signal("STOP");
    pause(5_000);
    broker.signal("CONT");
    let at = now_ms();
    let more: Vec<Message> = (0..10)
        .map(|turn| {
            let user = if turn % 2 == 0 { "alice" } else { "bob" };
            let at = at + turn;
            Message { partition: 0, payload: event(&format!("id-{turn}"), user, "after", user, at), at }
        })
        .collect();
    broker.produce(TOPIC, &more);
    wait_until("later writes are read", 60, || server.get("/api/v1/wars?all=1").1.contains("\"after\""));
    // A stop does not wait for a broker that hangs.
    let mut server = server;
    broker.signal("STOP");
    assert!(server.terminate().success());
    assert!(server.said().contains("the brokers do not answer"), "{}", server.said());
}

#[test]
fn check_config_names_what_cannot_be_read() {
    let folder = scratch("kafka-check");
    let check = |sasl: &str| {
        let arguments = ["kafka.brokers=[\"b:1\"]", "kafka.topics={a: ''}", &format!("kafka.sasl={sasl}")];
        let arguments = arguments.iter().flat_map(|argument| ["--set", argument]);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_editwar"))
            .args(["serve", "--check-config"])
            .args(arguments)
            .env_clear()
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let token = folder.join("token").display().to_string();
    let (code, said) = check(&format!("{{mechanism: OAUTHBEARER, token_file: {token}}}"));
    assert!(code == Some(2) && said.contains(&token), "{code:?} {said}");
    std::fs::write(&token, "not a token").unwrap();
    let (code, said) = check(&format!("{{mechanism: OAUTHBEARER, token_file: {token}}}"));
    assert!(code == Some(2) && said.contains("not a JSON web token") && !said.contains("not a token"), "{said}");
    let (code, said) = check(&format!("{{mechanism: SCRAM-SHA-256, username: a, password_file: {token}}}"));
    assert!(code == Some(0), "{said}");
}
