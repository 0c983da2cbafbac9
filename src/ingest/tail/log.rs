//! Tracks one log that is being written: how far it was read, and where to continue after rotation, truncation or
//! deletion.
//!
//! A file is identified by its first bytes, not by its name or inode: rotation renames it, compression gives it another
//! inode, and a new file may get the inode of a deleted one. An audit event starts with a unique ID, so no two logs
//! start with the same bytes, except for a copy. If the original was truncated after it was copied, reading continues
//! in the copy.
//!
//! A file is finished when the log's name refers to another file that is not empty: by then, the writer no longer
//! writes to the old file. All files between the two are opened together, so that they stay readable when they are
//! renamed, compressed or deleted.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{HEAD_BYTES_MAX, Position, hash};
use super::rotated::{self, Entry, Identity};
use crate::audit::envelope::EVENT_BYTES_MAX;
use crate::audit::event::Micros;
use crate::audit::times;
use crate::ingest::decompress;
use crate::ingest::files::{self, Input};
use crate::pipeline::clock::Tolerance;

/// Number of bytes that are read at a time. It is smaller when fuzzing, so that even small logs consist of several
/// chunks.
const CHUNK_BYTES: usize = if cfg!(fuzzing) { 1 << 11 } else { 1 << 20 };
/// Maximum number of files that are open at once. Further ones are found when these have been read.
const QUEUE_MAX: usize = 64;
/// Maximum number of attempts to get two identical directory listings in a row. The listing may change during a
/// rotation.
const LOOKS_MAX: usize = 20;

/// A log, and how far it was read.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// The target of `path`, through symbolic links, when the current file was opened.
    real: Option<PathBuf>,
    current: Option<Open>,
    /// Files written after the current one, opened and not yet read.
    queue: VecDeque<Open>,
    position: Option<Position>,
    gaps: u64,
}

/// Whether there may be more to read immediately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call `step` again.
    More,
    /// Everything was read.
    Idle,
}

#[derive(Debug)]
struct Open {
    identity: Identity,
    source: Source,
    /// The first bytes, which identify the file.
    head: Vec<u8>,
    /// Position in the file at which `buffer` starts. Everything before it was passed on.
    offset: u64,
    buffer: Vec<u8>,
    /// Whether the rest of a line that is longer than an event can be is being skipped.
    is_skipping: bool,
}

enum Source {
    Plain(File),
    Packed(Box<dyn Read + Send>),
}

// === impl Tail ===

impl Tail {
    /// Tails `path` from `position`, or from the start of the current file if there is none.
    pub fn new(path: PathBuf, position: Option<Position>) -> Tail {
        Tail { path, real: None, current: None, queue: VecDeque::new(), position, gaps: 0 }
    }

    /// Returns the log's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the position after the last line that was passed on.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Returns how often the file at the position could not be found again, so that its unread rest was lost.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Returns the number of bytes that are known to exist and were not passed on.
    pub fn behind(&self) -> u64 {
        let of = |open: &Open| match &open.source {
            Source::Plain(file) => file.metadata().map_or(0, |m| m.len().saturating_sub(open.offset)),
            Source::Packed(_) => 0,
        };
        self.current.iter().chain(&self.queue).map(of).sum()
    }

    /// Returns the directories that change when the log is written or rotated.
    pub fn folders(&self) -> Vec<PathBuf> {
        rotated::folders(&self.path, self.real.as_deref()).into_iter().map(|folder| folder.path).collect()
    }

