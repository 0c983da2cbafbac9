//! Audit logs as files: plain or gzip, rotated sets, directories, standard input; merged by time.
//!
//! Files are cut into chunks of whole lines. Where several cover the same time (one log per API server), their chunks
//! are taken in turns by the time of their first event, and none reaches far beyond where the next log begins: what
//! happened at once is seen together.

use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};

use super::ahead::Ahead;
use super::{decompress, document};
use crate::audit::decode::{Decoded, Malformed};
use crate::audit::envelope::{self, EVENT_BYTES_MAX};
use crate::audit::event::{Event, Micros};
use crate::audit::run::Run;
use crate::audit::scan::skip_value;
use crate::detect::contest::LATE_MAX;

/// Bytes of whole lines that are handled at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks in memory at a time: many, so that workers seldom wait for each other at a block's end.
const BLOCK_CHUNKS: usize = 48;
/// How far a chunk may reach beyond the next event of another log: well below what a write may come late by.
const AHEAD_MAX: Micros = LATE_MAX / 5;
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
    fn run(&mut self, chunk: &Chunk, run: &Run<'_>, before: u64);
    /// One event of a document, or why it is none; its number there, and the bytes it was read from.
    fn take(&mut self, input: usize, decoded: Result<Decoded<'_>, Malformed>, place: u64, bytes: &[u8]);
    /// An input ended early.
    fn broken(&mut self, error: Error);
}

/// Reads all inputs, merged by time; `read` counts bytes as they are on disk.
///
/// All workers read and decode, each its own chunk while it is warm; `sink` takes in every chunk on this thread, in the order
/// in which one worker alone would have.
pub fn read(inputs: &[Input], workers: NonZeroUsize, read: &Arc<AtomicU64>, sink: &mut impl Sink) {
    let (mut queue, broken) = Queue::open(inputs, read, workers);
    broken.into_iter().for_each(|error| sink.broken(error));
    let mut order = InOrder { lines: vec![0; inputs.len()], rooms: Vec::new(), sink };
    loop {
        match order.block(&mut queue, workers) {
            End::Full => {}
            End::Over => return,
            End::Broken(error) => order.sink.broken(error),
            End::Document(index, mut log) => {
                if let Err(source) = log.document(index, order.sink) {
                    order.sink.broken(Error::Io { path: log.name, source });
                }
            }
        }
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
    rooms: Vec<Vec<Event<'static>>>,
    sink: &'s mut S,
}

impl<S: Sink> InOrder<'_, S> {
    fn take(&mut self, chunk: &Chunk, run: &Run<'_>) {
        let before = self.lines[chunk.input];
        self.lines[chunk.input] += run.lines;
        self.sink.run(chunk, run, before);
    }

    /// Takes in the next chunks, up to a block of them; how it ended.
    fn block(&mut self, queue: &mut Queue, workers: NonZeroUsize) -> End {
        queue.unpack();
        let helpers = workers.get() - 1;
        // Alone, a chunk is over before the next one is read into the same buffer.
        let places = (0..if helpers == 0 { 1 } else { BLOCK_CHUNKS }).map(|_| OnceLock::new()).collect();
        let rooms = Mutex::new(std::mem::take(&mut self.rooms));
        let block = Block { places, source: Mutex::new(Source { queue, begun: 0, end: None }), rooms };
        std::thread::scope(|scope| {
            let (done, runs) = mpsc::channel();
            for _ in 0..helpers {
                let (block, done) = (&block, done.clone());
                // Whoever takes the runs outlives all who send them.
                scope.spawn(move || block.runs().for_each(|run| drop(done.send(run))));
            }
            drop(done);
            let mut early: Vec<Option<Run<'_>>> = block.places.iter().map(|_| None).collect();
            let mut at = 0;
            // Decode rather than wait; wait where all is begun.
            while let Some((i, run)) = runs.try_recv().ok().or_else(|| block.run_now()).or_else(|| runs.recv().ok()) {
                early[i] = Some(run);
                while let Some(run) = early.get_mut(at).and_then(Option::take) {
                    if let Some(chunk) = block.places[at].get() {
                        self.take(chunk, &run);
                    }
                    lock(&block.rooms).push(run.into_room());
                    at += 1;
                }
            }
        });
        let Block { places, source, rooms } = block;
        self.rooms = rooms.into_inner().unwrap_or_else(PoisonError::into_inner);
        let end = source.into_inner().unwrap_or_else(PoisonError::into_inner).end;
        queue.recycle(places.into_iter().filter_map(OnceLock::into_inner));
        end.unwrap_or(End::Full)
    }
}

/// Chunks in the order of their turns, each read and decoded by the worker that is free.
struct Block<'q> {
    places: Vec<OnceLock<Chunk>>,
    source: Mutex<Source<'q>>,
    /// Memory for decoded events, used again.
    rooms: Mutex<Vec<Vec<Event<'static>>>>,
}

/// What is not yet read of a block.
struct Source<'q> {
    queue: &'q mut Queue,
    begun: usize,
    /// Why there are no more chunks.
    end: Option<End>,
}

// === impl Block ===

