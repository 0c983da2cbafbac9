//! Attacks on access control: unauthorized requests, information in rejections, the share of one client, and terminal
//! control sequences in output.

use std::io::{Read, Write as _};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::apiserver::ApiServer;
use crate::events::{War, Write, list, now};
use crate::http2;
use crate::outcome::Kind::Beside;
use crate::outcome::{Attack, Context, Failure, Outcome, Report, control};
use crate::server::{self, HONEST, PATIENCE, Server, answer, ask, connect, pause, read_to_end, request, until};

/// An address other than that of the honest client.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "doors/pages-that-post",
        promise: "a page in a browser cannot post events",
        kind: Beside,
        run: pages,
    },
    Attack {
        name: "doors/pages-that-act",
        promise: "a page in a browser cannot use the kill switch or read",
        kind: Beside,
        run: acting,
    },
    Attack {
        name: "doors/cluster-names",
        promise: "requests that bring no events take no place of a cluster",
        kind: Beside,
        run: clusters,
    },
    Attack {
        name: "doors/made-up-clusters",
        promise: "one client does not take the places of all clusters",
        kind: Beside,
        run: made_up,
    },
    Attack {
        name: "doors/watch-streams",
        promise: "one client does not take all watch streams",
        kind: Beside,
        run: watches,
    },
    Attack {
        name: "doors/followed-log-is-a-fifo",
        promise: "a followed log that is a fifo or a directory for a while is read again",
        kind: Beside,
        run: followed,
    },
];

/// Posts with these headers. Returns the status and the number of counted writes.
fn post_as(server: &Server, headers: &str, name: &str) -> Result<(u16, u64), Failure> {
    let before = crate::events::writes(server)?;
    let event = Write::new("mallory", name, "1", now()).line();
    let bytes = request("POST", "/audit", headers, &list(&[event]));
    let status = ask(HONEST, server.webhook, &bytes, server::PATIENCE)?.status;
    Ok((status, crate::events::writes(server)? - before))
}

fn pages(context: &Context, report: &mut Report) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let (status, count) = post_as(&server, "Content-Type: application/json\r\n", "honest")?;
    control((status, count) == (200, 1), format!("an honest post is taken: {status}, {count}"))?;
    let (status, count) = post_as(&server, "Content-Type: application/json; charset=utf-8\r\n", "charset")?;
    control((status, count) == (200, 1), format!("application/json with a charset is taken: {status}, {count}"))?;
    // What `fetch` with `no-cors`, a form or `sendBeacon` can send. Each has an Origin header.
    let origin = "Origin: http://evil.example\r\n";
    let cases = [
        ("no type", String::new()),
        ("text/plain; x=json", "Content-Type: text/plain; x=json\r\n".to_owned()),
        ("text/plain;charset=json", "Content-Type: text/plain;charset=json\r\n".to_owned()),
        ("text/plain, application/json", "Content-Type: text/plain, application/json\r\n".to_owned()),
        ("form", "Content-Type: application/x-www-form-urlencoded;application/json\r\n".to_owned()),
        ("multipart", "Content-Type: multipart/form-data; boundary=application/json\r\n".to_owned()),
        ("two types", "Content-Type: text/plain\r\nContent-Type: application/json\r\n".to_owned()),
        ("json with an origin", "Content-Type: application/json\r\n".to_owned()),
        ("null origin", "Content-Type: application/json\r\nOrigin: null\r\n".to_owned()),
        (
            "cross-site",
            "Content-Type: application/json\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n".to_owned(),
        ),
    ];
    for (name, headers) in cases {
        let headers = if headers.contains("Origin") { headers } else { headers + origin };
        let (status, count) = post_as(&server, &headers, "forged")?;
        report.promise(status >= 400 && count == 0, format!("{name}: answered {status}, {count} writes counted"));
    }
    // Without an Origin header, as from old browsers. The content type alone must be sufficient.
    for kind in ["text/plain; x=json", "text/plain;json", "application/x-www-form-urlencoded; json"] {
        let (status, count) = post_as(&server, &format!("Content-Type: {kind}\r\n"), "forged")?;
        report.promise(
            status >= 400 && count == 0,
            format!("{kind} without an origin: answered {status}, {count} counted"),
        );
    }
    Ok(())
}

