//! The objects and writes that match a filter, and the nearest values if nothing matches.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use crate::detect::assessment::{Assessment, WarAssessment};
use crate::detect::object::ObjectState;
use crate::detect::resource_kind;
use crate::detect::writer_stats::WriterStats;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;
use crate::query::views::{Filter, Matched};

/// Maximum number of values that a message suggests.
const CANDIDATES: usize = 3;
/// Maximum number of values of one criterion that are collected and compared. There can be a million objects, and more
/// values would take too much memory and time for one query.
const VALUES_MAX: usize = 10_000;
/// Minimum similarity (Jaro-Winkler) of a candidate.
const SIMILAR: f64 = 0.75;

/// A criterion of a filter, in the order in which criteria narrow a search.
#[derive(Clone, Copy)]
enum Criterion {
    Cluster,
    Namespace,
    Kind,
    Name,
    Actor,
}

/// Counts the objects and writes that match a filter.
pub(super) fn count(pipeline: &Pipeline, filter: &Filter) -> Matched {
    if filter.is_any() {
        let counters = pipeline.stats().counters;
        return Matched { objects: counters.objects, writes: counters.writes, other_wars: 0 };
    }
    let matched = Cell::new(Matched::default());
    pipeline.table().select(|key, state| {
        let so_far = matched.get();
        let more = matching_writes(filter, key, state)?;
        matched.set(Matched { objects: so_far.objects + 1, writes: so_far.writes + more, ..so_far });
        None::<()>
    });
    matched.get()
}

/// Counts the decided wars that thrash over matching objects, whatever their other properties.
pub(super) fn wars(pipeline: &Pipeline, filter: &Filter) -> u64 {
    let is_counted = |war: &&WarAssessment<'_>| war.is_thrashing() && war.confidence.is_decided();
    let of = |key: &ObjectKey| {
        let look = |state: &ObjectState| {
            matching_writes(filter, key, state)?;
            Some(Assessment::of(state).wars().filter(is_counted).count() as u64)
        };
        pipeline.table().with(key, look).flatten()
    };
    pipeline.table().notable().iter().filter_map(of).sum()
}

/// Explains why nothing matches a filter, and names the values that are most similar to the one that does not
/// occur: `no object in namespace "shopp"; did you mean "shop"?`
pub(super) fn explain(pipeline: &Pipeline, filter: &Filter) -> String {
    if pipeline.table().is_empty() {
        return "no write to any object was seen".to_owned();
    }
    let mut narrowed = Filter::default();
    for criterion in [Criterion::Cluster, Criterion::Namespace, Criterion::Kind, Criterion::Name, Criterion::Actor] {
        let before = narrowed.clone();
        let Some(wanted) = criterion.narrow(&mut narrowed, filter) else { continue };
        if count(pipeline, &narrowed).objects > 0 {
            continue;
        }
        let seen = RefCell::new(BTreeSet::new());
        pipeline.table().select(|key, state| {
            matching_writes(&before, key, state)?;
            let mut seen = seen.borrow_mut();
            if seen.len() < VALUES_MAX {
                seen.extend(criterion.values(key, state));
            }
            None::<()>
        });
        return criterion.message(&wanted, &before, &seen.into_inner());
    }
    "no object matches".to_owned()
}

/// Returns how similar a value, or a part of it, is to the one that a user typed: from 0 to 1.
fn likeness(typed: &str, value: &str) -> f64 {
    let parts = value.split([':', '/', '.']).chain(value.split([':', '/', '.', '-'])).chain([value]);
    let is_part = value.contains(typed) || (value.len() > 2 && typed.contains(value));
    let of_part = |part: &str| {
        let is_typo = typed.len() > 2 && strsim::damerau_levenshtein(typed, part) == 1;
        strsim::jaro_winkler(typed, part).max(if is_typo { 0.9 } else { 0.0 })
    };
    parts.map(of_part).fold(if is_part { SIMILAR } else { 0.0 }, f64::max)
}

