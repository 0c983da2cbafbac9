//! Logs, read and decoded by several workers, and taken in as if by one.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::log::Chunk;
use super::queue::{Next, Queue};
use super::{Error, Input};
use crate::audit::decode::{Decoded, Malformed};
use crate::audit::event::Event;
use crate::audit::run::Run;
use crate::pipeline::lock;

/// Chunks that a worker decodes while it is not its turn.
const AHEAD_MAX: usize = 4;
/// The next ticket, where a worker panicked: there is none.
const BROKEN: u64 = u64::MAX;
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

/// A chunk that is decoded and waits for its turn.
type Waiting<'w> = (Ticket<'w>, &'w Chunk, Run<'w>);

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
            while let Some(next) = decoded.pop_front_if(|(ticket, ..): &mut Waiting<'_>| ticket.is_next()) {
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

    fn take(&self, (ticket, chunk, run): Waiting<'_>, spare: &mut Spare) {
        if ticket.wait() {
            lock(&self.taker).run(chunk, &run);
        }
        drop(ticket);
        spare.rooms.push(run.into_room());
    }

    fn alone(&self, ticket: &Ticket<'_>, read: impl FnOnce(&mut S) -> Result<(), Error>) {
        if !ticket.wait() {
            return;
        }
        let sink = &mut lock(&self.taker).sink;
        if let Err(error) = read(sink) {
            sink.broken(error);
        }
    }

    /// What comes next, and its place in the order.
    fn next(&self, spare: &mut Spare) -> Option<(Ticket<'_>, Next)> {
        if self.turn.is_broken() {
            return None;
        }
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

// === impl Turnstile ===

impl Turnstile {
    fn is_broken(&self) -> bool {
        self.next.load(Ordering::Acquire) == BROKEN
    }

    fn wake(&self) {
        // Who falls asleep holds the lock from its last look on: it sees what was stored, or is seen here.
        if *lock(&self.sleepers) > 0 {
            self.woken.notify_all();
        }
    }
}

// === impl Ticket ===

impl Ticket<'_> {
    fn is_next(&self) -> bool {
        let next = self.turn.next.load(Ordering::Acquire);
        next == self.number || next == BROKEN
    }

    /// Waits until all before it have gone through; `false` where one of them never will.
    fn wait(&self) -> bool {
        for _ in 0..LOOKS {
            if self.is_next() {
                return !self.turn.is_broken();
            }
            std::hint::spin_loop();
        }
        let mut sleepers = lock(&self.turn.sleepers);
        *sleepers += 1;
        while !self.is_next() {
            sleepers = self.turn.woken.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
        }
        *sleepers -= 1;
        !self.turn.is_broken()
    }
}

impl Drop for Ticket<'_> {
    /// Where a worker panics nobody waits for it: not the others, nor its own tickets for each other.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.turn.next.store(BROKEN, Ordering::Release);
        } else if self.wait() {
            // Fails where it was broken meanwhile, and stays.
            let _ = self.turn.next.compare_exchange(self.number, self.number + 1, Ordering::AcqRel, Ordering::Acquire);
        }
        self.turn.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_keeps_nobody_waiting() {
        let turn = Turnstile::default();
        let ticket = |number| Ticket { number, turn: &turn };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| ticket(2).wait());
            let panics = scope.spawn(|| {
                // The later one is dropped first.
                let (_first, _second) = (ticket(0), ticket(1));
                let _later = ticket(3);
                panic!("as a decoder never should");
            });
            assert!(panics.join().is_err());
            assert!(!other.join().unwrap(), "what comes behind the panic is not taken in");
        });
    }
}
