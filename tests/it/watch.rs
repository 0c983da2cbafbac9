//! `editwar watch` on a real API server: the same wars as its audit log shows, and no others.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::envtest::{ApiServer, pause, scratch, wait_until};
use crate::serve::Server;
use crate::util;

/// An audit policy that shows everything that a watch can show.
const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: None, resources: [{group: coordination.k8s.io}, {group: '', resources: [events]}, {group: events.k8s.io}]}
- {level: Metadata, resources: [{group: '', resources: [secrets]}]}
- {level: RequestResponse, verbs: [create, update, patch, delete]}
- {level: None}
";

/// The controllers that run in a test: those that write what they are told to, and the garbage collector.
const CONTROLLERS: &str = "--controllers=deployment-controller,replicaset-controller,garbage-collector-controller,\
                           horizontal-pod-autoscaler-controller,endpointslice-controller,namespace-controller";

/// An API server with an audit log, and the log.
struct Logged {
    server: ApiServer,
    log: PathBuf,
}

/// A running `editwar watch -o jsonl`.
pub(crate) struct Watch {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    said: Arc<Mutex<String>>,
    pub(crate) recording: PathBuf,
}

/// What a war is about: its object, its parties as managers, its fields, and their values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fight {
    object: String,
    managers: Vec<String>,
    fields: Vec<(String, Vec<String>)>,
}

// === impl Logged ===

impl Logged {
    fn start() -> Option<Logged> {
        let (server, log) = ApiServer::start_logging(POLICY)?;
        Some(Logged { server, log })
    }

