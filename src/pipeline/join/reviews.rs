//! Reviews of an admission webhook, and the audit events of the same requests.
//!
//! A review shows fields and values, but not whether the write was stored; an audit event shows that, and may have no fields.
//! The answer to a review has the ID of the review as an audit annotation, and kube-apiserver notes it in the audit event of
//! the request. So the two belong together without doubt, also if clocks differ. A review waits for the audit event until all
//! sources of audit events have passed its time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::feeds::{Feeds, WAIT_MAX};
use super::held::{DISORDER, HeldEvent};
use super::{BYTES_MAX, KEPT, Release};
use crate::audit::event::{BEFORE_SUFFIX, Micros, REVIEW_PREFIX, review_id};
use crate::detect::write::Write;

/// Maximum number of reviews that are remembered, so that a late audit event does not count twice: 15 minutes of more than
/// a hundred writes a second.
const KNOWN_MAX: usize = 1 << 17;

/// The reviews of one cluster.
#[derive(Debug, Default)]
pub(super) struct Reviews {
    known: BTreeMap<u128, Known>,
    /// The known ones, in the order of their arrival.
    order: VecDeque<(Micros, u128)>,
    /// Those that wait, by time.
    waiting: BTreeSet<(Micros, u128)>,
    /// The sources of audit events.
    audit: Feeds,
    /// The time of the newest review.
    newest: Option<Micros>,
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
pub(super) struct Review {
    source: Box<str>,
    /// The time with which it waits.
    at: Micros,
    /// The object before the write.
    before: Option<HeldEvent>,
    write: Option<HeldEvent>,
}

/// What is known of the reviews of a request.
#[derive(Debug)]
pub(super) enum Found {
    /// What the request wrote: the object before it, and the write as the audit event and the review show it together.
    Write(Option<HeldEvent>, HeldEvent),
    /// The write was observed before, without the audit event.
    Observed,
    /// Not all of them have arrived, so that the audit event says the most.
    Unknown,
}

// === impl Reviews ===

impl Reviews {
    /// Keeps an event of a review. Returns whether it waits, or need not be observed at all.
    pub(super) fn add(&mut self, source: &str, write: &Write<'_>) -> bool {
        let Some((id, is_before)) = reviewed(&write.event.audit_id) else { return false };
        let event = HeldEvent::of(write);
        self.newest = self.newest.max(Some(event.at));
        if !self.known.contains_key(&id) {
            self.waiting.insert((event.at, id));
            let review = Review { source: source.into(), at: event.at, before: None, write: None };
            self.insert(id, Known::Waiting(review));
        }
        // Otherwise, it is repeated, or no longer needed.
        if let Some(Known::Waiting(review)) = self.known.get_mut(&id) {
            let part = if is_before { &mut review.before } else { &mut review.write };
            if part.is_none() {
                self.bytes += event.bytes();
                *part = Some(event);
            }
        }
        true
    }

    /// Records the time of an audit event.
    pub(super) fn record(&mut self, source: &str, at: Micros) {
        self.audit.record(source, at, false);
        self.audit.advance(source, at);
    }

    /// Records that a source has delivered its events up to this time.
    pub(super) fn advance(&mut self, source: &str, at: Micros) {
        if self.audit.contains(source) {
            self.audit.advance(source, at);
        }
    }

    /// Joins a write that was stored with its reviews. A request that had to be tried again was reviewed several times; the
    /// last of them was stored.
    pub(super) fn join(&mut self, ids: &[u128], write: &Write<'_>, released: &mut Vec<Release>) -> Found {
        let is_observed = ids.iter().any(|id| matches!(self.known.get(id), Some(Known::Observed(_))));
        let at = |id: &u128| match self.known.get(id) {
            Some(Known::Waiting(review)) => review.write.as_ref().map(|write| write.at),
            _ => None,
        };
        let is_whole = ids.iter().all(|id| at(id).is_some());
        let last = ids.iter().max_by_key(|id| at(id)).copied();
        let mut reviews = self.settle(ids, released);
        match last.and_then(|last| reviews.remove(&last)) {
            _ if is_observed => Found::Observed,
            Some(Review { before, write: Some(reviewed), .. }) if is_whole => {
                let joined = reviewed.with_outcome(write);
                Found::Write(before.map(|before| before.moved_to(joined.at)), joined)
            }
            _ => Found::Unknown,
        }
    }

    /// Records that the audit event of a request is known, and returns its reviews that were waiting.
    pub(super) fn settle(&mut self, ids: &[u128], released: &mut Vec<Release>) -> BTreeMap<u128, Review> {
        let mut reviews = BTreeMap::new();
        for id in ids {
            match self.insert(*id, Known::Decided) {
                Some(Known::Waiting(review)) => {
                    self.stop_waiting(*id, &review);
                    reviews.insert(*id, review);
                }
                Some(Known::Observed(source)) => released.push(Release::Confirmed(source)),
                Some(Known::Decided) | None => {}
            }
        }
        reviews
    }

    /// Releases the reviews whose audit events are not to be expected any more. With `is_end`, none is.
    pub(super) fn due(&mut self, is_end: bool, released: &mut Vec<Release>) {
        while let Some((at, id)) = self.waiting.first().copied()
            && (is_end || self.bytes > BYTES_MAX || self.has_passed(at))
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
        self.audit.latest().max(self.newest).unwrap_or(i64::MIN)
    }

    /// Whether no audit event about a review of this time is to be expected.
    fn has_passed(&self, at: Micros) -> bool {
        let Some(audit) = self.audit.progress().audit() else { return true };
        // Waits at most for a while, and not at all for sources that have stopped.
        audit >= at.saturating_add(DISORDER) || self.latest() >= at.min(audit).saturating_add(WAIT_MAX)
    }

    fn insert(&mut self, id: u128, known: Known) -> Option<Known> {
        let before = self.known.insert(id, known);
        if before.is_none() {
            self.order.push_back((self.latest(), id));
        }
        before
    }

    /// Releases a review without its audit event, if it waits.
    fn release(&mut self, id: u128, released: &mut Vec<Release>) {
        let is_it = matches!(self.known.get(&id), Some(Known::Waiting(_)));
        let Some(Known::Waiting(review)) = is_it.then(|| self.known.remove(&id)).flatten() else { return };
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
