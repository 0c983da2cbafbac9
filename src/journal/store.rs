//! A directory of segments: one active segment that is written, older sealed ones that are only read, and retention by
//! age and size.
//!
//! Writes are appended in the order in which they arrive. A segment is sealed when it reaches a size, or when the
//! latest event time has advanced far enough since the segment began; an event that is late or dated in the future does
//! not cause a new segment. Retention removes whole segments, so there is no compaction and no request waits for it. A
//! segment's file name is its number; once sealed, it also contains the time of the last write.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::disk::Disk;
use super::head::{Found, Head, HeadContent};
use super::listing::{ASIDE, Listing, PROBE, SUFFIX};
use super::reader::{Reader, SealedSegment, SealedSegments};
use super::record::Record;
use super::segment::Segment;
use crate::audit::event::Micros;
use crate::pipeline::Transition;

/// Number of segments in a full journal. Retention removes whole segments, each about this fraction of the journal.
const SEGMENTS: u64 = 16;
/// Minimum size at which a segment is sealed. An empty segment has about 1 MiB.
const SEGMENT_BYTES_MIN: u64 = 4 << 20;
/// Maximum size at which a segment is sealed. After a crash, the last segment must be read completely first.
const SEGMENT_BYTES_MAX: u64 = 256 << 20;
/// If the file system has fewer free bytes, the journal reports that it is full before a write fails. Enough for the
/// largest group of writes. On a small file system, a sixteenth of its size is used instead.
const RESERVE_BYTES: u64 = 64 << 20;

/// How long writes are kept, and how much space they may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Writes older than this, by event time, are removed.
    pub age: Micros,
    /// Beyond this number of bytes, the oldest writes are removed.
    pub bytes: u64,
    /// Writes up to this age are replayed at startup.
    pub window: Micros,
    /// How far an event time may be ahead of the clock. A later time is clamped for rotation and retention; the event
    /// is stored unchanged.
    pub ahead: Micros,
}

/// Parameters of [`Store::open`].
#[derive(Clone, Copy, Debug)]
pub struct Location<'a> {
    /// The file system.
    pub disk: &'a Disk,
    /// The directory.
    pub folder: &'a Path,
    /// How long writes are kept, and how much space they may use.
    pub retention: Retention,
    /// Whether unreadable files are renamed. If not, they are an error.
    pub sets_aside: bool,
}

/// The open segments of a journal.
#[derive(Debug)]
pub struct Store {
    disk: Disk,
    folder: PathBuf,
    retention: Retention,
    head: Head,
    files: Arc<SealedSegments>,
    sealed: Arc<[SealedSegment]>,
    active: Arc<Segment>,
    number: u64,
    /// The latest event time, clamped to what the clock allows.
    newest: Micros,
    /// The value of `newest` when the active segment began.
    begun: Micros,
    /// The latest event time in the active segment.
    last: Micros,
    /// Whether nothing was ever written and nothing is known to be missing. The history then begins with the first
    /// write.
    is_fresh: bool,
}

// === impl Store ===

