//! Builds the view of one actor of an object.

use std::collections::BTreeMap;

use crate::audit::event::Micros;
use crate::detect::actor_class::{ActorClass, ActorClassifier, Classification, Role};
use crate::detect::object::ObjectState;
use crate::detect::symptoms;
use crate::detect::war::PartyTally;
use crate::query::views::Party;

/// Returns the view of the actor or webhook with the name `label`; `share` is its share of a war.
pub(super) fn of(classes: &ActorClassifier, label: &str, state: &ObjectState, share: Option<PartyTally>) -> Party {
    let share = share.unwrap_or_default();
    let mut party = Party {
        actor: label.to_owned(),
        is_field_manager: false,
        class: ActorClass::Person,
        role: Role::Person,
        writes: symptoms::writes_of(label, state),
        no_ops: 0,
        retakes: share.retakes,
        thrashing_events: share.thrashing_events,
        verbs: BTreeMap::new(),
        field_managers: Vec::new(),
        user_agents: Vec::new(),
        source_ips: Vec::new(),
        pods: Vec::new(),
        impersonated_by: Vec::new(),
        first: i64::MAX,
        last: i64::MIN,
    };
    let note = |list: &mut Vec<String>, word: &str| {
        if !word.is_empty() && !list.iter().any(|w| w == word) {
            list.push(word.to_owned());
        }
    };
    let mut has_client = false;
    for seen in state.writers().iter().filter(|s| s.client.is_named(label)) {
        has_client = true;
        party.is_field_manager |= seen.client.is_manager;
        party.no_ops += seen.no_ops;
        let (first, last) = seen.span(state.base());
        party.first = party.first.min(first);
        party.last = party.last.max(last);
        for (verb, count) in seen.verbs() {
            if count > 0 {
                *party.verbs.entry(verb.into()).or_default() += count;
            }
        }
        note(&mut party.field_managers, &seen.client.tool);
        note(&mut party.user_agents, &seen.client.user_agent);
        for origin in state.origins(&seen.client) {
            note(&mut party.source_ips, &origin.source_ip);
            note(&mut party.pods, &origin.pod);
            note(&mut party.impersonated_by, &origin.impersonator);
        }
    }
    Classification { class: party.class, role: party.role } = symptoms::class_of(label, state, classes);
    if !has_client {
        let times: Vec<Micros> = symptoms::admitted(label, state).map(|r| r.order.at).collect();
        party.first = times.iter().min().copied().unwrap_or(0);
        party.last = times.iter().max().copied().unwrap_or(0);
    }
    party
}
