//! Attacks with expired or removed tokens and certificates, and attempts to learn something from rejections.

use std::io::{Read, Write as _};
use std::time::{Duration, Instant};

use crate::events::{Write, list, now};
use crate::outcome::Kind::Beside;
use crate::outcome::{Attack, Context, Failure, Outcome, Report, control};
use crate::server::{self, HONEST, Server, answer, ask, connect, pause, request, until};
use crate::tls::Authority;

/// Time within which a change of a token file must take effect.
const RELOAD: Duration = Duration::from_secs(30);

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "credentials/emptied-tokens",
        promise: "an emptied file of tokens ends them after the stated time",
        kind: Beside,
        run: |c, r| tokens(c, r, "emptied"),
    },
    Attack {
        name: "credentials/deleted-tokens",
        promise: "a deleted file of tokens ends them after the stated time",
        kind: Beside,
        run: |c, r| tokens(c, r, "deleted"),
    },
    Attack {
        name: "credentials/revoked-token-on-a-connection",
        promise: "a connection does not outlive its token",
        kind: Beside,
        run: |c, r| tokens(c, r, "kept open"),
    },
    Attack {
        name: "credentials/expired-certificate",
        promise: "a connection does not outlive its certificate",
        kind: Beside,
        run: expiry,
    },
    Attack {
        name: "credentials/refusals",
        promise: "a refusal before authentication tells nothing",
        kind: Beside,
        run: refusals,
    },
    Attack { name: "credentials/sighup", promise: "SIGHUP reloads and ends nothing", kind: Beside, run: sighup },
];

fn get_as(token: &str) -> Vec<u8> {
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    request("GET", "/api/v1/wars", &authorization, b"")
}

/// Changes a token file in different ways.
fn tokens(context: &Context, report: &mut Report, how: &str) -> Outcome {
    let path = context.folder(&format!("doors-tokens-{}", how.replace(' ', "-"))).join("tokens");
    std::fs::write(&path, "first oncall\nsecond other\n")?;
    let setting = format!("admin.auth.token_file={}", path.display());
    let server = Server::start(context, &["--set", &setting])?;
    let ask_as = |token: &str| ask(HONEST, server.admin, &get_as(token), server::PATIENCE).map_or(0, |a| a.status);
    control(until(server::PATIENCE, || ask_as("first") == 200), "the token is known")?;
    control(ask_as("") == 401 && ask_as("wrong") == 401, "others are not")?;
    let mut standing = connect(HONEST, server.admin)?;
    let keep = "GET /api/v1/wars HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer first\r\n\r\n";
    standing.write_all(keep.as_bytes())?;
    standing.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = [0; 65536];
    let read = standing.read(&mut buffer)?;
    control(buffer[..read].starts_with(b"HTTP/1.1 200"), "the standing connection is answered")?;
    let mut watch = connect(HONEST, server.admin)?;
    watch.write_all(
        b"GET /api/v1/objects/configmaps/shop/x/decision?watch=true HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer first\r\n\r\n",
    )?;
    watch.set_read_timeout(Some(Duration::from_secs(5)))?;
    let read = watch.read(&mut buffer)?;
    control(buffer[..read].starts_with(b"HTTP/1.1 200"), "the watch is answered")?;
    match how {
        "emptied" => std::fs::write(&path, "")?,
        "deleted" => std::fs::remove_file(&path)?,
        _ => std::fs::write(&path, "second other\n")?,
    }
    let started = Instant::now();
    if how == "kept open" {
        // The connection keeps sending requests. It is accepted until the change, and not afterwards.
        standing.set_read_timeout(Some(Duration::from_secs(5)))?;
        let is_over = until(RELOAD, || {
            pause(300);
            if standing.write_all(keep.as_bytes()).is_err() {
                return true;
            }
            match standing.read(&mut buffer) {
                Ok(0) | Err(_) => true,
                Ok(n) => !buffer[..n].starts_with(b"HTTP/1.1 200"),
            }
        });
        report.promise(is_over, "a standing connection is answered with the old token");
        // A watch sends a line at least every 30 s, so two of them are conclusive.
        let ends = watch_ends(&mut watch, Duration::from_secs(context.count(75, 40)));
        report.promise(ends, "a watch goes on with the old token");
        control(ask_as("second") == 200, "other tokens hold")?;
    } else {
        let is_over = until(RELOAD, || {
            pause(300);
            ask_as("first") == 401 || ask_as("first") == 403
        });
        report.promise(
            is_over,
            format!("the old token is known {} s after the file was {how}", started.elapsed().as_secs()),
        );
    }
    report.number("after", format!("{:.1} s", started.elapsed().as_secs_f64()));
    let live = ask(HONEST, server.admin, &request("GET", "/livez", "", b""), server::PATIENCE)?;
    control(live.status == 200, "the server answers")
}

/// Returns whether the server ends a stream.
fn watch_ends(stream: &mut std::net::TcpStream, limit: Duration) -> bool {
    let started = Instant::now();
    let mut buffer = [0; 4096];
    drop(stream.set_read_timeout(Some(Duration::from_millis(500))));
    while started.elapsed() < limit {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return true,
        }
    }
    false
}

