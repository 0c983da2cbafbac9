//! A directory of segments: one that is written, older ones that are only read, and an end to their age and size.
//!
//! Writes go to files in the order in which they arrive. When a file ends is decided by its size, and by how far the
//! latest event time has gone since it began: an event that is late or dated beyond the clock costs no file. Old writes go
//! by whole files: nothing is compacted, and nobody waits for it. A file is named by its number, and once it is sealed also
//! by the time of its last write.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::disk::Disk;
use super::head::{Found, Head, Known};
use super::reader::{Reader, Sealed, SealedFiles};
use super::record::Record;
use super::segment::{DRAFT, Segment};
use crate::audit::event::Micros;
use crate::pipeline::Turn;

/// Files that a full journal has: as many parts of it go at once.
const SEGMENTS: u64 = 16;
/// The least a file may be: an empty one has about a mebibyte.
const SEGMENT_BYTES_MIN: u64 = 4 << 20;
/// The most: after a crash the last file is read as a whole before anything else.
const SEGMENT_BYTES_MAX: u64 = 256 << 20;
/// Free bytes of the file system below which the journal says that it is full, before a write fails: enough for the
/// largest group of writes. Of a small file system a sixteenth.
const RESERVE_BYTES: u64 = 64 << 20;
/// Ends of names: segments, and those that could not be read and were set aside.
const SUFFIX: &str = "redb";
const ASIDE: &str = "redb.aside";
/// The file that is written to see whether there is space.
const PROBE: &str = "probe.new";

/// How long and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The age, in the time of events, beyond which writes go.
    pub age: Micros,
    /// The bytes beyond which the oldest writes go.
    pub bytes: u64,
    /// The age up to which writes are read at a start.
    pub window: Micros,
    /// How far beyond the clock an event's time is believed. A later one counts as of that time when files are begun and
    /// removed; it is stored as it is.
    pub ahead: Micros,
}

/// What a store is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Where its files are.
    pub disk: &'a Disk,
    /// The directory.
    pub folder: &'a Path,
    /// How long and how much is kept.
    pub retention: Retention,
    /// Whether files that cannot be read are renamed; without, they are an error.
    pub sets_aside: bool,
}

/// The journal's files.
#[derive(Debug)]
pub struct Store {
    disk: Disk,
    folder: PathBuf,
    retention: Retention,
    head: Head,
    files: Arc<SealedFiles>,
    sealed: Arc<[Sealed]>,
    active: Arc<Segment>,
    number: u64,
    /// The latest event time, no later than the clock allows.
    newest: Micros,
    /// What `newest` was when the active file began.
    begun: Micros,
    /// The latest event time in the active file.
    last: Micros,
    /// Whether nothing was ever written to it, and nothing is known to be missing: the history begins with the first write.
    is_fresh: bool,
}

/// What a directory holds.
#[derive(Default)]
struct Listing {
    sealed: Vec<(u64, PathBuf, Micros)>,
    plain: Vec<(u64, PathBuf)>,
    /// Numbers and last times of those that were set aside.
    aside: Vec<(u64, Option<Micros>)>,
    drafts: Vec<PathBuf>,
}

// === impl Store ===

