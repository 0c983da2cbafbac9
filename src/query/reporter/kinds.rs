//! Counts the objects of each kind, and those of which fields are known.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;

use crate::detect::writer_stats::WriterStats;
use crate::pipeline::Pipeline;
use crate::query::views::KindCoverage;

/// Maximum number of kinds in an answer.
const KINDS_MAX: usize = 200;

/// Returns the kinds of the objects in memory, those with the most writes first.
pub(super) fn of(pipeline: &Pipeline) -> Vec<KindCoverage> {
    // By resource, then by group. There can be a million objects, so only new kinds are allocated.
    let found: RefCell<HashMap<String, HashMap<String, KindCoverage>>> = RefCell::default();
    pipeline.table().select(|key, state| {
        let name = key.object();
        let mut found = found.borrow_mut();
        if !found.get(name.resource).is_some_and(|groups| groups.contains_key(name.group)) {
            let kind =
                KindCoverage { group: name.group.to_owned(), resource: name.resource.to_owned(), ..Default::default() };
            found.entry(kind.resource.clone()).or_default().insert(kind.group.clone(), kind);
        }
        let kind = found.get_mut(name.resource)?.get_mut(name.group)?;
        kind.objects += 1;
        // A body names its kind.
        kind.with_fields += u64::from(state.kind().is_some());
        kind.writes += state.writers().iter().map(|writer| u64::from(WriterStats::writes(writer))).sum::<u64>();
        None::<()>
    });
    let mut kinds: Vec<KindCoverage> = found.into_inner().into_values().flat_map(HashMap::into_values).collect();
    kinds.sort_by(|a, b| (Reverse(a.writes), &a.resource, &a.group).cmp(&(Reverse(b.writes), &b.resource, &b.group)));
    kinds.truncate(KINDS_MAX);
    kinds
}
