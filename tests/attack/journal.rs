//! Attacks on the journal: kills, deleted directories, late events, full disks, damage, colliding requests, and false
//! claims about completeness.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::events::{SECOND, Write, now, quick, time};
use crate::outcome::Kind::{Beside, Heavy};
use crate::outcome::{Attack, Context, Failure, Outcome, Report, control};
use crate::server::{HONEST, PATIENCE, Server, pause, until};

const KEPT: &str = "what was acknowledged is there after a restart";

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "journal/kill-at-the-first-file",
        promise: "kill -9 while a file begins leaves a journal that opens",
        kind: Heavy,
        run: first_file,
    },
    Attack { name: "journal/kill-under-load", promise: KEPT, kind: Heavy, run: kills },
    Attack {
        name: "journal/directory-deleted-degrade",
        promise: KEPT,
        kind: Beside,
        run: |c, r| deleted(c, r, "degrade"),
    },
    Attack {
        name: "journal/directory-deleted-reject",
        promise: KEPT,
        kind: Beside,
        run: |c, r| deleted(c, r, "reject"),
    },
    Attack {
        name: "journal/late-events",
        promise: "late events cost no files and no descriptors",
        kind: Heavy,
        run: |c, r| late(c, r, "journal-late", &time(now() - 11 * 3600 * SECOND)),
    },
    Attack {
        name: "journal/events-of-year-1",
        promise: "late events cost no files and no descriptors",
        kind: Heavy,
        run: |c, r| late(c, r, "journal-year-1", "0001-01-01T00:00:00.000000Z"),
    },
    Attack {
        name: "journal/twins",
        promise: "two requests with one audit ID are two writes, before and after a restart",
        kind: Beside,
        run: twins,
    },
    Attack {
        name: "journal/complete-since",
        promise: "complete_since is true after the oldest files went",
        kind: Heavy,
        run: complete_since,
    },
];

/// Numbered writes of one object, so that its history shows which are stored.
pub(crate) struct Ledger {
    name: &'static str,
    next: AtomicU64,
    acknowledged: Mutex<BTreeSet<u64>>,
}

// === impl Ledger ===

impl Ledger {
    pub(crate) fn new(name: &'static str) -> Ledger {
        Ledger { name, next: AtomicU64::new(0), acknowledged: Mutex::default() }
    }

    /// Returns the next batch: an entry, and other events of `ballast` bytes.
    fn batch(&self, ballast: usize) -> (u64, Vec<String>) {
        let number = self.next.fetch_add(1, Relaxed);
        let mut events = vec![self.entry(number)];
        if ballast > 0 {
            // Incompressible text.
            let mut seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let text: String = std::iter::repeat_with(|| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                format!("{seed:016x}")
            })
            .take(ballast / 32)
            .collect();
            let patch = format!(r#"{{"data":{{"v":"{text}"}}}}"#);
            events.push(quick(now(), "carol", "ballast/v1", &format!("ballast-{}", number % 50), &patch, &patch));
        }
        (number, events)
    }

    fn entry(&self, number: u64) -> String {
        Write::new("carol", self.name, &format!("n{number}"), now()).line()
    }

    /// Posts a batch and retries until it is accepted.
    pub(crate) fn post(&self, server: &Server, ballast: usize) -> Outcome {
        let (number, events) = self.batch(ballast);
        server.post("/audit", &events)?;
        self.acknowledged.lock().unwrap().insert(number);
        Ok(())
    }

    /// Posts a batch once. Returns whether it was accepted.
    pub(crate) fn try_post(&self, server: &Server, ballast: usize) -> bool {
        let (number, events) = self.batch(ballast);
        let is_taken = server.post_from(HONEST, "/audit", &events).is_ok_and(|answer| answer.status == 200);
        if is_taken {
            self.acknowledged.lock().unwrap().insert(number);
        }
        is_taken
    }