    /// Sets `data.KEY` of the ConfigMap `shop/NAME` as a field manager.
    fn set(&self, manager: &str, name: &str, key: &str, value: &str) {
        let patch = format!(r#"{{"data":{{"{key}":"{value}"}}}}"#);
        let manager = format!("--field-manager={manager}");
        self.server
            .kubectl("admin", &["patch", "configmap", name, "-n", "shop", &manager, "--type=merge", "-p", &patch]);
    }

    fn create(&self, name: &str) {
        self.server.kubectl("admin", &["create", "configmap", name, "-n", "shop", "--from-literal=v=0"]);
    }

    /// Returns the fights that the audit log shows.
    fn fights(&self) -> Vec<Fight> {
        fights(&answer(&["analyze", "-q", "--all", "-o", "json", self.log.to_str().unwrap()]))
    }
}

// === impl Watch ===

impl Watch {
    /// Starts a watch as a user, and waits until it is connected.
    pub(crate) fn start(server: &ApiServer, user: &str, arguments: &[&str]) -> Watch {
        let recording = scratch("recording").join("watch.jsonl");
        let mut child = Command::new(env!("CARGO_BIN_EXE_editwar"))
            .args(["watch", "-o", "jsonl", "--kubeconfig"])
            .arg(server.kubeconfig(user))
            .arg("--record")
            .arg(&recording)
            .args(arguments)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, said) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(String::new())));
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let (found, log) = (lines.clone(), said.clone());
        std::thread::spawn(move || {
            stdout.for_each(|line| found.lock().unwrap().push(serde_json::from_str(&line.unwrap()).unwrap()));
        });
        std::thread::spawn(move || stderr.by_ref().for_each(|line| *log.lock().unwrap() += &(line.unwrap() + "\n")));
        let watch = Watch { child, lines, said, recording };
        wait_until("everything is watched", 120, || {
            watch.said().lines().last().is_some_and(|said| said.contains("watching") && !said.contains("no connection"))
        });
        watch
    }

    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until a war over this object is told in one of these states.
    pub(crate) fn wait_for(&self, name: &str, states: &[&str]) {
        wait_until(&format!("the watch tells that {name} is {states:?}"), 60, || {
            let lines = self.lines.lock().unwrap();
            lines.iter().any(|war| war["object"]["name"] == name && states.contains(&war["state"].as_str().unwrap()))
        });
    }

    /// Interrupts the watch, and returns its exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        let interrupted = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(interrupted.success());
        self.child.wait().unwrap().code().unwrap_or_else(|| panic!("it was killed: {}", self.said()))
    }

    /// Returns the fights that the recording of the watch shows.
    fn fights(&self) -> Vec<Fight> {
        fights(&answer(&["analyze", "-q", "--all", "-o", "json", self.recording.to_str().unwrap()]))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs editwar and returns its JSON.
fn answer(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_editwar")).args(arguments).env_clear().output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn fights(report: &Value) -> Vec<Fight> {
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of_war = |war: &Value| {
        let managers =
            array(&war["parties"]).iter().flat_map(|party| array(&party["field_managers"])).collect::<Vec<_>>();
        let mut managers: Vec<String> = managers.iter().map(|manager| manager.as_str().unwrap().to_owned()).collect();
        let mut fields: Vec<(String, Vec<String>)> = array(&war["fields"])
            .iter()
            .map(|field| {
                let mut values: Vec<String> =
                    array(&field["values"]).iter().map(|value| value["value"].to_string()).collect();
                values.sort();
                values.dedup();
                (field["path"].as_str().unwrap().to_owned(), values)
            })
            .collect();
        managers.sort();
        managers.dedup();
        fields.sort();
        let object = &war["object"];
        Fight {
            object: format!("{}/{}", object["kind"].as_str().unwrap(), object["name"].as_str().unwrap()),
            managers,
            fields,
        }
    };
    let mut found: Vec<Fight> = array(&report["wars"]).iter().map(of_war).collect();
    found.sort();
    found
}

fn contents(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_watch_shows_the_wars_of_the_audit_log_with_the_same_fields_and_values() {
    let Some(logged) = Logged::start() else { return };
    for name in ["web", "calm", "late"] {
        logged.create(name);
    }
    // This war began before the watch.
    for value in ["1", "2", "1"] {
        logged.set(if value == "1" { "tool-a" } else { "tool-b" }, "late", "v", value);
    }
    let mut watch = Watch::start(&logged.server, "admin", &[]);
    for turn in 0..5 {
        logged.set("tool-a", "web", "v", "1");
        logged.set("tool-b", "web", "v", "2");
        // Two that share an object, but no field.
        logged.set("tool-a", "calm", "a", &turn.to_string());
        logged.set("tool-b", "calm", "b", &turn.to_string());
        logged.set("tool-b", "late", "v", "2");
        logged.set("tool-a", "late", "v", "1");
    }
    watch.wait_for("web", &["thrashing", "sustained"]);
    watch.wait_for("late", &["thrashing", "sustained"]);
    assert_eq!(watch.stop(), 1, "{}", watch.said());
    let found = watch.fights();
    assert_eq!(found, logged.fights());
    let fight = |name: &str| Fight {
        object: format!("ConfigMap/{name}"),
        managers: vec!["tool-a".to_owned(), "tool-b".to_owned()],
        fields: vec![("data.v".to_owned(), vec!["\"1\"".to_owned(), "\"2\"".to_owned()])],
    };
    assert_eq!(found, [fight("late"), fight("web")]);
    // Every retake from the third write on is counted.
    let retakes = |report: &Value| {
        let wars = report["wars"].as_array().unwrap();
        wars.iter().find(|war| war["object"]["name"] == "web").unwrap()["retakes"].as_u64().unwrap()
    };
    let analyzed = |path: &Path| answer(&["analyze", "-q", "-o", "json", path.to_str().unwrap()]);
    assert_eq!((retakes(&analyzed(&watch.recording)), retakes(&analyzed(&logged.log))), (8, 8));
    let lines = watch.lines.lock().unwrap();
    let first = lines.iter().find(|war| war["object"]["name"] == "web").unwrap();
    assert_eq!(first["parties"][0]["is_field_manager"], true);
}

#[test]
fn apply_and_scale_are_told_apart_by_manager_operation_and_subresource() {
    let Some(logged) = Logged::start() else { return };
    let manifest = |replicas: u32| {
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: shop}}, spec: {{replicas: {replicas}, \
             selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: \
             [{{name: web, image: nginx}}]}}}}}}}}"
        )
    };
    let apply = |replicas: u32| {
        let path = logged.log.with_file_name("deployment.yaml");
        std::fs::write(&path, manifest(replicas)).unwrap();
        let file = path.to_str().unwrap();
        let arguments = ["apply", "--server-side", "--force-conflicts", "--field-manager=gitops", "-f", file];
        logged.server.kubectl("admin", &arguments);
    };
    apply(3);
    let mut watch = Watch::start(&logged.server, "admin", &["deployments", "-n", "shop"]);
    for _ in 0..5 {
        logged.server.kubectl("alice", &["scale", "deployment/web", "-n", "shop", "--replicas=5"]);
        apply(3);
    }
    watch.wait_for("web", &["thrashing", "sustained"]);
    assert_eq!(watch.stop(), 1);
    let found = watch.fights();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].fields, [("spec.replicas".to_owned(), vec!["3".to_owned(), "5".to_owned()])]);
    let report = answer(&["analyze", "-q", "-o", "json", watch.recording.to_str().unwrap()]);
    let mut parties: Vec<&str> =
        report["wars"][0]["parties"].as_array().unwrap().iter().map(|party| party["actor"].as_str().unwrap()).collect();
    parties.sort_unstable();
    assert_eq!(parties, ["gitops (Apply)", "kubectl (Update scale)"]);
    assert_eq!(found[0].fields, logged.fights()[0].fields);
}

