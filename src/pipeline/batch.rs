//! Events of one source on their way into the pipeline.

use std::sync::Arc;

use super::bounds::TimeRange;
use super::clients::BatchClientCache;
use super::clock::{Clock, Feed, PlausibleTimes};
use super::coverage::Doubts;
use super::dedupe;
use super::join::{HeldEvent, Release};
use super::key::ObjectSlot;
use super::shared::Pipeline;
use super::stats::{Counters, Stats};
use super::table::WINDOW;
use super::transition::{ThrashingEvent, Transition};
use crate::audit::decode::Malformed;
use crate::audit::decoded_chunk::DecodedChunk;
use crate::audit::event::{Event, Micros};
use crate::detect::policy::Limits;
use crate::detect::write::{Outcome, Standing, Write, classify_write};
use crate::util::clock;
use crate::util::lock::lock;

/// Events of one source. Counts locally, and adds its counts to the pipeline's when it is dropped.
#[derive(Debug)]
pub struct Batch<'p> {
    pipeline: &'p Pipeline,
    cluster: &'p str,
    source: &'p str,
    clock: Arc<Clock>,
    /// When the events arrived, if that was not now.
    arrival: Option<Micros>,
    /// Whether events arrive now, whatever `arrival` is.
    is_live: bool,
    stats: Stats,
    client_cache: Box<BatchClientCache>,
    /// New thrashing events by object and party.
    pub thrashes: Vec<ThrashingEvent>,
    /// Transitions that these events caused.
    pub transitions: Vec<Transition>,
    /// Whether no time passes by these events, because their writes are observed elsewhere.
    is_only_counted: bool,
}

/// A request that could have changed an object.
struct Request<'e> {
    /// A hash by which a repeated delivery is recognised.
    identity: u64,
    /// The index of its write. Writes are large, so they are not moved.
    write: usize,
    slot: ObjectSlot<'e>,
    /// The cluster's time at the request.
    now: Micros,
}

/// A request that is counted once and concerns a tracked object.
struct Accepted<'b> {
    write: &'b Write<'b>,
    limits: &'b Limits,
    slot: &'b ObjectSlot<'b>,
    now: Micros,
}

// === impl Pipeline ===

impl Pipeline {
    /// Returns a batch for events of one source of a cluster: an API server, or a file.
    pub fn batch<'p>(&'p self, cluster: &'p str, source: &'p str) -> Batch<'p> {
        Batch {
            pipeline: self,
            cluster,
            source,
            clock: self.clocks.of(cluster),
            arrival: None,
            is_live: false,
            stats: Stats::default(),
            client_cache: Box::default(),
            thrashes: Vec::new(),
            transitions: Vec::new(),
            is_only_counted: false,
        }
    }
}

// === impl Batch ===

impl<'p> Batch<'p> {
    /// Processes a decoded chunk. `before` is the number of positions before it in its input.
    pub fn ingest(&mut self, chunk: &DecodedChunk<'_>, before: u64) {
        let latest = self.clock.latest();
        self.count_others(chunk, before);
        self.stats.counters.events += chunk.events.len() as u64;
        self.pipeline.clocks.detect_future_record(chunk.events.iter().filter_map(Event::at));
        chunk.events.chunks(WINDOW).for_each(|events| self.window(events));
        self.record_coverage(&chunk.times, || chunk.all_times());
        if self.clock.latest() > latest {
            let arrival = self.arrival.filter(|_| !self.is_live);
            self.clock.arrive(arrival.unwrap_or_else(clock::now));
        }
        if self.pipeline.join.is_active() {
            self.release(false);
        }
        self.compact();
    }

    /// Counts the events of a chunk that are left out of the journal: all but writes within the configured scope. Neither their
    /// times nor the writes have an effect here.
    pub(crate) fn count_unobserved(&mut self, chunk: &DecodedChunk<'_>) {
        self.is_only_counted = true;
        self.count_others(chunk, 0);
        let pipeline = self.pipeline;
        for event in &chunk.events {
            let why = match classify_write(event) {
                Ok(write) if pipeline.policy.limits(&write.object).is_none() => None,
                Ok(_) => continue,
                Err(why) => Some(why),
            };
            let counters = &mut self.stats.counters;
            counters.events += 1;
            if event.is_reviewed() {
                continue;
            }
            counters.requests += 1;
            match why {
                Some(why) => self.stats.not_a_write(why),
                None => counters.ignored += 1,
            }
        }
    }

    /// Counts a write that is too long to be stored, so that it is not observed anywhere.
    pub(crate) fn count_too_long(&mut self) {
        self.is_only_counted = true;
        self.stats.malformed(Malformed::TooLong(0).reason(), 1, self.source, 0);
    }

    /// Counts everything in a chunk but final events of mutating requests.
    fn count_others(&mut self, chunk: &DecodedChunk<'_>, before: u64) {
        let counters = &mut self.stats.counters;
        counters.events += chunk.unfinished + chunk.reads;
        counters.requests += chunk.reads;
        counters.reads += chunk.reads;
        for (reason, (count, position)) in &chunk.malformed {
            self.stats.malformed(reason, *count, self.source, before + position);
        }
        if let Some(notes) = &chunk.notes {
            self.stats.notes(notes, self.source);
        }
    }

