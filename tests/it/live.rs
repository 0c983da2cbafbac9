//! Real wars on a real API server that posts to editwar: the operator of the runbook against a person, and a mutating
//! webhook that resets a field. The remedies are executed as printed, and must end a war between scripts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use base64::Engine as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::envtest::{ApiServer, pause, wait_until};
use crate::serve::Server;

const AUTOPILOT: &str = "system:serviceaccount:openshift-cnv:virt-platform-autopilot";

/// A mutating webhook that answers every review with the same JSON patch.
struct Mutator {
    address: SocketAddr,
    certificate: String,
}

// === impl Mutator ===

impl Mutator {
    fn start(patch: &Value) -> Mutator {
        let pair = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = rustls::ServerConnection::new(config.clone()).unwrap();
                // The API server may have given up on the review.
                drop(review(rustls::StreamOwned::new(connection, stream.unwrap()), &patch));
            }
        });
        Mutator { address, certificate: pair.cert.pem() }
    }

    fn configuration(&self) -> Value {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "defaults"},
            "webhooks": [{"name": "mode.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
                "clientConfig": {"url": format!("https://{}/", self.address), "caBundle": base64::engine::general_purpose::STANDARD.encode(&self.certificate)},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["configmaps"]}]}]})
    }
}

/// Reads one AdmissionReview and answers it.
fn review(stream: impl Read + Write, patch: &str) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let review: Value = serde_json::from_slice(&body)?;
    let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {
        "uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch", "patch": patch}})
    .to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
    write!(stream.get_mut(), "{head} {}\r\n\r\n{answer}", answer.len())?;
    stream.get_mut().flush()
}