impl Store {
    /// Opens a directory, and creates it if it is missing. `files` carries over which sealed segments are open and
    /// verified from a previous opening. Also returns an error for each file that was set aside.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(
        location: Location<'_>,
        files: &Arc<SealedSegments>,
        now: Micros,
    ) -> Result<(Store, Vec<Error>), Error> {
        let Location { disk, folder, retention, .. } = location;
        disk.make_directory(folder).map_err(|source| location.unusable(source))?;
        let (head, found) = Head::open(disk, folder)?;
        let listing = Listing::read(folder).map_err(|source| location.unusable(source))?;
        for draft in &listing.drafts {
            disk.remove(draft).map_err(|source| location.unusable(source))?;
        }
        let number = listing.numbers().max().unwrap_or(0);
        let known = listing.reconcile(found, now);
        let mut opening = Opening { location, files, now, head, known, damages: Vec::new() };
        let Segments { sealed, active, span } = opening.segments(listing, number)?;
        let last = span.map(|(_, last)| last);
        let newest = sealed.iter().map(|file| file.last).chain(last).max().unwrap_or(i64::MIN);
        let kept = opening.verify(sealed, newest.saturating_sub(retention.window))?;
        let Opening { mut head, mut known, damages, .. } = opening;
        let (active, number) = match active {
            Some(active) => (active, number),
            None => (Arc::new(Segment::create(disk, &path_of(folder, number + 1))?), number + 1),
        };
        known.last = number;
        known.first = known.first.max(1);
        head.set(known)?;
        let begun = match (kept.iter().map(|file| file.last).max(), span) {
            (Some(before), _) => before,
            (None, Some((first, _))) if first >= newest.saturating_sub(retention.age) => first,
            _ => newest,
        };
        let mut store = Store {
            disk: disk.clone(),
            folder: folder.into(),
            retention,
            head,
            files: files.clone(),
            sealed: kept.into(),
            active,
            number,
            newest,
            begun,
            last: last.unwrap_or(i64::MIN),
            is_fresh: found == Found::Nothing && number == 1,
        };
        store.retain();
        Ok((store, damages))
    }

    /// Writes these records and transitions atomically; they are durable when this returns.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Gone`]. The store must then be opened again.
    pub fn append(&mut self, records: &[&Record], transitions: &[&Transition], now: Micros) -> Result<(), Error> {
        if self.is_full() {
            self.rotate()?;
            self.retain();
        }
        let latest = latest(records, transitions, now.saturating_add(self.retention.ahead));
        if let Some(earliest) = records.iter().map(|record| record.key.at()).min()
            && std::mem::take(&mut self.is_fresh)
        {
            let earliest = earliest.max(latest.unwrap_or(now).saturating_sub(self.retention.age));
            let known = self.head.known();
            self.head.set(HeadContent { complete_since: known.complete_since.min(earliest), ..known })?;
        }
        self.active.append(records.iter().copied(), transitions.iter().copied())?;
        self.check_location()?;
        if let Some(latest) = latest {
            if self.newest == i64::MIN {
                self.begun = latest;
            }
            self.newest = self.newest.max(latest);
            self.last = self.last.max(latest);
        }
        Ok(())
    }

    /// Returns the latest event time, clamped to what the clock allows.
    pub fn newest(&self) -> Option<Micros> {
        Some(self.newest).filter(|at| *at != i64::MIN)
    }

    /// Returns a reader for the current segments.
    pub fn reader(&self) -> Reader {
        Reader {
            disk: self.disk.clone(),
            files: self.files.clone(),
            sealed: self.sealed.clone(),
            active: self.active.clone(),
            complete_since: self.head.known().complete_since,
        }
    }

    /// Returns the total size of all segments in bytes.
    pub fn bytes(&self) -> u64 {
        self.sealed.iter().map(|file| file.bytes).sum::<u64>() + self.active.bytes()
    }

    /// Checks whether the next write would succeed, as far as possible without writing.
    ///
    /// # Errors
    /// [`Error::Gone`]: the store must be opened again. [`Error::Full`]: writes may still succeed.
    pub fn check(&self) -> Result<(), Error> {
        self.check_location()?;
        check_space(&self.disk, &self.folder)
    }

    /// Records that acknowledged writes with an event time up to `until` are missing.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn note_lost(&mut self, until: Micros) -> Result<(), Error> {
        self.is_fresh = false;
        let known = self.head.known();
        self.head.set(HeadContent { complete_since: known.complete_since.max(until.saturating_add(1)), ..known })
    }

    /// Checks whether a group of this size can be written, by writing it.
    ///
    /// # Errors
    /// [`Error::Storage`]. The store must then be opened again.
    pub fn probe(&self, bytes: usize) -> Result<(), Error> {
        self.active.probe(bytes)
    }

    fn check_location(&self) -> Result<(), Error> {
        if self.active.is_in_place() { Ok(()) } else { Err(Error::Gone(self.folder.clone())) }
    }

    fn is_full(&self) -> bool {
        let bytes_max = (self.retention.bytes / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let age_max = (self.retention.age / SEGMENTS.cast_signed()).max(1);
        self.active.bytes() >= bytes_max || self.newest.saturating_sub(self.begun) > age_max
    }

    /// Seals the active segment and creates the next one.
    fn rotate(&mut self) -> Result<(), Error> {
        let number = self.number + 1;
        let next = Arc::new(Segment::create(&self.disk, &path_of(&self.folder, number))?);
        let ended = seal(&self.disk, &self.folder, &self.files, self.number, &self.active, self.last)?;
        self.sealed = self.sealed.iter().cloned().chain([ended]).collect();
        self.active = next;
        self.number = number;
        self.begun = self.newest;
        self.last = i64::MIN;
        self.head.set(HeadContent { last: number, ..self.head.known() })
    }

    /// Removes the oldest segments that are beyond the age or size limit.
    fn retain(&mut self) {
        let oldest = self.newest.saturating_sub(self.retention.age);
        let mut bytes = self.bytes();
        let is_over = |file: &&SealedSegment| {
            let is_over = file.last < oldest || bytes > self.retention.bytes;
            bytes -= file.bytes;
            is_over
        };
        let over: Vec<SealedSegment> = self.sealed.iter().take_while(is_over).cloned().collect();
        let (Some(last), Some(until)) = (over.last(), over.iter().map(|file| file.last).max()) else { return };
        // The head is updated on disk before the files are removed.
        let known = self.head.known();
        let known = HeadContent {
            first: known.first.max(last.number + 1),
            complete_since: known.complete_since.max(until.saturating_add(1)),
            ..known
        };
        if let Err(error) = self.head.set(known) {
            tracing::warn!(%error, "keeping old journal files until this file can be written");
            return;
        }
        for file in &over {
            self.files.forget(file.number);
            if let Err(error) = self.disk.remove(&file.path) {
                tracing::warn!(path = %file.path.display(), %error, "cannot delete an old journal file");
            }
        }
        self.sealed = self.sealed.iter().skip(over.len()).cloned().collect();
    }
}

