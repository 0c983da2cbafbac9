//! Tests of persistence: kills, restarts, full disks, damaged files.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use editwar::journal::disk::Disk;
use editwar::journal::record;
use editwar::journal::store::{Location, Retention, Store};
use serde_json::{Value, json};

use crate::cluster::{ALICE, BOB, Cluster, Level, OPERATOR};
use crate::serve::Server;
use crate::util;

/// Number of kills. 300 take some minutes: `EDITWAR_KILLS=300 cargo test --test it journal`.
const KILLS: usize = 10;
/// Events per batch.
const BATCH: usize = 10;

/// Returns an empty directory for a test.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("journal-{name}"));
    drop(std::fs::remove_dir_all(&folder));
    folder
}

/// Returns events of wars over some objects, and of others with a single writer.
pub(crate) fn load(rounds: usize) -> Vec<Vec<u8>> {
    let mut cluster = Cluster::new(Level::RequestResponse);
    let path = |n: usize| format!("configmaps/shop/config-{n}");
    for n in 0..8 {
        cluster.create(OPERATOR, &path(n), json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"v": "0"}}));
    }
    for round in 0..rounds {
        for n in 0..8 {
            cluster.wait(0.05);
            let (who, value) = match (n < 4, round % 2) {
                (true, 0) => (ALICE, "a".to_owned()),
                (true, _) => (BOB, "b".to_owned()),
                (false, _) => (OPERATOR, round.to_string()),
            };
            cluster.patch(who, &path(n), "", json!({"data": {"v": value}}));
        }
    }
    cluster.lines().map(<[u8]>::to_vec).collect()
}

pub(crate) fn body(lines: &[Vec<u8>]) -> Vec<u8> {
    let head = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    [head.as_slice(), &lines.join(&b','), b"]}"].concat()
}

