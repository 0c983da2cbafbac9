use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::journal::record::Key;

const HOUR: Micros = 3_600_000_000;
/// Later than all times used in these tests.
const NOW: Micros = 10_000 * HOUR;

/// Returns an empty directory for a test.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("editwar-store-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    folder
}

fn record(at: Micros, object: &str, bytes: usize) -> Record {
    let mut state = at.cast_unsigned() | 1;
    let noise = (0..bytes).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    Record { key: Key::from(at), object: object.into(), packed: noise.collect() }
}

fn open(folder: &Path, retention: Retention) -> Store {
    try_open(folder, retention, false).unwrap().0
}

fn try_open(folder: &Path, retention: Retention, sets_aside: bool) -> Result<(Store, Vec<Error>), Error> {
    Store::open(Location { disk: &Disk::default(), folder, retention, sets_aside }, &Arc::default(), NOW)
}

fn times(store: &Store, since: Micros) -> Vec<Micros> {
    let mut found = BTreeMap::new();
    store.reader().since(since, |key, _| *found.entry(key).or_insert(0) += 1).unwrap();
    found.into_keys().map(|k| k.at()).collect()
}

#[test]
fn records_survive_a_restart_without_duplicates() {
    let folder = folder("restart");
    let retention = Retention { age: 100 * HOUR, bytes: 1 << 30, window: HOUR, ahead: 0 };
    let records: Vec<Record> = (0..50).map(|n| record(n * HOUR, "\0\0cm\0shop\0a", 100)).collect();
    for _ in 0..2 {
        let mut store = open(&folder, retention);
        for group in records.chunks(7) {
            store.append(&group.iter().collect::<Vec<_>>(), &[], NOW).unwrap();
        }
        assert!(store.sealed.len() >= 3, "it was never rotated");
    }
    let store = open(&folder, retention);
    assert_eq!(times(&store, i64::MIN).len(), 50);
    // As if the process was killed after the next segment was created and before the previous one was sealed.
    let ended = store.sealed.last().unwrap().path.clone();
    let number = store.number - 1;
    drop(store);
    std::fs::rename(&ended, path_of(&folder, number)).unwrap();
    let store = open(&folder, retention);
    assert!(ended.exists());
    assert_eq!(times(&store, i64::MIN).len(), 50);
    assert_eq!(times(&store, 40 * HOUR), (40..50).map(|n| n * HOUR).collect::<Vec<_>>());
    assert_eq!(store.newest(), Some(49 * HOUR));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn only_the_records_of_the_requested_object_are_found() {
    let folder = folder("objects");
    let mut store = open(&folder, Retention { age: 100 * HOUR, bytes: 1 << 30, window: HOUR, ahead: 0 });
    let names = ["\0\0cm\0shop\0a", "\0\0cm\0shop\0ab", "\0apps\0deployments\0shop\0a"];
    let records: Vec<Record> = (0..30).map(|n| record(n * HOUR, names[n as usize % 3], 10)).collect();
    for record in &records {
        store.append(&[record], &[], NOW).unwrap();
    }
    let reader = store.reader();
    let mut found = Vec::new();
    reader
        .of(names[1], 10 * HOUR, 100, |key, _| {
            found.push(key.at() / HOUR);
            true
        })
        .unwrap();
    assert_eq!(found, [28, 25, 22, 19, 16, 13, 10]);
    let mut seen = BTreeSet::new();
    reader
        .objects(i64::MIN, |name| {
            seen.insert(name.to_owned());
        })
        .unwrap();
    assert_eq!(seen.len(), 3);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn retention_removes_records_by_age_and_size() {
    let folder = folder("retention");
    let mut store = open(&folder, Retention { age: 32 * HOUR, bytes: 1 << 30, window: HOUR, ahead: 0 });
    for n in 0..100 {
        store.append(&[&record(n * HOUR, "a", 10)], &[], NOW).unwrap();
    }
    let left = times(&store, i64::MIN);
    assert!(left[0] >= (99 - 32 - 4) * HOUR && left[0] <= (99 - 31) * HOUR, "{}", left[0] / HOUR);
    drop(store);
    std::fs::remove_dir_all(&folder).unwrap();

    let bytes = 24 << 20;
    let mut store = open(&folder, Retention { age: 1000 * HOUR, bytes, window: HOUR, ahead: 0 });
    for n in 0..800 {
        store.append(&[&record(n, "a", 100_000)], &[], NOW).unwrap();
        assert!(store.bytes() <= bytes + (9 << 20), "{}", store.bytes());
    }
    assert!(times(&store, i64::MIN).len() < 400);
    assert_eq!(times(&store, i64::MIN).last(), Some(&799));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn damaged_files_are_named_and_set_aside_on_request() {
    let folder = folder("damage");
    let retention = Retention { age: 100 * HOUR, bytes: 1 << 30, window: HOUR, ahead: 0 };
    for damage in ["flipped", "cut", "other format"] {
        let mut store = open(&folder, retention);
        for n in 0..20 {
            store.append(&[&record(n, "a", 3000)], &[], NOW).unwrap();
        }
        let path = store.active.path().to_owned();
        drop(store);
        let mut bytes = std::fs::read(&path).unwrap();
        match damage {
            // Flips bits throughout the pages in use.
            "flipped" => bytes.iter_mut().skip(4096).step_by(1500).for_each(|b| *b ^= 0x55),
            "cut" => bytes.truncate(bytes.len() / 3),
            _ => bytes[..64].fill(b'x'),
        }
        std::fs::write(&path, bytes).unwrap();
        let error = try_open(&folder, retention, false).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&path.display().to_string()) && text.contains("move it away"), "{damage}: {text}");
        let (store, damages) = try_open(&folder, retention, true).unwrap();
        assert_eq!((damages.len(), times(&store, i64::MIN).len()), (1, 0), "{damage}");
        drop(store);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
