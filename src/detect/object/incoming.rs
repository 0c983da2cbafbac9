//! A committed write that is not part of the object's state yet. Determines its order among the object's writes, its
//! evidence level, and whether it stored the resourceVersion in its response, or another request had stored it.

use std::sync::Arc;

use crate::audit::event::{Level, Micros};
use crate::detect::actor::Client;
use crate::detect::admission;
use crate::detect::fields::{Bodies, Evidence, EvidenceLevel, Fields};
use crate::detect::ownership::Ownership;
use crate::detect::pending_writes::{PendingWrite, RetainedBodies};
use crate::detect::policy::Limits;
use crate::detect::record::Record;
use crate::detect::write::{Effect, Part, Standing, Write};
use crate::detect::write_order::WriteOrder;

/// A committed write with its client, order and bodies.
pub(super) struct Incoming<'a, 'w> {
    pub(super) write: &'a Write<'w>,
    pub(super) client: &'a Arc<Client>,
    pub(super) order: WriteOrder,
    /// The most that a write of this audit level can show.
    pub(super) evidence_level: EvidenceLevel,
    pub(super) bodies: Bodies<'w>,
    /// Whether a mutating webhook changed the request.
    is_mutated: bool,
}

/// What the answer to a write says about the revision that it names.
#[derive(PartialEq)]
pub(super) enum Revision {
    /// The write stored it.
    New,
    /// The object had it already: the write changed nothing.
    Found,
    /// The write stored it, and not this other client, to which it was attributed before.
    Corrects(Arc<Client>),
    /// It is known already that the write stored it, but of its client, only this field manager.
    Identifies(Arc<Client>),
    /// It is known already that the write stored it, but less about it.
    Completes,
}

/// An earlier request that was answered with the same revision.
pub(super) struct StoredRevision<'a> {
    pub(super) at: Micros,
    pub(super) client: &'a Arc<Client>,
    /// Whether it is certain that this request stored the revision.
    pub(super) is_certain: bool,
    /// The part of the object that it changed, if that is known.
    pub(super) changed_part: Option<Part>,
    /// Its evidence level.
    pub(super) level: EvidenceLevel,
}

// === impl Incoming ===

impl<'a, 'w> Incoming<'a, 'w> {
    pub(super) fn new(
        write: &'a Write<'w>,
        client: &'a Arc<Client>,
        order: WriteOrder,
        is_mutated: bool,
        limits: &Limits,
    ) -> Incoming<'a, 'w> {
        let evidence_level = evidence_level_of(write);
        Incoming { write, client, order, evidence_level, bodies: Bodies::of(write, limits), is_mutated }
    }

    /// Whether there is a body from which more than the written part could be learned.
    pub(super) fn has_readable_body(&self) -> bool {
        let has_body = self.bodies.request.is_some() || self.bodies.response.is_some();
        has_body && self.evidence_level > EvidenceLevel::Object
    }

    /// Returns the write with its bodies unparsed.
    pub(super) fn pending_write(&self) -> PendingWrite {
        let write = self.write;
        // A stored object shows what webhooks changed; a request alone does not.
        let has_mutations = self.evidence_level == EvidenceLevel::Field && self.is_mutated;
        let mutations = || Box::new(admission::mutations(write, &self.bodies, &self.bodies.evidence(None), None));
        PendingWrite {
            order: self.order,
            client: self.client.clone(),
            part: write.part,
            verb: write.event.verb,
            effect: write.effect,
            level: self.evidence_level,
            is_certain: is_certain(write),
            ownership: Ownership::of(write.event),
            is_binding: write.subresource == "binding",
            bodies: RetainedBodies::of(&self.bodies),
            mutations: has_mutations.then(mutations),
        }
    }

