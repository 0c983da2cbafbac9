//! The Golden State against a persistent rival, on a real API server: how such a war ends, and what stops all writes.

use serde_json::{Value, json};

use crate::envtest::{ApiServer, free_port, pause, wait_until};
use crate::golden::Cluster;

const HPA: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
const WEB: &str = "/api/v1/objects/deployments.apps/shop/web";

fn web(cluster: &Cluster) -> Value {
    cluster.live(&["deployment", "web"])
}

fn replicas(cluster: &Cluster) -> u64 {
    web(cluster)["spec"]["replicas"].as_u64().unwrap_or_default()
}

fn is_paused(cluster: &Cluster) -> bool {
    web(cluster)["metadata"]["annotations"]["platform.kubevirt.io/reconcile-paused"] == "true"
}

fn scale(cluster: &Cluster, user: &str, replicas: u32) {
    let patch = json!({"spec": {"replicas": replicas}}).to_string();
    cluster.server.kubectl(user, &["patch", "deployment", "web", "-n", "shop", "--type=merge", "-p", &patch]);
}

fn annotate(cluster: &Cluster, annotation: &str) {
    cluster.server.kubectl("alice", &["annotate", "deployment", "web", "-n", "shop", "--overwrite", annotation]);
}

/// The rival's script, which writes whenever its value was changed.
fn fight_until_paused(cluster: &Cluster) {
    wait_until("it is paused", 90, || {
        if replicas(cluster) != 5 {
            scale(cluster, HPA, 5);
        }
        is_paused(cluster)
    });
}

fn start(more: &[&str]) -> Option<Cluster> {
    let webhook = format!("127.0.0.1:{}", free_port());
    let cluster = Cluster::start_at(&webhook.clone(), &webhook, more)?;
    wait_until("the assets are applied", 60, || replicas(&cluster) == 3);
    Some(cluster)
}

#[test]
fn annotation_remedies_end_a_war_against_the_golden_state() {
    let Some(cluster) = start(&["--set", "limits.quiet_period=120s"]) else { return };
    for way in ["platform.kubevirt.io/ignore", "platform.kubevirt.io/patch", "platform.kubevirt.io/mode"] {
        fight_until_paused(&cluster);
        let mut command = None;
        wait_until("the remedy is there", 20, || {
            let war = cluster.editwar.json(WEB)["wars"][0].clone();
            let remedies = war["remedies"].as_array().cloned().unwrap_or_default();
            let commands = remedies.iter().filter_map(|r| r["command"].as_str());
            command = commands.map(str::to_owned).find(|c| c.contains(&format!("{way}=")));
            command.is_some()
        });
        let run = cluster.server.shell("alice", &command.unwrap());
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        // The rival continues. Nothing reverts it any more, and nothing is paused again.
        for _ in 0..8 {
            scale(&cluster, HPA, 5);
            pause(500);
            assert_eq!(replicas(&cluster), 5, "{way}");
        }
        wait_until("the pause is over", 20, || !is_paused(&cluster));
        // Without the annotation, the Golden State is enforced again, or the old war continues.
        annotate(&cluster, &format!("{way}-"));
        wait_until("it is enforced again", 60, || replicas(&cluster) == 3 || is_paused(&cluster));
        if is_paused(&cluster) {
            annotate(&cluster, "platform.kubevirt.io/reconcile-paused-");
        }
    }
}

#[test]
fn a_pause_ends_even_without_other_events() {
    let Some(cluster) = start(&[]) else { return };
    fight_until_paused(&cluster);
    // There are no other writes from here on, and therefore no other events.
    wait_until("the pause is lifted", 60, || !is_paused(&cluster));
    wait_until("the Golden State is held again", 60, || replicas(&cluster) == 3);
}

#[test]
fn the_kill_switch_ends_pauses_and_corrections() {
    let Some(cluster) = start(&["--set", "limits.quiet_period=120s"]) else { return };
    fight_until_paused(&cluster);
    let post = |action: &str| cluster.editwar.post_json(&format!("/api/v1/enforcement/{action}"), "{}");
    assert_eq!(post("stop"), (200, r#"{"stopped":true,"lifted":1,"not_lifted":[]}"#.to_owned()));
    wait_until("the pause is lifted", 30, || !is_paused(&cluster));
    scale(&cluster, HPA, 6);
    pause(4000);
    assert_eq!(replicas(&cluster), 6, "nothing is corrected");
    assert_eq!(post("start"), (200, r#"{"stopped":false}"#.to_owned()));
    wait_until("the war that was is known", 150, || is_paused(&cluster) || replicas(&cluster) == 3);
}

#[test]
fn without_audit_events_drift_is_reported_but_not_corrected() {
    // The API server posts to an address where nothing listens.
    let (posted, webhook) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let Some(cluster) = Cluster::start_at(&posted, &webhook, &[]) else { return };
    wait_until("what is missing is made", 60, || replicas(&cluster) == 3);
    scale(&cluster, "alice", 7);
    wait_until("it is told", 40, || cluster.is_told("DriftDetected"));
    assert_eq!(replicas(&cluster), 7);
    // A deleted object is not created again without events either.
    cluster.server.kubectl("alice", &["delete", "deployment", "web", "-n", "shop"]);
    pause(5000);
    assert!(web(&cluster).is_null());
    let told = cluster.editwar.get("/readyz?verbose").1;
    assert!(told.contains("no audit events for more than"), "{told}");
}

#[test]
fn late_batches_make_corrections_less_frequent() {
    let webhook = format!("127.0.0.1:{}", free_port());
    let Some(server) = ApiServer::start_batching(Some(&format!("http://{webhook}/audit")), "10s") else { return };
    let Some(cluster) = Cluster::start_on(server, &webhook, &[]) else { return };
    wait_until("the assets are applied", 60, || replicas(&cluster) == 3);
    // A rival that reacts immediately, for half a minute.
    let started = std::time::Instant::now();
    let mut answers = 0;
    while started.elapsed() < std::time::Duration::from_secs(30) {
        if replicas(&cluster) != 5 {
            scale(&cluster, HPA, 5);
            answers += 1;
        }
        pause(200);
    }
    // One correction per batch and one more, not one per second.
    assert!((2..=6).contains(&answers), "{answers} answers in half a minute");
    assert!(!is_paused(&cluster), "so few retakes are no war by these limits");
}
