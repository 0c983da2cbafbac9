//! An admission webhook on a real API server: as the only source, and beside an audit log without bodies.

use std::process::Command;

use serde_json::{Value, json};

use crate::envtest::{ApiServer, METADATA, pause, scratch, wait_until};
use crate::serve::Server;

/// Starts a server that an API server can ask by TLS. Returns it with the manifest that makes the API server do so.
fn asked(more: &[&str]) -> (Server, String) {
    let certs = scratch("admission").join("certs");
    let certs = certs.to_str().unwrap();
    let run = |args: &[&str]| {
        let run = Command::new(env!("CARGO_BIN_EXE_editwar")).args(args).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap()
    };
    run(&["setup", "certs", certs, "--name", "127.0.0.1"]);
    let [cert, key] =
        [("cert", "server.crt"), ("key", "server.key")].map(|(key, file)| format!("webhook.tls.{key}={certs}/{file}"));
    let editwar = Server::start(&[&["--set", &cert, "--set", &key], more].concat());
    let url = format!("https://{}", editwar.webhook());
    let manifest = run(&["setup", "admission", "--certs", certs, "--server", &url]);
    // This machine may be so busy that a second is not enough.
    (editwar, manifest.replace("timeoutSeconds: 1", "timeoutSeconds: 10"))
}

/// Makes two accounts fight over a field of a ConfigMap, until the last of 11 retakes.
fn fight(server: &ApiServer) {
    for _ in 0..6 {
        for (user, mode) in [("alice", "blue"), ("bob", "green")] {
            patch(server, user, mode);
        }
    }
}

fn patch(server: &ApiServer, user: &str, mode: &str) {
    let patch = json!({"data": {"mode": mode}}).to_string();
    server.kubectl(user, &["patch", "cm", "app", "--type=merge", "-p", &patch]);
    pause(150);
}

fn config(name: &str, mode: &str) -> String {
    let metadata = json!({"name": name});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mode": mode, "other": "x"}})
        .to_string()
}

/// The API server takes a moment to use a webhook.
fn wait_for_reviews(server: &ApiServer, editwar: &Server) {
    wait_until("the first review arrives", 30, || {
        server.apply("admin", &config("app", "green"));
        server.kubectl("admin", &["delete", "cm", "app"]);
        editwar.get("/metrics").1.contains("source=\"admission")
            || editwar.json("/api/v1/wars")["coverage"]["feeds"].to_string().contains("admission")
    });
    server.apply("bob", &config("app", "green"));
}

/// Checks that an answer has exactly the war.
fn is_the_war(answer: &Value) {
    assert_eq!(answer["wars"].as_array().unwrap().len(), 1, "{answer}");
    let war = &answer["wars"][0];
    assert_eq!(war["object"]["name"], "app");
    let texts = |list: &Value, key: &str| -> Vec<String> {
        let mut texts: Vec<String> =
            list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect();
        texts.sort_unstable();
        texts
    };
    assert_eq!(texts(&war["fields"], "path"), ["data.mode"]);
    assert_eq!(texts(&war["parties"], "actor"), ["alice", "bob"]);
}

#[test]
fn a_war_is_found_by_an_admission_webhook_alone_and_writes_go_on_without_it() {
    let (mut editwar, manifest) = asked(&[]);
    let Some(server) = ApiServer::start(None) else { return };
    server.apply("admin", &manifest);
    wait_for_reviews(&server, &editwar);
    fight(&server);
    // Secrets are left out, and what another webhook or a rule refuses is not stored.
    server.kubectl("alice", &["create", "secret", "generic", "s", "--from-literal=k=hunter2"]);
    for user in ["alice", "bob"] {
        assert!(!server.output(user, &["patch", "cm", "nothing", "--type=merge", "-p", "{}"]).status.success());
    }
    wait_until("the war is seen whole", 30, || editwar.json("/api/v1/wars")["wars"][0]["retakes"] == 11);
    let answer = editwar.json("/api/v1/wars");
    is_the_war(&answer);
    let text = answer.to_string();
    assert!(text.contains("does not tell whether they were stored"), "the answer says what a review does not show");
    assert!(!text.contains("hunter2"));

    // Without the server, writes go on.
    editwar.kill();
    patch(&server, "alice", "yellow");
    assert_eq!(server.kubectl("admin", &["get", "cm", "app", "-o", "jsonpath={.data.mode}"]), "yellow");
}

#[test]
fn reviews_are_joined_with_an_audit_log_at_level_metadata_of_the_same_api_server() {
    let Some((server, log)) = ApiServer::start_logging(METADATA) else { return };
    let (editwar, manifest) = asked(&["--tail", log.to_str().unwrap()]);
    server.apply("admin", &manifest);
    wait_for_reviews(&server, &editwar);

    // A quota refuses what was reviewed before.
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"configmaps": "1"}}});
    server.apply("admin", &quota.to_string());
    let full = json!({"status": {"hard": {"configmaps": "1"}, "used": {"configmaps": "1"}}}).to_string();
    server.kubectl("admin", &["patch", "quota", "few", "--subresource=status", "--type=merge", "-p", &full]);
    wait_until("the quota is in force", 30, || {
        server.kubectl("admin", &["delete", "cm", "denied", "--ignore-not-found"]);
        let said = server.output("alice", &["create", "cm", "denied", "--from-literal=mode=red"]);
        String::from_utf8_lossy(&said.stderr).contains("exceeded quota")
    });
    fight(&server);
    let levels = |answer: &Value, kind: &str| answer["coverage"]["levels"][kind].as_u64().unwrap_or(0);
    let mut turn = 0;
    wait_until("the war is seen whole", 60, || {
        turn += 1;
        // Whatever was reviewed has its audit event, once the log has passed its time.
        server.kubectl("admin", &["label", "ns", "default", "--overwrite", &format!("turn={turn}")]);
        let answer = editwar.json("/api/v1/wars");
        answer["wars"][0]["retakes"] == 11 && levels(&answer, "reviewed") == 0
    });
    let answer = editwar.json("/api/v1/wars");
    is_the_war(&answer);
    assert!(levels(&answer, "fields_reviewed") >= 12, "{answer}");
    let text = answer.to_string();
    assert!(!text.contains("does not tell whether they were stored"), "{text}");
    // The client is only known from the audit log.
    assert!(answer["wars"][0]["parties"].to_string().contains("kubectl"), "{answer}");
}
