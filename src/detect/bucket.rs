//! Token buckets that run on event time, so that the same events have the same result live and in replay.
//!
//! [`RetakeBucket`] decides verdicts. It is exact: a token returns one window after it was taken, so that "more than 12
//! retakes in 6 hours" holds for every 6 hours. GCRA, which refills steadily, was rejected: it lets up to twice its
//! burst through in a window, so at 12 in 6 hours, a war of 23 retakes in 6 hours would never be detected.
//! [`RateBucket`] is GCRA (from governor) in a few bytes, for the write rates of millions of writers.
//!
//! The default limits are in `policy.rs` (`Limits::default`), and their configuration keys in `config/limits.rs`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::audit::event::Micros;

/// The number of tokens of a bucket, and the time in which all of them return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Tokens of a full bucket.
    pub burst: NonZeroU32,
    /// Time in which all tokens return, in seconds.
    pub window_s: NonZeroU32,
}

/// The times of the latest retakes of one war, as many as its bucket has tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetakeBucket {
    taken: VecDeque<Micros>,
}

/// The level of one rate: the theoretical arrival time (TAT) of GCRA, in nanoseconds of event time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateBucket {
    tat_ns: Option<u64>,
}

/// A bucket's level in the form that governor updates.
struct Level(Cell<Option<u64>>);

/// A clock that always shows the time it was set to.
#[derive(Clone)]
struct EventClock<'a>(&'a Cell<u64>);

// === impl Limit ===

impl Limit {
    /// Returns the window in the unit of event time.
    pub fn window(&self) -> Micros {
        i64::from(self.window_s.get()) * 1_000_000
    }

    /// Returns the window divided by the tokens: the time in which one token of a [`RateBucket`] returns, and the mean time
    /// between the tokens of a [`RetakeBucket`], whose tokens return one window after they were taken.
    pub fn refill(&self) -> Micros {
        self.window() / i64::from(self.burst.get())
    }

    /// Returns the time in which a token of a [`RateBucket`] returns, which is never zero.
    fn replenish(&self) -> Micros {
        self.refill().max(1)
    }

    fn quota(&self) -> Quota {
        let replenish = Duration::from_micros(self.replenish().unsigned_abs());
        Quota::with_period(replenish).expect("the period is above zero").allow_burst(self.burst)
    }
}

// === impl RetakeBucket ===

impl RetakeBucket {
    /// Returns the bytes of its heap memory.
    pub(super) fn bytes(&self) -> usize {
        self.taken.capacity() * size_of::<Micros>()
    }

    /// Takes one token at `at`. Returns `false` if all tokens were taken within the preceding window. A retake that
    /// finds the bucket empty counts towards the window too. Times must not decrease.
    pub fn take(&mut self, limit: &Limit, at: Micros) -> bool {
        let burst = limit.burst.get() as usize;
        while self.taken.len() > burst {
            self.taken.pop_front();
        }
        let is_full = self.taken.len() == burst;
        let oldest = if is_full { self.taken.pop_front() } else { None };
        self.taken.push_back(at);
        oldest.is_none_or(|oldest| at.saturating_sub(oldest) >= limit.window())
    }
}

// === impl RateBucket ===

impl RateBucket {
    /// Returns a bucket whose level was stored in milliseconds; 0 means full.
    pub fn at_ms(ms: u32) -> RateBucket {
        RateBucket { tat_ns: (ms > 0).then(|| u64::from(ms) * 1_000_000) }
    }

    /// Returns the level in milliseconds, rounded up.
    pub fn ms(&self) -> u32 {
        self.tat_ns.map_or(0, |ns| u32::try_from(ns.div_ceil(1_000_000)).unwrap_or(u32::MAX))
    }

