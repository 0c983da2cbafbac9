//! Takes decoded events, keeps the states of the objects, and returns verdicts.
//!
//! One [`Pipeline`] is shared by all sources and all queries. Locks cover one shard of the objects each and are never
//! held across an await. Counters are added once per batch.
//!
//! - [`table`], `shard`, [`key`]: the objects, their eviction and their deadlines.
//! - [`dedupe`]: recognises requests that are delivered again.
//! - [`clients`]: interns the accounts and tools behind the writes.
//! - [`clock`]: event time, and which event times are plausible.
//! - [`coverage`], [`stats`]: what verdicts are based on, and counters.

pub mod clients;
pub mod clock;
pub mod coverage;
pub mod dedupe;
pub mod key;
mod shard;
pub mod stats;
pub mod table;

use std::sync::{Arc, Mutex};

use foldhash::quality::RandomState;

use crate::audit::decode::{Decoded, Malformed};
use crate::audit::envelope;
use crate::audit::event::{Event, Micros};
use crate::audit::run::Run;
use crate::audit::times;
use crate::detect::policy::{Limits, Policy};
use crate::detect::verdict::{State, StateChange};
use crate::detect::write::{Outcome, Write, attribute};
use crate::util::lock::lock;
use clients::{Clients, Near};
use clock::{Belief, Clock, Clocks, Feed, Tolerance};
use coverage::{Doubts, Marks};
use dedupe::Dedupe;
use key::{ObjectKey, Place};
use stats::{Stats, Tallies};
use table::Table;

/// Events that are processed together: enough for their cache misses to overlap, few enough to stay in the cache.
const WINDOW: usize = 128;

/// The limits of what a pipeline keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Objects that are tracked. Beyond this number, old, uncontested objects are evicted first.
    pub objects_max: usize,
    /// Approximate bytes of all objects together.
    pub bytes_max: usize,
    /// Bytes of stored bodies that are kept without being parsed.
    pub body_bytes_max: usize,
    /// Requests that are remembered for deduplication.
    pub requests_max: usize,
    /// How far event times may differ from this machine's clock.
    pub tolerance: Tolerance,
}

/// A range of event times: from `since`, before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first instant of the range.
    pub since: Micros,
    /// The first instant after the range.
    pub until: Micros,
}

/// Everything between the decoder and the queries: the state of all objects, with the policy, the clocks and the
/// counters.
#[derive(Debug)]
pub struct Pipeline {
    policy: Policy,
    range: Range,
    table: Table,
    clients: Clients,
    dedupe: Mutex<Dedupe>,
    hasher: RandomState,
    stats: Mutex<Stats>,
    clocks: Clocks,
    /// Transitions that no batch has reported yet.
    unreported: Mutex<Vec<Transition>>,
}

/// Events of one source. Counts locally, and adds its counts to the pipeline's when it is dropped.
#[derive(Debug)]
pub struct Batch<'p> {
    pipeline: &'p Pipeline,
    cluster: &'p str,
    source: &'p str,
    clock: Arc<Clock>,
    /// When the events arrived, if that was not now.
    arrival: Option<Micros>,
    stats: Stats,
    near: Box<Near>,
    /// New thrashing events by object and party.
    pub thrashes: Vec<Thrash>,
    /// Transitions that these events caused.
    pub transitions: Vec<Transition>,
}

/// Thrashing events of one party on one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Thrash {
    /// The object.
    pub object: ObjectKey,
    /// The party whose writes they were.
    pub party: Arc<str>,
    /// The number of thrashing events.
    pub count: u32,
}

/// A change of the state of an object's war.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The object.
    pub object: ObjectKey,
    /// The state before it.
    pub from: State,
    /// The state after it.
    pub to: State,
    /// Its event time.
    pub at: Micros,
}

// === impl Transition ===

impl Transition {
    pub(super) fn new(object: ObjectKey, StateChange { from, to, at }: StateChange) -> Transition {
        Transition { object, from, to, at }
    }
}

// === impl Bounds ===

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            objects_max: 1_000_000,
            bytes_max: 1 << 30,
            body_bytes_max: 32 << 20,
            requests_max: 1_000_000,
            tolerance: Tolerance::default(),
        }
    }
}

// === impl Range ===

