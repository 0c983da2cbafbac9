//! Builds the view of what an actor has written.

use std::cmp::Reverse;

use super::{matches, party};
use crate::detect::actor_class::ActorClassifier;
use crate::detect::object::ObjectState;
use crate::pipeline::Pipeline;
use crate::query::views::{
    ActorWrites, Coverage, Filter, Object, ObjectWrite, ProblemKind, TimelineEntry, WrittenObject,
};

/// Maximum number of writes in one answer, the latest ones. Each takes some hundred bytes.
const WRITES_MAX: usize = 10_000;

/// Returns what the actors that match a filter have written.
pub(super) fn of(pipeline: &Pipeline, classes: &ActorClassifier, filter: &Filter) -> ActorWrites {
    let is_actor = |actor: &str| filter.is_actor(std::iter::once(actor));
    let mut found =
        ActorWrites { coverage: Coverage::from(&pipeline.stats()).within(pipeline.range()), ..ActorWrites::default() };
    let mut keys = pipeline.table().select(|key, state| {
        if !filter.is_key(key, state.kind().map(AsRef::as_ref)) {
            return None;
        }
        let by_actor = state.writers().iter().filter(|writer| is_actor(&writer.client.actor));
        let last = by_actor.map(|writer| writer.span(state.base()).1).max()?;
        Some((Reverse(last), key.clone()))
    });
    keys.sort_unstable();
    found.omitted = keys.len().saturating_sub(filter.limit.unwrap_or(usize::MAX));
    keys.truncate(filter.limit.unwrap_or(usize::MAX));
    for (_, key) in keys {
        let look = |state: &ObjectState| {
            let object = Object::of(&key, state);
            let mut actors: Vec<&str> = state.writers().iter().map(|writer| &*writer.client.actor).collect();
            actors.retain(|actor| is_actor(actor));
            actors.sort_unstable();
            actors.dedup();
            for actor in actors {
                let writer = party::of(classes, actor, state, None);
                found.objects.push(WrittenObject { object: object.clone(), writer });
            }
            let records = state.history().into_iter().flat_map(|history| history.records());
            let by_actor = records.filter(|record| is_actor(&record.client.actor));
            found.writes.extend(
                by_actor.map(|record| ObjectWrite { object: object.clone(), write: TimelineEntry::of(record) }),
            );
        };
        pipeline.table().with(&key, look);
    }
    found.writes.sort_by_key(|write| write.write.at);
    found.writes.drain(..found.writes.len().saturating_sub(WRITES_MAX));
    if found.objects.is_empty() && !found.coverage.is_incomplete() {
        found.coverage.add_problem(ProblemKind::NoMatch, matches::explain(pipeline, filter));
    }
    found
}
