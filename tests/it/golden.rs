//! The Golden State reconciler against a real API server, with the shipped RBAC: corrections, overrides, unmanaged
//! objects and pauses.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli;
use crate::envtest::{ApiServer, free_port, pause, scratch, wait_until};
use crate::serve::Server;
use crate::util;

const EDITWAR: &str = "system:serviceaccount:editwar:editwar";
const HPA: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
const SHORT: [&str; 4] = ["--set", "limits.buckets=[{burst: 5, window: 10s}]", "--set", "limits.quiet_period=4s"];

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) editwar: Server,
    assets: PathBuf,
}

// === impl Cluster ===

impl Cluster {
    /// Starts an API server, and an editwar that applies a copy of the shipped example to it.
    pub(crate) fn start() -> Option<Cluster> {
        let webhook = format!("127.0.0.1:{}", free_port());
        Cluster::start_at(&webhook.clone(), &webhook, &[])
    }

    /// Starts both with different addresses: the API server posts to `posted`, and editwar listens on `webhook`.
    pub(crate) fn start_at(posted: &str, webhook: &str, more: &[&str]) -> Option<Cluster> {
        Cluster::start_on(ApiServer::start(Some(&format!("http://{posted}/audit")))?, webhook, more)
    }

    /// Starts an editwar that applies a copy of the shipped example to this API server.
    pub(crate) fn start_on(server: ApiServer, webhook: &str, more: &[&str]) -> Option<Cluster> {
        server.kubectl("admin", &["create", "namespace", "editwar"]);
        server.apply("admin", &std::fs::read_to_string(util::path("deploy/rbac/reconcile.yaml")).unwrap());
        server.kubectl("admin", &["create", "configmap", "clock", "-n", "shop"]);
        let assets = scratch("assets");
        for file in ["apps/web.yaml", "config/features.yaml", "tombstones/features-v1.yaml"] {
            let to = assets.join(file);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(util::path("assets").join(file), to).unwrap();
        }
        let (kubeconfig, folder) = (server.kubeconfig(EDITWAR).display().to_string(), assets.display().to_string());
        let base = ["--enforce", "reconcile", "--kubeconfig", &kubeconfig, "--assets", &folder];
        let editwar = Server::start_at(webhook, &[&base[..], &SHORT, more].concat());
        Some(Cluster { server, editwar, assets })
    }

    /// Waits while events of others advance event time.
    pub(crate) fn wait(&self, what: &str, seconds: u64, mut is_so: impl FnMut() -> bool) {
        let mut ticks = 0;
        wait_until(what, seconds, || {
            ticks += 1;
            let patch = json!({"data": {"tick": ticks.to_string()}}).to_string();
            self.server.kubectl("bob", &["patch", "configmap", "clock", "-n", "shop", "--type=merge", "-p", &patch]);
            pause(200);
            is_so()
        });
    }

    pub(crate) fn live(&self, what: &[&str]) -> Value {
        let found = self.server.output("admin", &[&["get", "-n", "shop", "-o", "json"], what].concat());
        serde_json::from_slice(&found.stdout).unwrap_or_default()
    }

    fn features(&self) -> Value {
        self.live(&["configmap", "features"])
    }

    fn mode(&self) -> String {
        self.features()["data"]["mode"].as_str().unwrap_or_default().to_owned()
    }

    fn set_mode(&self, user: &str, mode: &str) {
        let patch = json!({"data": {"mode": mode}}).to_string();
        self.server.kubectl(user, &["patch", "cm", "features", "-n", "shop", "--type=merge", "-p", &patch]);
    }

    fn annotate(&self, annotation: &str) {
        self.server.kubectl("alice", &["annotate", "cm", "features", "-n", "shop", annotation, "--overwrite"]);
    }

    pub(crate) fn is_told(&self, reason: &str) -> bool {
        self.server
            .kubectl("admin", &["get", "events", "-n", "shop", "-o", "jsonpath={.items[*].reason}"])
            .split(' ')
            .any(|r| r == reason)
    }

    fn has_metric(&self, series: &str) -> bool {
        self.editwar.get("/metrics").1.lines().any(|line| line == series)
    }
}