// === impl Location ===

impl Location<'_> {
    fn unusable(&self, source: io::Error) -> Error {
        Error::Directory { path: self.folder.into(), source }
    }
}

/// A directory that is being opened.
struct Opening<'a> {
    location: Location<'a>,
    files: &'a Arc<SealedSegments>,
    now: Micros,
    head: Head,
    known: HeadContent,
    /// An error for each file that was set aside.
    damages: Vec<Error>,
}

/// The segments of a directory.
struct Segments {
    /// Sorted by number. They are not open yet.
    sealed: Vec<SealedSegment>,
    active: Option<Arc<Segment>>,
    /// The times of the first and the last write in the active segment.
    span: Option<(Micros, Micros)>,
}

// === impl Opening ===

impl Opening<'_> {
    /// Finds the segments. All but the active one, which has this number, are sealed.
    fn segments(&mut self, listing: Listing, number: u64) -> Result<Segments, Error> {
        let Location { disk, folder, retention, .. } = self.location;
        let until = self.now.saturating_add(retention.ahead);
        let mut sealed: Vec<SealedSegment> = Vec::new();
        for (number, path, last) in &listing.sealed {
            sealed.push(SealedSegment::new(*number, path.clone(), (*last).min(until)));
        }
        let (mut active, mut span) = (None, None);
        for (at, path) in listing.plain {
            let opened = Segment::open(disk, &path).map(Arc::new);
            let Some(segment) = self.readable(&path, self.now, opened)? else { continue };
            let times = segment.span(until)?;
            if at == number {
                (active, span) = (Some(segment), times);
            } else {
                // It was sealed, but the process ended before the rename.
                let last = times.map_or(self.now, |(_, last)| last);
                sealed.push(seal(disk, folder, self.files, at, &segment, last)?);
            }
        }
        sealed.sort_by_key(|file| file.number);
        Ok(Segments { sealed, active, span })
    }

    /// Returns the sealed segments without those that were set aside. Those that the replay is about to read, which
    /// have writes at or after `since`, must be readable. Older ones are verified on first use.
    fn verify(&mut self, sealed: Vec<SealedSegment>, since: Micros) -> Result<Vec<SealedSegment>, Error> {
        let mut kept = Vec::with_capacity(sealed.len());
        for file in sealed {
            let is_good = file.last < since || self.files.is_verified(file.number);
            if is_good || self.readable(&file.path, file.last, self.files.open(self.location.disk, &file))?.is_some() {
                kept.push(file);
            }
        }
        Ok(kept)
    }

    /// Returns a segment that was opened, or `None` if it was set aside because it is unreadable. Writes up to `lost`
    /// are missing then.
    fn readable(
        &mut self,
        path: &Path,
        lost: Micros,
        opened: Result<Arc<Segment>, Error>,
    ) -> Result<Option<Arc<Segment>>, Error> {
        match opened {
            Err(error @ (Error::Damaged { .. } | Error::Format { .. })) if self.location.sets_aside => {
                self.known.complete_since = self.known.complete_since.max(lost.saturating_add(1));
                // The head is updated on disk before the file is set aside.
                self.head.set(self.known)?;
                let aside = path.with_extension(ASIDE);
                self.location.disk.rename(path, &aside).map_err(|source| self.location.unusable(source))?;
                self.damages.push(error);
                Ok(None)
            }
            opened => opened.map(Some),
        }
    }
}

