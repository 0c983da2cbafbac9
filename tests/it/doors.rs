//! Tests of the listeners with clients that hold connections: silent connections, unread responses, and more
//! connections than a client may have.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use serde_json::json;

use crate::cluster::{ALICE, BOB, Cluster, Level, OPERATOR};
use crate::envtest::pause;
use crate::hostile::{is_held, peak_bytes, try_connect};
use crate::serve::Server;
use crate::util;

/// The address of another client: every loopback address counts as a separate client.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// The connection preface of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DECISION: &str = "/api/v1/objects/configmaps/shop/config-0/decision?watch";
/// A report of all objects, which has several megabytes.
const REPORT: &str = "/api/v1/wars?all=1&limit=5000";

fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    try_connect(from, to).unwrap()
}

/// Returns whether the server closes a connection within the read timeout of 20 seconds.
fn is_ended(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// Sends a `GET`. Returns the status, or 0 without a response.
fn get(from: Ipv4Addr, to: SocketAddr, path: &str) -> u16 {
    let Ok(mut stream) = try_connect(from, to) else { return 0 };
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    drop(stream.write_all(head.as_bytes()));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Formats an HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Formats a `GET` over HTTP/2 on a stream.
fn request_frame(stream: u32, path: &str) -> Vec<u8> {
    let mut head = vec![0x82, 0x86, 0x41, 9];
    head.extend(b"localhost\x44");
    head.push(u8::try_from(path.len()).unwrap());
    head.extend(path.as_bytes());
    frame(1, 5, stream, &head)
}

/// Opens an HTTP/2 connection with these settings and sends `requests` requests of one path.
fn h2(from: Ipv4Addr, to: SocketAddr, settings: &[u8], requests: u32, path: &str) -> TcpStream {
    let mut stream = connect(from, to);
    let mut bytes = [PREFACE, &frame(4, 0, 0, settings)].concat();
    (0..requests).for_each(|n| bytes.extend(request_frame(2 * n + 1, path)));
    stream.write_all(&bytes).unwrap();
    stream
}

/// SETTINGS_INITIAL_WINDOW_SIZE 0: the server cannot send the body of any response.
const NO_WINDOW: &[u8] = &[0, 4, 0, 0, 0, 0];

/// Starts a server with `count` wars.
fn with_wars(count: usize, arguments: &[&str]) -> Server {
    let server = Server::start(arguments).ready();
    let mut cluster = Cluster::new(Level::RequestResponse);
    for n in 0..count {
        let path = format!("configmaps/shop/config-{n}");
        cluster.create(OPERATOR, &path, json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"v": "0"}}));
    }
    for turn in 0..6 {
        cluster.wait(1.0);
        for n in 0..count {
            let who = if turn % 2 == 0 { ALICE } else { BOB };
            let value = json!({"data": {"v": who.0.repeat(40)}});
            cluster.patch(who, &format!("configmaps/shop/config-{n}"), "", value);
        }
    }
    server.post_lines(&cluster.lines().collect::<Vec<_>>());
    server
}

#[test]
fn silent_connections_are_closed() {
    let server = Server::start(&[]).ready();
    let said: [&[u8]; 5] = [b"", b"P", b"PRI * HT", PREFACE, b"GET /livez HTTP/1.1\r\nHost"];
    for to in [server.admin(), server.webhook()] {
        let mut silent: Vec<TcpStream> = said.iter().map(|_| connect(STRANGER, to)).collect();
        for (stream, said) in silent.iter_mut().zip(said) {
            stream.write_all(said).unwrap();
        }
        for (stream, said) in silent.iter_mut().zip(said) {
            assert!(is_ended(stream), "{:?} and no more holds a connection", String::from_utf8_lossy(said));
        }
    }
}

#[test]
fn honest_clients_are_answered_despite_1024_silent_connections() {
    let server = Server::start(&[]).ready();
    let mut held = Vec::new();
    for to in [server.admin(), server.webhook()] {
        for address in 1..=4 {
            held.extend((0..256).map(|_| connect(Ipv4Addr::new(127, 0, 7, address), to)));
        }
    }
    // Before the silent connections time out.
    assert_eq!(get(Ipv4Addr::LOCALHOST, server.admin(), "/livez"), 200);
    assert_eq!(get(STRANGER, server.admin(), "/livez"), 200);
    assert_eq!(server.post("/audit", b"[]").0, 200);
    assert!(held.iter().any(is_held), "they had to wait for the silent ones");
}

#[test]
fn idle_connections_are_closed_to_admit_new_ones() {
    let server = Server::start(&[]).ready();
    let mut held = Vec::new();
    for address in 1..=4 {
        for _ in 0..256 {
            let mut stream = connect(Ipv4Addr::new(127, 0, 8, address), server.admin());
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            held.push(stream);
        }
    }
    assert_eq!(get(STRANGER, server.admin(), "/livez"), 200);
    let mut idle = held.iter().map(|mut stream| {
        drop(stream.read(&mut [0; 4096]));
        is_held(stream)
    });
    assert!(idle.any(|is_held| is_held), "it had to wait until the others were closed for being idle");
}

