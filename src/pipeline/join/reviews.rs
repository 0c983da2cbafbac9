//! Reviews of an admission webhook, and the audit events of the same requests.
//!
//! A review shows fields and values, but not whether the write was stored; an audit event shows that, and may have no fields.
//! The answer to a review has the ID of the review as an audit annotation, and kube-apiserver notes it in the audit event of
//! the request. So the two belong together without doubt, also if clocks differ. Whichever is first waits for the other one:
//! live that is the review, and when a journal is replayed the audit event, whose time is earlier.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::feeds::{Feeds, WAIT_MAX};
use super::held::{BYTES_MAX, DISORDER, HeldEvent, KEPT, SECOND};
use super::object::Release;
use crate::audit::event::{BEFORE_SUFFIX, Level, Micros, REVIEW_PREFIX, review_id};
use crate::detect::write::Write;

/// Maximum number of reviews that are remembered, so that a late audit event does not count twice: 15 minutes of more than
/// a hundred writes a second.
const KNOWN_MAX: usize = 1 << 17;
/// How much later than its review a request may end. Other webhooks may take 30 seconds.
const REQUEST_MAX: Micros = 30 * SECOND;
/// How far the audit events must be behind for their source to count as stopped: more than a source that buffers is.
const STOPPED: Micros = 10 * 60 * SECOND;
/// Maximum number of audit events in a row whose reviews do not arrive. Then another server gets the reviews.
const UNANSWERED_MAX: u32 = 16;

/// The reviews of one cluster.
#[derive(Debug, Default)]
pub(super) struct Reviews {
    known: BTreeMap<u128, Known>,
    /// The known ones, in the order of their arrival.
    order: VecDeque<(Micros, u128)>,
    /// Those that wait, by time.
    waiting: BTreeSet<(Micros, u128)>,
    /// Audit events whose reviews have not all arrived, by the time until which they wait.
    early: BTreeMap<(Micros, u64), EarlyEvent>,
    /// The reviews that they wait for.
    missing: BTreeMap<u128, (Micros, u64)>,
    /// Number of early events so far.
    count: u64,
    /// Number of early events since the last review, of which no review arrived.
    unanswered: u32,
    /// The sources of audit events.
    audit: Feeds,
    /// The time of the newest review.
    newest: Option<Micros>,
    /// The latest time of any source.
    now: Option<Micros>,
    bytes: usize,
}

/// What happened to a review.
#[derive(Debug)]
enum Known {
    /// It waits for its audit event.
    Waiting(Review),
    /// It was observed without its audit event. It came from this source.
    Observed(Box<str>),
    /// Its audit event is known.
    Decided,
}

/// The events of a review.
#[derive(Debug)]
struct Review {
    source: Box<str>,
    /// The time with which it waits.
    at: Micros,
    /// The object before the write.
    before: Option<HeldEvent>,
    write: Option<HeldEvent>,
}

/// An audit event that arrived before its reviews.
#[derive(Debug)]
struct EarlyEvent {
    event: HeldEvent,
    reviews: Vec<u128>,
    /// Whether it is not known whether it was stored.
    is_uncertain: bool,
}

/// What is known of the reviews of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All of them. The write is released as the audit event and the last review show it together.
    All,
    /// The write was observed before, without the audit event.
    Observed,
    /// Not all.
    Missing,
}

// === impl Reviews ===

impl Reviews {
    /// Keeps an event of a review. Returns whether it waits, or need not be observed at all.
    pub(super) fn add(&mut self, source: &str, write: &Write<'_>, released: &mut Vec<Release>) -> bool {
        let Some((id, is_before)) = reviewed(&write.event.audit_id) else { return false };
        self.newest = self.newest.max(Some(write.at));
        self.unanswered = 0;
        if !self.known.contains_key(&id) {
            self.waiting.insert((write.at, id));
            let review = Review { source: source.into(), at: write.at, before: None, write: None };
            self.insert(id, Known::Waiting(review));
        }
        // Otherwise, it is repeated, or no longer needed.
        if let Some(Known::Waiting(review)) = self.known.get_mut(&id) {
            let part = if is_before { &mut review.before } else { &mut review.write };
            if part.is_none() {
                let event = HeldEvent::of(write);
                self.bytes += event.bytes();
                *part = Some(event);
            }
        }
        if !is_before
            && let Some(key) = self.missing.get(&id).copied()
            && self.early.get(&key).is_some_and(|early| self.is_whole(&early.reviews))
        {
            self.resolve(key, released);
        }
        true
    }

