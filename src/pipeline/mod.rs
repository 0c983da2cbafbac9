//! The way through: decoded events in, object states held, verdicts out.
//!
//! A [`Pipeline`] is shared by all who bring events and all who ask. Locks are per shard of the objects and never held
//! across an await; counters are added per batch.

pub mod clients;
pub mod clock;
pub mod coverage;
pub mod dedupe;
pub mod key;
mod shard;
pub mod stats;
pub mod table;

use std::sync::{Arc, Mutex, MutexGuard};

use foldhash::quality::RandomState;

use crate::audit::decode::{Decoded, Malformed};
use crate::audit::envelope;
use crate::audit::event::{Event, Micros};
use crate::audit::run::Run;
use crate::audit::times;
use crate::detect::policy::{Limits, Policy};
use crate::detect::verdict::{State, Transition};
use crate::detect::write::{Outcome, Write, attribute};
use clients::{Clients, Near};
use clock::{Belief, Clock, Clocks, Feed, Tolerance};
use coverage::{Doubts, Marks};
use dedupe::Dedupe;
use key::{ObjectKey, Place};
use stats::{Stats, Tallies};
use table::Table;

/// Events that are taken in at a time: so many that their objects are waited for together, so few that these stay near.
const WINDOW: usize = 128;

/// The bounds of what a pipeline keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Objects that are tracked; the calmest and oldest make room.
    pub objects_max: usize,
    /// Bytes of all objects together, roughly.
    pub bytes_max: usize,
    /// Bytes of stored bodies that are kept unread.
    pub body_bytes_max: usize,
    /// Requests remembered, to recognise repeated ones.
    pub requests_max: usize,
    /// How far the times of events may be from this machine's clock.
    pub tolerance: Tolerance,
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
    hasher: RandomState,
    stats: Mutex<Stats>,
    clocks: Clocks,
    /// State changes that no batch has reported yet.
    unreported: Mutex<Vec<Turn>>,
}

/// One run of events from one source: counted here, and added to the pipeline's counters when it is dropped.
#[derive(Debug)]
pub struct Batch<'p> {
    pipeline: &'p Pipeline,
    cluster: &'p str,
    source: &'p str,
    clock: Arc<Clock>,
    /// When its events came in, where that was not now.
    arrival: Option<Micros>,
    stats: Stats,
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
    pub party: Arc<str>,
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

// === impl Turn ===

impl Turn {
    pub(super) fn new(object: ObjectKey, Transition { from, to, at }: Transition) -> Turn {
        Turn { object, from, to, at }
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
    /// All time.
    fn default() -> Range {
        Range { since: i64::MIN, until: i64::MAX }
    }
}

// === impl Pipeline ===

impl Pipeline {
    /// An empty pipeline.
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

    /// Takes its events from a record of the past.
    pub fn recorded(self) -> Pipeline {
        Pipeline { clocks: self.clocks.fed(Feed::Recorded), ..self }
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
            clock: self.clocks.of(cluster),
            arrival: None,
            stats: Stats::default(),
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

    /// Makes the state changes that are due in a cluster where it is `now`, in the order of their times.
    ///
    /// Batches of live events do so themselves. What is read from a record of the past ends at a time that is known at the end
    /// only: see [`Pipeline::end`].
    pub fn pass_time(&self, cluster: &str, now: Micros) -> Vec<Turn> {
        self.table.pass_time(cluster, now, &self.policy)
    }

    /// Makes the state changes that are due when everything was taken in from a record of the past.
    pub fn end(&self) -> Vec<Turn> {
        let mut turns = Vec::new();
        for cluster in self.clocks.clusters() {
            if let Some(now) = self.latest_of(&cluster) {
                turns.extend(self.pass_time(&cluster, now));
            }
        }
        turns
    }

    /// A person lifted the pause of this object. The next batch reports what that changes.
    pub fn resume(&self, key: &ObjectKey, at: Micros) {
        lock(&self.unreported).extend(self.table.resume(key, at));
    }

    /// What was taken in so far.
    pub fn stats(&self) -> Stats {
        let mut stats = lock(&self.stats).clone();
        stats.tallies.objects = self.table.len() as u64;
        stats.tallies.evicted = self.table.evicted();
        stats
    }

    /// What time it is in a cluster: that of its latest event that can be believed. Where the log of one API server goes on for
    /// longer than clocks may differ behind those of the others, it is the time at which those end: what happened afterwards is
    /// known of one only, and its clock may be wrong.
    pub fn latest_of(&self, cluster: &str) -> Option<Micros> {
        let latest = self.clocks.latest_of(cluster)?;
        let Feed::Recorded = self.clocks.feed() else { return Some(latest) };
        let told = lock(&self.stats).coverage.end_but_one();
        let is_far = |end: &Micros| latest - end > self.clocks.tolerance().ahead;
        Some(told.filter(is_far).unwrap_or(latest))
    }

    /// The latest time of all clusters: how far the events have come, and no cluster's "now".
    pub fn latest(&self) -> Option<Micros> {
        self.clocks.latest()
    }
}

/// Locks, also what somebody panicked with: to go on with what is there is better than to stop.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
            Ok(Decoded::Event(event)) => self.window(std::slice::from_ref(&event)),
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
        self.pipeline.clocks.refer(run.events.iter().filter_map(Event::at));
        run.events.chunks(WINDOW).for_each(|events| self.window(events));
        self.tidy();
    }