    /// Returns the history of the object.
    fn history(&self, server: &Server) -> Result<(BTreeSet<u64>, Value), Failure> {
        let of = server.json(&format!("/api/v1/objects/configmaps/shop/{}/timeline?since=7d", self.name))?;
        let number = |value: &Value| value.as_str()?.strip_prefix('n')?.parse().ok();
        let changes = |moment: &Value| moment["changes"].as_array().cloned().unwrap_or_default();
        let timeline = of["timeline"].as_array().cloned().unwrap_or_default();
        let found = timeline.iter().flat_map(changes).filter_map(|change| number(&change["new"])).collect();
        Ok((found, of["complete_since"].clone()))
    }

    /// Returns the acknowledged writes that are missing.
    pub(crate) fn lost(&self, server: &Server) -> Result<Vec<u64>, Failure> {
        let (found, _) = self.history(server)?;
        Ok(self.acknowledged.lock().unwrap().difference(&found).copied().collect())
    }

    pub(crate) fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }
}

/// Starts a server with a small journal.
pub(crate) fn start(context: &Context, folder: &Path, on_failure: &str) -> Result<Server, Failure> {
    let (folder, on_failure) = (folder.display().to_string(), format!("journal.on_failure={on_failure}"));
    Server::start(context, &["--journal", &folder, "--set", &on_failure, "--set", "journal.max_size=64MiB"])
}

/// Returns the journal's files.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).map(|entries| entries.filter_map(Result::ok).map(|e| e.path()).collect());
    let mut files: Vec<PathBuf> = entries.unwrap_or_default();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

/// Kills the server within the first milliseconds of the first file.
fn first_file(context: &Context, report: &mut Report) -> Outcome {
    let (mut broken, count) = (0, context.count(200, 16));
    let mut seed = now() as u64 | 1;
    for turn in 0..count {
        let folder = context.folder(&format!("journal-first-{turn}"));
        let mut child = Command::new(&context.binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--webhook-listen", "127.0.0.1:0", "--journal"])
            .arg(&folder)
            .args(["--set", "journal.on_failure=reject"])
            .env_clear()
            .stderr(std::process::Stdio::null())
            .spawn()?;
        let started = Instant::now();
        while files(&folder).is_empty() && started.elapsed() < Duration::from_secs(20) {
            std::hint::spin_loop();
        }
        let found = Instant::now();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        while found.elapsed() < Duration::from_micros((seed >> 33) % 4000) {
            std::hint::spin_loop();
        }
        child.kill()?;
        child.wait()?;
        control(!files(&folder).is_empty(), "the journal makes a file")?;
        let server = start(context, &folder, "reject")?;
        let is_ready = until(PATIENCE, || server.get("/readyz").is_ok_and(|answer| answer.status == 200));
        let is_taken = is_ready && Ledger::new("ledger").try_post(&server, 0);
        broken += usize::from(!is_taken);
        drop(server);
        drop(std::fs::remove_dir_all(&folder));
        if broken == 3 && !context.is_full {
            report.number("stopped after", turn + 1);
            break;
        }
    }
    report.number("kills", count);
    report.number("left unusable", broken);
    report.promise(broken == 0, format!("{broken} kills left a journal that answers 503 for good"));
    Ok(())
}

/// Kills the server while two clients post with retries.
fn kills(context: &Context, report: &mut Report) -> Outcome {
    let folder = context.folder("journal-kills");
    let ledger = Ledger::new("ledger");
    let server = Mutex::new(std::sync::Arc::new(start(context, &folder, "reject")?.ready()?));
    let is_over = AtomicBool::new(false);
    let kills = context.count(150, 8);
    let ended: Outcome = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    let (number, events) = ledger.batch(120_000);
                    while !is_over.load(Relaxed) {
                        let current = server.lock().unwrap().clone();
                        if current.post_from(HONEST, "/audit", &events).is_ok_and(|answer| answer.status == 200) {
                            ledger.acknowledged.lock().unwrap().insert(number);
                            break;
                        }
                        pause(2);
                    }
                }
            });
        }
        let killing = (|| {
            let mut known = files(&folder).len();
            let mut seed = now() as u64 | 1;
            for turn in 0..kills {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // At a random moment, and in every second round right after a file was created.
                let started = Instant::now();
                let limit = Duration::from_millis(1500);
                while turn % 2 == 1 && files(&folder).len() <= known && started.elapsed() < limit {
                    std::hint::spin_loop();
                }
                let moment = Instant::now();
                let wait = Duration::from_micros((seed >> 33) % if turn % 2 == 1 { 4000 } else { 400_000 });
                while moment.elapsed() < wait {
                    std::hint::spin_loop();
                }
                let id = server.lock().unwrap().pid();
                drop(Command::new("kill").args(["-KILL", &id.to_string()]).status());
                // The process and its lock are only gone when all its threads are.
                let threads = format!("/proc/{id}/task");
                until(Duration::from_secs(10), || std::fs::read_dir(&threads).map_or(0, Iterator::count) <= 1);
                let next = start(context, &folder, "reject")?.ready()?;
                *server.lock().unwrap() = std::sync::Arc::new(next);
                known = files(&folder).len();
            }
            Ok(())
        })();
        is_over.store(true, Relaxed);
        killing
    });
    ended?;
    let server = server.into_inner().unwrap();
    let lost = ledger.lost(&server)?;
    let (_, complete_since) = ledger.history(&server)?;
    report.number("kills", kills);
    report.number("batches", ledger.count());
    report.number("files", files(&folder).len());
    control(ledger.count() > kills, "clients got through")?;
    // The oldest may have been removed because of the size limit.
    let newest: Vec<u64> = lost.into_iter().filter(|n| *n + 200 > ledger.count() as u64).collect();
    report.promise(
        newest.is_empty(),
        format!("{} acknowledged writes are gone ({newest:?}), complete since {complete_since}", newest.len()),
    );
    Ok(())
}

