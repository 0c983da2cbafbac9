//! What one client did to one part of an object: a few numbers, for the many objects that nobody fights over.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::actor::Client;
use super::bucket::{Limit, RateBucket};
use super::policy::Limits;
use super::write::{Effect, Part, Write};
use crate::audit::event::{Micros, Verb};

const MINUTE_MS: u32 = 60_000;
/// The longest pause between two no-ops of a hot loop. No controller looks at its objects again by the clock as often as
/// that: it is its own writes, or their answers, that wake it.
const NO_OPS_APART_MS: u32 = 5_000;

/// What one client did to one part of an object. Kept small: there are one or two for every object of a cluster.
///
/// Times are milliseconds after the object's base time, for 49 days.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who, and from where it wrote first.
    pub client: Arc<Client>,
    first_ms: u32,
    last_ms: u32,
    /// The last of its writes that is no longer among the recent ones; 0 where all still are.
    settled_ms: u32,
    /// Writes that changed something, by verb: create, update, patch, delete.
    verbs: [u32; 4],
    /// Writes that were answered with success and changed nothing.
    pub no_ops: u32,
    /// The last of its writes and no-ops.
    last_any_ms: u32,
    /// The level of the hot-loop bucket, counted from `last_any_ms`: at most its window.
    ahead_ms: u16,
    creates: u16,
    deletes: u16,
    bindings: u16,
    /// Whether its writes and no-ops were more than the hot-loop bucket holds.
    is_fast: bool,
    no_ops_in_a_row: u8,
    no_ops_longest: u8,
    /// Which part.
    pub part: Part,
}

// === impl Seen ===

impl Seen {
    /// A client whose first request about a part this is.
    pub fn new(client: Arc<Client>, part: Part) -> Seen {
        Seen {
            client,
            first_ms: u32::MAX,
            last_ms: 0,
            settled_ms: 0,
            verbs: [0; 4],
            no_ops: 0,
            last_any_ms: 0,
            ahead_ms: 0,
            is_fast: false,
            creates: 0,
            deletes: 0,
            bindings: 0,
            no_ops_in_a_row: 0,
            no_ops_longest: 0,
            part,
        }
    }

    /// Counts one request that was answered with success, `ms` after the object's base time.
    pub fn count(&mut self, write: &Write<'_>, ms: u32, is_no_op: bool, limits: &Limits) {
        self.pace(ms, is_no_op, limits);
        if is_no_op {
            self.no_ops += 1;
            if self.writes() == 0 {
                self.last_ms = self.last_ms.max(ms);
                self.first_ms = self.first_ms.min(ms);
            }
            return;
        }
        if self.writes() == 0 {
            (self.first_ms, self.last_ms) = (ms, ms);
        }
        self.first_ms = self.first_ms.min(ms);
        self.last_ms = self.last_ms.max(ms);
        self.verbs[match write.event.verb {
            Verb::Update => 1,
            Verb::Patch => 2,
            Verb::Delete => 3,
            _ => 0,
        }] += 1;
        let one = |count: &mut u16| *count = count.saturating_add(1);
        match write.effect {
            Effect::Create => one(&mut self.creates),
            Effect::Delete => one(&mut self.deletes),
            Effect::Modify if write.subresource == "binding" => one(&mut self.bindings),
            Effect::Modify => {}
        }
    }

    /// Takes back one write that turned out to have changed nothing.
    pub fn discount(&mut self) {
        if let Some(count) = self.verbs.iter_mut().rev().find(|count| **count > 0) {
            *count -= 1;
            self.no_ops += 1;
        }
    }

    /// Notes that the write at `ms` is no longer among the recent ones.
    pub fn settle(&mut self, ms: u32) {
        self.settled_ms = self.settled_ms.max(ms).max(1);
    }

    /// Writes that changed something, as far as is known.
    pub fn writes(&self) -> u32 {
        self.verbs.iter().sum()
    }

    /// Writes by verb.
    pub fn verbs(&self) -> [(&'static str, u32); 4] {
        let [creates, updates, patches, deletes] = self.verbs;
        [("create", creates), ("update", updates), ("patch", patches), ("delete", deletes)]
    }

    /// Writes that brought the object into being.
    pub fn creates(&self) -> u32 {
        u32::from(self.creates)
    }

    /// Writes that took it away.
    pub fn deletes(&self) -> u32 {
        u32::from(self.deletes)
    }

    /// Writes that gave the object contents; bindings are no contest.
    pub fn contents(&self) -> u32 {
        self.writes().saturating_sub(self.deletes() + u32::from(self.bindings))
    }

    /// The verb it mostly changes the object with.
    pub fn modifying_verb(&self) -> Verb {
        if self.verbs[1] > self.verbs[2] { Verb::Update } else { Verb::Patch }
    }

    /// When its first and its last write were, for an object with this base time.
    pub fn span(&self, base: Micros) -> (Micros, Micros) {
        let at = |ms: u32| base + i64::from(ms) * 1_000;
        (at(self.first_ms.min(self.last_ms)), at(self.last_ms))
    }

    /// When its first and its last write or no-op were, for an object with this base time.
    pub fn activity(&self, base: Micros) -> (Micros, Micros) {
        let (first, last) = self.span(base);
        (first, last.max(base + i64::from(self.last_any_ms) * 1_000))
    }

    /// When the last write was that is no longer among the recent ones.
    pub fn settled(&self, base: Micros) -> Option<Micros> {
        (self.settled_ms > 0).then(|| base + i64::from(self.settled_ms) * 1_000)
    }

    /// Whether it is in a hot loop.
    pub fn is_hot(&self, limits: &Limits) -> bool {
        self.is_fast || u32::from(self.no_ops_longest) >= limits.hot_loop_no_ops.get()
    }

    fn pace(&mut self, ms: u32, is_no_op: bool, limits: &Limits) {
        let goes_on = ms.saturating_sub(self.last_any_ms) <= NO_OPS_APART_MS;
        self.no_ops_in_a_row = match (is_no_op, goes_on) {
            (true, true) => self.no_ops_in_a_row.saturating_add(1),
            (true, false) => 1,
            (false, _) => 0,
        };
        self.no_ops_longest = self.no_ops_longest.max(self.no_ops_in_a_row);
        let per_minute =
            Limit { burst: limits.hot_loop_per_minute, window_s: NonZeroU32::new(60).expect("a minute is not zero") };
        // What comes a little late counts with the latest: the bucket's clock must not run backwards. What comes later
        // still is of another minute, of which nothing is known any more.
        if self.last_any_ms.saturating_sub(ms) > MINUTE_MS {
            return;
        }
        let level = if self.ahead_ms > 0 { self.last_any_ms.saturating_add(u32::from(self.ahead_ms)) } else { 0 };
        let mut bucket = RateBucket::at_ms(level);
        self.last_any_ms = self.last_any_ms.max(ms);
        self.is_fast |= !bucket.take(&per_minute, i64::from(self.last_any_ms) * 1_000);
        self.ahead_ms = u16::try_from(bucket.ms().saturating_sub(self.last_any_ms)).unwrap_or(u16::MAX);
    }
}

#[cfg(test)]
#[path = "seen/tests.rs"]
mod tests;
