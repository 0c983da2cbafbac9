//! Rows for spreadsheets, as CSV.

use anyhow::Result;

use crate::escape;
use crate::query::views::{ChangeView, Object, TimelineEntry, War, time};

const WAR_COLUMNS: [&str; 17] = [
    "cluster",
    "namespace",
    "group",
    "resource",
    "kind",
    "name",
    "verdict",
    "state",
    "confidence",
    "cause",
    "since",
    "until",
    "retakes",
    "thrashing_events",
    "retakes_per_minute",
    "parties",
    "fields",
];
const WRITE_COLUMNS: [&str; 12] =
    ["at", "cluster", "namespace", "group", "resource", "name", "actor", "tool", "verb", "field", "old", "new"];

/// Formats wars as CSV, one row each. Several parties or fields are separated by spaces.
pub(in crate::cli) fn csv_wars(wars: &[War]) -> Result<String> {
    csv(
        &WAR_COLUMNS,
        wars.iter().map(|war| {
            let Object { cluster, namespace, group, resource, kind, name } = &war.object;
            let joined = |words: &mut dyn Iterator<Item = &str>| words.collect::<Vec<_>>().join(" ");
            [
                cluster.clone(),
                namespace.clone(),
                group.clone(),
                resource.clone(),
                kind.clone(),
                name.clone(),
                if war.is_undecided() { "undecided" } else { "war" }.to_owned(),
                if war.deleted.is_some() { "deleted" } else { war.state.as_str() }.to_owned(),
                war.confidence.as_str().to_owned(),
                war.cause.as_str().to_owned(),
                time::text(war.since),
                time::text(war.until),
                war.retakes.to_string(),
                war.thrashing_events.to_string(),
                war.retakes_per_minute.map(|rate| format!("{rate:.1}")).unwrap_or_default(),
                joined(&mut war.parties.iter().map(|party| party.actor.as_str())),
                joined(&mut war.fields.iter().map(|field| field.path.as_str())),
            ]
        }),
    )
}

/// Formats writes as CSV, one row for each changed field. A write whose changes are not known has one row.
pub(in crate::cli) fn csv_writes<'w>(writes: impl Iterator<Item = (&'w Object, &'w TimelineEntry)>) -> Result<String> {
    let rows = writes.flat_map(|(object, write)| {
        let row = |change: Option<&ChangeView>| {
            let value = |json: &serde_json::Value, is_redacted: bool| match json {
                _ if is_redacted => "(redacted)".to_owned(),
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let (field, old, new) = match change {
                Some(change) => (
                    change.path.clone(),
                    value(&change.old, change.old_redacted),
                    value(&change.new, change.new_redacted),
                ),
                None => Default::default(),
            };
            [
                time::text(write.at),
                object.cluster.clone(),
                object.namespace.clone(),
                object.group.clone(),
                object.resource.clone(),
                object.name.clone(),
                write.actor.clone(),
                write.tool.clone(),
                write.verb.clone(),
                field,
                old,
                new,
            ]
        };
        let changes: Vec<_> = match write.changes.as_slice() {
            [] => vec![row(None)],
            changes => changes.iter().map(|change| row(Some(change))).collect(),
        };
        changes
    });
    csv(&WRITE_COLUMNS, rows)
}

fn csv<const N: usize>(columns: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns)?;
    for row in rows {
        writer.write_record(row.map(|cell| harmless(&cell)))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// Escapes control characters, and puts an apostrophe before what a spreadsheet would execute as a formula.
fn harmless(cell: &str) -> String {
    let text = escape::text(cell);
    if text.starts_with(['=', '+', '-', '@']) && text.parse::<f64>().is_err() {
        return format!("'{text}");
    }
    text.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_formulas_are_disarmed() {
        let rows = [["a,b\"c".to_owned(), "=HYPERLINK(1)".to_owned()], ["-1".to_owned(), "-x".to_owned()]];
        let text = csv(&["one", "two"], rows.into_iter()).unwrap();
        assert_eq!(text, "one,two\n\"a,b\"\"c\",'=HYPERLINK(1)\n-1,'-x\n");
    }
}
