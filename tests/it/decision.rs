//! The decision API: what reconcilers in any language query before they write.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::detect::actor_class::ActorClassifier;
use editwar::detect::policy::Policy;
use editwar::detect::verdict::State;
use editwar::detect::write::ObjectName;
use editwar::pipeline::key::ObjectKey;
use editwar::pipeline::{Bounds, Pipeline};
use editwar::query::api::Api;
use editwar::telemetry::metrics::{Metrics, SeriesLimits};
use serde_json::Value;

use crate::serve::Server;
use crate::util;

const PATH: &str = "/api/v1/objects/deployments.apps/shop/web/decision";

/// Returns the JSON lines of a watched decision.
fn follow(server: &Server, path: &str) -> impl Iterator<Item = Value> {
    let mut stream = TcpStream::connect(server.admin()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("GET {path}?watch=true HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(&line).unwrap())
}

/// Returns the events of a war over shop/web that is paused at its end.
fn war() -> Vec<u8> {
    use crate::cluster::{Cluster, HPA, Level, OPERATOR};
    let mut cluster = Cluster::new(Level::RequestResponse);
    let body =
        serde_json::json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {}, "spec": {"replicas": 3}});
    cluster.create(("admin", "kubectl-create"), "deployments.apps/shop/web", body);
    for _ in 0..12 {
        cluster.wait(5.0);
        cluster.scale(HPA, "deployments.apps/shop/web", 5);
        cluster.wait(5.0);
        cluster.patch(OPERATOR, "deployments.apps/shop/web", "", serde_json::json!({"spec": {"replicas": 3}}));
    }
    cluster.lines().collect::<Vec<_>>().join(&b'\n')
}

#[test]
fn a_watched_decision_sends_a_line_at_once_and_at_each_change() {
    let server = Server::start(&[]).ready();
    let mut lines = follow(&server, PATH);
    let first = lines.next().unwrap();
    assert_eq!((first["allowed"].clone(), first["state"].clone()), (true.into(), "calm".into()));
    assert_eq!(server.post("/audit", &war()).0, 200);
    let paused = lines.find(|line| line["state"] == "sustained").unwrap();
    assert_eq!(paused["allowed"], false);
    assert!(paused["retry_at"].is_string() && paused["opponents"].as_array().unwrap().len() == 2, "{paused}");
}

fn api(pipeline: &Arc<Pipeline>) -> Api {
    let bounds = SeriesLimits { max_objects: 10, max_actors_per_object: 10, ttl: Duration::from_secs(60) };
    Api::new(pipeline.clone(), Arc::new(ActorClassifier::default()), Metrics::new(bounds))
}

fn web() -> ObjectKey {
    ObjectKey::new("", &ObjectName { group: "apps", resource: "deployments", namespace: "shop", name: "web" })
}

/// In microseconds.
const MINUTE: i64 = 60_000_000;

#[test]
fn a_refusal_ends_after_the_quiet_period_also_if_no_event_arrives() {
    let war = war();
    // The default quiet period is ten minutes.
    for (minutes_ago, is_allowed) in [(0, false), (9, false), (14, false), (16, true), (600, true)] {
        let pipeline = Pipeline::new(Policy::default(), Bounds::default());
        let mut batch = pipeline.batch("", "test");
        batch.set_arrival(jiff::Timestamp::now().as_microsecond() - minutes_ago * MINUTE);
        batch.ingest(&DecodedChunk::of(&war, false, Vec::new()), 0);
        drop(batch);
        let decision = api(&Arc::new(pipeline)).decision(&web());
        assert_eq!((decision.allowed, decision.state), (is_allowed, State::Sustained), "{minutes_ago}: {decision:?}");
        assert_eq!(decision.reason.contains("no event has arrived since"), is_allowed, "{decision:?}");
    }
}

#[test]
fn a_decision_says_what_it_does_not_know() {
    let server = Server::start(&[]).ready();
    let reason =
        |path: &str| server.json(&format!("/api/v1/objects/{path}/decision"))["reason"].as_str().unwrap().to_owned();
    assert_eq!(reason("deployments.apps/shop/web"), "nothing is known: no event of this cluster has arrived");
    assert_eq!(server.post("/audit/east", &war()).0, 200);
    assert!(
        reason("deployments.apps/shop/web").contains("add ?cluster=NAME"),
        "{}",
        reason("deployments.apps/shop/web")
    );
    assert_eq!(server.post("/audit", &war()).0, 200);
    assert!(
        reason("deployments.apps/shop/web").contains("fight over the object"),
        "{}",
        reason("deployments.apps/shop/web")
    );
    for wrong in ["Deployment/shop/web", "deployment.apps/shop/web", "deployments.apps/shop/wed"] {
        assert!(reason(wrong).contains("nothing is known of this object"), "{wrong}: {}", reason(wrong));
    }
}

#[test]
fn there_is_no_decision_while_the_journal_is_replayed() {
    let folder = crate::journal::folder("decision-replay");
    let mut server = Server::start(&["--journal", folder.to_str().unwrap()]).ready();
    let lines = crate::journal::load(300);
    for batch in lines.chunks(400) {
        assert_eq!(crate::journal::try_post(server.webhook(), &crate::journal::body(batch)), Some(200));
    }
    let path = "/api/v1/objects/configmaps/shop/config-0/decision";
    util::until("it is refused", || server.json(path)["allowed"] == false);
    server.kill();
    // From the first answer on: it knows the war, or says that it is starting.
    let server = Server::start(&["--journal", folder.to_str().unwrap()]);
    util::until("it is refused again", || match server.get(path) {
        (503, text) => {
            assert!(text.contains("starting"), "{text}");
            false
        }
        (code, text) => {
            assert!(code == 200 && text.contains("\"allowed\":false"), "{code} {text}");
            true
        }
    });
}

#[test]
fn queries_do_not_change_decisions() {
    let war = war();
    let pipeline = Arc::new(util::pipeline_of(util::lines(&war)));
    let report = || serde_json::to_value(util::report(&pipeline)).unwrap();
    let before = report();
    let (api, key) = (api(&pipeline), web());
    let first = api.decision(&key);
    assert!(!first.allowed);
    for _ in 0..1000 {
        assert_eq!(serde_json::to_value(api.decision(&key)).unwrap(), serde_json::to_value(&first).unwrap());
    }
    assert_eq!(report(), before);
}
