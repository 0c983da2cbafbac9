//! The way through: decoded events in, object states held, verdicts out.
//!
//! A [`Pipeline`] is shared by all who bring events and all who ask. Locks are per object (DashMap) and never held
//! across an await; counters are added per batch.

pub mod clients;
pub mod coverage;
pub mod dedupe;
pub mod stats;
pub mod table;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::audit::decode::{Decoded, Malformed};
use crate::audit::event::{Event, Micros};
use crate::audit::run::Run;
use crate::detect::object::Observed;
use crate::detect::policy::Policy;
use crate::detect::verdict::State;
use crate::detect::write::{Outcome, attribute};
use clients::{Clients, Near};
use dedupe::Dedupe;
use stats::{Stats, Tallies};
use table::{ObjectKey, Table};

/// The bounds of what a pipeline keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Objects that are tracked; the calmest and oldest make room.
    pub objects_max: usize,
    /// Bytes of stored bodies that are kept unread.
    pub body_bytes_max: usize,
    /// Requests remembered, to recognise repeated ones.
    pub requests_max: usize,
}

/// The time of events that is looked at: from `since`, before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first instant.
    pub since: Micros,
    /// The first instant after it.
    pub until: Micros,
}

/// Everything between the decoder and the surfaces.
#[derive(Debug)]
pub struct Pipeline {
    policy: Policy,
    range: Range,
    table: Table,
    clients: Clients,
    dedupe: Mutex<Dedupe>,
    stats: Mutex<Stats>,
    /// The latest event time seen: "now", as far as the events know.
    latest: AtomicI64,
}

/// One run of events from one source: counted here, and added to the pipeline's counters when it is dropped.
#[derive(Debug)]
pub struct Batch<'p> {
    pipeline: &'p Pipeline,
    cluster: &'p str,
    source: &'p str,
    stats: Stats,
    key: String,
    near: Box<Near>,
    /// New thrashing events by object and party.
    pub thrashes: Vec<Thrash>,
    /// Verdicts that changed.
    pub turns: Vec<Turn>,
}

/// Thrashing events of one object by one party.
#[derive(Clone, Debug, PartialEq)]
pub struct Thrash {
    /// The object.
    pub object: ObjectKey,
    /// Whose writes they were.
    pub party: std::sync::Arc<str>,
    /// How many.
    pub count: u32,
}

/// A verdict that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The object.
    pub object: ObjectKey,
    /// From which state.
    pub from: State,
    /// To which state.
    pub to: State,
    /// When.
    pub at: Micros,
}

// === impl Bounds ===

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { objects_max: 1_000_000, body_bytes_max: 32 << 20, requests_max: 1_000_000 }
    }
}

// === impl Range ===

impl Default for Range {
    /// All time.
    fn default() -> Range {
        Range { since: i64::MIN, until: i64::MAX }
    }
}

// === impl Pipeline ===

impl Pipeline {
    /// An empty pipeline.
    pub fn new(policy: Policy, bounds: Bounds) -> Pipeline {
        Pipeline {
            policy,
            range: Range::default(),
            table: Table::new(bounds.objects_max, bounds.body_bytes_max),
            clients: Clients::default(),
            dedupe: Mutex::new(Dedupe::new(bounds.requests_max)),
            stats: Mutex::default(),
            latest: AtomicI64::new(i64::MIN),
        }
    }

    /// Looks only at events of this time; others are counted as ignored.
    pub fn within(self, range: Range) -> Pipeline {
        Pipeline { range, ..self }
    }

