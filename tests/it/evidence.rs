//! `editwar doctor` on a real API server names the evidence that an account or a server has, and the next better kind.

use std::process::Command;

use serde_json::Value;

use crate::cli;
use crate::envtest::{ApiServer, METADATA, wait_until};
use crate::serve::Server;

/// Runs `editwar doctor` with a kubeconfig. Returns the exit code and the findings.
fn doctor(api: &ApiServer, user: &str, arguments: &[&str]) -> (i32, Vec<Value>) {
    let output = Command::new(env!("CARGO_BIN_EXE_editwar"))
        .args(["doctor", "-o", "json", "--kubeconfig"])
        .arg(api.kubeconfig(user))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), found["findings"].as_array().unwrap().clone())
}

/// Returns state, text and hint of a finding.
fn finding(found: &[Value], link: &str) -> String {
    let one = found.iter().find(|f| f["link"] == link).unwrap_or_else(|| panic!("no {link}: {found:#?}"));
    let part = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
    format!("{}: {} -> {}", part("state"), part("text"), part("hint"))
}

fn contains(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "{part} is missing: {text}"));
}

#[test]
fn with_only_a_kubeconfig_doctor_tells_what_the_account_can_watch() {
    let Some(api) = ApiServer::start(None) else { return };
    let reader = "system:serviceaccount:editwar:editwar";
    let admin = |arguments: &[&str]| drop(api.kubectl("admin", arguments));

    // Everything may be read.
    let (code, found) = doctor(&api, "admin", &[]);
    assert_eq!(code, 1, "there is no server: {found:#?}");
    contains(&finding(&found, "server"), &["broken: found no Service"]);
    contains(
        &finding(&found, "read access"),
        &["ok: this account may list and watch every resource in all namespaces"],
    );
    contains(&finding(&found, "managedFields"), &["ok: "]);
    let evidence = finding(&found, "evidence");
    contains(
        &evidence,
        &["weak: a watch", "editwar watch --kubeconfig /", "-> next: a watch and an audit log at level"],
    );
    assert!(!evidence.contains(" -n "), "{evidence}");

    // Nothing may be read.
    let (code, found) = doctor(&api, reader, &["-n", "shop"]);
    assert_eq!(code, 1);
    contains(&finding(&found, "read access"), &["weak: this account may not list and watch"]);
    contains(
        &finding(&found, "evidence"),
        &["unknown: none: this account may not read objects", "next: managedFields"],
    );

    // Single objects may be read in a namespace, and then also watched.
    admin(&["create", "role", "getter", "-n", "shop", "--verb=get", "--resource=configmaps"]);
    admin(&["create", "rolebinding", "getter", "-n", "shop", "--role=getter", "--group=editwar"]);
    let evidence = || finding(&doctor(&api, reader, &["-n", "shop"]).1, "evidence");
    wait_until("the permission to get is known", 10, || evidence().contains("weak: managedFields"));
    contains(&evidence(), &["editwar who KIND/NAME", "-n shop", "next: a watch, which shows wars"]);
    admin(&["create", "configmap", "web", "-n", "shop", "--from-literal=v=1"]);
    admin(&["create", "role", "watcher", "-n", "shop", "--verb=list,watch", "--resource=configmaps"]);
    admin(&["create", "rolebinding", "watcher", "-n", "shop", "--role=watcher", "--group=editwar"]);
    wait_until("the permission to watch is known", 10, || evidence().contains("weak: a watch"));
    contains(&evidence(), &["editwar watch --kubeconfig", "-n shop"]);
    let (_, found) = doctor(&api, reader, &["-n", "shop"]);
    contains(&finding(&found, "read access"), &["may list and watch configmaps in namespace shop"]);
    contains(&finding(&found, "managedFields"), &["ok: "]);

    // Some kinds may be read in all namespaces.
    let kinds = "--resource=deployments,configmaps,services";
    admin(&["create", "clusterrole", "watcher", "--verb=list,watch", kinds]);
    admin(&["create", "clusterrolebinding", "watcher", "--clusterrole=watcher", "--group=editwar"]);
    let access = || finding(&doctor(&api, reader, &[]).1, "read access");
    wait_until("the ClusterRole is bound", 10, || access().contains("deployments.apps, configmaps, services in all"));
}

#[test]
fn doctor_names_the_evidence_of_a_server_and_the_next_better_kind() {
    let Some((mut api, log)) = ApiServer::start_logging(METADATA) else { return };
    let kubeconfig = format!("watch.kubeconfig={}", api.kubeconfig("admin").display());
    let tail = ["--tail", log.to_str().unwrap()];
    let watch = ["--watch", "--set", &kubeconfig];
    let look =
        |api: &ApiServer, server: &Server| doctor(api, "admin", &["--server", &format!("http://{}", server.admin)]);
    let write = |api: &ApiServer, turn: u32| {
        api.kubectl("admin", &["label", "namespace", "shop", "--overwrite", &format!("turn={turn}")]);
    };
    let mut turn = 0;
    let mut wait_for = |api: &ApiServer, server: &Server, parts: &[&str]| {
        wait_until(&format!("doctor says {parts:?}"), 120, || {
            turn += 1;
            write(api, turn);
            let said = finding(&look(api, server).1, "evidence");
            parts.iter().all(|part| said.contains(part))
        });
    };

    // An audit log without bodies, and then a watch beside it.
    let server = Server::start(&tail);
    let next = "next: a watch and an audit log at level Metadata, which adds fields and values: editwar serve --watch";
    wait_for(&api, &server, &["weak: an audit log at level Metadata: accounts", next]);
    drop(server);
    let server = Server::start(&[&tail[..], &watch[..]].concat());
    let next = "next: an admission webhook and an audit log at level Metadata, which adds values before and after";
    wait_for(&api, &server, &["weak: a watch and an audit log at level Metadata", next, "editwar setup policy"]);
    drop(server);

    // A watch alone: an API server without an audit log is not a fault.
    api.relaunch_with(Vec::new());
    let server = Server::start(&watch);
    wait_until("the server is ready", 120, || server.get("/readyz").0 == 200);
    wait_for(&api, &server, &["weak: a watch: wars", "which adds accounts: editwar serve --watch --tail AUDIT.log"]);
    let (code, found) = look(&api, &server);
    assert_eq!(code, 0, "{found:#?}");
    contains(&finding(&found, "audit"), &["weak: the API server creates no audit events"]);
    contains(&finding(&found, "watch"), &["resources are watched"]);
}

#[test]
fn without_a_cluster_and_a_server_doctor_says_what_to_give() {
    let (code, out, err) = cli::run(&["doctor"], None);
    assert_eq!((code, err.as_str()), (1, ""));
    contains(&out, &["none: neither a cluster nor a server answers", "→ next: managedFields and a watch"]);
    contains(&out, &["--kubeconfig FILE", "--server URL", "editwar analyze AUDIT.log"]);
}

#[test]
fn setup_lists_the_kinds_of_evidence() {
    let (code, out, err) = cli::run(&["setup", "evidence"], None);
    assert_eq!((code, err.as_str()), (0, ""));
    contains(&out, &["1  managedFields", "2  a watch", "3  a watch and", "5  an audit log", "6  an audit log"]);
    contains(&out, &["editwar check", "editwar watch", "editwar setup policy", "editwar setup webhook"]);
}
