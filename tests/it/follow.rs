//! Tailing of a log through rotations, truncations and crashes.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use editwar::ingest::tail::{Checkpoint, Position, Step, Tail};
use serde_json::json;

use crate::envtest::{ApiServer, pause, scratch, wait_until};
use crate::util;

/// Number of random sequences, with 200 rotations each.
const SEEDS: u64 = 4;

/// A small random number generator: the same seed results in the same sequence.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Naming scheme of rotated files.
#[derive(Clone, Copy, PartialEq)]
enum Scheme {
    /// `audit-2026-02-11T10-00-00.000.log`, as by kube-apiserver.
    Stamp,
    /// `audit.log.1`, as by logrotate, which increments the numbers of older files.
    Number,
}

/// The writer of a log, which records what it has written.
struct Writer {
    scheme: Scheme,
    path: PathBuf,
    dice: Dice,
    lines: u64,
    bytes: u64,
    rotations: u64,
}

impl Writer {
    fn new(path: PathBuf, seed: u64) -> Writer {
        Writer { scheme: Scheme::Stamp, path, dice: Dice(seed), lines: 0, bytes: 0, rotations: 0 }
    }

    /// Returns a unique event, of varying length.
    fn line(&mut self) -> String {
        let number = self.lines;
        let at = jiff::Timestamp::from_microsecond(1_795_400_000_000_000 + number as i64 * 1_000).unwrap();
        let pad = "x".repeat(self.dice.roll(900) as usize);
        let event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
            "auditID": format!("id-{number}"), "stage": "ResponseComplete",
            "requestURI": format!("/api/v1/namespaces/shop/configmaps/c{}?{pad}", number % 100), "verb": "update",
            "user": {"username": "alice"}, "userAgent": "tool/v1",
            "objectRef": {"resource": "configmaps", "namespace": "shop", "name": format!("c{}", number % 100), "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 200},
            "requestReceivedTimestamp": format!("{at:.6}"), "stageTimestamp": format!("{at:.6}"),
        });
        self.lines += 1;
        let line = format!("{event}\n");
        self.bytes += line.len() as u64;
        line
    }

    fn append(&mut self, count: u64) {
        let text: String = (0..count).map(|_| self.line()).collect();
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).unwrap();
        // In two parts, so that a reader may see half a line.
        let middle = text.len() / 2;
        file.write_all(&text.as_bytes()[..middle]).unwrap();
        file.write_all(&text.as_bytes()[middle..]).unwrap();
    }

    /// Returns the name for the next rotated file.
    fn rotated_name(&mut self) -> PathBuf {
        self.rotations += 1;
        if self.scheme == Scheme::Number {
            let name = |number: usize, end: &str| self.path.with_file_name(format!("audit.log.{number}{end}"));
            let is_there = |number: usize| name(number, "").exists() || name(number, ".gz").exists();
            for number in (1..(1..).find(|n| !is_there(*n)).unwrap()).rev() {
                for end in ["", ".gz"] {
                    if name(number, end).exists() {
                        std::fs::rename(name(number, end), name(number + 1, end)).unwrap();
                    }
                }
            }
            return name(1, "");
        }
        let at = jiff::Timestamp::from_millisecond(1_795_400_000_000 + self.rotations as i64).unwrap();
        self.path.with_file_name(format!("audit-{}.log", at.strftime("%Y-%m-%dT%H-%M-%S.%3f")))
    }

    /// Rotates the log by renaming it.
    fn rename(&mut self) -> PathBuf {
        let name = self.rotated_name();
        std::fs::rename(&self.path, &name).unwrap();
        name
    }

    /// Rotates the log by copying and truncating it.
    fn copy_and_truncate(&mut self) {
        let name = self.rotated_name();
        std::fs::copy(&self.path, name).unwrap();
        File::options().write(true).open(&self.path).unwrap().set_len(0).unwrap();
    }
}

/// Returns the rotated files that are not compressed.
fn uncompressed(folder: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        names.filter(|path| !path.ends_with("audit.log") && path.extension().is_none_or(|e| e != "gz")).collect();
    found.sort();
    found
}

