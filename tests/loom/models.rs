//! Models for [loom](https://docs.rs/loom), which runs each of them with all interleavings of its threads and all values
//! that their loads may see. A deadlock fails the model.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test --release --manifest-path tests/loom/Cargo.toml --target-dir target/loom
//! ```

#![cfg(all(test, loom))]

#[path = "../../src/ingest/files/sequencer.rs"]
mod sequencer;

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use sequencer::Sequencer;

/// Runs a model, with at most this number of preemptions.
fn check(preemptions_max: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions_max);
    builder.check(model);
}

/// State shared by the threads: the sequencer, and the number of admitted tickets. The number is only accessed with
/// relaxed ordering, so it is only correct if each ticket synchronizes with the previous one.
#[derive(Clone)]
struct Shared {
    sequencer: Arc<Sequencer>,
    admitted: Arc<AtomicU64>,
}

// === impl Shared ===

impl Shared {
    fn new() -> Shared {
        Shared { sequencer: Arc::new(Sequencer::new()), admitted: Arc::new(AtomicU64::new(0)) }
    }

    /// Takes these tickets one after another, and delivers each.
    fn deliver(&self, numbers: &[u64]) {
        for number in numbers {
            let ticket = self.sequencer.ticket(*number);
            assert!(ticket.wait(), "no thread has panicked");
            assert_eq!(self.admitted.load(Ordering::Relaxed), *number);
            self.admitted.store(number + 1, Ordering::Relaxed);
        }
    }

    fn spawn(&self, run: impl FnOnce(Shared) + 'static) -> thread::JoinHandle<()> {
        let shared = self.clone();
        thread::spawn(move || run(shared))
    }
}

/// Checks the order of delivery for threads with these tickets.
fn check_order(preemptions_max: usize, tickets: &'static [&'static [u64]]) {
    check(preemptions_max, move || {
        let shared = Shared::new();
        let others: Vec<_> = tickets[1..].iter().map(|own| shared.spawn(|shared| shared.deliver(own))).collect();
        shared.deliver(tickets[0]);
        others.into_iter().for_each(|other| other.join().unwrap());
        let all = tickets.iter().map(|own| own.len() as u64).sum();
        assert_eq!(shared.admitted.load(Ordering::Relaxed), all);
        assert!(shared.sequencer.ticket(all).is_next());
    });
}

#[test]
fn two_threads_deliver_in_order() {
    check_order(4, &[&[0, 2], &[1, 3]]);
    check_order(4, &[&[1, 2], &[0, 3]]);
}

#[test]
fn three_threads_deliver_in_order() {
    check_order(3, &[&[2], &[0], &[1]]);
}

#[test]
fn a_ticket_that_delivers_nothing_still_waits_for_those_before_it() {
    check(4, || {
        let shared = Shared::new();
        let other = shared.spawn(|shared| drop(shared.sequencer.ticket(1)));
        let last = shared.spawn(|shared| {
            let ticket = shared.sequencer.ticket(2);
            assert!(ticket.wait());
            assert_eq!(shared.admitted.load(Ordering::Relaxed), 1);
        });
        shared.deliver(&[0]);
        other.join().unwrap();
        last.join().unwrap();
    });
}

/// Loom cannot unwind one of its threads, so the model does what the drop of a ticket does while its thread panics.
#[test]
fn a_panic_releases_waiting_threads_and_nothing_after_it_is_delivered() {
    check(3, || {
        let shared = Shared::new();
        let other = shared.spawn(|shared| {
            let ticket = shared.sequencer.ticket(2);
            assert!(!ticket.wait(), "ticket 1 is never passed on");
        });
        let panics = shared.spawn(|shared| {
            // It holds ticket 1, which may be admitted or not.
            shared.sequencer.set_broken();
        });
        // Races with the panic: the sequencer must stay broken.
        drop(shared.sequencer.ticket(0));
        other.join().unwrap();
        panics.join().unwrap();
        assert!(shared.sequencer.is_broken());
        assert!(!shared.sequencer.ticket(7).wait());
    });
}