    /// Passes on whole lines that are new, at most one chunk of them.
    ///
    /// # Errors
    /// Errors of reading. A later step continues where this one failed.
    pub fn step(&mut self, sink: &mut impl FnMut(&[u8])) -> io::Result<Step> {
        let Some(open) = &mut self.current else { return self.find() };
        let is_at_end = open.fill()? == 0;
        if !open.is_itself()? {
            // Truncated, or overwritten from the start: the bytes that were just read do not continue those before.
            tracing::info!(file = %self.path.display(), "the log was truncated");
            self.current = None;
            self.queue.clear();
            return Ok(Step::More);
        }
        self.pass_on(false, sink);
        if !is_at_end {
            return Ok(Step::More);
        }
        if self.queue.is_empty() {
            let live = Entry::live(&self.path)?;
            if live.as_ref().is_some_and(|live| self.is_current(live.identity)) {
                return Ok(Step::Idle);
            }
            if live.is_none_or(|live| live.is_empty) && self.successors()?.iter().all(Open::is_empty) {
                return Ok(Step::Idle);
            }
            // The writer has moved on to another file, so this one is complete now.
            while self.current.as_mut().is_some_and(|open| open.fill().is_ok_and(|n| n > 0)) {
                self.pass_on(false, sink);
            }
        }
        self.pass_on(true, sink);
        if self.queue.is_empty() {
            self.queue = self.successors()?;
            self.real = std::fs::canonicalize(&self.path).ok();
        }
        self.current = self.queue.pop_front();
        Ok(Step::More)
    }

    fn is_current(&self, identity: Identity) -> bool {
        self.current.as_ref().is_some_and(|open| open.identity == identity)
    }

    /// Passes on the whole lines in the buffer. At the end of a file, also an unterminated last line.
    fn pass_on(&mut self, is_end: bool, sink: &mut impl FnMut(&[u8])) {
        let Some(open) = &mut self.current else { return };
        let end = open.whole_lines(is_end);
        if end == 0 {
            return;
        }
        let lines = &open.buffer[..end];
        sink(lines);
        let before = self.position.take();
        let (at, count, bytes) = before.map_or((i64::MIN, 0, 0), |p| (p.at, p.lines, p.bytes));
        let latest = times::end(lines, Tolerance::default().ahead).unwrap_or(i64::MIN);
        let offset = open.offset + end as u64;
        let head = &open.head[..open.head.len().min(usize::try_from(offset).unwrap_or(usize::MAX))];
        self.position = Some(Position {
            device: open.identity.device,
            inode: open.identity.inode,
            head_len: head.len(),
            head_hash: hash(head),
            offset,
            at: at.max(latest),
            lines: count + lines.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()).count() as u64,
            bytes: bytes + end as u64,
        });
        open.take(end);
    }

    /// Finds the file in which to continue.
    fn find(&mut self) -> io::Result<Step> {
        self.queue = match &self.position {
            Some(position) => {
                let position = position.clone();
                let (chain, is_found) = self.chain(&position)?;
                if !is_found && !chain.is_empty() {
                    self.record_gap(&position);
                }
                chain
            }
            None => match Entry::live(&self.path)?.map(|entry| Open::new(&entry)).transpose() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => VecDeque::new(),
                found => found?.into_iter().collect(),
            },
        };
        self.current = self.queue.pop_front();
        self.real = std::fs::canonicalize(&self.path).ok();
        Ok(if self.current.is_some() { Step::More } else { Step::Idle })
    }

    /// Returns the files that were written after the current one.
    fn successors(&self) -> io::Result<VecDeque<Open>> {
        let chain = match &self.position {
            Some(position) => {
                let (mut chain, _) = self.chain(position)?;
                // The file at the position was read to its end.
                chain.retain(|open| !open.is_at(position));
                chain
            }
            // All files were empty so far.
            None => {
                let entries = rotated::list(&self.path, self.real.as_deref())?;
                let index = entries.iter().position(|entry| self.is_current(entry.identity));
                let after = &entries[index.map_or(entries.len().saturating_sub(1), |i| i + 1)..];
                after.iter().filter(|e| e.is_live || !e.is_empty).map(Open::new).collect::<io::Result<_>>()?
            }
        };
        Ok(chain)
    }

    /// Returns the file at a position, opened there, and all files written after it. The flag is `false` if that file
    /// is gone.
    fn chain(&self, position: &Position) -> io::Result<(VecDeque<Open>, bool)> {
        let mut looks = 0;
        loop {
            let entries = rotated::list(&self.path, self.real.as_deref())?;
            let opened = open_from(&entries, position);
            looks += 1;
            let is_stable = rotated::list(&self.path, self.real.as_deref())? == entries;
            match opened {
                Ok(opened) if is_stable => return Ok(opened),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ if looks == LOOKS_MAX => {
                    return Err(io::Error::other("its directory keeps changing; retrying"));
                }
                _ => {}
            }
        }
    }

    fn record_gap(&mut self, position: &Position) {
        let is_cut = Entry::live(&self.path).ok().flatten().is_some_and(|e| e.identity.inode == position.inode);
        self.gaps += 1;
        tracing::warn!(
            file = %self.path.display(),
            offset = position.offset,
            "{}; events that were not read before are lost",
            if is_cut { "the log was truncated without a copy" } else { "the log was rotated and the old file deleted" }
        );
    }
}

