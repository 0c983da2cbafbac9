//! One log that is being written: what was read of it, and where to go on, whatever happens to the file meanwhile.
//!
//! A file is known by its first bytes, not by its name: rotation renames it, compression gives it another inode, and a
//! new file may get the inode of one that was deleted. An audit event begins with an ID of its own, so no two logs
//! begin alike, except for a copy; and a copy is what to read on in after the original was cut short.
//!
//! A file is left when the log's name stands for another one that is not empty: then the writer is done with the old one.
//! All that lies between the two is opened at once, so that renaming, compressing and deleting them cannot hide it.

mod checkpoint;
mod rotated;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use checkpoint::{Checkpoint, Error, Position};
use checkpoint::{HEAD_BYTES_MAX, hash};
use rotated::{Entry, Identity};

use super::decompress;
use super::files::{self, Input};
use crate::audit::envelope::EVENT_BYTES_MAX;
use crate::audit::times;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Files that are open at a time; further ones are found again once these are read.
const QUEUE_MAX: usize = 64;
/// Looks at a directory until two in a row agree; it may be in the middle of a rotation.
const LOOKS_MAX: usize = 20;

/// A log, and how far it was read.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// Where `path` led when the current file was opened, through symbolic links.
    real: Option<PathBuf>,
    current: Option<Open>,
    /// What was written after the current file, opened and not yet read.
    queue: VecDeque<Open>,
    position: Option<Position>,
    gaps: u64,
}

/// Whether there may be more to read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Step again.
    More,
    /// All that is there was read.
    Idle,
}

#[derive(Debug)]
struct Open {
    identity: Identity,
    source: Source,
    /// The first bytes: what the file is known by.
    head: Vec<u8>,
    /// Where in the file `buffer` begins: everything before it was handed on.
    offset: u64,
    buffer: Vec<u8>,
    /// The rest of a line longer than any event is being skipped.
    is_skipping: bool,
}

enum Source {
    Plain(File),
    Packed(Box<dyn Read + Send>),
}

// === impl Tail ===

impl Tail {
    /// Follows `path` from `position`; from the beginning of the file that is there, without one.
    pub fn new(path: PathBuf, position: Option<Position>) -> Tail {
        Tail { path, real: None, current: None, queue: VecDeque::new(), position, gaps: 0 }
    }

    /// The log's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last line that was handed on.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// How often the file that was read could not be found again: what was still to be read in it is lost.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// Bytes that are known to be there and were not handed on.
    pub fn behind(&self) -> u64 {
        let of = |open: &Open| match &open.source {
            Source::Plain(file) => file.metadata().map_or(0, |m| m.len().saturating_sub(open.offset)),
            Source::Packed(_) => 0,
        };
        self.current.iter().chain(&self.queue).map(of).sum()
    }

    /// Directories in which something happens when the log is written or rotated.
    pub fn folders(&self) -> Vec<PathBuf> {
        rotated::folders(&self.path, self.real.as_deref()).into_iter().map(|folder| folder.path).collect()
    }

    /// Hands on whole lines that were not handed on before, at most a chunk of them.
    ///
    /// # Errors
    /// Those of reading; a later step goes on where this one failed.
    pub fn step(&mut self, sink: &mut impl FnMut(&[u8])) -> io::Result<Step> {
        let Some(open) = &mut self.current else { return self.find() };
        let is_at_end = open.fill()? == 0;
        if !open.is_itself()? {
            // Cut short, or written anew from the beginning: what was read just now belongs to another story.
            tracing::info!(file = %self.path.display(), "the log was truncated");
            self.current = None;
            self.queue.clear();
            return Ok(Step::More);
        }
        self.hand_on(false, sink);
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
            // The writer has gone on to another file, so this one has its last byte by now.
            while self.current.as_mut().is_some_and(|open| open.fill().is_ok_and(|n| n > 0)) {
                self.hand_on(false, sink);
            }
        }
        self.hand_on(true, sink);
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