    fn tidy(&self) {
        if let Some(latest) = self.clock.latest() {
            self.pipeline.table.tidy(self.cluster, latest);
        }
    }

    /// Makes the state changes that are due by now: to be called when all events of a batch were taken in.
    pub fn pass_time(&mut self) {
        self.turns.append(&mut lock(&self.pipeline.unreported));
        if let (Feed::Live, Some(now)) = (self.pipeline.clocks.feed(), self.clock.latest()) {
            self.turns.extend(self.pipeline.pass_time(self.cluster, now));
        }
    }

    fn belief(&self) -> Belief {
        self.pipeline.clocks.belief(&self.clock, self.arrival)
    }

    /// Takes in the events of a body as they are decoded, some at a time; how many there were.
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

    /// Takes in finished events of mutating requests, few at a time. Each step is taken with all of them before the next one:
    /// what they wait for in memory comes together.
    fn window(&mut self, events: &[Event<'_>]) {
        let pipeline = self.pipeline;
        let Range { since, until } = pipeline.range;
        self.pipeline.clocks.refer(events.iter().filter_map(Event::at));
        let belief = self.belief();
        // What time it is in the cluster when a write is seen: the same however events are divided into batches.
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
        // One alone has nobody to wait together with.
        if places.len() > 1 {
            pipeline.table.warm(&places);
        }
        for ((write, limits, now), place) in stored.iter().zip(&places) {
            self.observe(write, limits, place, *now);
        }
    }

    /// The limits that a write is held to, if it is one to take in.
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

    /// Takes in one write.
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
        self.turns.extend(observed.transitions.into_iter().map(|change| Turn::new(object.clone(), change)));
    }

    /// Notes the times of whole lines, of reads too: time passes for verdicts even where nobody writes.
    pub fn lines(&mut self, lines: &[u8]) {
        self.reached(&Marks::of_lines(lines).times(), || times::all(lines).collect());
    }

    /// Notes times of events, in their order, and between them where these are far apart.
    fn reached(&mut self, marks: &[Micros], all: impl FnOnce() -> Vec<Micros>) {
        let belief = self.belief();
        self.stats.coverage.see(self.source, marks, belief.from..=belief.until, all);
        let Range { since, until } = self.pipeline.range;
        let is_believed = |at: &&Micros| (since..until).contains(*at) && belief.of(**at).1.is_none();
        marks.iter().filter(is_believed).for_each(|at| self.clock.advance(*at));
    }

    /// Goes on with events that came in at this time.
    pub fn arrived(&mut self, at: Micros) {
        self.arrival = Some(at);
    }

    /// Goes on with events of another source.
    pub fn from(&mut self, source: &'p str) {
        self.source = source;
    }

    /// Writes of this batch whose time is not believed, by source.
    pub fn doubts(&self) -> impl Iterator<Item = (&str, Doubts)> {
        self.stats.coverage.doubts()
    }

    /// What was counted in this batch so far.
    pub fn tallies(&self) -> &Tallies {
        &self.stats.tallies
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if let (Feed::Live, Some(now)) = (self.pipeline.clocks.feed(), self.clock.latest()) {
            let turns = self.pipeline.pass_time(self.cluster, now);
            lock(&self.pipeline.unreported).extend(turns);
        }
        self.tidy();
        lock(&self.pipeline.stats).add(&self.stats);
    }
}