/// Returns the number of writes to an object that match a filter, or `None` if the object does not match.
fn matching_writes(filter: &Filter, key: &ObjectKey, state: &ObjectState) -> Option<u64> {
    if !filter.is_key(key, state.kind().map(AsRef::as_ref)) {
        return None;
    }
    let is_meant = |writer: &&WriterStats| filter.is_actor(std::iter::once(&*writer.client.actor));
    let mut writers = state.writers().iter().filter(is_meant).peekable();
    // An object whose requests all failed has no writers.
    if filter.actor.is_some() {
        writers.peek()?;
    }
    Some(writers.map(|writer| u64::from(writer.writes())).sum())
}

// === impl Criterion ===

impl Criterion {
    /// Copies this criterion of `from`, and returns its value, if it is set.
    fn narrow(self, filter: &mut Filter, from: &Filter) -> Option<String> {
        let (to, from) = match self {
            Criterion::Cluster => (&mut filter.cluster, &from.cluster),
            Criterion::Namespace => (&mut filter.namespace, &from.namespace),
            Criterion::Kind => (&mut filter.kind, &from.kind),
            Criterion::Name => (&mut filter.name, &from.name),
            Criterion::Actor => (&mut filter.actor, &from.actor),
        };
        to.clone_from(from);
        from.clone()
    }

    /// Returns the values of this criterion that match an object.
    fn values(self, key: &ObjectKey, state: &ObjectState) -> Vec<String> {
        let object = key.object();
        match self {
            Criterion::Cluster => vec![key.cluster().to_owned()],
            Criterion::Namespace => vec![object.namespace.to_owned()],
            Criterion::Kind if object.group.is_empty() => vec![object.resource.to_owned()],
            Criterion::Kind => vec![format!("{}.{}", object.resource, object.group)],
            Criterion::Name => vec![object.name.to_owned()],
            Criterion::Actor => state.writers().iter().map(|writer| writer.client.actor.to_string()).collect(),
        }
    }

    fn message(self, wanted: &str, before: &Filter, seen: &BTreeSet<String>) -> String {
        let in_namespace = before.namespace.as_ref().map(|n| format!(" in namespace {n}")).unwrap_or_default();
        let (what, plural) = match self {
            Criterion::Cluster => (format!("no object of cluster {wanted:?}"), "clusters"),
            Criterion::Namespace => (format!("no object in namespace {wanted:?}"), "namespaces"),
            Criterion::Kind => (format!("no object of kind {wanted:?}{in_namespace}"), "kinds"),
            Criterion::Name => {
                let kind = before.kind.as_deref().unwrap_or("object");
                (format!("no {kind} named {wanted:?}{in_namespace}"), "names")
            }
            Criterion::Actor => {
                (format!("no write by an actor whose name contains {wanted:?}{in_namespace}"), "actors")
            }
        };
        let seen: Vec<&str> = seen.iter().map(String::as_str).filter(|value| !value.is_empty()).collect();
        let typed = if matches!(self, Criterion::Kind) { resource_kind::without_short_name(wanted) } else { wanted };
        let mut similar: Vec<(f64, &str)> = seen.iter().map(|value| (likeness(typed, value), *value)).collect();
        similar.retain(|(likeness, _)| *likeness >= SIMILAR);
        similar.sort_by(|a, b| b.0.total_cmp(&a.0));
        let quoted = |values: &mut dyn Iterator<Item = &str>| {
            let quoted: Vec<String> = values.take(CANDIDATES).map(|value| format!("{value:?}")).collect();
            quoted.join(", ")
        };
        if !similar.is_empty() {
            return format!("{what}; did you mean {}?", quoted(&mut similar.iter().map(|(_, value)| *value)));
        }
        match seen.len() {
            0 => format!("{what}; there are no {plural}"),
            1 => format!("{what}; there is only {}", quoted(&mut seen.into_iter())),
            more if more > CANDIDATES => {
                format!("{what}; there are {more} {plural}, such as {}", quoted(&mut seen.into_iter()))
            }
            _ => format!("{what}; there are these {plural}: {}", quoted(&mut seen.into_iter())),
        }
    }
}
