//! The most urgent rows of the overview as HTML. Browsers show them until the page's script has replaced them, so each cell
//! has the same text as in `ui/src/wars.jsx`. (A test of the page compares both.)

use std::cmp::Reverse;

use maud::{Markup, html};

use super::views::{ActorSummary, Finding, OverviewRow, Problem, Value, WarSummary, path_part, time};
use crate::audit::event::Micros;
use crate::detect::assessment::Progress;
use crate::detect::verdict::{Confidence, State};
use crate::escape;

/// Number of rows: how many fit into a window.
const ROWS_SHOWN: usize = 15;
const ACTORS_SHOWN: usize = 4;
/// Number of further actors that are named without a link.
const OTHER_ACTORS_SHOWN: usize = 4;
const VALUES_SHOWN: usize = 3;
const VALUE_CHARS_MAX: usize = 60;
const COLUMNS: [&str; 7] = ["status", "object", "fought over", "parties", "since", "last", "retakes"];
/// The columns that one cannot sort by.
const UNSORTED: [&str; 2] = ["fought over", "parties"];

/// Returns the reasons why the rows may not be complete.
pub(super) fn problems(problems: &[Problem]) -> String {
    html! { @for problem in problems { p class="problem" { strong { (problem.kind.title()) ": " } (text(&problem.message)) } } }
        .into_string()
}

/// Returns a heading and a table with the most urgent of these rows, or nothing if there are none.
/// `omitted` is the number of objects that are left out.
pub(super) fn table(rows: &[OverviewRow], omitted: usize, as_of: Option<Micros>) -> String {
    // What never thrashed is only shown on request.
    let mut found: Vec<&OverviewRow> =
        rows.iter().filter(|row| row.war.as_ref().is_none_or(|war| war.thrashing_events > 0)).collect();
    found.sort_by_key(|row| (Reverse(row.war.as_ref().map(urgency)), &row.id));
    let wars = found.iter().filter(|row| row.war.is_some()).count();
    let heading = [count(wars, "edit war"), count(found.len() - wars, "other finding")];
    let heading = heading.into_iter().flatten().collect::<Vec<_>>().join(", ");
    if heading.is_empty() {
        return String::new();
    }
    let shown = &found[..found.len().min(ROWS_SHOWN)];
    html! {
        h2 { (heading) }
        @if let Some(omitted) = count(omitted, "less urgent object") {
            @let are = if omitted.starts_with("1 ") { "is" } else { "are" };
            p class="problem" { strong { "Incomplete: " } (omitted) " " (are) " not listed." }
        }
        div class="scroll" {
            table {
                caption class="hidden" { (heading) }
                thead { tr { @for name in COLUMNS { (column(name)) } } }
                @for (cluster, namespace) in groups(shown) {
                    tbody {
                        tr class="group" { th colspan=(COLUMNS.len()) { (group(cluster, namespace)) } }
                        @for row in shown.iter().filter(|row| group_of(row) == (cluster, namespace)) { (cells(row, as_of)) }
                    }
                }
            }
        }
    }
    .into_string()
}

/// Returns the sort key of a war, of which the greatest comes first.
fn urgency(war: &WarSummary) -> impl Ord {
    let progress = match war.progress {
        Progress::Ongoing => 3,
        Progress::Subsiding => 2,
        Progress::Ended => 1,
    };
    (progress, war.confidence.is_decided(), war.confidence, war.thrashing_events, war.retakes)
}

fn count(number: usize, one: &str) -> Option<String> {
    let s = if number == 1 { "" } else { "s" };
    (number > 0).then(|| format!("{} {one}{s}", thousands(number)))
}

fn column(name: &str) -> Markup {
    let class = (name == "retakes").then_some("number");
    let arrow = if name == "status" { " ↓" } else { "" };
    html! {
        th scope="col" class=[class] {
            @if UNSORTED.contains(&name) { (name) } @else { button type="button" class="sort" { (name) (arrow) } }
        }
    }
}

fn group_of(row: &OverviewRow) -> (&str, &str) {
    (&row.object.cluster, &row.object.namespace)
}

/// Returns the clusters and namespaces of rows, in the order of their first rows.
fn groups<'a>(rows: &[&'a OverviewRow]) -> Vec<(&'a str, &'a str)> {
    let mut groups = Vec::new();
    for row in rows {
        if !groups.contains(&group_of(row)) {
            groups.push(group_of(row));
        }
    }
    groups
}

fn group(cluster: &str, namespace: &str) -> Markup {
    let (name, parameter) = if namespace.is_empty() { ("cluster-scoped", "-") } else { (namespace, namespace) };
    let link = |parameters: &[(&str, &str)]| {
        let set = parameters.iter().filter(|(_, value)| !value.is_empty());
        format!("#/wars?{}", form_urlencoded::Serializer::new(String::new()).extend_pairs(set).finish())
    };
    html! {
        @if !cluster.is_empty() { a href=(link(&[("cluster", cluster)])) { (text(cluster)) } " / " }
        a href=(link(&[("cluster", cluster), ("namespace", parameter)])) { (text(name)) }
    }
}

