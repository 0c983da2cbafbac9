//! Builds the views of the wars over one object.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{fields, party};
use crate::detect::actor_class::{ActorClass, ActorClassifier};
use crate::detect::analysis::Analysis;
use crate::detect::assessment::{Assessment, WarAssessment};
use crate::detect::cause::Explanation;
use crate::detect::object::ObjectState;
use crate::detect::policy::Limits;
use crate::detect::symptoms;
use crate::detect::write_history::WriteHistory;
use crate::detect::writer_stats::WriterStats;
use crate::query::views::{Object, OtherWriter, Party, War, rate};

/// Returns the wars over an object, the most important first, without remedies, which depend on other objects.
pub(super) fn of(classes: &ActorClassifier, object: &Object, state: &ObjectState, limits: &Limits) -> Vec<War> {
    let Some(analysis) = state.history().map(WriteHistory::analysis) else { return Vec::new() };
    let assessment = Assessment::of(state);
    assessment.wars().map(|war| war_of(classes, object, state, analysis, war, limits)).collect()
}

fn war_of(
    classes: &ActorClassifier,
    object: &Object,
    state: &ObjectState,
    analysis: &Analysis,
    war: &WarAssessment<'_>,
    limits: &Limits,
) -> War {
    let tally = war.tally;
    let share = |label: &Arc<str>| tally.parties.get(label).copied().unwrap_or_default();
    let mut parties: Vec<Party> =
        war.parties.iter().map(|label| party::of(classes, label, state, Some(share(label)))).collect();
    parties.sort_by_key(|p| (std::cmp::Reverse((p.retakes, p.writes)), p.actor.clone()));
    let is_party = |seen: &&WriterStats| parties.iter().any(|p| seen.client.is_named(&p.actor));
    let mut other_writers: BTreeMap<&str, (ActorClass, u32)> = BTreeMap::new();
    for seen in state.writers().iter().filter(|s| !is_party(s)) {
        other_writers.entry(&seen.client.actor).or_insert((seen.client.class, 0)).1 += seen.writes();
    }
    let until = war.last_retake;
    let first_retake = tally.machine.milestones().retake.unwrap_or(until);
    let fields = fields::of(analysis, war);
    let Explanation { cause, mut evidence } = symptoms::explain(war, state, classes, limits);
    evidence.extend(not_compared(analysis));
    War {
        object: object.clone(),
        state: war.state,
        confidence: war.confidence,
        cause,
        evidence,
        since: war.since,
        until,
        deleted: war.deleted_at,
        retakes: tally.retakes,
        reversals: tally.reversals,
        thrashing_events: tally.thrashing_events,
        retakes_per_minute: rate::per_minute(tally.retakes, first_retake, until),
        parties,
        fields,
        other_writers: other_writers
            .into_iter()
            .filter(|(_, (_, writes))| *writes > 0)
            .map(|(actor, (class, writes))| OtherWriter { actor: actor.into(), class, writes })
            .collect(),
        dependents: Vec::new(),
        remedies: Vec::new(),
        verify: String::new(),
    }
}

/// Returns sentences that say which fields of an object are not tracked because it has too many.
fn not_compared(analysis: &Analysis) -> Vec<String> {
    let untracked = analysis.untracked_fields();
    let mut found = Vec::new();
    if untracked > 0 {
        found.push(format!(
            "{untracked} more fields change; editwar only detects when an actor restores an earlier value in them"
        ));
    }
    if analysis.is_truncated() {
        found.push(
            "the object has too many fields to compare all; editwar does not compare those at the end of its body"
                .to_owned(),
        );
    }
    found
}
