//! Reading a journal's files while they are written: sealed ones are opened when they are first needed, and few stay open.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::Error;
use super::disk::Disk;
use super::record::Key;
use super::segment::Segment;
use crate::audit::event::Micros;
use crate::pipeline::{Turn, lock};

/// Sealed files that stay open: each is a descriptor and up to 4 MiB of pages.
const OPEN_MAX: usize = 24;

/// A file that is only read.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    /// Its number.
    pub(super) number: u64,
    /// Its name.
    pub(super) path: PathBuf,
    /// The latest event time in it.
    pub(super) last: Micros,
    /// Its size when it was sealed.
    pub(super) bytes: u64,
}

/// The sealed files that are open, and those that were found good.
#[derive(Debug, Default)]
pub struct SealedFiles {
    /// By number, the one that was needed last at the end.
    open: Mutex<VecDeque<(u64, Arc<Segment>)>>,
    verified: Mutex<HashSet<u64>>,
}

/// The files of a moment, to read from while others are written.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) disk: Disk,
    pub(super) files: Arc<SealedFiles>,
    pub(super) sealed: Arc<[Sealed]>,
    pub(super) active: Arc<Segment>,
    pub(super) complete_since: Micros,
}

// === impl Sealed ===

impl Sealed {
    pub(super) fn new(number: u64, path: PathBuf, last: Micros) -> Sealed {
        let bytes = std::fs::metadata(&path).map_or(0, |m| m.len());
        Sealed { number, path, last, bytes }
    }
}

// === impl SealedFiles ===

impl SealedFiles {
    /// Opens a file, and compares all of it with its checksums, unless it is open.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub(super) fn open(&self, disk: &Disk, file: &Sealed) -> Result<Arc<Segment>, Error> {
        // Held while it is opened: a second reader finds it open instead of locked.
        let mut open = lock(&self.open);
        let found = open.iter().position(|(number, _)| *number == file.number).and_then(|at| open.remove(at));
        let segment = match found {
            Some((_, segment)) => segment,
            None => Arc::new(Segment::open(disk, &file.path)?),
        };
        lock(&self.verified).insert(file.number);
        open.push_back((file.number, segment.clone()));
        close_unused(&mut open);
        Ok(segment)
    }

    /// Keeps a file open that was just sealed: it may still be read from.
    pub(super) fn keep(&self, number: u64, segment: Arc<Segment>) {
        lock(&self.verified).insert(number);
        let mut open = lock(&self.open);
        open.push_back((number, segment));
        close_unused(&mut open);
    }

    /// Closes a file that is about to be removed.
    pub(super) fn forget(&self, number: u64) {
        lock(&self.open).retain(|(open, _)| *open != number);
        lock(&self.verified).remove(&number);
    }

    /// Whether all of a file was compared with its checksums by this process.
    pub(super) fn is_verified(&self, number: u64) -> bool {
        lock(&self.verified).contains(&number)
    }
}

/// Closes those that were not needed for longest, beyond [`OPEN_MAX`]. One that is being read from cannot be closed.
fn close_unused(open: &mut VecDeque<(u64, Arc<Segment>)>) {
    while open.len() > OPEN_MAX
        && let Some(at) = open.iter().position(|(_, segment)| Arc::strong_count(segment) == 1)
    {
        open.remove(at);
    }
}

// === impl Reader ===

impl Reader {
    /// From which event time on every acknowledged write is in the files.
    pub fn complete_since(&self) -> Micros {
        self.complete_since
    }

    /// Shows every record at or after `since`, file after file, each in order.
    ///
    /// # Errors
    /// [`Error`].
    pub fn since(&self, since: Micros, mut each: impl FnMut(Key, &[u8])) -> Result<(), Error> {
        for segment in self.segments(since) {
            segment?.since(since, |key, packed| {
                each(key, packed);
                true
            })?;
        }
        Ok(())
    }

    /// Shows the records of one object at or after `since`, from the last one, each once, at most so many, until told to
    /// stop.
    ///
    /// # Errors
    /// [`Error`].
    pub fn of(
        &self,
        object: &str,
        since: Micros,
        records_max: usize,
        mut each: impl FnMut(Key, &[u8]) -> bool,
    ) -> Result<(), Error> {
        let segments = self.segments(since).collect::<Result<Vec<_>, _>>()?;
        let mut keys: Vec<(Key, usize)> = Vec::new();
        for (place, segment) in segments.iter().enumerate() {
            keys.extend(segment.keys_of(object, since, records_max)?.into_iter().map(|key| (key, place)));
        }
        // A late write is in a later file than earlier ones. One that was posted again after its file had ended is in two:
        // the first is what was acknowledged.
        keys.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        keys.dedup_by_key(|(key, _)| *key);
        for (key, place) in keys.into_iter().take(records_max) {
            if let Some(packed) = segments[place].get(key)?
                && !each(key, &packed)
            {
                break;
            }
        }
        Ok(())
    }

    /// Shows every turn at or after `since`, in order.
    ///
    /// # Errors
    /// [`Error`].
    pub fn turns(&self, since: Micros, mut each: impl FnMut(Turn)) -> Result<(), Error> {
        for segment in self.segments(since) {
            segment?.turns(since, &mut each)?;
        }
        Ok(())
    }

    /// Shows the text of every object's key; once for each file.
    ///
    /// # Errors
    /// [`Error`].
    pub fn objects(&self, since: Micros, mut each: impl FnMut(&str)) -> Result<(), Error> {
        for segment in self.segments(since) {
            segment?.objects(&mut each)?;
        }
        Ok(())
    }

    fn segments(&self, since: Micros) -> impl Iterator<Item = Result<Arc<Segment>, Error>> {
        let sealed = self.sealed.iter().filter(move |file| file.last >= since);
        let sealed = sealed.map(|file| self.files.open(&self.disk, file));
        sealed.chain(std::iter::once(Ok(self.active.clone())))
    }
}
