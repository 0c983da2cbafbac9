//! Identity tokens of OpenID Connect, signed by `openssl`.

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::cli::run;
use crate::envtest::{scratch, wait_until};
use crate::require::skip;
use crate::serve::{Server, answer};

/// An issuer of identity tokens, with keys of `openssl`.
struct Issuer {
    folder: PathBuf,
}

impl Issuer {
    fn new(name: &str, keys: &[&str]) -> Option<Issuer> {
        let folder = scratch(name);
        let issuer = Issuer { folder };
        if Command::new("openssl").arg("version").output().is_err() {
            skip("openssl", "no openssl in PATH");
            return None;
        }
        keys.iter().for_each(|key| issuer.add(key));
        Some(issuer)
    }

    fn run(&self, args: &[&str]) -> Vec<u8> {
        let run = Command::new("openssl").args(args).current_dir(&self.folder).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        run.stdout
    }

    fn add(&self, key: &str) {
        self.run(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &format!("{key}.pem")]);
    }

    /// The keys as a JWK Set.
    fn set(&self, keys: &[&str]) -> String {
        let jwk = |key: &&str| {
            let modulus = String::from_utf8(self.run(&["rsa", "-in", &format!("{key}.pem"), "-noout", "-modulus"]));
            let modulus = modulus.unwrap().trim().strip_prefix("Modulus=").unwrap().to_owned();
            let bytes: Vec<u8> =
                (0..modulus.len()).step_by(2).map(|at| u8::from_str_radix(&modulus[at..at + 2], 16).unwrap()).collect();
            json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": key, "e": "AQAB", "n": encoded(&bytes)})
        };
        json!({"keys": keys.iter().map(jwk).collect::<Vec<_>>()}).to_string()
    }

    fn sign(&self, key: &str, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
        std::fs::write(self.folder.join("signed"), &signed).unwrap();
        let signature = self.run(&["dgst", "-sha256", "-sign", &format!("{key}.pem"), "signed"]);
        format!("{signed}.{}", encoded(&signature))
    }
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[test]
fn identity_tokens_are_accepted_only_from_the_issuer_for_this_audience_and_in_their_time() {
    let Some(issuer) = Issuer::new("auth-oidc", &["one", "other"]) else { return };
    let keys = issuer.folder.join("keys.json");
    std::fs::write(&keys, issuer.set(&["one"])).unwrap();
    let push = "push@project.iam.gserviceaccount.com";
    let config = issuer.folder.join("editwar.yaml");
    let text = format!(
        "webhook: {{auth: {{oidc: {{issuer: 'https://accounts.google.com', audience: 'https://editwar', keys: '{}'}}, \
         allow: [{{name: '{push}', clusters: [east], rights: [ingest]}}]}}}}\n",
        keys.display()
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::start(&["--config", config.to_str().unwrap()]);
    let post = |path: &str, token: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 2\r\nConnection: close\r\n\r\n{{}}",
            server.webhook()
        );
        let mut stream = TcpStream::connect(server.webhook()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        answer(&mut stream).0
    };
    let now = jiff::Timestamp::now().as_second();
    let header = json!({"alg": "RS256", "kid": "one", "typ": "JWT"});
    let claims = json!({"iss": "https://accounts.google.com", "aud": "https://editwar", "exp": now + 3600, "iat": now,
        "sub": "1122", "email": push, "email_verified": true});
    let with = |key: &str, value: Value| {
        let mut changed = claims.clone();
        changed[key] = value;
        changed
    };
    let token = |claims: &Value| issuer.sign("one", &header, claims);
    let good = token(&claims);
    assert_eq!(post("/pubsub/east", &good), 200);
    assert_eq!(post("/pubsub/east", &token(&with("aud", json!(["x", "https://editwar"])))), 200);
    assert_eq!(post("/pubsub/east", &token(&with("exp", json!(now - 30)))), 200, "clocks may differ by a minute");
    // The answer does not tell an account without the right from an unknown one.
    assert_eq!(post("/pubsub/west", &good), 401, "another cluster");

    for (what, claims) in [
        ("another audience", with("aud", json!("https://editwar.evil"))),
        ("another issuer", with("iss", json!("https://accounts.evil"))),
        ("expired", with("exp", json!(now - 120))),
        ("without an end", with("exp", json!(null))),
        ("an end that is text", with("exp", json!("4102444800"))),
        ("not valid yet", with("nbf", json!(now + 600))),
    ] {
        assert_eq!(post("/pubsub/east", &token(&claims)), 401, "{what}");
    }
    assert_eq!(post("/pubsub/east", &token(&with("email", json!("other@project")))), 401, "another account");
    assert_eq!(
        post("/pubsub/east", &token(&with("email_verified", json!(false)))),
        401,
        "an address that is not verified"
    );
    assert_eq!(post("/pubsub/east", &issuer.sign("other", &header, &claims)), 401, "another key");
    let unsigned = json!({"alg": "none", "kid": "one"});
    assert_eq!(post("/pubsub/east", &issuer.sign("one", &unsigned, &claims)), 401, "alg none");
    assert_eq!(post("/pubsub/east", &format!("{}.", &good[..good.rfind('.').unwrap()])), 401, "no signature");
    assert_eq!(post("/pubsub/east", &good[..good.len() - 8]), 401, "a cut signature");
    let head = encoded(json!({"alg": "HS256", "kid": "one"}).to_string().as_bytes());
    assert_eq!(post("/pubsub/east", &format!("{head}{}", &good[good.find('.').unwrap()..])), 401, "another algorithm");

    // The issuer signs with a new key.
    let renewed = issuer.sign("other", &json!({"alg": "RS256", "kid": "other"}), &claims);
    assert_eq!(post("/pubsub/east", &renewed), 401);
    std::fs::write(&keys, issuer.set(&["one", "other"])).unwrap();
    wait_until("the new key is loaded", 30, || post("/pubsub/east", &renewed) == 200);
    // A broken file changes nothing.
    std::fs::write(&keys, "{").unwrap();
    assert_eq!((post("/pubsub/east", &renewed), post("/pubsub/east", &good)), (200, 200));
}