/// Posts a batch once, as an API server does. Returns the status, if there was a response.
pub(crate) fn try_post(to: SocketAddr, body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = format!(
        "POST /audit HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// Returns what must be the same after any number of kills.
fn findings(server: &Server) -> Value {
    let report = server.json("/api/v1/wars");
    let thrashing: Vec<f64> = (0..4)
        .map(|n| {
            let labels = format!(r#"kind="ConfigMap",name="config-{n}",namespace="shop""#);
            server.metric(&format!("virt_platform_thrashing_total{{{labels}}}"))
        })
        .collect();
    json!({
        "wars": report["wars"], "hot_loops": report["hot_loops"], "contention": report["contention"],
        "flapping": report["flapping"], "thrashing": thrashing,
        // Two API servers may post the creation of an object after a write to it, which is no no-op then.
        "writes": writes(server),
    })
}

/// Returns how often each audit ID is in a closed journal.
pub(crate) fn kept(folder: &Path) -> BTreeMap<String, usize> {
    let retention = Retention { age: i64::MAX, bytes: u64::MAX, window: i64::MAX, ahead: 0 };
    let place = Location { disk: &Disk::default(), folder, retention, sets_aside: false };
    let (store, damages) = Store::open(place, &Arc::default(), i64::MAX).unwrap();
    assert!(damages.is_empty());
    let mut found = BTreeMap::new();
    let count = |_, packed: &[u8]| {
        let text = record::unpack(packed).unwrap();
        let event: Value = serde_json::from_slice(record::entry(&text).unwrap().event).unwrap();
        *found.entry(event["auditID"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    };
    store.reader().since(i64::MIN, count).unwrap();
    found
}

/// Posts batches to a server with these arguments that is killed again and again. Compares its findings with those of one that
/// is not, and returns the audit IDs.
fn kill_and_compare(arguments: &[&str], kills: usize) -> Vec<String> {
    let lines = load(kills.max(20) * 6);
    let batches: Vec<Vec<u8>> = lines.chunks(BATCH).map(body).collect();
    let mut server = Server::start(arguments).ready();
    let to = Mutex::new(server.webhook());
    let (answered, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    // At a random moment, since the promise must hold for all of them.
    let mut seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    std::thread::scope(|scope| {
        // Two API servers that post every other batch each. Only what was answered counts as acknowledged.
        for half in 0..2 {
            let (batches, to, answered, is_over) = (&batches, &to, &answered, &is_over);
            scope.spawn(move || {
                for batch in batches.iter().skip(half).step_by(2) {
                    while !is_over.load(Ordering::Relaxed) {
                        let address = *to.lock().unwrap();
                        if try_post(address, batch) == Some(200) {
                            answered.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                    }
                }
            });
        }
        let killing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for kill in 1..=kills {
                let goal = batches.len() * kill / (kills + 1);
                util::until("some batches are answered", || answered.load(Ordering::Relaxed) >= goal);
                let moment = SystemTime::now() + Duration::from_micros(random(4000));
                util::until("the moment has come", || SystemTime::now() >= moment);
                server.kill();
                server = Server::start(arguments);
                *to.lock().unwrap() = server.webhook();
            }
            util::until("all batches are answered", || answered.load(Ordering::Relaxed) == batches.len());
        }));
        is_over.store(true, Ordering::Relaxed);
        killing.unwrap();
    });
    // Everything again, long after it was answered.
    for batch in &batches[..20] {
        assert_eq!(try_post(server.webhook(), batch), Some(200));
    }
    let undisturbed = Server::start(&[]).ready();
    for batch in &batches {
        assert_eq!(try_post(undisturbed.webhook(), batch), Some(200));
    }
    let expected = findings(&undisturbed);
    assert_eq!(expected["wars"].as_array().unwrap().len(), 4, "the load has its wars");
    // Writes in a log are observed after they were acknowledged.
    util::until("the findings are those of a server that was not killed", || findings(&server) == expected);
    assert!(server.terminate().success());
    let id = |line: &Vec<u8>| serde_json::from_slice::<Value>(line).unwrap()["auditID"].as_str().unwrap().to_owned();
    lines.iter().map(id).collect()
}

/// How often servers are killed.
fn kills() -> usize {
    std::env::var("EDITWAR_KILLS").map_or(KILLS, |n| n.parse().unwrap())
}

#[test]
fn kills_at_any_moment_lose_nothing_and_count_nothing_twice() {
    let folder = folder("kills");
    let ids = kill_and_compare(&["--journal", folder.to_str().unwrap()], kills());
    let kept = kept(&folder);
    assert!(ids.iter().all(|id| kept.get(id) == Some(&1)), "each once");
    assert_eq!(kept.len(), ids.len());
}

#[cfg(feature = "kafka")]
#[test]
fn kills_at_any_moment_lose_nothing_of_a_log_on_kafka_and_count_nothing_twice() {
    let Some(broker) = crate::broker::Broker::start() else { return };
    let brokers = format!("kafka.brokers=[\"{}\"]", broker.address());
    let ids = kill_and_compare(&["--set", &brokers, "--set", "journal.kafka={}"], kills());
    // A record may be there twice, since a batch whose response was lost is sent again.
    let records = broker.consume("editwar.writes").into_iter().filter_map(|(_, packed)| record::unpack(&packed));
    let kept: std::collections::BTreeSet<String> = records
        .filter_map(|text| {
            let event: Value = serde_json::from_slice(record::entry(&text)?.event).ok()?;
            Some(event["auditID"].as_str()?.to_owned())
        })
        .collect();
    assert_eq!(kept, ids.into_iter().collect());
}

/// Starts a server with this journal, and waits until it reports the state of the journal.
pub(crate) fn start(folder: &Path, on_failure: &str) -> Server {
    let set = format!("journal.on_failure={on_failure}");
    let server = Server::start(&["--journal", folder.to_str().unwrap(), "--set", &set]);
    util::until("the journal is open, or is not", || {
        server.metric("editwar_journal_up") == 1.0 || server.said().contains("cannot write the journal")
    });
    server
}

/// Returns the number of ingested writes, including no-ops.
pub(crate) fn writes(server: &Server) -> u64 {
    let stats = &server.json("/api/v1/wars")["stats"];
    stats["writes"].as_u64().unwrap() + stats["no_ops"].as_u64().unwrap()
}

/// Checks the behaviour for an unusable journal: `degrade` runs without it, `reject` answers 503, and both report the
/// reason.
fn assert_says(server: &Server, on_failure: &str, words: &[&str]) {
    let said = server.said();
    assert!(words.iter().all(|word| said.contains(word)), "{words:?} in {said}");
    let lines = load(3);
    let answer = try_post(server.webhook(), &body(&lines));
    assert_eq!(server.metric("editwar_journal_up"), 0.0);
    if on_failure == "reject" {
        let (status, why) = server.get("/readyz");
        assert_eq!((answer, status), (Some(503), 503));
        assert!(words.iter().all(|word| why.contains(word)), "{words:?} in {why}");
        assert_eq!(writes(server), 0);
    } else {
        assert_eq!((answer, server.get("/readyz").0), (Some(200), 200));
        assert_eq!(server.metric(r#"editwar_journal_records_total{outcome="dropped"}"#), lines.len() as f64);
        assert_eq!(writes(server), lines.len() as u64);
    }
}

/// Returns the only file of a small journal.
fn file(folder: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    files.find(|path| path.extension().is_some_and(|e| e == "redb")).unwrap()
}

#[test]
fn damaged_files_and_other_versions_are_set_aside_or_rejected() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 3] = [
        ("damaged", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let end = bytes.len() * 2 / 3;
            bytes[4096..end].iter_mut().step_by(97).for_each(|b| *b ^= 0xff);
            std::fs::write(path, bytes).unwrap();
        }),
        ("damaged", |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("has format 0, but this editwar writes format 1", |path| {
            let database = redb::Database::open(path).unwrap();
            let write = database.begin_write().unwrap();
            write.open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", 0).unwrap();
            write.commit().unwrap();
        }),
    ];
    for (place, (words, damage)) in damages.into_iter().enumerate() {
        let folder = folder(&format!("damage-{place}"));
        let lines = load(20);
        let mut server = start(&folder, "degrade");
        assert_eq!(try_post(server.webhook(), &body(&lines)), Some(200));
        assert!(server.terminate().success());
        let path = file(&folder);
        damage(&path);

        let server = start(&folder, "reject");
        assert_says(&server, "reject", &[words, path.to_str().unwrap(), "move it away"]);
        drop(server);
        // With `degrade`, the server sets the file aside by itself.
        let mut server = start(&folder, "degrade").ready();
        // The log is read by another thread.
        util::until("it is said", || {
            server.said().contains("renamed a damaged journal file") && server.said().contains(words)
        });
        assert_eq!(server.metric("editwar_journal_up"), 1.0);
        assert_eq!(try_post(server.webhook(), &body(&lines)), Some(200));
        assert!(server.terminate().success());
        assert!(path.with_extension("redb.aside").exists());
        assert_eq!(kept(&folder).len(), lines.len());
    }
}

#[test]
fn an_unwritable_directory_is_reported_and_used_once_writable() {
    for on_failure in ["degrade", "reject"] {
        let folder = folder(&format!("readonly-{on_failure}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_editwar"));
        // Permissions do not apply to root.
        if folder.metadata().unwrap().uid() == 0 {
            command.uid(65_534);
        }
        let set = format!("journal.on_failure={on_failure}");
        let server = Server::start_as(command, "127.0.0.1:0", &["--journal", folder.to_str().unwrap(), "--set", &set]);
        util::until("it is said", || server.said().contains("cannot write the journal"));
        assert_says(&server, on_failure, &[folder.to_str().unwrap(), "Permission denied"]);
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        util::until("it is used", || server.metric("editwar_journal_up") == 1.0);
        assert_eq!((try_post(server.webhook(), &body(&load(3))), server.get("/readyz").0), (Some(200), 200));
        assert_eq!(server.metric(r#"editwar_journal_records_total{outcome="committed"}"#), load(3).len() as f64);
    }
}

#[test]
fn a_full_disk_is_reported_and_loses_no_committed_record() {
    for on_failure in ["degrade", "reject"] {
        let folder = folder(&format!("full-{on_failure}"));
        // Limits files of this process to 2 MiB.
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap "" XFSZ; ulimit -S -f 4096; exec "$0" "$@""#, env!("CARGO_BIN_EXE_editwar")]);
        let set = format!("journal.on_failure={on_failure}");
        let mut server =
            Server::start_as(command, "127.0.0.1:0", &["--journal", folder.to_str().unwrap(), "--set", &set]).ready();
        let lines = load(1000);
        let mut answers = Vec::new();
        for batch in lines.chunks(100) {
            answers.push(try_post(server.webhook(), &body(batch)).unwrap());
        }
        let said = server.said();
        assert!(said.contains("File too large") && said.contains("free some space"), "{said}");
        let is_refusing = on_failure == "reject";
        assert_eq!(answers.contains(&503), is_refusing, "{answers:?}");
        assert_eq!(writes(&server) == lines.len() as u64, !is_refusing);

        let pid = server.pid().to_string();
        assert!(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().unwrap().success());
        util::until("there is space again", || server.metric("editwar_journal_up") == 1.0);
        for batch in lines.chunks(100) {
            assert_eq!(try_post(server.webhook(), &body(batch)), Some(200));
        }
        assert_eq!(writes(&server), lines.len() as u64);
        assert!(server.terminate().success());
        assert_eq!(kept(&folder).len(), lines.len());
    }
}

#[test]
fn two_servers_cannot_share_a_journal() {
    let folder = folder("shared");
    let _first = start(&folder, "reject").ready();
    let second = start(&folder, "reject");
    assert_says(&second, "reject", &["another process has it open"]);
}

#[test]
fn the_history_has_each_write_once_even_after_a_restart() {
    let folder = folder("history");
    let mut cluster = Cluster::new(Level::RequestResponse);
    // All times are before the current time.
    cluster.wait(-10.0 * 86_400.0);
    let path = "configmaps/shop/old";
    cluster.create(OPERATOR, path, json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"v": "0"}}));
    for n in 1..=1000 {
        cluster.wait(1.0);
        let who = if n % 2 == 0 { ALICE } else { BOB };
        cluster.patch(who, path, "", json!({"data": {"v": n.to_string()}}));
    }
    // After three quiet days, none of this is in the window that is replayed.
    cluster.wait(3.0 * 86_400.0);
    cluster.create(OPERATOR, "configmaps/shop/new", json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {}}));
    let lines: Vec<Vec<u8>> = cluster.lines().map(<[u8]>::to_vec).collect();

    let mut server = start(&folder, "reject");
    for batch in lines.chunks(400).chain(lines[..400].chunks(400)) {
        assert_eq!(try_post(server.webhook(), &body(batch)), Some(200));
    }
    assert!(server.terminate().success());
    let server = start(&folder, "reject").ready();
    let object = "/api/v1/objects/configmaps/shop/old";
    assert_eq!(server.get(&format!("{object}/timeline")).0, 404, "it is beyond the window");
    for since in ["7d", "2020-01-01T00:00:00Z"] {
        let timeline = server.json(&format!("{object}/timeline?since={since}"));
        let value = |moment: &Value| moment["changes"][0]["new"].as_str().unwrap_or_default().to_owned();
        let values: Vec<String> = timeline["timeline"].as_array().unwrap().iter().map(value).collect();
        // The creation, followed by every patch.
        assert_eq!(values.len(), 1001);
        assert!(values[1..].iter().eq((1..=1000).map(|n| n.to_string()).collect::<Vec<_>>().iter()), "{values:?}");
        assert!(timeline["complete_since"].is_string());
    }
    assert_eq!(server.get(&format!("{object}?since=2d")).0, 404, "nobody wrote to it since");
}

#[test]
fn who_since_reads_the_journal_of_a_server() {
    let folder = folder("who");
    let mut server = start(&folder, "degrade");
    server.post_log("webhook-capture");
    assert!(server.terminate().success());
    let server = start(&folder, "degrade").ready();
    let who = |arguments: &[&str], server: &Server| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_editwar"));
        let output = command.arg("who").args(arguments).env("EDITWAR_SERVER", server.url("")).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, now) = who(&["cm/wh", "-n", "war"], &server);
    assert_eq!(code, 1, "{now}");
    let (code, week) = who(&["cm/wh", "-n", "war", "--since", "7d"], &server);
    assert_eq!(code, 1, "{week}");
    assert_eq!(now.lines().next(), week.lines().next());
    let (code, words) = who(&["cm/wh", "-n", "war", "--since", "yesterday"], &server);
    assert!(code == 2 && words.contains("expected a time"), "{words}");
    let (code, words) = who(&["cm/none", "-n", "war", "--since", "7d"], &server);
    assert!(code == 2 && words.contains("no cm named \"none\" in namespace war"), "{words}");
    let (code, words) = who(&["cm/wh", "--since", "7d"], &Server::start(&[]).ready());
    assert!(code == 2 && words.contains("--journal DIR"), "{words}");
}