impl Default for Range {
    /// Returns the range of all times.
    fn default() -> Range {
        Range { since: i64::MIN, until: i64::MAX }
    }
}

// === impl Pipeline ===

impl Pipeline {
    /// Returns an empty pipeline for live events.
    pub fn new(policy: Policy, bounds: Bounds) -> Pipeline {
        let clients = Clients::new(bounds.bytes_max);
        Pipeline {
            policy,
            range: Range::default(),
            table: Table::new(bounds, clients.meter().clone()),
            clients,
            dedupe: Mutex::new(Dedupe::new(bounds.requests_max)),
            hasher: RandomState::default(),
            stats: Mutex::default(),
            clocks: Clocks::new(bounds.tolerance, Feed::Live),
            unreported: Mutex::default(),
        }
    }

    /// Makes this a pipeline of recorded events, such as those of a log file.
    pub fn recorded(self) -> Pipeline {
        Pipeline { clocks: self.clocks.fed(Feed::Recorded), ..self }
    }

    /// Restricts the pipeline to events in this range. Others are counted as ignored.
    pub fn within(self, range: Range) -> Pipeline {
        Pipeline { range, ..self }
    }

    /// Returns a batch for events of one source of a cluster: an API server, or a file.
    pub fn batch<'p>(&'p self, cluster: &'p str, source: &'p str) -> Batch<'p> {
        Batch {
            pipeline: self,
            cluster,
            source,
            clock: self.clocks.of(cluster),
            arrival: None,
            stats: Stats::default(),
            near: Box::default(),
            thrashes: Vec::new(),
            transitions: Vec::new(),
        }
    }

    /// Returns the policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the object table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Makes the transitions of a cluster that are due by `now`, in the order of their times.
    ///
    /// Batches of live events do this themselves. The end of a record is known only after all of it was read: see
    /// [`Pipeline::end`].
    pub fn pass_time(&self, cluster: &str, now: Micros) -> Vec<Transition> {
        self.table.pass_time(cluster, now, &self.policy)
    }

    /// Makes the transitions that are due at the end of a record of the past.
    pub fn end(&self) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for cluster in self.clocks.clusters() {
            if let Some(now) = self.latest_of(&cluster) {
                transitions.extend(self.pass_time(&cluster, now));
            }
        }
        transitions
    }

    /// Records that a person lifted the pause of this object. The next batch reports the transition, if there is one.
    pub fn resume(&self, key: &ObjectKey, at: Micros) {
        lock(&self.unreported).extend(self.table.resume(key, at));
    }

    /// Returns the counts of all completed batches.
    pub fn stats(&self) -> Stats {
        let mut stats = lock(&self.stats).clone();
        stats.tallies.objects = self.table.len() as u64;
        stats.tallies.evicted = self.table.evicted();
        stats
    }

    /// Returns the current time of a cluster: that of its latest plausible event. If the log of one API server ends
    /// later than the others by more than clocks may differ, it is the time at which the others end: only one source
    /// reports what happened afterwards, and its clock may be wrong.
    pub fn latest_of(&self, cluster: &str) -> Option<Micros> {
        let latest = self.clocks.latest_of(cluster)?;
        let Feed::Recorded = self.clocks.feed() else { return Some(latest) };
        let told = lock(&self.stats).coverage.end_but_one();
        let is_far = |end: &Micros| latest - end > self.clocks.tolerance().ahead;
        Some(told.filter(is_far).unwrap_or(latest))
    }

    /// Returns the latest event time of all clusters. It says how far the events have come, and is not the time of any
    /// cluster.
    pub fn latest(&self) -> Option<Micros> {
        self.clocks.latest()
    }
}

// === impl Batch ===

impl<'p> Batch<'p> {
    /// Processes one decoded event, or counts why there is none. `place` is its position in the input, such as a line
    /// number.
    pub fn take(&mut self, decoded: Result<Decoded<'_>, Malformed>, place: u64) {
        let tallies = &mut self.stats.tallies;
        tallies.events += 1;
        match decoded {
            Ok(Decoded::Unfinished) => {}
            Ok(Decoded::Read(_)) => {
                tallies.requests += 1;
                tallies.reads += 1;
            }
            Ok(Decoded::Event(event)) => self.window(std::slice::from_ref(&event)),
            Err(malformed) => {
                tallies.events -= 1;
                self.stats.malformed(&malformed, place);
            }
        }
    }

