//! Reads one log and splits it into chunks of whole lines.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::chunk::{CHUNK_BYTES, Chunk};
use super::input::{Error, Input, io_error};
use super::parts::{PartsReader, Permit};
use super::plain::{FileRange, PlainFile};
use crate::audit::envelope::{self, EVENT_BYTES_MAX, HEAD_BYTES};
use crate::audit::event::Micros;
use crate::audit::times;
use crate::ingest::convert::ConvertingReader;
use crate::ingest::decompress::{self, DecompressedStream};
use crate::ingest::readahead::ReadaheadReader;

const _: () = assert!(CHUNK_BYTES >= HEAD_BYTES, "the format is recognized by the first chunk");
/// Maximum size of a log whose lines must be sorted, which is done in memory.
const SORTED_BYTES_MAX: u64 = 4 << 30;

/// One input that is being read. A plain file is only opened when it is first read, so that a thousand rotated files do
/// not need a thousand buffers.
pub(super) struct Log {
    input: Input,
    read: Arc<AtomicU64>,
    /// The time of the next event, as far as it is known.
    pub(super) next_at: Micros,
    pub(super) is_packed: bool,
    stream: Option<Stream>,
}

pub(super) struct Stream {
    reader: Box<dyn Read + Send>,
    /// Data that was read and not passed on yet: the first `filled` bytes.
    buffer: Vec<u8>,
    filled: usize,
    is_over: bool,
    /// Whether a line that is longer than an event can be is being skipped.
    is_skipping: bool,
    /// Whether the whole stream must be read to find its end: it is compressed, or converted to lines.
    pub(super) is_sequential: bool,
    is_packed: bool,
    /// Whether it is converted to lines.
    is_converted: bool,
    damage: Option<io::Error>,
    /// The file, if its chunks can be read as ranges.
    plain: Option<Arc<PlainFile>>,
    /// Number of bytes that were read or given away as ranges.
    at: u64,
    /// The line after the latest range.
    next_line: Vec<u8>,
}

/// The next step of an input.
pub(super) enum Step {
    /// A chunk of lines.
    Chunk(Chunk),
    /// More data must be read first.
    NeedsData,
    /// The input has ended.
    End,
}

// === impl Log ===

impl Log {
    /// Reads the start of an input, to find the time of its first event.
    pub(super) fn open(input: &Input, read: Arc<AtomicU64>) -> Result<Log, Error> {
        let mut log = Log { input: input.clone(), read, next_at: i64::MIN, is_packed: false, stream: None };
        if let Some(path) = input.path() {
            let peek = || -> io::Result<(Micros, bool)> {
                // These bytes will be read again, so they must not be counted here.
                let mut stream = Stream::of_file(File::open(path)?, Arc::default(), None)?;
                stream.fill();
                if let Some(damage) = stream.damage.take_if(|_| stream.filled == 0) {
                    return Err(damage);
                }
                Ok((times::first(stream.bytes()).unwrap_or(i64::MIN), stream.is_packed))
            };
            (log.next_at, log.is_packed) = peek().map_err(|source| io_error(path, source))?;
        }
        Ok(log)
    }

