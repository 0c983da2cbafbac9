//! The overview that the page reads: its rows, its stream, and what is said about sources.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::cluster::{ALICE, BOB, Cluster, HPA, Level, OPERATOR};
use crate::serve::Server;
use crate::util;

const WEB: &str = "deployments.apps/shop/web";
const PAUSED: &str = "platform.kubevirt.io/reconcile-paused";

/// Two actors that set `spec.replicas` alternately, every five seconds.
fn war(cluster: &mut Cluster, path: &str, turns: u32) {
    cluster.create(
        HPA,
        path,
        json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {}, "spec": {"replicas": 1}}),
    );
    for turn in 0..turns {
        cluster.wait(5.0);
        let (who, replicas) = if turn % 2 == 0 { (OPERATOR, 3) } else { (HPA, 5) };
        cluster.patch(who, path, "", json!({"spec": {"replicas": replicas}}));
    }
}

/// Posts the events that were not posted yet, and returns how many there are now.
fn post(server: &Server, cluster: &Cluster, posted: usize) -> usize {
    let lines: Vec<&[u8]> = cluster.lines().collect();
    server.post_lines(&lines[posted..]);
    lines.len()
}

fn rows(server: &Server) -> Vec<Value> {
    server.json("/api/v1/overview")["rows"].as_array().cloned().unwrap_or_default()
}

#[test]
fn an_object_is_paused_as_long_as_it_carries_the_annotation_whoever_set_it() {
    let server = Server::start(&[]);
    let mut cluster = Cluster::new(Level::RequestResponse);
    war(&mut cluster, WEB, 14);
    let is_paused = || {
        let rows = rows(&server);
        assert_eq!(rows.len(), 1, "{rows:#?}");
        rows[0]["war"]["is_paused"] == true
    };
    let posted = post(&server, &cluster, 0);
    assert!(!is_paused());
    cluster.wait(1.0);
    cluster.patch(ALICE, WEB, "", json!({"metadata": {"annotations": {PAUSED: "true"}}}));
    let posted = post(&server, &cluster, posted);
    util::until("the pause is shown", is_paused);
    cluster.wait(1.0);
    cluster.patch(BOB, WEB, "", json!({"metadata": {"annotations": {PAUSED: null}}}));
    post(&server, &cluster, posted);
    util::until("the end of the pause is shown", || !is_paused());
}

#[test]
fn a_stream_sends_all_rows_once_and_then_only_what_has_changed() {
    let server = Server::start(&[]);
    let mut cluster = Cluster::new(Level::RequestResponse);
    war(&mut cluster, WEB, 14);
    war(&mut cluster, "deployments.apps/shop/api", 14);
    let posted = post(&server, &cluster, 0);
    let mut stream = TcpStream::connect(server.admin()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    write!(stream, "GET /api/v1/overview?watch=true HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).filter(|line| line.starts_with('{'));
    let mut next = || -> Value { serde_json::from_str(&lines.next().expect("the stream goes on")).unwrap() };
    let names = |line: &Value| -> Vec<String> {
        let rows = line["rows"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| row["object"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = next();
    assert_eq!((&first["reset"], &first["complete"]), (&json!(true), &json!(true)), "{first}");
    assert_eq!(names(&first), ["api", "web"]);
    assert!(first["head"]["coverage"]["first"].is_string(), "{first}");

    // One war goes on: only its row is sent.
    cluster.wait(5.0);
    cluster.patch(OPERATOR, WEB, "", json!({"spec": {"replicas": 3}}));
    post(&server, &cluster, posted);
    let changed = std::iter::repeat_with(&mut next).find(|line| line.get("rows").is_some()).unwrap();
    assert_eq!(names(&changed), ["web"], "{changed}");
    assert_eq!(changed.get("reset"), None, "{changed}");
    let retakes = |row: &Value| row["war"]["retakes"].as_u64().unwrap();
    assert_eq!(retakes(&changed["rows"][0]), retakes(&first["rows"][1]) + 1);
}

#[test]
fn rows_of_wars_have_what_the_report_says() {
    let server = Server::start(&[]);
    server.post_log("hpa-vs-applier");
    let row = rows(&server).into_iter().find(|row| row["finding"] == "war").unwrap();
    let war = &server.json("/api/v1/wars")["wars"][0];
    for key in ["state", "confidence", "cause", "retakes", "thrashing_events", "retakes_per_minute", "deleted"] {
        assert_eq!(row["war"][key], war[key], "{key}");
    }
    for key in ["object", "since", "until"] {
        assert_eq!(row[key], war[key], "{key}");
    }
    assert_eq!(row["war"]["fields"][0]["path"], war["fields"][0]["path"]);
    assert_eq!(row["war"]["progress"], "ended");
}

#[test]
fn a_message_that_may_quote_a_secret_is_not_shown() {
    let lines = util::log("flapping-webhook");
    let text = String::from_utf8(lines).unwrap();
    let message = "seq must be even";
    for (log, arguments, is_shown) in [
        (text.clone(), &[][..], true),
        (text.replace("configmaps", "secrets"), &[][..], false),
        (text, &["--set", "redact_values=true"][..], false),
    ] {
        let server = Server::start(arguments);
        server.post_lines(&util::lines(log.as_bytes()));
        let summary = rows(&server).iter().map(|row| row["summary"].to_string()).collect::<String>();
        assert!(summary.contains("rejected 29 times by policy odd-seq"), "{summary}");
        assert_eq!(summary.contains(message), is_shown, "{summary}");
        let (_, report) = server.get("/api/v1/wars");
        assert_eq!(report.contains(message), is_shown, "{report}");
    }
}

#[test]
fn sources_say_of_which_kinds_no_fields_are_known() {
    let server = Server::start(&[]);
    server.post_log("quota-peace");
    let mut bare = Cluster::new(Level::Metadata);
    war(&mut bare, "widgets.example.com/shop/web", 4);
    post(&server, &bare, 0);
    let answer = server.json("/api/v1/sources");
    let kind = |resource: &str| {
        let kinds = answer["kinds"].as_array().unwrap();
        kinds
            .iter()
            .find(|kind| kind["resource"] == resource)
            .unwrap_or_else(|| panic!("no {resource}: {answer}"))
            .clone()
    };
    let widgets = kind("widgets");
    assert_eq!((&widgets["objects"], &widgets["with_fields"], &widgets["writes"]), (&json!(1), &json!(0), &json!(5)));
    // The recording's policy logs Deployments at RequestResponse, and Pods at Metadata.
    let deployments = kind("deployments");
    assert_eq!(deployments["objects"], deployments["with_fields"]);
    assert_eq!(kind("pods")["with_fields"], 0);
    assert_eq!(answer["sources"], json!([{"name": "webhook", "is_ready": true}]));
    // The recording is some days old.
    assert_eq!(server.json("/api/v1/overview")["head"]["late_sources"], json!(["127.0.0.1"]));
}

#[test]
fn an_actor_is_found_by_its_whole_name_if_that_is_wanted() {
    let server = Server::start(&[]);
    server.post_log("gitops-vs-kubectl");
    let actors = |query: &str| -> Vec<String> {
        let answer = server.json(&format!("/api/v1/writes?{query}"));
        let objects = answer["objects"].as_array().unwrap().clone();
        let mut names: Vec<String> =
            objects.iter().map(|object| object["writer"]["actor"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(actors("actor=bob"), ["bob"]);
    assert_eq!(actors("actor=bo"), ["bob"]);
    assert_eq!(actors("actor=bo&exact=true"), [""; 0]);
    assert_eq!(actors("actor=bob&exact=true"), ["bob"]);
}
