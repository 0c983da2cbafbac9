//! Slow, stalled, endless and malicious clients, and too many honest ones: they must use few resources, and not delay
//! others.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::cluster::{ALICE, Cluster, Level};
use crate::serve::Server;

/// Source addresses: the loopback network has many.
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const HOSTILE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// Opens a connection from a given address.
fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    try_connect(from, to).unwrap()
}

/// Like `connect`, to a server that may not be running.
pub(crate) fn try_connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        socket.connect(to).await?.into_std()
    })?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

pub(crate) fn head(length: usize) -> Vec<u8> {
    format!(
        "POST /audit HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// Reads what the server sends until it closes the connection. Empty if it sends nothing.
fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn post(from: Ipv4Addr, to: SocketAddr, body: &[u8]) -> String {
    let mut stream = connect(from, to);
    drop(stream.write_all(&[head(body.len()), body.to_vec()].concat()));
    answer(&mut stream)
}

/// Checks that an honest client gets a response.
fn assert_serves(server: &Server) {
    assert!(post(HONEST, server.webhook(), b"[]").starts_with("HTTP/1.1 200"), "an honest client is not answered");
}

/// Returns whether the server has neither answered on this connection nor closed it.
pub(crate) fn is_held(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let is_held = stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    is_held
}

/// Returns the peak memory usage of a server.
pub(crate) fn peak_bytes(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn a_full_server_answers_429_with_retry_after_before_reading_the_body() {
    // An eighth of the limit is for batches in flight, and half of that for each source.
    let server = Server::start(&["--memory-limit", "64MiB"]).ready();
    let mut slow = connect(HOSTILE, server.webhook());
    let expecting = String::from_utf8(head(4 << 20)).unwrap().replacen("Host:", "Expect: 100-continue\r\nHost:", 1);
    slow.write_all(expecting.as_bytes()).unwrap();
    // The server asks for the body, so memory is reserved for it.
    let mut go_on = [0; 12];
    slow.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");
    let refused = || {
        let mut next = connect(HOSTILE, server.webhook());
        next.write_all(&head(1 << 20)).unwrap();
        next.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        answer(&mut next)
    };
    let said = refused();
    assert!(said.starts_with("HTTP/1.1 429"), "{said}");
    assert!(said.to_ascii_lowercase().contains("\r\nretry-after: 1\r\n"), "{said}");
    assert_serves(&server);
    assert!(server.metric(r#"editwar_requests_rejected_total{reason="full"}"#) >= 1.0);
    // The memory is released immediately.
    drop(slow);
    let body = [b"[".as_slice(), &vec![b' '; 1 << 20], b"]"].concat();
    crate::util::until("there is room again", || post(HOSTILE, server.webhook(), &body).starts_with("HTTP/1.1 200"));
}

#[test]
fn stalled_request_heads_and_bodies_time_out() {
    let server = Server::start(&[]).ready();
    // More connections than one address may have, each with half a request head.
    let mut slow: Vec<TcpStream> = (0..300).map(|_| connect(HOSTILE, server.webhook())).collect();
    for stream in &mut slow {
        drop(stream.write_all(b"POST /audit HTTP/1.1\r\nHost: "));
    }
    let mut stalled = connect(HONEST, server.webhook());
    stalled.write_all(&head(1 << 20)).unwrap();
    assert_serves(&server);
    assert!(is_held(&stalled), "the honest client had to wait until the others were given up");
    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut said = Vec::new();
        let end = stream.read_to_end(&mut said).err().map(|error| error.kind());
        assert!(!matches!(end, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "it is not given up");
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&said));
    }
    assert!(answer(&mut stalled).starts_with("HTTP/1.1 408"));
    assert_serves(&server);
}

#[test]
fn endless_bodies_and_header_floods_are_cut_off() {
    let server = Server::start(&["--memory-limit", "128MiB"]).ready();
    let mut endless = connect(HOSTILE, server.webhook());
    endless.write_all(b"POST /audit HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x1_0000], b"\r\n"].concat();
    let chunks = (0..100_000).take_while(|_| endless.write_all(&chunk).is_ok()).count();
    assert!(chunks < 2_000, "{chunks} chunks were read");

    let mut flood = connect(HOSTILE, server.webhook());
    drop(flood.write_all(b"POST /audit HTTP/1.1\r\nHost: localhost\r\n"));
    let header = format!("X-Flood: {}\r\n", "x".repeat(1000));
    let headers = (0..100_000).take_while(|_| flood.write_all(header.as_bytes()).is_ok()).count();
    assert!(headers < 20_000, "{headers} headers were read");
    assert_serves(&server);
    assert!(peak_bytes(&server) < 128 << 20, "{} bytes", peak_bytes(&server));
}

#[test]
fn deeply_nested_bodies_are_answered() {
    let server = Server::start(&[]);
    let to = server.webhook();
    let deep = |open: &str, close: &str| [open.repeat(30_000), close.repeat(30_000)].concat();
    for body in [
        deep("[", "]"),
        deep(r#"{"items":["#, "]}"),
        deep(r#"{"kind":"EventList","items":["#, "]}"),
        deep(r#"{"message":"#, "}"),
        format!(r#"{{"body":{}}}"#, deep(r#"{"arrayValue":{"values":["#, "]}}")),
    ] {
        assert!(post(Ipv4Addr::LOCALHOST, to, body.as_bytes()).starts_with("HTTP/1.1 200"), "{}", &body[..40]);
        assert_serves(&server);
    }
}

#[test]
fn http_2_rapid_resets_close_the_connection() {
    let server = Server::start(&[]).ready();
    let mut rapid = connect(HOSTILE, server.webhook());
    rapid.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut frames = 0;
    for stream in (1u32..400_000).step_by(2) {
        let id = stream.to_be_bytes();
        // HEADERS with POST, http, / and an authority, followed by RST_STREAM with CANCEL.
        let mut both = vec![0, 0, 6, 1, 4];
        both.extend(id);
        both.extend([0x83, 0x86, 0x84, 0x41, 1, b'x']);
        both.extend([0, 0, 4, 3, 0]);
        both.extend(id);
        both.extend([0, 0, 0, 8]);
        if rapid.write_all(&both).is_err() {
            break;
        }
        frames += 1;
    }
    assert!(frames < 199_999, "all of them were taken");
    assert_serves(&server);
}

#[test]
fn overload_is_partly_rejected_and_accepted_batches_count() {
    let server = Server::start(&["--memory-limit", "192MiB"]).ready();
    let mut cluster = Cluster::new(Level::RequestResponse);
    let value = "x".repeat(20_000);
    for n in 0..64 {
        let body = serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"v": value}});
        cluster.create(ALICE, &format!("configmaps/shop/config-{n}"), body);
    }
    let lines: Vec<&[u8]> = cluster.lines().collect();
    let body = [b"[".as_slice(), &lines.join(&b','), b"]"].concat();
    let (taken, refused, others) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..40 {
            let (server, body, is_over) = (&server, &body, &is_over);
            let (taken, refused, others) = (&taken, &refused, &others);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let said = post(Ipv4Addr::new(127, 0, 1, client), server.webhook(), body);
                    let count = match said.get(9..12) {
                        Some("200") => taken,
                        Some("429") => refused,
                        // The connection was closed while the client was still writing.
                        _ => others,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let count = |counters: &[&AtomicUsize]| counters.iter().map(|n| n.load(Ordering::Relaxed)).sum::<usize>();
        crate::envtest::pause(3000);
        // On a busy machine, this takes longer. The clients must be stopped in any case.
        let is_enough = || count(&[&taken]) > 10 && count(&[&refused, &others]) > 10;
        (0..600).take_while(|_| !is_enough()).for_each(|_| crate::envtest::pause(100));
        is_over.store(true, Ordering::Relaxed);
    });
    let (taken, refused) = (taken.into_inner(), refused.into_inner() + others.into_inner());
    assert!(taken > 10 && refused > 10, "{taken} taken, {refused} refused");
    assert!(peak_bytes(&server) < 192 << 20, "{} bytes", peak_bytes(&server));
    assert_serves(&server);
    let events = server.json("/api/v1/wars")["stats"]["events"].as_u64().unwrap();
    assert!(events as usize >= taken * 64, "{events} events of {taken} answered batches");
}
