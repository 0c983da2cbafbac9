//! Reads one log and splits it into chunks of whole lines.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::input::{Error, Input, io_error};
use crate::audit::envelope::{self, EVENT_BYTES_MAX, HEAD_BYTES};
use crate::audit::event::Micros;
use crate::audit::times;
use crate::ingest::convert::ConvertingReader;
use crate::ingest::decompress;
use crate::ingest::readahead::ReadaheadReader;

/// Size of a chunk in bytes: small enough to stay in a core's cache while it is decoded.
const CHUNK_BYTES: usize = 256 << 10;
const _: () = assert!(CHUNK_BYTES >= HEAD_BYTES, "the format is recognized by the first chunk");
/// Maximum size of a log whose lines must be sorted, which is done in memory.
const SORTED_BYTES_MAX: u64 = 4 << 30;
/// Maximum size of a buffer that is reused, in bytes.
const BUFFER_BYTES_MAX: usize = 4 * CHUNK_BYTES;

/// Whole lines of one input, in a reusable buffer.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Index of the input.
    pub(super) input: usize,
    /// Whether the first line is the rest of a line that is longer than an event can be.
    pub(super) is_rest_of_too_long: bool,
    buffer: Vec<u8>,
    filled: usize,
}

/// One input that is being read. A plain file is only opened when it is first read, so that a thousand rotated files do
/// not need a thousand buffers.
pub(super) struct Log {
    name: String,
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

// === impl Chunk ===

impl Chunk {
    /// Returns the lines.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Returns the buffer for reuse, or an empty one if a long line made it too large.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        if self.buffer.len() > BUFFER_BYTES_MAX { Vec::new() } else { self.buffer }
    }
}

// === impl Log ===

impl Log {
    /// Reads the start of an input, to find the time of its first event.
    pub(super) fn open(input: &Input, read: Arc<AtomicU64>) -> Result<Log, Error> {
        let mut log =
            Log { name: input.name(), input: input.clone(), read, next_at: i64::MIN, is_packed: false, stream: None };
        if let Some(path) = input.path() {
            let peek = || -> io::Result<(Micros, bool)> {
                // These bytes will be read again, so they must not be counted here.
                let mut stream = Stream::open(Box::new(File::open(path)?), Arc::default(), None)?;
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

    /// Opens the stream if it is not open. With a permit, a compressed stream is decompressed on another thread.
    pub(super) fn begin(&mut self, permit: Option<Arc<()>>) -> io::Result<&mut Stream> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let reader: Box<dyn Read + Send> = match self.input.path() {
                    Some(path) => Box::new(File::open(path)?),
                    None => Box::new(io::stdin()),
                };
                Stream::open(reader, self.read.clone(), permit)?
            }
        };
        Ok(self.stream.insert(stream))
    }

    /// Returns the next step: a chunk with events up to `until` and at least one line, or the reason why there is none.
    /// `buffers` contains buffers for reuse.
    pub(super) fn step(&mut self, index: usize, until: Micros, buffers: &mut Vec<Vec<u8>>) -> Result<Step, Error> {
        let step = self.begin(None).and_then(|stream| stream.step(index, until, buffers));
        step.map_err(|source| Error::Io { path: self.name.clone(), source })
    }

    /// Updates the time of the next event.
    pub(super) fn peek(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.fill();
            self.next_at = times::first(stream.bytes()).unwrap_or(self.next_at);
        }
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn open(
        inner: Box<dyn Read + Send>,
        read: Arc<AtomicU64>,
        permit: Option<Arc<()>>,
    ) -> io::Result<Stream> {
        let decompress::DecompressedStream { mut reader, is_packed } = decompress::open(inner, read)?;
        if is_packed && let Some(permit) = permit {
            reader = Box::new(ReadaheadReader::begin(reader, permit)?);
        }
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
                self.is_over = n == 0;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                self.is_over = true;
                self.damage = Some(error);
            }
        }
    }

    fn step(&mut self, index: usize, until: Micros, buffers: &mut Vec<Vec<u8>>) -> io::Result<Step> {
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
        Ok(Step::Chunk(Chunk { input: index, is_rest_of_too_long, buffer, filled: end }))
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
            Step::Chunk(Chunk { input: index, is_rest_of_too_long: true, buffer: Vec::new(), filled: 0 })
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
