//! What people read in an alert: a sentence, and a line for each object. Names and values come from events, so each is made
//! one short line in which everything can be seen.

use std::collections::{BTreeMap, BTreeSet};

use crate::detect::verdict::State;
use crate::escape;
use crate::query::views::{OverviewRow, Value, WarSummary};

/// Number of objects that an alert lists.
const OBJECTS_SHOWN: usize = 20;
/// Number of actors that a summary names.
const ACTORS_SHOWN: usize = 3;
/// Maximum length of a name, a path or a value, in characters.
const TEXT_CHARS_MAX: usize = 100;

/// Returns the annotations of an alert about a fight of these actors over these objects.
pub(super) fn of(actors: &[String], rows: &[OverviewRow]) -> BTreeMap<String, String> {
    let namespaces: BTreeSet<&str> = rows.iter().map(|row| row.object.namespace.as_str()).collect();
    let names: Vec<String> = actors.iter().take(ACTORS_SHOWN).map(|actor| shown(short(actor))).collect();
    let fields: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row.war.as_ref())
        .flat_map(|war| war.fields.iter().map(|field| field.path.as_str()))
        .collect();
    let what = match rows {
        [row] => object(row),
        rows if namespaces.len() == 1 => format!("{} objects", rows.len()),
        rows => format!("{} objects in {} namespaces", rows.len(), namespaces.len()),
    };
    let others = match actors.len().saturating_sub(ACTORS_SHOWN) {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    let verb = if names.len() == 1 { "keeps overwriting itself" } else { "keep overwriting each other" };
    let mut over: Vec<String> = fields.iter().take(3).map(|field| shown(field)).collect();
    if fields.len() > over.len() {
        over.push("more".to_owned());
    }
    let summary = format!("{}{others} {verb}: {} of {what}", names.join(" and "), over.join(", "));
    let mut lines: Vec<String> = rows.iter().take(OBJECTS_SHOWN).map(line).collect();
    if rows.len() > OBJECTS_SHOWN {
        lines.push(format!("and {} more", rows.len() - OBJECTS_SHOWN));
    }
    let is_sustained = rows.iter().any(|row| row.war.as_ref().is_some_and(|war| war.state == State::Sustained));
    BTreeMap::from([
        ("summary".to_owned(), summary),
        ("description".to_owned(), lines.join("\n")),
        ("sustained".to_owned(), is_sustained.to_string()),
    ])
}

fn line(row: &OverviewRow) -> String {
    let Some(war) = &row.war else { return object(row) };
    let WarSummary { state, retakes, cause, .. } = war;
    let over = war.fields.first().map_or_else(
        || "fields not in the log".to_owned(),
        |field| {
            let mut values: Vec<String> = Vec::new();
            for value in field.values.iter().map(text) {
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            format!("{} {}", shown(&field.path), values.join(" ⇄ "))
        },
    );
    let more = if war.field_count > 1 { format!(" and {} more", war.field_count - 1) } else { String::new() };
    let cause = cause.as_str().replace('_', " ");
    format!("{}: {over}{more}, {retakes} retakes, {}, {cause}", object(row), state.as_str())
}

fn object(row: &OverviewRow) -> String {
    let object = &row.object;
    let slash = if object.namespace.is_empty() { "" } else { "/" };
    shown(&format!("{} {}{slash}{}", object.kind, object.namespace, object.name))
}

fn text(value: &Value) -> String {
    match &value.value {
        _ if value.redacted => "(redacted)".to_owned(),
        _ if value.absent => "∅".to_owned(),
        serde_json::Value::String(text) => shown(text),
        other => shown(&other.to_string()),
    }
}

/// Returns a text from outside as one short line without characters that cannot be seen.
fn shown(text: &str) -> String {
    cut(&escape::text(text).replace('\n', "\\n"), TEXT_CHARS_MAX)
}

/// Returns the first `max` characters of a text.
pub(super) fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn short(actor: &str) -> &str {
    actor.strip_prefix("system:serviceaccount:").unwrap_or(actor)
}
