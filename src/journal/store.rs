//! A directory of segments: one that is written, older ones that are only read, and an end to their age and size.
//!
//! Old writes go by whole files: nothing is compacted, and nobody waits for it. A file is named by its number, and once
//! it is full also by the time of its last write.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Error;
use super::record::{Key, Record};
use super::segment::Segment;
use crate::audit::event::Micros;
use crate::pipeline::Turn;

/// Files that a full journal has: as many parts of it go at once.
const SEGMENTS: u64 = 16;
/// The least a file may be: an empty one has about a mebibyte.
const SEGMENT_BYTES_MIN: u64 = 4 << 20;
/// The most: after a crash the last file is read as a whole before anything else.
const SEGMENT_BYTES_MAX: u64 = 256 << 20;
/// Ends of names: segments, and those that could not be read and were set aside.
const SUFFIX: &str = ".redb";
const ASIDE: &str = "redb.aside";

/// How long and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The age, in the time of events, beyond which writes go.
    pub age: Micros,
    /// The bytes beyond which the oldest writes go.
    pub bytes: u64,
    /// The age up to which writes are read at a start.
    pub window: Micros,
}

/// The journal's files.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    retention: Retention,
    full: Vec<Full>,
    active: Arc<Segment>,
    number: u64,
    /// The time of the last write, no later than the clock.
    newest: Micros,
}

/// A file that is only read; opened when it is first needed.
#[derive(Clone, Debug)]
struct Full {
    path: PathBuf,
    last: Micros,
    open: Arc<Mutex<Option<Arc<Segment>>>>,
}

/// The files of a moment, to read from while others are written.
#[derive(Clone, Debug)]
pub struct Reader {
    full: Vec<Full>,
    active: Arc<Segment>,
}

// === impl Store ===

impl Store {
    /// Opens a directory, which is made where it is missing. With `sets_aside`, files that cannot be read are renamed and
    /// named in the answer; without, they are an error.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(
        folder: &Path,
        retention: Retention,
        sets_aside: bool,
        now: Micros,
    ) -> Result<(Store, Vec<Error>), Error> {
        let unusable = |source| Error::Directory { path: folder.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
        let (mut full, mut plain) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(folder).map_err(unusable)? {
            let path = entry.map_err(unusable)?.path();
            match numbers(&path) {
                Some((number, Some(last))) => full.push((number, Full { path, last, open: Arc::default() })),
                Some((number, None)) => plain.push((number, path)),
                None => {}
            }
        }
        let last_full = full.iter().map(|(number, _)| *number).max();
        plain.sort();
        let mut number = plain.last().map(|(number, _)| *number).max(last_full).unwrap_or(0);
        let mut damages = Vec::new();
        let mut readable = |path: &Path, opened: Result<Arc<Segment>, Error>| match opened {
            Err(error @ (Error::Damaged { .. } | Error::Format { .. })) if sets_aside => {
                std::fs::rename(path, path.with_extension(ASIDE)).map_err(unusable)?;
                damages.push(error);
                Ok(None)
            }
            opened => opened.map(Some),
        };
        let mut active = None;
        for (at, path) in plain {
            let Some(segment) = readable(&path, Segment::open(&path).map(Arc::new))? else { continue };
            match at == number {
                true => active = Some(segment),
                // The end of it came in between.
                false => full.extend(end(folder, at, segment)?.map(|file| (at, file))),
            }
        }
        full.sort_by_key(|(number, _)| *number);
        let last = active.as_ref().map(|segment| segment.span()).transpose()?.flatten().map(|(_, last)| last);
        let newest = full.iter().map(|(_, file)| file.last).chain(last).max().unwrap_or(i64::MIN).min(now);
        // What will be read now must be readable; older files are looked through at the first question.
        let window = newest.saturating_sub(retention.window);
        let mut kept = Vec::with_capacity(full.len());
        for (_, file) in full {
            if file.last < window || readable(&file.path, file.segment())?.is_some() {
                kept.push(file);
            }
        }
        let active = match active {
            Some(active) => active,
            None => {
                number += 1;
                Arc::new(Segment::open(&active_path(folder, number))?)
            }
        };
        let mut store = Store { folder: folder.into(), retention, full: kept, active, number, newest };
        store.retain();
        Ok((store, damages))
    }

    /// Writes these records and turns, all or none; they are on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Storage`]. The store must then be opened anew.
    pub fn append(&mut self, records: &[&Record], turns: &[&Turn], now: Micros) -> Result<(), Error> {
        self.active.append(records.iter().copied(), turns.iter().copied())?;
        let latest = records.iter().map(|r| r.key.at()).filter(|at| *at <= now).max();
        self.newest = self.newest.max(latest.unwrap_or(i64::MIN));
        if self.is_full()? {
            self.rotate()?;
            self.retain();
        }
        Ok(())
    }

    /// The time of the last write.
    pub fn newest(&self) -> Option<Micros> {
        Some(self.newest).filter(|at| *at != i64::MIN)
    }

    /// The files as they are now.
    pub fn reader(&self) -> Reader {
        Reader { full: self.full.clone(), active: self.active.clone() }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.full.iter().map(Full::bytes).sum::<u64>() + self.active.bytes()
    }

    fn is_full(&self) -> Result<bool, Error> {
        let bytes_max = (self.retention.bytes / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        if self.active.bytes() >= bytes_max {
            return Ok(true);
        }
        let age_max = self.retention.age / SEGMENTS.cast_signed();
        let span = self.active.span()?;
        Ok(span.is_some_and(|(first, _)| self.newest.saturating_sub(first) > age_max.max(1)))
    }

    /// Ends the active file and begins the next.
    fn rotate(&mut self) -> Result<(), Error> {
        let next = Arc::new(Segment::open(&active_path(&self.folder, self.number + 1))?);
        self.full.extend(end(&self.folder, self.number, self.active.clone())?);
        self.active = next;
        self.number += 1;
        Ok(())
    }

    /// Removes files that are too old or too much, from the oldest.
    fn retain(&mut self) {
        let oldest = self.newest.saturating_sub(self.retention.age);
        let mut bytes = self.bytes();
        self.full.retain(|file| {
            let is_over = file.last < oldest || bytes > self.retention.bytes;
            if is_over {
                bytes -= file.bytes();
                if let Err(error) = std::fs::remove_file(&file.path) {
                    tracing::warn!(path = %file.path.display(), %error, "an old journal file cannot be removed");
                }
            }
            !is_over
        });
    }
}

// === impl Full ===

impl Full {
    fn segment(&self) -> Result<Arc<Segment>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = &*open {
            return Ok(segment.clone());
        }
        let segment = Arc::new(Segment::open(&self.path)?);
        *open = Some(segment.clone());
        Ok(segment)
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |m| m.len())
    }
}