    /// Records a source of audit events.
    pub(super) fn record(&mut self, source: &str, at: Micros) {
        self.audit.record(source, at, false);
    }

    /// Records that a source has delivered its events up to this time.
    pub(super) fn advance(&mut self, source: &str, at: Micros) {
        self.now = self.now.max(Some(at));
        if self.audit.contains(source) {
            self.audit.advance(source, at);
        }
    }

    /// Whether reviews arrived until shortly before this time.
    pub(super) fn is_alive(&self, at: Micros) -> bool {
        self.newest.is_some_and(|newest| newest >= at.saturating_sub(WAIT_MAX))
    }

    /// Returns what is known of the reviews of a request.
    pub(super) fn find(&self, ids: &[u128]) -> Found {
        if ids.iter().any(|id| matches!(self.known.get(id), Some(Known::Observed(_)))) {
            Found::Observed
        } else if self.is_whole(ids) {
            Found::All
        } else {
            Found::Missing
        }
    }

    /// Joins the audit event of a write with its reviews, as far as they are known. A request that had to be tried again was
    /// reviewed several times; the last of them was stored.
    pub(super) fn join(&mut self, ids: &[u128], event: HeldEvent, released: &mut Vec<Release>) {
        let mut reviews = self.settle(ids);
        let last = reviews.iter().filter(|(_, review)| review.write.is_some()).max_by_key(|(_, review)| review.at);
        let last = last.map(|(id, _)| *id).and_then(|id| reviews.remove(&id));
        let Some(Review { at, before, write: Some(write), .. }) = last else {
            return released.push(Release::Plain(event));
        };
        let joined = write.with_outcome(&event, at);
        released.extend(before.map(|before| Release::Plain(before.moved_to(joined.at))));
        released.push(Release::Reviewed { event: joined, is_needed: event.level() == Level::Metadata });
    }

    /// Keeps an audit event until its reviews arrive. Returns whether it waits.
    pub(super) fn hold(&mut self, ids: &[u128], event: HeldEvent, is_uncertain: bool) -> bool {
        if self.unanswered > UNANSWERED_MAX {
            self.settle(ids);
            return false;
        }
        let key = (event.until().saturating_add(DISORDER), self.count);
        self.count += 1;
        self.bytes += event.bytes();
        self.missing.extend(ids.iter().map(|id| (*id, key)));
        self.early.insert(key, EarlyEvent { event, reviews: ids.to_vec(), is_uncertain });
        true
    }

    /// Records that the audit event of a request shows that nothing was stored, or what was.
    pub(super) fn drop_all(&mut self, ids: &[u128]) {
        self.settle(ids);
    }

    /// Records that reviews that were observed are known to have been stored.
    pub(super) fn confirm(&mut self, ids: &[u128], released: &mut Vec<Release>) {
        for id in ids {
            if let Some(Known::Observed(source)) = self.known.get_mut(id) {
                released.push(Release::Confirmed(std::mem::take(source)));
            }
        }
        self.settle(ids);
    }

    /// Releases the reviews of a request of which it is not known whether it was stored.
    pub(super) fn release_all(&mut self, ids: &[u128], released: &mut Vec<Release>) {
        ids.iter().for_each(|id| self.release(*id, released));
    }

    /// Releases what need not wait for its counterpart any longer. With `is_end`, nothing does.
    pub(super) fn due(&mut self, is_end: bool, released: &mut Vec<Release>) {
        while let Some(key @ (at, _)) = self.early.first_key_value().map(|(key, _)| *key)
            && (is_end || self.bytes > BYTES_MAX || self.has_reviews_until(at))
        {
            self.resolve(key, released);
        }
        while let Some((at, id)) = self.waiting.first().copied()
            && (is_end || self.bytes > BYTES_MAX || self.has_audit_events_until(at))
        {
            self.release(id, released);
        }
        let newest = self.latest();
        while let Some((at, id)) = self.order.front().copied()
            && (newest.saturating_sub(at) > KEPT || self.order.len() > KNOWN_MAX)
        {
            self.order.pop_front();
            self.release(id, released);
            self.known.remove(&id);
        }
    }

