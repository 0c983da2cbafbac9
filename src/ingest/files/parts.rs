//! Decompresses several parts of one file at once: the frames of a zstd file, or the members of a gzip file.
//!
//! A part begins where a frame may begin, and ends with the first frame that ends at or after the beginning of the next part. In
//! a zstd file, the beginning of a frame is certain, because each frame says how long its blocks are. In a gzip file, it
//! is assumed where the bytes look like it. The parts are joined only where one ends exactly where the next one begins;
//! otherwise the assumption was wrong, and the next part is dropped.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::plain::PlainFile;
use crate::ingest::decompress::{self, Format, ZSTD_SKIPPED_HEAD};
use crate::ingest::readahead::{PIECE_BYTES, ReadaheadReader};

/// Minimum number of compressed bytes of a part: some megabytes of events, for which a thread is worth its start.
const PART_BYTES: u64 = 256 << 10;
/// Maximum number of bytes of a part, and of all parts together, that are decompressed before they are needed.
const AHEAD_BYTES: usize = 16 << 20;
const AHEAD_BYTES_ALL: usize = 64 << 20;
/// Maximum number of compressed bytes in which the beginning of a frame is looked for. With larger frames, the parts could not be
/// decompressed far enough ahead.
const SEARCH_BYTES_MAX: u64 = 16 << 20;
/// Maximum number of blocks that are skipped to find the end of a zstd frame. Each is read by itself.
const BLOCKS_MAX: u32 = 10_000;
/// Number of bytes by which the beginning of a gzip member is recognized.
const GZIP_HEAD: usize = 10;
const BUFFER_BYTES: usize = 64 << 10;

/// Limits the number of threads. Each holds a permit.
#[derive(Debug)]
pub(super) struct Permits {
    given: Arc<()>,
    max: usize,
}

/// The right to decompress an input on another thread.
#[derive(Debug)]
pub(super) struct Permit {
    pub(super) thread: Arc<()>,
    /// Permits for further threads, if parts of the input may be decompressed at the same time.
    pub(super) more: Option<Arc<Permits>>,
}

/// Yields the decompressed content of a file.
pub(super) struct PartsReader {
    file: Arc<PlainFile>,
    format: Format,
    permits: Arc<Permits>,
    /// The part that is being read, and those after it: at most one for each permit, since a thread that has decompressed all of its
    /// part needs no permit, but its part still takes memory.
    parts: VecDeque<Part>,
    /// Where the next part begins, if it is known.
    next: Option<u64>,
    /// Counts compressed bytes, for progress reports.
    read: Arc<AtomicU64>,
}

struct Part {
    start: u64,
    /// Where its last frame ended, counted from `start`. Valid once everything has been read.
    ended: Arc<AtomicU64>,
    /// Whether its bytes are counted while it is read. Otherwise, they are counted when it has ended: it may be dropped, and some
    /// bytes after it are read as well.
    is_counted: bool,
    reader: Box<dyn Read + Send>,
}

// === impl Permits ===

impl Permits {
    pub(super) fn new(max: usize) -> Arc<Permits> {
        Arc::new(Permits { given: Arc::default(), max })
    }

    /// Returns a permit, unless all are in use.
    pub(super) fn take(&self) -> Option<Arc<()>> {
        (Arc::strong_count(&self.given) <= self.max).then(|| self.given.clone())
    }
}

// === impl PartsReader ===

impl PartsReader {
    /// Starts to decompress a file. The first part has this permit. `read` counts compressed bytes.
    pub(super) fn begin(
        file: Arc<PlainFile>,
        format: Format,
        permits: Arc<Permits>,
        permit: Arc<()>,
        read: Arc<AtomicU64>,
    ) -> PartsReader {
        let mut reader = PartsReader { file, format, permits, parts: VecDeque::new(), next: None, read };
        reader.begin_part(0, Some(permit));
        reader.begin_parts();
        reader
    }

    /// Begins parts as long as there are permits.
    fn begin_parts(&mut self) {
        while let Some(start) = self.next
            && self.parts.len() < self.permits.max
            && let Some(permit) = self.permits.take()
        {
            self.begin_part(start, Some(permit));
        }
    }

    /// Begins a part. Without a permit, or if no thread can be started, it is decompressed when it is read.
    fn begin_part(&mut self, start: u64, permit: Option<Arc<()>>) {
        // If it cannot be found, the part has the rest of the file.
        self.next = next_frame(&self.file, self.format, start).unwrap_or(None);
        let end = self.next.map_or(u64::MAX, |next| next - start);
        let is_counted = self.next.is_none() && self.parts.is_empty();
        let read = if is_counted { self.read.clone() } else { Arc::default() };
        let ended = Arc::new(AtomicU64::new(0));
        let frames =
            || decompress::open_frames(self.format, self.file.reader(start), read.clone(), end, Arc::clone(&ended));
        let ahead = AHEAD_BYTES.min(AHEAD_BYTES_ALL / self.permits.max.max(1));
        let begin = |permit| ReadaheadReader::begin_with(frames(), permit, (ahead / PIECE_BYTES).max(1)).ok();
        let reader: Box<dyn Read + Send> = match permit.and_then(begin) {
            Some(reader) => Box::new(reader),
            None => frames(),
        };
        self.parts.push_back(Part { start, ended, is_counted, reader });
    }
}

