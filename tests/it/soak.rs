//! Soak test with everything at once: honest load, repeated batches, floods, hostile clients, readers, kills, restarts
//! and a disk that is full from time to time. `tests/soak 600` runs it for ten minutes and prints a table; the gate runs it
//! for some seconds.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::envtest::{free_port, pause};
use crate::hostile::{head, peak_bytes, try_connect};
use crate::journal::kept;
use crate::serve::Server;

/// Duration in seconds, unless `EDITWAR_SOAK` sets another one.
const SECONDS: u64 = 8;
/// Number of API servers, events per batch, and time between two batches: together the maximum load of three API
/// servers.
const SOURCES: u8 = 3;
const BATCH: u64 = 400;
const EVERY: Duration = Duration::from_millis(100);
/// One event in this many is a write.
const WRITES_EVERY: u64 = 5;
/// Number of objects. Two accounts fight over the first ones.
const OBJECTS: u64 = 60;
const FOUGHT_OVER: u64 = 5;
const MEMORY_MAX: usize = 256 << 20;

/// Results.
#[derive(Default)]
struct Tally {
    events: AtomicU64,
    batches: AtomicU64,
    tries: AtomicU64,
    repeated: AtomicU64,
    flood_taken: AtomicU64,
    flood_refused: AtomicU64,
    bad: AtomicU64,
    answers: AtomicU64,
    /// IDs of the acknowledged writes.
    writes: Mutex<BTreeSet<String>>,
    acks: Mutex<Vec<Duration>>,
}

/// Returns an audit event of an API server, with the current time.
fn event(source: u8, number: u64) -> (Option<String>, String) {
    let now = jiff::Timestamp::now();
    let id = format!("{source}-{number}");
    let is_write = number.is_multiple_of(WRITES_EVERY);
    let object = number / WRITES_EVERY % OBJECTS;
    // Alternately, each account restores its own value.
    let (user, value) = match (object < FOUGHT_OVER, source % 2) {
        (true, 0) => ("alice", 1),
        (true, _) => ("bob", 2),
        (false, _) => ("operator", number),
    };
    let (verb, body) = if is_write {
        ("patch", format!(r#","requestObject":{{"data":{{"v":"{value}"}}}}"#))
    } else {
        ("get", String::new())
    };
    let name = format!("config-{object}");
    let text = format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"{id}","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/configmaps/{name}","verb":"{verb}","user":{{"username":"{user}"}},"sourceIPs":["10.0.0.1"],"userAgent":"soak/v1","objectRef":{{"resource":"configmaps","namespace":"shop","name":"{name}","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":200}}{body},"requestReceivedTimestamp":"{now:.6}","stageTimestamp":"{now:.6}"}}"#
    );
    (is_write.then_some(id), text)
}

fn body(events: &[String]) -> Vec<u8> {
    format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{}]}}"#, events.join(","))
        .into_bytes()
}

