//! Attacks on memory: input that makes the server grow, against `--memory-limit`; and the processing time of a single
//! batch.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::events::{SECOND, honest_war, now, quick};
use crate::http2;
use crate::outcome::Kind::{Alone, Long};
use crate::outcome::{Attack, Context, Failure, Outcome, Report, control, quantiles};
use crate::server::{HONEST, Server, ask, connect, pause, request};

const LIMIT: usize = 256 << 20;
const UNDER: &str = "--memory-limit holds, /livez answers within 2 s, and an honest war is still right";

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "memory/all-at-once",
        promise: UNDER,
        kind: Alone,
        run: |c, r| under(c, r, &Loads::ALL, c.count(600, 20)),
    },
    Attack {
        name: "memory/contested-objects",
        promise: UNDER,
        kind: Long,
        run: |c, r| under(c, r, &[Loads::Contested], 120),
    },
    Attack { name: "memory/small-wars", promise: UNDER, kind: Long, run: |c, r| under(c, r, &[Loads::SmallWars], 120) },
    Attack { name: "memory/long-names", promise: UNDER, kind: Long, run: |c, r| under(c, r, &[Loads::LongNames], 60) },
    Attack { name: "memory/user-agents", promise: UNDER, kind: Long, run: |c, r| under(c, r, &[Loads::Agents], 120) },
    Attack { name: "memory/unread-http1", promise: UNDER, kind: Alone, run: |c, r| unread(c, r, false) },
    Attack { name: "memory/unread-http2", promise: UNDER, kind: Alone, run: |c, r| unread(c, r, true) },
    Attack { name: "memory/http2-headers", promise: UNDER, kind: Alone, run: headers },
    Attack {
        name: "memory/client-table",
        promise: "a batch takes as long after 80,000 user agents as before",
        kind: Alone,
        run: batches,
    },
];

/// Kinds of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loads {
    /// Contested objects with large bodies.
    Contested,
    /// Many objects with few writes.
    SmallWars,
    /// User agents that are different each time.
    Agents,
    /// Names of 3 kB: objects, actors, agents.
    LongNames,
    /// Responses over HTTP/1.1 and HTTP/2 that are not read.
    Unread,
}

/// A running load test.
struct Pressure<'s> {
    server: &'s Server,
    /// The memory limit in bytes.
    limit: usize,
    is_over: AtomicBool,
    taken: AtomicU64,
    refused: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
    silences: AtomicU64,
}

// === impl Loads ===

impl Loads {
    const ALL: [Loads; 5] = [Loads::Contested, Loads::SmallWars, Loads::Agents, Loads::LongNames, Loads::Unread];

    /// Returns the number of different objects or names.
    fn count(self, context: &Context) -> u64 {
        match self {
            Loads::Contested => context.count(10_000, 300),
            Loads::SmallWars => context.count(200_000, 20_000),
            Loads::Agents => context.count(1_000_000, 70_000),
            Loads::LongNames => context.count(100_000, 4_000),
            Loads::Unread => 3,
        }
    }

