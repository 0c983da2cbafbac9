//! Authentication and authorization over real sockets and real TLS, also with a real API server.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

use crate::cli::scratch;
use crate::envtest::{ApiServer, wait_until};
use crate::serve::{Server, answer};
use crate::util;

/// A CA that issues certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

type Identity = (Vec<CertificateDer<'static>>, Vec<u8>);

// === impl Authority ===

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str, dns: &[&str]) -> (String, String, Identity) {
        let mut params = CertificateParams::new(dns.iter().map(|d| (*d).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        self.signed(params)
    }

    /// Issues a client certificate that expires in `seconds` seconds.
    fn sign_for(&self, name: &str, seconds: u64) -> Identity {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + std::time::Duration::from_secs(seconds);
        self.signed(params).2
    }

    /// Returns a revocation list of these certificates, as PEM.
    fn revoking(&self, revoked: &[&Identity]) -> String {
        let revoked = revoked.iter().map(|(chain, _)| rcgen::RevokedCertParams {
            serial_number: x509_parser::parse_x509_certificate(&chain[0]).unwrap().1.raw_serial().to_vec().into(),
            revocation_time: rcgen::date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2024, 1, 1),
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    fn signed(&self, params: CertificateParams) -> (String, String, Identity) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem(), (vec![certificate.der().clone()], key.serialize_der()))
    }
}

/// The files of a server, and the CA that clients trust.
struct Folder {
    path: PathBuf,
    ca: Authority,
}

// === impl Folder ===

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = Folder { path: scratch(name), ca: Authority::new("editwar test CA") };
        folder.renew("first");
        std::fs::write(folder.path.join("ca.pem"), &folder.ca.pem).unwrap();
        std::fs::write(
            folder.path.join("tokens"),
            "t-metrics prometheus\nt-read oncall\nt-admin admin\nt-ingest apiserver\n",
        )
        .unwrap();
        folder
    }

    /// Issues a new certificate for the server.
    fn renew(&self, name: &str) {
        let (cert, key, _) = self.ca.sign(name, &["localhost"]);
        std::fs::write(self.path.join("tls.crt"), cert).unwrap();
        std::fs::write(self.path.join("tls.key"), key).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// Writes a configuration for both listeners with TLS, client certificates, tokens and rules.
    fn config(&self) -> PathBuf {
        let path = self.path.join("editwar.yaml");
        let (cert, key, ca, tokens) =
            (self.file("tls.crt"), self.file("tls.key"), self.file("ca.pem"), self.file("tokens"));
        let text = format!(
            "webhook:\n  tls: {{cert: {cert}, key: {key}}}\n  auth:\n    client_ca: {ca}\n    token_file: {tokens}\n    allow:\n    \
             - {{name: kube-apiserver-a, rights: [ingest], clusters: [a]}}\n    - {{name: apiserver, rights: [ingest]}}\n\
             admin:\n  tls: {{cert: {cert}, key: {key}}}\n  auth:\n    client_ca: {ca}\n    token_file: {tokens}\n    allow:\n    \
             - {{name: prometheus, rights: [metrics]}}\n    - {{name: oncall, rights: [metrics, read]}}\n    \
             - {{name: admin, rights: [metrics, read, admin]}}\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn start(config: &Path, more: &[&str]) -> Server {
    Server::start(&[&["--config", config.to_str().unwrap()], more].concat())
}

/// Opens a TLS connection, with a client certificate if there is one.
fn connect(
    to: SocketAddr,
    ca: &Authority,
    identity: Option<&Identity>,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = pem(&ca.pem);
    roots.add(pem).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
            builder.with_client_auth_cert(chain.clone(), key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    rustls::StreamOwned::new(connection, TcpStream::connect(to).unwrap())
}

fn pem(text: &str) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(text.as_bytes()).unwrap()
}

/// Sends one request. Returns status 0 if the handshake fails.
fn ask(
    to: SocketAddr,
    ca: &Authority,
    identity: Option<&Identity>,
    method: &str,
    path: &str,
    token: &str,
) -> (u16, String) {
    let mut stream = connect(to, ca, identity);
    let body = if method == "POST" { "{}" } else { "" };
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{authorization}\r\n{body}",
        body.len()
    );
    drop(stream.write_all(head.as_bytes()));
    answer(&mut stream)
}

#[test]
fn posting_needs_a_certificate_or_token_for_that_cluster() {
    let folder = Folder::new("auth-webhook");
    let server = start(&folder.config(), &[]);
    let (_, _, a) = folder.ca.sign("kube-apiserver-a", &[]);
    let (_, _, by_dns) = folder.ca.sign("", &["kube-apiserver-a"]);
    let (_, _, other) = folder.ca.sign("somebody", &[]);
    let (_, _, forged) = Authority::new("editwar test CA").sign("kube-apiserver-a", &[]);
    let post = |identity, path, token| ask(server.webhook, &folder.ca, identity, "POST", path, token).0;
    assert_eq!(post(Some(&a), "/audit/a", ""), 200);
    assert_eq!(post(Some(&by_dns), "/audit/a", ""), 200);
    assert_eq!(post(Some(&a), "/audit/b", ""), 403, "another cluster");
    assert_eq!(post(Some(&a), "/audit", ""), 403, "no cluster");
    assert_eq!(post(Some(&other), "/audit/a", ""), 403);
    assert_eq!(post(Some(&forged), "/audit/a", ""), 0, "another CA of the same name");
    assert_eq!(post(None, "/audit/a", ""), 401);
    assert_eq!(post(None, "/audit/a", "wrong"), 401);
    assert_eq!(post(None, "/audit/b", "t-ingest"), 200);
    assert_eq!(post(None, "/audit/b", "t-read"), 401, "a token for reading does not post");
}

#[test]
fn metrics_read_and_admin_are_separate_rights() {
    let folder = Folder::new("auth-admin");
    let server = start(&folder.config(), &[]);
    let get = |path, token| ask(server.admin, &folder.ca, None, "GET", path, token);
    for open in ["/livez", "/readyz", "/", "/page.js"] {
        assert_eq!(get(open, "").0, 200, "{open} needs nobody's name");
    }
    for closed in ["/metrics", "/api/v1/wars", "/readyz?verbose", "/openapi.json", "/nothing"] {
        assert_eq!(get(closed, ""), (401, r#"{"error":"unauthorized"}"#.to_owned()), "{closed}");
    }
    assert_eq!(get("/metrics", "t-metrics").0, 200);
    let web = "/api/v1/objects/deployments.apps/shop/web";
    let views =
        ["", "/participants", "/timeline", "/decision", "/decision?watch=true"].map(|view| format!("{web}{view}"));
    for values in views.iter().map(String::as_str).chain(["/api/v1/wars", "/api/v1/participants", "/log-level"]) {
        // The same response as for an unknown token: a rejection does not reveal which tokens exist.
        let refused = get(values, "t-metrics");
        assert_eq!((refused.0, &refused), (401, &get(values, "no-such-token")), "{values}");
    }
    assert_eq!(get("/api/v1/wars", "t-read").0, 200);
    let stop = |token| ask(server.admin, &folder.ca, None, "POST", "/api/v1/enforcement/stop", token).0;
    assert_eq!((stop(""), stop("t-read")), (401, 401));
    assert_eq!(stop("t-admin"), 404, "there is no enforcer to stop, and that is told to who may know");
    // Rejections are counted, and tokens are not logged.
    let metrics = get("/metrics", "t-metrics").1;
    let refused =
        metrics.lines().find_map(|l| l.strip_prefix(r#"editwar_requests_rejected_total{reason="unauthenticated"} "#));
    assert!(refused.is_some_and(|count| count != "0"), "{metrics}");
}

#[test]
fn certificates_tokens_and_cas_are_reloaded_without_closing_connections() {
    let folder = Folder::new("auth-renewal");
    let server = start(&folder.config(), &[]);
    let serial = |stream: &rustls::StreamOwned<rustls::ClientConnection, TcpStream>| {
        stream.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let mut standing = connect(server.admin, &folder.ca, None);
    let livez = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    standing.write_all(livez.as_bytes()).unwrap();
    let mut byte = [0; 1024];
    assert!(std::io::Read::read(&mut standing, &mut byte).unwrap() > 0);
    let before = serial(&standing);

    folder.renew("second");
    std::fs::write(folder.path.join("tokens"), "t-new oncall\n").unwrap();
    let fresh = || {
        let mut stream = connect(server.admin, &folder.ca, None);
        stream.write_all(livez.as_bytes()).unwrap();
        serial(&stream)
    };
    wait_until("new connections see the new certificate", 20, || fresh() != before);
    wait_until("the new token is known", 20, || {
        ask(server.admin, &folder.ca, None, "GET", "/api/v1/wars", "t-new").0 == 200
    });
    assert_eq!(ask(server.admin, &folder.ca, None, "GET", "/api/v1/wars", "t-read").0, 401, "the old one is not");
    standing.write_all(livez.as_bytes()).unwrap();
    assert!(std::io::Read::read(&mut standing, &mut byte).unwrap() > 0, "the connection that stood still stands");

    // A client with a certificate of another CA is admitted once that CA is in the file, and rejected after it was
    // removed.
    let other = Authority::new("another CA");
    let (_, _, poster) = other.sign("kube-apiserver-a", &[]);
    let post = || ask(server.webhook, &folder.ca, Some(&poster), "POST", "/audit/a", "").0;
    assert_eq!(post(), 0, "a CA that nobody named");
    std::fs::write(folder.path.join("ca.pem"), [folder.ca.pem.as_str(), &other.pem].concat()).unwrap();
    wait_until("the new CA is believed", 20, || post() == 200);
    std::fs::write(folder.path.join("ca.pem"), &folder.ca.pem).unwrap();
    wait_until("the new CA is believed no more", 20, || post() == 0);

    // An invalid certificate file changes nothing.
    let second = fresh();
    std::fs::write(folder.path.join("tls.crt"), "nonsense").unwrap();
    crate::envtest::pause(6000);
    assert_eq!(fresh(), second);
}

#[test]
fn token_review_grants_the_rights_of_rbac() {
    let Some(cluster) = ApiServer::start(None) else { return };
    cluster.kubectl("admin", &["create", "namespace", "editwar"]);
    cluster.apply("admin", &std::fs::read_to_string(util::path("deploy/rbac/auth.yaml")).unwrap());
    let folder = Folder::new("auth-kubernetes");
    let config = folder.path.join("kubernetes.yaml");
    let (cert, key) = (folder.file("tls.crt"), folder.file("tls.key"));
    let kubeconfig = cluster.kubeconfig("system:serviceaccount:editwar:editwar");
    let text = format!(
        "admin: {{tls: {{cert: {cert}, key: {key}}}, auth: {{token_review: true}}}}\nenforce: {{kubeconfig: {}}}\n",
        kubeconfig.display()
    );
    std::fs::write(&config, text).unwrap();
    let server = start(&config, &[]);
    let get = |path, token| ask(server.admin, &folder.ca, None, "GET", path, token).0;
    // alice is a cluster admin. The operator's account has none of these rights until it is bound to a role.
    assert_eq!(get("/api/v1/wars", "token-alice"), 200);
    assert_eq!(get("/api/v1/wars", "no-such-token"), 401);
    let robot = "token-system-serviceaccount-editwar-editwar";
    assert_eq!((get("/metrics", robot), get("/api/v1/wars", robot)), (401, 401));
    cluster.kubectl(
        "admin",
        &[
            "create",
            "clusterrolebinding",
            "scrapers",
            "--clusterrole=editwar-scraper",
            "--serviceaccount=editwar:editwar",
        ],
    );
    // A rejection is cached for ten seconds.
    wait_until("it may scrape", 20, || get("/metrics", robot) == 200);
    assert_eq!(get("/api/v1/wars", robot), 401, "a stolen metrics token reads no values");
    assert_eq!(ask(server.admin, &folder.ca, None, "POST", "/api/v1/enforcement/stop", robot).0, 401);
}

#[test]
fn a_non_loopback_listener_needs_auth_or_allow_insecure() {
    let folder = Folder::new("auth-outside");
    let tls = format!("admin.tls={{cert: {}, key: {}}}", folder.file("tls.crt"), folder.file("tls.key"));
    let check = |more: &[&str]| {
        crate::cli::run(&[&["serve", "--check-config", "--listen", "0.0.0.0:8080", "--set", &tls], more].concat(), None)
    };
    let (code, _, err) = check(&[]);
    assert!(code == 2 && err.contains("without authentication") && err.contains("admin.allow_insecure"), "{err}");
    assert_eq!(check(&["--set", &format!("admin.auth.token_file={}", folder.file("tokens"))]).0, 0);
    assert_eq!(check(&["--set", "admin.allow_insecure=true"]).0, 0);
    let (code, _, err) = check(&["--set", "admin.auth.token_file=/nowhere"]);
    assert!(code == 2 && err.contains("/nowhere"), "{err}");
    std::fs::write(folder.path.join("wrong"), "only-a-secret\n").unwrap();
    let (_, _, err) = check(&["--set", &format!("admin.auth.token_file={}", folder.file("wrong"))]);
    assert!(err.contains("line 1: expected `TOKEN NAME`") && !err.contains("only-a-secret"), "{err}");
}

#[test]
fn requests_with_a_foreign_host_header_are_rejected() {
    let server = Server::start(&[]);
    let to = |address: SocketAddr, method: &str, path: &str, host: &str, more: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let body = if method == "POST" { "{}" } else { "" };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n"
        );
        drop(stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()));
        answer(&mut stream).0
    };
    let json = "Content-Type: application/json\r\n";
    // A name under a page's control that resolves to 127.0.0.1.
    for host in ["rebound.example", "rebound.example:8080", "localhost.evil.example", "127.0.0.1.evil.example"] {
        assert_eq!(to(server.admin, "GET", "/", host, ""), 421, "{host}: the document contains rows");
        assert_eq!(to(server.admin, "GET", "/api/v1/wars", host, ""), 421, "{host}");
        assert_eq!(to(server.admin, "POST", "/api/v1/enforcement/stop", host, json), 421, "{host}");
        assert_eq!(to(server.webhook, "POST", "/audit", host, json), 421, "{host}");
    }
    for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "[::1]"] {
        assert_eq!(to(server.admin, "GET", "/api/v1/wars", host, ""), 200, "{host}");
        assert_eq!(to(server.webhook, "POST", "/audit", host, json), 200, "{host}");
    }
}

#[test]
fn actions_require_json_which_needs_a_cors_preflight() {
    let Some(cluster) = ApiServer::start(None) else { return };
    cluster.kubectl("admin", &["create", "namespace", "editwar"]);
    cluster.apply("admin", &std::fs::read_to_string(util::path("deploy/rbac/pause.yaml")).unwrap());
    let kubeconfig = cluster.kubeconfig("system:serviceaccount:editwar:editwar").display().to_string();
    let server = Server::start(&[
        "--enforce",
        "pause",
        "--kubeconfig",
        &kubeconfig,
        "--set",
        "enforce.resources=[deployments.apps]",
    ]);
    let stop = |content_type: &str| {
        let header = format!("Content-Type: {content_type}\r\n");
        server.request(server.admin, "POST", "/api/v1/enforcement/stop", &header, b"{}").0
    };
    // Content types that a form or script of another origin can send without a CORS preflight.
    for simple in
        ["text/plain", "text/plain; x=application/json", "application/x-www-form-urlencoded", "multipart/form-data"]
    {
        assert_eq!(stop(simple), 415, "{simple}");
    }
    let preflight = server.request(
        server.admin,
        "OPTIONS",
        "/api/v1/enforcement/stop",
        "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n",
        b"",
    );
    assert_eq!(preflight.0, 403, "a preflight from another origin is rejected");
    assert_eq!(stop("application/json"), 200);
}

#[test]
fn the_client_authenticates_itself_and_verifies_the_server() {
    let folder = Folder::new("auth-cli");
    let server = start(&folder.config(), &[]);
    let (cert, key, _) = folder.ca.sign("oncall", &[]);
    for (name, text) in [("token", "t-read\n"), ("client.crt", &cert), ("client.key", &key)] {
        std::fs::write(folder.path.join(name), text).unwrap();
    }
    std::fs::write(folder.path.join("other.pem"), &Authority::new("another").pem).unwrap();
    let url = format!("https://localhost:{}", server.admin.port());
    let (ca, token) = (folder.file("ca.pem"), folder.file("token"));
    let ask = |more: &[&str]| crate::cli::run(&[&["wars", "--server", &url], more].concat(), None);
    let (code, out, err) = ask(&["--server-ca", &ca, "--token-file", &token]);
    // The server has received no events.
    let is_answered = |out: &str| out.contains("no audit event has arrived yet");
    assert!(code == 2 && is_answered(&out) && err.is_empty(), "{out}{err}");
    let (client_cert, client_key) = (folder.file("client.crt"), folder.file("client.key"));
    let (_, out, err) = ask(&["--server-ca", &ca, "--client-cert", &client_cert, "--client-key", &client_key]);
    assert!(is_answered(&out), "{err}");
    let (code, _, err) = ask(&["--server-ca", &ca]);
    assert!(code == 2 && err.contains("unauthorized") && err.contains("401") && err.contains(&url), "{err}");
    for ca in [&[][..], &["--server-ca", &folder.file("other.pem")]] {
        let (code, _, err) = ask(&[ca, &["--token-file", &token]].concat());
        assert!(code == 2 && err.contains("certificate"), "{err}");
    }
    let (code, _, err) = ask(&["--server-ca", "/nowhere", "--token-file", &token]);
    assert!(code == 2 && err.contains("/nowhere"), "{err}");
    // A token is not sent over an unencrypted connection to another machine.
    let plain = ["wars", "--server", "http://editwar.example.com", "--token-file", &token];
    let (code, _, err) = crate::cli::run(&plain, None);
    assert!(code == 2 && err.contains("https://"), "{err}");
    // The same for `who` and `doctor`.
    let who = ["who", "deployment/web", "-n", "shop", "--server", &url, "--server-ca", &ca, "--token-file", &token];
    let (code, _, err) = crate::cli::run(&who, None);
    assert!(code == 2 && err.contains("no write to any object was seen"), "{err}");
    let doctor = ["doctor", "--server", &url, "--server-ca", &ca, "--token-file", &token];
    let (_, out, err) = crate::cli::run(&doctor, None);
    assert!(out.contains("ready"), "{out}{err}");
}

#[test]
fn cross_site_requests_to_a_loopback_listener_are_rejected() {
    let server = Server::start(&[]);
    let post = |headers: &str| server.request(server.webhook, "POST", "/audit", headers, b"[]").0;
    // What `fetch(…, {mode: "no-cors"})` sends for a Blob without a type, for plain text, and for a form.
    for simple in ["", "text/plain", "text/plain; x=json", "text/json", "application/x-www-form-urlencoded; json"] {
        let header = if simple.is_empty() { String::new() } else { format!("Content-Type: {simple}\r\n") };
        assert_eq!(post(&header), 415, "{simple:?}");
    }
    let json = "Content-Type: application/json\r\n";
    let twice = format!("Content-Type: text/plain\r\n{json}");
    assert_eq!(post(&twice), 415, "two types");
    for accepted in ["application/json", "Application/JSON; charset=utf-8", "application/x-ndjson"] {
        assert_eq!(post(&format!("Content-Type: {accepted}\r\n")), 200, "{accepted}");
    }
    let own = format!("http://localhost:{}", server.webhook.port());
    for foreign in
        ["https://evil.example", "null", "http://localhost.evil.example", "http://localhost:1", &own[..own.len() - 1]]
    {
        assert_eq!(post(&format!("{json}Origin: {foreign}\r\n")), 403, "{foreign}");
    }
    for site in ["cross-site", "same-site", "Cross-Site"] {
        assert_eq!(post(&format!("{json}Sec-Fetch-Site: {site}\r\n")), 403, "{site}");
        let get = |more: &str| {
            let headers = format!("Sec-Fetch-Site: {site}\r\n{more}");
            server.request(server.admin, "GET", "/api/v1/wars", &headers, b"").0
        };
        assert_eq!(get("Sec-Fetch-Mode: no-cors\r\n"), 403, "{site}");
        assert_eq!(get("Sec-Fetch-Mode: navigate\r\n"), 200, "a link may lead here");
    }
    // The page itself, and a person who types the address.
    for site in ["same-origin", "none"] {
        assert_eq!(post(&format!("{json}Sec-Fetch-Site: {site}\r\n")), 200, "{site}");
    }
}

#[test]
fn connections_without_a_handshake_or_request_are_closed() {
    let folder = Folder::new("auth-silent");
    let server = start(&folder.config(), &[]);
    for said in [&b""[..], b"\x16\x03\x01"] {
        let mut silent = TcpStream::connect(server.webhook).unwrap();
        silent.set_read_timeout(Some(std::time::Duration::from_secs(25))).unwrap();
        silent.write_all(said).unwrap();
        let read = std::io::Read::read(&mut silent, &mut [0; 16]);
        assert!(matches!(&read, Ok(0)) || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    }
    // One that completes the handshake and sends nothing.
    let (_, _, anybody) = folder.ca.sign("somebody", &[]);
    let mut silent = connect(server.webhook, &folder.ca, Some(&anybody));
    silent.sock.set_read_timeout(Some(std::time::Duration::from_secs(25))).unwrap();
    silent.conn.complete_io(&mut silent.sock).unwrap();
    let read = std::io::Read::read(&mut silent, &mut [0; 16]);
    assert!(!read.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "it holds on");
}

#[test]
fn an_empty_invalid_or_deleted_token_file_admits_nobody() {
    let folder = Folder::new("auth-emptied");
    let server = start(&folder.config(), &[]);
    let get = || ask(server.admin, &folder.ca, None, "GET", "/api/v1/wars", "t-read").0;
    let tokens = folder.path.join("tokens");
    let text = std::fs::read(&tokens).unwrap();
    let spoilt: [&dyn Fn(); 3] =
        [&|| std::fs::write(&tokens, "").unwrap(), &|| std::fs::remove_file(&tokens).unwrap(), &|| {
            std::fs::write(&tokens, "only-a-secret\n").unwrap()
        }];
    for spoil in spoilt {
        wait_until("the token is known", 30, || get() == 200);
        spoil();
        wait_until("the token is known no more", 60, || get() == 401);
        std::fs::write(&tokens, &text).unwrap();
    }
}

/// Sends requests on one connection until one is rejected or the connection is closed. Returns the number of responses
/// with 200.
fn ask_until_refused(stream: &mut (impl std::io::Read + Write), path: &str, token: &str) -> usize {
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n");
    let mut answered = 0;
    while answered < 300 && stream.write_all(head.as_bytes()).is_ok() {
        let mut answer = [0; 4096];
        match stream.read(&mut answer) {
            Ok(read) if answer[..read].starts_with(b"HTTP/1.1 200") => answered += 1,
            _ => break,
        }
        crate::envtest::pause(100);
    }
    answered
}

#[test]
fn a_connection_is_closed_when_its_certificate_expires() {
    let folder = Folder::new("auth-expiry");
    let server = start(&folder.config(), &[]);
    // `/metrics` may be larger than one read. Health checks are small, and need no authentication.
    let brief = folder.ca.sign_for("prometheus", 6);
    let mut standing = connect(server.admin, &folder.ca, Some(&brief));
    standing.sock.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let answered = ask_until_refused(&mut standing, "/livez", "");
    assert!((1..300).contains(&answered), "{answered} answers");
}

#[test]
fn a_watch_ends_when_its_token_is_removed() {
    let folder = Folder::new("auth-followed");
    let server = start(&folder.config(), &[]);
    let mut stream = connect(server.admin, &folder.ca, None);
    let path = "/api/v1/objects/deployments.apps/shop/web/decision?watch=true";
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t-read\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut bytes = [0; 4096];
    assert!(std::io::Read::read(&mut stream, &mut bytes).unwrap() > 0 && bytes.starts_with(b"HTTP/1.1 200"));
    std::fs::write(folder.path.join("tokens"), "t-other oncall\n").unwrap();
    // A watch sends a line every 30 s as long as it continues, so one may still come. A timeout is not
    // its end.
    stream.sock.set_read_timeout(Some(std::time::Duration::from_secs(120))).unwrap();
    let mut lines = 0;
    loop {
        match std::io::Read::read(&mut stream, &mut bytes) {
            Ok(0) => break,
            Ok(_) => lines += 1,
            Err(error) => {
                let is_timeout = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!is_timeout, "neither a line nor the end");
                break;
            }
        }
        assert!(lines < 3, "it is still followed");
    }
    assert_eq!(ask(server.admin, &folder.ca, None, "GET", "/api/v1/wars", "t-read").0, 401);
}

#[test]
fn a_revoked_certificate_is_rejected_and_its_connections_are_closed() {
    let folder = Folder::new("auth-revoked");
    let crl = folder.path.join("revoked.crl");
    std::fs::write(&crl, folder.ca.revoking(&[])).unwrap();
    let config = folder.config();
    let text = std::fs::read_to_string(&config).unwrap();
    let with_crl = format!("    client_crl: {}\n    allow:", crl.display());
    std::fs::write(&config, text.replace("    allow:", &with_crl)).unwrap();
    let server = start(&config, &[]);
    let (_, _, good) = folder.ca.sign("prometheus", &[]);
    let (_, _, stolen) = folder.ca.sign("prometheus", &[]);
    let scrape = |identity| ask(server.admin, &folder.ca, Some(identity), "GET", "/metrics", "").0;
    assert_eq!((scrape(&good), scrape(&stolen)), (200, 200));
    let mut standing = connect(server.admin, &folder.ca, Some(&stolen));
    standing.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(std::io::Read::read(&mut standing, &mut [0; 1024]).unwrap() > 0);
    std::fs::write(&crl, folder.ca.revoking(&[&stolen])).unwrap();
    standing.sock.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let answered = ask_until_refused(&mut standing, "/livez", "");
    assert!(answered < 300, "a connection outlives the revocation of its certificate");
    assert_eq!((scrape(&good), scrape(&stolen)), (200, 0));
}

/// Starts an API server that accepts tokens that start with `good` and grants their owners all rights. Returns its
/// address.
fn reviewer() -> SocketAddr {
    use std::io::{BufRead, Read};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |stream: TcpStream| -> std::io::Result<()> {
        let mut reader = std::io::BufReader::new(stream);
        loop {
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line)? > 0 && line != "\r\n" {
                if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let Ok(mut review) = serde_json::from_slice::<serde_json::Value>(&body) else { return Ok(()) };
            let is_good = review["spec"]["token"].as_str().is_some_and(|token| token.starts_with("good"));
            review["status"] = if review["kind"] == "TokenReview" {
                serde_json::json!({"authenticated": is_good, "user": {"username": "somebody"}})
            } else {
                serde_json::json!({"allowed": true})
            };
            let text = review.to_string();
            let head = format!(
                "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                text.len()
            );
            reader.get_mut().write_all(&[head, text].concat().into_bytes())?;
        }
    };
    std::thread::spawn(move || {
        listener.incoming().for_each(|stream| drop(std::thread::spawn(move || answer(stream.unwrap()))))
    });
    address
}

#[test]
fn a_flood_of_unknown_tokens_does_not_block_valid_ones() {
    let folder = scratch("auth-flood");
    let kubeconfig = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{{name: x, cluster: {{server: \"http://{}\"}}}}]\n\
         contexts: [{{name: x, context: {{cluster: x, user: x}}}}]\nusers: [{{name: x, user: {{}}}}]\n",
        reviewer()
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let kubeconfig = format!("enforce.kubeconfig={}", kubeconfig.display());
    let server = Server::start(&["--set", "admin.auth.token_review=true", "--set", &kubeconfig]);
    let get = |from: std::net::Ipv4Addr, token: &str| -> std::io::Result<u16> {
        let mut stream = crate::hostile::try_connect(from, server.admin)?;
        let head = format!(
            "GET /api/v1/wars HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        Ok(answer(&mut stream).0)
    };
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for attacker in 1..=40 {
            let (get, is_over) = (&get, &is_over);
            scope.spawn(move || {
                for n in 0.. {
                    if is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    drop(get([127, 0, 9, attacker].into(), &format!("invented-{attacker}-{n}")));
                    crate::envtest::pause(50);
                }
            });
        }
        crate::envtest::pause(2000);
        let fresh: Vec<u16> = (0..14)
            .map(|n| {
                crate::envtest::pause(400);
                // A different address each time at first, then the same one.
                get([127, 0, 10, if n < 3 { n } else { 3 }].into(), &format!("good-{n}")).unwrap()
            })
            .collect();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(fresh.iter().all(|status| *status == 200), "{fresh:?}");
    });
}
