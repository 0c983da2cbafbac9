//! Tests of the server over real sockets, with bodies that a real kube-apiserver posted to a receiver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::util;

/// A server for a test. It is killed on drop.
pub(crate) struct Server {
    child: Child,
    pub(crate) webhook: SocketAddr,
    pub(crate) admin: SocketAddr,
    said: Arc<Mutex<String>>,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Server {
        Server::start_at("127.0.0.1:0", arguments)
    }

    /// Starts a server whose webhook listens on this address.
    pub(crate) fn start_at(webhook: &str, arguments: &[&str]) -> Server {
        Server::start_as(Command::new(env!("CARGO_BIN_EXE_editwar")), webhook, arguments)
    }

    /// Starts a command that executes editwar.
    pub(crate) fn start_as(command: Command, webhook: &str, arguments: &[&str]) -> Server {
        let (server, lines) = Server::spawn(command, webhook, arguments);
        // The rest must be read, or the server would block on a full pipe.
        let log = server.said.clone();
        std::thread::spawn(move || lines.for_each(|line| *log.lock().unwrap() += &(line + "\n")));
        server
    }

    /// Starts a server, and returns the lines that it logs from then on.
    pub(crate) fn start_logging(webhook: &str, arguments: &[&str]) -> (Server, impl Iterator<Item = String> + use<>) {
        Server::spawn(Command::new(env!("CARGO_BIN_EXE_editwar")), webhook, arguments)
    }

    fn spawn(
        mut command: Command,
        webhook: &str,
        arguments: &[&str],
    ) -> (Server, impl Iterator<Item = String> + use<>) {
        let listen: &[&str] = if arguments.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let mut child = command
            .args(["serve", "--webhook-listen", webhook])
            .args(listen)
            .args(arguments)
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut next = || serde_json::from_str::<Value>(&lines.next().expect("it listens").unwrap()).unwrap();
        let first = std::iter::repeat_with(&mut next).find(|line| line["webhook"].is_string()).unwrap();
        let address = |key: &str| {
            let url = first[key].as_str().unwrap().to_owned();
            let rest = url.split_once("://").unwrap().1;
            rest.split('/').next().unwrap().parse().unwrap()
        };
        let server = Server { webhook: address("webhook"), admin: address("api"), child, said: Arc::default() };
        (server, lines.map_while(Result::ok))
    }

    /// Returns the log so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Returns the address of the webhook.
    pub(crate) fn webhook(&self) -> SocketAddr {
        self.webhook
    }

    /// Waits until it is ready.
    pub(crate) fn ready(self) -> Server {
        util::until("the server is ready", || self.get("/readyz").0 == 200);
        self
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it with SIGTERM.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        self.child.wait().unwrap()
    }

