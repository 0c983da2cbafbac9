//! An admission webhook as the only source, on a real API server without an audit log.

use std::process::Command;

use serde_json::{Value, json};

use crate::envtest::{ApiServer, pause, scratch, wait_until};
use crate::serve::Server;

#[test]
fn a_war_is_found_by_an_admission_webhook_alone_and_writes_go_on_without_it() {
    let folder = scratch("admission");
    let certs = folder.join("certs");
    let run = |args: &[&str]| {
        let run = Command::new(env!("CARGO_BIN_EXE_editwar")).args(args).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap()
    };
    let certs = certs.to_str().unwrap();
    run(&["setup", "certs", certs, "--name", "127.0.0.1"]);
    let tls = |key: &str, file: &str| format!("webhook.tls.{key}={certs}/{file}");
    let mut editwar = Server::start(&["--set", &tls("cert", "server.crt"), "--set", &tls("key", "server.key")]);
    let Some(server) = ApiServer::start(None) else { return };
    let url = format!("https://{}", editwar.webhook());
    let manifest = run(&["setup", "admission", "--certs", certs, "--server", &url, "--cluster", "east"]);
    server.apply("admin", &manifest);

    let config = |mode: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": {"mode": mode, "other": "x"}});
    // The API server takes a moment to use the webhook.
    wait_until("the first review arrives", 30, || {
        server.apply("admin", &config("green").to_string());
        server.kubectl("admin", &["delete", "cm", "app"]);
        editwar.get("/api/v1/wars?cluster=east").0 == 200 && editwar.get("/metrics").1.contains("cluster=\"east\"")
    });
    server.apply("bob", &config("green").to_string());
    let patch = |user: &str, mode: &str| {
        let patch = json!({"data": {"mode": mode}}).to_string();
        server.kubectl(user, &["patch", "cm", "app", "--type=merge", "-p", &patch]);
        pause(150);
    };
    for _ in 0..6 {
        patch("alice", "blue");
        patch("bob", "green");
    }
    // Secrets are left out, and what another webhook or a rule refuses is not stored.
    server.kubectl("alice", &["create", "secret", "generic", "s", "--from-literal=k=hunter2"]);
    for user in ["alice", "bob"] {
        assert!(!server.output(user, &["patch", "cm", "nothing", "--type=merge", "-p", "{}"]).status.success());
    }
    let wars = || editwar.json("/api/v1/wars?cluster=east");
    wait_until("the war is seen whole", 30, || wars()["wars"][0]["retakes"] == 11);
    let answer = wars();
    assert_eq!(answer["wars"].as_array().unwrap().len(), 1, "{answer}");
    let war = &answer["wars"][0];
    assert_eq!(war["object"]["name"], "app");
    let fields: Vec<&Value> = war["fields"].as_array().unwrap().iter().map(|field| &field["path"]).collect();
    assert_eq!(fields, ["data.mode"]);
    let mut parties: Vec<&str> =
        war["parties"].as_array().unwrap().iter().map(|p| p["actor"].as_str().unwrap()).collect();
    parties.sort_unstable();
    assert_eq!(parties, ["alice", "bob"]);
    let text = answer.to_string();
    assert!(text.contains("does not tell whether they were stored"), "the answer says what a review does not show");
    assert!(!text.contains("hunter2"));

    // Without the server, writes go on.
    editwar.kill();
    patch("alice", "yellow");
    assert_eq!(server.kubectl("admin", &["get", "cm", "app", "-o", "jsonpath={.data.mode}"]), "yellow");
}
