//! Token buckets (GCRA, by governor) whose clock is the event's: the same events empty them live and in replay.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::audit::event::Micros;

/// How many tokens a bucket holds, and in which time an empty one fills up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Tokens of a full bucket.
    pub burst: NonZeroU32,
    /// Time in which an empty bucket fills, in whole seconds.
    pub window_s: NonZeroU32,
}

/// One bucket's level: the theoretical arrival time of GCRA, in nanoseconds of event time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    tat_ns: Option<u64>,
}

/// A bucket's level while governor works on it.
struct Level(Cell<Option<u64>>);

/// A clock that shows what it was told.
#[derive(Clone)]
struct EventClock<'a>(&'a Cell<u64>);

// === impl Limit ===

impl Limit {
    /// The window in the unit of event time.
    pub fn window(&self) -> Micros {
        i64::from(self.window_s.get()) * 1_000_000
    }

    /// The time in which one token comes back.
    pub fn refill(&self) -> Micros {
        self.window() / i64::from(self.burst.get())
    }

    fn quota(&self) -> Quota {
        let replenish = Duration::from_micros(self.refill().max(1).unsigned_abs());
        Quota::with_period(replenish).expect("a period above zero is a quota").allow_burst(self.burst)
    }
}

// === impl Bucket ===

impl Bucket {
    /// A bucket whose level was kept in milliseconds; 0 stands for full.
    pub fn at_ms(ms: u32) -> Bucket {
        Bucket { tat_ns: (ms > 0).then(|| u64::from(ms) * 1_000_000) }
    }

    /// The level in milliseconds, rounded up.
    pub fn ms(&self) -> u32 {
        self.tat_ns.map_or(0, |ns| u32::try_from(ns.div_ceil(1_000_000)).unwrap_or(u32::MAX))
    }

    /// Takes one token at `at`; `false` where there was none. Times must not run backwards.
    pub fn take(&mut self, limit: &Limit, at: Micros) -> bool {
        let now = Cell::new(0);
        let level = Level(Cell::new(self.tat_ns));
        let limiter: RateLimiter<_, _, _, NoOpMiddleware<Nanos>> =
            RateLimiter::new(limit.quota(), &level, EventClock(&now));
        // An event may claim any year; governor adds to what it is told, and nanoseconds end in 2554.
        now.set(u64::try_from(at).unwrap_or(0).saturating_mul(1_000).min(u64::MAX / 2));
        let is_taken = limiter.check().is_ok();
        self.tat_ns = level.0.get();
        is_taken
    }
}

impl StateStore for &Level {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, tat) = f(self.0.get().map(Nanos::from))?;
        self.0.set(Some(tat.as_u64()));
        Ok(outcome)
    }
}

// === impl EventClock ===

impl Clock for EventClock<'_> {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;
    const START: Micros = 1_795_398_968 * SECOND;

    fn limit(burst: u32, window_s: u32) -> Limit {
        Limit { burst: NonZeroU32::new(burst).unwrap(), window_s: NonZeroU32::new(window_s).unwrap() }
    }

    #[test]
    fn a_time_at_the_end_of_all_time_is_one_like_any_other() {
        let limit = Limit { burst: NonZeroU32::new(2).unwrap(), window_s: NonZeroU32::new(60).unwrap() };
        let mut bucket = Bucket::default();
        assert_eq!([0; 3].map(|_| bucket.take(&limit, i64::MAX)), [true, true, false]);
    }

    #[test]
    fn empties_after_its_burst_and_refills_one_by_one() {
        let (mut bucket, limit) = (Bucket::default(), limit(5, 600));
        let taken: Vec<bool> = (0..7).map(|i| bucket.take(&limit, START + i * SECOND)).collect();
        assert_eq!(taken, [true, true, true, true, true, false, false]);
        assert!(!bucket.take(&limit, START + 119 * SECOND));
        assert!(bucket.take(&limit, START + 120 * SECOND));
        assert!(!bucket.take(&limit, START + 121 * SECOND));
    }

    #[test]
    fn refills_after_window() {
        let (mut bucket, limit) = (Bucket::default(), limit(2, 60));
        assert!(bucket.take(&limit, START) && bucket.take(&limit, START) && !bucket.take(&limit, START));
        let later = START + 60 * SECOND;
        assert!(bucket.take(&limit, later) && bucket.take(&limit, later) && !bucket.take(&limit, later));
    }
}