    /// Observes the writes that waited to be joined with their counterparts, as far as they need not wait any longer. With
    /// `is_end`, none does.
    fn release(&mut self, is_end: bool) {
        for release in self.pipeline.join.due(self.cluster, is_end) {
            match release {
                Release::Plain(held) => self.observe_held(&held, Standing::Unknown),
                Release::NoOp(held) => self.observe_held(&held, Standing::NoOp),
                Release::Joined(held) => {
                    self.stats.joined += 1;
                    self.observe_held(&held, Standing::Unknown);
                }
                Release::Identified(held) => {
                    self.stats.joined += 1;
                    self.observe_held(&held, Standing::Identified);
                }
                Release::Reviewed { event, is_needed } => {
                    self.stats.fields_reviewed += u64::from(is_needed);
                    self.observe_held(&event, Standing::Unknown);
                }
                Release::Unconfirmed(source) => self.stats.unconfirmed(&source),
                Release::Confirmed(source) => self.stats.confirmed(&source),
            }
        }
    }

    /// Observes the writes that still wait to be joined, because no more events follow.
    pub(crate) fn release_all(&mut self) {
        self.release(true);
    }

    fn observe_held(&mut self, held: &HeldEvent, standing: Standing) {
        let event = held.event();
        // It was classified before.
        let Ok(write) = classify_write(&event) else { return };
        let write = &Write { at: held.at, standing, ..write };
        let Some(limits) = self.pipeline.policy.limits(&write.object) else { return };
        let now = self.clock.latest().filter(|_| self.pipeline.clocks.feed() == Feed::Live).unwrap_or(i64::MIN);
        let slot = &self.pipeline.table.slot(self.cluster, write.object);
        self.observe(&Accepted { write, limits, slot, now });
    }