    /// Stops it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Returns the address of the query API.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Posts JSON to the query API.
    pub(crate) fn post_json(&self, path: &str, body: &str) -> (u16, String) {
        self.request(self.admin, "POST", path, "Content-Type: application/json\r\n", body.as_bytes())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Sends a request over HTTP/1.1. Returns status and body.
    pub(crate) fn request(
        &self,
        to: SocketAddr,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> (u16, String) {
        let mut stream = TcpStream::connect(to).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        drop(stream.write_all(body));
        answer(&mut stream)
    }

    pub(crate) fn admin_port(&self) -> u16 {
        self.admin.port()
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> (u16, String) {
        self.request(self.webhook, "POST", path, "Content-Type: application/json\r\n", body)
    }

    /// Sends a request to the query API.
    pub(crate) fn ask(&self, method: &str, path: &str) -> (u16, String) {
        self.request(self.admin, method, path, "", b"")
    }

    /// Posts a recording's log in batches of 400, like kube-apiserver.
    pub(crate) fn post_log(&self, recording: &str) {
        self.post_lines(&util::lines(&util::log(recording)));
    }

    /// Posts a recording as the log of this cluster.
    pub(crate) fn post_log_as(&self, recording: &str, cluster: &str) {
        self.post_lines_to(&format!("/audit/{cluster}"), &util::lines(&util::log(recording)));
    }

    /// Posts events in batches of 400.
    pub(crate) fn post_lines(&self, lines: &[&[u8]]) {
        self.post_lines_to("/audit", lines);
    }

    fn post_lines_to(&self, path: &str, lines: &[&[u8]]) {
        for batch in lines.chunks(400) {
            let mut body = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
            body.extend(batch.join(&b','));
            body.extend(b"]}");
            assert_eq!(self.post(path, &body), (200, String::new()));
        }
    }

    /// Returns the URL for an API server to post to.
    pub(crate) fn webhook_url(&self) -> String {
        format!("http://{}/audit", self.webhook)
    }

    /// Returns the URL of a path of the query API.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.request(self.admin, "GET", path, "", b"")
    }

    /// Returns status and header lines of a response, with names in lower case.
    pub(crate) fn head(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut head = String::new();
        stream.read_to_string(&mut head).unwrap();
        (status(&head), head)
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(crate) fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "the test runner shows it where a test failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Helps to understand a failed test.
            eprintln!("the server said:\n{}", self.said());
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn answer(stream: &mut impl Read) -> (u16, String) {
    let mut bytes = Vec::new();
    // A TLS peer may close the connection without a close_notify alert.
    drop(stream.read_to_end(&mut bytes));
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (status(head), body.to_owned())
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Returns the bodies that a real kube-apiserver posted, in the order of their arrival.
fn bodies(recording: &str) -> Vec<Vec<u8>> {
    let file = std::fs::File::open(util::path(&format!("fixtures/recordings/{recording}/bodies.tar.gz"))).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut found: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        if path.extension().is_some_and(|e| e == "body") {
            let mut body = Vec::new();
            entry.read_to_end(&mut body).unwrap();
            found.push((path, body));
        }
    }
    found.sort();
    found.into_iter().map(|(_, body)| body).collect()
}

#[test]
fn recorded_webhook_batches_give_the_verdict_and_its_metrics() {
    for recording in ["webhook-capture", "webhook-faults"] {
        let server = Server::start(&[]);
        let mut distinct: std::collections::BTreeSet<String> = Default::default();
        for body in bodies(recording) {
            assert_eq!(server.post("/audit?timeout=30s", &body), (200, String::new()));
            let list: Value = serde_json::from_slice(&body).unwrap();
            for event in list["items"].as_array().unwrap() {
                let is_write = event["objectRef"]["name"] == "wh"
                    && event["verb"] == "patch"
                    && event["stage"] == "ResponseComplete";
                if is_write {
                    distinct.insert(event["auditID"].as_str().unwrap().to_owned());
                }
            }
        }
        let report = server.json("/api/v1/wars");
        let war = &report["wars"][0];
        assert_eq!(report["wars"].as_array().unwrap().len(), 1);
        assert_eq!(war["object"]["name"], "wh");
        assert_eq!(war["fields"][0]["path"], "data.v");
        assert_eq!((&war["state"], &war["confidence"]), (&"sustained".into(), &"confirmed".into()));
        // Repeated batches count once: the number of the parties' writes equals the number of different patches.
        let writes: u64 = war["parties"].as_array().unwrap().iter().map(|p| p["writes"].as_u64().unwrap()).sum();
        assert_eq!(writes as usize, distinct.len(), "{recording}");
        let thrashing = war["thrashing_events"].as_u64().unwrap() as f64;
        let labels = r#"kind="ConfigMap",name="wh",namespace="war""#;
        assert_eq!(server.metric(&format!("virt_platform_thrashing_total{{{labels}}}")), thrashing);
        let of = |actor: &str| {
            server.metric(&format!(r#"virt_platform_thrashing_by_actor_total{{actor="{actor}",{labels}}}"#))
        };
        assert_eq!(of("alice") + of("bob"), thrashing);

        let object = "/api/v1/objects/configmaps/war/wh";
        let decision = server.json(&format!("{object}/decision"));
        assert_eq!((&decision["allowed"], &decision["state"]), (&false.into(), &"sustained".into()));
        let sides = server.json(&format!("{object}/participants"));
        assert_eq!(sides["parties"].as_array().unwrap().len(), 2);
        assert!(!server.json(&format!("{object}/timeline"))["timeline"].as_array().unwrap().is_empty());
        let calm = server.json("/api/v1/objects/deployments.apps/shop/other/decision");
        assert_eq!((&calm["allowed"], &calm["state"]), (&true.into(), &"calm".into()));
    }
}

#[test]
fn undecided_wars_are_counted_only_if_a_pause_aware_actor_takes_part() {
    // Of every object.
    let thrashing = |server: &Server| {
        let (_, text) = server.get("/metrics");
        let lines = text.lines().filter(|line| line.starts_with("virt_platform_thrashing_total{"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    let post = |recording: &str, settings: &[&str]| {
        let server = Server::start(settings);
        server.post_log(recording);
        util::until("the events are counted", || server.metric("editwar_tracked_objects") > 5.0);
        server
    };
    // The platform operator against the HPA, at Metadata: the alert of its runbook must work.
    let operator = post("hpa-vs-applier-metadata", &[]);
    assert!(thrashing(&operator) >= 9.0, "{}", thrashing(&operator));
    // Argo CD against kubectl, at Metadata: told apart, and not counted by default.
    let others = post("gitops-vs-kubectl-metadata", &[]);
    assert_eq!(thrashing(&others), 0.0);
    assert_eq!(others.metric("editwar_undecided_objects"), 1.0);
    let never = post("hpa-vs-applier-metadata", &["--set", "metrics.count_undecided=never"]);
    assert_eq!(thrashing(&never), 0.0);
    let always = post("gitops-vs-kubectl-metadata", &["--set", "metrics.count_undecided=always"]);
    assert!(thrashing(&always) >= 1.0);
}

#[test]
fn clusters_are_distinguished_by_webhook_path() {
    let server = Server::start(&[]);
    for body in bodies("webhook-faults") {
        assert_eq!(server.post("/audit/east", &body).0, 200);
    }
    let object = "/api/v1/objects/configmaps/war/wh/decision";
    assert_eq!(server.json(object)["allowed"], true);
    assert_eq!(server.json(&format!("{object}?cluster=east"))["allowed"], false);
    assert_eq!(server.json("/api/v1/wars?cluster=west")["wars"], Value::Array(Vec::new()));
    assert_eq!(server.json("/api/v1/wars?cluster=east")["wars"][0]["object"]["cluster"], "east");
}

#[test]
fn unreadable_bodies_are_counted_and_answered_with_200() {
    let server = Server::start(&["--set", "webhook.max_body_bytes=1MiB"]);
    let event =
        r#"{"level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/","verb":"get","user":{}}"#;
    let list = |items: &str| format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{items}]}}"#);
    for body in [
        String::new(),
        "not json".into(),
        list(&format!("{event},{{}},{event}")),
        list(event)[..120].to_owned(),
        list(&format!("{event},{{\"x\":\"{}\"}}", "x".repeat(2 << 20))),
        format!("[{}", "[".repeat(100_000)),
    ] {
        assert_eq!(server.post("/audit", body.as_bytes()), (200, String::new()), "{}", &body[..body.len().min(80)]);
    }
    assert_eq!(server.metric(r#"editwar_events_total{outcome="read"}"#), 3.0);
    assert_eq!(server.metric(r#"editwar_malformed_events_total{reason="not_json"}"#), 1.0);
    assert_eq!(server.metric(r#"editwar_malformed_events_total{reason="not_an_event"}"#), 1.0);
    assert_eq!(server.metric(r#"editwar_malformed_events_total{reason="truncated"}"#), 3.0);
    assert_eq!(server.metric(r#"editwar_batches_total{outcome="truncated"}"#), 1.0);
}

#[test]
fn invalid_requests_are_rejected_with_a_matching_status() {
    let server = Server::start(&["--set", "webhook.max_body_bytes=1KiB"]);
    let webhook = server.webhook;
    let status =
        |method: &str, path: &str, headers: &str, body: &[u8]| server.request(webhook, method, path, headers, body).0;
    assert_eq!(status("GET", "/audit", "", b""), 405);
    assert_eq!(status("POST", "/", "", b""), 404);
    assert_eq!(status("POST", "/audit/a/b", "", b""), 404);
    assert_eq!(status("POST", "/audit/%00", "", b""), 404);
    assert_eq!(status("POST", "/audit", "Content-Type: text/xml\r\n", b"<a/>"), 415);
    assert_eq!(status("POST", "/audit", "Content-Type: application/json\r\n", &[b' '; 100_000]), 413);
    assert_eq!(server.request(server.admin, "POST", "/api/v1/wars", "", b"").0, 405);
    assert_eq!(server.get("/api/v1/wars?colour=red").0, 400);
    assert_eq!(server.get("/api/v1/objects/configmaps/war/nobody").0, 404);
    assert_eq!(server.get("/nowhere").0, 404);
    assert_eq!((server.get("/livez").0, server.get("/readyz").0), (200, 200));
}

#[test]
fn who_queries_a_running_server() {
    let server = Server::start(&[]);
    for body in bodies("webhook-faults") {
        server.post("/audit", &body);
    }
    let who = |arguments: &[&str]| {
        let url = format!("http://{}", server.admin);
        let output =
            Command::new(env!("CARGO_BIN_EXE_editwar")).arg("who").args(arguments).env("EDITWAR_SERVER", url).output();
        let output = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = who(&["cm/wh", "-n", "war"]);
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(out.contains("ConfigMap war/wh: sustained") && out.contains("alice") && out.contains("bob"), "{out}");
    let (code, _, err) = who(&["cm/other", "-n", "war"]);
    assert_eq!(code, 2);
    assert!(
        err.starts_with("editwar: cm/other: no cm named \"other\" in namespace war; there are these names: "),
        "{err}"
    );
    let wars = |arguments: &[&str]| {
        let url = format!("http://{}", server.admin);
        let arguments = [&["wars", "--server", &url], arguments].concat();
        crate::cli::run(&arguments, None)
    };
    let (code, out, _) = wars(&["--kind", "cm", "--top", "1", "-A"]);
    assert!(code == 1 && out.contains("ConfigMap war/wh"), "{out}");
    let (code, out, _) = wars(&["--kind", "deploy"]);
    assert!(code == 2 && out.contains("no object of kind \"deploy\"") && !out.contains("No edit war"), "{out}");
    let (code, _, err) = who(&["cm/wh", "--server", "http://127.0.0.1:1"]);
    assert_eq!(code, 2);
    assert!(err.contains("check that `editwar serve` is running there"), "{err}");
}

#[test]
fn a_tls_listener_accepts_tls_and_ignores_plain_http() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tls");
    std::fs::create_dir_all(&folder).unwrap();
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let set = |name: &str, path: &std::path::Path| format!("webhook.tls.{name}={}", path.display());
    // Both at once, since a certificate without a key is not a valid configuration.
    let tls = format!("webhook.tls={{cert: {}, key: {}}}", cert.display(), key.display());
    assert!(set("cert", &cert).contains("cert.pem"));
    let server = Server::start(&["--set", &tls]);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(server.webhook).unwrap());
    let body = &bodies("webhook-faults")[0];
    let head = format!(
        "POST /audit HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    assert_eq!(answer(&mut stream), (200, String::new()));
    assert_eq!(server.metric(r#"editwar_batches_total{outcome="accepted"}"#), 1.0);
    // Plain HTTP on the TLS port gets no response.
    assert_eq!(server.post("/audit", body).0, 0);
}

#[test]
fn a_body_of_the_maximum_size_is_accepted() {
    // An eighth of the memory is for batches, and half of that for one: 4 MiB, which is also what one client may have.
    let server = Server::start(&["--set", "bounds.max_memory=64MiB"]);
    let event = |n: usize| {
        format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{n}","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/configmaps/web","verb":"patch","user":{{"username":"alice"}},"objectRef":{{"resource":"configmaps","namespace":"shop","name":"web","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":200}},"requestReceivedTimestamp":"2026-11-23T02:00:00.000000Z","stageTimestamp":"2026-11-23T02:00:00.001000Z"}}"#
        )
    };
    let items: Vec<String> = (0..12_000).map(event).collect();
    let body = format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{}]}}"#, items.join(","));
    assert!(body.len() > 4 << 20, "{}", body.len());
    assert_eq!(server.post("/audit", body.as_bytes()).0, 200);
    assert_eq!(server.metric(r#"editwar_batches_total{outcome="truncated"}"#), 1.0);
    assert!(server.metric(r#"editwar_events_total{outcome="write"}"#) > 9_000.0);
}

#[test]
fn startup_errors_name_the_cause() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_editwar")).arg("serve").args(arguments).env_clear().output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let address = taken.local_addr().unwrap().to_string();
    let (code, err) = run(&["--listen", "127.0.0.1:0", "--webhook-listen", &address]);
    assert_eq!(code, 2);
    assert!(err.contains(&address) && err.contains("another process uses this port"), "{err}");
    let bad = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bad.pem");
    std::fs::write(&bad, "no certificate").unwrap();
    let (code, err) = run(&["--set", &format!("webhook.tls={{cert: {0}, key: {0}}}", bad.display())]);
    assert_eq!(code, 2);
    assert!(err.contains("bad.pem") && err.contains("certificate"), "{err}");
    let (code, err) = run(&["--webhook-listen", "0.0.0.0:0"]);
    assert_eq!(code, 2);
    assert!(err.contains("allow_insecure"), "{err}");
}

#[test]
fn sigterm_finishes_open_requests_and_stops() {
    let mut server = Server::start(&[]);
    let body = bodies("webhook-faults").remove(0);
    let mut stream = TcpStream::connect(server.webhook).unwrap();
    let head = format!(
        "POST /audit HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..1000]).unwrap();
    // Wait until the server has seen the head. Then it is stopped while the body is being sent.
    util::until("the server has seen the head", || server.get("/livez").0 == 200);
    Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status().unwrap();
    util::until("it no longer accepts connections", || TcpStream::connect(server.webhook).is_err());
    stream.write_all(&body[1000..]).unwrap();
    assert_eq!(answer(&mut stream).0, 200);
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn thrashing_counters_start_at_zero_with_the_first_retake() {
    let server = Server::start(&[]).ready();
    let mut cluster = crate::cluster::Cluster::new(crate::cluster::Level::RequestResponse);
    let path = "configmaps/shop/config";
    let body = serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"v": "0"}});
    cluster.create(crate::cluster::OPERATOR, path, body);
    let post = |cluster: &crate::cluster::Cluster| {
        let lines: Vec<&[u8]> = cluster.lines().collect();
        let body = [b"[".as_slice(), &lines.join(&b','), b"]"].concat();
        assert_eq!(server.post("/audit", &body).0, 200);
    };
    let counted = |label: &str| {
        let (_, text) = server.get("/metrics");
        let mut lines = text.lines().filter(|line| line.starts_with("virt_platform_thrashing") && line.contains(label));
        lines.next().and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value.to_owned())
    };
    let fight = |cluster: &mut crate::cluster::Cluster, transitions: usize| {
        for turn in 0..transitions {
            cluster.wait(2.0);
            let who = if turn % 2 == 0 { crate::cluster::ALICE } else { crate::cluster::BOB };
            cluster.patch(who, path, "", serde_json::json!({"data": {"v": who.0}}));
        }
    };
    post(&cluster);
    assert_eq!(counted("config"), None, "one writer is no contest");
    fight(&mut cluster, 4);
    post(&cluster);
    assert_eq!((counted("config"), counted("actor=\"alice\"")), (Some("0".into()), Some("0".into())));
    fight(&mut cluster, 10);
    post(&cluster);
    assert_ne!(counted("actor=\"alice\""), Some("0".into()));
}

#[test]
fn every_documented_label_value_starts_at_zero() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let journal = std::env::temp_dir().join(format!("editwar-zero-{}", std::process::id()));
    let server = Server::start(&["--journal", journal.to_str().unwrap()]);
    let (_, metrics) = server.get("/metrics");
    let named = |row: &str| -> Vec<String> { row.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let refused = docs.split("| reason of `editwar_requests_rejected_total` |").nth(1).unwrap();
    let refused = refused.lines().skip(2).take_while(|row| row.starts_with("| `"));
    let refused: Vec<String> = refused.flat_map(|row| named(row.split('|').nth(1).unwrap())).collect();
    let of_row = |metric: &str| {
        let row = docs.lines().find(|row| row.starts_with(&format!("| `{metric}` |"))).unwrap();
        named(row.rsplit('|').nth(1).unwrap())
    };
    let outcomes = of_row("editwar_journal_records_total");
    for (metric, label, values) in [
        ("editwar_requests_rejected_total", "reason", refused),
        ("editwar_malformed_events_total", "reason", of_row("editwar_malformed_events_total")),
        ("editwar_journal_records_total", "outcome", outcomes),
    ] {
        assert!(values.len() >= 3, "{metric}: {values:?}");
        for value in values {
            let series = format!("{metric}{{{label}=\"{value}\"}} 0");
            assert!(metrics.lines().any(|line| line == series), "{series} is not in\n{metrics}");
        }
    }
    drop(server);
    std::fs::remove_dir_all(journal).unwrap();
}