impl Read for PartsReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = self.parts.front_mut() {
            match part.reader.read(buf) {
                Ok(0) if !buf.is_empty() => {}
                Ok(n) => return Ok(n),
                Err(error) => {
                    self.parts.clear();
                    return Err(error);
                }
            }
            let bytes = part.ended.load(Ordering::Relaxed);
            let ended = part.start + bytes;
            if !part.is_counted {
                self.read.fetch_add(bytes, Ordering::Relaxed);
            }
            self.parts.pop_front();
            // What began within a frame did not begin with a frame.
            while self.parts.pop_front_if(|next| next.start != ended).is_some() {}
            if self.parts.is_empty() && ended < self.file.len() {
                self.begin_part(ended, self.permits.take());
            }
            self.begin_parts();
        }
        Ok(0)
    }
}

/// Returns where the first frame begins that is at least [`PART_BYTES`] after the beginning of the one at `start`.
fn next_frame(file: &PlainFile, format: Format, start: u64) -> io::Result<Option<u64>> {
    let goal = start + PART_BYTES;
    match format {
        Format::Gzip => find_member(file, goal),
        Format::Zstd => {
            let mut at = start;
            while at < goal && at < start + SEARCH_BYTES_MAX {
                match zstd_frame_end(file, at)? {
                    Some(end) => at = end,
                    None => return Ok(None),
                }
            }
            Ok(Some(at).filter(|at| *at < file.len()))
        }
    }
}

/// Returns where the bytes look like the beginning of a member, at or after `from`.
fn find_member(file: &PlainFile, from: u64) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut at = from;
    while at < from + SEARCH_BYTES_MAX {
        let filled = fill(file, &mut buffer, at)?;
        let bytes = &buffer[..filled];
        if let Some(index) = memchr::memchr_iter(0x1f, bytes).find(|index| is_member(&bytes[*index..])) {
            return Ok(Some(at + index as u64));
        }
        if filled < buffer.len() {
            return Ok(None);
        }
        // A head can lie across two buffers.
        at += (filled - (GZIP_HEAD - 1)) as u64;
    }
    Ok(None)
}

/// Returns whether bytes look like the beginning of a member (RFC 1952, 2.3): the method is always 8, three flags are never set,
/// there are three hints about the compression, and few operating systems.
fn is_member(bytes: &[u8]) -> bool {
    let Some([0x1f, 0x8b, 8, flags, _, _, _, _, hint, system]) = bytes.first_chunk::<GZIP_HEAD>() else { return false };
    flags & 0xe0 == 0 && matches!(hint, 0 | 2 | 4) && matches!(system, 0..=13 | 255)
}

/// Returns where the frame at this position ends, or `None` if it cannot be found, such as at the end of the file.
fn zstd_frame_end(file: &PlainFile, at: u64) -> io::Result<Option<u64>> {
    let mut head = [0; ZSTD_SKIPPED_HEAD];
    let filled = fill(file, &mut head, at)?;
    if let Some(size) = decompress::skipped_bytes(&head[..filled]) {
        return Ok(Some(at + size));
    }
    if Format::of(&head[..filled]) != Some(Format::Zstd) || filled < 5 {
        return Ok(None);
    }
    // RFC 8878, 3.1.1.1: the descriptor says which fields follow.
    let descriptor = head[4];
    let (is_single, has_checksum) = (descriptor & 0x20 != 0, descriptor & 0x04 != 0);
    let window = u64::from(!is_single);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content_size = [u64::from(is_single), 2, 4, 8][usize::from(descriptor >> 6)];
    let mut at = at + 5 + window + dictionary + content_size;
    for _ in 0..BLOCKS_MAX {
        let mut block = [0; 3];
        if fill(file, &mut block, at)? < block.len() {
            return Ok(None);
        }
        let [a, b, c] = block.map(u64::from);
        let (kind, size) = ((a >> 1) & 3, (a | b << 8 | c << 16) >> 3);
        at += 3 + match kind {
            // One byte, repeated.
            1 => 1,
            3 => return Ok(None),
            _ => size,
        };
        if a & 1 == 1 {
            return Ok(Some(at + if has_checksum { 4 } else { 0 }));
        }
    }
    Ok(None)
}

/// Reads as many bytes as there are. Returns their number.
fn fill(file: &PlainFile, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
#[path = "parts/tests.rs"]
mod tests;
