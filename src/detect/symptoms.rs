//! Collects the properties of a war that determine its [`cause`], from what is known of its object.

use std::sync::Arc;

use super::actor::Client;
use super::actor_class::{ActorClassifier, Classification};
use super::assessment::WarAssessment;
use super::cause::{self, Explanation, Flapping, Symptoms};
use super::object::ObjectState;
use super::policy::Limits;
use super::record::Record;
use super::write_history::WriteHistory;

/// Returns the cause of a war, with the evidence for it.
pub(crate) fn explain(
    war: &WarAssessment<'_>,
    object: &ObjectState,
    classes: &ActorClassifier,
    limits: &Limits,
) -> Explanation {
    let of_parties = || {
        let failures = object.failures().into_iter().flat_map(|failures| failures.actors());
        failures.filter(|(actor, _)| war.parties.iter().any(|party| **party == ***actor)).map(|(_, failures)| failures)
    };
    let mut flapping = of_parties().filter(|failures| failures.alternations() >= limits.flapping_turns.get());
    cause::explain(&Symptoms {
        confidence: war.confidence,
        scope: war.scope,
        parties: war.parties.iter().map(|party| (&**party, class_of(party, object, classes).class)).collect(),
        is_over_form: war.is_over_form(),
        stale: of_parties().map(|failures| failures.stale).sum(),
        writes: war.parties.iter().map(|party| writes_of(party, object)).sum(),
        flapping: flapping.find_map(|failures| {
            let by = failures.rejections.keys().next()?;
            Some(Flapping { by, alternations: failures.alternations() })
        }),
    })
}

/// Returns the class and the role of a party.
pub(crate) fn class_of(party: &str, object: &ObjectState, classes: &ActorClassifier) -> Classification {
    let client = object.writers().iter().map(|writer| &writer.client).find(|client| client.is_named(party));
    let known = |client: &Arc<Client>| Classification { class: client.class, role: client.role };
    client.map_or_else(|| classes.classify(party, "", ""), known)
}

/// Returns the number of writes of a party. A webhook sends no requests, so its writes are the requests of others that it
/// changed.
pub(crate) fn writes_of(party: &str, object: &ObjectState) -> u32 {
    let mut own = object.writers().iter().filter(|writer| writer.client.is_named(party)).peekable();
    if own.peek().is_some() { own.map(|writer| writer.writes()).sum() } else { admitted(party, object).count() as u32 }
}

/// Returns the requests that a webhook changed, as far as they are kept.
pub(crate) fn admitted<'o>(webhook: &'o str, object: &'o ObjectState) -> impl Iterator<Item = &'o Record> {
    let records = object.history().into_iter().flat_map(WriteHistory::records);
    records.filter(move |record| record.is_admitted_by(webhook))
}
