//! Audit logs as files: plain or gzip, rotated sets, directories, standard input; merged by time.
//!
//! Files are cut into chunks of whole lines. Where several cover the same time (one log per API server), their chunks
//! are taken in turns by the time of their first event, so that what happened at once is seen together.

use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};

use super::ahead::Ahead;
use super::{decompress, document};
use crate::audit::decode::{Decoded, Malformed};
use crate::audit::envelope::{self, EVENT_BYTES_MAX};
use crate::audit::event::Micros;
use crate::audit::run::Run;
use crate::audit::scan::skip_value;

/// Bytes of whole lines that are handled at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that are read ahead.
const BLOCK_CHUNKS: usize = 16;
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
        let mut stream = Stream::open(Box::new(File::open(path).ok()?), Arc::default(), None).ok()?;
        loop {
            let keep = tail.len().saturating_sub(EVENT_BYTES_MAX);
            tail.drain(..keep);
            tail.extend_from_slice(stream.bytes());
            stream.filled = 0;
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
    /// A chunk of lines, decoded; `before` lines of its input came before it.
    fn run(&mut self, chunk: &Chunk, run: Run<'_>, before: u64);
    /// One event of a document, or why it is none; its number there, and the bytes it was read from.
    fn take(&mut self, input: usize, decoded: Result<Decoded<'_>, Malformed>, place: u64, bytes: &[u8]);
    /// An input ended early.
    fn broken(&mut self, error: Error);
}

/// Reads all inputs, merged by time; `read` counts bytes as they are on disk.
///
/// With more than one worker the others read and decode ahead; `sink` takes in every chunk in the order in which one
/// worker alone would have.
pub fn read(inputs: &[Input], workers: NonZeroUsize, read: &Arc<AtomicU64>, sink: &mut impl Sink) {
    let (mut queue, broken) = Queue::open(inputs, read, workers);
    broken.into_iter().for_each(|error| sink.broken(error));
    let mut order = InOrder { lines: vec![0; inputs.len()], sink };
    let mut block = queue.block();
    loop {
        let next = match workers.get() {
            1 => {
                block.chunks.iter().for_each(|chunk| order.take(chunk, chunk.decode()));
                None
            }
            workers => Some(order.together(&block.chunks, workers, &mut queue)),
        };
        queue.recycle(block.chunks);
        match block.end {
            End::Full => {}
            End::Over => return,
            End::Broken(error) => order.sink.broken(error),
            End::Document(index, mut log) => {
                if let Err(source) = log.document(index, order.sink) {
                    order.sink.broken(Error::Io { path: log.name, source });
                }
            }
        }
        block = next.unwrap_or_else(|| queue.block());
    }
}

/// Whole lines of one input, in a buffer that is used again.
#[derive(Debug)]
pub struct Chunk {
    /// Which input.
    pub input: usize,
    /// The first line is the rest of one that is longer than any event.
    is_rest_of_too_long: bool,
    buffer: Vec<u8>,
    filled: usize,
}

/// The sink, and how far each input has come.
struct InOrder<'s, S> {
    lines: Vec<u64>,
    sink: &'s mut S,
}

impl<S: Sink> InOrder<'_, S> {
    fn take(&mut self, chunk: &Chunk, run: Run<'_>) {
        let before = self.lines[chunk.input];
        self.lines[chunk.input] += run.lines;
        self.sink.run(chunk, run, before);
    }

    /// Takes in a block that all decode; the next one, read meanwhile.
    fn together(&mut self, chunks: &[Chunk], workers: usize, queue: &mut Queue) -> Block {
        let begun = &AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let (done, runs) = mpsc::channel();
            for _ in 2..workers {
                let done = done.clone();
                scope.spawn(move || decode_all(chunks, begun, &done));
            }
            let ahead = scope.spawn(move || {
                let next = queue.block();
                decode_all(chunks, begun, &done);
                next
            });
            let mut early: Vec<Option<Run<'_>>> = chunks.iter().map(|_| None).collect();
            for (at, chunk) in chunks.iter().enumerate() {
                let run = loop {
                    if let Some(run) = early[at].take() {
                        break run;
                    }
                    // Decode rather than wait; wait where all is begun.
                    let found = runs.try_recv().ok().or_else(|| decode_one(chunks, begun)).or_else(|| runs.recv().ok());
                    if let Some((i, run)) = found {
                        early[i] = Some(run);
                    }
                };
                self.take(chunk, run);
            }
            ahead.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Decodes the first chunk that nobody has begun.
fn decode_one<'a>(chunks: &'a [Chunk], begun: &AtomicUsize) -> Option<(usize, Run<'a>)> {
    let i = begun.fetch_add(1, Ordering::Relaxed);
    chunks.get(i).map(|chunk| (i, chunk.decode()))
}

/// Decodes chunks until all are begun.
fn decode_all<'a>(chunks: &'a [Chunk], begun: &AtomicUsize, done: &Sender<(usize, Run<'a>)>) {
    while let Some(run) = decode_one(chunks, begun) {
        // Whoever takes the runs outlives all who send them.
        drop(done.send(run));
    }
}

/// Chunks in the order of their turns, and what comes behind them.
struct Block {
    chunks: Vec<Chunk>,
    end: End,
}

enum End {
    /// More chunks.
    Full,
    /// Nothing.
    Over,
    /// An input that cannot be read on.
    Broken(Error),
    /// An input that is no lines.
    Document(usize, Log),
}

/// The logs that are not over, the one whose next event is the earliest first; and buffers to use again.
struct Queue {
    turns: BinaryHeap<Turn>,
    buffers: Vec<Vec<u8>>,
    /// Packed inputs that are unpacked at once, each by a thread that holds a clone of `permits`.
    unpacked_max: usize,
    permits: Arc<()>,
}

// === impl Chunk ===

impl Chunk {
    /// The lines.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    fn decode(&self) -> Run<'_> {
        Run::of(self.bytes(), self.is_rest_of_too_long)
    }
}

