//! The existence of the object: who creates and deletes it, and whether that is a war.

use std::sync::Arc;

use smallvec::SmallVec;

use super::actor::Client;
use super::actor_class::{ActorClass, Role};
use super::cooperation::{CooperationRule, FINISHED_JOB, RESTART};
use super::field_history::{Author, Retake, Step};
use super::fields::EvidenceLevel;
use super::policy::ObjectLimits;
use super::war::WarId;
use super::write::Effect;
use crate::audit::event::Micros;

/// Maximum number of actors that are tracked.
const AUTHORS_MAX: usize = 16;

/// The creations and deletions of the object.
#[derive(Clone, Debug, Default)]
pub(super) struct Existence {
    last: Option<(Effect, Author)>,
    authors: SmallVec<[Author; 2]>,
    pub(super) retakes: u32,
    pub(super) war: Option<WarId>,
    pub(super) counts: SmallVec<[(Arc<Client>, Effect, u32); 2]>,
    /// A hash of the contents of the last creation.
    content: Option<u64>,
    /// Whether the last creation had the same contents as the one before, or its contents are not known.
    is_unchanged: bool,
}

/// A creation or a deletion.
pub(super) struct ExistenceEvent<'a> {
    pub(super) effect: Effect,
    pub(super) author: &'a Author,
    pub(super) level: EvidenceLevel,
    /// For a creation, a hash of the object's contents, if they are known.
    pub(super) content: Option<u64>,
}

// === impl Existence ===

impl Existence {
    /// Whether the object is deleted.
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted_at().is_some()
    }

    /// Returns when the object was deleted, if it was not created again.
    pub(super) fn deleted_at(&self) -> Option<Micros> {
        self.last.as_ref().filter(|(effect, _)| *effect == Effect::Delete).map(|(_, author)| author.at)
    }

    /// Processes the next creation or deletion in order. A deletion of a deleted object only completes the first one.
    pub(super) fn step<'l>(&mut self, event: &ExistenceEvent<'_>, on: &ObjectLimits<'l>) -> Step<'l> {
        let author = event.author;
        if event.effect == Effect::Delete && self.is_deleted() {
            return Step::None;
        }
        let oldest = author.at.saturating_sub(on.limits.window());
        self.authors.retain(|a| a.at >= oldest);
        if event.effect == Effect::Create {
            self.is_unchanged = event.content.is_none() || event.content == self.content;
            self.content = event.content.or(self.content);
        }
        let earlier = self.authors.iter().filter(|a| a.client.is_same_actor(&author.client)).map(|a| a.at).max();
        let step = match (&self.last, earlier) {
            (Some((effect, last)), Some(since))
                if *effect != event.effect && !last.client.is_same_actor(&author.client) =>
            {
                self.retake(event, last, since, on)
            }
            _ => Step::None,
        };
        self.retakes += u32::from(matches!(step, Step::Retake(_)));
        let is_it = |c: &(Arc<Client>, Effect, u32)| c.1 == event.effect && *c.0 == *author.client;
        match self.counts.iter().position(is_it) {
            Some(index) => self.counts[index].2 += 1,
            None if self.counts.len() < AUTHORS_MAX => self.counts.push((author.client.clone(), event.effect, 1)),
            None => {}
        }
        self.last = Some((event.effect, author.clone()));
        self.authors.retain(|a| !a.client.is_same_actor(&author.client));
        self.authors.push(author.clone());
        if self.authors.len() > AUTHORS_MAX {
            self.authors.remove(0);
        }
        step
    }

    fn retake<'l>(&self, event: &ExistenceEvent<'_>, last: &Author, since: Micros, on: &ObjectLimits<'l>) -> Step<'l> {
        let author = event.author;
        let (creator, deleter) = match event.effect {
            Effect::Delete => (&last.client, &author.client),
            _ => (&author.client, &last.client),
        };
        if creator.is_unknown() || deleter.is_unknown() {
            return Step::None;
        }
        // The garbage collector follows the deletion of an owner. If there is a war, it is over the owner.
        if is_named(deleter, "generic-garbage-collector") {
            return Step::None;
        }
        if let Some(row) = self.cooperation(creator, deleter, on) {
            return Step::Cooperation(row, last.client.clone());
        }
        Step::Retake(Retake {
            level: event.level,
            is_reversal: event.level == EvidenceLevel::Value,
            party: author.client.actor.clone(),
            from: last.client.actor.clone(),
            since,
        })
    }

    fn cooperation<'l>(
        &self,
        creator: &Client,
        deleter: &Client,
        on: &ObjectLimits<'l>,
    ) -> Option<&'l CooperationRule> {
        let known = &on.limits.cooperations;
        let is_restart = on.is("", "pods") && creator.class == ActorClass::Controller;
        // A controller or GitOps tool that creates an identical Job again insists on it. A pipeline starts its next
        // run.
        let insists = self.is_unchanged && matches!(creator.class, ActorClass::Controller | ActorClass::Gitops);
        let is_finished = on.is("batch", "jobs") && is_named(deleter, "ttl-after-finished-controller") && !insists;
        let row = known.find(on.group, on.resource, "(object)", creator, deleter);
        row.or_else(|| known.mechanism(RESTART).filter(|_| is_restart))
            .or_else(|| known.mechanism(FINISHED_JOB).filter(|_| is_finished && creator.role != Role::InTree))
    }
}

fn is_named(client: &Client, name: &str) -> bool {
    client.actor.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with([':', '/']))
}

#[cfg(test)]
#[path = "existence/tests.rs"]
mod tests;