#[test]
fn unread_responses_stay_within_memory_limits_and_are_aborted() {
    let server = with_wars(1500, &["--memory-limit", "256MiB"]);
    let (status, report) = server.get(REPORT);
    assert!(status == 200 && report.len() > 2 << 20, "{status}: {} bytes", report.len());
    drop(report);
    let before = peak_bytes(&server);
    let mut unread: Vec<TcpStream> = (0..2).map(|_| h2(STRANGER, server.admin(), NO_WINDOW, 128, REPORT)).collect();
    // Other clients get responses in the meantime, with the same report.
    for _ in 0..3 {
        pause(500);
        assert_eq!(get(Ipv4Addr::LOCALHOST, server.admin(), REPORT), 200);
    }
    for stream in &mut unread {
        assert!(is_ended(stream), "a connection with answers that it does not read goes on");
    }
    let peak = peak_bytes(&server);
    assert!(peak < 256 << 20, "{} MiB, {} MiB before", peak >> 20, before >> 20);
}

#[test]
fn an_unread_http_1_response_is_aborted() {
    let server = with_wars(1500, &[]);
    let length = server.get(REPORT).1.len();
    let files = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    // The connections that were just used may be closed a little later.
    let before = (0..20).map(|_| (pause(50), files()).1).min().unwrap();
    let mut unread = connect(STRANGER, server.admin());
    // More than the kernel buffers.
    let requests = 8;
    for _ in 0..requests {
        unread.write_all(format!("GET {REPORT} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    }
    crate::envtest::wait_until("it is accepted", 20, || files() > before);
    crate::envtest::wait_until("it is given up", 60, || files() <= before);
    let mut read = Vec::new();
    drop(unread.read_to_end(&mut read));
    assert!(read.len() < requests * length, "all {} bytes were kept for whoever comes to read them", read.len());
}

#[test]
fn sigterm_does_not_wait_for_stalled_clients() {
    let mut server = with_wars(200, &[]);
    let unread = h2(STRANGER, server.admin(), NO_WINDOW, 8, REPORT);
    let mut stalled = connect(STRANGER, server.webhook());
    stalled.write_all(&crate::hostile::head(1000)).unwrap();
    pause(500);
    // The server stops, although neither connection makes any progress.
    assert!(server.terminate().success());
    drop((unread, stalled));
}

#[test]
fn clusters_are_registered_by_events_up_to_a_share_per_client() {
    let server = Server::start(&[]).ready();
    let mut cluster = Cluster::new(Level::Metadata);
    cluster.create(OPERATOR, "configmaps/shop/config", json!({"kind": "ConfigMap", "apiVersion": "v1"}));
    let line = cluster.lines().next().unwrap().to_vec();
    let post = |from: Ipv4Addr, path: &str, body: &[u8]| {
        let mut stream = connect(from, server.webhook());
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer));
        answer.get(9..12).and_then(|code| code.parse::<u16>().ok()).unwrap_or(0)
    };
    for n in 0..64 {
        assert_eq!(get(STRANGER, server.webhook(), &format!("/audit/none-{n}")), 405);
        assert_eq!(post(STRANGER, &format!("/audit/empty-{n}"), b"[]"), 200);
    }
    assert_eq!(post(Ipv4Addr::LOCALHOST, "/audit/real", &line), 200, "no slot is left for a cluster that posts events");
    let learned = (0..64).filter(|n| post(STRANGER, &format!("/audit/made-up-{n}"), &line) == 200).count();
    assert!((1..64).contains(&learned), "one client has made up {learned} clusters");
    assert_eq!(post(Ipv4Addr::LOCALHOST, "/audit/other", &line), 200, "one client took all slots");
    assert_eq!(post(Ipv4Addr::LOCALHOST, "/audit/real", &line), 200);
}

#[test]
fn one_client_cannot_use_up_all_watched_decisions() {
    let server = Server::start(&[]).ready();
    let wide: &[u8] = &[];
    let held: Vec<TcpStream> = (0..5).map(|_| h2(STRANGER, server.admin(), wide, 128, DECISION)).collect();
    pause(3000);
    let mut stream = connect(Ipv4Addr::LOCALHOST, server.admin());
    stream.write_all(format!("GET {DECISION} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(std::str::from_utf8(&head).unwrap(), "HTTP/1.1 200");
    drop(held);
}

#[test]
fn sighup_reloads_files_without_stopping() {
    let folder = crate::cli::scratch("doors-sighup");
    let tokens = folder.join("tokens");
    std::fs::write(&tokens, "t-old oncall\n").unwrap();
    let server = Server::start(&["--set", &format!("admin.auth.token_file={}", tokens.display())]);
    let ask = |token: &str| {
        server.request(server.admin(), "GET", "/api/v1/wars", &format!("Authorization: Bearer {token}\r\n"), b"").0
    };
    assert_eq!((ask("t-old"), ask("t-new")), (200, 401));
    std::fs::write(&tokens, "t-new oncall\n").unwrap();
    server.signal("HUP");
    util::until("the new token is known", || ask("t-new") == 200);
    assert_eq!(ask("t-old"), 401);
}