    /// A batch of events from one cluster's source: an API server, or a file.
    pub fn batch<'p>(&'p self, cluster: &'p str, source: &'p str) -> Batch<'p> {
        Batch {
            pipeline: self,
            cluster,
            source,
            stats: Stats::default(),
            key: String::new(),
            near: Box::default(),
            thrashes: Vec::new(),
            turns: Vec::new(),
        }
    }

    /// The limits in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The objects.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What was taken in so far.
    pub fn stats(&self) -> Stats {
        let mut stats = lock(&self.stats).clone();
        stats.tallies.objects = self.table.len() as u64;
        stats.tallies.evicted = self.table.evicted();
        stats
    }

    /// The latest event time seen.
    pub fn latest(&self) -> Option<Micros> {
        Some(self.latest.load(Ordering::Relaxed)).filter(|at| *at != i64::MIN)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

// === impl Batch ===

impl<'p> Batch<'p> {
    /// Takes in one decoded event, or counts why there is none. `place` is where it stood (a line's number).
    pub fn take(&mut self, decoded: Result<Decoded<'_>, Malformed>, place: u64) {
        let tallies = &mut self.stats.tallies;
        tallies.events += 1;
        match decoded {
            Ok(Decoded::Unfinished) => {}
            Ok(Decoded::Read(_)) => {
                tallies.requests += 1;
                tallies.reads += 1;
            }
            Ok(Decoded::Event(event)) => {
                self.observe(&event);
            }
            Err(malformed) => {
                tallies.events -= 1;
                self.stats.malformed(&malformed, place);
            }
        }
    }

    /// Takes in a run of decoded lines, behind `before` others.
    pub fn run(&mut self, run: &Run<'_>, before: u64) {
        let tallies = &mut self.stats.tallies;
        tallies.events += run.unfinished + run.reads + run.events.len() as u64;
        tallies.requests += run.reads;
        tallies.reads += run.reads;
        for (place, malformed) in &run.malformed {
            self.stats.malformed(malformed, before + place);
        }
        run.events.iter().for_each(|event| self.observe(event));
        self.tidy();
    }

    fn tidy(&self) {
        if let Some(latest) = self.pipeline.latest() {
            self.pipeline.table.tidy(latest);
        }
    }

    /// Takes in one finished event of a mutating request.
    fn observe(&mut self, event: &Event<'_>) {
        let pipeline = self.pipeline;
        let tallies = &mut self.stats.tallies;
        let write = match attribute(event) {
            Ok(write) => write,
            Err(why) => {
                tallies.requests += 1;
                self.stats.not_a_write(why);
                return;
            }
        };
        if write.at < pipeline.range.since || write.at >= pipeline.range.until {
            self.stats.tallies.requests += 1;
            self.stats.tallies.ignored += 1;
            return;
        }
        self.stats.span(write.at);
        if lock(&pipeline.dedupe).is_repeated(self.cluster, event, write.at) {
            self.stats.tallies.duplicates += 1;
            return;
        }
        self.stats.level(event);
        let tallies = &mut self.stats.tallies;
        tallies.requests += 1;
        pipeline.latest.fetch_max(write.at, Ordering::Relaxed);
        let Some(limits) = pipeline.policy.limits(&write.object) else {
            tallies.ignored += 1;
            return;
        };
        if !ObjectKey::write(&mut self.key, self.cluster, &write.object) {
            tallies.others += 1;
            return;
        }
        match write.outcome {
            Outcome::Failed => {
                tallies.failed += 1;
                return;
            }
            Outcome::Committed => {}
            _ => tallies.failed += 1,
        }
        let client = pipeline.clients.intern(&mut self.near, &write);
        if pipeline.policy.is_followed(&write.object) {
            pipeline.table.follow(&self.key, write.at);
        }
        let observed = pipeline.table.observe(&self.key, &write, client, limits);
        self.count(&write.outcome, observed, write.at);
    }

    fn count(&mut self, outcome: &Outcome<'_>, observed: Observed, at: Micros) {
        let tallies = &mut self.stats.tallies;
        if *outcome == Outcome::Committed {
            match observed.is_no_op {
                true => tallies.no_ops += 1,
                false => tallies.writes += 1,
            }
        }
        tallies.unreadable += u64::from(observed.is_unreadable);
        let (from, to) = observed.state;
        if from != to {
            self.turns.push(Turn { object: ObjectKey::from(self.key.as_str()), from, to, at });
        }
        for (party, count) in observed.thrashes {
            self.thrashes.push(Thrash { object: ObjectKey::from(self.key.as_str()), party, count });
        }
    }

    /// Notes the time of the last event in these bytes, a read's too: time passes for verdicts even where nobody writes.
    pub fn reached(&mut self, bytes: &[u8]) {
        self.stats.coverage.reached(self.source, bytes);
        if let Some(at) = crate::audit::envelope::last_time(bytes) {
            let Range { since, until } = self.pipeline.range;
            if (since..until).contains(&at) {
                self.pipeline.latest.fetch_max(at, Ordering::Relaxed);
            }
        }
    }

    /// Goes on with events of another source.
    pub fn from(&mut self, source: &'p str) {
        self.source = source;
    }

    /// What was counted in this batch so far.
    pub fn tallies(&self) -> &Tallies {
        &self.stats.tallies
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.tidy();
        lock(&self.pipeline.stats).add(&self.stats);
    }
}