/// Posts a batch once. Returns the status, if there was a response.
fn try_post(from: Ipv4Addr, to: SocketAddr, body: &[u8]) -> Option<u16> {
    let mut stream = try_connect(from, to).ok()?;
    stream.write_all(&head(body.len())).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// An API server that posts batches periodically, retries each until it is accepted, and repeats some of them
/// afterwards.
fn honest(source: u8, to: SocketAddr, tally: &Tally, is_over: &AtomicBool) {
    let from = Ipv4Addr::new(127, 0, 0, 10 + source);
    let mut number = 0;
    let mut before: Option<Vec<u8>> = None;
    while !is_over.load(Relaxed) {
        let due = Instant::now() + EVERY;
        let events: Vec<(Option<String>, String)> = (number..number + BATCH).map(|n| event(source, n)).collect();
        number += BATCH;
        let (ids, texts): (Vec<_>, Vec<_>) = events.into_iter().unzip();
        let body = body(&texts);
        loop {
            let started = Instant::now();
            tally.tries.fetch_add(1, Relaxed);
            match try_post(from, to, &body) {
                Some(200) => {
                    tally.acks.lock().unwrap().push(started.elapsed());
                    break;
                }
                // Nothing answers any more if the server has failed.
                _ if is_over.load(Relaxed) => return,
                _ => pause(50),
            }
        }
        tally.batches.fetch_add(1, Relaxed);
        tally.events.fetch_add(BATCH, Relaxed);
        tally.writes.lock().unwrap().extend(ids.into_iter().flatten());
        if (number / BATCH).is_multiple_of(10)
            && let Some(before) = before.replace(body)
        {
            tally.repeated.fetch_add(1, Relaxed);
            let _ = try_post(from, to, &before);
        }
        pause(due.saturating_duration_since(Instant::now()).as_millis() as u64);
    }
}

/// Posts more than there is capacity for, from many addresses at once.
fn flood(to: SocketAddr, tally: &Tally, is_over: &AtomicBool) {
    let get = event(99, 1).1;
    let body = body(&vec![get; 4000]);
    while !is_over.load(Relaxed) {
        std::thread::scope(|scope| {
            for client in 0..24 {
                let body = &body;
                scope.spawn(move || match try_post(Ipv4Addr::new(127, 0, 1, client), to, body) {
                    Some(200) => tally.flood_taken.fetch_add(1, Relaxed),
                    _ => tally.flood_refused.fetch_add(1, Relaxed),
                });
            }
        });
        pause(3000);
    }
}

/// Sends what no API server would send.
fn hostile(to: SocketAddr, tally: &Tally, is_over: &AtomicBool) {
    let from = Ipv4Addr::new(127, 0, 0, 66);
    let nested = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let bodies: [&[u8]; 6] = [
        b"{\"items\":[{\"kind\":\"Event\"",
        &[0xff; 10_000],
        &nested,
        b"null",
        b"[1,2,{\"kind\":[]},\"\\ud800\"]",
        b"{\"kind\":\"EventList\",\"items\":{\"a\":1},\"items\":[{}]}",
    ];
    let heads: [&[u8]; 6] = [
        b"POST /audit HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        b"POST /audit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"DELETE /audit HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\0\0\0\0\0",
        b"\x16\x03\x01\x02\0\x01",
        b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
    ];
    let mut held = Vec::new();
    while !is_over.load(Relaxed) {
        for body in bodies {
            let _ = try_post(from, to, body);
        }
        for head in heads {
            if let Ok(mut stream) = try_connect(from, to) {
                drop(stream.write_all(head));
                drop(stream.set_read_timeout(Some(Duration::from_millis(50))));
                drop(stream.read(&mut [0; 512]));
            }
        }
        // Half a request head, on a connection that stays open.
        for _ in 0..20 {
            if let Ok(mut stream) = try_connect(from, to) {
                drop(stream.write_all(b"POST /audit HTTP/1.1\r\nHost: "));
                held.push(stream);
            }
        }
        tally.bad.fetch_add((bodies.len() + heads.len() + 20) as u64, Relaxed);
        if held.len() > 200 {
            held.clear();
        }
        pause(200);
    }
}

/// Queries the server in the meantime.
fn reader(admin: &Mutex<SocketAddr>, tally: &Tally, is_over: &AtomicBool) {
    let paths = [
        "/api/v1/wars",
        "/metrics",
        "/api/v1/transitions",
        "/api/v1/objects/configmaps/shop/config-1/timeline?since=1h",
    ];
    for path in paths.iter().cycle() {
        if is_over.load(Relaxed) {
            return;
        }
        let to = *admin.lock().unwrap();
        if let Ok(mut stream) = try_connect(Ipv4Addr::LOCALHOST, to) {
            let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let mut answer = Vec::new();
            drop(stream.write_all(head.as_bytes()));
            drop(stream.read_to_end(&mut answer));
            tally.answers.fetch_add(u64::from(answer.starts_with(b"HTTP/1.1 200")), Relaxed);
        }
        pause(250);
    }
}

#[test]
#[ignore = "loads the machine for some seconds; EDITWAR_SOAK says for how many"]
#[expect(clippy::print_stdout, reason = "the table is what it is run for")]
fn no_acknowledged_write_is_lost_under_load_and_faults() {
    let seconds: u64 = std::env::var("EDITWAR_SOAK").map_or(SECONDS, |s| s.parse().unwrap());
    let folder = crate::envtest::scratch("soak");
    let journal = folder.join("journal");
    let webhook = format!("127.0.0.1:{}", free_port());
    let to: SocketAddr = webhook.parse().unwrap();
    let start = || {
        let arguments = ["--journal", journal.to_str().unwrap(), "--memory-limit", "256MiB"];
        // A file that cannot grow must be an error for the server, and not terminate it.
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#, env!("CARGO_BIN_EXE_editwar")]);
        Server::start_as(command, &webhook, &[&arguments[..], &["--set", "journal.on_failure=reject"]].concat())
    };
    let mut server = start();
    let admin = Mutex::new(server.admin());
    let (tally, is_over) = (Tally::default(), AtomicBool::new(false));
    let (mut kills, mut ends, mut full, mut peak) = (0, 0, 0, 0);
    let every = Duration::from_secs((seconds / 12).clamp(1, 10));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for source in 0..SOURCES {
            let (tally, is_over) = (&tally, &is_over);
            scope.spawn(move || honest(source, to, tally, is_over));
        }
        scope.spawn(|| flood(to, &tally, &is_over));
        scope.spawn(|| hostile(to, &tally, &is_over));
        scope.spawn(|| reader(&admin, &tally, &is_over));
        let disturbing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for turn in 0.. {
                pause(every.as_millis() as u64);
                if started.elapsed().as_secs() >= seconds {
                    break;
                }
                peak = peak.max(peak_bytes(&server));
                match turn % 3 {
                    0 => {
                        kills += 1;
                        server.kill();
                        server = start();
                    }
                    1 => {
                        ends += 1;
                        assert!(server.terminate().success(), "{}", server.said());
                        server = start();
                    }
                    _ => {
                        // The disk is full for a while: no file can grow.
                        full += 1;
                        let limit = |bytes: &str| {
                            let pid = server.pid().to_string();
                            let set =
                                Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
                            assert!(set.unwrap().success());
                        };
                        limit("4096");
                        pause(500);
                        limit("unlimited");
                    }
                }
                *admin.lock().unwrap() = server.admin();
            }
        }));
        is_over.store(true, Relaxed);
        disturbing.unwrap();
    });
    let server = server.ready();
    let held = started.elapsed().as_secs_f64();
    peak = peak.max(peak_bytes(&server));
    let names = |of: &serde_json::Value| -> BTreeSet<String> {
        let of = of["wars"].as_array().unwrap();
        of.iter().map(|war| war["object"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let wars = names(&server.json("/api/v1/wars"));
    let mut server = server;
    assert!(server.terminate().success());
    let kept = kept(&journal);
    let writes = tally.writes.into_inner().unwrap();
    let lost = writes.iter().filter(|id| !kept.contains_key(*id)).count();
    let mut acks = tally.acks.into_inner().unwrap();
    acks.sort_unstable();
    let ack = |share: f64| acks[((acks.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let mut table = String::new();
    let mut row = |what: &str, value: String| writeln!(table, "{what:<42}{value:>16}").unwrap();
    let n = |of: &AtomicU64| of.load(Relaxed).to_string();
    row("time", format!("{held:.0} s"));
    row("events acknowledged", n(&tally.events));
    row("events acknowledged per second", format!("{:.0}", tally.events.load(Relaxed) as f64 / held));
    row("batches acknowledged / tries", format!("{} / {}", n(&tally.batches), n(&tally.tries)));
    row("batches repeated after their answer", n(&tally.repeated));
    row("ack p50 / p99 / max", format!("{:.0} / {:.0} / {:.0} ms", ack(0.5), ack(0.99), ack(1.0)));
    row("flood: batches taken / refused", format!("{} / {}", n(&tally.flood_taken), n(&tally.flood_refused)));
    row("faults: kill -9 / SIGTERM / disk full", format!("{kills} / {ends} / {full}"));
    row("bad inputs tried", n(&tally.bad));
    row("questions answered meanwhile", n(&tally.answers));
    row("peak memory, of 256 MiB", format!("{} MiB", peak >> 20));
    row("writes acknowledged", writes.len().to_string());
    row("writes lost", lost.to_string());
    println!("\n{table}");
    assert_eq!(lost, 0, "an acknowledged write is not in the journal");
    assert!(peak < MEMORY_MAX, "{peak} bytes");
    assert!(kills > 0 && tally.flood_refused.load(Relaxed) > 0 && tally.bad.load(Relaxed) > 0, "it was disturbed");
    assert_eq!(wars, (0..FOUGHT_OVER).map(|n| format!("config-{n}")).collect(), "the wars are found, and no others");
}