#[test]
fn the_keys_of_an_issuer_are_loaded_from_its_url() {
    let Some(issuer) = Issuer::new("auth-oidc-url", &["one"]) else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let keys = format!("http://{}/oauth2/v3/certs", listener.local_addr().unwrap());
    let set = issuer.set(&["one"]);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), [0; 4096]);
            let read = std::io::Read::read(&mut stream, &mut request).unwrap();
            let is_right = request[..read].starts_with(b"GET /oauth2/v3/certs HTTP/1.1\r\n");
            let (status, body) = if is_right { ("200 OK", set.as_str()) } else { ("404 Not Found", "{}") };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            drop(stream.write_all(format!("{head}{body}").as_bytes()));
        }
    });
    let set = format!(
        "webhook.auth={{oidc: {{issuer: i, audience: a, keys: '{keys}'}}, allow: [{{name: 'x@y', rights: [ingest]}}, \
         {{name: '*', rights: [ingest]}}]}}"
    );
    let server = Server::start(&["--set", &set]);
    let post = |email: &str| {
        let end = jiff::Timestamp::now().as_second() + 60;
        let claims = json!({"iss": "i", "aud": "a", "exp": end, "sub": "s", "email": email, "email_verified": true});
        let token = issuer.sign("one", &json!({"alg": "RS256", "kid": "one"}), &claims);
        let head = format!(
            "POST /audit HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 2\r\nConnection: close\r\n\r\n{{}}",
            server.webhook()
        );
        let mut stream = TcpStream::connect(server.webhook()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        answer(&mut stream).0
    };
    assert_eq!(post("x@y"), 200);
    assert_eq!(post("z@y"), 401, "a pattern for certificates does not admit everybody whom an issuer knows");
}

#[test]
fn identity_tokens_need_a_list_of_accounts_and_an_https_url_of_keys() {
    let check = |oidc: &str, allow: &str| {
        let set = format!("webhook.auth={{oidc: {{issuer: i, audience: a, keys: '{oidc}'}}, allow: [{allow}]}}");
        run(&["serve", "--check-config", "--set", &set], None)
    };
    let (code, _, err) = check("https://www.googleapis.com/oauth2/v3/certs", "");
    assert!(code == 2 && err.contains("list the permitted accounts in webhook.auth.allow"), "{err}");
    let account = "{name: a@b, rights: [ingest]}";
    for (keys, message) in [
        ("http://www.googleapis.com/oauth2/v3/certs", "expected an https URL, or a file"),
        ("/nowhere.json", "/nowhere.json"),
    ] {
        let (code, _, err) = check(keys, account);
        assert!(code == 2 && err.contains(message), "{err}");
    }
    assert_eq!(check("https://www.googleapis.com/oauth2/v3/certs", account).0, 0);
}
