//! Logs, read and decoded by several workers, and taken in as if by one.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::log::Chunk;
use super::queue::{Next, Queue};
use super::{Error, Input};
use crate::audit::decode::{self, Malformed};
use crate::audit::event::Event;
use crate::audit::run::Run;

/// Chunks that a worker decodes while it is not its turn.
const AHEAD_MAX: usize = 4;
/// Looks at whose turn it is before a worker sleeps: some microseconds, where to be woken takes fifty.
const LOOKS: usize = 2_000;

/// Who takes in what is read. An input that cannot be read to its end is told, and the others go on.
pub trait Sink {
    /// A chunk of lines, decoded; `before` lines of its input came before it.
    fn run(&mut self, chunk: &Chunk, run: &Run<'_>, before: u64);
    /// One event of a document, or why it is none; its number there, and the bytes it was read from.
    fn take(&mut self, input: usize, decoded: Result<decode::Decoded<'_>, Malformed>, place: u64, bytes: &[u8]);
    /// An input ended early.
    fn broken(&mut self, error: Error);
}

/// Reads all inputs, merged by time; `read` counts bytes as they are on disk.
///
/// Each worker reads, decodes and hands on chunks of its own, while they are in its core's cache. Reading is done by one at
/// a time, and so is handing on, in the order of the chunks: `sink` sees what one worker alone would have shown it.
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

/// A chunk that waits for its turn.
type Decoded<'w> = (Ticket<'w>, &'w Chunk, Run<'w>);

/// A worker's memory, to use again.
#[derive(Default)]
struct Spare {
    buffers: Vec<Vec<u8>>,
    rooms: Vec<Vec<Event<'static>>>,
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
        let mut spare = Spare::default();
        while self.some(&mut spare) {}
    }

    /// Takes in some chunks: decodes on while it is another one's turn. `false` where there are no more.
    fn some(&self, spare: &mut Spare) -> bool {
        let chunks: [OnceCell<Chunk>; AHEAD_MAX] = Default::default();
        let mut decoded = VecDeque::with_capacity(AHEAD_MAX);
        let mut has_more = true;
        for place in &chunks {
            while let Some(next) = decoded.pop_front_if(|(ticket, ..): &mut Decoded<'_>| ticket.is_next()) {
                self.take(next, spare);
            }
            let Some((ticket, next)) = self.next(spare) else {
                has_more = false;
                break;
            };
            match next {
                Next::Chunk(chunk) => {
                    let chunk = place.get_or_init(|| chunk);
                    let room = spare.rooms.pop().unwrap_or_default();
                    decoded.push_back((ticket, chunk, Run::of(chunk.bytes(), chunk.is_rest_of_too_long, room)));
                }
                Next::Document(index, mut log) => {
                    decoded.drain(..).for_each(|next| self.take(next, spare));
                    self.alone(&ticket, |sink| log.document(index, sink));
                }
                Next::Broken(error) => {
                    decoded.drain(..).for_each(|next| self.take(next, spare));
                    self.alone(&ticket, |_| Err(error));
                }
            }
        }
        decoded.into_iter().for_each(|next| self.take(next, spare));
        spare.buffers.extend(chunks.into_iter().filter_map(OnceCell::into_inner).map(Chunk::into_buffer));
        has_more
    }

    fn take(&self, (ticket, chunk, run): Decoded<'_>, spare: &mut Spare) {
        ticket.wait();
        lock(&self.taker).run(chunk, &run);
        drop(ticket);
        spare.rooms.push(run.into_room());
    }

    fn alone(&self, ticket: &Ticket<'_>, read: impl FnOnce(&mut S) -> Result<(), Error>) {
        ticket.wait();
        let sink = &mut lock(&self.taker).sink;
        if let Err(error) = read(sink) {
            sink.broken(error);
        }
    }

    /// What comes next, and its place in the order.
    fn next(&self, spare: &mut Spare) -> Option<(Ticket<'_>, Next)> {
        let source = &mut *lock(&self.source);
        let next = source.queue.next(&mut spare.buffers)?;
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
    fn is_next(&self) -> bool {
        self.turn.next.load(Ordering::Acquire) == self.number
    }

    /// Waits until all before it have gone through.
    fn wait(&self) {
        for _ in 0..LOOKS {
            if self.is_next() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut sleepers = lock(&self.turn.sleepers);
        *sleepers += 1;
        while !self.is_next() {
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
