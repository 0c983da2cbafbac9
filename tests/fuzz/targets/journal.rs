//! A damaged journal file is read as it was written, or reported as damaged: nothing panics, and no record is returned
//! that was not written. The input is also read as a single record.
#![no_main]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use editwar::audit::decode::{Decoded, decode};
use editwar::detect::write::classify_write;
use editwar::journal::disk::Disk;
use editwar::journal::record::{self, Arrival, Key, Record};
use editwar::journal::segment::Segment;

/// An undamaged file, and its records.
struct Whole {
    file: Vec<u8>,
    records: BTreeMap<Key, Vec<u8>>,
    object: String,
    path: PathBuf,
}

static WHOLE: LazyLock<Whole> = LazyLock::new(|| {
    let folder = Path::new("/dev/shm");
    let folder = if folder.is_dir() { folder.to_owned() } else { std::env::temp_dir() };
    let path = folder.join(format!("editwar-fuzz-{}.redb", std::process::id()));
    drop(std::fs::remove_file(&path));
    let segment = Segment::create(&Disk::default(), &path).expect("a new file");
    let records: Vec<Record> = (0..40).map(record_of).collect();
    for group in records.chunks(8) {
        segment.append(group.iter(), std::iter::empty()).expect("it is written");
    }
    drop(segment);
    let file = std::fs::read(&path).expect("it is there");
    let object = records[0].object.as_ref().to_owned();
    Whole { file, records: records.into_iter().map(|r| (r.key, r.packed)).collect(), object, path }
});

fn record_of(number: usize) -> Record {
    let name = ["web", "api", "db"][number % 3];
    let line = format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a-{number}","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/shop/deployments/{name}","verb":"patch","user":{{"username":"alice"}},"objectRef":{{"resource":"deployments","namespace":"shop","name":"{name}","apiGroup":"apps","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":200}},"requestReceivedTimestamp":"2026-11-23T01:56:{:02}.654761Z","stageTimestamp":"2026-11-23T01:57:08.754761Z"}}"#,
        number % 60
    );
    let Ok(Decoded::Event(event)) = decode(line.as_bytes()) else { panic!("an event") };
    let arrival = Arrival { cluster: "", source: "10.0.0.1", at: 1_795_400_000_000_000 };
    Record::new(arrival, &classify_write(&event).expect("a write"), false).expect("a record")
}

libfuzzer_sys::fuzz_target!(
    init: {
        // Segment turns panics of the storage engine into errors. A panic that leaves it still ends the process.
        std::panic::set_hook(Box::new(|_| {}));
    },
    |input: &[u8]| {
        if let Some(text) = record::unpack(input)
            && let Some(entry) = record::entry(&text)
        {
            drop(decode(entry.event));
        }
        let whole = &*WHOLE;
        let mut file = whole.file.clone();
        let mut damages = input.chunks_exact(5);
        for damage in damages.by_ref() {
            let at = u32::from_le_bytes([damage[0], damage[1], damage[2], 0]) as usize % file.len();
            match damage[3] {
                0 => file.truncate(at.max(1)),
                1 => file[at] = damage[4],
                n => {
                    let end = (at + n as usize).min(file.len());
                    file[at..end].fill(damage[4]);
                }
            }
        }
        std::fs::write(&whole.path, &file).expect("there is room");
        let Ok(segment) = Segment::open(&Disk::default(), &whole.path) else { return };
        let mut show = |key: Key, packed: &[u8]| {
            assert_eq!(whole.records.get(&key).map(Vec::as_slice), Some(packed), "a record that nobody wrote");
            true
        };
        drop(segment.since(i64::MIN, &mut show));
        for key in segment.keys_of(&whole.object, i64::MIN, 1000).into_iter().flatten() {
            if let Ok(Some(packed)) = segment.get(key) {
                show(key, &packed);
            }
        }
        drop(segment.objects(|_| {}));
        drop(segment.span(i64::MAX));
    }
);