/// Deletes the directory under a running server.
fn deleted(context: &Context, report: &mut Report, on_failure: &str) -> Outcome {
    let folder = context.folder(&format!("journal-deleted-{on_failure}"));
    let ledger = Ledger::new("ledger");
    let mut server = start(context, &folder, on_failure)?.ready()?;
    for _ in 0..5 {
        ledger.post(&server, 0)?;
    }
    // What was stored is lost with the directory, which is not the server's fault.
    std::fs::remove_dir_all(&folder)?;
    ledger.acknowledged.lock().unwrap().clear();
    let (mut taken, mut is_told) = (0, false);
    for _ in 0..30 {
        taken += usize::from(ledger.try_post(&server, 0));
        is_told |= server.metric("editwar_journal_up") == 0.0;
        pause(200);
    }
    let log = server.log();
    report.number("answered 200", format!("{taken} of 30"));
    drop(server.terminate());
    std::fs::create_dir_all(&folder)?;
    let server = start(context, &folder, on_failure)?.ready()?;
    let lost = ledger.lost(&server).map_or(taken, |lost| lost.len());
    report.number("lost", lost);
    let is_logged = log.lines().any(|line| line.contains("ERROR") || line.contains("WARN"));
    report.promise(
        lost == 0 || is_told,
        format!("{lost} of {taken} acknowledged writes are gone, and editwar_journal_up stayed 1"),
    );
    report.promise(lost == 0 || is_logged, "writes are gone, and no line in the log says so");
    let is_refused = on_failure == "reject";
    report.promise(!is_refused || lost == 0, format!("under `reject`, {lost} acknowledged writes are gone"));
    Ok(())
}

/// Adds an event with this time to each batch.
fn late(context: &Context, report: &mut Report, folder: &str, dated: &str) -> Outcome {
    let folder = context.folder(folder);
    let ledger = Ledger::new("ledger");
    let mut server = Server::start(context, &["--journal", &folder.display().to_string()])?.ready()?;
    ledger.post(&server, 0)?;
    let (descriptors, count) = (server.descriptors(), context.count(1500, 60));
    for n in 0..count {
        let (number, mut events) = ledger.batch(0);
        events.push(Write::new("slow", "late", &n.to_string(), now()).line_dated(dated));
        server.post("/audit", &events)?;
        ledger.acknowledged.lock().unwrap().insert(number);
        if files(&folder).len() > 400 && !context.is_full {
            break;
        }
    }
    let (made, opened) = (files(&folder).len(), server.descriptors() - descriptors.min(server.descriptors()));
    report.number("batches", count);
    report.number("files", made);
    report.number("descriptors more", opened);
    report.promise(made <= 20, format!("{made} files after {count} batches"));
    report.promise(opened <= 24, format!("{opened} more descriptors after {count} batches"));
    server.terminate()?;
    let server = Server::start(context, &["--journal", &folder.display().to_string()])?.ready()?;
    let lost = ledger.lost(&server)?.len();
    report.promise(lost == 0, format!("{lost} acknowledged writes are gone after a restart"));
    Ok(())
}

