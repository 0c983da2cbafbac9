//! One file of the journal: a redb database with writes ordered by time, and an index by object.
//!
//! A file gets its final name only when it is complete: it is created as a draft, synced and renamed, and then its
//! directory is synced. Commits have two phases, so that a file with a damaged page is never mistaken for one whose
//! last commit was interrupted.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, WriteTransaction};

use super::disk::Disk;
use super::record::{KEY_BYTES, Key, Record};
use super::{Error, transition};
use crate::audit::event::Micros;
use crate::pipeline::Transition;

/// The format that this version writes and reads.
pub const FORMAT: u64 = 1;
/// Size of the page cache of one file. It is small, since many files may be open at once and the kernel caches pages
/// too.
const CACHE_BYTES: usize = 4 << 20;
/// File name extension of drafts.
pub(super) const DRAFT: &str = "redb.new";
/// Size of one value of a probe in bytes.
const PROBE_BYTES: usize = 16 << 10;

const EVENTS: TableDefinition<'_, &[u8; KEY_BYTES], &[u8]> = TableDefinition::new("events");
/// Keys: the key text of the object, a zero byte, the record's key.
const OBJECTS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("objects");
/// Transitions. Missing in files of editwar 0.1 and earlier.
const TRANSITIONS: TableDefinition<'_, &[u8; KEY_BYTES], &[u8]> = TableDefinition::new("transitions");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Written and deleted to check for free space.
const PROBE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("probe");

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    inode: Inode,
    database: Database,
}

/// The identity of a file on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

// === impl Segment ===

