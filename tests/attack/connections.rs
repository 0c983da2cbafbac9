//! Attacks with connections that send nothing, too little, or too slowly, next to honest clients.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::events::War;
use crate::outcome::Kind::{Alone, Beside, Long};
use crate::outcome::{Attack, Context, Outcome, Report, control, quantiles};
use crate::server::{HONEST, Server, ask, connect, pause, request, until};
use crate::tls::Authority;
use crate::{events, http2};

const CLOSED: &str = "a connection that does not go on is closed after the stated time";
const SERVED: &str = "/livez and an honest API server are answered while 1,024 silent connections hold on";
/// Seconds added to the promised times, since the machine may be busy.
const SLACK: u64 = 8;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "connections/no-byte",
        promise: CLOSED,
        kind: Beside,
        run: |c, r| closed(c, r, Silence::Nothing, 10),
    },
    Attack {
        name: "connections/half-a-preface",
        promise: CLOSED,
        kind: Beside,
        run: |c, r| closed(c, r, Silence::HalfPreface, 10),
    },
    Attack {
        name: "connections/half-a-head",
        promise: CLOSED,
        kind: Beside,
        run: |c, r| closed(c, r, Silence::HalfHead, 10),
    },
    Attack {
        name: "connections/slow-head",
        promise: CLOSED,
        kind: Beside,
        run: |c, r| closed(c, r, Silence::SlowHead, 10),
    },
    Attack {
        name: "connections/slow-preface",
        promise: CLOSED,
        kind: Beside,
        run: |c, r| closed(c, r, Silence::SlowPreface, 10),
    },
    Attack {
        name: "connections/no-body",
        promise: CLOSED,
        kind: Beside,
        run: |c, r| closed(c, r, Silence::NoBody, 10),
    },
    Attack {
        name: "connections/slow-body",
        promise: CLOSED,
        kind: Beside,
        run: |c, r| closed(c, r, Silence::SlowBody, 30),
    },
    Attack {
        name: "connections/tls-without-hello",
        promise: CLOSED,
        kind: Beside,
        run: |c, r| tls(c, r, Handshake::Nothing),
    },
    Attack {
        name: "connections/tls-half-a-hello",
        promise: CLOSED,
        kind: Beside,
        run: |c, r| tls(c, r, Handshake::HalfHello),
    },
    Attack {
        name: "connections/tls-then-nothing",
        promise: CLOSED,
        kind: Beside,
        run: |c, r| tls(c, r, Handshake::Whole),
    },
    Attack {
        name: "connections/idle-http1",
        promise: CLOSED,
        kind: Beside,
        run: |c, r| closed(c, r, Silence::Idle, IDLE),
    },
    Attack {
        name: "connections/idle-http2",
        promise: CLOSED,
        kind: Beside,
        run: |c, r| closed(c, r, Silence::IdleHttp2, IDLE),
    },
    Attack { name: "connections/unread-answer", promise: CLOSED, kind: Beside, run: unread },
    Attack { name: "connections/1024-silent", promise: SERVED, kind: Alone, run: |c, r| house(c, r, false, false) },
    Attack { name: "connections/1024-coming-again", promise: SERVED, kind: Long, run: |c, r| house(c, r, true, false) },
    Attack { name: "connections/1024-with-tls", promise: SERVED, kind: Alone, run: |c, r| house(c, r, true, true) },
];

/// Maximum idle time of a connection in seconds.
const IDLE: u64 = 60;

/// How a connection becomes silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    Nothing,
    HalfPreface,
    HalfHead,
    SlowHead,
    SlowPreface,
    NoBody,
    SlowBody,
    Idle,
    IdleHttp2,
}

/// How far the TLS handshake proceeds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handshake {
    Nothing,
    HalfHello,
    Whole,
}

// === impl Silence ===

impl Silence {
    /// Returns what is sent at once.
    fn beginning(self) -> Vec<u8> {
        let text: &[u8] = match self {
            Silence::Nothing => b"",
            Silence::HalfPreface => b"PRI * HT",
            Silence::SlowPreface => b"P",
            Silence::HalfHead => b"POST /audit HTTP/1.1\r\nHost: loc",
            Silence::SlowHead => b"POST /audit HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
            Silence::NoBody | Silence::SlowBody => {
                b"POST /audit HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n["
            }
            Silence::Idle => b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
            Silence::IdleHttp2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        };
        text.to_vec()
    }

    /// Returns what follows, one byte per second.
    fn drip(self) -> &'static [u8] {
        match self {
            Silence::SlowHead => b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            Silence::SlowPreface => b"RI * HTTP/2.0\r\n\r",
            Silence::SlowBody => b"                                                                ",
            _ => b"",
        }
    }
}