// === impl Queue ===

impl Queue {
    fn open(inputs: &[Input], read: &Arc<AtomicU64>, workers: NonZeroUsize) -> (Queue, Vec<Error>) {
        let (mut turns, mut broken) = (BinaryHeap::new(), Vec::new());
        for (index, input) in inputs.iter().enumerate() {
            match Log::open(input, read.clone()) {
                Ok(log) => turns.push(Turn { at: log.at(), index, log }),
                Err(error) => broken.push(error),
            }
        }
        // One worker alone has no threads.
        let unpacked_max = if workers.get() == 1 { 0 } else { workers.get() };
        (Queue { turns, buffers: Vec::new(), unpacked_max, permits: Arc::default() }, broken)
    }

    fn permit(&self) -> Option<Arc<()>> {
        (Arc::strong_count(&self.permits) <= self.unpacked_max).then(|| self.permits.clone())
    }

    /// Begins to unpack the inputs whose turn it is next.
    fn unpack(&mut self) {
        let next: Vec<Turn> = std::iter::from_fn(|| self.turns.pop()).take(self.unpacked_max).collect();
        for mut turn in next {
            if turn.log.is_packed
                && let Some(permit) = self.permit()
            {
                // An input that cannot be opened is told about when it is its turn.
                drop(turn.log.begin(Some(permit)));
            }
            self.turns.push(turn);
        }
    }

    /// The next chunks.
    fn block(&mut self) -> Block {
        self.unpack();
        let mut chunks = Vec::new();
        while chunks.len() < BLOCK_CHUNKS {
            let Some(Turn { index, mut log, .. }) = self.turns.pop() else { return Block { chunks, end: End::Over } };
            match log.step(index, &mut chunks, &mut self.buffers) {
                Ok(Step::On) => self.turns.push(Turn { at: log.at(), index, log }),
                Ok(Step::Over) => {}
                Ok(Step::Document) => return Block { chunks, end: End::Document(index, log) },
                Err(source) => {
                    return Block { chunks, end: End::Broken(Error::Io { path: log.name, source }) };
                }
            }
        }
        Block { chunks, end: End::Full }
    }

    fn recycle(&mut self, chunks: Vec<Chunk>) {
        let buffers = chunks.into_iter().map(|chunk| chunk.buffer);
        self.buffers.extend(buffers.filter(|buffer| buffer.len() <= 4 * CHUNK_BYTES));
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
    is_packed: bool,
    stream: Option<Stream>,
}

struct Stream {
    reader: Box<dyn Read + Send>,
    /// Read, and not yet handed on: the first `filled` bytes.
    buffer: Vec<u8>,
    filled: usize,
    is_over: bool,
    /// A line longer than any event is being skipped.
    is_skipping: bool,
    is_document: bool,
    is_packed: bool,
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
        let mut log =
            Log { name: input.name(), input: input.clone(), read, next_at: i64::MIN, is_packed: false, stream: None };
        if let Input::File(path) = input {
            let peek = || -> io::Result<(Micros, bool)> {
                // Peeked bytes are read again later: they must not count twice.
                let mut stream = Stream::open(Box::new(File::open(path)?), Arc::default(), None)?;
                stream.fill();
                if let Some(damage) = stream.damage.take_if(|_| stream.filled == 0) {
                    return Err(damage);
                }
                Ok((envelope::first_time(stream.bytes()).unwrap_or(i64::MIN), stream.is_packed))
            };
            (log.next_at, log.is_packed) = peek().map_err(|source| io_error(path, source))?;
        }
        Ok(log)
    }