    /// Returns the events of batch number `number`. Wraps around after all objects were used.
    fn batch(self, count: u64, number: u64) -> Vec<String> {
        let at = now();
        match self {
            Loads::Contested => {
                // Two writes to each of 16 objects: 16 kB in which every value differs.
                (0..32)
                    .map(|n| {
                        let object = (number * 16 + n / 2) % count;
                        let turn = number * 16 / count * 2 + n % 2;
                        let value = format!("{}{turn}-", ["ours", "theirs"][(n % 2) as usize]).repeat(256);
                        let keys: Vec<String> = (0..8).map(|k| format!(r#""k{k}":"{value}""#)).collect();
                        let data = format!(r#"{{"data":{{{}}}}}"#, keys.join(","));
                        quick(
                            at,
                            ["alice", "bob"][(n % 2) as usize],
                            "load/v1",
                            &format!("large-{object}"),
                            &data,
                            &data,
                        )
                    })
                    .collect()
            }
            Loads::SmallWars => (0..400)
                .map(|n| {
                    let object = (number * 100 + n / 4) % count;
                    let side = (n % 2) as usize;
                    let data = format!(r#"{{"data":{{"v":"{side}"}}}}"#);
                    quick(at, ["alice", "bob"][side], "load/v1", &format!("small-{object}"), &data, &data)
                })
                .collect(),
            Loads::Agents => (0..1000)
                .map(|n| {
                    let agent = format!("agent-{}/v1 (some text as browsers have it)", (number * 1000 + n) % count);
                    let data = format!(r#"{{"data":{{"v":"{n}"}}}}"#);
                    quick(at, "carol", &agent, &format!("agents-{}", n % 50), &data, &data)
                })
                .collect(),
            Loads::LongNames => (0..40)
                .map(|n| {
                    let object = (number * 10 + n / 4) % count;
                    let side = ["a", "b"][(n % 2) as usize];
                    let long = |what: &str| format!("{what}-{object}-{}", "x".repeat(3000));
                    let data = format!(r#"{{"data":{{"{}":"{side}"}}}}"#, long("key"));
                    quick(at, &long(side), &long("agent"), &long("long"), &data, &data)
                })
                .collect(),
            Loads::Unread => Vec::new(),
        }
    }

    /// Runs until the test is over.
    fn run(self, context: &Context, place: u8, pressure: &Pressure<'_>) {
        let from = Ipv4Addr::new(127, 0, 3, place);
        if self == Loads::Unread {
            return hold(from, pressure);
        }
        let count = self.count(context);
        for number in 0.. {
            if pressure.is_over.load(Relaxed) {
                return;
            }
            let batch = self.batch(count, number);
            match pressure.server.post_from(from, "/audit/load", &batch) {
                Ok(answer) if answer.status == 200 => {
                    pressure.taken.fetch_add(batch.len() as u64, Relaxed);
                }
                _ => {
                    pressure.refused.fetch_add(batch.len() as u64, Relaxed);
                    pause(50);
                }
            }
        }
    }
}

/// Requests large responses and does not read them.
fn hold(from: Ipv4Addr, pressure: &Pressure<'_>) {
    let to = pressure.server.admin;
    let mut held = Vec::new();
    while !pressure.is_over.load(Relaxed) {
        if held.len() < 40
            && let Ok(mut stream) = connect(from, to)
        {
            drop(std::io::Write::write_all(&mut stream, &request("GET", "/api/v1/wars?all=true", "", b"")));
            held.push(stream);
        }
        if held.len().is_multiple_of(8)
            && held.len() < 40
            && let Ok(mut stream) = http2::open(from, to, 0)
        {
            drop(http2::get(&mut stream, "/api/v1/wars?all=true", 0..128));
            held.push(stream);
        }
        pause(100);
    }
}

// === impl Pressure ===

impl<'s> Pressure<'s> {
    fn on(server: &'s Server, limit: usize) -> Pressure<'s> {
        Pressure {
            server,
            limit,
            is_over: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            latencies: Mutex::default(),
            silences: AtomicU64::new(0),
        }
    }

    /// Polls `/livez` continuously.
    fn probe(&self) {
        while !self.is_over.load(Relaxed) {
            match ask(HONEST, self.server.admin, &request("GET", "/livez", "", b""), Duration::from_secs(10)) {
                Ok(answer) if answer.status == 200 => self.latencies.lock().unwrap().push(answer.took),
                _ => {
                    self.silences.fetch_add(1, Relaxed);
                }
            }
            pause(100);
        }
    }
}

/// Runs these loads concurrently for `seconds` seconds.
fn under(context: &Context, report: &mut Report, loads: &[Loads], seconds: u64) -> Outcome {
    let server = Server::start(context, &["--memory-limit", "256MiB"])?.ready()?;
    honest_war(&server, "before").map_err(Failure::Control)?;
    let pressure = Pressure::on(&server, LIMIT);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for (place, load) in loads.iter().enumerate() {
            let pressure = &pressure;
            scope.spawn(move || load.run(context, place as u8 + 1, pressure));
        }
        scope.spawn(|| pressure.probe());
        while started.elapsed().as_secs() < seconds && !gave_way(&pressure) {
            pause(50);
        }
        pressure.is_over.store(true, Relaxed);
    });
    report.number("events", pressure.taken.load(Relaxed));
    report.number("refused", pressure.refused.load(Relaxed));
    control(pressure.taken.load(Relaxed) > 100, "the load was hardly taken")?;
    judge(&server, report, &pressure)
}

/// Returns whether the server uses so much memory that the test has failed. Kills the server in this case, to protect
/// the machine.
fn gave_way(pressure: &Pressure<'_>) -> bool {
    let server = pressure.server;
    let has_too_much = server.resident_bytes() > 6 * pressure.limit;
    if has_too_much {
        server.signal("KILL");
    }
    has_too_much
}

/// Checks what must hold after any load.
fn judge(server: &Server, report: &mut Report, pressure: &Pressure<'_>) -> Outcome {
    let peak = server.peak_bytes();
    if peak == 0 {
        report.promise(
            false,
            format!(
                "ended with more than {} MiB under a limit of {} MiB",
                (6 * pressure.limit) >> 20,
                pressure.limit >> 20
            ),
        );
        return control(false, "the server is gone");
    }
    report.number("RSS peak", format!("{} MiB of {}", peak >> 20, pressure.limit >> 20));
    report.promise(
        peak <= pressure.limit,
        format!("{} MiB of memory under a limit of {} MiB", peak >> 20, pressure.limit >> 20),
    );
    let mut latencies = pressure.latencies.lock().unwrap().clone();
    report.number("/livez", quantiles(&mut latencies));
    let slow = latencies.iter().filter(|took| **took > Duration::from_secs(2)).count() as u64;
    let silences = pressure.silences.load(Relaxed);
    report.promise(
        slow == 0 && silences == 0,
        format!("/livez: {slow} answers took more than 2 s, {silences} did not come"),
    );
    match honest_war(server, "after") {
        Ok(()) => report.promise(true, ""),
        Err(why) => report.promise(false, format!("afterwards: {why}")),
    }
    let peak = server.peak_bytes();
    report.promise(
        peak <= pressure.limit,
        format!("more than {} MiB of memory when the wars were asked for", pressure.limit >> 20),
    );
    Ok(())
}

/// Responses that are not read.
fn unread(context: &Context, report: &mut Report, is_http2: bool) -> Outcome {
    let mut server = Server::start(context, &["--memory-limit", "256MiB"])?.ready()?;
    let count = context.count(10_000, 3_000);
    for number in 0..count / 100 {
        server.post("/audit", &Loads::SmallWars.batch(count, number))?;
    }
    let size = server.get("/api/v1/wars?all=true")?.body.len();
    control(size > 1 << 20, format!("the answer is large: {size} bytes"))?;
    report.number("answer", format!("{:.1} MB", size as f64 / 1e6));
    let pressure = Pressure::on(&server, LIMIT);
    let mut held = Vec::new();
    std::thread::scope(|scope| -> Outcome {
        scope.spawn(|| pressure.probe());
        let opened: Outcome = (|| {
            for n in 0..4u8 {
                let from = Ipv4Addr::new(127, 0, 4, n + 1);
                if is_http2 {
                    let mut stream = http2::open(from, server.admin, 0)?;
                    http2::get(&mut stream, "/api/v1/wars?all=true", 0..128)?;
                    held.push(stream);
                    continue;
                }
                for _ in 0..context.count(100, 25) {
                    let mut stream = connect(from, server.admin)?;
                    drop(std::io::Write::write_all(&mut stream, &request("GET", "/api/v1/wars?all=true", "", b"")));
                    held.push(stream);
                }
            }
            Ok(())
        })();
        let started = Instant::now();
        while started.elapsed().as_secs() < context.count(60, 8) && !gave_way(&pressure) {
            pause(50);
        }
        pressure.is_over.store(true, Relaxed);
        opened
    })?;
    judge(&server, report, &pressure)?;
    let started = Instant::now();
    server.signal("TERM");
    let is_over = server.ends_within(Duration::from_secs(25)).is_some();
    report.promise(is_over, "SIGTERM does not end the server within 25 s");
    report.number("SIGTERM", format!("{:.1} s", started.elapsed().as_secs_f64()));
    drop(held);
    Ok(())
}

/// HTTP/2 requests with the maximum number of empty headers, whose bodies never arrive.
fn headers(context: &Context, report: &mut Report) -> Outcome {
    let server = Server::start(context, &["--memory-limit", "64MiB"])?.ready()?;
    let pressure = Pressure::on(&server, LIMIT / 4);
    let mut held = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| pressure.probe());
        for place in 0..context.count(1000, 70_u16) {
            let from = Ipv4Addr::new(127, 0, 6, (place / 250) as u8 + 1);
            let opened = http2::open(from, server.webhook, 1 << 16).and_then(|mut stream| {
                http2::post_with_headers(&mut stream, "/audit", 900, 0..120)?;
                Ok(stream)
            });
            // If this connection was closed, the others are still open.
            held.extend(opened);
            pressure.taken.fetch_add(120, Relaxed);
            if gave_way(&pressure) {
                break;
            }
        }
        pause(500);
        pressure.is_over.store(true, Relaxed);
    });
    report.number("connections", held.len());
    judge(&server, report, &pressure)
}

/// User agents that are different each time: measures the time per batch.
fn batches(context: &Context, report: &mut Report) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let (mut times, size) = (Vec::new(), 4000);
    for number in 0..context.count(250, 20) {
        let events: Vec<String> = (0..size)
            .map(|n| {
                let agent = format!("agent-{number}-{n}/v1");
                let patch = r#"{"data":{"v":"1"}}"#;
                quick(now() - SECOND, "carol", &agent, &format!("o-{number}-{n}"), patch, patch)
            })
            .collect();
        let Ok(answer) = server.post_from(HONEST, "/audit", &events) else {
            report.promise(false, format!("batch {number} of {size} events is not answered within 60 s"));
            return Ok(());
        };
        control(answer.status == 200, format!("batch {number}: {} {}", answer.status, answer.body))?;
        times.push(answer.took);
        // The result is clear by now.
        if answer.took > Duration::from_secs(8) {
            break;
        }
    }
    let mut first = times[1..6].to_vec();
    first.sort_unstable();
    let (first, last) = (first[2], times[times.len() - times.len() / 3..].iter().max().copied().unwrap_or_default());
    let ratio = last.as_secs_f64() / first.as_secs_f64();
    report.number("clients", times.len() * size);
    report.number("first batches", format!("{:.0} ms", first.as_secs_f64() * 1e3));
    report.number("slowest of the last", format!("{:.0} ms", last.as_secs_f64() * 1e3));
    report.promise(ratio <= 20.0, format!("a batch of {size} events takes {ratio:.0} times as long"));
    report.number("RSS peak", format!("{} MiB", server.peak_bytes() >> 20));
    Ok(())
}