/// Returns the time until the server closes the connection, or `None` if it does not within the limit.
fn time_to_end(mut stream: TcpStream, drip: &[u8], limit: Duration) -> Option<Duration> {
    let started = Instant::now();
    let mut drip = drip.iter();
    stream.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
    let mut next = Duration::from_secs(1);
    let mut buffer = [0; 4096];
    while started.elapsed() < limit {
        match stream.read(&mut buffer) {
            Ok(0) => return Some(started.elapsed()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => return Some(started.elapsed()),
        }
        if started.elapsed() >= next {
            next += Duration::from_secs(1);
            if let Some(byte) = drip.next() {
                drop(stream.write_all(&[*byte]));
            }
        }
    }
    None
}

/// Opens one such connection to each listener, and checks that it is closed in the promised time.
fn closed(context: &Context, report: &mut Report, silence: Silence, stated: u64) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let limit = Duration::from_secs(stated + SLACK);
    let mut ends = Vec::new();
    std::thread::scope(|scope| {
        let waits: Vec<_> = [("webhook", server.webhook), ("query", server.admin)]
            .into_iter()
            // Requests with bodies belong to the webhook, and `/livez` to the query listener.
            .filter(|(name, _)| match silence {
                Silence::NoBody | Silence::SlowBody => *name == "webhook",
                Silence::Idle => *name == "query",
                _ => true,
            })
            .map(|(name, to)| {
                scope.spawn(move || {
                    let mut stream = connect(HONEST, to)?;
                    stream.write_all(&silence.beginning())?;
                    io::Result::Ok((name, time_to_end(stream, silence.drip(), limit)))
                })
            })
            .collect();
        waits.into_iter().for_each(|wait| ends.push(wait.join().expect("it does not panic")));
    });
    for end in ends {
        let (name, end) = end?;
        judge(report, name, end, limit);
    }
    control(server.get("/livez")?.status == 200, "the server still answers")
}

fn judge(report: &mut Report, name: &str, end: Option<Duration>, limit: Duration) {
    report.number(name, end.map_or("open".to_owned(), |end| format!("{:.1} s", end.as_secs_f64())));
    report.promise(end.is_some(), format!("the {name} listener: still open after {} s", limit.as_secs()));
}

/// The same for TLS handshakes.
fn tls(context: &Context, report: &mut Report, handshake: Handshake) -> Outcome {
    let name = ["nothing", "half", "whole"][handshake as usize];
    let authority = Authority::new(&context.folder(&format!("connections-tls-{name}")));
    let settings = authority.settings("webhook");
    let server = Server::start(context, &settings.iter().map(String::as_str).collect::<Vec<_>>())?.ready()?;
    let limit = Duration::from_secs(20 + SLACK);
    let stream = match handshake {
        Handshake::Nothing => connect(HONEST, server.webhook)?,
        Handshake::HalfHello => {
            let mut stream = connect(HONEST, server.webhook)?;
            stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])?;
            stream
        }
        Handshake::Whole => {
            let identity = authority.identity("apiserver", 3600);
            let mut stream = authority.connect(HONEST, server.webhook, Some(&identity))?;
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock)?;
            }
            stream.sock.try_clone()?
        }
    };
    judge(report, "webhook", time_to_end(stream, b"", limit), limit);
    control(server.get("/livez")?.status == 200, "the server still answers")
}