/// Compresses a file as lumberjack does: writes directly to the final name, and deletes the plain file at the end.
fn compress(path: &Path) {
    let text = std::fs::read(path).unwrap();
    let mut packed = flate2::write::GzEncoder::new(
        File::create(format!("{}.gz", path.display())).unwrap(),
        flate2::Compression::fast(),
    );
    for piece in text.chunks(4096) {
        packed.write_all(piece).unwrap();
        packed.flush().unwrap();
    }
    packed.finish().unwrap();
    std::fs::remove_file(path).unwrap();
}

/// A reader that loses everything that it has not committed when it is killed.
struct Reader {
    tail: Tail,
    pending: Vec<String>,
    committed: Vec<String>,
    position: Option<Position>,
}

impl Reader {
    fn new(path: &Path) -> Reader {
        Reader { tail: Tail::new(path.into(), None), pending: Vec::new(), committed: Vec::new(), position: None }
    }

    fn step(&mut self) -> Step {
        let pending = &mut self.pending;
        self.tail
            .step(&mut |lines| pending.extend(String::from_utf8(lines.to_vec()).unwrap().lines().map(str::to_owned)))
            .unwrap()
    }

    fn read_all(&mut self) {
        while self.step() == Step::More {}
    }

    fn commit(&mut self) {
        self.committed.append(&mut self.pending);
        self.position = self.tail.position().cloned();
    }

    fn kill(&mut self) {
        self.pending.clear();
        self.tail = Tail::new(self.tail.path().to_owned(), self.position.clone());
    }

    /// Returns the IDs of all events, in the order of ingestion.
    fn ids(&self) -> Vec<u64> {
        let id = |line: &String| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["auditID"].as_str().unwrap().strip_prefix("id-").unwrap().parse().unwrap()
        };
        self.committed.iter().map(id).collect()
    }
}

#[test]
fn an_empty_rotated_file_does_not_hide_others_if_the_log_was_deleted() {
    for scheme in [Scheme::Stamp, Scheme::Number] {
        let folder = scratch("tail-empty");
        let mut writer = Writer { scheme, ..Writer::new(folder.join("audit.log"), 1) };
        let mut reader = Reader::new(&writer.path);
        writer.append(1);
        reader.read_all();
        reader.commit();
        // Only the times show that the second line is new.
        std::fs::remove_file(&writer.path).unwrap();
        reader.kill();
        writer.append(1);
        writer.rename();
        writer.append(0);
        writer.rename();
        writer.append(1);
        reader.read_all();
        reader.commit();
        assert_eq!(reader.ids(), [0, 1, 2]);
    }
}

#[test]
fn a_log_copied_and_truncated_before_it_is_read_is_read_from_the_copy() {
    let mut writer = Writer::new(scratch("tail-queued").join("audit.log"), 1);
    let mut reader = Reader::new(&writer.path);
    writer.append(1);
    reader.read_all();
    writer.rename();
    writer.append(1);
    // Finds that the first file is finished, and opens the second one.
    assert_eq!(reader.step(), Step::More);
    writer.copy_and_truncate();
    writer.append(1);
    reader.read_all();
    reader.commit();
    assert_eq!(reader.ids(), [0, 1, 2]);
}

