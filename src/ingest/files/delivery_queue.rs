//! Delivers the items of several threads in the order of their numbers. `tests/loom` checks this file with all possible
//! interleavings.

#[cfg(loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{Condvar, Mutex, MutexGuard};

/// Delivers items in the order of their numbers, one at a time.
///
/// The thread that adds the next item delivers it, and goes on with the items that other threads add meanwhile. So if delivery
/// takes most of the time, one thread does it, with its data in the cache of one core, and the others prepare items.
pub(super) struct DeliveryQueue<T> {
    state: Mutex<State<T>>,
    delivered: Condvar,
    /// Maximum number of items that wait.
    waiting_max: usize,
}

struct State<T> {
    waiting: BTreeMap<u64, T>,
    /// The number of the next item.
    next: u64,
    is_delivering: bool,
    /// Whether a thread has panicked, so that its item is missing.
    is_broken: bool,
}

/// Marks the queue as broken if its thread panics.
pub(super) struct Guard<'q, T>(&'q DeliveryQueue<T>);

// === impl DeliveryQueue ===

impl<T> DeliveryQueue<T> {
    pub(super) fn new(waiting_max: usize) -> DeliveryQueue<T> {
        let state = State { waiting: BTreeMap::new(), next: 0, is_delivering: false, is_broken: false };
        DeliveryQueue { state: Mutex::new(state), delivered: Condvar::new(), waiting_max }
    }

    /// Returns what each thread that adds items must hold while it does so.
    pub(super) fn guard(&self) -> Guard<'_, T> {
        Guard(self)
    }

    /// Waits until there is room for another item. Returns `false` if a thread has panicked. To be called before a number is
    /// taken: the item that all others wait for must not wait for them.
    pub(super) fn wait_for_room(&self) -> bool {
        let mut state = self.lock();
        while state.waiting.len() >= self.waiting_max && !state.is_broken {
            state = self.delivered.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.is_broken
    }

    /// Adds an item. Every number from 0 on must be used once. If no other thread delivers, passes the items that are due to
    /// `deliver`.
    pub(super) fn add(&self, number: u64, item: T, mut deliver: impl FnMut(T)) {
        let mut state = self.lock();
        state.waiting.insert(number, item);
        if state.is_delivering {
            return;
        }
        state.is_delivering = true;
        while !state.is_broken
            && let next = state.next
            && let Some(item) = state.waiting.remove(&next)
        {
            drop(state);
            deliver(item);
            state = self.lock();
            state.next += 1;
            self.delivered.notify_all();
        }
        state.is_delivering = false;
    }

    /// Releases all threads, because an item will never be added.
    pub(super) fn set_broken(&self) {
        self.lock().is_broken = true;
        self.delivered.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_broken();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_panic_releases_waiting_threads() {
        let queue = DeliveryQueue::new(1);
        let delivered = Mutex::new(Vec::new());
        let deliver = |item| delivered.lock().unwrap().push(item);
        std::thread::scope(|scope| {
            queue.add(1, "after the panic", deliver);
            let waits = scope.spawn(|| queue.wait_for_room());
            let panics = scope.spawn(|| {
                let _guard = queue.guard();
                panic!("as a decoder never should");
            });
            assert!(panics.join().is_err());
            assert!(!waits.join().unwrap(), "there will be no room");
            queue.add(0, "too late", deliver);
        });
        assert!(delivered.lock().unwrap().is_empty());
    }
}
