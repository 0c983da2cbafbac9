//! Audit logs as files: plain or gzip, rotated sets, directories, standard input; merged by time.
//!
//! Files are cut into chunks of whole lines. Where several cover the same time (one log per API server), their chunks
//! are taken in turns by the time of their first event, so that what happened at once is seen together.

use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::{decompress, document};
use crate::audit::decode::{Decoded, Malformed};
use crate::audit::envelope::{self, EVENT_BYTES_MAX};
use crate::audit::event::Micros;
use crate::audit::scan::skip_value;

/// Bytes of whole lines that are handled at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// How deep directories are searched: a must-gather has its logs three levels down.
const DIRECTORY_DEPTH_MAX: usize = 6;

/// Where a log comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file, plain or gzip.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// Why inputs cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Cannot be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A directory that holds no logs.
    #[error("{0}: no audit logs here; expected files named *.log, *.json, *.jsonl or *audit*, plain or .gz")]
    NoLogs(String),
}

/// The files that the arguments mean: directories are searched.
///
/// # Errors
/// [`Error`] where one does not exist, or a directory has no logs.
pub fn inputs(arguments: &[PathBuf]) -> Result<Vec<Input>, Error> {
    let mut found = Vec::new();
    for path in arguments {
        if path.as_os_str() == "-" {
            found.push(Input::Stdin);
            continue;
        }
        let metadata = std::fs::metadata(path).map_err(|source| io_error(path, source))?;
        if metadata.is_dir() {
            let before = found.len();
            search(path, 0, &mut found)?;
            if found.len() == before {
                return Err(Error::NoLogs(path.display().to_string()));
            }
        } else {
            found.push(Input::File(path.clone()));
        }
    }
    Ok(found)
}

fn search(directory: &Path, depth: usize, found: &mut Vec<Input>) -> Result<(), Error> {
    let entries = std::fs::read_dir(directory).map_err(|source| io_error(directory, source))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth < DIRECTORY_DEPTH_MAX {
                search(&path, depth + 1, found)?;
            }
        } else if is_log(&path) {
            found.push(Input::File(path));
        }
    }
    Ok(())
}

fn is_log(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let has_extension = |extensions: &[&str]| extensions.iter().any(|e| name.ends_with(e));
    has_extension(&[".log", ".json", ".jsonl", ".ndjson"])
        || (name.contains("audit") && !has_extension(&[".md", ".txt", ".yaml", ".yml", ".tar", ".zip"]))
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}

/// The size of all inputs on disk; 0 for standard input.
pub fn total_bytes(inputs: &[Input]) -> u64 {
    let size = |input: &Input| match input {
        Input::File(path) => std::fs::metadata(path).map_or(0, |m| m.len()),
        Input::Stdin => 0,
    };
    inputs.iter().map(size).sum()
}

/// The time of the last event of an input, looked for at its end; a compressed one is read through.
pub fn last_time(input: &Input) -> Option<Micros> {
    let Input::File(path) = input else { return None };
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(EVENT_BYTES_MAX as u64))).ok()?;
    file.read_to_end(&mut tail).ok()?;
    if tail.starts_with(&[0x1f, 0x8b]) {
        tail.clear();
        let mut stream = Stream::open(Box::new(File::open(path).ok()?), Arc::default()).ok()?;
        loop {
            let keep = tail.len().saturating_sub(EVENT_BYTES_MAX);
            tail.drain(..keep);
            tail.append(&mut stream.buffer);
            if stream.is_over {
                break;
            }
            stream.fill();
        }
    }
    envelope::last_time(&tail)
}

/// Who takes in what is read. An input that cannot be read to its end is told, and the others go on.
pub trait Sink {
    /// One event, or why it is none; `place` is its line, or its number within a document.
    fn take(&mut self, decoded: Result<Decoded<'_>, Malformed>, place: u64);
    /// An input ended early.
    fn broken(&mut self, error: Error);
    /// A chunk of this input was handed on: these bytes.
    fn chunk_done(&mut self, _input: usize, _bytes: &[u8]) {}
}

/// Reads all inputs, merged by time; `read` counts bytes as they are on disk.
pub fn read(inputs: &[Input], read: &Arc<AtomicU64>, sink: &mut impl Sink) {
    let mut queue = BinaryHeap::new();
    for (index, input) in inputs.iter().enumerate() {
        match Log::open(input, read.clone()) {
            Ok(log) => queue.push(Turn { at: log.at(), index, log }),
            Err(error) => sink.broken(error),
        }
    }
    while let Some(Turn { index, mut log, .. }) = queue.pop() {
        match log.step(index, sink) {
            Ok(true) => queue.push(Turn { at: log.at(), index, log }),
            Ok(false) => {}
            Err(source) => sink.broken(Error::Io { path: log.name, source }),
        }
    }
}

/// A log in the queue: the one whose next event is the earliest comes first.
struct Turn {
    at: Micros,
    index: usize,
    log: Log,
}

impl PartialEq for Turn {
    fn eq(&self, other: &Turn) -> bool {
        (self.at, self.index) == (other.at, other.index)
    }
}

impl Eq for Turn {}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Turn) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Turn) -> std::cmp::Ordering {
        (other.at, other.index).cmp(&(self.at, self.index))
    }
}

/// One input, being read. Between its turns it is closed to a position where it is a plain file, so that a thousand
/// rotated files are not a thousand buffers.
struct Log {
    name: String,
    input: Input,
    read: Arc<AtomicU64>,
    /// The time of the next event, as far as it was looked for.
    next_at: Micros,
    stream: Option<Stream>,
}

struct Stream {
    reader: Box<dyn Read + Send>,
    /// Read, and not yet handed on.
    buffer: Vec<u8>,
    line: u64,
    is_over: bool,
    /// A line longer than any event is being skipped.
    is_skipping: bool,
    is_document: bool,
    damage: Option<io::Error>,
}