    /// Processes a run of decoded lines. `before` is the number of lines before it.
    pub fn run(&mut self, run: &Run<'_>, before: u64) {
        let tallies = &mut self.stats.tallies;
        tallies.events += run.unfinished + run.reads + run.events.len() as u64;
        tallies.requests += run.reads;
        tallies.reads += run.reads;
        for (place, malformed) in &run.malformed {
            self.stats.malformed(malformed, before + place);
        }
        self.pipeline.clocks.refer(run.events.iter().filter_map(Event::at));
        run.events.chunks(WINDOW).for_each(|events| self.window(events));
        self.tidy();
    }

    fn tidy(&self) {
        if let Some(latest) = self.clock.latest() {
            self.pipeline.table.tidy(self.cluster, latest);
        }
    }

    /// Makes the transitions that are due by now. Call it when all events of a batch have been processed.
    pub fn pass_time(&mut self) {
        self.transitions.append(&mut lock(&self.pipeline.unreported));
        self.transitions.extend(self.due());
    }

    /// Makes the transitions that are due by now, and returns them. For a record of the past, [`Pipeline::end`] makes
    /// them.
    fn due(&self) -> Vec<Transition> {
        match (self.pipeline.clocks.feed(), self.clock.latest()) {
            (Feed::Live, Some(now)) => self.pipeline.pass_time(self.cluster, now),
            _ => Vec::new(),
        }
    }

    fn belief(&self) -> Belief {
        self.pipeline.clocks.belief(&self.clock, self.arrival)
    }

    /// Decodes and processes the events of a body, one window at a time. Returns the number of events.
    pub fn body(&mut self, body: &[u8]) -> u64 {
        let mut events = Vec::with_capacity(WINDOW);
        let mut place = 0;
        let mut marks = Marks::default();
        let each = |decoded| {
            place += 1;
            match decoded {
                Ok(Decoded::Event(event)) => {
                    self.stats.tallies.events += 1;
                    events.push(event);
                }
                other => self.take(other, place),
            }
            if events.len() == WINDOW {
                self.window(&events);
                events.clear();
            }
        };
        envelope::values_with_bytes(body, each, |event| marks.see(event));
        self.window(&events);
        self.reached(&marks.times(), || {
            let mut all = Vec::new();
            envelope::values_with_bytes(body, |_| {}, |event| all.extend(times::of_event(event)));
            all
        });
        self.pass_time();
        place
    }