/// Returns the transitions in the journal.
fn transitions(server: &Server) -> Value {
    server.json("/api/v1/transitions?since=7d")["transitions"].clone()
}

#[test]
fn transitions_in_the_journal_are_the_same_after_kills() {
    compare_transitions("disk", &[], &[]);
}

#[cfg(feature = "kafka")]
#[test]
fn transitions_that_follow_from_a_log_on_kafka_are_the_same_after_kills() {
    let Some(broker) = crate::broker::Broker::start() else { return };
    let brokers = format!("kafka.brokers=[\"{}\"]", broker.address());
    let log = |topic| ["--set", brokers.as_str(), "--set", topic];
    compare_transitions("log", &log("journal.kafka={topic: steady}"), &log("journal.kafka={topic: killed}"));
}

/// Compares the transitions of a server with these arguments with those of another one that is killed again and again.
fn compare_transitions(name: &str, steady: &[&str], killed: &[&str]) {
    let lines = load(30);
    let batches: Vec<Vec<u8>> = lines.chunks(BATCH).map(body).collect();
    let start = |more: &[&str], folder: &Path| {
        Server::start(&[&["--journal", folder.to_str().unwrap()][..], more].concat()).ready()
    };
    let undisturbed = start(steady, &folder(&format!("steady-{name}")));
    for batch in &batches {
        assert_eq!(try_post(undisturbed.webhook(), batch), Some(200));
    }
    let folder = folder(&format!("killed-{name}"));
    let mut server = start(killed, &folder);
    for (place, batch) in batches.iter().enumerate() {
        assert_eq!(try_post(server.webhook(), batch), Some(200));
        // Right after the response: the resulting transition may not be on disk yet.
        if place % 3 == 0 {
            server.kill();
            server = start(killed, &folder);
        }
    }
    let states = |of: &Value, name: &str| -> Vec<(String, String)> {
        let text = |turn: &Value, key: &str| turn[key].as_str().unwrap().to_owned();
        let mine = of.as_array().unwrap().iter().filter(|transition| transition["object"]["name"] == name);
        mine.map(|transition| (text(transition, "from"), text(transition, "to"))).collect()
    };
    util::until("the last transitions are kept", || !transitions(&undisturbed).as_array().unwrap().is_empty());
    server.kill();
    server = start(killed, &folder);
    util::until("both tell the same", || transitions(&server) == transitions(&undisturbed));
    let told = transitions(&server);
    for n in 0..4 {
        let expected = [("calm", "contested"), ("contested", "thrashing"), ("thrashing", "sustained")];
        let expected = expected.map(|(from, to)| (from.to_owned(), to.to_owned()));
        assert_eq!(states(&told, &format!("config-{n}")), expected, "{told:#}");
    }
    for n in 4..8 {
        assert!(states(&told, &format!("config-{n}")).is_empty(), "one writer has no war");
    }
    // The transitions of one object are part of its timeline and of the command's output.
    let one = server.json("/api/v1/objects/configmaps/shop/config-1/timeline?since=7d");
    assert_eq!(one["transitions"].as_array().unwrap().len(), 3);
    assert_eq!(server.json("/api/v1/transitions?since=7d&name=config-2")["transitions"].as_array().unwrap().len(), 3);
    let url = server.url("");
    let (code, out, err) =
        crate::cli::run(&["wars", "--server", &url, "--transitions", "--since", "7d", "-n", "shop"], None);
    assert_eq!(code, 1, "{err}");
    assert_eq!(out.lines().filter(|line| line.contains("ConfigMap shop/config-")).count(), 12, "{out}");
    assert!(out.contains("thrashing  sustained") || out.contains("thrashing   sustained"), "{out}");
    let (code, out, _) =
        crate::cli::run(&["wars", "--server", &url, "--transitions", "--since", "7d", "-n", "other"], None);
    assert!(code == 0 && out.starts_with("no verdict has changed since"), "{out}");
    assert_eq!(Server::start(&[]).ready().get("/api/v1/transitions").0, 501);
}