    fn compact(&self) {
        if let Some(latest) = self.clock.latest() {
            self.pipeline.table.compact(self.cluster, latest);
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

    fn plausible_times(&self) -> PlausibleTimes {
        self.pipeline.clocks.plausible_times(&self.clock, self.arrival)
    }

    /// Processes finished events of mutating requests, at most a window of them. Works stage by stage, so that the
    /// cache misses of different events overlap.
    fn window(&mut self, events: &[Event<'_>]) {
        let pipeline = self.pipeline;
        let TimeRange { since, until } = pipeline.range;
        self.pipeline.clocks.detect_future_record(events.iter().filter_map(Event::at));
        let plausible_times = self.plausible_times();
        // The cluster's time at each write. It must not depend on how events are divided into batches.
        let is_live = pipeline.clocks.feed() == Feed::Live;
        let now = |clock: &Clock| clock.latest().filter(|_| is_live).unwrap_or(i64::MIN);
        let mut writes: Vec<Write<'_>> = Vec::with_capacity(events.len());
        let mut requests: Vec<Request<'_>> = Vec::with_capacity(events.len());
        for event in events {
            match classify_write(event) {
                Ok(write) => writes.push(write),
                // The audit event of the same request counts.
                Err(_) if event.is_reviewed() => continue,
                Err(why) => {
                    if event.status.as_ref().is_some_and(|status| matches!(status.code, 400..500)) {
                        pipeline.join.reject(self.cluster, event);
                    }
                    self.stats.not_a_write(why);
                    self.stats.counters.requests += 1;
                    continue;
                }
            }
            let index = writes.len() - 1;
            let write = &mut writes[index];
            let (at, implausible) = plausible_times.of(write.at);
            write.at = at;
            if !(since..until).contains(&at) {
                self.stats.counters.ignored += 1;
                self.stats.counters.requests += 1;
                continue;
            }
            match implausible {
                None => self.clock.advance(at),
                Some(implausible) => self.stats.coverage.doubt(self.source, implausible),
            }
            self.stats.span(at);
            let omits_body = dedupe::omits_body(pipeline.policy.limits(&write.object), write);
            let slot = pipeline.table.slot(self.cluster, write.object);
            let identity = dedupe::identity(&pipeline.hasher, slot.hash, write, omits_body);
            requests.push(Request { identity, write: index, slot, now: now(&self.clock) });
        }
        let all = requests.len();
        {
            let mut dedupe = lock(&pipeline.dedupe);
            requests.retain(|request| !dedupe.is_repeated(request.identity, writes[request.write].at));
        }
        self.stats.counters.duplicates += (all - requests.len()) as u64;
        // A review is counted when it turns out that no audit event shows the same request.
        let reviewed = requests.iter().filter(|request| writes[request.write].event.is_reviewed()).count();
        self.stats.counters.requests += (requests.len() - reviewed) as u64;
        let mut accepted: Vec<Accepted<'_>> = Vec::with_capacity(requests.len());
        for Request { write, slot, now, .. } in &requests {
            let write = &writes[*write];
            if let Some(limits) = self.limits(write) {
                if !pipeline.join.keeps(self.cluster, self.source, pipeline.clocks.feed(), write) {
                    if write.event.is_reviewed() && !write.event.username.is_empty() {
                        self.stats.unconfirmed(self.source);
                    }
                    accepted.push(Accepted { write, limits, slot, now: *now });
                }
            } else if write.outcome == Outcome::Failed {
                pipeline.join.reject(self.cluster, write.event);
            }
        }
        // Prefetching a single object would gain nothing.
        if accepted.len() > 1 {
            pipeline.table.prefetch(accepted.iter().map(|accepted| accepted.slot.hash));
        }
        for accepted in &accepted {
            self.observe(accepted);
        }
    }

    /// Returns the limits for a write, or counts why it is left out.
    fn limits(&mut self, write: &Write<'_>) -> Option<&'p Limits> {
        self.stats.level(write.event, self.source);
        let limits = self.pipeline.policy.limits(&write.object);
        let counters = &mut self.stats.counters;
        match limits {
            None if write.event.is_reviewed() => {}
            None => counters.ignored += 1,
            Some(_) if write.outcome == Outcome::Failed => counters.failed += 1,
            Some(limits) => return Some(limits),
        }
        None
    }

    /// Passes one write to its object.
    fn observe(&mut self, accepted: &Accepted<'_>) {
        let Accepted { write, limits, slot, now } = accepted;
        let Pipeline { policy, table, clients, .. } = self.pipeline;
        let client = clients.intern(&mut self.client_cache, write, &policy.classes);
        if policy.keeps_history(&write.object)
            && let Some(key) = slot.key()
        {
            table.keep_history(&key, write.at);
        }
        let counters = &mut self.stats.counters;
        let Some(observed) = table.observe(slot, write, client, limits, *now) else {
            counters.others += 1;
            return;
        };
        let is_reviewed = write.event.is_reviewed();
        // The object before a reviewed write has no author, and is not a request.
        let is_request = !is_reviewed || !write.event.username.is_empty();
        counters.requests += u64::from(is_reviewed && is_request);
        match &write.outcome {
            _ if write.standing == Standing::Identified || !is_request => {}
            Outcome::Committed if observed.is_no_op => counters.no_ops += 1,
            Outcome::Committed => counters.writes += 1,
            _ => counters.failed += 1,
        }
        counters.unreadable += u64::from(observed.is_unreadable);
        if observed.transitions.is_empty() && observed.thrashing_events.is_empty() {
            return;
        }
        let Some(object) = slot.key() else { return };
        for (party, count) in observed.thrashing_events {
            self.thrashes.push(ThrashingEvent { object: object.clone(), party, count });
        }
        if !observed.transitions.is_empty() {
            let labels = table.with(&object, |state| state.labels(&policy.owner_labels)).unwrap_or_default();
            let transition = |change| Transition::new(object.clone(), change, labels.clone());
            self.transitions.extend(observed.transitions.into_iter().map(transition));
        }
    }

    /// Records event times in their order, and the time between them unless it contains gaps. Reads count as well: time
    /// passes for verdicts even if nobody writes.
    fn record_coverage(&mut self, samples: &[Micros], all: impl FnOnce() -> Vec<Micros>) {
        let plausible_times = self.plausible_times();
        self.stats.coverage.see(self.source, samples, plausible_times.from..=plausible_times.until, all);
        let TimeRange { since, until } = self.pipeline.range;
        let is_plausible = |at: &&Micros| (since..until).contains(*at) && plausible_times.of(**at).1.is_none();
        samples.iter().filter(is_plausible).for_each(|at| self.clock.advance(*at));
        if let Some(latest) = samples.iter().filter(is_plausible).max().filter(|_| self.pipeline.join.is_active()) {
            // A clock that is ahead must not make all others look late.
            // In a log that replicas share, what counts is when the event arrived, which is the same for all.
            let now = if self.pipeline.clocks.feed() == Feed::Live {
                self.arrival.unwrap_or_else(clock::now)
            } else {
                i64::MAX
            };
            self.pipeline.join.advance(self.cluster, self.source, (*latest).min(now));
        }
    }

    /// Sets the time of arrival of the events that follow.
    pub fn set_arrival(&mut self, at: Micros) {
        self.arrival = Some(at);
    }

    /// Says that the events that follow arrive now, although another replica with another clock has received them before.
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "other builds have no replicas"))]
    pub(crate) fn set_live(&mut self) {
        self.is_live = true;
    }

    /// Sets the source of the events that follow.
    pub fn set_source(&mut self, source: &'p str) {
        self.source = source;
    }

    /// Returns the counts of writes of this batch with implausible times, by source.
    pub fn doubts(&self) -> impl Iterator<Item = (&str, Doubts)> {
        self.stats.coverage.doubts()
    }

    /// Returns the counts of this batch so far.
    pub fn counters(&self) -> &Counters {
        &self.stats.counters
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if !self.is_only_counted {
            lock(&self.pipeline.unreported).extend(self.due());
            self.compact();
        }
        lock(&self.pipeline.stats).add(&self.stats);
    }
}
