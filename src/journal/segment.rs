//! One file of the journal: writes by time, and an index by object.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::record::{KEY_BYTES, Key, Record};
use super::{Error, turn};
use crate::audit::event::Micros;
use crate::pipeline::Turn;

/// What this version writes and reads.
pub const FORMAT: u64 = 1;
/// Pages of a file that are kept in memory. Little, since all files may be open at once, and the kernel keeps them too.
const CACHE_BYTES: usize = 4 << 20;

const EVENTS: TableDefinition<'_, &[u8; KEY_BYTES], &[u8]> = TableDefinition::new("events");
/// The text of an object's key, a zero byte, the record's key.
const OBJECTS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("objects");
/// Verdicts that changed; missing in files of editwar 0.1 and before.
const TURNS: TableDefinition<'_, &[u8; KEY_BYTES], &[u8]> = TableDefinition::new("turns");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// An open file.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    database: Database,
}

// === impl Segment ===

impl Segment {
    /// Opens a file, or begins one. After a crash, what was being written is undone; whatever else differs from what was
    /// written is found here: every page is read and compared with its checksum.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Format`], [`Error::Busy`], [`Error::Storage`].
    pub fn open(path: &Path) -> Result<Segment, Error> {
        let storage = |error: &dyn std::fmt::Display| storage(path, error);
        let is_new = std::fs::metadata(path).map_or(true, |m| m.len() == 0);
        // Made here for its mode: what is in it is for nobody else to read.
        OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(|e| storage(&e))?;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(!is_new);
        let database = builder.create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Error::Busy(path.into()),
            DatabaseError::UpgradeRequired(found) => {
                Error::Format { path: path.into(), found: format!("redb {found}") }
            }
            DatabaseError::Storage(StorageError::Corrupted(message)) => Error::Damaged { path: path.into(), message },
            DatabaseError::Storage(StorageError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                Error::Damaged { path: path.into(), message: error.to_string() }
            }
            other => storage(&other),
        })?;
        let segment = Segment { path: path.into(), database };
        segment.check_format(is_new)?;
        Ok(segment)
    }

    fn check_format(&self, is_new: bool) -> Result<(), Error> {
        let found = {
            let read = self.database.begin_read().map_err(|e| self.storage(&e))?;
            match read.open_table(META) {
                Ok(meta) => meta.get("format").map_err(|e| self.storage(&e))?.map(|f| f.value()),
                Err(redb::TableError::TableDoesNotExist(_)) => None,
                Err(error) => return Err(Error::Damaged { path: self.path.clone(), message: error.to_string() }),
            }
        };
        match found {
            Some(FORMAT) => Ok(()),
            // Begun, and killed before its first commit.
            None if is_new || self.is_empty()? => self.begin(),
            found => {
                let found = found.map_or("unknown".into(), |f| f.to_string());
                Err(Error::Format { path: self.path.clone(), found })
            }
        }
    }

    fn is_empty(&self) -> Result<bool, Error> {
        let read = self.database.begin_read().map_err(|e| self.storage(&e))?;
        Ok(read.list_tables().map_err(|e| self.storage(&e))?.next().is_none())
    }

    fn begin(&self) -> Result<(), Error> {
        let begin = || -> Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            write.open_table(META)?.insert("format", FORMAT)?;
            write.open_table(EVENTS)?;
            write.open_table(OBJECTS)?;
            write.commit()?;
            Ok(())
        };
        begin().map_err(|e| self.storage(&e))
    }

    /// Writes these records and turns, all or none; they are on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Storage`]. The segment must then be opened anew.
    pub fn append<'r>(
        &self,
        records: impl Iterator<Item = &'r Record>,
        turns: impl Iterator<Item = &'r Turn>,
    ) -> Result<(), Error> {
        let append = || -> Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            {
                let mut events = write.open_table(EVENTS)?;
                let mut objects = write.open_table(OBJECTS)?;
                let mut index = Vec::new();
                for record in records {
                    events.insert(&record.key.0, record.packed.as_slice())?;
                    index_start(&mut index, record.object.as_ref());
                    index.extend_from_slice(&record.key.0);
                    objects.insert(index.as_slice(), ())?;
                }
                let mut kept = write.open_table(TURNS)?;
                for turn in turns {
                    kept.insert(&turn::key(turn).0, turn::text(turn).as_slice())?;
                }
            }
            write.commit()?;
            Ok(())
        };
        append().map_err(|e| self.storage(&e))
    }

    /// Shows every record at or after `since`, in order, until told to stop.
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

    /// Shows the records of one object at or after `since`, the last first, until told to stop.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn of(&self, object: &str, since: Micros, mut each: impl FnMut(Key, &[u8]) -> bool) -> Result<(), Error> {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        index_start(&mut first, object);
        last.extend_from_slice(&first);
        first.extend_from_slice(&Key::from(since).0);
        last.extend_from_slice(&[0xff; KEY_BYTES]);
        let mut show = || -> Result<(), redb::Error> {
            let read = self.database.begin_read()?;
            let (objects, events) = (read.open_table(OBJECTS)?, read.open_table(EVENTS)?);
            for entry in objects.range(first.as_slice()..=last.as_slice())?.rev() {
                let (index, ()) = {
                    let (index, unit) = entry?;
                    (index.value().to_vec(), unit.value())
                };
                let Some(key) = index.last_chunk::<KEY_BYTES>() else { continue };
                if let Some(packed) = events.get(key)?
                    && !each(Key(*key), packed.value())
                {
                    break;
                }
            }
            Ok(())
        };
        show().map_err(|e| self.storage(&e))
    }

    /// Shows the text of every object's key, each once, in order.
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
                // The next object is behind all of this one's records.
                from = [object, &[0], &[0xff; KEY_BYTES + 1]].concat();
            }
            Ok(())
        };
        show().map_err(|e| self.storage(&e))
    }

    /// Shows every turn at or after `since`, in order.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn turns(&self, since: Micros, mut each: impl FnMut(Turn)) -> Result<(), Error> {
        let mut show = || -> Result<(), redb::Error> {
            let turns = match self.database.begin_read()?.open_table(TURNS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
                turns => turns?,
            };
            for entry in turns.range::<&[u8; KEY_BYTES]>(&Key::from(since).0..)? {
                let (key, text) = entry?;
                turn::read(Key(*key.value()), text.value()).into_iter().for_each(&mut each);
            }
            Ok(())
        };
        show().map_err(|e| self.storage(&e))
    }

    /// The times of its first and last record.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn span(&self) -> Result<Option<(Micros, Micros)>, Error> {
        let span = || -> Result<Option<(Micros, Micros)>, redb::Error> {
            let events = self.database.begin_read()?.open_table(EVENTS)?;
            let (first, last) = (events.first()?, events.last()?);
            let at = |key: &[u8; KEY_BYTES]| Key(*key).at();
            Ok(first.zip(last).map(|(first, last)| (at(first.0.value()), at(last.0.value()))))
        };
        span().map_err(|e| self.storage(&e))
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of its file.
    pub fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |m| m.len())
    }

    fn storage(&self, error: &dyn std::fmt::Display) -> Error {
        storage(&self.path, error)
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
