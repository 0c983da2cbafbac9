//! A watch beside an audit log without bodies: the verdicts of a log with bodies.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use editwar::query::views::{Report, War};
use serde_json::Value;

use crate::envtest::{ApiServer, METADATA, pause, wait_until};
use crate::serve::Server;
use crate::util;
use crate::watch::Watch;

#[test]
fn an_audit_log_without_bodies_names_the_accounts_behind_the_managers_of_a_watch() {
    let Some((api, log)) = ApiServer::start_logging(METADATA) else { return };
    let kubeconfig = api.kubeconfig("admin");
    let server = Server::start(&[
        "--watch",
        "--tail",
        log.to_str().unwrap(),
        "--set",
        &format!("watch.kubeconfig={}", kubeconfig.display()),
    ]);
    wait_until("the server is ready", 120, || server.get("/readyz").0 == 200);
    for name in ["managers", "manager", "calm"] {
        api.kubectl("admin", &["create", "configmap", name, "-n", "shop", "--from-literal=v=0"]);
    }
    let set = |user: &str, manager: &str, name: &str, value: &str| {
        let (manager, patch) = (format!("--field-manager={manager}"), format!(r#"{{"data":{{"v":"{value}"}}}}"#));
        api.kubectl(user, &["patch", "configmap", name, "-n", "shop", &manager, "--type=merge", "-p", &patch]);
    };
    // Two accounts with a field manager each, two with the same one, and one that repeats what is there.
    for turn in 0..16 {
        let (user, value) = if turn % 2 == 0 { ("alice", "1") } else { ("bob", "2") };
        set(user, &format!("tool-{user}"), "managers", value);
        set(user, "kubectl-edit", "manager", value);
        set(user, "kubectl-edit", "calm", "1");
    }
    set("bob", "tool-bob", "calm", "2");
    let wars = || serde_json::from_str::<Value>(&server.get("/api/v1/wars").1).unwrap()["wars"].clone();
    let told = |war: &Value| {
        let parties =
            war["parties"].as_array().unwrap().iter().map(|party| party["actor"].as_str().unwrap().to_owned());
        let mut parties: Vec<String> = parties.collect();
        parties.sort();
        let values = war["fields"][0]["values"].as_array().map_or(0, Vec::len);
        format!("{} {} {parties:?} {values}", war["object"]["name"], war["fields"][0]["path"])
    };
    let expected =
        [r#""manager" "data.v" ["alice", "bob"] 2"#.to_owned(), r#""managers" "data.v" ["alice", "bob"] 2"#.to_owned()];
    let mut found = Vec::new();
    wait_until("both wars have accounts, fields and values", 120, || {
        // Time passes for both feeds while somebody writes.
        set("alice", "tool-alice", "calm", "1");
        found = wars().as_array().unwrap().iter().map(told).collect::<Vec<_>>();
        found.sort();
        found == expected
    });
    let report = server.get("/api/v1/wars").1;
    assert!(!report.contains("(Update)"), "no manager is a party or another writer: {report}");
    // Who owns the fields of an object that nobody fights over.
    let url = format!("http://{}", server.admin);
    let cluster = ["-n", "shop", "--server", &url, "--kubeconfig", kubeconfig.to_str().unwrap()];
    let output = Command::new(env!("CARGO_BIN_EXE_editwar"))
        .args(["who", "configmap/calm"])
        .args(cluster)
        .env_clear()
        .output()
        .unwrap();
    let (found, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(found.contains("owners of its fields now") && found.contains("tool-alice (Update)"), "{found}{said}");
}

/// Takes part in a war over a Deployment against the autoscaler.
const APPLIER: &str = "system:serviceaccount:openshift-cnv:virt-platform-autopilot";
const AUTOSCALER: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";

/// How often each of them takes the field back.
const TURNS: u32 = 12;

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts controllers of kube-controller-manager as a user.
fn controllers(api: &ApiServer, user: &str, arguments: &[&str]) -> Running {
    let child = Command::new(api.binary("kube-controller-manager"))
        .arg(format!("--kubeconfig={}", api.kubeconfig(user).display()))
        .arg("--secure-port=0")
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Running(child.unwrap())
}

/// The set-up of the pair in `fixtures/pairs/autoscaler`, which is made by this test if `EDITWAR_RECORD_TO` is set to a folder.
#[test]
fn the_real_autoscaler_and_a_script_fight_over_what_both_feeds_show_together() {
    let Some((api, log)) = ApiServer::start_logging(METADATA) else { return };
    for user in [APPLIER, AUTOSCALER, "alice", "bob"] {
        let binding = user.replace(':', "-");
        let arguments = ["create", "clusterrolebinding", &binding, "--clusterrole=cluster-admin", "--user", user];
        api.kubectl("admin", &arguments);
    }
    for name in ["tools", "one-manager", "shared"] {
        api.kubectl("admin", &["create", "configmap", name, "-n", "shop", "--from-literal=v=0"]);
    }
    let path = log.with_file_name("deployment.yaml");
    let manifest = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {replicas: 3, \
                    selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: \
                    [{name: web, image: nginx}]}}}}";
    std::fs::write(&path, manifest).unwrap();
    let apply = || {
        let manager = "--field-manager=virt-platform-autopilot";
        let file = path.to_str().unwrap();
        api.kubectl(APPLIER, &["apply", "--server-side", "--force-conflicts", manager, "-f", file]);
    };
    apply();
    let _others = controllers(
        &api,
        "admin",
        &["--controllers=deployment-controller,replicaset-controller,garbage-collector-controller"],
    );
    let mut watch = Watch::start(&api, "admin", &["-n", "shop"]);
    let _autoscaler = controllers(
        &api,
        AUTOSCALER,
        &[
            "--controllers=horizontal-pod-autoscaler-controller",
            "--leader-elect=false",
            "--horizontal-pod-autoscaler-sync-period=2s",
        ],
    );
    api.kubectl("admin", &["autoscale", "deployment/web", "-n", "shop", "--min=5", "--max=9", "--cpu=50%"]);
    let is_scaled = || {
        let replicas = ["get", "deployment/web", "-n", "shop", "-o", "jsonpath={.spec.replicas}"];
        wait_until("the autoscaler sets its minimum", 60, || api.kubectl("admin", &replicas) == "5");
    };
    let set = |user: &str, manager: &str, name: &str, key: &str, value: &str| {
        let (manager, patch) = (format!("--field-manager={manager}"), format!(r#"{{"data":{{"{key}":"{value}"}}}}"#));
        api.kubectl(user, &["patch", "configmap", name, "-n", "shop", &manager, "--type=merge", "-p", &patch]);
    };
    for turn in 0..TURNS {
        is_scaled();
        apply();
        for (user, value) in [("alice", "1"), ("bob", "2")] {
            set(user, &format!("tool-{user}"), "tools", "v", value);
            set(user, "kubectl-edit", "one-manager", "v", value);
            // These two write to one object, but each has a key of its own. The second request changes nothing.
            set(user, &format!("tool-{user}"), "shared", user, &turn.to_string());
            set(user, &format!("tool-{user}"), "shared", user, &turn.to_string());
        }
        // Requests of different accounts must not be in one second, where only the second of a revision is known.
        pause(1_100);
    }
    is_scaled();
    watch.wait_for("web", &["sustained"]);
    // Time passes for both feeds.
    pause(12_000);
    set("alice", "tool-alice", "shared", "alice", "end");
    pause(1_000);
    assert_eq!(watch.stop(), 1, "{}", watch.said());
    let said = watch.said();
    assert!(!said.contains("no longer"), "no gap: {said}");
    if let Some(folder) = std::env::var_os("EDITWAR_RECORD_TO") {
        std::fs::create_dir_all(&folder).unwrap();
        let folder = Path::new(&folder);
        std::fs::copy(&log, folder.join("audit.log")).unwrap();
        std::fs::copy(&watch.recording, folder.join("watch.jsonl")).unwrap();
    }
    let report = analyzed(&[&log, &watch.recording]);
    let mut found: Vec<_> = report.wars.iter().map(told).collect();
    found.sort();
    let expected = [
        r#"configmaps shop/one-manager possible ["(main)"] ["alice", "bob"]"#.to_owned(),
        r#"configmaps shop/tools confirmed ["data.v"] ["alice", "bob"]"#.to_owned(),
        format!(r#"deployments.apps shop/web confirmed ["spec.replicas"] ["{AUTOSCALER}", "{APPLIER}"]"#),
    ];
    assert_eq!(found, expected, "{report:#?}");
    for (name, retakes) in [("tools", 2 * (TURNS - 1)), ("web", 2 * TURNS)] {
        let war = report.wars.iter().find(|war| war.object.name == name).unwrap();
        // The first write of one of them was made before the watch knew the object, so that only its manager is known.
        assert!(retakes.abs_diff(war.retakes) <= 1, "{name}: {} retakes instead of {retakes}", war.retakes);
    }
}

/// What the test above has recorded, with the truth of its script.
#[test]
fn a_recorded_watch_and_audit_log_give_the_reviewed_verdicts() {
    let folder = util::path("fixtures/pairs/autoscaler");
    let report = analyzed(&[&folder.join("audit.log.gz"), &folder.join("watch.jsonl.gz")]);
    crate::recordings::check("pairs/autoscaler", "fixtures/pairs/autoscaler/expected.yaml", &report);
}

/// Returns what `editwar analyze` reports of some files.
fn analyzed(files: &[&Path]) -> Report {
    let output = Command::new(env!("CARGO_BIN_EXE_editwar"))
        .args(["analyze", "-q", "-o", "json"])
        .args(files)
        .env_clear()
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

/// Returns what a war is about.
fn told(war: &War) -> String {
    let parties: BTreeSet<&str> = war.parties.iter().map(|party| &*party.actor).collect();
    let fields: Vec<&str> = war.fields.iter().map(|field| &*field.path).collect();
    format!("{} {} {fields:?} {parties:?}", util::name(&war.object), war.confidence.as_str())
        .replace("{", "[")
        .replace("}", "]")
}