    /// Takes one token at `at`. Returns `false` if there was none. Times must not decrease.
    pub fn take(&mut self, limit: &Limit, at: Micros) -> bool {
        // An event may claim any year. A window is added to this number, and nanoseconds overflow in 2554.
        let now_ns = u64::try_from(at).unwrap_or(0).saturating_mul(1_000).min(u64::MAX / 2);
        // Most writes find the bucket full, for which nothing needs to be computed.
        if self.tat_ns.is_none_or(|tat| tat <= now_ns) {
            self.tat_ns = Some(now_ns + limit.replenish().unsigned_abs() * 1_000);
            return true;
        }
        let now = Cell::new(0);
        let level = Level(Cell::new(self.tat_ns));
        let limiter: RateLimiter<_, _, _, NoOpMiddleware<Nanos>> =
            RateLimiter::new(limit.quota(), &level, EventClock(&now));
        now.set(now_ns);
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
    fn the_maximum_time_is_handled_like_any_other() {
        let limit = limit(2, 60);
        let mut rate = RateBucket::default();
        assert_eq!([0; 3].map(|_| rate.take(&limit, i64::MAX)), [true, true, false]);
        let mut retakes = RetakeBucket::default();
        assert!(retakes.take(&limit, i64::MIN));
        assert_eq!([0; 3].map(|_| retakes.take(&limit, i64::MAX)), [true, true, false]);
    }

    #[test]
    fn a_rate_empties_after_its_burst_and_refills_one_by_one() {
        let (mut bucket, limit) = (RateBucket::default(), limit(5, 600));
        let taken: Vec<bool> = (0..7).map(|i| bucket.take(&limit, START + i * SECOND)).collect();
        assert_eq!(taken, [true, true, true, true, true, false, false]);
        assert!(!bucket.take(&limit, START + 119 * SECOND));
        assert!(bucket.take(&limit, START + 120 * SECOND));
        assert!(!bucket.take(&limit, START + 121 * SECOND));
    }

    #[test]
    fn a_full_bucket_is_taken_from_as_governor_does() {
        let now = Cell::new(0);
        for limit in [limit(1, 60), limit(30, 60), limit(u32::MAX, 1)] {
            let (mut bucket, level) = (RateBucket::default(), Level(Cell::new(None)));
            for at in [START, START, START + SECOND, START + 90 * SECOND, START + 90 * SECOND, START + 91 * SECOND] {
                now.set(0);
                let governor: RateLimiter<_, _, _, NoOpMiddleware<Nanos>> =
                    RateLimiter::new(limit.quota(), &level, EventClock(&now));
                now.set(at.unsigned_abs() * 1_000);
                assert_eq!(bucket.take(&limit, at), governor.check().is_ok(), "{limit:?} at {at}");
                assert_eq!(bucket.tat_ns, level.0.get(), "{limit:?} at {at}");
            }
        }
    }

    #[test]
    fn a_rate_refills_after_its_window() {
        let (mut bucket, limit) = (RateBucket::default(), limit(2, 60));
        assert!(bucket.take(&limit, START) && bucket.take(&limit, START) && !bucket.take(&limit, START));
        let later = START + 60 * SECOND;
        assert!(bucket.take(&limit, later) && bucket.take(&limit, later) && !bucket.take(&limit, later));
    }

    #[test]
    fn more_retakes_than_burst_in_any_window_empty_the_bucket() {
        // At any rate, the first `burst` retakes of a window pass, and the next one is a thrashing event.
        let limit = limit(12, 6 * 3600);
        for period_s in [1, 60, 900, 1_500, 1_660] {
            let mut bucket = RetakeBucket::default();
            let passed: Vec<bool> = (0..40).map(|i| bucket.take(&limit, START + i * period_s * SECOND)).collect();
            assert!(passed[..12].iter().all(|passed| *passed), "{period_s}");
            assert!(passed[12..].iter().all(|passed| !passed), "{period_s}");
        }
    }

    #[test]
    fn a_token_returns_one_window_after_it_was_taken() {
        let (mut bucket, limit) = (RetakeBucket::default(), limit(2, 60));
        let at = |second| START + second * SECOND;
        assert!(bucket.take(&limit, at(0)) && bucket.take(&limit, at(30)));
        assert!(!bucket.take(&limit, at(59)), "two were taken within the minute before");
        assert!(bucket.take(&limit, at(90)), "the one at 30 s is back");
        assert!(!bucket.take(&limit, at(118)), "those at 59 and 90 s are not");
        assert!(bucket.take(&limit, at(150)));
    }

    #[test]
    fn one_an_hour_for_a_day_never_empties_twelve_in_six_hours() {
        let mut bucket = RetakeBucket::default();
        assert!((0..24).all(|hour| bucket.take(&limit(12, 6 * 3600), START + hour * 3600 * SECOND)));
    }

    #[test]
    fn a_smaller_burst_drops_the_oldest_times() {
        let mut bucket = RetakeBucket::default();
        assert!((0..5).all(|second| bucket.take(&limit(5, 600), START + second * SECOND)));
        assert!(!bucket.take(&limit(2, 600), START + 10 * SECOND));
        assert!(bucket.take(&limit(2, 600), START + 610 * SECOND));
    }

    #[test]
    fn a_level_is_stored_in_milliseconds_and_zero_means_full() {
        assert_eq!(RateBucket::at_ms(0), RateBucket::default());
        assert_eq!([0, 1, 1_500].map(|ms| RateBucket::at_ms(ms).ms()), [0, 1, 1_500]);
    }

    #[test]
    fn the_bytes_of_a_bucket_are_those_of_its_times() {
        let mut bucket = RetakeBucket::default();
        assert_eq!(bucket.bytes(), 0);
        assert!((0..5).all(|second| bucket.take(&limit(5, 600), START + second * SECOND)));
        assert!(bucket.taken.capacity() >= 5);
        assert_eq!(bucket.bytes(), bucket.taken.capacity() * 8);
    }
}
