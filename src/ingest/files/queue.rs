//! Several logs, merged by time.
//!
//! Where several cover the same time (one log per API server), their chunks are taken alternately by the time of their first
//! event, and none reaches far beyond where the next log begins: what happened at once is seen together.

use std::collections::BinaryHeap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::log::{Chunk, Log, Step};
use super::{Error, Input};
use crate::audit::event::Micros;

/// How far a chunk may reach beyond the next event of another log. An object without a war keeps 16 writes of its one writer
/// unread: a second writer in the other log must be seen before more than that have gone by.
const AHEAD_MAX: Micros = 1_000_000;

/// The logs that are not over, the one whose next event is the earliest first.
pub(super) struct Queue {
    turns: BinaryHeap<Turn>,
    /// Packed inputs that are unpacked at once, each by a thread that holds a clone of `permits`.
    unpacked_max: usize,
    permits: Arc<()>,
}

/// What comes next.
pub(super) enum Next {
    /// These lines.
    Chunk(Chunk),
    /// The input of this number, which is no lines.
    Document(usize, Box<Log>),
    /// The end of an input that cannot be read on.
    Broken(Error),
}

/// A log in the queue: the one whose next event is the earliest comes first.
struct Turn {
    at: Micros,
    index: usize,
    log: Log,
}

// === impl Queue ===

impl Queue {
    pub(super) fn open(inputs: &[Input], read: &Arc<AtomicU64>, workers: NonZeroUsize) -> (Queue, Vec<Error>) {
        let (mut turns, mut broken) = (BinaryHeap::new(), Vec::new());
        for (index, input) in inputs.iter().enumerate() {
            match Log::open(input, read.clone()) {
                Ok(log) => turns.push(Turn { at: log.next_at, index, log }),
                Err(error) => broken.push(error),
            }
        }
        // One worker alone has no threads.
        let unpacked_max = if workers.get() == 1 { 0 } else { workers.get() };
        (Queue { turns, unpacked_max, permits: Arc::default() }, broken)
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

    /// What comes next; `buffers` are some to use again.
    pub(super) fn next(&mut self, buffers: &mut Vec<Vec<u8>>) -> Option<Next> {
        self.unpack();
        loop {
            let Turn { index, mut log, .. } = self.turns.pop()?;
            let until = self.turns.peek().map_or(i64::MAX, |next| next.at.saturating_add(AHEAD_MAX));
            match log.step(index, until, buffers) {
                Ok(Step::Chunk(chunk)) => {
                    // Alone, it is its turn again whenever its next event was.
                    if !self.turns.is_empty() {
                        log.peek();
                    }
                    self.turns.push(Turn { at: log.next_at, index, log });
                    return Some(Next::Chunk(chunk));
                }
                Ok(Step::On) => self.turns.push(Turn { at: log.next_at, index, log }),
                Ok(Step::Over) => {}
                Ok(Step::Document) => return Some(Next::Document(index, Box::new(log))),
                Err(error) => return Some(Next::Broken(error)),
            }
        }
    }
}

// === impl Turn ===

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