    fn latest(&self) -> Micros {
        self.audit.latest().max(self.newest).max(self.now).unwrap_or(i64::MIN)
    }

    /// Whether no audit event about a review of this time is to be expected.
    fn has_audit_events_until(&self, at: Micros) -> bool {
        let Some(audit) = self.audit.progress().audit() else { return true };
        audit >= at.saturating_add(REQUEST_MAX)
            || self.latest() >= at.saturating_add(WAIT_MAX)
            || at.saturating_sub(audit) > STOPPED
    }

    /// Whether no review of this time is to be expected.
    fn has_reviews_until(&self, at: Micros) -> bool {
        self.newest.is_some_and(|newest| newest >= at) || self.latest() >= at.saturating_add(WAIT_MAX)
    }

    /// Whether all of these reviews wait.
    fn is_whole(&self, ids: &[u128]) -> bool {
        let waits = |id| matches!(self.known.get(id), Some(Known::Waiting(Review { write: Some(_), .. })));
        ids.iter().all(waits)
    }

    fn insert(&mut self, id: u128, known: Known) -> Option<Known> {
        let before = self.known.insert(id, known);
        if before.is_none() {
            self.order.push_back((self.latest(), id));
        }
        before
    }

    /// Records that the audit event of a request is known. Returns its reviews that were waiting.
    fn settle(&mut self, ids: &[u128]) -> BTreeMap<u128, Review> {
        let mut reviews = BTreeMap::new();
        for id in ids {
            if let Some(Known::Waiting(review)) = self.insert(*id, Known::Decided) {
                self.stop_waiting(*id, &review);
                reviews.insert(*id, review);
            }
        }
        reviews
    }

    /// Releases an early event, with the reviews that have arrived.
    fn resolve(&mut self, key: (Micros, u64), released: &mut Vec<Release>) {
        let Some(EarlyEvent { event, reviews, is_uncertain }) = self.early.remove(&key) else { return };
        self.bytes -= event.bytes();
        for id in &reviews {
            self.missing.remove(id);
        }
        let is_known = |id| matches!(self.known.get(id), Some(Known::Waiting(_)));
        self.unanswered = if reviews.iter().any(is_known) { 0 } else { self.unanswered.saturating_add(1) };
        if is_uncertain && reviews.iter().any(is_known) {
            return self.release_all(&reviews, released);
        }
        self.join(&reviews, event, released);
    }

    /// Releases a review without its audit event, if it waits.
    fn release(&mut self, id: u128, released: &mut Vec<Release>) {
        let waits = matches!(self.known.get(&id), Some(Known::Waiting(_)));
        if waits && let Some(key) = self.missing.get(&id).copied() {
            // Its audit event waits for other reviews.
            return self.resolve(key, released);
        }
        let Some(Known::Waiting(review)) = waits.then(|| self.known.remove(&id)).flatten() else { return };
        self.stop_waiting(id, &review);
        // Otherwise, the write follows in the next chunk.
        if review.write.is_some() {
            released.push(Release::Unconfirmed(review.source.clone()));
            self.known.insert(id, Known::Observed(review.source));
        }
        released.extend(review.before.into_iter().chain(review.write).map(Release::Plain));
    }

    fn stop_waiting(&mut self, id: u128, review: &Review) {
        self.waiting.remove(&(review.at, id));
        self.bytes -= [&review.before, &review.write].into_iter().flatten().map(HeldEvent::bytes).sum::<usize>();
    }
}

/// Returns the ID of the review that an event was made of, and whether it shows the object before the write.
fn reviewed(audit_id: &str) -> Option<(u128, bool)> {
    let id = audit_id.strip_prefix(REVIEW_PREFIX)?;
    let (id, is_before) = id.strip_suffix(BEFORE_SUFFIX).map_or((id, false), |id| (id, true));
    Some((review_id(id)?, is_before))
}
