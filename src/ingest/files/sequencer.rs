//! Admits threads in the order of their tickets. `tests/loom` checks this file with all possible interleavings.

#[cfg(loom)]
use loom::{
    hint,
    sync::atomic::{AtomicU64, Ordering},
    sync::{Condvar, Mutex, MutexGuard},
};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::{
    hint,
    sync::atomic::{AtomicU64, Ordering},
    sync::{Condvar, Mutex, MutexGuard},
};

/// The value of the next ticket after a thread has panicked. No ticket has this number.
const BROKEN: u64 = u64::MAX;
/// Number of spins before a thread sleeps. They take some microseconds; waking up takes fifty. For loom, more than one
/// spin would add nothing.
const SPINS: usize = if cfg!(loom) { 1 } else { 2_000 };

/// Admits threads in the order of their tickets.
pub(super) struct Sequencer {
    /// The ticket that is admitted.
    next: AtomicU64,
    /// Number of threads that sleep.
    sleepers: Mutex<usize>,
    woken: Condvar,
}

/// A position in the order. When it is dropped, the next ticket is admitted.
pub(super) struct Ticket<'s> {
    number: u64,
    sequencer: &'s Sequencer,
}

// === impl Sequencer ===

impl Sequencer {
    pub(super) fn new() -> Sequencer {
        Sequencer { next: AtomicU64::new(0), sleepers: Mutex::new(0), woken: Condvar::new() }
    }

    /// Returns the ticket with this number. Every number from 0 on must be used once, or later tickets wait forever.
    pub(super) fn ticket(&self, number: u64) -> Ticket<'_> {
        Ticket { number, sequencer: self }
    }

    /// Returns whether a thread has panicked while it held a ticket.
    pub(super) fn is_broken(&self) -> bool {
        self.next.load(Ordering::Acquire) == BROKEN
    }

    /// Admits all tickets, so that no thread waits for one that has panicked.
    pub(super) fn set_broken(&self) {
        // Not a store: loom does not know that a store comes after the exchange of a ticket that it races with.
        self.next.swap(BROKEN, Ordering::AcqRel);
        self.wake();
    }

    fn wake(&self) {
        // A thread that goes to sleep holds the lock from its last check on: either it sees the new value, or it is
        // counted here.
        let has_sleepers = *self.lock_sleepers() > 0;
        if has_sleepers {
            self.woken.notify_all();
        }
    }

    fn lock_sleepers(&self) -> MutexGuard<'_, usize> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Ticket ===

impl Ticket<'_> {
    /// Returns whether `wait` returns immediately.
    pub(super) fn is_next(&self) -> bool {
        let next = self.sequencer.next.load(Ordering::Acquire);
        next == self.number || next == BROKEN
    }

    /// Waits until all earlier tickets have been dropped. Returns `false` if a thread has panicked.
    pub(super) fn wait(&self) -> bool {
        for _ in 0..SPINS {
            if self.is_next() {
                return !self.sequencer.is_broken();
            }
            hint::spin_loop();
        }
        let mut sleepers = self.sequencer.lock_sleepers();
        *sleepers += 1;
        while !self.is_next() {
            sleepers = self.sequencer.woken.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
        }
        *sleepers -= 1;
        !self.sequencer.is_broken()
    }
}

impl Drop for Ticket<'_> {
    /// Admits the next ticket once this one is admitted. If the thread is panicking, admits all tickets, so that
    /// neither other threads nor its own other tickets wait for it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.sequencer.set_broken();
        } else if self.wait() {
            let (next, after) = (&self.sequencer.next, self.number + 1);
            // Fails if a thread has panicked in the meantime, so that the value stays `BROKEN`.
            let _ = next.compare_exchange(self.number, after, Ordering::AcqRel, Ordering::Acquire);
            self.sequencer.wake();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_panic_releases_waiting_threads() {
        let sequencer = Sequencer::new();
        let ticket = |number| sequencer.ticket(number);
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
