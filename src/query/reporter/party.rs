//! Builds the view of one actor of an object.

use std::collections::BTreeMap;

use crate::audit::event::Micros;
use crate::detect::actor_class::{ActorClass, ActorClassifier, Classification, Role};
use crate::detect::object::ObjectState;
use crate::detect::war::PartyTally;
use crate::query::views::Party;

/// Returns the view of the actor or webhook with the name `label`; `share` is its share of a war.
pub(super) fn of(classes: &ActorClassifier, label: &str, state: &ObjectState, share: Option<PartyTally>) -> Party {
    let share = share.unwrap_or_default();
    let mut party = Party {
        actor: label.to_owned(),
        class: ActorClass::Person,
        role: Role::Person,
        writes: 0,
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
    let mut client = None;
    for seen in state.writers().iter().filter(|s| s.client.is_named(label)) {
        client = client.or(Some(&seen.client));
        party.writes += seen.writes();
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
    Classification { class: party.class, role: party.role } = match client {
        Some(client) => Classification { class: client.class, role: client.role },
        None => classes.classify(label, "", ""),
    };
    if client.is_none() {
        // A webhook never sends requests. Its writes are the requests of others that it changed.
        let history = state.history().into_iter().flat_map(|c| c.records());
        let times: Vec<Micros> = history.filter(|r| r.is_admitted_by(label)).map(|r| r.order.at).collect();
        party.writes = times.len() as u32;
        party.first = times.iter().min().copied().unwrap_or(0);
        party.last = times.iter().max().copied().unwrap_or(0);
    }
    party
}