    /// Hands on the whole lines of the buffer; at the end of a file, its last one too.
    fn hand_on(&mut self, is_end: bool, sink: &mut impl FnMut(&[u8])) {
        let Some(open) = &mut self.current else { return };
        let end = open.whole_lines(is_end);
        if end == 0 {
            return;
        }
        let lines = &open.buffer[..end];
        sink(lines);
        let before = self.position.take();
        let (at, count, bytes) = before.map_or((i64::MIN, 0, 0), |p| (p.at, p.lines, p.bytes));
        // Lines are not quite in order of time.
        let latest = times::all(lines).max().unwrap_or(i64::MIN);
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

    /// Finds where to go on.
    fn find(&mut self) -> io::Result<Step> {
        self.queue = match &self.position {
            Some(position) => {
                let position = position.clone();
                let (chain, is_found) = self.chain(&position)?;
                if !is_found && !chain.is_empty() {
                    self.note_gap(&position);
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

    /// What was written after the current file.
    fn successors(&self) -> io::Result<VecDeque<Open>> {
        let chain = match &self.position {
            Some(position) => {
                let (mut chain, _) = self.chain(position)?;
                // What the position stands for was read to its end.
                chain.retain(|open| !open.is_at(position));
                chain
            }
            // So far every file was empty.
            None => {
                let entries = rotated::list(&self.path, self.real.as_deref())?;
                let index = entries.iter().position(|entry| self.is_current(entry.identity));
                let after = &entries[index.map_or(entries.len().saturating_sub(1), |i| i + 1)..];
                after.iter().filter(|e| e.is_live || !e.is_empty).map(Open::new).collect::<io::Result<_>>()?
            }
        };
        Ok(chain)
    }

    /// The file of a position, open there, and all that was written after it; `false` where that file is gone.
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
                    return Err(io::Error::other("its directory keeps changing; tried again soon"));
                }
                _ => {}
            }
        }
    }

    fn note_gap(&mut self, position: &Position) {
        let is_cut = Entry::live(&self.path).ok().flatten().is_some_and(|e| e.identity.inode == position.inode);
        self.gaps += 1;
        tracing::warn!(
            file = %self.path.display(),
            offset = position.offset,
            "{}; what was not read of it by then is lost",
            if is_cut { "the log was truncated and left no copy" } else { "the log was rotated and deleted" }
        );
    }
}

/// Opens the file that a position stands for and what comes after it; `false` where that file is gone.
fn open_from(entries: &[Entry], position: &Position) -> io::Result<(VecDeque<Open>, bool)> {
    let is_same = |entry: &&Entry| entry.identity.inode == position.inode && entry.identity.device == position.device;
    // Of a file and its copy, the file itself; else the newest are the most likely.
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
        // Gone, so only times tell what was read before.
        None => entries.iter().rposition(|entry| !entry.is_live && !is_newer(entry, position)).map_or(0, |i| i + 1),
    };
    let folder = own.as_ref().map(|(entry, _)| entry.folder);
    let mut chain: VecDeque<Open> = own.into_iter().map(|(_, open)| open).collect();
    for entry in &entries[begin..] {
        // In another directory there may be older ones.
        let is_after = entry.is_live || folder.is_none_or(|f| f == entry.folder) || is_newer(entry, position);
        if is_after && chain.len() < QUEUE_MAX && (entry.is_live || !entry.is_empty) {
            chain.push_back(Open::new(entry)?);
        }
    }
    Ok((chain, is_found))
}

fn is_newer(entry: &Entry, position: &Position) -> bool {
    files::last_time(&Input::File(entry.path.clone())).is_some_and(|at| at > position.at)
}

// === impl Open ===

impl Open {
    fn new(entry: &Entry) -> io::Result<Open> {
        // What became a pipe since it was looked at is opened without waiting for its writer.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&entry.path)?;
        if !file.metadata()?.is_file() {
            return Err(rotated::not_a_file());
        }
        let source = match entry.is_packed {
            true => Source::Packed(decompress::open(file, Arc::default())?.reader),
            false => Source::Plain(file),
        };
        let identity = match &source {
            Source::Plain(file) => Identity::of(&file.metadata()?),
            Source::Packed(_) => entry.identity,
        };
        Ok(Open { identity, source, head: Vec::new(), offset: 0, buffer: Vec::new(), is_skipping: false })
    }

    /// The file at a position; `None` where it is another file.
    fn at(entry: &Entry, position: &Position) -> io::Result<Option<Open>> {
        let mut open = match Open::new(entry) {
            Ok(open) => open,
            // A damaged archive is not the file that is looked for.
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

    /// Whether this is the file of a position, read that far.
    fn is_at(&self, position: &Position) -> bool {
        self.offset == position.offset && self.head.len() == position.head_len && hash(&self.head) == position.head_hash
    }

    /// Reads more into the buffer; the number of bytes, 0 at the end.
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
                // An archive that is damaged ends where the damage begins.
                Err(error) if matches!(self.source, Source::Packed(_)) => {
                    tracing::warn!(%error, "a rotated log is damaged; the rest of it is lost");
                    break Ok(0);
                }
                result => break result,
            }
        };
        self.buffer.truncate(len + *read.as_ref().unwrap_or(&0));
        if self.offset == 0 && self.head.len() < HEAD_BYTES_MAX {
            self.head = self.buffer[..self.buffer.len().min(HEAD_BYTES_MAX)].to_vec();
        }
        read
    }

    /// Whether the file is still the one that was read so far: as long, and with the same beginning.
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

    /// Bytes of whole lines in the buffer. At the end of a file the last line is whole.
    fn whole_lines(&mut self, is_end: bool) -> usize {
        // A writer that goes on at its old offset after a truncation leaves a hole of zeros before it.
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
                // Handed on as far as it goes, to be counted as malformed.
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

// === impl Source ===

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Source::Plain(_) => "Plain",
            Source::Packed(_) => "Packed",
        })
    }
}
