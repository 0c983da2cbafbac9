//! Merges several logs by time.
//!
//! If several logs cover the same time (one log per API server), their chunks are read alternately, ordered by the time
//! of their first event. No chunk reaches far beyond the start of the next log, so that concurrent events are ingested
//! close together.

use std::collections::BinaryHeap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::chunk::Chunk;
use super::input::{Error, Input};
use super::log::{Log, Step};
use super::parts::{Permit, Permits};
use crate::audit::event::Micros;

/// How far a chunk may reach beyond the next event of another log, in microseconds. An object without a war retains 64
/// unparsed writes of its only writer; a second writer in the other log must be seen before more than that have passed.
const AHEAD_MAX: Micros = 1_000_000;

/// The logs that have not ended, ordered by the time of their next event, earliest first.
pub(super) struct Merge {
    logs: BinaryHeap<QueuedLog>,
    /// Maximum number of threads that decompress inputs or their parts at once.
    unpacked_max: usize,
    permits: Arc<Permits>,
    /// The same permits, if there is only one compressed input: its parts share them. Several compressed inputs use one thread each.
    parts_permits: Option<Arc<Permits>>,
}

/// The next item of the merged logs.
pub(super) enum MergeItem {
    /// A chunk of lines.
    Chunk(Chunk),
    /// An input, by its index, that cannot be read any further.
    Broken(usize, io::Error),
}

/// A log in the queue. Its ordering is reversed, since [`BinaryHeap`] returns the greatest element first.
struct QueuedLog {
    at: Micros,
    index: usize,
    log: Log,
}

// === impl Merge ===

impl Merge {
    pub(super) fn open(inputs: &[Input], read: &Arc<AtomicU64>, workers: NonZeroUsize) -> (Merge, Vec<Error>) {
        let (mut logs, mut broken) = (BinaryHeap::new(), Vec::new());
        for (index, input) in inputs.iter().enumerate() {
            match Log::open(input, read.clone()) {
                Ok(log) => logs.push(QueuedLog { at: log.next_at, index, log }),
                Err(error) => broken.push(error),
            }
        }
        // A single worker does not use other threads.
        let unpacked_max = if workers.get() == 1 { 0 } else { workers.get() };
        let permits = Permits::new(unpacked_max);
        let is_only_one = logs.iter().filter(|next: &&QueuedLog| next.log.is_packed).count() == 1;
        let parts_permits = is_only_one.then(|| permits.clone());
        (Merge { logs, unpacked_max, permits, parts_permits }, broken)
    }

    /// Starts to decompress the inputs that come next.
    fn unpack(&mut self) {
        let next: Vec<QueuedLog> = std::iter::from_fn(|| self.logs.pop()).take(self.unpacked_max).collect();
        for mut turn in next {
            if turn.log.is_packed
                && let Some(thread) = self.permits.take()
            {
                // If the input cannot be opened, the error is reported when the input is read.
                drop(turn.log.begin(Some(Permit { thread, more: self.parts_permits.clone() })));
            }
            self.logs.push(turn);
        }
    }

    /// Returns the next item. `buffers` contains buffers for reuse.
    pub(super) fn next(&mut self, buffers: &mut Vec<Vec<u8>>) -> Option<MergeItem> {
        self.unpack();
        loop {
            let QueuedLog { index, mut log, .. } = self.logs.pop()?;
            let until = self.logs.peek().map_or(i64::MAX, |next| next.at.saturating_add(AHEAD_MAX));
            match log.step(index, until, buffers) {
                Ok(Step::Chunk(chunk)) => {
                    // If this is the only log left, the time of its next event does not matter.
                    if !self.logs.is_empty() {
                        log.peek();
                    }
                    self.logs.push(QueuedLog { at: log.next_at, index, log });
                    return Some(MergeItem::Chunk(chunk));
                }
                Ok(Step::NeedsData) => self.logs.push(QueuedLog { at: log.next_at, index, log }),
                Ok(Step::End) => {}
                Err(error) => return Some(MergeItem::Broken(index, error)),
            }
        }
    }
}

// === impl QueuedLog ===

impl PartialEq for QueuedLog {
    fn eq(&self, other: &QueuedLog) -> bool {
        (self.at, self.index) == (other.at, other.index)
    }
}

impl Eq for QueuedLog {}

impl PartialOrd for QueuedLog {
    fn partial_cmp(&self, other: &QueuedLog) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for QueuedLog {
    fn cmp(&self, other: &QueuedLog) -> std::cmp::Ordering {
        (other.at, other.index).cmp(&(self.at, self.index))
    }
}