#[test]
fn lines_of_a_tailed_log_are_in_the_journal_exactly_once() {
    let folder = folder("follow");
    std::fs::create_dir_all(&folder).unwrap();
    let (log, checkpoint) = (folder.join("audit.log"), folder.join("state.json"));
    let lines = load(60);
    let mut file = std::fs::File::create(&log).unwrap();
    let start = || {
        Server::start(&[
            "--journal",
            folder.join("journal").to_str().unwrap(),
            "--tail",
            log.to_str().unwrap(),
            "--set",
            &format!("tail.checkpoint={}", checkpoint.display()),
        ])
    };
    let mut server = start();
    for (place, chunk) in lines.chunks(40).enumerate() {
        for line in chunk {
            file.write_all(line).unwrap();
            file.write_all(b"\n").unwrap();
        }
        let goal = ((place + 1) * 40).min(lines.len()) as u64;
        match place % 3 {
            0 => server.kill(),
            1 => util::until("it is taken in", || writes(&server) == goal),
            _ => continue,
        }
        if place % 3 == 0 {
            server = start();
        }
    }
    util::until("all is taken in", || writes(&server) == lines.len() as u64);
    assert!(server.terminate().success());
    let kept = kept(&folder.join("journal"));
    assert_eq!(kept.len(), lines.len());
    assert!(kept.values().all(|count| *count == 1));
    // The state is restored from the journal, although the checkpoint is at the end of the log.
    let again = start().ready();
    assert_eq!(writes(&again), lines.len() as u64);
    assert_eq!(again.json("/api/v1/wars")["wars"].as_array().unwrap().len(), 4);
}
