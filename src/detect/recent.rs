//! Recent writes of an object without a contest, with unparsed bodies. They may become part of a contest later.

use std::sync::Arc;

use smallvec::SmallVec;

use super::actor::Client;
use super::admission::Mutation;
use super::contest::LATE_MAX;
use super::fields::{Bodies, Evidence, Fields, Shape, Tier};
use super::order::Order;
use super::record::Record;
use super::write::{Effect, Part};
use crate::audit::event::{Micros, Verb};

/// Writes of an object without a contest that are kept unread: enough for a writer that renews a lock every two seconds, so that a
/// second writer whose events arrive a minute late finds the first retakes still here.
const RECENT_MAX: usize = 64;

/// The latest writes of an object that has no contest, in order; mostly one.
#[derive(Clone, Debug, Default)]
pub struct Recents {
    writes: SmallVec<[Recent; 1]>,
    /// Bytes of kept bodies.
    bytes: usize,
}

/// One write of an object that has no contest.
#[derive(Clone, Debug)]
pub struct Recent {
    /// Its place.
    pub order: Order,
    /// Who wrote.
    pub client: Arc<Client>,
    /// Which part.
    pub part: Part,
    /// With which verb.
    pub verb: Verb,
    /// To which effect.
    pub effect: Effect,
    /// How much its event tells.
    pub tier: Tier,
    /// Whether it surely stored its revision.
    pub is_certain: bool,
    /// Whether it bound a pod to a node, which is no contest.
    pub is_binding: bool,
    /// Its bodies.
    pub bodies: Kept,
    /// What webhooks made of it, where its bodies do not show that.
    pub mutations: Option<Box<Vec<Mutation>>>,
}

/// The bodies of a recent write.
#[derive(Clone, Debug)]
pub enum Kept {
    /// None, or dropped to make room.
    None,
    /// As they came.
    Raw(Box<RawBodies>),
    /// Read at once, hashes only: a Secret's are never kept.
    Read(Box<Evidence>),
}

/// Bodies as they came, and what is needed to read them.
#[derive(Clone, Debug)]
pub struct RawBodies {
    shape: Shape,
    is_apply: bool,
    request: Option<Box<[u8]>>,
    response: Option<Box<[u8]>>,
}

// === impl Recents ===

impl Recents {
    /// Adds a write.
    pub fn put(&mut self, new: Recent) {
        self.bytes += new.bodies.bytes();
        let later = self.writes.iter().rev().take_while(|r| new.order.is_before(&r.order)).count();
        if self.writes.len() == self.writes.capacity() {
            // Twice as many: an object that is written to often enough to need all of them is rare.
            self.writes.reserve_exact(self.writes.len().max(1));
        }
        self.writes.insert(self.writes.len() - later, new);
    }

    /// Puts a write in place of the one that was taken to have stored its revision; gives it back where there is none.
    pub fn correct(&mut self, new: Recent) -> Option<Recent> {
        let Some(same) = self.writes.iter_mut().find(|r| r.order.is_same_revision(&new.order)) else {
            return Some(new);
        };
        self.bytes = self.bytes + new.bodies.bytes() - same.bodies.bytes();
        *same = new;
        None
    }

    /// Takes out the oldest one that is too old, or one too many. The last body of the object itself stays, however old: it is
    /// what the next writer finds.
    pub fn pop_over(&mut self) -> Option<Recent> {
        let newest = self.writes.last()?.order.at;
        let tells = |r: &Recent| r.part == Part::Main && !matches!(r.bodies, Kept::None);
        let is_last_body = tells(self.writes.first()?) && !self.writes[1..].iter().any(tells);
        let index = usize::from(is_last_body);
        let is_old = self.writes.get(index).is_some_and(|r| newest - r.order.at > LATE_MAX);
        let is_over = self.writes.len() > RECENT_MAX || is_old;
        is_over.then(|| {
            let oldest = self.writes.remove(index);
            self.bytes -= oldest.bodies.bytes();
            oldest
        })
    }

    /// Whether nobody can come late any more.
    pub fn is_over(&self, now: Micros) -> bool {
        self.writes.last().is_none_or(|r| now - r.order.at > LATE_MAX)
    }

    /// The writes, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Recent> {
        self.writes.iter()
    }

    /// Bytes of kept bodies.
    pub fn body_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that they take, roughly.
    pub fn bytes(&self) -> usize {
        size_of::<Recents>() + self.writes.len() * size_of::<Recent>() + self.bytes
    }

    /// Drops the bodies, to make room.
    pub fn drop_bodies(&mut self) {
        self.writes.iter_mut().for_each(|r| r.bodies = Kept::None);
        self.bytes = 0;
    }
}

impl IntoIterator for Recents {
    type Item = Recent;
    type IntoIter = smallvec::IntoIter<[Recent; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.writes.into_iter()
    }
}

// === impl Recent ===

impl Recent {
    /// The write as a record, its bodies read like those of `like`, another write of the object; `known` is what is known
    /// of the object before it.
    pub fn record(self, like: &Bodies<'_>, known: Option<&Fields>) -> Record {
        let evidence = match self.bodies {
            Kept::None => Evidence::None,
            Kept::Read(evidence) => *evidence,
            Kept::Raw(raw) => {
                let (request, response) = (raw.request.as_deref(), raw.response.as_deref());
                let (verb, effect, shape, is_apply) = (self.verb, self.effect, raw.shape, raw.is_apply);
                let (group, resource, is_hidden) = (like.group, like.resource, like.is_hidden);
                Bodies { group, resource, verb, effect, shape, is_apply, is_hidden, request, response }.evidence(known)
            }
        };
        let record = Record::new(self.order, self.client, self.verb, self.effect, self.part, self.tier, evidence);
        let mut record = record.with_mutations(self.mutations.map(|mutations| *mutations).unwrap_or_default());
        record.is_certain = self.is_certain;
        record
    }

    /// The object's body, unread: as stored, else as asked for.
    pub fn object(&self) -> Option<&[u8]> {
        match &self.bodies {
            _ if self.effect == Effect::Delete => None,
            Kept::Raw(raw) if raw.shape == Shape::Whole => raw.response.as_deref(),
            Kept::Raw(raw) if raw.shape == Shape::Object && self.verb != Verb::Patch => raw.request.as_deref(),
            Kept::Raw(_) | Kept::None | Kept::Read(_) => None,
        }
    }
}

// === impl Kept ===

impl Kept {
    /// What of these bodies is kept.
    pub fn of(bodies: &Bodies<'_>) -> Kept {
        // Of an update whose stored result is known, the request tells nothing more.
        let is_told = bodies.shape == Shape::Whole && bodies.verb != Verb::Patch;
        let request = bodies.request.filter(|_| !is_told);
        let response = bodies.response.filter(|_| bodies.shape != Shape::Object);
        match (request, response) {
            (None, None) => Kept::None,
            _ if bodies.is_secret() => Kept::Read(Box::new(bodies.evidence(None))),
            _ => Kept::Raw(Box::new(RawBodies {
                shape: bodies.shape,
                is_apply: bodies.is_apply,
                request: request.map(Into::into),
                response: response.map(Into::into),
            })),
        }
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        match self {
            Kept::None => 0,
            Kept::Raw(raw) => {
                let len = |body: &Option<Box<[u8]>>| body.as_ref().map_or(0, |b| b.len());
                len(&raw.request) + len(&raw.response)
            }
            Kept::Read(evidence) => evidence.bytes(),
        }
    }
}

#[cfg(test)]
#[path = "recent/tests.rs"]
mod tests;