impl Block<'_> {
    /// Reads and decodes the next chunk; `None` where all are begun.
    fn run(&self, mut source: MutexGuard<'_, Source<'_>>) -> Option<(usize, Run<'_>)> {
        let place = source.begun;
        if place == self.places.len() || source.end.is_some() {
            return None;
        }
        match source.queue.chunk() {
            Ok(chunk) => {
                source.begun += 1;
                drop(source);
                let room = lock(&self.rooms).pop().unwrap_or_default();
                let Chunk { is_rest_of_too_long, .. } = chunk;
                Some((place, Run::of(self.places[place].get_or_init(|| chunk).bytes(), is_rest_of_too_long, room)))
            }
            Err(end) => {
                source.end = Some(end);
                None
            }
        }
    }

    /// [`Block::run`], again and again.
    fn runs(&self) -> impl Iterator<Item = (usize, Run<'_>)> {
        std::iter::from_fn(|| self.run(lock(&self.source)))
    }

    /// [`Block::run`] where nobody else is reading.
    fn run_now(&self) -> Option<(usize, Run<'_>)> {
        self.source.try_lock().ok().and_then(|source| self.run(source))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum End {
    /// More chunks.
    Full,
    /// Nothing.
    Over,
    /// An input that cannot be read on.
    Broken(Error),
    /// An input that is no lines.
    Document(usize, Box<Log>),
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
}

// === impl Queue ===

impl Queue {
    fn open(inputs: &[Input], read: &Arc<AtomicU64>, workers: NonZeroUsize) -> (Queue, Vec<Error>) {
        let (mut turns, mut broken) = (BinaryHeap::new(), Vec::new());
        for (index, input) in inputs.iter().enumerate() {
            match Log::open(input, read.clone()) {
                Ok(log) => turns.push(Turn { at: log.next_at, index, log }),
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

    /// The next chunk, or why there is none.
    fn chunk(&mut self) -> Result<Chunk, End> {
        loop {
            let Some(Turn { index, mut log, .. }) = self.turns.pop() else { return Err(End::Over) };
            let until = self.turns.peek().map_or(i64::MAX, |next| next.at.saturating_add(AHEAD_MAX));
            match log.step(index, until, &mut self.buffers) {
                Ok(Step::Chunk(chunk)) => {
                    // Alone, it is its turn again whenever its next event was.
                    if !self.turns.is_empty() {
                        log.peek();
                    }
                    self.turns.push(Turn { at: log.next_at, index, log });
                    return Ok(chunk);
                }
                Ok(Step::On) => self.turns.push(Turn { at: log.next_at, index, log }),
                Ok(Step::Over) => {}
                Ok(Step::Document) => return Err(End::Document(index, Box::new(log))),
                Err(source) => return Err(End::Broken(Error::Io { path: log.name, source })),
            }
        }
    }

    fn recycle(&mut self, chunks: impl Iterator<Item = Chunk>) {
        let buffers = chunks.map(|chunk| chunk.buffer);
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

    /// The next chunk, of events up to `until` and at least one; or what else comes next.
    fn step(&mut self, index: usize, until: Micros, buffers: &mut Vec<Vec<u8>>) -> io::Result<Step> {
        self.begin(None)?.step(index, until, buffers)
    }

    /// Looks for the time of the next event.
    fn peek(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.fill();
            self.next_at = envelope::first_time(stream.bytes()).unwrap_or(self.next_at);
        }
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

    fn step(&mut self, index: usize, until: Micros, buffers: &mut Vec<Vec<u8>>) -> io::Result<Step> {
        if self.is_document {
            return Ok(Step::Document);
        }
        self.fill();
        if self.is_over && self.filled == 0 {
            return self.damage.take().map_or(Ok(Step::Over), Err);
        }
        let end = match memchr::memrchr(b'\n', self.bytes()) {
            Some(newline) => newline + 1,
            None if self.is_over => self.filled,
            None => return Ok(self.grow(index)),
        };
        let end = end_of(&self.buffer[..end], until);
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
        Ok(Step::Chunk(Chunk { input: index, is_rest_of_too_long, buffer, filled: end }))
    }

    /// Makes room for a line longer than a chunk; one longer than any event is skipped.
    fn grow(&mut self, index: usize) -> Step {
        if self.filled > EVENT_BYTES_MAX {
            self.is_skipping = true;
        }
        if !self.is_skipping {
            self.read_to(self.filled + CHUNK_BYTES);
            return Step::On;
        }
        self.filled = 0;
        self.fill();
        match self.is_over && self.filled == 0 {
            true => Step::Chunk(Chunk { input: index, is_rest_of_too_long: true, buffer: Vec::new(), filled: 0 }),
            false => Step::On,
        }
    }
}

/// Where the lines up to `until` end, behind the first line at the earliest. Lines of a log are in order, nearly.
fn end_of(lines: &[u8], until: Micros) -> usize {
    if until == i64::MAX || envelope::last_time(lines).is_none_or(|last| last <= until) {
        return lines.len();
    }
    let mut end = 0;
    for newline in memchr::memchr_iter(b'\n', lines) {
        if end > 0 && envelope::first_time(&lines[end..newline]).is_some_and(|at| at > until) {
            return end;
        }
        end = newline + 1;
    }
    if end > 0 { end } else { lines.len() }
}

/// How an input goes on.
enum Step {
    /// With these lines.
    Chunk(Chunk),
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