/// Requests large responses and does not read them. The connection must be closed.
fn unread(context: &Context, report: &mut Report) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    for batch in 0..20 {
        let wars: Vec<String> =
            (0..100).flat_map(|n| War::new(&format!("o-{batch}-{n}")).lines(4, 1000, events::now())).collect();
        server.post("/audit", &wars)?;
    }
    let size = server.get("/api/v1/wars?all=true")?.body.len();
    control(size > 1 << 20, format!("the answer is large: {size} bytes"))?;
    pause(500);
    let before = server.descriptors();
    let mut http1 = connect(HONEST, server.admin)?;
    // More than the kernel buffers.
    for _ in 0..8 {
        http1.write_all(b"GET /api/v1/wars?all=true HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    }
    let mut http2 = http2::open(HONEST, server.admin, 0)?;
    http2::get(&mut http2, "/api/v1/wars?all=true", 0..8)?;
    http2::acknowledge(&mut http2)?;
    let is_open = until(Duration::from_secs(5), || server.descriptors() >= before + 2);
    control(is_open, "the connections are open")?;
    let limit = Duration::from_secs(45);
    let started = Instant::now();
    // Since nothing is read, the end is only visible on the server's side, as closed descriptors.
    let is_ended = until(limit, || server.descriptors() <= before);
    let left = server.descriptors().saturating_sub(before);
    report.number("ended after", format!("{:.0} s", started.elapsed().as_secs_f64()));
    report.promise(is_ended, format!("{left} of 2 unread answers are held for more than {} s", limit.as_secs()));
    drop((http1, http2));
    Ok(())
}

/// Opens silent connections from many addresses to both listeners, more than there may be. With `comes_again`, each is
/// reopened as soon as it is closed.
fn house(context: &Context, report: &mut Report, comes_again: bool, is_tls: bool) -> Outcome {
    let name = format!("connections-house-{comes_again}-{is_tls}");
    let authority = Authority::new(&context.folder(&name));
    let settings = if is_tls { authority.settings("webhook") } else { Vec::new() };
    let server = Server::start(context, &settings.iter().map(String::as_str).collect::<Vec<_>>())?.ready()?;
    let identity = authority.identity("apiserver", 3600);
    let honest = |limit: Duration| -> io::Result<(u16, Duration)> {
        let started = Instant::now();
        let body = events::list(&War::new("honest").lines(2, 1000, events::now()));
        if !is_tls {
            let bytes = request("POST", "/audit", "Content-Type: application/json\r\n", &body);
            return ask(HONEST, server.webhook, &bytes, limit).map(|answer| (answer.status, answer.took));
        }
        let mut stream = authority.connect(HONEST, server.webhook, Some(&identity))?;
        stream.sock.set_read_timeout(Some(limit))?;
        stream.write_all(&request("POST", "/audit", "Content-Type: application/json\r\n", &body))?;
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        crate::server::answer(&bytes, started.elapsed()).map(|answer| (answer.status, answer.took))
    };
    // The honest clients authenticate before the attack begins.
    control(
        honest(Duration::from_secs(10))?.0 == 200 && server.get("/livez")?.status == 200,
        "honest clients are answered",
    )?;
    let is_over = AtomicBool::new(false);
    let limit = Duration::from_secs(5);
    let (mut lives, mut batches) = (Vec::new(), Vec::new());
    let (mut silences, mut most) = (0, 0);
    let opened = Mutex::new(0_usize);
    std::thread::scope(|scope| {
        for (place, to) in (0..8u8).flat_map(|n| [(n, server.webhook), (n, server.admin)]) {
            let (is_over, opened) = (&is_over, &opened);
            scope.spawn(move || besiege(Ipv4Addr::new(127, 0, 5, place + 1), to, comes_again, is_over, opened));
        }
        // Wait until the limit is reached or no more connections are accepted.
        pause(3000);
        let started = Instant::now();
        while started.elapsed().as_secs() < context.count(45, 10) {
            most = most.max(server.descriptors());
            match ask(HONEST, server.admin, &request("GET", "/livez", "", b""), limit) {
                Ok(answer) if answer.status == 200 => lives.push(answer.took),
                _ => silences += 1,
            }
            match honest(limit) {
                Ok((200, took)) => batches.push(took),
                _ => silences += 1,
            }
            pause(100);
        }
        is_over.store(true, Relaxed);
    });
    report.number("opened", opened.into_inner().unwrap());
    report.number("descriptors", most);
    report.number("/livez", quantiles(&mut lives));
    report.number("batch", quantiles(&mut batches));
    report.promise(
        silences == 0,
        format!("{silences} honest requests had no answer within 5 s, {} had", lives.len() + batches.len()),
    );
    let is_free = until(Duration::from_secs(20), || server.get("/livez").is_ok_and(|answer| answer.status == 200));
    control(is_free, "the server answers when they are gone")
}

/// Holds silent connections of several kinds from one address.
fn besiege(from: Ipv4Addr, to: SocketAddr, comes_again: bool, is_over: &AtomicBool, opened: &Mutex<usize>) {
    const KINDS: [Silence; 6] =
        [Silence::Nothing, Silence::HalfPreface, Silence::HalfHead, Silence::NoBody, Silence::Idle, Silence::IdleHttp2];
    let mut held: Vec<TcpStream> = Vec::new();
    let mut number = 0;
    while !is_over.load(Relaxed) {
        while held.len() < 256 && (comes_again || number < 256) && !is_over.load(Relaxed) {
            let Ok(mut stream) = connect(from, to) else { break };
            drop(stream.write_all(&KINDS[number % KINDS.len()].beginning()));
            drop(stream.set_nonblocking(true));
            held.push(stream);
            number += 1;
            *opened.lock().unwrap() += 1;
        }
        let mut buffer = [0; 1024];
        // Read responses, and detect closed connections.
        held.retain_mut(|stream| {
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
                }
            }
        });
        pause(50);
    }
}
