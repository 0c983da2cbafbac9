//! Builds the rows of the overview.

use super::Reporter;
use crate::detect::annotations::stopping_value;
use crate::detect::fields::Fields;
use crate::detect::object::{Labels, ObjectState};
use crate::detect::verdict::Confidence;
use crate::pipeline::key::ObjectKey;
use crate::query::views::{
    ActorSummary, Cooperation, Field, FieldSummary, Filter, Finding, Flapping, HotLoop, Object, OverviewRow, Party,
    Report, War, WarFilter, WarSummary,
};

/// Number of fields of a war in its row, and of values of each.
const FIELDS_SHOWN: usize = 8;
const VALUES_SHOWN: usize = 3;

/// Returns the rows of the most urgent objects, and the number of objects that are left out.
pub(super) fn rows(reporter: &Reporter<'_>, limit: usize) -> (Vec<OverviewRow>, usize) {
    select(reporter, &Filter { all: true, limit: Some(limit), ..Filter::default() })
}

/// Returns the rows of the wars that ever thrashed, without other findings.
pub(super) fn loud_wars(reporter: &Reporter<'_>, limit: usize) -> (Vec<OverviewRow>, usize) {
    // A condition on wars excludes other findings.
    let war = WarFilter { confidence: Some(Confidence::Possible), ..WarFilter::default() };
    select(reporter, &Filter { war, limit: Some(limit), ..Filter::default() })
}

/// Returns the rows of one object.
pub(super) fn rows_of(reporter: &Reporter<'_>, key: &ObjectKey) -> Vec<OverviewRow> {
    let mut rows = Vec::new();
    add(reporter, key, &Filter { all: true, ..Filter::default() }, &mut rows);
    rows
}

fn select(reporter: &Reporter<'_>, filter: &Filter) -> (Vec<OverviewRow>, usize) {
    let mut omitted = 0;
    let mut rows = Vec::new();
    for key in reporter.most_urgent(filter, &mut omitted) {
        add(reporter, &key, filter, &mut rows);
    }
    (rows, omitted)
}

fn add(reporter: &Reporter<'_>, key: &ObjectKey, filter: &Filter, rows: &mut Vec<OverviewRow>) {
    let policy = reporter.pipeline.policy();
    let Some(limits) = policy.limits(&key.object()) else { return };
    reporter.pipeline.table().with(key, |state| {
        let object = Object::of(key, state);
        let mut found = Report::default();
        reporter.add(&mut found, &object, state, limits, filter);
        of_object(rows, &object, state, found, state.labels(&policy.owner_labels));
    });
}

fn of_object(rows: &mut Vec<OverviewRow>, object: &Object, state: &ObjectState, found: Report, labels: Labels) {
    let fields = state.history().and_then(|history| history.current_fields());
    let is_paused = fields.is_some_and(|fields| is_paused(fields));
    let mut add = |finding, number: usize, actors, (since, until), war, summary| {
        let id = format!("{} {finding:?} {number}", object.path());
        rows.push(OverviewRow { id, finding, object: object.clone(), actors, since, until, war, summary });
    };
    for (number, war) in found.wars.into_iter().enumerate() {
        let actors = war.parties.iter().map(ActorSummary::from).collect();
        let times = (war.since, war.until);
        add(Finding::War, number, actors, times, Some(summary_of(war, is_paused, labels.clone())), String::new());
    }
    for (number, hot_loop) in found.hot_loops.into_iter().enumerate() {
        let rate = hot_loop.rate();
        let HotLoop { actor, writes, no_ops, since, until, .. } = hot_loop;
        let summary = format!("{writes} writes and {no_ops} requests that changed nothing, {rate}");
        add(Finding::HotLoop, number, vec![ActorSummary::named(actor, writes)], (since, until), None, summary);
    }
    for (number, contention) in found.contention.into_iter().enumerate() {
        let summary = format!(
            "requests failed with conflicts: {} stale writes, {} rejected applies",
            contention.stale, contention.apply_conflicts
        );
        let actors = contention.parties.into_iter().filter(|party| party.conflicts > 0);
        let actors = actors.map(|party| ActorSummary::named(party.actor, party.writes)).collect();
        add(Finding::Contention, number, actors, (contention.since, contention.until), None, summary);
    }
    for (number, flapping) in found.flapping.into_iter().enumerate() {
        let Flapping { actor, by, message, accepted, rejected, since, until, .. } = flapping;
        let colon = if message.is_empty() { "" } else { ": " };
        let summary = format!("accepted {accepted} times, rejected {rejected} times by {by}{colon}{message}");
        add(Finding::Flapping, number, vec![ActorSummary::named(actor, accepted)], (since, until), None, summary);
    }
    for (number, cooperation) in found.cooperation.into_iter().enumerate() {
        let Cooperation { excess, name, reason, actors, fields, times, since, until, .. } = cooperation;
        let fields = fields.join(", ");
        let summary = format!("{}: {times} times over {fields}; {reason}", excess.unwrap_or(name));
        let actors = actors.into_iter().map(|actor| ActorSummary::named(actor, 0)).collect();
        add(Finding::Cooperation, number, actors, (since, until), None, summary);
    }
}

fn summary_of(war: War, is_paused: bool, labels: Labels) -> WarSummary {
    let progress = war.progress();
    let field_count = war.fields.len();
    let shown = |mut field: Field| {
        field.values.truncate(VALUES_SHOWN);
        FieldSummary { path: field.path, values: field.values }
    };
    WarSummary {
        progress,
        state: war.state,
        confidence: war.confidence,
        cause: war.cause,
        deleted: war.deleted,
        is_paused,
        retakes: war.retakes,
        thrashing_events: war.thrashing_events,
        retakes_per_minute: war.retakes_per_minute,
        fields: war.fields.into_iter().take(FIELDS_SHOWN).map(shown).collect(),
        field_count,
        labels,
    }
}

/// Whether an object carries a pause: the annotation of the runbook, or the switch of a tool.
fn is_paused(fields: &Fields) -> bool {
    fields
        .at_or_below("metadata.annotations")
        .any(|(path, value)| stopping_value(path).is_some_and(|stopping| value.string().as_deref() == Some(stopping)))
}

// === impl ActorSummary ===

impl ActorSummary {
    fn named(actor: String, writes: u32) -> ActorSummary {
        ActorSummary { actor, class: None, role: None, writes, retakes: 0 }
    }
}

impl From<&Party> for ActorSummary {
    fn from(party: &Party) -> ActorSummary {
        let Party { actor, class, role, writes, retakes, .. } = party;
        ActorSummary {
            actor: actor.clone(),
            class: Some(*class),
            role: Some(*role),
            writes: *writes,
            retakes: *retakes,
        }
    }
}