// === impl Reader ===

impl Reader {
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

    /// Shows the records of one object at or after `since`, the last file first, each from its last, until told to stop.
    ///
    /// # Errors
    /// [`Error`].
    pub fn of(&self, object: &str, since: Micros, mut each: impl FnMut(Key, &[u8]) -> bool) -> Result<(), Error> {
        let mut goes_on = true;
        for segment in self.segments(since).collect::<Vec<_>>().into_iter().rev() {
            segment?.of(object, since, |key, packed| {
                goes_on = each(key, packed);
                goes_on
            })?;
            if !goes_on {
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
        let full = self.full.iter().filter(move |f| f.last >= since).map(Full::segment);
        full.chain(std::iter::once(Ok(self.active.clone())))
    }
}

/// Gives a file its name as a full one; `None` where nothing is in it.
fn end(folder: &Path, number: u64, segment: Arc<Segment>) -> Result<Option<Full>, Error> {
    let unusable = |source| Error::Directory { path: folder.into(), source };
    let Some((_, last)) = segment.span()? else {
        std::fs::remove_file(segment.path()).map_err(unusable)?;
        return Ok(None);
    };
    let path = folder.join(format!("{number:08}-{last}{SUFFIX}"));
    std::fs::rename(active_path(folder, number), &path).map_err(unusable)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(unusable)?;
    Ok(Some(Full { path, last, open: Arc::new(Mutex::new(Some(segment))) }))
}

fn active_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}{SUFFIX}"))
}