    fn at(&self) -> Micros {
        self.next_at
    }

    /// Opens it, where it is not yet; with a permit, what is packed is unpacked by another thread.
    fn begin(&mut self, permit: Option<Arc<()>>) -> io::Result<&mut Stream> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let reader: Box<dyn Read + Send> = match &self.input {
                    Input::File(path) => Box::new(File::open(path)?),
                    Input::Stdin => Box::new(io::stdin()),
                };
                Stream::open(reader, self.read.clone(), permit)?
            }
        };
        Ok(self.stream.insert(stream))
    }

    /// Adds one chunk, if it has one.
    fn step(&mut self, index: usize, chunks: &mut Vec<Chunk>, buffers: &mut Vec<Vec<u8>>) -> io::Result<Step> {
        let stream = self.begin(None)?;
        let step = stream.step(index, chunks, buffers)?;
        if let Some(at) = envelope::first_time(stream.bytes()) {
            self.next_at = at;
        }
        Ok(step)
    }

    /// Reads a document to its end.
    fn document(&mut self, index: usize, sink: &mut impl Sink) -> io::Result<()> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        stream.buffer.truncate(stream.filled);
        let mut place = 0;
        document::read(stream.buffer, &mut stream.reader, |event, bytes| {
            place += 1;
            sink.take(index, event, place, bytes);
        })
    }
}

// === impl Stream ===

impl Stream {
    fn open(inner: Box<dyn Read + Send>, read: Arc<AtomicU64>, permit: Option<Arc<()>>) -> io::Result<Stream> {
        let decompress::Opened { mut reader, is_packed } = decompress::open(inner, read)?;
        if let (true, Some(permit)) = (is_packed, permit) {
            reader = Box::new(Ahead::begin(reader, permit)?);
        }
        let mut stream = Stream {
            reader,
            buffer: Vec::new(),
            filled: 0,
            is_over: false,
            is_skipping: false,
            is_document: false,
            is_packed,
            damage: None,
        };
        stream.fill();
        stream.is_document = is_document(stream.bytes());
        Ok(stream)
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Reads until a chunk is full or the input ends; damage is an end whose reason is told once all before it is
    /// handed on.
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

    fn step(&mut self, index: usize, chunks: &mut Vec<Chunk>, buffers: &mut Vec<Vec<u8>>) -> io::Result<Step> {
        if self.is_document {
            return Ok(Step::Document);
        }
        let end = match memchr::memrchr(b'\n', self.bytes()) {
            Some(newline) => newline + 1,
            None if self.is_over => self.filled,
            None => return self.grow(index, chunks),
        };
        // What is left of the last line begins the next buffer.
        let rest = self.filled - end;
        let mut next = buffers.pop().unwrap_or_default();
        if next.len() < rest {
            next.resize(rest, 0);
        }
        next[..rest].copy_from_slice(&self.buffer[end..self.filled]);
        let buffer = std::mem::replace(&mut self.buffer, next);
        self.filled = rest;
        let is_rest_of_too_long = std::mem::take(&mut self.is_skipping);
        chunks.push(Chunk { input: index, is_rest_of_too_long, buffer, filled: end });
        self.fill();
        self.goes_on()
    }

    fn goes_on(&mut self) -> io::Result<Step> {
        let is_done = self.is_over && self.filled == 0;
        match self.damage.take_if(|_| is_done) {
            Some(damage) => Err(damage),
            None if is_done => Ok(Step::Over),
            None => Ok(Step::On),
        }
    }

    /// Makes room for a line longer than a chunk; one longer than any event is skipped.
    fn grow(&mut self, index: usize, chunks: &mut Vec<Chunk>) -> io::Result<Step> {
        if self.filled > EVENT_BYTES_MAX {
            self.is_skipping = true;
        }
        if self.is_skipping {
            self.filled = 0;
            self.fill();
            if self.is_over && self.filled == 0 {
                chunks.push(Chunk { input: index, is_rest_of_too_long: true, buffer: Vec::new(), filled: 0 });
            }
            return self.goes_on();
        }
        self.read_to(self.filled + CHUNK_BYTES);
        Ok(Step::On)
    }
}

/// How an input goes on.
enum Step {
    /// With more.
    On,
    /// Not at all.
    Over,
    /// Not by lines.
    Document,
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
