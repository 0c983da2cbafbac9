//! Reads a journal's segments while the journal is being written. Sealed segments are opened on first use, and only a few
//! stay open.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::Error;
use super::disk::Disk;
use super::record::Key;
use super::segment::Segment;
use crate::audit::event::Micros;
use crate::pipeline::Transition;
use crate::util::lock::lock;

/// Maximum number of sealed segments that stay open. Each uses a file descriptor and up to 4 MiB of cache.
const OPEN_MAX: usize = 24;

/// A segment that is only read.
#[derive(Clone, Debug)]
pub(super) struct SealedSegment {
    /// Its number.
    pub(super) number: u64,
    /// Its path.
    pub(super) path: PathBuf,
    /// The latest event time in it.
    pub(super) last: Micros,
    /// Its size in bytes when it was sealed.
    pub(super) bytes: u64,
}

/// The sealed segments that are open, and the numbers of those whose checksums were verified.
#[derive(Debug, Default)]
pub struct SealedSegments {
    /// By number, most recently used last.
    open: Mutex<VecDeque<(u64, Arc<Segment>)>>,
    verified: Mutex<HashSet<u64>>,
}

/// A snapshot of the list of segments, for reading while others are written.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) disk: Disk,
    pub(super) files: Arc<SealedSegments>,
    pub(super) sealed: Arc<[SealedSegment]>,
    pub(super) active: Arc<Segment>,
    pub(super) complete_since: Micros,
}

// === impl SealedSegment ===

impl SealedSegment {
    pub(super) fn new(number: u64, path: PathBuf, last: Micros) -> SealedSegment {
        let bytes = std::fs::metadata(&path).map_or(0, |m| m.len());
        SealedSegment { number, path, last, bytes }
    }
}

// === impl SealedSegments ===

impl SealedSegments {
    /// Opens a segment and verifies its checksums, unless it is already open.
    ///
    /// # Errors
    /// As for [`Segment::open`].
    pub(super) fn open(&self, disk: &Disk, file: &SealedSegment) -> Result<Arc<Segment>, Error> {
        // Locked while the segment is opened, so that a second reader gets the open segment instead of a lock error.
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

    /// Keeps a segment open that was just sealed, since readers may still use it.
    pub(super) fn keep(&self, number: u64, segment: Arc<Segment>) {
        lock(&self.verified).insert(number);
        let mut open = lock(&self.open);
        open.push_back((number, segment));
        close_unused(&mut open);
    }

    /// Closes a segment that is about to be removed.
    pub(super) fn forget(&self, number: u64) {
        lock(&self.open).retain(|(open, _)| *open != number);
        lock(&self.verified).remove(&number);
    }

    /// Returns whether this process has verified all checksums of a segment.
    pub(super) fn is_verified(&self, number: u64) -> bool {
        lock(&self.verified).contains(&number)
    }
}

/// Closes the least recently used segments beyond [`OPEN_MAX`], except those that are being read.
fn close_unused(open: &mut VecDeque<(u64, Arc<Segment>)>) {
    while open.len() > OPEN_MAX
        && let Some(at) = open.iter().position(|(_, segment)| Arc::strong_count(segment) == 1)
    {
        open.remove(at);
    }
}

// === impl Reader ===

impl Reader {
    /// Returns the event time since which every acknowledged write is in the segments.
    pub fn complete_since(&self) -> Micros {
        self.complete_since
    }

    /// Calls `each` for every record at or after `since`, segment by segment, each in key order.
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

    /// Calls `each` for the records of one object at or after `since`, latest first and without duplicates, up to
    /// `records_max`, until it returns `false`.
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
        for (segment_index, segment) in segments.iter().enumerate() {
            keys.extend(segment.keys_of(object, since, records_max)?.into_iter().map(|key| (key, segment_index)));
        }
        // A late write is in a later segment than writes with earlier times. A write that was posted again after its
        // segment was sealed is in two segments; the first copy is the one that was acknowledged.
        keys.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        keys.dedup_by_key(|(key, _)| *key);
        for (key, segment_index) in keys.into_iter().take(records_max) {
            if let Some(packed) = segments[segment_index].get(key)?
                && !each(key, &packed)
            {
                break;
            }
        }
        Ok(())
    }

    /// Calls `each` for every transition at or after `since`, segment by segment, each in order.
    ///
    /// # Errors
    /// [`Error`].
    pub fn transitions(&self, since: Micros, mut each: impl FnMut(Transition)) -> Result<(), Error> {
        for segment in self.segments(since) {
            segment?.transitions(since, &mut each)?;
        }
        Ok(())
    }

    /// Calls `each` with the key text of every object, once per segment.
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