impl Store {
    /// Opens a directory, which is made where it is missing. `files` are those that were found good before, if any. Names
    /// the files that were set aside.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(place: Place<'_>, files: &Arc<SealedFiles>, now: Micros) -> Result<(Store, Vec<Error>), Error> {
        let Place { disk, folder, retention, sets_aside } = place;
        let unusable = |source| Error::Directory { path: folder.into(), source };
        disk.make_directory(folder).map_err(unusable)?;
        let (mut head, found) = Head::open(disk, folder)?;
        let listing = Listing::read(folder).map_err(unusable)?;
        for draft in &listing.drafts {
            disk.remove(draft).map_err(unusable)?;
        }
        let until = now.saturating_add(retention.ahead);
        let mut known = listing.reconcile(found, now);
        let mut damages = Vec::new();
        // From when on nothing is missing is on disk before the file is gone.
        let mut readable = |path: &Path, lost: Micros, opened: Result<Arc<Segment>, Error>| match opened {
            Err(error @ (Error::Damaged { .. } | Error::Format { .. })) if sets_aside => {
                known.complete_since = known.complete_since.max(lost.saturating_add(1));
                head.set(known)?;
                disk.rename(path, &path.with_extension(ASIDE)).map_err(unusable)?;
                damages.push(error);
                Ok(None)
            }
            opened => opened.map(Some),
        };
        let mut sealed: Vec<Sealed> = Vec::new();
        for (number, path, last) in &listing.sealed {
            sealed.push(Sealed::new(*number, path.clone(), (*last).min(until)));
        }
        let mut active = None;
        let number = listing.numbers().max().unwrap_or(0);
        for (at, path) in listing.plain {
            let Some(segment) = readable(&path, now, Segment::open(disk, &path).map(Arc::new))? else { continue };
            let span = segment.span(until)?;
            match at == number {
                true => active = Some((segment, span)),
                // It ended, and had not got its name yet.
                false => {
                    let last = span.map_or(now, |(_, last)| last);
                    sealed.push(seal(disk, folder, files, at, &segment, last)?);
                }
            }
        }
        sealed.sort_by_key(|file| file.number);
        let span = active.as_ref().and_then(|(_, span)| *span);
        let last = span.map(|(_, last)| last);
        let newest = sealed.iter().map(|file| file.last).chain(last).max().unwrap_or(i64::MIN);
        // What will be read now must be readable; older files are looked through at the first question.
        let window = newest.saturating_sub(retention.window);
        let mut kept = Vec::with_capacity(sealed.len());
        for file in sealed {
            let is_good = file.last < window || files.is_verified(file.number);
            if is_good || readable(&file.path, file.last, files.open(disk, &file))?.is_some() {
                kept.push(file);
            }
        }
        let (active, number) = match active {
            Some((active, _)) => (active, number),
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

    /// Writes these records and turns, all or none; they are on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Gone`]. The store must then be opened anew.
    pub fn append(&mut self, records: &[&Record], turns: &[&Turn], now: Micros) -> Result<(), Error> {
        if self.is_full() {
            self.rotate()?;
            self.retain();
        }
        let latest = latest(records, turns, now.saturating_add(self.retention.ahead));
        if let Some(earliest) = records.iter().map(|record| record.key.at()).min()
            && std::mem::take(&mut self.is_fresh)
        {
            let earliest = earliest.max(latest.unwrap_or(now).saturating_sub(self.retention.age));
            let known = self.head.known();
            self.head.set(Known { complete_since: known.complete_since.min(earliest), ..known })?;
        }
        self.active.append(records.iter().copied(), turns.iter().copied())?;
        self.check_place()?;
        if let Some(latest) = latest {
            if self.newest == i64::MIN {
                self.begun = latest;
            }
            self.newest = self.newest.max(latest);
            self.last = self.last.max(latest);
        }
        Ok(())
    }

    /// The time of the last write.
    pub fn newest(&self) -> Option<Micros> {
        Some(self.newest).filter(|at| *at != i64::MIN)
    }

    /// The files as they are now.
    pub fn reader(&self) -> Reader {
        Reader {
            disk: self.disk.clone(),
            files: self.files.clone(),
            sealed: self.sealed.clone(),
            active: self.active.clone(),
            complete_since: self.head.known().complete_since,
        }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.sealed.iter().map(|file| file.bytes).sum::<u64>() + self.active.bytes()
    }

    /// Whether the next write would be kept, as far as this can be told without one.
    ///
    /// # Errors
    /// [`Error::Gone`]: the store must be opened anew. [`Error::Full`]: writes may still succeed.
    pub fn check(&self) -> Result<(), Error> {
        self.check_place()?;
        check_space(&self.disk, &self.folder)
    }

    /// Notes that writes with an event time up to this one were acknowledged and are missing.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn note_lost(&mut self, until: Micros) -> Result<(), Error> {
        self.is_fresh = false;
        let known = self.head.known();
        self.head.set(Known { complete_since: known.complete_since.max(until.saturating_add(1)), ..known })
    }

    /// Tries whether a group of this size can be written.
    ///
    /// # Errors
    /// [`Error::Storage`]. The store must then be opened anew.
    pub fn probe(&self, bytes: usize) -> Result<(), Error> {
        self.active.probe(bytes)
    }

    fn check_place(&self) -> Result<(), Error> {
        if self.active.is_in_place() { Ok(()) } else { Err(Error::Gone(self.folder.clone())) }
    }

