//! Reads and decodes logs with several workers, and delivers the results in order, as if there was only one.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use self_cell::self_cell;

use super::chunk::Chunk;
use super::delivery_queue::DeliveryQueue;
use super::input::{Error, Input};
use super::merge::{Merge, MergeItem};
use crate::audit::decoded_chunk::DecodedChunk;
use crate::audit::event::Event;
use crate::util::lock::lock;

/// Maximum number of decoded chunks for each worker that wait to be delivered.
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
/// Each worker reads and decodes its own chunks. Only one worker at a time decides where a chunk ends (and reads it, if it is not
/// a range of a plain file), and only one delivers chunks, in their order, so that `consumer` receives the same sequence
/// as from a single worker.
pub fn read(inputs: &[Input], workers: NonZeroUsize, read: &Arc<AtomicU64>, consumer: &mut (impl Consumer + Send)) {
    let (queue, broken) = Merge::open(inputs, read, workers);
    broken.into_iter().for_each(|error| consumer.broken(error));
    let work = Work {
        source: Mutex::new(Source { queue, begun: 0 }),
        decoded: DeliveryQueue::new(AHEAD_MAX * workers.get()),
        delivery: Mutex::new(Delivery {
            inputs,
            lines: vec![0; inputs.len()],
            is_broken: vec![false; inputs.len()],
            consumer,
        }),
        unused: Mutex::default(),
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
    decoded: DeliveryQueue<Item>,
    delivery: Mutex<Delivery<'c, C>>,
    /// Allocations of delivered chunks, for reuse.
    unused: Mutex<Allocations>,
}

/// What is delivered.
enum Item {
    /// A chunk, and the reason why nothing after it can be read.
    Chunk(LoadedChunk, Option<io::Error>),
    /// An input, by its index, that cannot be read any further.
    Broken(usize, io::Error),
}

self_cell! {
    /// A chunk with what was decoded from it.
    struct LoadedChunk {
        owner: Chunk,
        #[covariant]
        dependent: DecodedChunk,
    }
}

/// The inputs that are left to read.
struct Source {
    queue: Merge,
    /// Number of items that were begun.
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

/// Reusable allocations.
#[derive(Default)]
struct Allocations {
    buffers: Vec<Vec<u8>>,
    events: Vec<Vec<Event<'static>>>,
}

// === impl Work ===

impl<C: Consumer> Work<'_, C> {
    /// Processes chunks until there are none left.
    fn run(&self) {
        let _guard = self.decoded.guard();
        let mut buffers = Vec::new();
        while self.decoded.wait_for_room() {
            let events = {
                let mut unused = lock(&self.unused);
                buffers.extend(unused.buffers.pop());
                unused.events.pop().unwrap_or_default()
            };
            let Some((number, next)) = self.next(&mut buffers) else { return };
            let item = match next {
                MergeItem::Chunk(mut chunk) => {
                    let error = chunk.load(&mut buffers);
                    let chunk = LoadedChunk::new(chunk, |chunk| {
                        DecodedChunk::of(chunk.bytes(), chunk.is_rest_of_too_long, events)
                    });
                    Item::Chunk(chunk, error)
                }
                MergeItem::Broken(input, error) => Item::Broken(input, error),
            };
            self.decoded.add(number, item, |item| self.deliver(item));
        }
    }

    fn deliver(&self, item: Item) {
        let mut delivery = lock(&self.delivery);
        match item {
            Item::Broken(input, error) => delivery.broken(input, error),
            Item::Chunk(mut chunk, error) => {
                let input = chunk.borrow_owner().input;
                delivery.ingest(input, chunk.borrow_dependent());
                if let Some(error) = error {
                    delivery.broken(input, error);
                }
                let events = chunk.with_dependent_mut(|_, decoded| std::mem::take(decoded).into_events());
                let mut unused = lock(&self.unused);
                unused.events.push(events);
                unused.buffers.push(chunk.into_owner().into_buffer());
            }
        }
    }

    /// Returns the next item, with its number.
    fn next(&self, buffers: &mut Vec<Vec<u8>>) -> Option<(u64, MergeItem)> {
        let source = &mut *lock(&self.source);
        let next = source.queue.next(buffers)?;
        let number = source.begun;
        source.begun += 1;
        Some((number, next))
    }
}

// === impl Delivery ===

impl<C: Consumer> Delivery<'_, C> {
    fn ingest(&mut self, input: usize, decoded: &DecodedChunk<'_>) {
        if self.is_broken[input] {
            return;
        }
        let before = self.lines[input];
        self.lines[input] += decoded.positions;
        self.consumer.ingest(input, decoded, before);
    }

    fn broken(&mut self, input: usize, source: io::Error) {
        if !std::mem::replace(&mut self.is_broken[input], true) {
            self.consumer.broken(Error::Io { path: self.inputs[input].name(), source });
        }
    }
}