/// Opens the file at a position and all files after it. The flag is `false` if that file is gone.
fn open_from(entries: &[Entry], position: &Position) -> io::Result<(VecDeque<Open>, bool)> {
    let is_same = |entry: &&Entry| entry.identity.inode == position.inode && entry.identity.device == position.device;
    // Tries the same inode first, so that a file is preferred over its copy, and then the newest files.
    let (same, others): (Vec<&Entry>, Vec<&Entry>) = entries.iter().rev().partition(is_same);
    let mut own = None;
    for entry in same.into_iter().chain(others) {
        if let Some(open) = Open::at(entry, position)? {
            own = Some((entry, open));
            break;
        }
    }
    let is_found = own.is_some();
    let begin = match &own {
        Some((own, _)) => entries.iter().position(|entry| entry == *own).map_or(0, |i| i + 1),
        // The file is gone, so only event times show which files were read before. A file without times, such as an
        // empty one, says nothing about earlier files.
        None => entries.iter().rposition(|entry| !entry.is_live && is_older(entry, position)).map_or(0, |i| i + 1),
    };
    let folder = own.as_ref().map(|(entry, _)| entry.folder);
    let mut chain: VecDeque<Open> = own.into_iter().map(|(_, open)| open).collect();
    for entry in &entries[begin..] {
        // Another directory may contain older files.
        let is_after = entry.is_live || folder.is_none_or(|f| f == entry.folder) || is_newer(entry, position);
        if is_after && chain.len() < QUEUE_MAX && (entry.is_live || !entry.is_empty) {
            chain.push_back(Open::new(entry)?);
        }
    }
    Ok((chain, is_found))
}

fn is_newer(entry: &Entry, position: &Position) -> bool {
    end_time(entry).is_some_and(|at| at > position.at)
}

fn is_older(entry: &Entry, position: &Position) -> bool {
    end_time(entry).is_some_and(|at| at <= position.at)
}

fn end_time(entry: &Entry) -> Option<Micros> {
    files::end_time(&Input::File(entry.path.clone()), Tolerance::default().ahead)
}

// === impl Open ===

impl Open {
    fn new(entry: &Entry) -> io::Result<Open> {
        // If the path has become a pipe in the meantime, opening it must not wait for its writer.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&entry.path)?;
        if !file.metadata()?.is_file() {
            return Err(rotated::not_a_file());
        }
        let source = if entry.is_packed {
            Source::Packed(decompress::open(file, Arc::default())?.reader)
        } else {
            Source::Plain(file)
        };
        let (identity, head) = match &source {
            // The file may be truncated before it is read.
            Source::Plain(file) => (Identity::of(&file.metadata()?), read_head(file)?),
            Source::Packed(_) => (entry.identity, Vec::new()),
        };
        Ok(Open { identity, source, head, offset: 0, buffer: Vec::new(), is_skipping: false })
    }