/// Checks whether the file system has space for the largest group of writes.
///
/// # Errors
/// [`Error::Full`]; [`Error::Directory`] if the directory does not exist.
fn check_space(disk: &Disk, folder: &Path) -> Result<(), Error> {
    let space = disk.space(folder).map_err(|source| Error::Directory { path: folder.into(), source })?;
    if space.free < RESERVE_BYTES.min(space.all / 16) {
        Err(Error::Full { path: folder.into(), free: space.free })
    } else {
        Ok(())
    }
}

/// Checks whether the file system has space for `bytes` more bytes, by writing them.
///
/// # Errors
/// [`Error::Full`], [`Error::Storage`].
pub(super) fn try_space(disk: &Disk, folder: &Path, bytes: usize) -> Result<(), Error> {
    check_space(disk, folder)?;
    let path = folder.join(PROBE);
    disk.try_space(&path, bytes).map_err(|error| Error::Storage { path, message: error.to_string() })
}

/// Returns the latest time among these, clamped to `until`.
pub(super) fn latest(records: &[&Record], transitions: &[&Transition], until: Micros) -> Option<Micros> {
    let times = records.iter().map(|record| record.key.at()).chain(transitions.iter().map(|transition| transition.at));
    times.map(|at| at.min(until)).max()
}

/// Renames a segment's file to its sealed name.
fn seal(
    disk: &Disk,
    folder: &Path,
    files: &SealedSegments,
    number: u64,
    segment: &Arc<Segment>,
    last: Micros,
) -> Result<SealedSegment, Error> {
    let unusable = |source| Error::Directory { path: folder.into(), source };
    let path = folder.join(format!("{number:08}-{last}.{SUFFIX}"));
    disk.rename(&path_of(folder, number), &path).map_err(unusable)?;
    disk.sync_directory(folder).map_err(unusable)?;
    files.keep(number, segment.clone());
    Ok(SealedSegment::new(number, path, last))
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.{SUFFIX}"))
}

#[cfg(test)]
mod tests;