fn parties(war: &Value) -> Vec<(&str, &str)> {
    war["parties"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["actor"].as_str().unwrap(), p["class"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_webhook_that_resets_a_field_is_named_on_a_real_api_server() {
    let editwar = Server::start(&[]);
    let Some(server) = ApiServer::start(Some(&editwar.webhook_url())) else { return };
    let mutator = Mutator::start(&json!([{"op": "add", "path": "/data/mode", "value": "strict"}]));
    server.apply("admin", r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "namespace": "shop"}, "data": {"mode": "strict", "n": "0"}}"#);
    server.apply("admin", &mutator.configuration().to_string());
    // It takes a moment until the API server uses the webhook.
    wait_until("the webhook answers", 30, || {
        server.kubectl(
            "admin",
            &["patch", "cm", "config", "-n", "shop", "--type=merge", "-p", r#"{"data":{"mode":"probe"}}"#],
        );
        server.kubectl("admin", &["get", "cm", "config", "-n", "shop", "-o", "jsonpath={.data.mode}"]) == "strict"
    });
    for n in 0..12 {
        let patch = json!({"data": {"mode": "relaxed", "n": n.to_string()}}).to_string();
        server.kubectl("alice", &["patch", "cm", "config", "-n", "shop", "--type=merge", "-p", &patch]);
    }
    let path = "/api/v1/objects/configmaps/shop/config";
    let war = || if editwar.get(path).0 == 200 { editwar.json(path)["wars"][0].clone() } else { Value::Null };
    wait_until("the war is seen", 30, || war()["retakes"].as_u64().is_some_and(|n| n >= 20));
    let war = war();
    let parties = parties(&war);
    assert!(parties.contains(&("webhook defaults/mode.example.com", "webhook")), "{parties:?}");
    assert!(parties.contains(&("alice", "person")), "{parties:?}");
    assert_eq!(
        (war["cause"].as_str(), war["fields"][0]["path"].as_str()),
        (Some("overriding_webhook"), Some("data.mode"))
    );
    let values: Vec<_> = war["fields"][0]["values"].as_array().unwrap().iter().map(|v| v["value"].clone()).collect();
    assert!(values.contains(&json!("strict")) && values.contains(&json!("relaxed")), "{values:?}");
    // The remedy ends the war: alice's value stays, everybody else's is still replaced, and the undo restores that.
    let remedies = war["remedies"].as_array().unwrap();
    let exempt = remedies.iter().find(|remedy| remedy["title"].as_str().unwrap().starts_with("exempt alice")).unwrap();
    let stays = |user: &str| {
        let patch = r#"{"data":{"mode":"relaxed"}}"#;
        server.kubectl(user, &["patch", "cm", "config", "-n", "shop", "--type=merge", "-p", patch]);
        server.kubectl("admin", &["get", "cm", "config", "-n", "shop", "-o", "jsonpath={.data.mode}"]) == "relaxed"
    };
    for (command, is_exempt) in [(&exempt["command"], true), (&exempt["undo"], false)] {
        let run = server.shell("admin", command.as_str().unwrap());
        assert!(run.status.success(), "{command}: {}", String::from_utf8_lossy(&run.stderr));
        wait_until("the API server uses the new configuration", 30, || stays("alice") == is_exempt);
        assert!(!stays("bob"), "{command}");
        assert_eq!(stays("alice"), is_exempt, "{command}");
    }
}

#[test]
fn a_war_of_operator_and_person_is_found_on_a_real_api_server() {
    let editwar = Server::start(&[]);
    let Some(server) = ApiServer::start(Some(&editwar.webhook_url())) else { return };
    let enforce = || reconcile(&server);
    apply(&server, &golden());
    for _ in 0..10 {
        server.kubectl(
            "alice",
            &["patch", "cm", "golden", "-n", "shop", "--type=merge", "-p", r#"{"data":{"mode":"relaxed"}}"#],
        );
        pause(200);
        enforce();
        // Applying the same again changes nothing and does not count.
        enforce();
    }
    let path = "/api/v1/objects/configmaps/shop/golden";
    let war = || if editwar.get(path).0 == 200 { editwar.json(path)["wars"][0].clone() } else { Value::Null };
    // Ten writes of each side after the creation. The operator wrote the field when it created the object, so only alice's
    // first write is not a retake.
    wait_until("the war is seen whole", 30, || war()["retakes"] == 19);
    let war = war();
    assert_eq!((war["state"].as_str(), war["confidence"].as_str()), (Some("sustained"), Some("confirmed")));
    assert_eq!(war["cause"], "manual_edits");
    let mut parties = parties(&war);
    parties.sort_unstable();
    assert_eq!(parties, [("alice", "person"), (AUTOPILOT, "controller")]);
    assert_eq!(war["fields"].as_array().unwrap().len(), 1, "{}", war["fields"]);
    assert_eq!(war["fields"][0]["path"], "data.mode");
    let decision = editwar.json(&format!("{path}/decision"));
    assert_eq!((&decision["allowed"], &decision["state"]), (&json!(false), &json!("sustained")), "{decision}");
    let first = war["remedies"][0]["command"].as_str().unwrap();
    let run = server.shell("admin", first);
    assert!(run.status.success(), "{first}: {}", String::from_utf8_lossy(&run.stderr));
}

/// One step of the runbook's operator: apply the Golden State to a ConfigMap, as its annotations allow.
fn reconcile(server: &ApiServer) {
    let live: Value =
        serde_json::from_str(&server.kubectl(AUTOPILOT, &["get", "cm", "golden", "-n", "shop", "-o", "json"])).unwrap();
    let annotation = |key: &str| live["metadata"]["annotations"][format!("platform.kubevirt.io/{key}")].as_str();
    if annotation("reconcile-paused") == Some("true") || annotation("mode") == Some("unmanaged") {
        return;
    }
    let mut golden = golden();
    if let Some(patch) = annotation("patch") {
        json_patch::patch(&mut golden, &serde_json::from_str::<json_patch::Patch>(patch).unwrap()).unwrap();
    }
    for path in annotation("ignore").into_iter().flat_map(|paths| paths.split(',')) {
        let pointer = format!("/{}", path.replace('.', "/"));
        *golden.pointer_mut(&pointer).unwrap() = live.pointer(&pointer).unwrap().clone();
    }
    apply(server, &golden);
}

fn golden() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "golden", "namespace": "shop", "labels": {"managed-by": "virt-platform-autopilot"}}, "data": {"mode": "strict", "other": "held"}})
}