    /// Opens a file at a position. Returns `None` if it is a different file.
    fn at(entry: &Entry, position: &Position) -> io::Result<Option<Open>> {
        let mut open = match Open::new(entry) {
            Ok(open) => open,
            // A damaged archive is not the file at the position.
            Err(error) if entry.is_packed && error.kind() != io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut head = vec![0; position.head_len.min(HEAD_BYTES_MAX)];
        let is_same = match &mut open.source {
            Source::Plain(file) => {
                let is_long_enough = file.metadata()?.len() >= position.offset;
                is_long_enough && file.read_exact_at(&mut head, 0).is_ok() && hash(&head) == position.head_hash
            }
            Source::Packed(stream) => {
                let rest = position.offset.saturating_sub(head.len() as u64);
                stream.read_exact(&mut head).is_ok()
                    && hash(&head) == position.head_hash
                    && io::copy(&mut stream.by_ref().take(rest), &mut io::sink()).is_ok_and(|n| n == rest)
            }
        };
        if let Source::Plain(file) = &mut open.source {
            file.seek(SeekFrom::Start(position.offset))?;
        }
        open.head = head;
        open.offset = position.offset;
        Ok(is_same.then_some(open))
    }

    fn is_empty(&self) -> bool {
        matches!(&self.source, Source::Plain(file) if file.metadata().is_ok_and(|m| m.len() == 0))
    }

    /// Returns whether this is the file of a position, read up to that position.
    fn is_at(&self, position: &Position) -> bool {
        self.offset == position.offset && self.head.len() == position.head_len && hash(&self.head) == position.head_hash
    }

    /// Reads more data into the buffer. Returns the number of bytes; 0 at the end.
    fn fill(&mut self) -> io::Result<usize> {
        let len = self.buffer.len();
        self.buffer.resize(len + CHUNK_BYTES, 0);
        let read = loop {
            let room = &mut self.buffer[len..];
            let result = match &mut self.source {
                Source::Plain(file) => file.read(room),
                Source::Packed(stream) => stream.read(room),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A damaged archive ends at the damage.
                Err(error) if matches!(self.source, Source::Packed(_)) => {
                    tracing::warn!(%error, "a rotated log is damaged; skipping the rest of it");
                    break Ok(0);
                }
                result => break result,
            }
        };
        self.buffer.truncate(len + *read.as_ref().unwrap_or(&0));
        // If the start has changed, `is_itself` detects that.
        if self.offset == 0 && self.head.len() < HEAD_BYTES_MAX && self.buffer.starts_with(&self.head) {
            self.head = self.buffer[..self.buffer.len().min(HEAD_BYTES_MAX)].to_vec();
        }
        read
    }

    /// Returns whether the file is still the one that was being read: not shorter, and with the same start.
    fn is_itself(&self) -> io::Result<bool> {
        let Source::Plain(file) = &self.source else { return Ok(true) };
        if file.metadata()?.len() < self.offset + self.buffer.len() as u64 {
            return Ok(false);
        }
        let mut head = vec![0; self.head.len()];
        match file.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(head == self.head),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the length of the whole lines in the buffer. At the end of a file, an unterminated last line counts as
    /// whole.
    fn whole_lines(&mut self, is_end: bool) -> usize {
        // If a writer continues at its old offset after a truncation, there is a hole of zeros before it.
        let hole = self.buffer.iter().take_while(|b| **b == 0).count();
        self.take(hole);
        if self.is_skipping {
            let rest = memchr::memchr(b'\n', &self.buffer);
            self.is_skipping = rest.is_none();
            self.take(rest.map_or(self.buffer.len(), |newline| newline + 1));
        }
        match memchr::memrchr(b'\n', &self.buffer) {
            Some(newline) => newline + 1,
            None if is_end => self.buffer.len(),
            None if self.buffer.len() > EVENT_BYTES_MAX => {
                // Passed on as far as it was read, to be counted as malformed.
                self.is_skipping = true;
                self.buffer.len()
            }
            None => 0,
        }
    }

    fn take(&mut self, len: usize) {
        self.buffer.drain(..len);
        self.offset += len as u64;
    }
}

/// Reads the first bytes of a file, without moving its position.
fn read_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES_MAX];
    let mut len = 0;
    while len < head.len() {
        match file.read_at(&mut head[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    head.truncate(len);
    Ok(head)
}

// === impl Source ===

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Source::Plain(_) => "Plain",
            Source::Packed(_) => "Packed",
        })
    }
}