impl Segment {
    /// Creates an empty segment. It is complete and durable when this returns. If the process is killed at any point,
    /// either no file is left, or a draft that is never read.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn create(disk: &Disk, path: &Path) -> Result<Segment, Error> {
        let draft = path.with_extension(DRAFT);
        let create = || {
            // A previous attempt may have left a draft.
            disk.remove(&draft).map_err(|e| storage(path, &e))?;
            let segment = Segment { path: path.into(), ..Segment::open_as(disk, &draft, true)? };
            segment.commit(|write| {
                write.open_table(META)?.insert("format", FORMAT)?;
                write.open_table(EVENTS)?;
                write.open_table(OBJECTS)?;
                write.open_table(TRANSITIONS)?;
                Ok(())
            })?;
            disk.rename(&draft, path).map_err(|e| storage(path, &e))?;
            let folder = path.parent().unwrap_or(Path::new("."));
            disk.sync_directory(folder).map_err(|e| storage(path, &e))?;
            Ok(segment)
        };
        let created = create();
        if created.is_err() {
            // A draft that cannot be removed now is removed at the next start.
            drop(disk.remove(&draft));
        }
        created
    }

    /// Opens a segment. After a crash, an interrupted commit is rolled back. Any other difference from what was written
    /// is detected here, by verifying the checksum of every page.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Format`], [`Error::Busy`], [`Error::Storage`].
    pub fn open(disk: &Disk, path: &Path) -> Result<Segment, Error> {
        let segment = Segment::open_as(disk, path, false)?;
        segment.check_format()?;
        Ok(segment)
    }

    fn open_as(disk: &Disk, path: &Path, is_new: bool) -> Result<Segment, Error> {
        let storage = |error: &dyn std::fmt::Display| storage(path, error);
        let damaged = |message: String| Error::Damaged { path: path.into(), message };
        let file = disk.open(path, is_new).map_err(|e| storage(&e))?;
        let metadata = file.metadata().map_err(|e| storage(&e))?;
        if !is_new && metadata.len() == 0 {
            // redb would initialise an empty file as a new database.
            return Err(damaged("it is empty".into()));
        }
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(!is_new);
        let opened = disk.backend(path, file).and_then(|backend| builder.create_with_backend(backend));
        let database = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Error::Busy(path.into()),
            DatabaseError::UpgradeRequired(found) => {
                Error::Format { path: path.into(), found: format!("redb {found}") }
            }
            DatabaseError::Storage(StorageError::Corrupted(message)) => damaged(message),
            DatabaseError::Storage(StorageError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                damaged(error.to_string())
            }
            other => storage(&other),
        })?;
        Ok(Segment { path: path.into(), inode: Inode::of(&metadata), database })
    }

    fn check_format(&self) -> Result<(), Error> {
        let damaged =
            |error: &dyn std::fmt::Display| Error::Damaged { path: self.path.clone(), message: error.to_string() };
        let read = self.database.begin_read().map_err(|e| self.storage(&e))?;
        let found = match read.open_table(META) {
            Ok(meta) => meta.get("format").map_err(|e| self.storage(&e))?.map(|f| f.value()),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(damaged(&error)),
        };
        match found {
            Some(FORMAT) => Ok(()),
            found => {
                let found = found.map_or("unknown".into(), |f| f.to_string());
                Err(Error::Format { path: self.path.clone(), found })
            }
        }
    }

    /// Commits `change` atomically. With two phases, the new state is on disk before the file points to it. A file
    /// whose latest state has a bad checksum is therefore damaged, and redb never falls back to the previous state.
    fn commit(&self, change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Result<(), Error> {
        let commit = || -> Result<(), redb::Error> {
            let mut write = self.database.begin_write()?;
            write.set_two_phase_commit(true);
            change(&write)?;
            write.commit()?;
            Ok(())
        };
        commit().map_err(|e| self.storage(&e))
    }

    /// Writes these records and transitions atomically; they are durable when this returns. If a key already exists, what is
    /// stored is kept.
    ///
    /// # Errors
    /// [`Error::Storage`]. The segment must then be opened again.
    pub fn append<'r>(
        &self,
        records: impl Iterator<Item = &'r Record>,
        transitions: impl Iterator<Item = &'r Transition>,
    ) -> Result<(), Error> {
        self.commit(|write| {
            let mut events = write.open_table(EVENTS)?;
            let mut objects = write.open_table(OBJECTS)?;
            let mut new = Vec::new();
            // A batch that is posted again is not written again. Nearly all others are new, and need not be looked up first.
            let mut was_known = false;
            for record in records {
                if was_known && events.get(&record.key.0)?.is_some() {
                    continue;
                }
                let before = events.insert(&record.key.0, record.packed.as_slice())?;
                let before = before.map(|before| before.value().to_vec());
                was_known = before.is_some();
                match before {
                    // The first delivery is the one that counts.
                    Some(before) => drop(events.insert(&record.key.0, before.as_slice())?),
                    None => new.push((record.object.as_ref(), &record.key)),
                }
            }
            // In the order of the index, so that its pages are found once.
            new.sort_unstable();
            let mut index = Vec::new();
            for (object, key) in new {
                index_start(&mut index, object);
                index.extend_from_slice(&key.0);
                objects.insert(index.as_slice(), ())?;
            }
            let mut kept = write.open_table(TRANSITIONS)?;
            for transition in transitions {
                let key = transition::key(transition).0;
                // A replay that begins later may not know the labels any more.
                if kept.get(&key)?.is_none() {
                    kept.insert(&key, transition::text(transition).as_slice())?;
                }
            }
            Ok(())
        })
    }

    /// Writes and deletes `bytes` bytes, to find out whether a group of that size can be written. The file keeps the
    /// allocated space for the next group.
    ///
    /// # Errors
    /// [`Error::Storage`]. The segment must then be opened again.
    pub(super) fn probe(&self, bytes: usize) -> Result<(), Error> {
        let value = vec![0x55; PROBE_BYTES];
        self.commit(|write| {
            let mut probe = write.open_table(PROBE)?;
            for key in 0..=(bytes / PROBE_BYTES) as u64 {
                probe.insert(key, value.as_slice())?;
            }
            Ok(())
        })?;
        self.commit(|write| {
            write.delete_table(PROBE)?;
            Ok(())
        })
    }

    /// Returns whether the path still refers to the file that is open.
    pub(super) fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| Inode::of(&found) == self.inode)
    }

    /// Calls `each` for every record at or after `since`, in order, until it returns `false`.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn since(&self, since: Micros, mut each: impl FnMut(Key, &[u8]) -> bool) -> Result<(), Error> {
        let mut show = || -> Result<(), redb::Error> {
            let events = self.database.begin_read()?.open_table(EVENTS)?;
            for entry in events.range::<&[u8; KEY_BYTES]>(&Key::from(since).0..)? {
                let (key, packed) = entry?;
                if !each(Key(*key.value()), packed.value()) {
                    break;
                }
            }
            Ok(())
        };
        show().map_err(|e| self.storage(&e))
    }

    /// Returns the keys of one object's records at or after `since`, latest first, up to `keys_max`.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn keys_of(&self, object: &str, since: Micros, keys_max: usize) -> Result<Vec<Key>, Error> {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        index_start(&mut first, object);
        last.extend_from_slice(&first);
        first.extend_from_slice(&Key::from(since).0);
        last.extend_from_slice(&[0xff; KEY_BYTES]);
        let keys = || -> Result<Vec<Key>, redb::Error> {
            let objects = self.database.begin_read()?.open_table(OBJECTS)?;
            let mut keys = Vec::new();
            for entry in objects.range(first.as_slice()..=last.as_slice())?.rev().take(keys_max) {
                keys.extend(entry?.0.value().last_chunk::<KEY_BYTES>().map(|key| Key(*key)));
            }
            Ok(keys)
        };
        keys().map_err(|e| self.storage(&e))
    }

    /// Returns one record, compressed.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn get(&self, key: Key) -> Result<Option<Vec<u8>>, Error> {
        let get = || -> Result<Option<Vec<u8>>, redb::Error> {
            let events = self.database.begin_read()?.open_table(EVENTS)?;
            Ok(events.get(&key.0)?.map(|packed| packed.value().to_vec()))
        };
        get().map_err(|e| self.storage(&e))
    }

    /// Calls `each` with the key text of every object, in order and without duplicates.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn objects(&self, mut each: impl FnMut(&str)) -> Result<(), Error> {
        let mut show = || -> Result<(), redb::Error> {
            let objects = self.database.begin_read()?.open_table(OBJECTS)?;
            let mut from: Vec<u8> = Vec::new();
            while let Some(entry) = objects.range(from.as_slice()..)?.next() {
                let index = entry?.0.value().to_vec();
                let Some(object) = index.len().checked_sub(KEY_BYTES + 1).map(|end| &index[..end]) else { break };
                if let Ok(text) = std::str::from_utf8(object) {
                    each(text);
                }
                // Skip all other records of this object.
                from = [object, &[0], &[0xff; KEY_BYTES + 1]].concat();
            }
            Ok(())
        };
        show().map_err(|e| self.storage(&e))
    }

    /// Calls `each` for every transition at or after `since`, in order.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn transitions(&self, since: Micros, mut each: impl FnMut(Transition)) -> Result<(), Error> {
        let mut show = || -> Result<(), redb::Error> {
            let transitions = match self.database.begin_read()?.open_table(TRANSITIONS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
                transitions => transitions?,
            };
            for entry in transitions.range::<&[u8; KEY_BYTES]>(&Key::from(since).0..)? {
                let (key, text) = entry?;
                transition::read(Key(*key.value()), text.value()).into_iter().for_each(&mut each);
            }
            Ok(())
        };
        show().map_err(|e| self.storage(&e))
    }

    /// Returns the times of the first record and of the last one, ignoring records later than `until`.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn span(&self, until: Micros) -> Result<Option<(Micros, Micros)>, Error> {
        let span = || -> Result<Option<(Micros, Micros)>, redb::Error> {
            let events = self.database.begin_read()?.open_table(EVENTS)?;
            let end = Key::from(until.saturating_add(1));
            let mut range = events.range::<&[u8; KEY_BYTES]>(..&end.0)?;
            let at = |key: &[u8; KEY_BYTES]| Key(*key).at();
            let Some(first) = range.next().transpose()?.map(|(key, _)| at(key.value())) else { return Ok(None) };
            let last = range.next_back().transpose()?.map_or(first, |(key, _)| at(key.value()));
            Ok(Some((first, last)))
        };
        span().map_err(|e| self.storage(&e))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the size of the file in bytes.
    pub fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |m| m.len())
    }

    fn storage(&self, error: &dyn std::fmt::Display) -> Error {
        storage(&self.path, error)
    }
}

