//! The latest writes of an object with one client, with unparsed bodies. They become part of a history if a second client
//! writes.

use std::sync::Arc;

use smallvec::SmallVec;

use super::actor::Client;
use super::admission::Mutation;
use super::fields::{Bodies, Evidence, EvidenceLevel, Fields, RequestForm, Shape};
use super::ownership::Ownership;
use super::record::Record;
use super::write::{Effect, Part};
use super::write_history::LATE_MAX;
use super::write_order::WriteOrder;
use crate::audit::event::{Micros, Verb};

/// Maximum number of pending writes of one object. A writer that renews a lock every two seconds needs this many, so that
/// its writes are still here if the events of a second writer arrive a minute late.
const PENDING_MAX: usize = 64;

/// The latest writes of an object that has no history, in order. Mostly there is one.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingWrites {
    writes: SmallVec<[PendingWrite; 1]>,
    /// Bytes of kept bodies.
    bytes: usize,
}

/// One write of an object that has no history.
#[derive(Clone, Debug)]
pub(super) struct PendingWrite {
    /// Its position among the object's writes.
    pub order: WriteOrder,
    /// The client that wrote.
    pub client: Arc<Client>,
    /// The part of the object that it wrote.
    pub part: Part,
    /// The verb of the request.
    pub verb: Verb,
    /// Its effect.
    pub effect: Effect,
    /// Its evidence level.
    pub level: EvidenceLevel,
    /// Whether it certainly stored its revision.
    pub is_certain: bool,
    /// What a watch says about its field manager.
    pub ownership: Ownership,
    /// Whether it bound a Pod to a node, which contests nothing.
    pub is_binding: bool,
    /// Its bodies.
    pub bodies: RetainedBodies,
    /// The changes that webhooks made to it, if its bodies do not show them.
    #[expect(clippy::box_collection, reason = "most writes have none, and there are many: 8 bytes instead of 24")]
    pub mutations: Option<Box<Vec<Mutation>>>,
}

/// The bodies of a pending write, as far as they are kept.
#[derive(Clone, Debug)]
pub(super) enum RetainedBodies {
    /// There are none, or they were dropped to save memory.
    None,
    /// Unparsed.
    Raw(Box<RawBodies>),
    /// Parsed, with hashes instead of values. The bodies of Secrets are never kept.
    Parsed(Box<Evidence>),
}

/// Unparsed bodies, and what is needed to parse them.
#[derive(Clone, Debug)]
pub(super) struct RawBodies {
    shape: Shape,
    form: RequestForm,
    request: Option<Box<[u8]>>,
    response: Option<Box<[u8]>>,
}

// === impl PendingWrites ===

impl PendingWrites {
    /// Inserts a write at its position.
    pub(super) fn insert(&mut self, new: PendingWrite) {
        self.bytes += new.bodies.bytes();
        let later = self.writes.iter().rev().take_while(|r| new.order.is_before(&r.order)).count();
        if self.writes.len() == self.writes.capacity() {
            // Double the capacity. Few objects have more than one pending write.
            self.writes.reserve_exact(self.writes.len().max(1));
        }
        self.writes.insert(self.writes.len() - later, new);
    }

    /// Replaces the write that was believed to have stored the same revision. Returns `new` if there is none.
    pub(super) fn correct(&mut self, new: PendingWrite) -> Option<PendingWrite> {
        let Some(same) = self.writes.iter_mut().find(|r| r.order.is_same_revision(&new.order)) else {
            return Some(new);
        };
        self.bytes = self.bytes + new.bodies.bytes() - same.bodies.bytes();
        *same = new;
        None
    }

    /// Removes the oldest write if it is too old, or if there are too many. Returns it. The last body of the object's main
    /// part stays, however old: the next writer changes that state.
    pub(super) fn pop_expired(&mut self) -> Option<PendingWrite> {
        let newest = self.writes.last()?.order.at;
        let has_main_body = |r: &PendingWrite| r.part == Part::Main && !matches!(r.bodies, RetainedBodies::None);
        let is_last_body = has_main_body(self.writes.first()?) && !self.writes[1..].iter().any(has_main_body);
        let index = usize::from(is_last_body);
        let is_old = self.writes.get(index).is_some_and(|r| newest - r.order.at > LATE_MAX);
        let is_expired = self.writes.len() > PENDING_MAX || is_old;
        is_expired.then(|| {
            let oldest = self.writes.remove(index);
            self.bytes -= oldest.bodies.bytes();
            oldest
        })
    }

