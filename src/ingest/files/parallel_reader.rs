//! Reads and decodes logs with several workers, and delivers the results in order, as if there was only one.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::chunk::Chunk;
use super::input::{Error, Input};
use super::merge::{Merge, MergeItem};
use super::sequencer::{Sequencer, Ticket};
use crate::audit::decoded_chunk::DecodedChunk;
use crate::audit::event::Event;
use crate::util::lock::lock;

/// Maximum number of chunks that a worker decodes while it waits for its turn to deliver.
const AHEAD_MAX: usize = 4;

/// Receives the contents of logs. If an input cannot be read to its end, the consumer is informed, and the other inputs
/// continue.
pub trait Consumer {
    /// Ingests a decoded chunk of lines of an input. `before` is the number of earlier lines of that input.
    fn ingest(&mut self, input: usize, chunk: &DecodedChunk<'_>, before: u64);
    /// Reports that an input ended early.
    fn broken(&mut self, error: Error);
}

/// Reads all inputs, merged by time. `read` counts bytes as they are on disk.
///
/// Each worker reads, decodes and delivers its own chunks, while they are in its core's cache. Only one worker at a
/// time decides where a chunk ends (and reads it, if it is not a range of a plain file), and only one delivers, in the
/// order of the chunks, so that `consumer` receives the same sequence as from a single worker.
pub fn read(inputs: &[Input], workers: NonZeroUsize, read: &Arc<AtomicU64>, consumer: &mut (impl Consumer + Send)) {
    let (queue, broken) = Merge::open(inputs, read, workers);
    broken.into_iter().for_each(|error| consumer.broken(error));
    let work = Work {
        source: Mutex::new(Source { queue, begun: 0 }),
        sequencer: Sequencer::new(),
        delivery: Mutex::new(Delivery {
            inputs,
            lines: vec![0; inputs.len()],
            is_broken: vec![false; inputs.len()],
            consumer,
        }),
    };
    std::thread::scope(|scope| {
        for _ in 1..workers.get() {
            scope.spawn(|| work.run());
        }
        work.run();
    });
}

/// State shared by the workers.
struct Work<'c, C> {
    source: Mutex<Source>,
    sequencer: Sequencer,
    delivery: Mutex<Delivery<'c, C>>,
}

/// The inputs that are left to read.
struct Source {
    queue: Merge,
    /// Number of tickets that were issued.
    begun: u64,
}

/// The consumer, and what was delivered to it.
struct Delivery<'c, C> {
    inputs: &'c [Input],
    /// Number of lines of each input.
    lines: Vec<u64>,
    /// Whether an input ended early, so that nothing behind that is delivered.
    is_broken: Vec<bool>,
    consumer: &'c mut C,
}

/// A decoded chunk that waits for its turn.
struct Pending<'w> {
    ticket: Ticket<'w>,
    chunk: &'w Chunk,
    decoded: DecodedChunk<'w>,
    /// Why nothing behind it can be read.
    error: Option<io::Error>,
}

/// Reusable allocations of a worker.
#[derive(Default)]
struct Scratch {
    buffers: Vec<Vec<u8>>,
    events: Vec<Vec<Event<'static>>>,
}

// === impl Work ===

impl<C: Consumer> Work<'_, C> {
    /// Processes chunks until there are none left.
    fn run(&self) {
        let mut scratch = Scratch::default();
        while self.process_batch(&mut scratch) {}
    }

    /// Processes several chunks, decoding ahead while other workers deliver. Returns `false` if there are no more.
    fn process_batch(&self, scratch: &mut Scratch) -> bool {
        let chunks: [OnceCell<Chunk>; AHEAD_MAX] = Default::default();
        let mut pending = VecDeque::with_capacity(AHEAD_MAX);
        let mut has_more = true;
        for slot in &chunks {
            while let Some(next) = pending.pop_front_if(|pending: &mut Pending<'_>| pending.ticket.is_next()) {
                self.deliver(next, scratch);
            }
            let Some((ticket, next)) = self.next(scratch) else {
                has_more = false;
                break;
            };
            match next {
                MergeItem::Chunk(mut chunk) => {
                    let error = chunk.load(&mut scratch.buffers);
                    let chunk = slot.get_or_init(|| chunk);
                    let events = scratch.events.pop().unwrap_or_default();
                    let decoded = DecodedChunk::of(chunk.bytes(), chunk.is_rest_of_too_long, events);
                    pending.push_back(Pending { ticket, chunk, decoded, error });
                }
                MergeItem::Broken(input, error) => {
                    pending.drain(..).for_each(|next| self.deliver(next, scratch));
                    if ticket.wait() {
                        lock(&self.delivery).broken(input, error);
                    }
                }
            }
        }
        pending.into_iter().for_each(|next| self.deliver(next, scratch));
        scratch.buffers.extend(chunks.into_iter().filter_map(OnceCell::into_inner).map(Chunk::into_buffer));
        has_more
    }

    fn deliver(&self, pending: Pending<'_>, scratch: &mut Scratch) {
        let Pending { ticket, chunk, decoded, error } = pending;
        if ticket.wait() {
            let mut delivery = lock(&self.delivery);
            delivery.ingest(chunk, &decoded);
            if let Some(error) = error {
                delivery.broken(chunk.input, error);
            }
        }
        drop(ticket);
        scratch.events.push(decoded.into_events());
    }

    /// Returns the next item, with its ticket.
    fn next(&self, scratch: &mut Scratch) -> Option<(Ticket<'_>, MergeItem)> {
        if self.sequencer.is_broken() {
            return None;
        }
        let source = &mut *lock(&self.source);
        let next = source.queue.next(&mut scratch.buffers)?;
        let number = source.begun;
        source.begun += 1;
        Some((self.sequencer.ticket(number), next))
    }
}

// === impl Delivery ===

impl<C: Consumer> Delivery<'_, C> {
    fn ingest(&mut self, chunk: &Chunk, decoded: &DecodedChunk<'_>) {
        if self.is_broken[chunk.input] {
            return;
        }
        let before = self.lines[chunk.input];
        self.lines[chunk.input] += decoded.positions;
        self.consumer.ingest(chunk.input, decoded, before);
    }

    fn broken(&mut self, input: usize, source: io::Error) {
        if !std::mem::replace(&mut self.is_broken[input], true) {
            self.consumer.broken(Error::Io { path: self.inputs[input].name(), source });
        }
    }
}