#[test]
fn the_golden_state_is_applied_enforced_customized_and_released() {
    let Some(cluster) = Cluster::start() else { return };
    let server = &cluster.server;
    let old = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "features-v1", "namespace": "shop", "labels": {"managed-by": "virt-platform-autopilot"}}});
    server.apply("admin", &old.to_string());
    cluster.wait("it is applied", 40, || cluster.mode() == "strict");
    let features = cluster.features();
    assert_eq!(features["metadata"]["labels"]["managed-by"], "virt-platform-autopilot");
    assert_eq!(features["metadata"]["annotations"]["platform.kubevirt.io/managed"], "true");
    cluster.wait("the Deployment too", 20, || cluster.live(&["deployment", "web"])["spec"]["replicas"] == 3);
    cluster.wait("it is told", 20, || cluster.is_told("AssetApplied"));
    cluster.wait("the tombstone's object is gone", 30, || cluster.live(&["cm", "features-v1"]).is_null());
    cluster.wait("it complies", 20, || {
        cluster.has_metric(r#"virt_platform_compliance_status{kind="ConfigMap",name="features",namespace="shop"} 1"#)
    });

    // A person's edit is corrected without a pause. Fields that are not in the Golden State are kept.
    server.kubectl(
        "alice",
        &["patch", "cm", "features", "-n", "shop", "--type=merge", "-p", r#"{"data":{"mode":"lax","mine":"1"}}"#],
    );
    cluster.wait("it is corrected", 30, || cluster.mode() == "strict");
    assert_eq!(cluster.features()["data"]["mine"], "1");
    cluster.wait("it is told", 20, || cluster.is_told("DriftCorrected"));

    // Both kinds of patches, an invalid one, and ignored fields.
    cluster.annotate(r#"platform.kubevirt.io/patch={"data":{"mode":"merged"}}"#);
    cluster.wait("a merge patch is followed", 30, || cluster.mode() == "merged");
    cluster.annotate(r#"platform.kubevirt.io/patch=[{"op":"replace","path":"/data/mode","value":"patched"}]"#);
    cluster.wait("a JSON patch is followed", 30, || cluster.mode() == "patched");
    assert!(cluster.has_metric(
        r#"virt_platform_customization_info{kind="ConfigMap",name="features",namespace="shop",type="patch"} 1"#
    ));
    cluster.annotate(r#"platform.kubevirt.io/patch=[{"op":"replace","path":"/metadata","value":{}}]"#);
    cluster.wait("an invalid one is dropped", 30, || cluster.mode() == "strict" && cluster.is_told("InvalidPatch"));
    cluster.annotate("platform.kubevirt.io/patch-");
    cluster.annotate("platform.kubevirt.io/ignore=data.mode");
    cluster.set_mode("alice", "hers");
    for _ in 0..8 {
        cluster.wait("time passes", 5, || true);
        assert_eq!(cluster.mode(), "hers", "a field that is given up is not held");
    }
    cluster.annotate("platform.kubevirt.io/ignore-");
    cluster.wait("it is held again", 30, || cluster.mode() == "strict");
    cluster.annotate("platform.kubevirt.io/mode=unmanaged");
    cluster.set_mode("alice", "free");
    cluster.wait("it is told", 20, || cluster.is_told("UnmanagedMode"));
    assert_eq!(cluster.mode(), "free");
    cluster.annotate("platform.kubevirt.io/mode-");
    cluster.wait("it is held again", 30, || cluster.mode() == "strict");
}

#[test]
fn changed_files_are_applied_and_broken_ones_keep_the_last_good_state() {
    let Some(cluster) = Cluster::start() else { return };
    let file = cluster.assets.join("config/features.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    cluster.wait("it is applied", 40, || cluster.mode() == "strict");
    std::fs::write(&file, text.replace("strict", "stricter")).unwrap();
    cluster.wait("a changed file is followed", 30, || cluster.mode() == "stricter");
    std::fs::write(&file, "apiVersion: [").unwrap();
    cluster.set_mode("alice", "lax");
    cluster.wait("the last good state is held", 30, || cluster.mode() == "stricter");

    // A kind that does not exist yet is skipped and reported, and applied when it appears.
    let thing = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: it, namespace: shop}\nspec: {x: 1}\n";
    std::fs::write(cluster.assets.join("config/thing.yaml"), thing).unwrap();
    let missing = r#"virt_platform_missing_dependency{group="example.com",kind="Thing",version="v1"}"#;
    cluster.wait("the missing kind is told", 30, || cluster.has_metric(&format!("{missing} 1")));
    let rule = r#"[{"op":"add","path":"/rules/-","value":{"apiGroups":["example.com"],"resources":["things"],"verbs":["get","list","watch","create","patch"]}}]"#;
    cluster.server.kubectl("admin", &["patch", "clusterrole", "editwar-reconcile", "--type=json", "-p", rule]);
    cluster.server.apply(
        "admin",
        r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing", "listKind": "ThingList", "singular": "thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}"#,
    );
    cluster.wait("it is applied when its kind appears", 60, || {
        cluster.live(&["things.example.com", "it"])["spec"]["x"] == 1
    });
    cluster.wait("and is missing no more", 20, || cluster.has_metric(&format!("{missing} 0")));
}

#[test]
fn a_contested_object_is_paused_instead_of_corrected() {
    // Longer than the calls until the pause is looked at take on a busy machine.
    let webhook = format!("127.0.0.1:{}", free_port());
    let slow = ["--set", "limits.buckets=[{burst: 5, window: 30s}]", "--set", "limits.quiet_period=12s"];
    let Some(cluster) = Cluster::start_at(&webhook, &webhook, &slow) else { return };
    let server = &cluster.server;
    let web = || cluster.live(&["deployment", "web"]);
    cluster.wait("it is applied", 40, || web()["spec"]["replicas"] == 3);
    let is_paused = || web()["metadata"]["annotations"]["platform.kubevirt.io/reconcile-paused"] == "true";
    // An autoscaler that always sets five.
    let mut writes = 0;
    wait_until("it is paused", 90, || {
        if web()["spec"]["replicas"] != 5 {
            server.kubectl(
                HPA,
                &["patch", "deployment", "web", "-n", "shop", "--type=merge", "-p", r#"{"spec":{"replicas":5}}"#],
            );
            writes += 1;
        }
        is_paused()
    });
    cluster.wait("it is told", 20, || cluster.is_told("ThrashingDetected"));
    // While the object is paused, the rival prevails and nothing is corrected.
    server.kubectl(
        HPA,
        &["patch", "deployment", "web", "-n", "shop", "--type=merge", "-p", r#"{"spec":{"replicas":5}}"#],
    );
    let revision = web()["metadata"]["resourceVersion"].clone();
    pause(1500);
    assert_eq!(web()["metadata"]["resourceVersion"], revision, "nobody answers");
    let war = cluster.editwar.json("/api/v1/objects/deployments.apps/shop/web")["wars"][0].clone();
    let mine = war["parties"].as_array().unwrap().iter().find(|p| p["actor"] == EDITWAR).unwrap();
    assert!(mine["writes"].as_u64().unwrap() <= writes + 1, "{mine}");
    // The rival has stopped: the pause ends, and the Golden State is applied again.
    cluster.wait("the pause is lifted and the drift corrected", 90, || !is_paused() && web()["spec"]["replicas"] == 3);
    cluster.wait("its end is told", 20, || cluster.is_told("ThrashingResolved"));
}

#[test]
fn render_shows_what_would_be_applied_and_why() {
    let folder = scratch("render");
    let live = folder.join("live.yaml");
    let render = |annotations: Value| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "features", "namespace": "shop", "annotations": annotations}, "data": {"mode": "lax"}});
        std::fs::write(&live, object.to_string()).unwrap();
        cli::run(&["render", "--asset", "assets/config/features.yaml", "--live", live.to_str().unwrap()], None)
    };
    let (code, out, err) = render(json!({}));
    assert_eq!(code, 0);
    assert!(out.contains("mode: strict") && out.contains("managed-by: virt-platform-autopilot"), "{out}");
    assert!(err.contains("would correct:") && err.contains("/data/mode"), "{err}");
    let (_, out, err) = render(json!({"platform.kubevirt.io/patch": "{\"data\":{\"mode\":\"mine\"}}"}));
    assert!(out.contains("mode: mine") && err.contains("patch annotation"), "{out}{err}");
    let (_, out, err) = render(json!({"platform.kubevirt.io/patch": "{\"kind\":\"Secret\"}"}));
    assert!(out.contains("mode: strict") && err.contains("`/kind` cannot be patched"), "{out}{err}");
    let (_, out, err) = render(json!({"platform.kubevirt.io/reconcile-paused": "true"}));
    assert!(out.is_empty() && err.contains("paused"), "{out}{err}");
    let (code, _, err) =
        cli::run(&["render", "--asset", "assets/apps/web.yaml", "--live", live.to_str().unwrap()], None);
    assert!(code == 2 && err.contains("does not contain ConfigMap/shop/features"), "{err}");
}
