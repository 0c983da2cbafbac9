//! The parts of wars that several outputs share: names of objects, verdicts and values; and the list of transitions.

use comfy_table::{Attribute, Cell};

use crate::cli::style::{Style, clean, clock, json_text, words};
use crate::detect::assessment::Progress;
use crate::detect::verdict::State;
use crate::query::views::{Object, Transitions, Value, War};
use crate::util::duration;

/// Formats an object as `Deployment shop/web`, with its cluster if it has one.
pub fn name(object: &Object) -> String {
    let path = [&object.cluster, &object.namespace, &object.name];
    let path: Vec<String> = path.iter().filter(|part| !part.is_empty()).map(|part| clean(part)).collect();
    format!("{} {}", clean(&object.kind), path.join("/"))
}

/// Returns the state and confidence of a war. An undecided one has no state.
pub(in crate::cli) fn verdict(war: &War) -> Vec<String> {
    if war.is_undecided() {
        return vec!["undecided".to_owned()];
    }
    let state = if war.deleted.is_some() { "ended: deleted".to_owned() } else { words(war.state.as_str()) };
    vec![state, war.confidence.as_str().to_owned()]
}

/// Returns the word for whether a war goes on, as far as the events show.
pub(super) fn status(war: &War) -> &'static str {
    match war.progress() {
        Progress::Ongoing => "ongoing",
        Progress::Subsiding => "subsiding",
        Progress::Ended => "ended",
    }
}

/// Formats whether a war is ongoing, when it began, and the time of the last retake.
pub(super) fn times(war: &War, style: Style) -> String {
    let (since, until) = (clock(war.since), clock(war.until));
    // The date is not repeated.
    let until = if since[..10] == until[..10] { &until[11..] } else { &until };
    let age = |at| style.now.map(|now| duration::age(now.saturating_sub(at)));
    match (status(war), age(war.since), age(war.until)) {
        ("ended", _, Some(last)) => format!("from {since} to {until} ({last} ago)"),
        ("ended", ..) => format!("from {since} to {until}"),
        (status, Some(first), Some(last)) => {
            format!("{status} for {first}, since {since}; last retake at {until} ({last} ago)")
        }
        (status, ..) => format!("{status} since {since}, last retake at {until}"),
    }
}

/// Formats a number of things: `1 write`, `2 writes`.
pub(in crate::cli) fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// Returns the path of a field, or a description if the fields are not known.
pub(super) fn fields_name(path: &str) -> &str {
    match path {
        "(object)" => "the whole object",
        "(main)" => "fields not in the log",
        "(status)" => "status, fields not in the log",
        path => path,
    }
}

/// Returns the state for colours. Undecided wars have none.
pub(super) fn shown_state(war: &War) -> State {
    if war.is_undecided() { State::Calm } else { war.state }
}

pub(in crate::cli) fn value_text(value: &Value, style: Style) -> String {
    match &value.value {
        _ if value.redacted => "(redacted)".into(),
        serde_json::Value::Null => "(absent)".into(),
        json => json_text(json, style),
    }
}

/// Formats the transitions of wars, one per line.
pub fn transitions(found: &Transitions, style: Style) -> String {
    if found.transitions.is_empty() {
        return format!("no verdict has changed since {}\n", clock(found.complete_since));
    }
    let mut table = style.table();
    table.set_header(["WHEN", "OBJECT", "FROM", "TO"].map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
    for transition in &found.transitions {
        let (from, to) = (words(transition.from.as_str()), words(transition.to.as_str()));
        table.add_row([clock(transition.at), name(&transition.object), from, to]);
    }
    format!("{table}\n")
}
