//! The delay before a request is repeated.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A delay that doubles with each failure. It differs by up to a quarter between requests, so that those that failed
/// together are not all repeated together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    next: Duration,
    max: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// Returns a backoff between these two delays.
    pub(crate) fn between(first: Duration, max: Duration) -> Backoff {
        Backoff { first, next: first, max }
    }

    /// Begins with the first delay again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Returns the delay after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.max);
        let spread = u64::try_from(delay.as_millis() / 4).unwrap_or(u64::MAX).max(1);
        delay + Duration::from_millis(random() % spread)
    }
}

/// Returns a number that differs between calls and processes.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum() {
        let mut backoff = Backoff::between(Duration::from_secs(1), Duration::from_secs(5));
        let mut next = || backoff.next().as_secs_f64();
        for (delay, low, high) in [(next(), 1.0, 1.25), (next(), 2.0, 2.5), (next(), 4.0, 5.0), (next(), 5.0, 6.25)] {
            assert!((low..=high).contains(&delay), "{delay}");
        }
        backoff.reset();
        assert!(backoff.next() < Duration::from_secs(2));
    }
}
