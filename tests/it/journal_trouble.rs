//! What the journal guarantees under wrong clocks, deleted directories, full disks, kills while a file is created, and
//! similar requests.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::journal::{body, folder, kept, load, start};
use crate::serve::Server;
use crate::util;

/// Number of kills while a file is created. 400 take some minutes: `EDITWAR_KILLS=400`.
const KILLS: usize = 24;
/// An hour in seconds.
const HOUR: i64 = 3600;

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

/// A write to `data.v` of a ConfigMap. `at` is in seconds since the epoch, or a literal timestamp.
fn write(id: &str, name: &str, value: &str, at: &str) -> Vec<u8> {
    let object = json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")}, "data": {"v": value},
    });
    let event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": id,
        "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/shop/configmaps", "verb": "create",
        "user": {"username": "alice"}, "sourceIPs": ["10.0.0.1"], "userAgent": "tool/v1",
        "objectRef": {"resource": "configmaps", "namespace": "shop", "name": name, "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201}, "requestObject": object, "responseObject": object,
        "requestReceivedTimestamp": at, "stageTimestamp": at,
    });
    serde_json::to_vec(&event).unwrap()
}

fn time(seconds: i64) -> String {
    format!("{:.6}", jiff::Timestamp::from_second(seconds).unwrap())
}

/// Posts one batch. Returns the status.
fn post(server: &Server, lines: &[Vec<u8>]) -> u16 {
    server.post("/audit", &body(lines)).0
}

/// Returns the names of the journal's data files.
fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".redb")).collect()
}

fn descriptors(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count()
}

/// Returns the number of errors in the log.
fn errors(server: &Server) -> usize {
    server.said().lines().filter(|line| line.contains("ERROR")).count()
}

#[test]
fn late_and_early_events_do_not_use_up_files_or_descriptors() {
    let folder = folder("late");
    let server = start(&folder, "reject").ready();
    let at_first = descriptors(&server);
    let times = [
        "0001-01-01T00:00:00.000000Z".to_owned(),
        time(now() - 30 * HOUR),
        time(now() - 24 * 6 * HOUR),
        "2300-01-01T00:00:00.000000Z".to_owned(),
    ];
    for n in 0..60 {
        let late = write(&format!("late-{n}"), &format!("late-{n}"), "v", &times[n % times.len()]);
        let timely = write(&format!("timely-{n}"), &format!("timely-{n}"), "v", &time(now()));
        assert_eq!(post(&server, &[late, timely]), 200);
    }
    assert!(files(&folder).len() <= 3, "{:?}", files(&folder));
    assert!(descriptors(&server) <= at_first + 6, "{} descriptors, {at_first} at first", descriptors(&server));
    // Records with implausible times are stored unchanged.
    drop(server);
    assert_eq!(kept(&folder).len(), 120);
}

#[test]
fn a_kill_during_file_creation_loses_nothing_and_blocks_no_start() {
    let kills: usize = std::env::var("EDITWAR_KILLS").map_or(KILLS, |n| n.parse().unwrap());
    let mut seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    // A new file after each hour of event time, so that every batch creates one.
    let arguments = |folder: &Path| {
        ["--journal", folder.to_str().unwrap(), "--set", "journal.on_failure=reject", "--set", "journal.retention=16h"]
            .map(str::to_owned)
    };
    let everything = |folder: &Path| {
        let entries = std::fs::read_dir(folder).map(|entries| entries.filter_map(|e| Some(e.ok()?.path())));
        entries.map(|e| e.collect::<std::collections::BTreeSet<_>>()).unwrap_or_default()
    };
    let folder = folder("begin");
    let mut answered: BTreeMap<String, ()> = BTreeMap::new();
    for kill in 0..kills {
        // Half of the kills are at the first file of a journal.
        let is_first = kill % 2 == 0;
        if is_first {
            drop(std::fs::remove_dir_all(&folder));
            answered.clear();
        }
        let arguments = arguments(&folder);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let before = everything(&folder);
        let delay = Duration::from_micros(random(4000));
        let mut server = if is_first { Server::start(&arguments) } else { Server::start(&arguments).ready() };
        let lines: Vec<(String, Vec<u8>)> = (0..4)
            .map(|n| {
                let id = format!("{kill}-{n}");
                let at = time(now() - (kills - kill) as i64 * 10 * HOUR + n * 2 * HOUR);
                (id.clone(), write(&id, &format!("c-{n}"), &id, &at))
            })
            .collect();
        let to = server.webhook();
        let poster = (!is_first).then(|| {
            std::thread::spawn(move || {
                let mut answered = Vec::new();
                for (id, line) in lines {
                    if crate::journal::try_post(to, &body(&[line])) == Some(200) {
                        answered.push(id);
                    }
                }
                answered
            })
        });
        let started = Instant::now();
        while everything(&folder) == before && started.elapsed() < Duration::from_secs(5) {}
        let moment = Instant::now() + delay;
        while Instant::now() < moment {}
        server.kill();
        answered.extend(poster.into_iter().flat_map(|poster| poster.join().unwrap()).map(|id| (id, ())));
        let mut server = Server::start(&arguments);
        util::until("it has said whether it can go on", || {
            server.get("/readyz").0 == 200 || server.said().contains("cannot write the journal")
        });
        assert_eq!(server.get("/readyz").0, 200, "kill {kill}, {delay:?} after the change: {}", server.said());
        server.kill();
        let kept = kept(&folder);
        for id in answered.keys() {
            assert!(kept.contains_key(id), "kill {kill}: {id} was answered and is gone");
        }
    }
}

