//! Tests of the labels and limits of the series.

use std::time::Duration;

use super::*;
use crate::detect::policy::Policy;
use crate::detect::write::ObjectName;

fn key(cluster: &str, name: &str) -> ObjectKey {
    ObjectKey::new(cluster, &ObjectName { group: "apps", resource: "deployments", namespace: "shop", name })
}

fn text(metrics: &Metrics) -> String {
    let pipeline = Pipeline::new(Policy::default(), crate::pipeline::Bounds::default());
    let text = metrics.text(&pipeline, 0.0);
    text.lines().filter(|line| line.starts_with("virt_platform_thrashing")).collect::<Vec<_>>().join("\n")
}

fn limits() -> SeriesLimits {
    SeriesLimits { max_objects: 2, max_actors_per_object: 2, ttl: Duration::from_secs(60) }
}

#[test]
fn the_runbooks_series_have_its_labels() {
    let metrics = Metrics::new(limits());
    metrics.count_thrashing(&key("", "web"), None, &"alice".into(), 2);
    metrics.count_thrashing(&key("", "web"), None, &"b\"o\nb".into(), 1);
    metrics.count_thrashing(&key("east", "web"), None, &"alice".into(), 1);
    assert_eq!(
        text(&metrics),
        r#"virt_platform_thrashing_by_actor_total{actor="alice",kind="Deployment",name="web",namespace="shop"} 2
virt_platform_thrashing_by_actor_total{actor="b\"o\nb",kind="Deployment",name="web",namespace="shop"} 1
virt_platform_thrashing_by_actor_total{actor="alice",cluster="east",kind="Deployment",name="web",namespace="shop"} 1
virt_platform_thrashing_total{kind="Deployment",name="web",namespace="shop"} 3
virt_platform_thrashing_total{cluster="east",kind="Deployment",name="web",namespace="shop"} 1"#
    );
}

#[test]
fn a_paused_custom_resource_has_its_kind() {
    let event = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a","stage":"ResponseComplete","requestURI":"/apis/hco.kubevirt.io/v1/namespaces/cnv/hyperconvergeds/hco","verb":"update","user":{"username":"alice"},"objectRef":{"resource":"hyperconvergeds","namespace":"cnv","name":"hco","apiGroup":"hco.kubevirt.io","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200},"responseObject":{"kind":"HyperConverged","apiVersion":"hco.kubevirt.io/v1","metadata":{"name":"hco","namespace":"cnv","uid":"u","resourceVersion":"7"}},"requestReceivedTimestamp":"2026-11-23T02:00:00.000000Z","stageTimestamp":"2026-11-23T02:00:00.001000Z"}"#;
    let pipeline = Pipeline::new(Policy::default(), crate::pipeline::Bounds::default());
    let mut batch = pipeline.batch("", "test");
    batch.ingest(&crate::audit::decoded_chunk::DecodedChunk::of(event, false, Vec::new()), 0);
    drop(batch);
    let metrics = Metrics::new(limits());
    let name = ObjectName { group: "hco.kubevirt.io", resource: "hyperconvergeds", namespace: "cnv", name: "hco" };
    metrics.set_paused(&pipeline, [&ObjectKey::new("", &name), &key("", "web")].into_iter());
    let text = metrics.text(&pipeline, 0.0);
    for paused in [
        r#"virt_platform_paused_resources{kind="HyperConverged",name="hco",namespace="cnv"} 1"#,
        r#"virt_platform_paused_resources{kind="Deployment",name="web",namespace="shop"} 1"#,
    ] {
        assert!(text.lines().any(|line| line == paused), "{paused} is missing:\n{text}");
    }
}

#[test]
fn series_beyond_the_limits_become_other() {
    let metrics = Metrics::new(limits());
    for object in ["a", "b", "c", "d"] {
        for actor in ["x", "y", "z"] {
            metrics.count_thrashing(&key("", object), None, &actor.into(), 1);
        }
    }
    let text = text(&metrics);
    assert!(text.contains(r#"virt_platform_thrashing_total{kind="other",name="other",namespace=""} 6"#), "{text}");
    assert!(text.contains(r#"actor="other",kind="Deployment",name="a",namespace="shop"} 1"#), "{text}");
    assert_eq!(text.lines().filter(|l| l.starts_with("virt_platform_thrashing_total")).count(), 3);
}