// === impl Inode ===

impl Inode {
    fn of(metadata: &Metadata) -> Inode {
        Inode { device: metadata.dev(), number: metadata.ino() }
    }
}

fn storage(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Storage { path: path.into(), message: error.to_string() }
}

fn index_start(index: &mut Vec<u8>, object: &str) {
    index.clear();
    index.extend_from_slice(object.as_bytes());
    index.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;
    const RECORDS: i64 = 60;

    #[test]
    fn of_records_with_one_key_the_first_is_kept() {
        let folder = std::env::temp_dir().join(format!("editwar-segment-repeated-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir(&folder).unwrap();
        let record = |n: i64, content: u8| Record {
            key: Key::from(n),
            object: "\0\0cm\0shop\0a".into(),
            packed: vec![content; 300],
        };
        let segment = Segment::create(&Disk::default(), &folder.join("1.redb")).unwrap();
        let append = |records: &[Record]| segment.append(records.iter(), std::iter::empty()).unwrap();
        append(&[record(1, 1), record(2, 2), record(2, 3)]);
        // Posted again, between new ones.
        append(&[record(0, 4), record(1, 5), record(2, 6), record(3, 7), record(3, 8)]);
        let mut found = Vec::new();
        segment
            .since(0, |key, packed| {
                found.push((key.at(), packed[0]));
                true
            })
            .unwrap();
        assert_eq!(found, [(0, 4), (1, 1), (2, 2), (3, 7)]);
        assert_eq!(segment.keys_of("\0\0cm\0shop\0a", 0, 10).unwrap().len(), 4);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_zeroed_page_is_harmless_or_reported_as_damage() {
        let folder = std::env::temp_dir().join(format!("editwar-segment-zeroed-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir(&folder).unwrap();
        let record =
            |n: i64| Record { key: Key::from(n), object: "\0\0cm\0shop\0a".into(), packed: vec![n as u8; 300] };
        let segment = Segment::create(&Disk::default(), &folder.join("1.redb")).unwrap();
        for n in 0..RECORDS {
            segment.append(std::iter::once(&record(n)), std::iter::empty()).unwrap();
        }
        // The file is not closed, as after a kill.
        let killed = std::fs::read(segment.path()).unwrap();
        let path = folder.join("2.redb");
        let mut named = 0;
        for page in (0..killed.len()).step_by(PAGE) {
            let mut damaged = killed.clone();
            let end = damaged.len().min(page + PAGE);
            if damaged[page..end].iter().all(|b| *b == 0) {
                continue;
            }
            damaged[page..end].fill(0);
            std::fs::write(&path, &damaged).unwrap();
            match Segment::open(&Disk::default(), &path) {
                Ok(segment) => {
                    let mut found = 0;
                    segment
                        .since(0, |key, packed| {
                            found += i64::from(packed == record(key.at()).packed);
                            true
                        })
                        .unwrap();
                    assert_eq!(found, RECORDS, "page {}", page / PAGE);
                }
                Err(Error::Damaged { .. }) => named += 1,
                Err(other) => panic!("page {}: {other}", page / PAGE),
            }
        }
        assert!(named > 3, "{named} pages were in use");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