    /// Processes finished events of mutating requests, at most a window of them. Works stage by stage, so that the
    /// cache misses of different events overlap.
    fn window(&mut self, events: &[Event<'_>]) {
        let pipeline = self.pipeline;
        let Range { since, until } = pipeline.range;
        self.pipeline.clocks.refer(events.iter().filter_map(Event::at));
        let belief = self.belief();
        // The cluster's time at each write. It must not depend on how events are divided into batches.
        let is_live = pipeline.clocks.feed() == Feed::Live;
        let now = |clock: &Clock| clock.latest().filter(|_| is_live).unwrap_or(i64::MIN);
        let mut writes: Vec<(u64, Write<'_>, Micros)> = Vec::with_capacity(events.len());
        for event in events {
            let attributed = attribute(event).map(|write| {
                let (at, wrong) = belief.of(write.at);
                (Write { at, ..write }, wrong)
            });
            match attributed {
                Ok((write, wrong)) if (since..until).contains(&write.at) => {
                    match wrong {
                        None => self.clock.advance(write.at),
                        Some(wrong) => self.stats.coverage.doubt(self.source, wrong),
                    }
                    self.stats.span(write.at);
                    let is_bare = dedupe::is_bare(pipeline.policy.limits(&write.object), &write.object);
                    let identity = dedupe::identity(&pipeline.hasher, self.cluster, &write, is_bare);
                    writes.push((identity, write, now(&self.clock)));
                    continue;
                }
                Ok(_) => self.stats.tallies.ignored += 1,
                Err(why) => self.stats.not_a_write(why),
            }
            self.stats.tallies.requests += 1;
        }
        let all = writes.len();
        {
            let mut dedupe = lock(&pipeline.dedupe);
            writes.retain(|(request, write, _)| !dedupe.is_repeated(*request, write.at));
        }
        self.stats.tallies.duplicates += (all - writes.len()) as u64;
        self.stats.tallies.requests += writes.len() as u64;
        let mut stored: Vec<(&Write<'_>, &Limits, Micros)> = Vec::with_capacity(writes.len());
        for (_, write, now) in &writes {
            stored.extend(self.limits(write).map(|limits| (write, limits, *now)));
        }
        let places: Vec<Place<'_>> =
            stored.iter().map(|(write, ..)| pipeline.table.place(self.cluster, write.object)).collect();
        // Prefetching a single object would gain nothing.
        if places.len() > 1 {
            pipeline.table.warm(&places);
        }
        for ((write, limits, now), place) in stored.iter().zip(&places) {
            self.observe(write, limits, place, *now);
        }
    }

    /// Returns the limits for a write, or counts why it is left out.
    fn limits(&mut self, write: &Write<'_>) -> Option<&'p Limits> {
        self.stats.level(write.event);
        let limits = self.pipeline.policy.limits(&write.object);
        let tallies = &mut self.stats.tallies;
        match limits {
            None => tallies.ignored += 1,
            Some(_) if write.outcome == Outcome::Failed => tallies.failed += 1,
            Some(limits) => return Some(limits),
        }
        None
    }

    /// Passes one write to its object.
    fn observe(&mut self, write: &Write<'_>, limits: &Limits, place: &Place<'_>, now: Micros) {
        let Pipeline { policy, table, clients, .. } = self.pipeline;
        let client = clients.intern(&mut self.near, write, &policy.classes);
        if policy.is_followed(&write.object)
            && let Some(key) = place.key()
        {
            table.follow(&key, write.at);
        }
        let tallies = &mut self.stats.tallies;
        let Some(observed) = table.observe(place, write, client, limits, now) else {
            tallies.others += 1;
            return;
        };
        match (&write.outcome, observed.is_no_op) {
            (Outcome::Committed, true) => tallies.no_ops += 1,
            (Outcome::Committed, false) => tallies.writes += 1,
            _ => tallies.failed += 1,
        }
        tallies.unreadable += u64::from(observed.is_unreadable);
        if observed.transitions.is_empty() && observed.thrashes.is_empty() {
            return;
        }
        let Some(object) = place.key() else { return };
        for (party, count) in observed.thrashes {
            self.thrashes.push(Thrash { object: object.clone(), party, count });
        }
        self.transitions.extend(observed.transitions.into_iter().map(|change| Transition::new(object.clone(), change)));
    }

    /// Records the times of a block of whole lines, including reads: time passes for verdicts even if nobody writes.
    pub fn lines(&mut self, lines: &[u8]) {
        self.reached(&Marks::of_lines(lines).times(), || times::all(lines).collect());
    }

    /// Records event times in their order, and the time between them unless it contains gaps.
    fn reached(&mut self, marks: &[Micros], all: impl FnOnce() -> Vec<Micros>) {
        let belief = self.belief();
        self.stats.coverage.see(self.source, marks, belief.from..=belief.until, all);
        let Range { since, until } = self.pipeline.range;
        let is_believed = |at: &&Micros| (since..until).contains(*at) && belief.of(**at).1.is_none();
        marks.iter().filter(is_believed).for_each(|at| self.clock.advance(*at));
    }

    /// Sets the time of arrival of the events that follow.
    pub fn arrived(&mut self, at: Micros) {
        self.arrival = Some(at);
    }

    /// Sets the source of the events that follow.
    pub fn from(&mut self, source: &'p str) {
        self.source = source;
    }

    /// Returns the counts of writes of this batch with implausible times, by source.
    pub fn doubts(&self) -> impl Iterator<Item = (&str, Doubts)> {
        self.stats.coverage.doubts()
    }

    /// Returns the counts of this batch so far.
    pub fn tallies(&self) -> &Tallies {
        &self.stats.tallies
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        lock(&self.pipeline.unreported).extend(self.due());
        self.tidy();
        lock(&self.pipeline.stats).add(&self.stats);
    }
}