fn acting(context: &Context, report: &mut Report) -> Outcome {
    let api = ApiServer::start()?;
    let server = crate::enforcer::start(context, &api, "pages")?.ready()?;
    control(until(server::PATIENCE, || api.holder().is_some()), "it enforces")?;
    let act = |what: &str, headers: &str| -> Result<u16, Failure> {
        let bytes = request("POST", &format!("/api/v1/enforcement/{what}"), headers, b"{}");
        Ok(ask(HONEST, server.admin, &bytes, server::PATIENCE)?.status)
    };
    control(act("stop", "Content-Type: application/json\r\n")? == 200, "the kill switch works")?;
    control(act("start", "Content-Type: application/json\r\n")? == 200, "and back")?;
    for headers in [
        "Origin: http://evil.example\r\n",
        "Content-Type: text/plain\r\nOrigin: http://evil.example\r\n",
        "Content-Type: text/plain; application/json\r\nOrigin: http://evil.example\r\n",
        "Content-Type: text/plain\r\nContent-Type: application/json\r\nOrigin: http://evil.example\r\n",
        "Content-Type: application/json\r\nOrigin: http://evil.example\r\n",
        "Content-Type: application/json\r\nOrigin: null\r\n",
    ] {
        let status = act("stop", headers)?;
        report.promise(
            status >= 400,
            format!("the kill switch, {}: answered {status}", headers.trim().replace("\r\n", ", ")),
        );
    }
    let bytes = b"GET /api/v1/wars HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let status = ask(HONEST, server.admin, bytes, server::PATIENCE)?.status;
    report.promise(status == 421, format!("a name of somebody's own: answered {status}"));
    let preflight = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    let bytes = request("OPTIONS", "/api/v1/enforcement/stop", preflight, b"");
    let status = ask(HONEST, server.admin, &bytes, server::PATIENCE)?.status;
    report.promise(status >= 400, format!("a preflight is answered {status}"));
    Ok(())
}

/// Cluster names in requests without events.
fn clusters(context: &Context, report: &mut Report) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    for n in 0..80 {
        ask(STRANGER, server.webhook, &request("GET", &format!("/audit/get-{n}"), "", b""), server::PATIENCE)?;
        let json = "Content-Type: application/json\r\n";
        ask(STRANGER, server.webhook, &request("POST", &format!("/audit/empty-{n}"), json, b"[]"), server::PATIENCE)?;
        ask(
            STRANGER,
            server.webhook,
            &request("POST", &format!("/audit/bad-{n}"), json, b"{\"nothing"),
            server::PATIENCE,
        )?;
        let text = "Content-Type: text/plain\r\n";
        ask(STRANGER, server.webhook, &request("POST", &format!("/audit/text-{n}"), text, b"[]"), server::PATIENCE)?;
    }
    let status = server.post_from(HONEST, "/audit/real", &War::plain("config"))?.status;
    report.promise(status == 200, format!("a real cluster is answered {status}"));
    Ok(())
}

/// Cluster names that one client invents, each with an event.
fn made_up(context: &Context, report: &mut Report) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let mut taken = 0;
    for n in 0..80 {
        let event = Write::new("mallory", "x", "1", now()).line();
        taken += usize::from(server.post_from(STRANGER, &format!("/audit/made-up-{n}"), &[event])?.status == 200);
    }
    report.number("made up", taken);
    let status = server.post_from(HONEST, "/audit/real", &War::plain("config"))?.status;
    report.promise(status == 200, format!("a real cluster is answered {status}"));
    Ok(())
}

fn watches(context: &Context, report: &mut Report) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let path = "/api/v1/objects/configmaps/shop/x/decision?watch=true";
    let watch = |from: Ipv4Addr| -> Result<u16, Failure> {
        let mut stream = connect(from, server.admin)?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer)?;
        Ok(answer(&buffer[..read], Duration::ZERO)?.status)
    };
    control(watch(HONEST)? == 200, "a watch is answered")?;
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = http2::open(STRANGER, server.admin, 1 << 20)?;
        http2::get(&mut stream, path, 0..128)?;
        http2::acknowledge(&mut stream)?;
        held.push(stream);
    }
    pause(2000);
    let status = watch(HONEST)?;
    report.promise(status == 200, format!("another client's watch is answered {status}"));
    control(server.get("/livez")?.status == 200, "the server answers")
}

/// Replaces a tailed log with a FIFO and a directory, and then with a log again.
fn followed(context: &Context, report: &mut Report) -> Outcome {
    let folder = context.folder("doors-followed");
    let log = folder.join("audit.log");
    std::fs::write(&log, War::plain("before").join("\n") + "\n")?;
    let server = Server::start(context, &["--tail", &log.display().to_string()])?.ready()?;
    let is_found =
        |name: &str| until(PATIENCE, || crate::events::war_over(&server, "", name).is_ok_and(|war| war.is_some()));
    control(is_found("before"), "the log is read")?;
    std::fs::remove_file(&log)?;
    let made = std::process::Command::new("mkfifo").arg(&log).status();
    control(made.is_ok_and(|status| status.success()), "mkfifo")?;
    pause(3000);
    std::fs::remove_file(&log)?;
    std::fs::write(&log, War::plain("after-fifo").join("\n") + "\n")?;
    report.promise(is_found("after-fifo"), "after a fifo the log is not read any more");
    std::fs::remove_file(&log)?;
    std::fs::create_dir(&log)?;
    pause(3000);
    std::fs::remove_dir(&log)?;
    std::fs::write(&log, War::plain("after-directory").join("\n") + "\n")?;
    report.promise(is_found("after-directory"), "after a directory the log is not read any more");
    let bytes = request("GET", "/livez", "", b"");
    let mut stream = connect(HONEST, server.admin)?;
    stream.write_all(&bytes)?;
    control(!read_to_end(&mut stream, Duration::from_secs(10))?.is_empty(), "the server answers")
}