    /// Returns the write with its bodies parsed. `known` are the object's fields before it, as far as they are known.
    pub(super) fn record(&self, is_no_op: bool, known: Option<&Fields>) -> Record {
        let write = self.write;
        let evidence = self.bodies.evidence(known);
        let mutations =
            if self.is_mutated { admission::mutations(write, &self.bodies, &evidence, known) } else { Vec::new() };
        let level = match &evidence {
            Evidence::None if write.effect == Effect::Delete => self.evidence_level,
            Evidence::None => EvidenceLevel::Object,
            Evidence::Intents { level, .. } | Evidence::Whole { level, .. } => *level,
        };
        // A no-op has no revision of its own. It is recorded for what it requested and the server did not store.
        let order = if is_no_op { WriteOrder { revision: 0, ..self.order } } else { self.order };
        let (client, verb) = (self.client.clone(), write.event.verb);
        let record = Record::new(order, client, verb, write.effect, write.part, level, evidence);
        let mut record = record.with_mutations(mutations);
        record.is_certain = is_certain(write);
        record.ownership = Ownership::of(write.event);
        record.is_no_op = is_no_op;
        record
    }
}

// === impl Revision ===

impl Revision {
    /// Determines whether a write stored the revision that it was answered with. Of two requests with the same revision
    /// only one stored it: the one for which that is certain, or whose part was changed, or the earlier one.
    pub(super) fn of<'s>(
        write: &Write<'_>,
        client: &Client,
        order: &WriteOrder,
        same: impl FnOnce() -> Option<StoredRevision<'s>>,
    ) -> Revision {
        if write.standing == Standing::NoOp
            || (write.stored.resource_version != 0 && write.stored.resource_version == write.replaced)
        {
            return Revision::Found;
        }
        if !order.is_stored() {
            return Revision::New;
        }
        let Some(same) = same() else { return Revision::New };
        if write.event.is_watched() && same.client.as_ref() == client {
            // The same write, which a second watch shows with values.
            let is_better = evidence_level_of(write) > same.level;
            return if is_better { Revision::Completes } else { Revision::Found };
        }
        if same.client.is_manager != client.is_manager {
            // The same write, of which a watch shows only the field manager.
            return if client.is_manager { Revision::Found } else { Revision::Identifies(same.client.clone()) };
        }
        let is_found = if same.is_certain {
            true
        } else if is_certain(write) {
            false
        } else {
            same.changed_part.is_some_and(|part| part != write.part) || same.at <= order.at
        };
        if is_found { Revision::Found } else { Revision::Corrects(same.client.clone()) }
    }
}

/// Whether a write certainly stored the revision that it was answered with: an update of an earlier revision, a
/// creation, or a deletion, which marks the object. (The request that then removes the last finalizer is answered with
/// the same revision.)
fn is_certain(write: &Write<'_>) -> bool {
    let (stored, replaced) = (write.stored.resource_version, write.replaced);
    write.effect != Effect::Modify || (stored != 0 && replaced != 0 && stored != replaced)
}

/// Returns the most that a write of its audit level can show.
pub(super) fn evidence_level_of(write: &Write<'_>) -> EvidenceLevel {
    let event = write.event;
    match event.level {
        Level::RequestResponse if event.response_object.is_some() => EvidenceLevel::Value,
        Level::Metadata => EvidenceLevel::Object,
        _ if event.request_object.is_some() => EvidenceLevel::Field,
        // A deletion may be sent without options.
        _ if write.effect == Effect::Delete => EvidenceLevel::Field,
        _ => EvidenceLevel::Object,
    }
}

/// Returns the order of a write among the writes of its object.
pub(super) fn order_of(write: &Write<'_>) -> WriteOrder {
    let claimed = write.event.object_ref.as_ref().map_or("", |o| o.uid.as_ref());
    let uid = if write.stored.uid.is_empty() { claimed } else { write.stored.uid };
    WriteOrder {
        revision: WriteOrder::revision(write.stored.resource_version, write.replaced),
        uid: if uid.is_empty() { 0 } else { crate::detect::hash(uid) },
        at: write.at,
        is_last: write.effect == Effect::Delete && write.stored.is_gone,
    }
}