    /// Whether late writes can no longer arrive before any of these.
    pub(super) fn is_expired(&self, now: Micros) -> bool {
        self.writes.last().is_none_or(|r| now - r.order.at > LATE_MAX)
    }

    /// Returns the writes in order.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, PendingWrite> {
        self.writes.iter()
    }

    /// Returns the bytes of kept bodies.
    pub(super) fn body_bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the approximate bytes of the writes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<PendingWrites>() + self.writes.len() * size_of::<PendingWrite>() + self.bytes
    }

    /// Drops the bodies to save memory.
    pub(super) fn drop_bodies(&mut self) {
        self.writes.iter_mut().for_each(|r| r.bodies = RetainedBodies::None);
        self.bytes = 0;
    }
}

impl IntoIterator for PendingWrites {
    type Item = PendingWrite;
    type IntoIter = smallvec::IntoIter<[PendingWrite; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.writes.into_iter()
    }
}

// === impl PendingWrite ===

impl PendingWrite {
    /// Parses the write into a record. `like` are the bodies of another write to the same object; `known` are the object's
    /// fields before it, as far as they are known.
    pub(super) fn into_record(self, like: &Bodies<'_>, known: Option<&Fields>) -> Record {
        let evidence = match self.bodies {
            RetainedBodies::None => Evidence::None,
            RetainedBodies::Parsed(evidence) => *evidence,
            RetainedBodies::Raw(raw) => {
                let (request, response) = (raw.request.as_deref(), raw.response.as_deref());
                let (verb, effect, shape, form) = (self.verb, self.effect, raw.shape, raw.form);
                let (group, resource, is_hidden) = (like.group, like.resource, like.is_hidden);
                Bodies { group, resource, verb, effect, shape, form, is_hidden, request, response }.evidence(known)
            }
        };
        let record = Record::new(self.order, self.client, self.verb, self.effect, self.part, self.level, evidence);
        let mut record = record.with_mutations(self.mutations.map(|mutations| *mutations).unwrap_or_default());
        record.is_certain = self.is_certain;
        record.ownership = self.ownership;
        record
    }

    /// Returns the object's unparsed body: the stored one or, without it, the requested one.
    pub(super) fn body(&self) -> Option<&[u8]> {
        match &self.bodies {
            _ if self.effect == Effect::Delete => None,
            RetainedBodies::Raw(raw) if raw.shape == Shape::Whole => raw.response.as_deref(),
            RetainedBodies::Raw(raw) if raw.shape == Shape::Object && self.verb != Verb::Patch => {
                raw.request.as_deref()
            }
            RetainedBodies::Raw(_) | RetainedBodies::None | RetainedBodies::Parsed(_) => None,
        }
    }
}

// === impl RetainedBodies ===

impl RetainedBodies {
    /// Keeps the bodies that a later analysis needs.
    pub(super) fn of(bodies: &Bodies<'_>) -> RetainedBodies {
        // If the stored object is known, the request of an update adds nothing.
        let is_stored = bodies.shape == Shape::Whole && bodies.verb != Verb::Patch;
        let request = bodies.request.filter(|_| !is_stored);
        let response = bodies.response.filter(|_| bodies.shape != Shape::Object);
        match (request, response) {
            (None, None) => RetainedBodies::None,
            _ if bodies.is_secret() => RetainedBodies::Parsed(Box::new(bodies.evidence(None))),
            _ => RetainedBodies::Raw(Box::new(RawBodies {
                shape: bodies.shape,
                form: bodies.form,
                request: request.map(Into::into),
                response: response.map(Into::into),
            })),
        }
    }

    /// Returns the bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        match self {
            RetainedBodies::None => 0,
            RetainedBodies::Raw(raw) => {
                let len = |body: &Option<Box<[u8]>>| body.as_ref().map_or(0, |b| b.len());
                len(&raw.request) + len(&raw.response)
            }
            RetainedBodies::Parsed(evidence) => evidence.bytes(),
        }
    }
}

#[cfg(test)]
#[path = "pending_writes/tests.rs"]
mod tests;
