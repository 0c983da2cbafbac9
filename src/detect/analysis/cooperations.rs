//! The co-operations of one object: actors that write the same field by design, how often, and whether too often.

use std::sync::Arc;

use crate::detect::actor::Client;
use crate::detect::cooperation::CooperationRule;
use crate::detect::field_history::Author;
use crate::detect::fields::{EvidenceLevel, Path};
use crate::detect::policy::Limits;
use crate::detect::war::{CountedRetake, Tally};

/// Maximum number of co-operations of one object.
pub(super) const COOPERATIONS_MAX: usize = 8;

/// Actors that write the same field by design.
#[derive(Clone, Debug)]
pub struct Cooperation {
    /// The rule's name.
    pub name: Arc<str>,
    /// Why it is not a war.
    pub reason: Arc<str>,
    /// What it is called if it happens too often; `None` if that is normal.
    pub excess: Option<Arc<str>>,
    /// The actors.
    pub actors: Vec<Arc<str>>,
    /// How often one actor wrote after the other, and whether that is too often.
    pub tally: Tally,
    /// The fields.
    pub paths: Vec<Path>,
}

/// The co-operations of one object, by rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Cooperations(Vec<Cooperation>);

// === impl Cooperations ===

impl Cooperations {
    pub(super) fn as_slice(&self) -> &[Cooperation] {
        &self.0
    }

    /// Returns the approximate bytes of the list.
    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<Cooperation>()
    }

    /// Counts a write that would be a retake without this rule.
    pub(super) fn record(
        &mut self,
        rule: &CooperationRule,
        path: Path,
        author: &Author,
        other: &Client,
        limits: &Limits,
    ) {
        let index = self.0.iter().position(|c| *c.name == *rule.name).or_else(|| {
            (self.0.len() < COOPERATIONS_MAX).then(|| {
                self.0.push(Cooperation {
                    name: rule.name.as_str().into(),
                    reason: rule.reason.as_str().into(),
                    excess: rule.excess.as_deref().map(Into::into),
                    actors: Vec::new(),
                    tally: Tally::default(),
                    paths: Vec::new(),
                });
                self.0.len() - 1
            })
        });
        if let Some(known) = index.and_then(|index| self.0.get_mut(index)) {
            known.record(path, author, other, limits);
        }
    }
}

// === impl Cooperation ===

impl Cooperation {
    /// Maximum number of actors and fields that are named.
    pub(super) const SHOWN_MAX: usize = 8;

    /// Counts one write once, regardless of the number of its fields.
    fn record(&mut self, path: Path, author: &Author, other: &Client, limits: &Limits) {
        for actor in [&author.client.actor, &other.actor] {
            if self.actors.len() < Self::SHOWN_MAX && !self.actors.contains(actor) {
                self.actors.push(actor.clone());
            }
        }
        if self.paths.len() < Self::SHOWN_MAX && !self.paths.contains(&path) {
            self.paths.push(path);
        }
        if self.tally.machine.last_retake() == author.at && self.tally.retakes > 0 {
            return;
        }
        let counted = CountedRetake {
            party: &author.client.actor,
            from: &other.actor,
            at: author.at,
            since: author.at,
            is_reversal: false,
            level: EvidenceLevel::Object,
            is_pausable: false,
        };
        self.tally.count(&counted, limits);
    }
}
