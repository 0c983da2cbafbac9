//! Runs every remedy with a real kubectl, against a real API server that has the object.

use serde_json::{Value, json};

use crate::cluster::{ALICE, Cluster, HPA, Level, OPERATOR};
use crate::envtest::ApiServer;
use crate::util;

const WEB: &str = "deployments.apps/shop/web";

fn deployment() -> Value {
    json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"replicas": 3,
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}})
}

/// Returns the remedies of the first war in a story.
fn remedies(story: impl Fn(&mut Cluster)) -> Vec<editwar::query::views::Remedy> {
    let mut cluster = Cluster::new(Level::RequestResponse);
    cluster.create(("admin", "kubectl-create"), WEB, deployment());
    story(&mut cluster);
    let report = util::report(&util::pipeline_of(cluster.lines()));
    assert!(!report.wars.is_empty());
    report.wars[0].remedies.clone()
}

#[test]
fn every_remedy_runs_as_printed() {
    let Some(server) = ApiServer::start(None) else { return };
    server.apply("admin", &deployment().to_string());
    server.kubectl("admin", &["autoscale", "deployment/web", "-n", "shop", "--min=5", "--max=9", "--name=web"]);
    server.apply(
        "admin",
        r#"{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "tags"},
            "webhooks": [{"name": "tags.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
            "clientConfig": {"url": "https://127.0.0.1:1/"}, "rules": []}]}"#,
    );
    let replicas = |n: u32| json!({"spec": {"replicas": n}});
    let mut all = Vec::new();
    all.extend(remedies(|cluster| {
        cluster.create(("admin", "kubectl-autoscale"), "horizontalpodautoscalers.autoscaling/shop/web", json!({"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2", "metadata": {}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}}}));
        for _ in 0..10 {
            cluster.wait(5.0);
            cluster.scale(HPA, WEB, 5);
            cluster.patch(OPERATOR, WEB, "", replicas(3));
        }
    }));
    all.extend(remedies(|cluster| {
        for _ in 0..10 {
            cluster.wait(5.0);
            cluster.patch(
                ALICE,
                WEB,
                "",
                json!({"metadata": {"annotations": {"example.com/it's \"quoted\" $HOME": "a;b"}}}),
            );
            cluster.patch(
                OPERATOR,
                WEB,
                "",
                json!({"metadata": {"annotations": {"example.com/it's \"quoted\" $HOME": null}}}),
            );
        }
    }));
    all.extend(remedies(|cluster| {
        cluster.webhook = Some(replicas(7));
        for _ in 0..10 {
            cluster.wait(5.0);
            cluster.patch(ALICE, WEB, "", replicas(3));
        }
    }));
    all.extend(remedies(|cluster| {
        for _ in 0..10 {
            cluster.wait(5.0);
            cluster.scale(HPA, WEB, 5);
            cluster.patch(
                ("system:serviceaccount:flux-system:kustomize-controller", "kustomize-controller"),
                WEB,
                "",
                replicas(3),
            );
        }
    }));
    let options: std::collections::BTreeSet<&str> = all.iter().map(|r| r.option.as_str()).collect();
    assert_eq!(options, ["A", "B", "C", "D"].into());
    for remedy in &all {
        let changes = !remedy.command.contains(" get ") && !remedy.command.contains(" can-i ");
        let command = if changes { format!("{} --dry-run=server", remedy.command) } else { remedy.command.clone() };
        let output = server.shell("admin", &command);
        // `kubectl auth can-i` also reports its answer as the exit code.
        let is_answer = matches!(String::from_utf8_lossy(&output.stdout).trim(), "yes" | "no");
        assert!(output.status.success() || is_answer, "{command}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
