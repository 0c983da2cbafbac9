//! Attacks on the journal's disk: full disks and damaged files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::journal::{Ledger, files, start};
use crate::outcome::Kind::Beside;
use crate::outcome::{Attack, Context, Failure, Outcome, Report, control};
use crate::server::{Server, pause, until};

const DISK: &str = "a full disk is reported once, and readiness does not flap";

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "disk/full-disk-degrade", promise: DISK, kind: Beside, run: |c, r| full(c, r, "degrade") },
    Attack { name: "disk/full-disk-reject", promise: DISK, kind: Beside, run: |c, r| full(c, r, "reject") },
    Attack {
        name: "disk/zeroed-pages",
        promise: "damage is reported, or nothing is missing",
        kind: Beside,
        run: |c, r| damage(c, r, true),
    },
    Attack {
        name: "disk/flipped-pages",
        promise: "damage is reported, or nothing is missing",
        kind: Beside,
        run: |c, r| damage(c, r, false),
    },
];

/// A file system that is unmounted on drop.
struct Disk(PathBuf);

// === impl Disk ===

impl Disk {
    fn new(folder: PathBuf, megabytes: usize) -> Result<Disk, Failure> {
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&folder).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Disk(folder)),
            Ok(output) => Err(Failure::missing("mount", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(Failure::missing("mount", &error.to_string())),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

/// The disk is full for a while.
fn full(context: &Context, report: &mut Report, on_failure: &str) -> Outcome {
    let disk = Disk::new(context.folder(&format!("journal-full-{on_failure}")), 48)?;
    let folder = disk.0.join("journal");
    let ledger = Ledger::new("ledger");
    let server = start(context, &folder, on_failure)?.ready()?;
    for _ in 0..20 {
        ledger.post(&server, 20_000)?;
    }
    let ballast = disk.0.join("ballast");
    fill(&ballast)?;
    let before = server.log().len();
    // Until the first write fails.
    let is_hit = until(Duration::from_secs(20), || {
        ledger.try_post(&server, 400_000);
        server.metric("editwar_journal_up") == 0.0
    });
    control(is_hit, "the disk gets full and it is said")?;
    let acknowledged_before = ledger.count();
    // Nothing is posted, and the disk stays full.
    let (mut ups, mut readies, mut looks) = (0, 0, 0);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(context.count(30, 12)) {
        looks += 1;
        ups += usize::from(server.metric("editwar_journal_up") == 1.0);
        readies += usize::from(server.get("/readyz").is_ok_and(|answer| answer.status == 200));
        pause(250);
    }
    report.number("up while full", format!("{ups} of {looks}"));
    report.promise(ups == 0, format!("editwar_journal_up is 1 in {ups} of {looks} looks while the disk is full"));
    if on_failure == "reject" {
        report.promise(readies == 0, format!("/readyz is 200 in {readies} of {looks} looks while the disk is full"));
    }
    // Some clients retry in the meantime.
    let mut taken = 0;
    for _ in 0..20 {
        taken += usize::from(ledger.try_post(&server, 100_000));
        pause(300);
    }
    let lines = server.log()[before..].lines().filter(|line| line.contains("ERROR")).count();
    report.number("ERROR lines", lines);
    report.promise((1..=2).contains(&lines), format!("{lines} ERROR lines for one change"));
    match on_failure {
        "reject" => report.promise(taken == 0, format!("{taken} batches were acknowledged on a full disk")),
        _ => {
            report.promise(taken == 20, format!("{} of 20 batches were refused", 20 - taken));
            let lost = server.metric(r#"editwar_journal_records_total{outcome="dropped"}"#);
            report.promise(lost >= 20.0, format!("{lost} writes are counted as lost"));
        }
    }
    std::fs::remove_file(&ballast)?;
    let is_up = until(Duration::from_secs(20), || {
        server.metric("editwar_journal_up") == 1.0 && server.get("/readyz").is_ok_and(|answer| answer.status == 200)
    });
    report.promise(is_up, "there is room again, and the journal does not come back within 20 s");
    let after = Ledger::new("after");
    report.promise(after.try_post(&server, 0), "there is room again, and a batch is not taken");
    drop(server);
    let server = start(context, &folder, on_failure)?.ready()?;
    let lost = ledger.lost(&server)?;
    let lost = lost.iter().filter(|n| on_failure == "reject" || **n < acknowledged_before.min(20) as u64).count();
    report.promise(lost == 0, format!("{lost} acknowledged writes are gone"));
    report.promise(after.lost(&server)?.is_empty(), "the write after the disk had room again is gone");
    drop(server);
    drop(disk);
    Ok(())
}

/// Fills up the disk with a file.
fn fill(path: &Path) -> Outcome {
    let mut file = std::fs::File::create(path)?;
    for size in [1 << 20, 4096] {
        while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
    }
    Ok(())
}

/// Kills a server, then zeroes pages of its journal or flips bits in them.
fn damage(context: &Context, report: &mut Report, is_zeroed: bool) -> Outcome {
    let name = if is_zeroed { "zeroed" } else { "flipped" };
    let original = context.folder(&format!("journal-{name}"));
    let ledger = Ledger::new("ledger");
    let mut server = start(context, &original, "degrade")?.ready()?;
    for _ in 0..60 {
        ledger.post(&server, 50_000)?;
    }
    server.kill();
    let copy = context.folder(&format!("journal-{name}-copy"));
    let restore = || -> Result<PathBuf, Failure> {
        for file in files(&copy) {
            std::fs::remove_file(file)?;
        }
        for file in files(&original) {
            std::fs::copy(&file, copy.join(file.file_name().expect("a file has a name")))?;
        }
        // The largest file, which contains the writes.
        let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
        files(&copy).into_iter().max_by_key(size).ok_or_else(|| Failure::Control("the journal has no file".into()))
    };
    let (mut silent, mut told, mut whole, mut dead) = (Vec::new(), 0, 0, 0);
    let bytes = std::fs::read(restore()?)?;
    let is_used = |page: &usize| bytes[page * 4096..(page + 1) * 4096].iter().any(|byte| *byte != 0);
    let used: Vec<usize> = (0..bytes.len() / 4096).filter(is_used).collect();
    let step = (used.len() / context.count(400, 24)).max(1);
    for page in used.into_iter().step_by(step) {
        let path = restore()?;
        let mut bytes = bytes.clone();
        let part = &mut bytes[page * 4096..(page + 1) * 4096];
        if is_zeroed {
            part.fill(0);
        } else {
            part.iter_mut().step_by(512).for_each(|byte| *byte ^= 0x10);
        }
        std::fs::write(&path, bytes)?;
        let Ok(server) = start(context, &copy, "degrade").and_then(Server::ready) else {
            dead += 1;
            continue;
        };
        let history = ledger.lost(&server);
        let is_missing = history.as_ref().is_ok_and(|lost| !lost.is_empty());
        // The log is written by a separate thread, so its line may appear after the response.
        let patience = Duration::from_secs(if is_missing { 5 } else { 0 });
        let is_told = until(patience, || server.log().contains("ERROR") || server.log().contains("WARN"));
        match history {
            _ if is_told => told += 1,
            Ok(lost) if lost.is_empty() => whole += 1,
            Ok(lost) => silent.push((page, lost.len())),
            // A response that reports the damage.
            Err(_) => told += 1,
        }
    }
    report.number("damages", told + whole + dead + silent.len());
    report.number("told", told);
    report.number("nothing missing", whole);
    control(told > 0, "some damage is told")?;
    report.promise(silent.is_empty(), format!("silently lost writes (page, writes): {silent:?}"));
    report.promise(dead == 0, format!("{dead} damages keep the server from starting under `degrade`"));
    Ok(())
}