#[test]
fn every_line_is_ingested_once_and_in_order_through_random_rotations() {
    for seed in 0..SEEDS {
        let folder = scratch("tail");
        let scheme = if seed % 2 == 0 { Scheme::Stamp } else { Scheme::Number };
        let mut writer = Writer { scheme, ..Writer::new(folder.join("audit.log"), seed) };
        let mut reader = Reader::new(&writer.path);
        let mut dice = Dice(seed + 1000);
        // Tailing starts with the file that exists at the first step.
        writer.append(1);
        reader.read_all();
        reader.commit();
        while writer.rotations < 200 {
            if dice.roll(20) > 0 {
                let count = dice.roll(12);
                writer.append(count);
            }
            match dice.roll(12) {
                // Several rotations in a row without a step, as if the reader was down.
                0..=2 if writer.path.exists() => drop(writer.rename()),
                // Newest first, like lumberjack.
                3 => uncompressed(&folder).iter().rev().for_each(|path| compress(path)),
                4 => {
                    // Everything is read first, since data that is truncated before it is read is lost.
                    reader.read_all();
                    reader.commit();
                    if writer.path.exists() {
                        match dice.roll(3) {
                            0 => writer.copy_and_truncate(),
                            1 => File::options().write(true).open(&writer.path).unwrap().set_len(0).unwrap(),
                            _ => std::fs::remove_file(&writer.path).unwrap(),
                        }
                    }
                }
                5 => reader.commit(),
                6 => reader.kill(),
                7 => reader.read_all(),
                8 => {
                    // Files that were read completely and checkpointed may be deleted.
                    reader.read_all();
                    reader.commit();
                    uncompressed(&folder).iter().for_each(|path| drop(std::fs::remove_file(path)));
                }
                _ => {
                    reader.step();
                }
            }
        }
        writer.append(1);
        reader.read_all();
        reader.commit();
        let ids = reader.ids();
        let wrong = ids.iter().zip(0..).find(|(id, expected)| **id != *expected);
        assert_eq!((ids.len() as u64, wrong), (writer.lines, None), "seed {seed}");
        let position = reader.position.unwrap();
        assert_eq!((position.lines, position.bytes), (writer.lines, writer.bytes), "seed {seed}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn lines_written_just_before_a_copytruncate_are_read_from_the_copy() {
    let folder = scratch("tail-copy");
    let mut writer = Writer::new(folder.join("audit.log"), 7);
    let mut reader = Reader::new(&writer.path);
    writer.append(5);
    reader.read_all();
    writer.append(5);
    writer.copy_and_truncate();
    // As long as before, so that only its first bytes show that it is a different file.
    writer.append(40);
    reader.read_all();
    reader.commit();
    assert_eq!(reader.ids(), (0..50).collect::<Vec<_>>());
    assert_eq!(reader.tail.gaps(), 0);
}

#[test]
fn a_hole_left_by_a_writer_after_truncation_is_skipped() {
    let folder = scratch("tail-hole");
    let path = folder.join("audit.log");
    let mut writer = Writer::new(path.clone(), 8);
    let mut reader = Reader::new(&path);
    let mut file = File::create(&path).unwrap();
    let first: String = (0..5).map(|_| writer.line()).collect();
    file.write_all(first.as_bytes()).unwrap();
    reader.read_all();
    file.set_len(0).unwrap();
    reader.read_all();
    // A file that is not opened for appending: the writer continues at its old offset.
    let second: String = (0..5).map(|_| writer.line()).collect();
    file.write_all(second.as_bytes()).unwrap();
    reader.read_all();
    reader.commit();
    assert_eq!(reader.ids(), (0..10).collect::<Vec<_>>());
}

#[test]
fn replaced_symlinks_are_followed() {
    let folder = scratch("tail-links");
    let versions = [folder.join("..v1"), folder.join("..v2")];
    versions.iter().for_each(|v| std::fs::create_dir(v).unwrap());
    // As mounted by the kubelet: the path leads through the link `..data`, which is replaced atomically.
    std::os::unix::fs::symlink("..v1", folder.join("..data")).unwrap();
    let path = folder.join("audit.log");
    std::os::unix::fs::symlink("..data/audit.log", &path).unwrap();
    let mut reader = Reader::new(&path);
    reader.read_all();
    let mut writer = Writer::new(versions[0].join("audit.log"), 9);
    writer.append(3);
    reader.read_all();
    // Rotated in the directory that the link points to.
    writer.rename();
    writer.append(3);
    reader.step();
    writer.append(3);
    writer.path = versions[1].join("audit.log");
    writer.append(3);
    std::os::unix::fs::symlink("..v2", folder.join("..data-new")).unwrap();
    std::fs::rename(folder.join("..data-new"), folder.join("..data")).unwrap();
    reader.read_all();
    reader.commit();
    assert_eq!(reader.ids(), (0..12).collect::<Vec<_>>());
}

#[test]
fn a_line_is_ingested_when_it_is_complete() {
    let folder = scratch("tail-part");
    let mut writer = Writer::new(folder.join("audit.log"), 10);
    let mut reader = Reader::new(&writer.path);
    let line = writer.line();
    let mut file = File::create(&writer.path).unwrap();
    for piece in line.as_bytes().chunks(50) {
        assert!(reader.pending.is_empty());
        file.write_all(piece).unwrap();
        reader.read_all();
    }
    assert_eq!(reader.pending.len(), 1);
    // The writer died in the middle of a line, and another one created a new file.
    file.write_all(b"{\"kind\":").unwrap();
    reader.read_all();
    assert_eq!(reader.pending.len(), 1);
    writer.rename();
    writer.append(1);
    reader.read_all();
    assert_eq!(reader.pending.len(), 3);
    assert_eq!(reader.pending[1], "{\"kind\":");
}

/// `editwar serve --tail`. It is killed on drop.
struct Server(Child);

impl Server {
    fn start(log: &Path, checkpoint: &Path) -> Server {
        let child = Command::new(env!("CARGO_BIN_EXE_editwar"))
            .args(["serve", "--listen", "127.0.0.1:0", "--webhook-listen", "127.0.0.1:0", "--log-level", "error"])
            .arg("--tail")
            .arg(log)
            .arg("--set")
            .arg(format!("tail.checkpoint={}", checkpoint.display()))
            .env_clear()
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Server(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn checkpointed(path: &Path, log: &Path) -> (u64, u64) {
    let position = Checkpoint::load(path).unwrap().positions.remove(log);
    position.map_or((0, 0), |p| (p.lines, p.bytes))
}

/// Compares the totals in the checkpoint, over all lives of the process, with what was written. They advance together
/// with the position in the log, so they are only equal if no byte was skipped or read twice.
///
/// `EDITWAR_FOLLOW_FULL=1` runs the full version: 200 changes and 20 kills.
#[test]
fn repeated_kills_neither_skip_nor_repeat_events() {
    let (rotations, kills) = if std::env::var_os("EDITWAR_FOLLOW_FULL").is_some() { (200, 20) } else { (30, 3) };
    let folder = scratch("follow");
    let (log, checkpoint) = (folder.join("audit.log"), folder.join("state.json"));
    let mut writer = Writer::new(log.clone(), 42);
    let mut server = Server::start(&log, &checkpoint);
    let mut dice = Dice(43);
    writer.append(1);
    wait_until("the log is found", 60, || checkpointed(&checkpoint, &log).0 == 1);
    for turn in 0..rotations {
        for _ in 0..5 {
            writer.append(dice.roll(200));
            pause(dice.roll(20));
        }
        // The writer compresses and truncates while the process reads, and while it is down.
        if turn % (rotations / kills) == 1 {
            drop(server);
            server = Server::start(&log, &checkpoint);
        }
        match dice.roll(10) {
            0..=3 if log.exists() => drop(writer.rename()),
            4..=6 if log.exists() => compress(&writer.rename()),
            // Truncated or deleted only once everything was read; otherwise losses would not be the reader's fault.
            cut if log.exists() => {
                let (lines, bytes) = (writer.lines, writer.bytes);
                wait_until("all is read", 20, || {
                    let read = checkpointed(&checkpoint, &log);
                    assert!(read <= (lines, bytes), "{read:?} of {lines}, {bytes}");
                    read == (lines, bytes)
                });
                match cut {
                    7 => writer.copy_and_truncate(),
                    8 => File::options().write(true).open(&log).unwrap().set_len(0).unwrap(),
                    _ => std::fs::remove_file(&log).unwrap(),
                }
            }
            _ => {}
        }
    }
    writer.append(1);
    let (lines, bytes) = (writer.lines, writer.bytes);
    wait_until("all is read", 60, || checkpointed(&checkpoint, &log).0 >= lines);
    pause(1500);
    assert_eq!(checkpointed(&checkpoint, &log), (lines, bytes));
}

/// Returns the number of lines in a log and its rotated files on disk.
fn lines_of(folder: &Path) -> u64 {
    let lines = |path: &Path| {
        let mut text = Vec::new();
        let file = File::open(path).unwrap();
        if path.extension().is_some_and(|e| e == "gz") {
            flate2::read::MultiGzDecoder::new(file).read_to_end(&mut text).unwrap();
        } else {
            (&file).read_to_end(&mut text).unwrap();
        }
        text.iter().filter(|b| **b == b'\n').count() as u64
    };
    std::fs::read_dir(folder).unwrap().map(|entry| lines(&entry.unwrap().path())).sum()
}

#[test]
fn logs_rotated_by_a_real_api_server_are_read_completely() {
    let folder = scratch("follow-real");
    let (logs, checkpoint) = (folder.join("logs"), folder.join("state.json"));
    std::fs::create_dir(&logs).unwrap();
    let log = logs.join("audit.log");
    std::fs::write(folder.join("policy.yaml"), util::POLICY).unwrap();
    let flags = vec![
        format!("--audit-policy-file={}", folder.join("policy.yaml").display()),
        format!("--audit-log-path={}", log.display()),
        "--audit-log-maxsize=1".into(),
        "--audit-log-compress=true".into(),
    ];
    let Some(mut api) = ApiServer::start_with(flags) else { return };
    let mut server = Server::start(&log, &checkpoint);
    // Each change logs a large object twice, in request and response, so that a file is full after a few changes.
    let large = "x".repeat(100_000);
    for turn in 0..30 {
        let data = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large", "namespace": "shop"}, "data": {"x": large, "turn": turn.to_string()}});
        let file = folder.join("large.json");
        std::fs::write(&file, data.to_string()).unwrap();
        api.kubectl("alice", &["apply", "--server-side", "-f", file.to_str().unwrap()]);
        if turn % 10 == 9 {
            drop(server);
            server = Server::start(&log, &checkpoint);
        }
    }
    api.halt();
    let rotated =
        std::fs::read_dir(&logs).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "gz"));
    assert!(rotated.count() >= 3, "kube-apiserver rotates and compresses");
    let all = lines_of(&logs);
    wait_until("all is read", 20, || checkpointed(&checkpoint, &log).0 >= all);
    pause(1500);
    assert_eq!(checkpointed(&checkpoint, &log).0, all);
    drop(server);
}

#[test]
fn a_log_created_after_the_start_is_tailed() {
    let folder = scratch("follow-late");
    let log = folder.join("not-yet/audit.log");
    let child = Command::new(env!("CARGO_BIN_EXE_editwar"))
        .args(["serve", "--listen", "127.0.0.1:0", "--webhook-listen", "127.0.0.1:0"])
        .args(["--tail", log.to_str().unwrap(), "--set", "tail.cluster=east"])
        .env_clear()
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Server(child);
    let mut stderr = std::io::BufReader::new(server.0.stderr.take().unwrap());
    let mut first = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut first).unwrap();
    std::fs::create_dir(log.parent().unwrap()).unwrap();
    std::fs::write(&log, util::log("hpa-vs-applier")).unwrap();
    let mut lines = std::io::BufRead::lines(stderr);
    let paused = lines.by_ref().map(Result::unwrap).find(|line| line.contains(r#""to":"sustained""#)).unwrap();
    let told: serde_json::Value = serde_json::from_str(&paused).unwrap();
    assert_eq!((told["cluster"].as_str(), told["namespace"].as_str()), (Some("east"), Some("shop")), "{paused}");
    // It exits on SIGTERM.
    Command::new("kill").arg(server.0.id().to_string()).status().unwrap();
    let mut rest = String::new();
    lines.for_each(|line| rest.push_str(&line.unwrap()));
    assert!(server.0.wait().unwrap().success() && rest.contains("stopped"), "{rest}");
}
