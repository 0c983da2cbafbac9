//! Lets every file operation of the journal fail, and ends the process at each of them. Acknowledged writes must still
//! exist unchanged, and the journal must report since when it is complete.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use editwar::journal::Error;
use editwar::journal::append::Append;
use editwar::journal::committer::{Journal, OnFailure, Settings};
use editwar::journal::disk::{Disk, Operation};
use editwar::journal::record::{Key, Record};
use editwar::journal::store::{Location, Retention, Store};
use editwar::telemetry::metrics::{Metrics, SeriesLimits};

use crate::util;

const HOUR: i64 = 3_600_000_000;
/// Time of the first record: in the past, so that no record is ahead of the clock.
const START: i64 = 1_700_000_000_000_000;
/// Errors of a full and of a broken disk.
const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// Returns an empty directory for a test, in memory if possible, since thousands of files are synced.
fn folder(name: &str) -> PathBuf {
    let below = Path::new("/dev/shm");
    let below = if below.is_dir() { below.to_owned() } else { std::env::temp_dir() };
    let folder = below.join(format!("editwar-faults-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    folder
}

/// Returns a disk on which a range of operations fails, and the counter of its operations.
fn failing(range: std::ops::Range<usize>, error: i32) -> (Disk, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let disk = Disk::with_fault(move |_, _| {
        if range.contains(&counted.fetch_add(1, Ordering::Relaxed)) {
            Err(io::Error::from_raw_os_error(error))
        } else {
            Ok(())
        }
    });
    (disk, count)
}

/// Returns one write per hour. With a retention of 32 hours, a segment is sealed after every third one.
fn record(n: usize) -> Record {
    let packed = format!("record {n} ").into_bytes().repeat(40);
    Record { key: Key::from(START + n as i64 * HOUR), object: "\0\0cm\0shop\0a".into(), packed }
}

fn retention(hours: i64) -> Retention {
    Retention { age: hours * HOUR, bytes: 1 << 30, window: 1000 * HOUR, ahead: 0 }
}

fn open(disk: &Disk, folder: &Path, retention: Retention) -> Result<Store, Error> {
    let place = Location { disk, folder, retention, sets_aside: false };
    let started = Instant::now();
    loop {
        match Store::open(place, &Arc::default(), i64::MAX) {
            // A process that another test is just forking holds all locks of this one until it calls exec.
            Err(Error::Busy(_)) if started.elapsed() < Duration::from_secs(20) => {}
            opened => return opened.map(|(store, _)| store),
        }
    }
}

/// Returns all records of a journal, and since when it is complete.
fn contents(store: &Store) -> (BTreeMap<Key, Vec<u8>>, i64) {
    let mut found = BTreeMap::new();
    store.reader().since(i64::MIN, |key, packed| drop(found.insert(key, packed.to_vec()))).unwrap();
    (found, store.reader().complete_since())
}

fn assert_kept(store: &Store, acknowledged: &[usize], hours: i64, context: &str) {
    let (found, complete_since) = contents(store);
    // All records of a failed write may exist. They were not acknowledged, but count for the retention.
    let latest = found.keys().map(Key::at).max().unwrap_or(START);
    for n in acknowledged {
        let Record { key, packed, .. } = record(*n);
        match found.get(&key) {
            Some(found) => assert_eq!(*found, packed, "{context}: record {n} was replaced"),
            None => {
                assert!(key.at() < complete_since, "{context}: record {n} is gone, and complete_since hides it");
                assert!(key.at() < latest - hours * HOUR, "{context}: record {n} is gone within the retention");
            }
        }
    }
    for (key, packed) in found {
        let n = ((key.at() - START) / HOUR) as usize;
        assert_eq!(packed, record(n).packed, "{context}: a record that was not written");
    }
}

#[test]
fn a_crash_at_any_operation_loses_no_acknowledged_record() {
    // With 500 hours nothing is removed. With 16 hours, a segment begins with every second record and old ones are
    // removed.
    for hours in [500, 16] {
        let mut at = 0;
        loop {
            let folder = folder("kill");
            // From this operation on, nothing reaches the disk, even in destructors; the write in progress is done
            // partially.
            let (disk, count) = failing(at..usize::MAX, EIO);
            let mut acknowledged = Vec::new();
            if let Ok(mut store) = open(&disk, &folder, retention(hours)) {
                for n in (0..24).step_by(2) {
                    if store.append(&[&record(n)], &[], i64::MAX).is_err() {
                        break;
                    }
                    acknowledged.push(n);
                }
            }
            let is_over = count.load(Ordering::Relaxed) <= at;
            let context = format!("retention of {hours} h, end at operation {at}");
            let mut store =
                open(&Disk::default(), &folder, retention(hours)).unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_kept(&store, &acknowledged, hours, &context);
            store.append(&[&record(100)], &[], i64::MAX).unwrap();
            drop(store);
            let drafts = std::fs::read_dir(&folder)
                .unwrap()
                .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().ends_with(".new"));
            assert_eq!(drafts.count(), 0, "{context}");
            std::fs::remove_dir_all(&folder).unwrap();
            if is_over {
                assert_eq!(acknowledged.len(), 12);
                assert!(at > 100, "{at} operations");
                break;
            }
            at += 1;
        }
    }
}

fn journal(folder: &Path, on_failure: OnFailure, disk: Disk) -> (Journal, Metrics) {
    let metrics = Metrics::new(SeriesLimits { max_objects: 1, max_actors_per_object: 1, ttl: Duration::from_secs(1) });
    let settings = Settings {
        folder: folder.into(),
        retention: retention(64),
        on_failure,
        disk,
        look_every: Duration::from_millis(2),
    };
    let (journal, opened) = Journal::start(settings, &metrics, Box::new(|_, _| Ok(Vec::new()))).unwrap();
    opened.blocking_recv().unwrap();
    (journal, metrics)
}

#[test]
fn failing_operations_lose_no_acknowledged_record_unreported() {
    let faults = [(1, ENOSPC), (1, EIO), (40, ENOSPC)];
    for (on_failure, (length, error)) in
        [OnFailure::Reject, OnFailure::Degrade].into_iter().flat_map(|f| faults.map(|x| (f, x)))
    {
        let mut at = 0;
        loop {
            let folder = folder("fail");
            let (disk, count) = failing(at..at + length, error);
            let (journal, _metrics) = journal(&folder, on_failure, disk);
            let context = format!("{on_failure:?}, {length} operations fail from {at} on");
            for n in (0..16).step_by(2) {
                match on_failure {
                    // Retries, as an API server does.
                    OnFailure::Reject => util::until(&context, || journal.append_blocking(vec![record(n)]).is_ok()),
                    OnFailure::Degrade => journal.append_blocking(vec![record(n)]).unwrap(),
                }
            }
            util::until(&context, || journal.reader().is_ok());
            let is_over = count.load(Ordering::Relaxed) <= at;
            journal.close();
            let store = open(&Disk::default(), &folder, retention(64)).unwrap_or_else(|e| panic!("{context}: {e}"));
            let (found, complete_since) = contents(&store);
            for n in (0..16).step_by(2) {
                let Record { key, packed, .. } = record(n);
                match (found.get(&key), on_failure) {
                    (Some(found), _) => assert_eq!(*found, packed, "{context}: record {n}"),
                    (None, OnFailure::Degrade) if key.at() < complete_since => {}
                    (None, _) => panic!("{context}: record {n} is gone, and complete_since is {complete_since}"),
                }
            }
            drop(store);
            std::fs::remove_dir_all(&folder).unwrap();
            if is_over {
                break;
            }
            at += if at < 60 { 1 } else { 5 };
        }
        assert!(at > 60, "{at} operations");
    }
}

#[test]
fn a_full_disk_is_reported_before_a_write_fails() {
    for on_failure in [OnFailure::Reject, OnFailure::Degrade] {
        let folder = folder(&format!("space-{on_failure:?}"));
        let is_full = Arc::new(AtomicBool::new(false));
        let asked = is_full.clone();
        let disk = Disk::with_fault(move |operation, _| {
            if operation == Operation::Space && asked.load(Ordering::Relaxed) {
                Err(io::Error::from_raw_os_error(ENOSPC))
            } else {
                Ok(())
            }
        });
        let (journal, metrics) = journal(&folder, on_failure, disk);
        let up = || metrics.text(&pipeline(), 0.0).lines().any(|line| line == "editwar_journal_up 1");
        journal.append_blocking(vec![record(0)]).unwrap();
        assert!(up() && journal.check().is_ok());
        is_full.store(true, Ordering::Relaxed);
        // Without any writes.
        util::until("it is told", || !up());
        assert!(journal.reader().is_ok(), "what is there can still be read");
        match on_failure {
            OnFailure::Reject => {
                let why = journal.check().unwrap_err();
                assert!(why.contains("MiB are free") && why.contains("free some space"), "{why}");
            }
            // As long as writes succeed, they are stored.
            OnFailure::Degrade => {
                assert!(journal.check().is_ok());
                journal.append_blocking(vec![record(1)]).unwrap();
                assert!(!up());
            }
        }
        is_full.store(false, Ordering::Relaxed);
        util::until("there is space again", up);
        journal.append_blocking(vec![record(2)]).unwrap();
        journal.close();
        let store = open(&Disk::default(), &folder, retention(64)).unwrap();
        let expected = if on_failure == OnFailure::Reject { 2 } else { 3 };
        assert_eq!(contents(&store).0.len(), expected);
        drop(store);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

fn pipeline() -> editwar::pipeline::Pipeline {
    editwar::pipeline::Pipeline::new(editwar::detect::policy::Policy::default(), editwar::pipeline::Bounds::default())
}
