//! Logs, read and decoded by several workers, and taken in as if by one.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::log::Chunk;
use super::queue::{Next, Queue};
use super::{Error, Input};
use crate::audit::decode::{Decoded, Malformed};
use crate::audit::run::Run;

/// Looks at whose turn it is before a worker sleeps: some microseconds, where to be woken takes fifty.
const LOOKS: usize = 2_000;

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
/// Each worker reads, decodes and hands on a chunk of its own, while it is in its core's cache. Reading is done by one at a
/// time, and so is handing on, in the order of the chunks: `sink` sees what one worker alone would have shown it.
pub fn read(inputs: &[Input], workers: NonZeroUsize, read: &Arc<AtomicU64>, sink: &mut (impl Sink + Send)) {
    let (queue, broken) = Queue::open(inputs, read, workers);
    broken.into_iter().for_each(|error| sink.broken(error));
    let work = Work {
        source: Mutex::new(Source { queue, begun: 0 }),
        turn: Turnstile::default(),
        taker: Mutex::new(Taker { lines: vec![0; inputs.len()], sink }),
    };
    std::thread::scope(|scope| {
        for _ in 1..workers.get() {
            scope.spawn(|| work.run());
        }
        work.run();
    });
}

/// What the workers share.
struct Work<'s, S> {
    source: Mutex<Source>,
    turn: Turnstile,
    taker: Mutex<Taker<'s, S>>,
}

/// What is not yet read.
struct Source {
    queue: Queue,
    /// Tickets given out.
    begun: u64,
}

/// The sink, and how far each input has come.
struct Taker<'s, S> {
    lines: Vec<u64>,
    sink: &'s mut S,
}

/// Lets workers through in the order of their tickets.
#[derive(Default)]
struct Turnstile {
    next: AtomicU64,
    /// Whether somebody sleeps.
    sleepers: Mutex<usize>,
    woken: Condvar,
}

/// A place in the order. Once it is dropped it is the next one's turn.
struct Ticket<'t> {
    number: u64,
    turn: &'t Turnstile,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Work ===

impl<S: Sink> Work<'_, S> {
    /// Takes in one part after another, until there is none.
    fn run(&self) {
        let (mut buffer, mut room) = (Vec::new(), Vec::new());
        while let Some((ticket, next)) = self.next(&mut buffer) {
            match next {
                Next::Chunk(chunk) => {
                    let run = Run::of(chunk.bytes(), chunk.is_rest_of_too_long, room);
                    ticket.wait();
                    lock(&self.taker).run(&chunk, &run);
                    drop(ticket);
                    room = run.into_room();
                    buffer = chunk.into_buffer();
                }
                Next::Document(index, mut log) => {
                    ticket.wait();
                    let taker = &mut lock(&self.taker);
                    if let Err(error) = log.document(index, taker.sink) {
                        taker.sink.broken(error);
                    }
                }
                Next::Broken(error) => {
                    ticket.wait();
                    lock(&self.taker).sink.broken(error);
                }
            }
        }
    }

    /// What comes next, and its place in the order.
    fn next(&self, buffer: &mut Vec<u8>) -> Option<(Ticket<'_>, Next)> {
        let source = &mut *lock(&self.source);
        let next = source.queue.next(buffer)?;
        let number = source.begun;
        source.begun += 1;
        Some((Ticket { number, turn: &self.turn }, next))
    }
}

// === impl Taker ===

impl<S: Sink> Taker<'_, S> {
    fn run(&mut self, chunk: &Chunk, run: &Run<'_>) {
        let before = self.lines[chunk.input];
        self.lines[chunk.input] += run.lines;
        self.sink.run(chunk, run, before);
    }
}

// === impl Ticket ===

impl Ticket<'_> {
    /// Waits until all before it have gone through.
    fn wait(&self) {
        let is_next = || self.turn.next.load(Ordering::Acquire) == self.number;
        for _ in 0..LOOKS {
            if is_next() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut sleepers = lock(&self.turn.sleepers);
        *sleepers += 1;
        while !is_next() {
            sleepers = self.turn.woken.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
        }
        *sleepers -= 1;
    }
}

impl Drop for Ticket<'_> {
    /// Also where its worker panics: the others must not wait for ever.
    fn drop(&mut self) {
        self.wait();
        // Who falls asleep holds the lock from its last look on: it sees this, or is seen by what follows.
        self.turn.next.store(self.number + 1, Ordering::Release);
        if *lock(&self.turn.sleepers) > 0 {
            self.turn.woken.notify_all();
        }
    }
}
