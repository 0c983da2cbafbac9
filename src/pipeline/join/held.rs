//! Writes that wait to be joined, independent of the bytes that they were decoded from.

use std::sync::Arc;

use crate::audit::event::{Event, JOINED, Level, Micros, REVIEWED, UNDATED, Verb, WATCHED};
use crate::detect::write::{Effect, Outcome, Write};

/// Times of managers have whole seconds.
pub(super) const SECOND: Micros = 1_000_000;
/// How much later than its own time an event may follow in its feed, without being late: responses take time, and logs are
/// merged in chunks.
pub(super) const DISORDER: Micros = 2 * SECOND;
/// How long events are kept for late events of the other feed: as long as repeated requests are recognised at least.
pub(super) const KEPT: Micros = 15 * 60 * SECOND;
/// Maximum number of bytes that are kept for one cluster.
pub(super) const BYTES_MAX: usize = 32 << 20;
/// Maximum length of a field manager. The API server cuts off longer user agents.
const MANAGER_MAX: usize = 128;

/// An event that is kept.
#[derive(Clone, Debug)]
pub(in crate::pipeline) struct HeldEvent {
    event: Arc<Event<'static>>,
    request: Option<Arc<[u8]>>,
    response: Option<Arc<[u8]>>,
    /// The time that it counts with.
    pub(in crate::pipeline) at: Micros,
}

/// Whether a write is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It waits for its counterpart.
    Waiting,
    /// It was released, or turned out to be the counterpart of another one.
    Decided,
}

/// A write by an account, from the audit log.
#[derive(Clone, Debug)]
pub(super) struct AccountWrite {
    pub(super) event: HeldEvent,
    pub(super) status: Status,
    /// Whether it shows itself what it changed, so that the watch adds nothing.
    pub(super) has_fields: bool,
    manager: Box<str>,
    /// The operation of the manager, if it is known.
    is_apply: Option<bool>,
    effect: Effect,
    /// The revision that it stored, or 0.
    revision: u64,
    /// When the response was sent.
    pub(super) until: Micros,
    /// The API server or file that the event came from, whose clock its times are of.
    pub(super) source: Box<str>,
}

/// A revision by a field manager, from a watch.
#[derive(Clone, Debug)]
pub(super) struct ManagerWrite {
    pub(super) event: HeldEvent,
    pub(super) status: Status,
    /// The audit event of the same write.
    pub(super) account: Option<HeldEvent>,
    /// Whether its values have arrived since it was joined.
    pub(super) is_renewed: bool,
    /// Whether it does not show which fields were written.
    pub(super) is_blind: bool,
    /// The revision.
    pub(super) revision: u64,
    is_apply: bool,
    /// Whether its time is that of its manager, and not only that at which it was seen.
    is_dated: bool,
    effect: Effect,
}

/// Whether a write from the audit log shows itself what it changed.
pub(super) fn shows_fields(write: &Write<'_>) -> bool {
    revision(write) != 0 || write.event.is_mutated()
}

/// Returns the revision that a write stored, or 0.
fn revision(write: &Write<'_>) -> u64 {
    if write.stored.is_whole { write.stored.resource_version } else { 0 }
}

// === impl HeldEvent ===

impl HeldEvent {
    pub(super) fn of(write: &Write<'_>) -> HeldEvent {
        HeldEvent {
            event: Arc::new(write.event.detached()),
            request: write.event.request_object.map(Arc::from),
            response: write.event.response_object.map(Arc::from),
            at: write.at,
        }
    }

    /// Returns the event.
    pub(in crate::pipeline) fn event(&self) -> Event<'_> {
        let event: Event<'_> = (*self.event).clone();
        Event { request_object: self.request.as_deref(), response_object: self.response.as_deref(), ..event }
    }

    /// Returns the event with another time.
    pub(super) fn moved_to(self, at: Micros) -> HeldEvent {
        HeldEvent { at, ..self }
    }

    /// Returns the write that a review of this time shows, as its audit event says that it was stored.
    pub(super) fn with_outcome(&self, audit: &HeldEvent, at: Micros) -> HeldEvent {
        let reviewed = (*self.event).clone();
        let annotations = reviewed.annotations.into_iter().filter(|(key, _)| key != REVIEWED).collect();
        let event = Event {
            level: reviewed.level,
            // It has the UID of the object.
            object_ref: reviewed.object_ref,
            annotations,
            ..(*audit.event).clone()
        };
        let (request, response) = (self.request.clone(), self.response.clone());
        // A review is later than the arrival of its request, which may have waited or been tried again.
        HeldEvent { event: Arc::new(event), request, response, at: at.clamp(audit.at, audit.until()) }
    }

    /// Returns when the response was sent.
    pub(super) fn until(&self) -> Micros {
        self.event.staged.unwrap_or(self.at).max(self.at)
    }

    pub(super) fn level(&self) -> Level {
        self.event.level
    }

    /// Whether both are requests of one client. Its addresses may differ.
    pub(super) fn is_same_client(&self, other: &HeldEvent) -> bool {
        let (a, b) = (&self.event, &other.event);
        (&a.username, &a.impersonated, &a.user_agent, &a.pod) == (&b.username, &b.impersonated, &b.user_agent, &b.pod)
    }

    pub(super) fn bytes(&self) -> usize {
        let event = &self.event;
        let texts = event.request_uri.len() + event.user_agent.len() + event.username.len();
        let bodies = [&self.request, &self.response].into_iter().flatten().map(|body| body.len()).sum::<usize>();
        2 * size_of::<Event<'_>>() + texts + bodies
    }

    fn subresource(&self) -> &str {
        self.event.object_ref.as_ref().map_or("", |reference| &reference.subresource)
    }
}

// === impl AccountWrite ===

