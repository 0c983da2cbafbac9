//! The decision API: what reconcilers in any language query before they write.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use editwar::detect::actor_class::ActorClassifier;
use editwar::detect::write::ObjectName;
use editwar::pipeline::key::ObjectKey;
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
    let server = Server::start(&[]);
    let mut lines = follow(&server, PATH);
    let first = lines.next().unwrap();
    assert_eq!((first["allowed"].clone(), first["state"].clone()), (true.into(), "calm".into()));
    assert_eq!(server.post("/audit", &war()).0, 200);
    let paused = lines.find(|line| line["state"] == "sustained").unwrap();
    assert_eq!(paused["allowed"], false);
    assert!(paused["retry_at"].is_string() && paused["opponents"].as_array().unwrap().len() == 2, "{paused}");
}

#[test]
fn queries_do_not_change_decisions() {
    let war = war();
    let pipeline = Arc::new(util::pipeline_of(util::lines(&war)));
    let report = || serde_json::to_value(util::report(&pipeline)).unwrap();
    let before = report();
    let bounds = SeriesLimits { max_objects: 10, max_actors_per_object: 10, ttl: Duration::from_secs(60) };
    let api = Api::new(pipeline.clone(), Arc::new(ActorClassifier::default()), Metrics::new(bounds));
    let name = ObjectName { group: "apps", resource: "deployments", namespace: "shop", name: "web" };
    let key = ObjectKey::new("", &name);
    let first = api.decision(&key);
    assert!(!first.allowed);
    for _ in 0..1000 {
        assert_eq!(serde_json::to_value(api.decision(&key)).unwrap(), serde_json::to_value(&first).unwrap());
    }
    assert_eq!(report(), before);
}
