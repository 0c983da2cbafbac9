//! Models for [loom](https://docs.rs/loom), which runs each of them with all interleavings of its threads and all values
//! that their loads may see. A deadlock fails the model.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test --release --manifest-path tests/loom/Cargo.toml --target-dir target/loom
//! ```

#![cfg(all(test, loom))]

#[path = "../../src/ingest/files/delivery_queue.rs"]
mod delivery_queue;

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use delivery_queue::DeliveryQueue;

/// Runs a model, with at most this number of preemptions.
fn check(preemptions_max: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions_max);
    builder.check(model);
}

/// State shared by the threads: the queue, the source of numbers, and the number of delivered items. The latter is only accessed
/// with relaxed ordering, so it is only correct if each delivery synchronizes with the previous one.
#[derive(Clone)]
struct Shared {
    queue: Arc<DeliveryQueue<u64>>,
    begun: Arc<AtomicU64>,
    delivered: Arc<AtomicU64>,
}

// === impl Shared ===

impl Shared {
    fn new(waiting_max: usize) -> Shared {
        Shared {
            queue: Arc::new(DeliveryQueue::new(waiting_max)),
            begun: Arc::new(AtomicU64::new(0)),
            delivered: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Adds an item.
    fn add(&self, number: u64) {
        self.queue.add(number, number, |item| {
            assert_eq!(self.delivered.load(Ordering::Relaxed), item, "in order, and once");
            self.delivered.store(item + 1, Ordering::Relaxed);
        });
    }

    /// Takes numbers, as a worker takes chunks, until there are `all` of them.
    fn work(&self, all: u64) {
        while self.queue.wait_for_room() {
            let number = self.begun.fetch_add(1, Ordering::AcqRel);
            if number >= all {
                return;
            }
            self.add(number);
        }
    }

    fn spawn(&self, run: impl FnOnce(Shared) + 'static) -> thread::JoinHandle<()> {
        let shared = self.clone();
        thread::spawn(move || run(shared))
    }
}

/// Checks that a number of threads deliver all items in order.
fn check_order(preemptions_max: usize, threads: usize, waiting_max: usize, items: u64) {
    check(preemptions_max, move || {
        let shared = Shared::new(waiting_max);
        let others: Vec<_> = (1..threads).map(|_| shared.spawn(move |shared| shared.work(items))).collect();
        shared.work(items);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(shared.delivered.load(Ordering::Relaxed), items, "nothing is left in the queue");
    });
}

#[test]
fn two_threads_deliver_in_order() {
    check_order(4, 2, 8, 4);
}

#[test]
fn three_threads_deliver_in_order() {
    check_order(3, 3, 8, 3);
}

#[test]
fn threads_that_wait_for_room_are_woken() {
    check_order(4, 2, 1, 4);
    check_order(3, 3, 1, 3);
}

#[test]
fn items_in_any_order_are_delivered_in_theirs() {
    for numbers in [[2, 0, 1], [2, 1, 0], [1, 2, 0]] {
        check(3, move || {
            let shared = Shared::new(8);
            let others: Vec<_> = numbers[1..].iter().map(|n| *n).map(|n| shared.spawn(move |shared| shared.add(n))).collect();
            shared.add(numbers[0]);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(shared.delivered.load(Ordering::Relaxed), 3);
        });
    }
}

/// Loom cannot unwind one of its threads, so the model does what the guard does while its thread panics.
#[test]
fn a_panic_releases_waiting_threads_and_nothing_after_it_is_delivered() {
    check(3, || {
        let shared = Shared::new(1);
        let waits = shared.spawn(|shared| {
            shared.add(2);
            assert!(!shared.queue.wait_for_room(), "item 1 is never added");
        });
        let panics = shared.spawn(|shared| shared.queue.set_broken());
        shared.add(0);
        waits.join().unwrap();
        panics.join().unwrap();
        assert!(shared.delivered.load(Ordering::Relaxed) <= 1);
    });
}