#[test]
fn a_deleted_journal_is_reported_and_created_again() {
    for on_failure in ["reject", "degrade"] {
        let folder = folder(&format!("deleted-{on_failure}"));
        let mut server = start(&folder, on_failure).ready();
        assert_eq!(post(&server, &[write("before", "a", "1", &time(now() - 60))]), 200);
        std::fs::remove_dir_all(&folder).unwrap();
        let status = post(&server, &[write("at", "b", "1", &time(now() - 30))]);
        let lost = server.metric(r#"editwar_journal_records_total{outcome="dropped"}"#);
        match on_failure {
            "reject" => assert_eq!((status, lost), (503, 0.0)),
            _ => assert_eq!((status, lost), (200, 1.0)),
        }
        util::until("it is told", || server.said().contains("was deleted"));
        util::until("it is made anew", || server.metric("editwar_journal_up") == 1.0 && !files(&folder).is_empty());
        assert_eq!(errors(&server), 1, "{}", server.said());
        let anew = time(now());
        assert_eq!(post(&server, &[write("after", "a", "2", &anew)]), 200);
        // The history does not claim to include what was deleted with the directory.
        let timeline = server.json("/api/v1/objects/configmaps/shop/a/timeline?since=1h");
        assert_eq!(timeline["timeline"].as_array().unwrap().len(), 1, "{timeline}");
        assert!(timeline["complete_since"].as_str().unwrap() > time(now() - 30).as_str(), "{timeline}");
        assert!(server.terminate().success());
        assert_eq!(kept(&folder).into_keys().collect::<Vec<_>>(), ["after"]);
    }
    // The deletion is noticed without any writes.
    let folder = folder("deleted-silently");
    let server = start(&folder, "reject").ready();
    std::fs::remove_dir_all(&folder).unwrap();
    util::until("it is told", || server.said().contains("was deleted"));
    util::until("it is made anew", || server.get("/readyz").0 == 200 && !files(&folder).is_empty());
}

#[test]
fn different_requests_with_the_same_audit_id_are_all_kept() {
    let folder = folder("twins");
    let mut server = start(&folder, "reject").ready();
    let at = time(now() - 60);
    let twins = [
        write("twin", "one", "1", &at),
        write("twin", "two", "1", &at),
        // The same ID with another body, and from another user.
        write("twin", "two", "2", &at),
        String::from_utf8(write("twin", "two", "2", &at)).unwrap().replace("alice", "bob").into_bytes(),
    ];
    assert_eq!(post(&server, &twins), 200);
    // Again, like an API server that got no response.
    assert_eq!(post(&server, &twins), 200);
    let report = server.json("/api/v1/wars");
    assert_eq!(report["stats"]["duplicates"], 4, "{report}");
    for (name, writes) in [("one", 1), ("two", 3)] {
        let timeline = server.json(&format!("/api/v1/objects/configmaps/shop/{name}/timeline?since=1h"));
        assert_eq!(timeline["timeline"].as_array().unwrap().len(), writes, "{name}: {timeline}");
    }
    assert!(server.terminate().success());
    assert_eq!(kept(&folder), [("twin".to_owned(), 4)].into());
}

#[test]
fn complete_since_advances_when_the_size_limit_removes_writes() {
    let folder = folder("complete");
    let arguments = ["--journal", folder.to_str().unwrap(), "--set", "journal.max_size=24MiB"];
    let server = Server::start(&arguments).ready();
    let started = now();
    // Values that cannot be compressed.
    let mut state = 1_u64;
    let mut noise = |bytes: usize| -> String {
        let digit = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-"[(*state >> 58) as usize])
        };
        (0..bytes).map(|_| digit(&mut state)).collect()
    };
    let count = 300;
    for n in 0..count {
        let at = time(started - count + n);
        assert_eq!(post(&server, &[write(&format!("n-{n}"), "big", &noise(100_000), &at)]), 200);
    }
    let timeline = server.json("/api/v1/objects/configmaps/shop/big/timeline?since=1h");
    let times: Vec<&str> = timeline["timeline"].as_array().unwrap().iter().map(|m| m["at"].as_str().unwrap()).collect();
    let complete = timeline["complete_since"].as_str().unwrap();
    assert!(times.len() > 5 && times.len() < count as usize, "{} writes", times.len());
    // From that time on every second has its write, and the one before is missing.
    let complete: jiff::Timestamp = complete.parse().unwrap();
    let expected = (0..count).map(|n| started - count + n).filter(|at| *at >= complete.as_second()).count();
    let told = times.iter().filter(|at| at.parse::<jiff::Timestamp>().unwrap() >= complete).count();
    assert!(complete.as_second() > started - count, "{complete}");
    assert!(told.abs_diff(expected) <= 1 && told > 0, "{told} told, {expected} expected from {complete} on");
    let transitions: Value = server.json("/api/v1/transitions?since=1h");
    assert!(
        transitions["complete_since"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() >= complete,
        "{transitions}"
    );
}

/// Returns when a file was last created or removed in a folder. Each attempt to open a journal creates and removes one.
fn changed(folder: &Path) -> SystemTime {
    std::fs::metadata(folder).unwrap().modified().unwrap()
}

#[test]
fn a_full_disk_is_reported_everywhere_and_logged_once() {
    for on_failure in ["degrade", "reject"] {
        let folder = folder(&format!("flap-{on_failure}"));
        // Limits files of this process to 2 MiB.
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap "" XFSZ; ulimit -S -f 4096; exec "$0" "$@""#, env!("CARGO_BIN_EXE_editwar")]);
        let set = format!("journal.on_failure={on_failure}");
        let server =
            Server::start_as(command, "127.0.0.1:0", &["--journal", folder.to_str().unwrap(), "--set", &set]).ready();
        let lines = load(1000);
        let batches: Vec<&[Vec<u8>]> = lines.chunks(100).collect();
        let mut posted = 0;
        while server.metric("editwar_journal_up") == 1.0 {
            post(&server, batches[posted]);
            posted += 1;
        }
        // Both without writes, and while others keep trying: until the server has tried several times in vain.
        let is_reported = || {
            assert_eq!(server.metric("editwar_journal_up"), 0.0, "{on_failure}");
            assert_eq!(server.get("/readyz").0 == 503, on_failure == "reject");
        };
        let tries_in_vain = |count: usize| {
            for _ in 0..count {
                let before = changed(&folder);
                util::until("it is tried again", || {
                    is_reported();
                    changed(&folder) != before
                });
            }
        };
        tries_in_vain(2);
        for _ in 0..4 {
            assert_eq!(post(&server, batches[posted]), if on_failure == "reject" { 503 } else { 200 });
            is_reported();
        }
        tries_in_vain(2);
        assert_eq!(errors(&server), 1, "{}", server.said());
        let pid = server.pid().to_string();
        assert!(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().unwrap().success());
        util::until("there is space again", || server.metric("editwar_journal_up") == 1.0);
        assert_eq!((post(&server, batches[posted]), server.get("/readyz").0), (200, 200));
        assert_eq!(errors(&server), 1, "{}", server.said());
    }
}

#[test]
fn a_pipe_or_directory_in_place_of_a_tailed_log_stops_nothing_else() {
    for what in ["pipe", "directory"] {
        let folder = folder(&format!("follow-{what}"));
        std::fs::create_dir_all(&folder).unwrap();
        let (log, other) = (folder.join("audit.log"), folder.join("other.log"));
        let line = |id: &str| [write(id, id, "1", &time(now())), b"\n".to_vec()].concat();
        let append = |log: &Path, id: &str| {
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
            std::io::Write::write_all(&mut file, &line(id)).unwrap();
        };
        append(&log, "first");
        append(&other, "other-first");
        let arguments = ["--tail", log.to_str().unwrap(), "--tail", other.to_str().unwrap()];
        let mut server = Server::start(&arguments).ready();
        let writes = || server.json("/api/v1/wars")["stats"]["writes"].as_u64().unwrap();
        util::until("both logs are read", || writes() == 2);
        std::fs::rename(&log, folder.join("gone.log")).unwrap();
        match what {
            "pipe" => assert!(Command::new("mkfifo").arg(&log).status().unwrap().success()),
            _ => std::fs::create_dir(&log).unwrap(),
        }
        util::until("it is told", || server.said().contains("not a regular file"));
        let up = format!("editwar_tail_up{{file=\"{}\"}}", log.display());
        util::until("a metric says so", || server.metric(&up) == 0.0 && server.get("/metrics").1.contains(&up));
        append(&other, "other-second");
        util::until("the other log is read on", || writes() == 3);
        match what {
            "pipe" => std::fs::remove_file(&log).unwrap(),
            _ => std::fs::remove_dir(&log).unwrap(),
        }
        append(&log, "second");
        util::until("the log is read again", || writes() == 4 && server.metric(&up) == 1.0);
        assert!(server.terminate().success());
    }
}