fn cells(row: &OverviewRow, as_of: Option<Micros>) -> Markup {
    let (status, subject) = match &row.war {
        Some(war) => (status(war), fields(war)),
        None => (html! { span class="state other" { (finding(row.finding)) } }, text(&row.summary)),
    };
    let object = &row.object;
    let in_namespace = if object.namespace.is_empty() { String::new() } else { format!("{}/", object.namespace) };
    let object = html! {
        a href=(format!("#/object/{}", object.path())) { (text(&format!("{} {in_namespace}{}", object.kind, object.name))) }
    };
    let contents = [status, object, subject, actors(&row.actors), clock(row.since, as_of), clock(row.until, as_of)];
    html! {
        tr {
            @for (name, content) in COLUMNS.iter().zip(contents) { td data-label=(name) { div { (content) } } }
            td data-label="retakes" class=(if row.war.is_some() { "number" } else { "number empty" }) {
                div { @if let Some(war) = &row.war { (retakes(war)) } }
            }
        }
    }
}

fn status(war: &WarSummary) -> Markup {
    let (word, class) = match (war.confidence, war.deleted, war.state) {
        (Confidence::Possible, ..) => ("undecided", "undecided"),
        (_, Some(_), _) | (.., State::Calm) => ("ended", "calm"),
        (.., state) => (state.as_str(), state.as_str()),
    };
    let is_deleted = war.confidence != Confidence::Possible && war.deleted.is_some();
    html! {
        span class=(format!("state {class}")) { (word) }
        @if war.is_paused { span class="state paused" { " paused" } }
        @if is_deleted { div class="dim" { "object deleted" } }
        div class="dim" { (war.confidence.as_str()) }
    }
}

fn finding(finding: Finding) -> &'static str {
    match finding {
        Finding::War => "edit war",
        Finding::HotLoop => "hot loop",
        Finding::Contention => "contention",
        Finding::Flapping => "flapping admission",
        Finding::Cooperation => "co-operation",
    }
}

fn fields(war: &WarSummary) -> Markup {
    let Some(field) = war.fields.first() else { return html! { "fields are not in the log" } };
    let mut values: Vec<String> = Vec::new();
    for value in field.values.iter().map(value_text) {
        if !values.contains(&value) && values.len() < VALUES_SHOWN {
            values.push(value);
        }
    }
    html! {
        code { (text(&field.path)) }
        @if war.field_count > 1 { span class="dim" { " and " (war.field_count - 1) " more" } }
        @if !values.is_empty() {
            div {
                @for (i, value) in values.iter().enumerate() {
                    @if i > 0 { " ⇄ " }
                    span class="value" { (text(value)) }
                }
            }
        }
    }
}

fn value_text(value: &Value) -> String {
    if value.redacted {
        return "(redacted)".to_owned();
    }
    let text = match &value.value {
        serde_json::Value::Null => "∅".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some(_) => text.chars().take(VALUE_CHARS_MAX - 1).chain(['…']).collect(),
        None => text,
    }
}

fn actors(actors: &[ActorSummary]) -> Markup {
    let (shown, others) = actors.split_at(actors.len().min(ACTORS_SHOWN));
    let names = others.iter().take(OTHER_ACTORS_SHOWN).map(|actor| short(&actor.actor)).collect::<Vec<_>>().join(", ");
    html! {
        ul class="plain" {
            @for actor in shown {
                li {
                    a href=(format!("#/actor/{}", path_part(&actor.actor))) title=(visible(&actor.actor)) { (text(short(&actor.actor))) }
                    @if actor.writes > 0 { span class="dim" { " " (actor.writes) } }
                }
            }
            @if !others.is_empty() { li class="dim" { "and " (others.len()) " more: " (text(&names)) } }
        }
    }
}

fn short(actor: &str) -> &str {
    actor.strip_prefix("system:serviceaccount:").unwrap_or(actor)
}

/// Returns a time, without the date if it is on the day of `now`.
fn clock(at: Micros, now: Option<Micros>) -> Markup {
    let (at, now) = (time::text(at), now.map(time::text).unwrap_or_default());
    let (day, second) = (at.get(..10).unwrap_or_default(), at.get(11..19).unwrap_or_default());
    html! { time { @if !now.starts_with(day) { (day) " " } (second) "Z" } }
}

fn retakes(war: &WarSummary) -> Markup {
    html! {
        (thousands(war.retakes as usize))
        @if let Some(rate) = war.retakes_per_minute { div class="dim" { (rate) "/min" } }
    }
}

/// Returns a number with commas between its thousands.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns text from outside, with invisible characters shown and isolated from the direction of the text around it.
fn text(text: &str) -> Markup {
    html! { bdi { (visible(text)) } }
}

fn visible(text: &str) -> String {
    text.split('\n').map(escape::text).collect::<Vec<_>>().join("\\n")
}

#[cfg(test)]
#[path = "first_rows/tests.rs"]
mod tests;