fn apply(server: &ApiServer, golden: &Value) {
    let command = format!(
        "printf '%s' '{golden}' | kubectl apply --server-side --force-conflicts --field-manager=virt-platform-autopilot -f -"
    );
    let run = server.shell(AUTOPILOT, &command);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

fn mode(server: &ApiServer) -> String {
    server.kubectl("admin", &["get", "cm", "golden", "-n", "shop", "-o", "jsonpath={.data.mode} {.data.other}"])
}

#[test]
fn each_annotation_remedy_ends_a_war_between_scripts() {
    let editwar = Server::start(&[]);
    let Some(server) = ApiServer::start(Some(&editwar.webhook_url())) else { return };
    let path = "/api/v1/objects/configmaps/shop/golden";
    let retakes = || editwar.json(path)["wars"][0]["retakes"].as_u64().unwrap_or(0);
    let rival = || {
        server.kubectl(
            "alice",
            &["patch", "cm", "golden", "-n", "shop", "--type=merge", "-p", r#"{"data":{"mode":"relaxed"}}"#],
        );
    };
    let fight = |turns: u32| {
        for _ in 0..turns {
            rival();
            reconcile(&server);
        }
    };
    for wanted in ["platform.kubevirt.io/ignore=", "platform.kubevirt.io/patch=", "platform.kubevirt.io/mode=unmanaged"]
    {
        drop(server.output("admin", &["delete", "cm", "golden", "-n", "shop"]));
        apply(&server, &golden());
        fight(8);
        assert_eq!(mode(&server), "strict held", "the operator answers each time");
        wait_until("the war is seen", 30, || editwar.get(path).0 == 200 && retakes() >= 8);
        let found = editwar.json(path);
        let remedies = found["wars"][0]["remedies"].as_array().unwrap();
        let commands: Vec<&str> = remedies.iter().map(|r| r["command"].as_str().unwrap()).collect();
        let command = commands.iter().find(|c| c.contains(wanted)).unwrap_or_else(|| panic!("{wanted}: {commands:#?}"));
        let run = server.shell("admin", command);
        assert!(run.status.success(), "{command}: {}", String::from_utf8_lossy(&run.stderr));

        // Both continue as before. All writes up to now have arrived once a later write of another actor has.
        fight(1);
        let seen = seen(&editwar, &server);
        fight(6);
        assert_eq!(mode(&server), "relaxed held", "after {command} the rival has its way, and the rest is held");
        // Other fields of the operator are still enforced, unless the object is unmanaged as a whole.
        server.kubectl(
            "alice",
            &["patch", "cm", "golden", "-n", "shop", "--type=merge", "-p", r#"{"data":{"other":"tampered"}}"#],
        );
        reconcile(&server);
        let rest = if wanted.contains("unmanaged") { "relaxed tampered" } else { "relaxed held" };
        assert_eq!(mode(&server), rest, "after {command}");
        assert_eq!(self::seen(&editwar, &server), seen, "retakes went on after {command}");
    }
}

/// Returns the number of retakes of `data.mode`, after all writes up to now have arrived.
fn seen(editwar: &Server, server: &ApiServer) -> u64 {
    let path = "/api/v1/objects/configmaps/shop/golden";
    let stamp =
        server.kubectl("admin", &["get", "cm", "golden", "-n", "shop", "-o", "jsonpath={.metadata.resourceVersion}"]);
    let mark = format!(r#"{{"metadata":{{"labels":{{"mark":"r{stamp}"}}}}}}"#);
    server.kubectl("bob", &["patch", "cm", "golden", "-n", "shop", "--type=merge", "-p", &mark]);
    wait_until("the mark arrives", 30, || editwar.get(&format!("{path}/timeline")).1.contains(&format!("r{stamp}")));
    let war = editwar.json(path)["wars"][0].clone();
    let fields = war["fields"].as_array().cloned().unwrap_or_default();
    fields.iter().filter(|f| f["path"] == "data.mode").map(|f| f["retakes"].as_u64().unwrap()).sum()
}
