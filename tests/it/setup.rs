//! Passes the output of `editwar setup` to a real API server unchanged. `editwar doctor` must report no problems, and
//! then name each step that is broken.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::envtest::{ApiServer, free_port, scratch, wait_until};
use crate::util;

fn editwar(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_editwar")).args(args).env_clear().output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `editwar serve` with certificates, on ports that stay the same when it is restarted.
struct Server {
    child: Option<Child>,
    webhook: u16,
    admin: u16,
}

// === impl Server ===

impl Server {
    fn new() -> Server {
        Server { child: None, webhook: free_port(), admin: free_port() }
    }

    fn start(&mut self, settings: &[String]) {
        self.stop();
        let mut command = Command::new(env!("CARGO_BIN_EXE_editwar"));
        command.args(["serve", "--listen", &format!("127.0.0.1:{}", self.admin)]);
        command.args(["--webhook-listen", &format!("127.0.0.1:{}", self.webhook)]);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        let mut child = command.env_clear().stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        self.child = Some(child);
        let first = lines.next().unwrap().unwrap();
        assert!(first.contains("listening"), "{first}");
        std::thread::spawn(move || lines.for_each(drop));
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns the settings for these certificates, with access for kube-apiserver's client certificate.
fn tls(certs: &Path, clusters: &str) -> Vec<String> {
    let file = |name: &str| certs.join(name).display().to_string();
    vec![
        format!(
            "webhook.auth={{client_ca: '{}', allow: [{{name: kube-apiserver, rights: [ingest]{clusters}}}]}}",
            file("ca.crt")
        ),
        format!("webhook.tls={{cert: '{}', key: '{}'}}", file("server.crt"), file("server.key")),
    ]
}

struct Doctor {
    kubeconfig: PathBuf,
    folder: PathBuf,
    server: String,
}

// === impl Doctor ===

impl Doctor {
    /// Runs the checks. Returns exit code and findings.
    fn look(&self, webhook: &str, extra: &[&str]) -> (i32, Vec<Value>) {
        let output = Command::new(env!("CARGO_BIN_EXE_editwar"))
            .args(["doctor", "-o", "json", "--server", &self.server])
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--webhook")
            .arg(self.folder.join(webhook))
            .args(extra)
            .env_clear()
            .output()
            .unwrap();
        let found: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), found["findings"].as_array().unwrap().clone())
    }

    /// Returns the single finding that is broken.
    fn broken(&self, webhook: &str, extra: &[&str]) -> Value {
        let (code, found) = self.look(webhook, extra);
        let broken: Vec<&Value> = found.iter().filter(|f| f["state"] == "broken").collect();
        assert_eq!((code, broken.len()), (1, 1), "{found:#?}");
        assert!(broken[0]["hint"].as_str().is_some_and(|hint| hint.len() > 10), "it says what to do: {broken:?}");
        broken[0].clone()
    }
}

fn says(finding: &Value, link: &str, text: &str) {
    let said = finding["text"].as_str().unwrap();
    assert!(finding["link"] == link && said.contains(text), "expected {link}: {text}; found {finding}");
}

#[test]
fn setup_output_works_unchanged_and_doctor_finds_each_fault() {
    let folder = scratch("setup");
    let path = |name: &str| folder.join(name).display().to_string();
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let mut server = Server::new();
    let url = format!("https://127.0.0.1:{}", server.webhook);
    let webhook = |extra: &[&str]| {
        let mut args = vec!["setup", "webhook", "--server", &url, "--cluster", "east"];
        args.extend(extra);
        editwar(&args)
    };
    editwar(&["setup", "certs", &path("certs")]);
    write("policy.yaml", editwar(&["setup", "policy"]));
    write("webhook.yaml", webhook(&["--certs", &path("certs")]));
    server.start(&tls(&folder.join("certs"), ""));

    let printed = editwar(&["setup", "apiserver", "--distribution", "flags", "--dir", &path("")]);
    let flags: Vec<String> = printed.lines().filter(|line| line.starts_with("--")).map(str::to_owned).collect();
    let Some(mut api) = ApiServer::start_with(flags.clone()) else { return };
    let doctor = Doctor {
        kubeconfig: api.kubeconfig("admin"),
        folder: folder.clone(),
        server: format!("http://127.0.0.1:{}", server.admin),
    };

    // Everything works.
    let policy = path("policy.yaml");
    let all = ["--policy", &policy, "--probe", "shop", "--cluster", "east"];
    // The API server counts its first events, and posts its first batch, some time after it is ready.
    wait_until("the first writes arrive", 120, || {
        let (code, found) = doctor.look("webhook.yaml", &[]);
        code == 0 && found.iter().any(|f| f["link"] == "bodies") && found.iter().all(|f| f["state"] == "ok")
    });
    let (code, found) = doctor.look("webhook.yaml", &all);
    assert!(code == 0 && found.iter().all(|f| f["state"] == "ok"), "{found:#?}");
    let links: Vec<&str> = found.iter().map(|f| f["link"].as_str().unwrap()).collect();
    for link in [
        "policy",
        "API server",
        "audit",
        "RBAC",
        "webhook kubeconfig",
        "client certificate",
        "listener",
        "TLS",
        "webhook",
        "server",
        "clocks",
        "events",
        "lag",
        "bodies",
        "evidence",
        "verdict",
        "probe",
    ] {
        assert!(links.contains(&link), "{link} is not looked at: {links:?}");
    }

    // Permissions of editwar: none, all that pauses need, a part of them.
    let rbac = || doctor.look("webhook.yaml", &[]).1.into_iter().find(|f| f["link"] == "RBAC").unwrap();
    says(&rbac(), "RBAC", "may only observe");
    api.kubectl("admin", &["create", "namespace", "editwar"]);
    api.apply("admin", &std::fs::read_to_string(util::path("deploy/rbac/pause.yaml")).unwrap());
    wait_until("the rights are known", 10, || rbac()["text"].as_str().unwrap().contains("may pause objects"));
    let less = r#"[{"op": "remove", "path": "/rules/2"}]"#;
    api.kubectl("admin", &["patch", "clusterrole", "editwar-pause", "--type=json", "-p", less]);
    wait_until("the right is gone", 10, || rbac()["state"] == "broken");
    says(&doctor.broken("webhook.yaml", &[]), "RBAC", "may not create events");
    api.kubectl("admin", &["delete", "clusterrole", "editwar-pause"]);
    api.kubectl("admin", &["delete", "role", "editwar-lease", "-n", "editwar"]);

    // The manifests are accepted as printed.
    let manifests = editwar(&["setup", "manifests", "--certs", &path("certs")]);
    api.apply("admin", &manifests);
    let kinds = api.kubectl(
        "admin",
        &["get", "-n", "editwar", "-o", "name", "deployment,service,secret,configmap,networkpolicy,serviceaccount"],
    );
    for kind in [
        "deployment.apps/editwar",
        "service/editwar",
        "secret/editwar-tls",
        "configmap/editwar",
        "networkpolicy",
        "serviceaccount/editwar",
    ] {
        assert!(kinds.contains(kind), "{kind}: {kinds}");
    }

    // The policy.
    write("silent.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, resources: [{group: apps}]}, {level: Metadata}]".into());
    says(&doctor.broken("webhook.yaml", &["--policy", &path("silent.yaml")]), "policy", "deployments.apps");
    write("loud.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]".into());
    says(&doctor.broken("webhook.yaml", &["--policy", &path("loud.yaml")]), "policy", "Secrets");

    // The kubeconfig.
    says(&doctor.broken("missing.yaml", &[]), "webhook kubeconfig", "missing.yaml");
    write("path.yaml", webhook(&["--certs", &path("certs")]).replace("/audit/east", "/audits"));
    says(&doctor.broken("path.yaml", &[]), "webhook", "/audits");

    // The client: without a certificate, with an unknown token, with a certificate of another CA, for another cluster.
    write("token", "no-such-token".into());
    write("token.yaml", webhook(&["--certs", &path("certs"), "--token-file", &path("token")]));
    says(&doctor.broken("token.yaml", &[]), "authentication", "rejects the client");
    editwar(&["setup", "certs", &path("strangers")]);
    let own = |name: &str| std::fs::copy(folder.join("certs").join(name), folder.join("strangers").join(name)).unwrap();
    own("ca.crt");
    write("client.yaml", webhook(&["--certs", &path("strangers")]));
    says(&doctor.broken("client.yaml", &[]), "authentication", "");
    server.start(&tls(&folder.join("certs"), ", clusters: [east]"));
    // Nothing renews leases in this cluster, so a change is needed.
    api.kubectl("admin", &["label", "namespace", "shop", "tick=1"]);
    wait_until("events come again", 30, || doctor.look("webhook.yaml", &[]).0 == 0);
    write("west.yaml", webhook(&["--certs", &path("certs")]).replace("/audit/east", "/audit/west"));
    says(&doctor.broken("west.yaml", &[]), "authentication", "403");

    // Names and CAs.
    write("name.yaml", webhook(&["--certs", &path("certs"), "--server-name", "other.example.com"]));
    says(&doctor.broken("name.yaml", &[]), "TLS", "other.example.com");
    editwar(&["setup", "certs", &path("others")]);
    write("authority.yaml", webhook(&["--certs", &path("others")]));
    says(&doctor.broken("authority.yaml", &[]), "TLS", "another CA");

    // The listener.
    let port = format!(":{}", server.webhook);
    write("port.yaml", std::fs::read_to_string(folder.join("webhook.yaml")).unwrap().replace(&port, ":1"));
    says(&doctor.broken("port.yaml", &[]), "listener", ":1 does not respond");
    server.start(&[]);
    let (_, found) = doctor.look("webhook.yaml", &[]);
    says(found.iter().find(|f| f["link"] == "TLS").unwrap(), "TLS", "");
    assert_eq!(
        found.iter().find(|f| f["link"] == "TLS").unwrap()["state"],
        "broken",
        "it speaks plain HTTP: {found:#?}"
    );

    // Events that the API server could not post are lost, which it reports.
    let mut hasty = flags.clone();
    hasty.push("--audit-webhook-initial-backoff=1ms".into());
    server.stop();
    api.relaunch_with(hasty);
    let lost = || doctor.look("webhook.yaml", &[]).1.iter().any(|f| f["link"] == "audit" && f["state"] == "broken");
    wait_until("the API server gives up a batch", 60, lost);
    let (code, found) = doctor.look("webhook.yaml", &[]);
    let broken: Vec<&str> =
        found.iter().filter(|f| f["state"] == "broken").map(|f| f["link"].as_str().unwrap()).collect();
    assert_eq!((code, broken), (1, vec!["audit", "listener", "server"]), "{found:#?}");

    // An API server without audit logging.
    api.relaunch_with(Vec::new());
    server.start(&tls(&folder.join("certs"), ""));
    let (_, found) = doctor.look("webhook.yaml", &[]);
    let broken: Vec<&str> =
        found.iter().filter(|f| f["state"] == "broken").map(|f| f["link"].as_str().unwrap()).collect();
    assert_eq!(broken, ["audit", "events"], "{found:#?}");

    // No API server at all.
    api.halt();
    let (_, found) = doctor.look("webhook.yaml", &[]);
    says(found.iter().find(|f| f["state"] == "broken").unwrap(), "API server", "does not respond");
}
