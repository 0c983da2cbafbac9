//! A regular file whose ranges are read at any position, by several workers at once.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::ingest::decompress::{Format, ZSTD_SKIPPED_HEAD};

/// Number of bytes that are read first to find a line. Most lines at level Metadata are a fifth as long.
const PEEK_BYTES: usize = 4 << 10;
/// Maximum number of bytes that are read to find a line.
const PEEK_BYTES_MAX: usize = 256 << 10;

/// A regular file.
#[derive(Debug)]
pub(super) struct PlainFile {
    file: File,
    /// Its length when it was opened. It may grow.
    len: u64,
    /// Counts bytes, for progress reports.
    read: Arc<AtomicU64>,
    /// Whether a part of it could not be read.
    is_broken: AtomicBool,
}

/// Reads a file from a position to its end.
#[derive(Debug)]
pub(super) struct PlainReader {
    file: Arc<PlainFile>,
    at: u64,
}

/// Whole lines of a file.
#[derive(Debug)]
pub(super) struct FileRange {
    file: Arc<PlainFile>,
    start: u64,
    len: usize,
}

// === impl PlainFile ===

impl PlainFile {
    /// Returns the file, or `None` if it is not a regular file, such as a pipe.
    pub(super) fn new(file: &File, read: Arc<AtomicU64>) -> io::Result<Option<Arc<PlainFile>>> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        Ok(Some(Arc::new(PlainFile {
            file: file.try_clone()?,
            len: metadata.len(),
            read,
            is_broken: AtomicBool::new(false),
        })))
    }

    /// Reads at a position. Returns 0 at the end.
    ///
    /// # Errors
    /// Errors of the file system, or the file was truncated since it was opened.
    pub(super) fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let n = self.file.read_at(buf, at)?;
        if n == 0 && at < self.len && !buf.is_empty() {
            return Err(truncated());
        }
        Ok(n)
    }

    /// Returns the position of the first line that starts at or after `goal`, and leaves that line in `buffer`, with its
    /// end. Returns `None` if there is no such line within [`PEEK_BYTES_MAX`], or if it cannot be read.
    pub(super) fn line_from(&self, goal: u64, buffer: &mut Vec<u8>) -> Option<u64> {
        // A line starts at `goal` if the byte before is the end of another.
        let before = goal.checked_sub(1)?;
        let mut filled = 0;
        for size in std::iter::successors(Some(PEEK_BYTES), |size| Some(2 * size)).take_while(|n| *n <= PEEK_BYTES_MAX)
        {
            buffer.resize(size, 0);
            while filled < size {
                match self.read_at(&mut buffer[filled..], before + filled as u64) {
                    Ok(0) => return None,
                    Ok(n) => filled += n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // It is reported when these bytes are read in order.
                    Err(_) => return None,
                }
            }
            let mut newlines = memchr::memchr_iter(b'\n', buffer);
            if let (Some(start), Some(end)) = (newlines.next(), newlines.next()) {
                buffer.truncate(end + 1);
                buffer.drain(..=start);
                return Some(before + start as u64 + 1);
            }
        }
        None
    }

    /// Returns its format, if it is compressed.
    pub(super) fn format(&self) -> io::Result<Option<Format>> {
        let mut head = [0; ZSTD_SKIPPED_HEAD];
        let filled = self.file.read_at(&mut head, 0)?;
        Ok(Format::of(&head[..filled]))
    }

    /// Returns its length when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Returns a reader from a position to the end.
    pub(super) fn reader(self: &Arc<Self>, at: u64) -> PlainReader {
        PlainReader { file: self.clone(), at }
    }

    /// Returns a range, which is not read yet. `seen` is the number of its bytes that were read before, and counted.
    pub(super) fn range(self: &Arc<Self>, start: u64, end: u64, seen: usize) -> FileRange {
        let len = (end - start) as usize;
        self.read.fetch_add(len.saturating_sub(seen) as u64, Ordering::Relaxed);
        FileRange { file: self.clone(), start, len }
    }

    /// Returns whether reading a range has failed.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }
}

/// The error of a file that has become shorter. What it has lost is not known.
fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file was truncated while it was read")
}

// === impl PlainReader ===

impl Read for PlainReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        self.file.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

// === impl FileRange ===

impl FileRange {
    /// Reads the range to the start of `buffer`. Returns the number of bytes that could be read, and the error if that is not
    /// the whole range: of the file system, or because the file was truncated since the range was found.
    pub(super) fn read(&self, buffer: &mut Vec<u8>) -> (usize, Option<io::Error>) {
        if buffer.len() < self.len {
            buffer.resize(self.len, 0);
        }
        let mut filled = 0;
        while filled < self.len {
            match self.file.file.read_at(&mut buffer[filled..self.len], self.start + filled as u64) {
                Ok(n @ 1..) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                failed => {
                    self.file.is_broken.store(true, Ordering::Relaxed);
                    return (filled, Some(failed.err().unwrap_or_else(truncated)));
                }
            }
        }
        (filled, None)
    }
}