    fn is_full(&self) -> bool {
        let bytes_max = (self.retention.bytes / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let age_max = (self.retention.age / SEGMENTS.cast_signed()).max(1);
        self.active.bytes() >= bytes_max || self.newest.saturating_sub(self.begun) > age_max
    }

    /// Ends the active file and begins the next.
    fn rotate(&mut self) -> Result<(), Error> {
        let number = self.number + 1;
        let next = Arc::new(Segment::create(&self.disk, &path_of(&self.folder, number))?);
        let ended = seal(&self.disk, &self.folder, &self.files, self.number, &self.active, self.last)?;
        self.sealed = self.sealed.iter().cloned().chain([ended]).collect();
        self.active = next;
        self.number = number;
        self.begun = self.newest;
        self.last = i64::MIN;
        self.head.set(Known { last: number, ..self.head.known() })
    }

    /// Removes files that are too old or too much, from the oldest.
    fn retain(&mut self) {
        let oldest = self.newest.saturating_sub(self.retention.age);
        let mut bytes = self.bytes();
        let is_over = |file: &&Sealed| {
            let is_over = file.last < oldest || bytes > self.retention.bytes;
            bytes -= file.bytes;
            is_over
        };
        let over: Vec<Sealed> = self.sealed.iter().take_while(is_over).cloned().collect();
        let (Some(last), Some(until)) = (over.last(), over.iter().map(|file| file.last).max()) else { return };
        // From when on nothing is missing is on disk before the file is gone.
        let known = self.head.known();
        let known = Known {
            first: known.first.max(last.number + 1),
            complete_since: known.complete_since.max(until.saturating_add(1)),
            ..known
        };
        if let Err(error) = self.head.set(known) {
            tracing::warn!(%error, "old journal files stay until this can be written");
            return;
        }
        for file in &over {
            self.files.forget(file.number);
            if let Err(error) = self.disk.remove(&file.path) {
                tracing::warn!(path = %file.path.display(), %error, "an old journal file cannot be removed");
            }
        }
        self.sealed = self.sealed.iter().skip(over.len()).cloned().collect();
    }
}

/// Whether a directory's file system has space for the largest group of writes.
///
/// # Errors
/// [`Error::Full`]; [`Error::Directory`] where the directory is not there.
fn check_space(disk: &Disk, folder: &Path) -> Result<(), Error> {
    let space = disk.space(folder).map_err(|source| Error::Directory { path: folder.into(), source })?;
    match space.free < RESERVE_BYTES.min(space.all / 16) {
        true => Err(Error::Full { path: folder.into(), free: space.free }),
        false => Ok(()),
    }
}

/// Whether a directory has space for so many bytes more, by writing them.
///
/// # Errors
/// [`Error::Full`], [`Error::Storage`].
pub(super) fn try_space(disk: &Disk, folder: &Path, bytes: usize) -> Result<(), Error> {
    check_space(disk, folder)?;
    let path = folder.join(PROBE);
    disk.try_space(&path, bytes).map_err(|error| Error::Storage { path, message: error.to_string() })
}

/// The latest time among these, none of them later than `until`.
pub(super) fn latest(records: &[&Record], turns: &[&Turn], until: Micros) -> Option<Micros> {
    let times = records.iter().map(|record| record.key.at()).chain(turns.iter().map(|turn| turn.at));
    times.map(|at| at.min(until)).max()
}

/// Gives a file its name as a sealed one.
fn seal(
    disk: &Disk,
    folder: &Path,
    files: &SealedFiles,
    number: u64,
    segment: &Arc<Segment>,
    last: Micros,
) -> Result<Sealed, Error> {
    let unusable = |source| Error::Directory { path: folder.into(), source };
    let path = folder.join(format!("{number:08}-{last}.{SUFFIX}"));
    disk.rename(&path_of(folder, number), &path).map_err(unusable)?;
    disk.sync_directory(folder).map_err(unusable)?;
    files.keep(number, segment.clone());
    Ok(Sealed::new(number, path, last))
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.{SUFFIX}"))
}

// === impl Listing ===

impl Listing {
    fn read(folder: &Path) -> std::io::Result<Listing> {
        let mut listing = Listing::default();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some((stem, suffix)) = name.split_once('.') else { continue };
            let (number, last) = match stem.split_once('-') {
                Some((number, last)) => (number, last.parse().ok()),
                None => (stem, None),
            };
            match (suffix, number.parse(), last) {
                (DRAFT, ..) => listing.drafts.push(path),
                _ if name == PROBE => listing.drafts.push(path),
                (SUFFIX, Ok(number), Some(last)) => listing.sealed.push((number, path, last)),
                (SUFFIX, Ok(number), None) => listing.plain.push((number, path)),
                (ASIDE, Ok(number), last) => listing.aside.push((number, last)),
                _ => {}
            }
        }
        listing.sealed.sort();
        listing.plain.sort();
        Ok(listing)
    }

    /// Numbers of the files that hold writes.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        let plain = self.plain.iter().map(|(number, _)| *number);
        self.sealed.iter().map(|(number, ..)| *number).chain(plain).chain(self.aside.iter().map(|(number, _)| *number))
    }

    /// What the head says, after a look at which files are missing.
    fn reconcile(&self, found: Found, now: Micros) -> Known {
        let numbers: BTreeSet<u64> = self.numbers().collect();
        let (first, last) = (numbers.first().copied().unwrap_or(0), numbers.last().copied().unwrap_or(0));
        let mut known = match found {
            Found::Known(known) => known,
            // A journal that was written before there were heads: what went with its age or size is not known.
            Found::Nothing if !numbers.is_empty() => {
                let oldest = self.sealed.first().filter(|(number, ..)| *number > 1).map(|(.., last)| last + 1);
                Known { first, last, complete_since: oldest.unwrap_or(0).min(now) }
            }
            Found::Nothing | Found::Damaged => Known { first, last, complete_since: now },
        };
        let mut lost = None;
        let expected = numbers.range(known.first..).copied();
        let mut before = known.first.max(1) - 1;
        for number in expected {
            if number > before + 1 {
                // Of a file that is gone nothing is known but that later ones were written after it.
                let after = self.sealed.iter().find(|(sealed, ..)| *sealed >= number).map_or(now, |(.., last)| *last);
                lost = lost.max(Some(after.min(now)));
                known.first = number;
            }
            before = number;
        }
        if known.last > before {
            lost = Some(now);
        }
        if let Some(until) = lost {
            tracing::warn!("journal files are missing; the history is complete from the next file on");
            known.complete_since = known.complete_since.max(until.saturating_add(1));
        }
        known.last = last;
        known
    }
}

#[cfg(test)]
mod tests;
