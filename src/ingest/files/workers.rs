//! Reads and decodes logs with several workers, and delivers the results in order, as if there was only one.

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
use crate::util::lock::lock;

/// Maximum number of chunks that a worker decodes while it waits for its turn to deliver.
const AHEAD_MAX: usize = 4;
/// The value of the next ticket after a worker has panicked. No ticket has this number.
const BROKEN: u64 = u64::MAX;
/// Number of spins before a worker sleeps. They take some microseconds; waking up takes fifty.
const LOOKS: usize = 2_000;

/// Receives the contents of logs. If an input cannot be read to its end, that is reported and the others continue.
pub trait Sink {
    /// Ingests a decoded chunk of lines. `before` is the number of earlier lines of its input.
    fn run(&mut self, chunk: &Chunk, run: &Run<'_>, before: u64);
    /// Ingests one event of a multi-line document, or the reason why it is malformed. `place` is its number in the
    /// document; `bytes` is the text it was decoded from.
    fn take(&mut self, input: usize, decoded: Result<Decoded<'_>, Malformed>, place: u64, bytes: &[u8]);
    /// Reports that an input ended early.
    fn broken(&mut self, error: Error);
}

/// Reads all inputs, merged by time. `read` counts bytes as they are on disk.
///
/// Each worker reads, decodes and delivers chunks of its own, while they are in its core's cache. Only one worker at a
/// time reads, and only one delivers, in the order of the chunks, so that `sink` receives the same sequence as from a
/// single worker.
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

/// State shared by the workers.
struct Work<'s, S> {
    source: Mutex<Source>,
    turn: Turnstile,
    taker: Mutex<Taker<'s, S>>,
}

/// The inputs that are left to read.
struct Source {
    queue: Queue,
    /// Number of tickets that were issued.
    begun: u64,
}

/// The sink, and the number of lines that were delivered for each input.
struct Taker<'s, S> {
    lines: Vec<u64>,
    sink: &'s mut S,
}

/// Admits workers in the order of their tickets.
#[derive(Default)]
struct Turnstile {
    next: AtomicU64,
    /// Number of workers that sleep.
    sleepers: Mutex<usize>,
    woken: Condvar,
}

/// A decoded chunk that waits for its turn.
type Waiting<'w> = (Ticket<'w>, &'w Chunk, Run<'w>);

/// Reusable allocations of a worker.
#[derive(Default)]
struct Spare {
    buffers: Vec<Vec<u8>>,
    rooms: Vec<Vec<Event<'static>>>,
}

/// A position in the order of delivery. When it is dropped, the next ticket is admitted.
struct Ticket<'t> {
    number: u64,
    turn: &'t Turnstile,
}

// === impl Work ===

impl<S: Sink> Work<'_, S> {
    /// Processes chunks until there are none left.
    fn run(&self) {
        let mut spare = Spare::default();
        while self.some(&mut spare) {}
    }

    /// Processes several chunks, decoding ahead while other workers deliver. Returns `false` if there are no more.
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

    /// Returns the next item, with its ticket.
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
        // A worker that goes to sleep holds the lock from its last check on: either it sees the new value, or it is
        // counted here.
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

    /// Waits until all earlier tickets have been dropped. Returns `false` if a worker has panicked.
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
    /// If a worker panics, nobody waits for it: neither other workers, nor its own other tickets.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.turn.next.store(BROKEN, Ordering::Release);
        } else if self.wait() {
            // Fails if a worker has panicked in the meantime, so that the value stays `BROKEN`.
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