#[test]
fn what_may_not_be_read_is_told_once_and_left_out() {
    let Some(logged) = Logged::start() else { return };
    logged.create("web");
    let admin = |arguments: &[&str]| drop(logged.server.kubectl("admin", arguments));
    admin(&["create", "role", "reader", "-n", "shop", "--verb=list,watch", "--resource=configmaps"]);
    admin(&["create", "rolebinding", "reader", "-n", "shop", "--role=reader", "--group=editwar"]);
    let mut watch = Watch::start(&logged.server, "system:serviceaccount:editwar:editwar", &["-n", "shop"]);
    let said = watch.said();
    assert!(
        said.contains("watching 1 resource; not watched, because this account may not list and watch them"),
        "{said}"
    );
    for _ in 0..3 {
        logged.set("tool-a", "web", "v", "1");
        logged.set("tool-b", "web", "v", "2");
    }
    watch.wait_for("web", &["contested"]);
    assert_eq!(watch.stop(), 0, "four retakes are no war yet: {}", watch.said());
    // While it connects, it may say for which resources it waits.
    let said = watch.said();
    let lines = said.lines().filter(|line| line.contains("not watched") && !line.contains("no connection"));
    assert_eq!(lines.count(), 1, "{said}");
}

#[test]
fn a_misspelt_kind_or_a_missing_object_is_no_all_clear() {
    let Some(server) = ApiServer::start(None) else { return };
    let kubeconfig = server.kubeconfig("admin");
    let watch = |object: &str| {
        let arguments = ["watch", object, "-n", "shop", "--for", "12s", "--kubeconfig", kubeconfig.to_str().unwrap()];
        let output = Command::new(env!("CARGO_BIN_EXE_editwar")).args(arguments).env_clear().output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for (object, why) in [
        ("confgmaps", "the cluster has no kind \"confgmaps\""),
        ("configmap/none", "configmaps in shop none does not exist"),
        ("nodes", "no resource is watched"),
    ] {
        let (code, out) = watch(object);
        assert!(code == Some(2) && out.contains(why), "{object}: {code:?} {out}");
    }
    server.kubectl("admin", &["create", "configmap", "web", "-n", "shop"]);
    let (code, out) = watch("configmap/web");
    assert!(code == Some(0) && out.contains("No edit war"), "{code:?} {out}");
}

#[test]
fn a_secret_is_watched_without_its_values() {
    let Some(logged) = Logged::start() else { return };
    let admin = |arguments: &[&str]| drop(logged.server.kubectl("admin", arguments));
    admin(&["create", "secret", "generic", "key", "-n", "shop", "--from-literal=v=a"]);
    let mut watch = Watch::start(&logged.server, "admin", &["secrets", "-n", "shop"]);
    for turn in 0..10 {
        let (manager, value) =
            if turn % 2 == 0 { ("tool-a", "c2VjcmV0LW9uZQ==") } else { ("tool-b", "c2VjcmV0LXR3bw==") };
        let patch = format!(r#"{{"data":{{"v":"{value}"}}}}"#);
        let manager = format!("--field-manager={manager}");
        admin(&["patch", "secret", "key", "-n", "shop", &manager, "--type=merge", "-p", &patch]);
    }
    watch.wait_for("key", &["thrashing", "sustained"]);
    assert_eq!(watch.stop(), 1);
    let recording = contents(&watch.recording);
    assert!(
        !recording.contains("c2VjcmV0") && !recording.contains("RequestResponse\",\"auditID\":\"watch/"),
        "{recording}"
    );
    let report = answer(&["analyze", "-q", "-o", "json", watch.recording.to_str().unwrap()]);
    let war = &report["wars"][0];
    assert_eq!((&war["fields"][0]["path"], &war["confidence"]), (&"data.v".into(), &"probable".into()));
}

#[test]
fn a_watch_goes_on_after_a_restart_of_the_api_server() {
    let Some(mut logged) = Logged::start() else { return };
    logged.create("web");
    let mut watch = Watch::start(&logged.server, "admin", &["configmaps", "-n", "shop"]);
    for _ in 0..2 {
        logged.set("tool-a", "web", "v", "1");
        logged.set("tool-b", "web", "v", "2");
    }
    watch.wait_for("web", &["contested"]);
    logged.server.halt();
    pause(1_000);
    logged.server.launch();
    // These writes may come before the watch is connected again: it continues from where it was.
    for _ in 0..4 {
        logged.set("tool-a", "web", "v", "1");
        logged.set("tool-b", "web", "v", "2");
    }
    watch.wait_for("web", &["thrashing", "sustained"]);
    assert_eq!(watch.stop(), 1, "{}", watch.said());
    let retakes = |report: &Value| report["wars"][0]["retakes"].as_u64().unwrap();
    let of_log = answer(&["analyze", "-q", "-o", "json", logged.log.to_str().unwrap()]);
    let of_watch = answer(&["analyze", "-q", "-o", "json", watch.recording.to_str().unwrap()]);
    assert_eq!(retakes(&of_watch), retakes(&of_log));
}

#[test]
fn new_kinds_of_objects_are_watched_as_soon_as_they_exist() {
    let Some(logged) = Logged::start() else { return };
    let mut watch = Watch::start(&logged.server, "admin", &[]);
    logged.server.apply(
        "admin",
        "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: widgets.example.com}, spec: \
         {group: example.com, scope: Namespaced, names: {plural: widgets, kind: Widget}, versions: [{name: v1, served: true, \
         storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}",
    );
    let widget = "{apiVersion: example.com/v1, kind: Widget, metadata: {name: web, namespace: shop}, spec: {size: 0}}";
    let created = || {
        let path = logged.log.with_file_name("widget.yaml");
        std::fs::write(&path, widget).unwrap();
        logged.server.output("admin", &["create", "-f", path.to_str().unwrap()]).status.success()
    };
    wait_until("widgets are served", 30, created);
    let connected = watch.said().lines().count();
    wait_until("widgets are watched", 30, || {
        watch.said().lines().count() > connected || {
            let patch = |manager: &str, size: u32| {
                let (patch, manager) =
                    (format!(r#"{{"spec":{{"size":{size}}}}}"#), format!("--field-manager={manager}"));
                let arguments = ["patch", "widget", "web", "-n", "shop", &manager, "--type=merge", "-p", &patch];
                logged.server.kubectl("admin", &arguments);
            };
            patch("tool-a", 1);
            patch("tool-b", 2);
            watch.lines.lock().unwrap().iter().any(|war| war["object"]["kind"] == "Widget")
        }
    });
    assert_eq!(watch.stop() & !1, 0, "{}", watch.said());
}

#[test]
fn controllers_that_do_their_work_are_no_war() {
    let Some(logged) = Logged::start() else { return };
    let manager = logged.server.binary("kube-controller-manager");
    if !manager.exists() {
        return crate::require::skip("apiserver", "no kube-controller-manager");
    }
    let mut manager = Command::new(manager)
        .arg(format!("--kubeconfig={}", logged.server.kubeconfig("admin").display()))
        .args(["--leader-elect=true", "--secure-port=0", CONTROLLERS])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut watch = Watch::start(&logged.server, "admin", &[]);
    let admin = |arguments: &[&str]| drop(logged.server.kubectl("admin", arguments));
    admin(&["create", "deployment", "web", "-n", "shop", "--image=nginx", "--replicas=2"]);
    for image in ["nginx:1", "nginx:2", "nginx:3"] {
        admin(&["set", "image", "deployment/web", "-n", "shop", &format!("nginx={image}")]);
        admin(&[
            "scale",
            "deployment/web",
            "-n",
            "shop",
            if image == "nginx:2" { "--replicas=3" } else { "--replicas=1" },
        ]);
        admin(&["label", "deployment/web", "-n", "shop", "--overwrite", &format!("version={}", image.len())]);
        pause(1_500);
    }
    wait_until("the rollout created ReplicaSets", 60, || {
        logged.server.kubectl("admin", &["get", "replicasets", "-n", "shop", "-o", "name"]).lines().count() >= 3
    });
    admin(&["delete", "deployment", "web", "-n", "shop"]);
    wait_until("the garbage collector removed its Pods", 90, || {
        logged.server.kubectl("admin", &["get", "replicasets,pods", "-n", "shop", "-o", "name"]).trim().is_empty()
    });
    let code = watch.stop();
    drop(manager.kill());
    drop(manager.wait());
    let report = answer(&["analyze", "-q", "-o", "json", watch.recording.to_str().unwrap()]);
    assert_eq!(report["wars"], serde_json::json!([]), "{report:#}");
    assert_eq!(code, 0, "{}", watch.said());
}

#[test]
fn serve_watches_with_the_permissions_that_are_shipped() {
    let Some(logged) = Logged::start() else { return };
    let admin = |arguments: &[&str]| drop(logged.server.kubectl("admin", arguments));
    admin(&["create", "namespace", "editwar"]);
    admin(&["apply", "-f", util::path("deploy/rbac/watch.yaml").to_str().unwrap()]);
    let kubeconfig = logged.server.kubeconfig("system:serviceaccount:editwar:editwar");
    let server = Server::start(&["--watch", "--set", &format!("watch.kubeconfig={}", kubeconfig.display())]);
    wait_until("the server is ready", 120, || server.get("/readyz").0 == 200);
    assert!(server.get("/readyz?verbose").1.contains("sources: webhook, watch"));
    for turn in 0..12 {
        let (manager, value) = if turn % 2 == 0 { ("tool-a", "1") } else { ("tool-b", "2") };
        let (manager, label) = (format!("--field-manager={manager}"), format!("v={value}"));
        admin(&["label", "namespace", "shop", "--overwrite", &manager, &label]);
    }
    let wars = || serde_json::from_str::<Value>(&server.get("/api/v1/wars").1).unwrap()["wars"].clone();
    wait_until("the war is reported", 60, || wars()[0]["fields"][0]["path"] == "metadata.labels.v");
    assert_eq!(wars()[0]["object"]["kind"], "Namespace");
    let metrics = server.get("/metrics").1;
    let value = |line: &str| {
        let found = metrics.lines().find_map(|l| l.strip_prefix(line)?.trim().parse::<f64>().ok());
        found.unwrap_or_else(|| panic!("{line} is missing: {metrics}"))
    };
    assert!(value("editwar_watches{state=\"connected\"}") > 5.0);
    assert!(value("editwar_watch_revisions_total{author=\"known\"}") >= 11.0);
    assert!(value("editwar_watch_promoted_objects") >= 1.0);
}