impl AccountWrite {
    pub(super) fn new(source: &str, write: &Write<'_>) -> AccountWrite {
        let event = write.event;
        let manager =
            write.field_manager.as_deref().unwrap_or_else(|| event.user_agent.split('/').next().unwrap_or(""));
        let end = (0..=MANAGER_MAX.min(manager.len())).rev().find(|at| manager.is_char_boundary(*at));
        let is_uncertain = write.outcome == Outcome::Uncertain;
        let has_fields = shows_fields(write);
        AccountWrite {
            event: HeldEvent::of(write),
            // It is not known whether an uncertain one was stored. It can only prevent a wrong conclusion.
            status: if has_fields || is_uncertain { Status::Decided } else { Status::Waiting },
            has_fields,
            manager: manager[..end.unwrap_or(0)].into(),
            is_apply: match event.verb {
                Verb::Patch => write.is_forced.then_some(true),
                _ => Some(false),
            },
            effect: write.effect,
            revision: revision(write),
            until: event.staged.unwrap_or(write.at).max(write.at),
            source: source.into(),
        }
    }

    /// Records that its fields are known, so that the watch adds nothing.
    pub(super) fn shows_fields(&mut self) {
        (self.has_fields, self.status) = (true, Status::Decided);
    }

    /// Returns when all revisions that may be this write have been seen.
    pub(super) fn due(&self) -> Micros {
        self.until.saturating_add(DISORDER)
    }

    /// Whether its answer has a revision.
    pub(super) fn has_revision(&self) -> bool {
        self.revision != 0
    }

    /// Whether it certainly stored this revision.
    pub(super) fn stored(&self, revision: u64) -> bool {
        revision != 0 && self.revision == revision
    }

    /// Whether it may have stored the revision.
    pub(super) fn may_be(&self, revision: &ManagerWrite) -> bool {
        let second = revision.second();
        let is_then = if revision.is_dated {
            second + SECOND > self.event.at && second <= self.until
        } else {
            self.may_be_at(revision.event.at)
        };
        is_then
            && self.effect == revision.effect
            && *self.manager == *revision.event.event.user_agent
            && self.event.subresource() == revision.event.subresource()
            && self.is_apply.is_none_or(|is_apply| is_apply == revision.is_apply)
    }

    /// Whether it may be a write that was seen at this time.
    pub(super) fn may_be_at(&self, seen: Micros) -> bool {
        (self.event.at - SECOND..=self.until + DISORDER).contains(&seen)
    }

    /// Ends its waiting. Returns the event if it waited.
    pub(super) fn settle(&mut self) -> Option<HeldEvent> {
        let was_waiting = std::mem::replace(&mut self.status, Status::Decided) == Status::Waiting;
        was_waiting.then(|| self.event.clone())
    }
}

// === impl ManagerWrite ===

impl ManagerWrite {
    pub(super) fn new(write: &Write<'_>, status: Status) -> ManagerWrite {
        let event = write.event;
        let has_values = event.level == Level::RequestResponse;
        ManagerWrite {
            event: HeldEvent::of(write),
            status,
            account: None,
            is_renewed: false,
            is_blind: !has_values && event.request_object.is_none_or(|fields| fields == b"{}"),
            revision: write.stored.resource_version,
            is_apply: event.annotation(WATCHED) == Some("Apply"),
            is_dated: event.annotation(UNDATED).is_none(),
            effect: write.effect,
        }
    }

    pub(super) fn is_same_revision(&self, other: &ManagerWrite) -> bool {
        self.revision != 0 && self.revision == other.revision
    }

    /// Replaces it by the same revision with values. Returns whether that one need not be observed for now.
    pub(super) fn replace(&mut self, new: ManagerWrite) -> bool {
        self.is_renewed = self.account.is_some();
        (self.event, self.is_blind) = (new.event, new.is_blind);
        self.is_renewed || self.status == Status::Waiting
    }

    /// Returns the second in which its manager wrote.
    pub(super) fn second(&self) -> Micros {
        self.event.at - self.event.at.rem_euclid(SECOND)
    }

    /// Returns when all audit events that may be this write have been seen. A request that takes long ends long after the
    /// time of its manager.
    pub(super) fn due(&self) -> Micros {
        let seen = self.event.event.staged.unwrap_or(self.event.at);
        seen.max(self.second().saturating_add(SECOND)).saturating_add(DISORDER)
    }

    /// Ends its waiting. Returns the event if it waited.
    pub(super) fn settle(&mut self) -> Option<HeldEvent> {
        let was_waiting = std::mem::replace(&mut self.status, Status::Decided) == Status::Waiting;
        was_waiting.then(|| self.event.clone())
    }

    /// Returns the revision as a write of its account, if that is known.
    pub(super) fn joined(&self) -> Option<HeldEvent> {
        let account = self.account.as_ref()?;
        let (revision, by) = (&self.event.event, &account.event);
        let mut annotations = revision.annotations.clone();
        annotations.push((JOINED.into(), revision.username.clone()));
        let event = Event {
            // Without fields, it says no more than the audit event, except for the revision.
            level: if self.is_blind { Level::Metadata } else { revision.level },
            audit_id: by.audit_id.clone(),
            request_uri: by.request_uri.clone(),
            username: by.username.clone(),
            impersonated: by.impersonated.clone(),
            pod: by.pod.clone(),
            source_ip: by.source_ip.clone(),
            user_agent: by.user_agent.clone(),
            received: by.received,
            staged: by.staged,
            annotations,
            ..(**revision).clone()
        };
        let request = self.event.request.clone().filter(|_| !self.is_blind);
        Some(HeldEvent { event: Arc::new(event), request, response: self.event.response.clone(), at: account.at })
    }
}
