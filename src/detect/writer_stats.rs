//! Statistics of one client and one part of an object: a few numbers, which are all that is kept of most objects.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::actor::Client;
use super::bucket::{Limit, RateBucket};
use super::policy::Limits;
use super::write::{Effect, Part, Write};
use crate::audit::event::{Micros, Verb};

const MINUTE_MS: u32 = 60_000;
/// Maximum time between two no-ops of a hot loop. No controller resyncs that often; such a controller is triggered by its
/// own writes or by their responses.
const NO_OPS_APART_MS: u32 = 5_000;

/// The writes of one client to one part of an object. Kept small, because every object of a cluster has one or two.
///
/// Times are milliseconds after the object's base time. They saturate after 49 days.
#[derive(Clone, Debug)]
pub struct WriterStats {
    /// The client, with the origin of its first write.
    pub client: Arc<Client>,
    first_ms: u32,
    last_ms: u32,
    /// The time of the last write that is no longer pending; 0 if all are pending.
    finalized_ms: u32,
    /// Numbers of writes that changed something, by verb: create, update, patch, delete.
    verbs: [u32; 4],
    /// Number of writes that succeeded and changed nothing.
    pub no_ops: u32,
    /// The time of the last write or no-op.
    last_any_ms: u32,
    /// The level of the hot-loop bucket, counted from `last_any_ms`: at most its window.
    ahead_ms: u16,
    creates: u16,
    deletes: u16,
    bindings: u16,
    /// Whether its writes and no-ops ever emptied the hot-loop bucket.
    exceeds_rate: bool,
    no_ops_in_a_row: u8,
    no_ops_longest: u8,
    /// The part of the object.
    pub part: Part,
}

// === impl WriterStats ===

impl WriterStats {
    /// Returns the statistics of a client that has not written this part yet.
    pub fn new(client: Arc<Client>, part: Part) -> WriterStats {
        WriterStats {
            client,
            first_ms: u32::MAX,
            last_ms: 0,
            finalized_ms: 0,
            verbs: [0; 4],
            no_ops: 0,
            last_any_ms: 0,
            ahead_ms: 0,
            exceeds_rate: false,
            creates: 0,
            deletes: 0,
            bindings: 0,
            no_ops_in_a_row: 0,
            no_ops_longest: 0,
            part,
        }
    }

    /// Counts one successful request, `ms` after the object's base time.
    pub fn count(&mut self, write: &Write<'_>, ms: u32, is_no_op: bool, limits: &Limits) {
        self.count_rate(ms, is_no_op, limits);
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

    /// Counts one write as a no-op, because it turned out that it changed nothing.
    pub fn discount(&mut self) {
        if let Some(count) = self.verbs.iter_mut().rev().find(|count| **count > 0) {
            *count -= 1;
            self.no_ops += 1;
        }
    }

    /// Records that the write at `ms` is no longer pending.
    pub fn finalize(&mut self, ms: u32) {
        self.finalized_ms = self.finalized_ms.max(ms).max(1);
    }

    /// Returns the number of writes that changed something, as far as is known.
    pub fn writes(&self) -> u32 {
        self.verbs.iter().sum()
    }

    /// Returns the numbers of writes by verb.
    pub fn verbs(&self) -> [(&'static str, u32); 4] {
        let [creates, updates, patches, deletes] = self.verbs;
        [("create", creates), ("update", updates), ("patch", patches), ("delete", deletes)]
    }

    /// Returns the number of writes that created the object.
    pub fn creates(&self) -> u32 {
        u32::from(self.creates)
    }

    /// Returns the number of writes that deleted the object.
    pub fn deletes(&self) -> u32 {
        u32::from(self.deletes)
    }

    /// Returns the number of writes that gave the object contents, without bindings, which contest nothing.
    pub fn content_writes(&self) -> u32 {
        self.writes().saturating_sub(self.deletes() + u32::from(self.bindings))
    }

    /// Returns the verb with which it mostly changes the object.
    pub fn modifying_verb(&self) -> Verb {
        if self.verbs[1] > self.verbs[2] { Verb::Update } else { Verb::Patch }
    }

    /// Returns the times of its first and last write, for an object with this base time.
    pub fn span(&self, base: Micros) -> (Micros, Micros) {
        let at = |ms: u32| base + i64::from(ms) * 1_000;
        (at(self.first_ms.min(self.last_ms)), at(self.last_ms))
    }

    /// Returns the times of its first write and its last write or no-op, for an object with this base time.
    pub fn activity(&self, base: Micros) -> (Micros, Micros) {
        let (first, last) = self.span(base);
        (first, last.max(base + i64::from(self.last_any_ms) * 1_000))
    }

    /// Returns the time of the last write that is no longer pending.
    pub fn finalized(&self, base: Micros) -> Option<Micros> {
        (self.finalized_ms > 0).then(|| base + i64::from(self.finalized_ms) * 1_000)
    }

    /// Whether it is, or was, in a hot loop.
    pub fn is_hot(&self, limits: &Limits) -> bool {
        self.exceeds_rate || u32::from(self.no_ops_longest) >= limits.hot_loop_no_ops.get()
    }

    fn count_rate(&mut self, ms: u32, is_no_op: bool, limits: &Limits) {
        let is_continued = ms.saturating_sub(self.last_any_ms) <= NO_OPS_APART_MS;
        self.no_ops_in_a_row = if !is_no_op {
            0
        } else if is_continued {
            self.no_ops_in_a_row.saturating_add(1)
        } else {
            1
        };
        self.no_ops_longest = self.no_ops_longest.max(self.no_ops_in_a_row);
        let per_minute =
            Limit { burst: limits.hot_loop_per_minute, window_s: NonZeroU32::new(60).expect("a minute is not zero") };
        // A request that is a little late counts at the latest time, because the times of a bucket must not decrease. A
        // request that is more than a minute late is left out: the level of its minute is no longer known.
        if self.last_any_ms.saturating_sub(ms) > MINUTE_MS {
            return;
        }
        let level = if self.ahead_ms > 0 { self.last_any_ms.saturating_add(u32::from(self.ahead_ms)) } else { 0 };
        let mut bucket = RateBucket::at_ms(level);
        self.last_any_ms = self.last_any_ms.max(ms);
        self.exceeds_rate |= !bucket.take(&per_minute, i64::from(self.last_any_ms) * 1_000);
        self.ahead_ms = u16::try_from(bucket.ms().saturating_sub(self.last_any_ms)).unwrap_or(u16::MAX);
    }
}

#[cfg(test)]
#[path = "writer_stats/tests.rs"]
mod tests;