    /// Opens the stream if it is not open. With a permit, a compressed stream is decompressed on another thread; with permits for
    /// further threads, its parts are decompressed at the same time.
    pub(super) fn begin(&mut self, permit: Option<Permit>) -> io::Result<&mut Stream> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let read = self.read.clone();
                match self.input.path() {
                    Some(path) => Stream::of_file(File::open(path)?, read, permit)?,
                    None => Stream::open(Box::new(io::stdin()), read, permit.map(|permit| permit.thread))?,
                }
            }
        };
        Ok(self.stream.insert(stream))
    }

    /// Returns the next step: a chunk with events up to `until` and at least one line, or the reason why there is none.
    /// `buffers` contains buffers for reuse.
    pub(super) fn step(&mut self, index: usize, until: Micros, buffers: &mut Vec<Vec<u8>>) -> io::Result<Step> {
        self.begin(None)?.step(index, until, buffers)
    }

    /// Updates the time of the next event.
    pub(super) fn peek(&mut self) {
        if let Some(stream) = &mut self.stream {
            self.next_at = stream.next_time().unwrap_or(self.next_at);
        }
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn of_file(file: File, read: Arc<AtomicU64>, permit: Option<Permit>) -> io::Result<Stream> {
        let Some(plain) = PlainFile::new(&file, read.clone())? else {
            return Stream::open(Box::new(file), read, permit.map(|permit| permit.thread));
        };
        if let Some(format) = plain.format()?
            && let Some(Permit { thread, more: Some(permits) }) = &permit
            && let Some(packed) = PlainFile::new(&file, Arc::default())?
        {
            let parts = PartsReader::begin(packed, format, permits.clone(), thread.clone(), read);
            return Stream::of(DecompressedStream { reader: Box::new(parts), is_packed: true });
        }
        // The file itself counts what is read of it.
        let stream = Stream::open(Box::new(plain.reader(0)), Arc::default(), permit.map(|permit| permit.thread))?;
        let plain = Some(plain).filter(|_| !stream.is_sequential);
        Ok(Stream { plain, ..stream })
    }

    pub(super) fn open(
        inner: Box<dyn Read + Send>,
        read: Arc<AtomicU64>,
        permit: Option<Arc<()>>,
    ) -> io::Result<Stream> {
        let mut stream = decompress::open(inner, read)?;
        if let Some(permit) = permit.filter(|_| stream.is_packed) {
            stream.reader = Box::new(ReadaheadReader::begin(stream.reader, permit)?);
        }
        Stream::of(stream)
    }

    fn of(DecompressedStream { reader, is_packed }: DecompressedStream) -> io::Result<Stream> {
        let mut stream = Stream {
            reader,
            buffer: Vec::new(),
            filled: 0,
            is_over: false,
            is_skipping: false,
            is_sequential: is_packed,
            is_packed,
            is_converted: false,
            damage: None,
            plain: None,
            at: 0,
            next_line: Vec::new(),
        };
        stream.fill();
        if envelope::is_wrapped(stream.bytes()) {
            stream.convert();
        }
        Ok(stream)
    }

    /// Converts the stream to lines from now on. If it has the newest events first, it is read completely and reversed.
    fn convert(&mut self) {
        self.buffer.truncate(self.filled);
        let head = std::mem::take(&mut self.buffer);
        let rest = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        self.plain = None;
        self.reader = Box::new(ConvertingReader::new(head, rest));
        (self.filled, self.is_over, self.is_sequential, self.is_converted) = (0, false, true, true);
        self.fill();
        let end = memchr::memrchr(b'\n', self.bytes()).map_or(0, |newline| newline + 1);
        if is_newest_first(&self.bytes()[..end]) {
            self.buffer.truncate(self.filled);
            let head = std::mem::take(&mut self.buffer);
            let rest = std::mem::replace(&mut self.reader, Box::new(io::empty()));
            // What was read before an error counts.
            let (lines, error) = oldest_first(io::Cursor::new(head).chain(rest));
            self.reader = Box::new(io::Cursor::new(lines));
            self.damage = self.damage.take().or(error);
            (self.filled, self.is_over) = (0, false);
            self.fill();
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Discards the current data and reads more. Returns `false` at the end.
    pub(super) fn go_on(&mut self) -> bool {
        self.filled = 0;
        self.fill();
        self.filled > 0
    }

    /// Reads until a chunk is full or the input ends. A read error counts as the end; it is reported once everything
    /// before it has been passed on.
    fn fill(&mut self) {
        while self.filled < CHUNK_BYTES && !self.is_over {
            self.read_to(CHUNK_BYTES);
        }
    }

    fn read_to(&mut self, len: usize) {
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        match self.reader.read(&mut self.buffer[self.filled..len]) {
            Ok(n) => {
                self.filled += n;
                self.at += n as u64;
                self.is_over = n == 0;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                self.is_over = true;
                self.damage = Some(error);
            }
        }
    }

    /// Returns the time of the next event, if it is known.
    fn next_time(&mut self) -> Option<Micros> {
        // After a range, nothing has been read but the next line.
        if self.filled > 0 || self.next_line.is_empty() {
            self.fill();
            return times::first(self.bytes());
        }
        times::first(&self.next_line)
    }

    /// Takes the next chunk as a range that a worker can read by itself, which leaves other workers less to wait for.
    ///
    /// Returns `None` if the lines must be read here: at the end of the file, before lines of another format, if they are too
    /// long, or if the range would contain events after `until`, or may do so.
    fn take_range(&mut self, until: Micros) -> Option<FileRange> {
        let plain = self.plain.as_ref().filter(|_| !self.is_over && !self.is_skipping)?;
        let start = self.at - self.filled as u64;
        let end = plain.line_from(start + CHUNK_BYTES as u64, &mut self.next_line)?;
        let is_due = |line: &[u8]| until == i64::MAX || times::first(line).is_some_and(|at| at <= until);
        if envelope::is_wrapped(&self.next_line) || !is_due(&self.next_line) {
            return None;
        }
        let range = plain.range(start, end, self.filled);
        // What was read of it is read again, by the worker.
        self.reader = Box::new(plain.reader(end));
        (self.at, self.filled) = (end, 0);
        Some(range)
    }

    fn step(&mut self, index: usize, until: Micros, buffers: &mut Vec<Vec<u8>>) -> io::Result<Step> {
        if self.plain.as_ref().is_some_and(|plain| plain.is_broken()) {
            // A worker reports it.
            return Ok(Step::End);
        }
        if let Some(range) = self.take_range(until) {
            let chunk = Chunk { unread: Some(range), ..Chunk::new(index) };
            return Ok(Step::Chunk(chunk));
        }
        self.next_line.clear();
        self.fill();
        if self.is_over && self.filled == 0 {
            return self.damage.take().map_or(Ok(Step::End), Err);
        }
        let end = match memchr::memrchr(b'\n', self.bytes()) {
            Some(newline) => newline + 1,
            None if self.is_over => self.filled,
            None => return Ok(self.grow(index)),
        };
        if !self.is_converted && ends_wrapped(&self.buffer[..end]) {
            // Logs of several formats, one behind the other: the converter knows them all.
            self.convert();
            return Ok(Step::NeedsData);
        }
        let end = end_of(&self.buffer[..end], until);
        // The incomplete last line goes to the start of the next buffer.
        let rest = self.filled - end;
        let mut next = buffers.pop().unwrap_or_default();
        if next.len() < rest {
            next.resize(rest, 0);
        }
        next[..rest].copy_from_slice(&self.buffer[end..self.filled]);
        let buffer = std::mem::replace(&mut self.buffer, next);
        self.filled = rest;
        let is_rest_of_too_long = std::mem::take(&mut self.is_skipping);
        Ok(Step::Chunk(Chunk { is_rest_of_too_long, buffer, filled: end, ..Chunk::new(index) }))
    }

    /// Grows the buffer for a line longer than a chunk. A line longer than an event can be is skipped.
    fn grow(&mut self, index: usize) -> Step {
        if self.filled > EVENT_BYTES_MAX {
            self.is_skipping = true;
        }
        if !self.is_skipping {
            self.read_to(self.filled + CHUNK_BYTES);
            return Step::NeedsData;
        }
        self.filled = 0;
        self.fill();
        if self.is_over && self.filled == 0 {
            Step::Chunk(Chunk { is_rest_of_too_long: true, ..Chunk::new(index) })
        } else {
            Step::NeedsData
        }
    }
}

/// Returns whether the last of these lines has another format than kube-apiserver's own.
fn ends_wrapped(lines: &[u8]) -> bool {
    let last = lines.strip_suffix(b"\n").unwrap_or(lines);
    let start = memchr::memrchr(b'\n', last).map_or(0, |newline| newline + 1);
    envelope::is_wrapped(&lines[start..])
}

/// Returns whether these lines have the newest event first, as queries of log stores return them.
fn is_newest_first(lines: &[u8]) -> bool {
    let times: Vec<Micros> = times::all(lines).collect();
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return false };
    let descents = times.windows(2).filter(|pair| pair[0] > pair[1]).count();
    first > last && 2 * descents > times.len() - 1
}

/// Returns all lines in the order of their times. Lines without a time stay with the line that was before them.
fn oldest_first(mut reader: impl Read) -> (Vec<u8>, Option<io::Error>) {
    let mut text = Vec::new();
    let mut error = reader.by_ref().take(SORTED_BYTES_MAX + 1).read_to_end(&mut text).err();
    if text.len() as u64 > SORTED_BYTES_MAX {
        let reason = "has the newest events first, and more than 4 GiB of them: export them oldest first";
        error = Some(io::Error::other(reason));
    }
    let mut at = i64::MAX;
    let mut lines: Vec<(Micros, &[u8])> = Vec::new();
    for line in text.split_inclusive(|b| *b == b'\n') {
        at = times::first(line).unwrap_or(at);
        lines.push((at, line));
    }
    lines.reverse();
    lines.sort_by_key(|(at, _)| *at);
    let mut sorted = Vec::with_capacity(text.len() + 1);
    for (_, line) in lines {
        sorted.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            sorted.push(b'\n');
        }
    }
    (sorted, error)
}

/// Returns the end of the lines up to `until`, but at least of the first line. The lines of a log are almost in order.
fn end_of(lines: &[u8], until: Micros) -> usize {
    if until == i64::MAX || times::last(lines).is_none_or(|last| last <= until) {
        return lines.len();
    }
    let mut end = 0;
    for newline in memchr::memchr_iter(b'\n', lines) {
        if end > 0 && times::first(&lines[end..newline]).is_some_and(|at| at > until) {
            return end;
        }
        end = newline + 1;
    }
    if end > 0 { end } else { lines.len() }
}