// === impl Log ===

impl Input {
    /// What to call it.
    pub fn name(&self) -> String {
        match self {
            Input::File(path) => path.display().to_string(),
            Input::Stdin => "standard input".to_owned(),
        }
    }
}

impl Log {
    /// Looks at the beginning of an input, for the time of its first event.
    fn open(input: &Input, read: Arc<AtomicU64>) -> Result<Log, Error> {
        let mut log = Log { name: input.name(), input: input.clone(), read, next_at: i64::MIN, stream: None };
        if let Input::File(path) = input {
            let peek = || -> io::Result<Micros> {
                // Peeked bytes are read again later: they must not count twice.
                let mut stream = Stream::open(Box::new(File::open(path)?), Arc::default())?;
                stream.fill();
                if let Some(damage) = stream.damage.take_if(|_| stream.buffer.is_empty()) {
                    return Err(damage);
                }
                Ok(envelope::first_time(&stream.buffer).unwrap_or(i64::MIN))
            };
            log.next_at = peek().map_err(|source| io_error(path, source))?;
        }
        Ok(log)
    }

    fn at(&self) -> Micros {
        self.next_at
    }

    /// Hands on one chunk; `false` at the end.
    fn step(&mut self, index: usize, sink: &mut impl Sink) -> io::Result<bool> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let reader: Box<dyn Read + Send> = match &self.input {
                    Input::File(path) => Box::new(File::open(path)?),
                    Input::Stdin => Box::new(io::stdin()),
                };
                self.stream.insert(Stream::open(reader, self.read.clone())?)
            }
        };
        let goes_on = stream.step(index, sink)?;
        if let Some(at) = envelope::first_time(&stream.buffer) {
            self.next_at = at;
        }
        Ok(goes_on)
    }
}

// === impl Stream ===

impl Stream {
    fn open(inner: Box<dyn Read + Send>, read: Arc<AtomicU64>) -> io::Result<Stream> {
        let reader = decompress::open(inner, read)?;
        let mut stream = Stream {
            reader,
            buffer: Vec::new(),
            line: 0,
            is_over: false,
            is_skipping: false,
            is_document: false,
            damage: None,
        };
        stream.fill();
        stream.is_document = is_document(&stream.buffer);
        Ok(stream)
    }

    /// Reads until a chunk is full or the input ends; damage is an end whose reason is told once all before it is
    /// handed on.
    fn fill(&mut self) {
        while self.buffer.len() < CHUNK_BYTES && !self.is_over {
            self.read_to(CHUNK_BYTES);
        }
    }

    fn read_to(&mut self, len_wanted: usize) {
        let len = self.buffer.len();
        self.buffer.resize(len_wanted, 0);
        let result = self.reader.read(&mut self.buffer[len..]);
        self.buffer.truncate(len + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(n) => self.is_over = n == 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                self.is_over = true;
                self.damage = Some(error);
            }
        }
    }

    fn step(&mut self, index: usize, sink: &mut impl Sink) -> io::Result<bool> {
        if self.is_document {
            let head = std::mem::take(&mut self.buffer);
            let mut place = 0;
            document::read(head, &mut self.reader, |event, bytes| {
                place += 1;
                sink.take(event, place);
                sink.chunk_done(index, bytes);
            })?;
            return Ok(false);
        }
        let end = match memchr::memrchr(b'\n', &self.buffer) {
            Some(newline) => newline + 1,
            None if self.is_over => self.buffer.len(),
            None => return self.grow(sink),
        };
        let mut lines = &self.buffer[..end];
        while !lines.is_empty() {
            let len = memchr::memchr(b'\n', lines).unwrap_or(lines.len());
            self.line += 1;
            let line = self.line;
            if std::mem::take(&mut self.is_skipping) {
                sink.take(Err(Malformed::TooLong(EVENT_BYTES_MAX)), line);
            } else {
                envelope::line(&lines[..len], |event| sink.take(event, line));
            }
            lines = &lines[(len + 1).min(lines.len())..];
        }
        sink.chunk_done(index, &self.buffer[..end]);
        self.buffer.drain(..end);
        self.fill();
        self.goes_on()
    }

    fn goes_on(&mut self) -> io::Result<bool> {
        let is_done = self.is_over && self.buffer.is_empty();
        match self.damage.take_if(|_| is_done) {
            Some(damage) => Err(damage),
            None => Ok(!is_done),
        }
    }

    /// Makes room for a line longer than a chunk; one longer than any event is skipped.
    fn grow(&mut self, sink: &mut impl Sink) -> io::Result<bool> {
        if self.buffer.len() > EVENT_BYTES_MAX {
            self.is_skipping = true;
        }
        if self.is_skipping {
            self.buffer.clear();
            self.fill();
            if self.is_over && self.buffer.is_empty() {
                sink.take(Err(Malformed::TooLong(EVENT_BYTES_MAX)), self.line + 1);
            }
            return self.goes_on();
        }
        self.read_to(self.buffer.len() + CHUNK_BYTES);
        Ok(true)
    }
}

/// Whether this beginning of an input is a document: a value that goes on behind its first line, or a long list.
fn is_document(head: &[u8]) -> bool {
    let start = head.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(head.len());
    let head = &head[start..];
    let is_open = matches!(head.first(), Some(b'{' | b'['));
    match memchr::memchr(b'\n', head) {
        Some(end) => {
            is_open
                && end < 4096
                && skip_value(&head[..end], 0).is_none()
                && !head[..end].starts_with(br#"{"kind":"Event","#)
        }
        None => is_open && head.len() >= CHUNK_BYTES && (head[0] == b'[' || envelope::is_list(head)),
    }
}