/// Events with the same audit ID, URI, verb and time, for other objects, or for the same object with another body.
fn twins(context: &Context, report: &mut Report) -> Outcome {
    let folder = context.folder("journal-twins");
    let mut server = start(context, &folder, "degrade")?.ready()?;
    let first = Write::new("alice", "first", "1", now()).event();
    let mut second = first.clone();
    second["objectRef"]["name"] = "second".into();
    second["responseObject"]["metadata"]["name"] = "second".into();
    let mut third = first.clone();
    third["objectRef"]["namespace"] = "other".into();
    let mut fourth = first.clone();
    fourth["objectRef"]["resource"] = "secrets".into();
    for event in [&first, &second, &third, &fourth] {
        server.post("/audit", &[event.to_string()])?;
    }
    // An exact repetition counts once.
    server.post("/audit", &[first.to_string()])?;
    let paths = ["configmaps/shop/first", "configmaps/shop/second", "configmaps/other/first", "secrets/shop/first"];
    let check = |server: &Server, report: &mut Report, when: &str| -> Outcome {
        let count = crate::events::writes(server)?;
        report.promise(count == 4, format!("{when}: {count} writes are counted, of 4"));
        for path in paths {
            let known = server.get(&format!("/api/v1/objects/{path}"))?.status;
            report.promise(known == 200, format!("{when}: {path} is answered {known}"));
            let answer = server.json(&format!("/api/v1/objects/{path}/timeline?since=1h"));
            let count = answer.map_or(0, |of| of["timeline"].as_array().map_or(0, Vec::len));
            report.promise(count == 1, format!("{when}: the history of {path} has {count} writes, of 1"));
        }
        Ok(())
    };
    check(&server, report, "while it runs")?;
    server.terminate()?;
    let server = start(context, &folder, "degrade")?.ready()?;
    check(&server, report, "after a restart")
}

/// Writes more than the journal may keep to one object.
fn complete_since(context: &Context, report: &mut Report) -> Outcome {
    let folder = context.folder("journal-complete");
    let ledger = Ledger::new("ledger");
    let folder_text = folder.display().to_string();
    let arguments = ["--journal", &folder_text, "--set", "journal.max_size=16MiB"];
    let mut server = Server::start(context, &arguments)?.ready()?;
    let mut times: Vec<(u64, i64)> = Vec::new();
    for _ in 0..context.count(120, 36) {
        let at = now();
        let number = ledger.next.load(Relaxed);
        ledger.post(&server, 800_000)?;
        times.push((number, at));
    }
    let check = |server: &Server, report: &mut Report, when: &str| -> Result<usize, Failure> {
        let (found, since) = ledger.history(server)?;
        let since: Option<jiff::Timestamp> = since.as_str().and_then(|at| at.parse().ok());
        let Some(since) = since else {
            report.promise(false, format!("{when}: no complete_since, and {} of {} writes", found.len(), times.len()));
            return Ok(found.len());
        };
        // Each write is stamped just after this time.
        let missing = times.iter().filter(|(n, at)| *at >= since.as_microsecond() && !found.contains(n)).count();
        report.promise(missing == 0, format!("{when}: complete since {since}, and {missing} later writes are missing"));
        report.promise(!found.is_empty(), format!("{when}: nothing is kept"));
        Ok(found.len())
    };
    let kept = check(&server, report, "while it runs")?;
    control(kept < times.len(), "the oldest went")?;
    report.number("kept", format!("{kept} of {}", times.len()));
    server.terminate()?;
    let server = Server::start(context, &arguments)?.ready()?;
    check(&server, report, "after a restart")?;
    report.number("files", files(&folder).len());
    let answer = server.json("/api/v1/transitions?since=7d")?;
    control(answer["transitions"].is_array(), "transitions are answered")
}