/// A client certificate expires while its connection is open.
fn expiry(context: &Context, report: &mut Report) -> Outcome {
    let authority = Authority::new(&context.folder("doors-expiry"));
    let settings = authority.settings("webhook");
    let server = Server::start(context, &settings.iter().map(String::as_str).collect::<Vec<_>>())?.ready()?;
    let seconds = 8;
    let identity = authority.identity("apiserver", seconds);
    let mut stream = authority.connect(HONEST, server.webhook, Some(&identity))?;
    stream.sock.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut number = 0;
    let mut post = || -> std::io::Result<u16> {
        number += 1;
        let body = list(&[Write::new("carol", "standing", &number.to_string(), now()).line()]);
        let head = format!(
            "POST /audit HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.into_bytes(), body].concat())?;
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer)?;
        answer(&buffer[..read], Duration::ZERO).map(|answer| answer.status)
    };
    control(post()? == 200, "the certificate is taken while it holds")?;
    let started = Instant::now();
    let mut last = 0;
    while started.elapsed() < Duration::from_secs(seconds as u64 + 22) {
        pause(1000);
        match post() {
            Ok(200) => last = started.elapsed().as_secs(),
            _ => break,
        }
    }
    report.number("certificate holds", format!("{seconds} s"));
    report.number("last batch taken at", format!("{last} s"));
    report.promise(
        last < seconds as u64 + 20,
        format!("a batch is taken {} s after the certificate expired", last.saturating_sub(seconds as u64)),
    );
    // Certificates expire at whole seconds.
    pause(3000);
    let late = authority.connect(HONEST, server.webhook, Some(&identity)).and_then(|mut stream| {
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
        stream.read(&mut [0; 10])
    });
    control(late.is_err() || late.is_ok_and(|n| n == 0), "a new connection with the expired certificate is refused")
}

/// With no token or a wrong one, all paths, methods and content types must have the same response. A valid token
/// without rights must not reveal more.
fn refusals(context: &Context, report: &mut Report) -> Outcome {
    let folder = context.folder("doors-refusals");
    std::fs::write(folder.join("tokens"), "known scraper\nposter apiserver\n")?;
    let tokens = folder.join("tokens").display().to_string();
    let config = format!(
        "webhook: {{auth: {{token_file: {tokens}, allow: [{{name: apiserver, rights: [ingest]}}]}}}}\n\
         admin: {{auth: {{token_file: {tokens}, allow: [{{name: scraper, rights: [metrics]}}]}}}}\n"
    );
    std::fs::write(folder.join("editwar.yaml"), config)?;
    let server = Server::start(context, &["--config", &folder.join("editwar.yaml").display().to_string()])?;
    let send = |to, method: &str, path: &str, headers: &str, token: &str| -> Result<(u16, String), Failure> {
        let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        let answer =
            ask(HONEST, to, &request(method, path, &format!("{headers}{authorization}"), b"{}"), server::PATIENCE)?;
        Ok((answer.status, answer.body))
    };
    let json = "Content-Type: application/json\r\n";
    control(send(server.webhook, "POST", "/audit", json, "poster")?.0 == 200, "who may post can")?;
    control(send(server.admin, "GET", "/metrics", "", "known")?.0 == 200, "who may scrape can")?;
    for token in ["", "wrong"] {
        let expected = send(server.webhook, "POST", "/audit", json, token)?;
        control(expected.0 == 401, format!("without a token that is known: {expected:?}"))?;
        for (method, path, headers) in [
            ("GET", "/audit", ""),
            ("POST", "/nothing", json),
            ("POST", "/audit", "Content-Type: text/plain\r\n"),
            ("POST", "/audit/some-cluster", json),
            ("POST", "/audit/no/cluster/at%20all", json),
            ("DELETE", "/", ""),
        ] {
            let found = send(server.webhook, method, path, headers, token)?;
            report.promise(found == expected, format!("webhook {method} {path} {}: {found:?}", headers.trim()));
        }
        let expected = send(server.admin, "GET", "/api/v1/wars", "", token)?;
        for (method, path) in [
            ("GET", "/nothing"),
            ("GET", "/api/v1/objects/configmaps/shop/x"),
            ("POST", "/api/v1/enforcement/stop"),
            ("PUT", "/log-level?level=debug"),
            ("DELETE", "/api/v1/wars"),
            ("GET", "/metrics"),
        ] {
            let found = send(server.admin, method, path, "", token)?;
            report.promise(found == expected, format!("query {method} {path}: {found:?}"));
        }
    }
    // A client without rights must not be able to tell a correct guess from a wrong one.
    let (unknown, known) = (
        send(server.webhook, "POST", "/audit", json, "wrong")?,
        send(server.webhook, "POST", "/audit", json, "known")?,
    );
    report.promise(
        unknown.0 == known.0,
        format!("a wrong token is answered {}, a known one without any right here {}", unknown.0, known.0),
    );
    Ok(())
}

fn sighup(context: &Context, report: &mut Report) -> Outcome {
    let path = context.folder("doors-sighup").join("tokens");
    std::fs::write(&path, "first oncall\n")?;
    let setting = format!("admin.auth.token_file={}", path.display());
    let mut server = Server::start(context, &["--set", &setting])?;
    let ask_as = |server: &Server, token: &str| {
        ask(HONEST, server.admin, &get_as(token), server::PATIENCE).map_or(0, |a| a.status)
    };
    control(until(server::PATIENCE, || ask_as(&server, "first") == 200), "the token is known")?;
    std::fs::write(&path, "second oncall\n")?;
    server.signal("HUP");
    pause(1500);
    report.promise(server.is_alive(), "the process ends");
    if server.is_alive() {
        let is_known = until(Duration::from_secs(3), || ask_as(&server, "second") == 200);
        report.promise(is_known, "the new token is not known 4 s after SIGHUP");
        for _ in 0..20 {
            server.signal("HUP");
        }
        pause(500);
        report.promise(server.is_alive(), "many of them end the process");
    }
    Ok(())
}