/// A file's number, and the time of its last write where it is full.
fn numbers(path: &Path) -> Option<(u64, Option<Micros>)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    match stem.split_once('-') {
        Some((number, last)) => Some((number.parse().ok()?, Some(last.parse().ok()?))),
        None => Some((stem.parse().ok()?, None)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const HOUR: Micros = 3_600_000_000;

    /// A directory of its own for a test.
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
        Store::open(folder, retention, false, i64::MAX).unwrap().0
    }

    fn times(store: &Store, since: Micros) -> Vec<Micros> {
        let mut found = BTreeMap::new();
        store.reader().since(since, |key, _| *found.entry(key).or_insert(0) += 1).unwrap();
        found.into_keys().map(|k| k.at()).collect()
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart_and_once() {
        let folder = folder("restart");
        let retention = Retention { age: 100 * HOUR, bytes: 1 << 30, window: HOUR };
        let records: Vec<Record> = (0..50).map(|n| record(n * HOUR, "\0\0cm\0shop\0a", 100)).collect();
        for _ in 0..2 {
            let mut store = open(&folder, retention);
            for group in records.chunks(7) {
                store.append(&group.iter().collect::<Vec<_>>(), &[], i64::MAX).unwrap();
            }
            assert!(store.full.len() >= 3, "it was never rotated");
        }
        let store = open(&folder, retention);
        assert_eq!(times(&store, i64::MIN).len(), 50);
        // Killed between the beginning of a file and the end of the one before it.
        let ended = store.full.last().unwrap().path.clone();
        let number = store.number - 1;
        drop(store);
        std::fs::rename(&ended, active_path(&folder, number)).unwrap();
        let store = open(&folder, retention);
        assert!(ended.exists());
        assert_eq!(times(&store, i64::MIN).len(), 50);
        assert_eq!(times(&store, 40 * HOUR), (40..50).map(|n| n * HOUR).collect::<Vec<_>>());
        assert_eq!(store.newest(), Some(49 * HOUR));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_objects_records_are_found_and_no_neighbours() {
        let folder = folder("objects");
        let mut store = open(&folder, Retention { age: 100 * HOUR, bytes: 1 << 30, window: HOUR });
        let names = ["\0\0cm\0shop\0a", "\0\0cm\0shop\0ab", "\0apps\0deployments\0shop\0a"];
        let records: Vec<Record> = (0..30).map(|n| record(n * HOUR, names[n as usize % 3], 10)).collect();
        for record in &records {
            store.append(&[record], &[], i64::MAX).unwrap();
        }
        let reader = store.reader();
        let mut found = Vec::new();
        reader
            .of(names[1], 10 * HOUR, |key, _| {
                found.push(key.at() / HOUR);
                true
            })
            .unwrap();
        assert_eq!(found, [28, 25, 22, 19, 16, 13, 10]);
        let mut seen = std::collections::BTreeSet::new();
        reader
            .objects(i64::MIN, |name| {
                seen.insert(name.to_owned());
            })
            .unwrap();
        assert_eq!(seen.len(), 3);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_too_old_goes_and_what_is_too_much_goes() {
        let folder = folder("retention");
        let mut store = open(&folder, Retention { age: 32 * HOUR, bytes: 1 << 30, window: HOUR });
        for n in 0..100 {
            store.append(&[&record(n * HOUR, "a", 10)], &[], i64::MAX).unwrap();
        }
        let left = times(&store, i64::MIN);
        assert!(left[0] >= (99 - 32 - 4) * HOUR && left[0] <= (99 - 31) * HOUR, "{}", left[0] / HOUR);
        drop(store);
        std::fs::remove_dir_all(&folder).unwrap();

        let bytes = 24 << 20;
        let mut store = open(&folder, Retention { age: 1000 * HOUR, bytes, window: HOUR });
        for n in 0..800 {
            store.append(&[&record(n, "a", 100_000)], &[], i64::MAX).unwrap();
            assert!(store.bytes() <= bytes + (9 << 20), "{}", store.bytes());
        }
        assert!(times(&store, i64::MIN).len() < 400);
        assert_eq!(times(&store, i64::MIN).last(), Some(&799));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_set_aside_where_that_is_wanted() {
        let folder = folder("damage");
        let retention = Retention { age: 100 * HOUR, bytes: 1 << 30, window: HOUR };
        for damage in ["flipped", "cut", "other format"] {
            let mut store = open(&folder, retention);
            for n in 0..20 {
                store.append(&[&record(n, "a", 3000)], &[], i64::MAX).unwrap();
            }
            let path = store.active.path().to_owned();
            drop(store);
            let mut bytes = std::fs::read(&path).unwrap();
            match damage {
                // Anywhere in the pages that are in use.
                "flipped" => bytes.iter_mut().skip(4096).step_by(1500).for_each(|b| *b ^= 0x55),
                "cut" => bytes.truncate(bytes.len() / 3),
                _ => bytes[..64].fill(b'x'),
            }
            std::fs::write(&path, bytes).unwrap();
            let error = Store::open(&folder, retention, false, i64::MAX).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&path.display().to_string()) && text.contains("move it away"), "{damage}: {text}");
            let (store, damages) = Store::open(&folder, retention, true, i64::MAX).unwrap();
            assert_eq!((damages.len(), times(&store, i64::MIN).len()), (1, 0), "{damage}");
            drop(store);
            std::fs::remove_dir_all(&folder).unwrap();
        }
    }
}
