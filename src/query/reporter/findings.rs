//! Builds the views of the findings that are not wars: hot loops, contention, flapping admission and co-operation.

use std::sync::Arc;

use crate::detect::analysis;
use crate::detect::failures::ActorFailures;
use crate::detect::object::ObjectState;
use crate::detect::policy::Limits;
use crate::detect::writer_stats::WriterStats;
use crate::query::views::{Contender, Contention, Cooperation, Flapping, HotLoop, Object, rate};

/// Returns the actors that write an object far too often.
pub(super) fn hot_loops(object: &Object, state: &ObjectState, limits: &Limits) -> Vec<HotLoop> {
    let hot_loop = |seen: &WriterStats| {
        let (first, last) = seen.activity(state.base());
        HotLoop {
            object: object.clone(),
            actor: seen.client.actor.to_string(),
            writes: seen.writes(),
            no_ops: seen.no_ops,
            per_minute: rate::per_minute(seen.writes() + seen.no_ops, first, last),
            since: first,
            until: last,
        }
    };
    state.writers().iter().filter(|s| s.is_hot(limits)).map(hot_loop).collect()
}

/// Returns the contention of an object, or `None` if its requests rarely conflict.
pub(super) fn contention(object: &Object, state: &ObjectState, limits: &Limits) -> Option<Contention> {
    let failures = state.failures().filter(|failures| failures.is_contended(limits))?;
    let writes = |actor: &Arc<str>| -> u32 {
        state.writers().iter().filter(|s| s.client.actor == *actor).map(WriterStats::writes).sum()
    };
    let racing = || failures.actors().filter_map(|(actor, t)| Some((actor, t, t.conflicts_at?)));
    Some(Contention {
        object: object.clone(),
        stale: racing().map(|(_, t, _)| t.stale).sum(),
        apply_conflicts: racing().map(|(_, t, _)| t.apply_conflicts).sum(),
        parties: racing()
            .map(|(actor, t, _)| Contender {
                actor: actor.to_string(),
                conflicts: t.stale + t.apply_conflicts,
                writes: writes(actor),
            })
            .collect(),
        since: racing().map(|(.., (first, _))| first).min().unwrap_or(0),
        until: racing().map(|(.., (_, last))| last).max().unwrap_or(0),
    })
}

/// Returns the actors of an object whose requests admission alternately accepts and rejects.
pub(super) fn flapping(object: &Object, state: &ObjectState, limits: &Limits) -> Vec<Flapping> {
    let failures = state.failures().into_iter().flat_map(|failures| failures.actors());
    failures.filter_map(|(actor, actor_failures)| flapping_of(object, actor, actor_failures, limits)).collect()
}

fn flapping_of(object: &Object, actor: &str, actor_failures: &ActorFailures, limits: &Limits) -> Option<Flapping> {
    let alternations = actor_failures.alternations();
    if alternations < limits.flapping_turns.get() {
        return None;
    }
    let (by, message) = actor_failures.rejections.iter().next()?;
    let (since, until) = actor_failures.rejected_at?;
    Some(Flapping {
        object: object.clone(),
        actor: actor.to_owned(),
        by: by.clone(),
        message: message.clone(),
        accepted: actor_failures.accepted,
        rejected: actor_failures.rejected,
        alternations,
        since,
        until,
    })
}

/// Returns the co-operations on an object. With `is_excess`, only those that happen too often.
pub(super) fn cooperations(object: &Object, state: &ObjectState, is_excess: bool) -> Vec<Cooperation> {
    let known = state.history().map_or(&[][..], |history| history.analysis().cooperations());
    let is_shown = |c: &&analysis::Cooperation| !is_excess || (c.excess.is_some() && c.tally.thrashing_events > 0);
    let view = |c: &analysis::Cooperation| Cooperation {
        object: object.clone(),
        name: c.name.to_string(),
        excess: c.excess.as_ref().filter(|_| c.tally.thrashing_events > 0).map(|excess| excess.to_string()),
        reason: c.reason.to_string(),
        actors: c.actors.iter().map(|actor| actor.to_string()).collect(),
        fields: c.paths.iter().map(|path| path.to_string()).collect(),
        times: c.tally.retakes,
        since: c.tally.since.unwrap_or(0),
        until: c.tally.machine.last_retake(),
    };
    known.iter().filter(is_shown).map(view).collect()
}
