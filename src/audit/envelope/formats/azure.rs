//! Azure: diagnostic records of AKS, as Event Hubs and blobs have them, and the tables of Log Analytics.

use std::borrow::Cow;

use super::{Content, Format, Inside, Value};
use crate::audit::envelope::object::{Object, elements, object_of, push_one_line, time, time_of_text, unescaped};
use crate::audit::envelope::unwrap::NOT_JSON;
use crate::audit::event::Micros;
use crate::audit::json_scan::skip_value;

/// A diagnostic record, or a row of the table AzureDiagnostics.
pub(super) const RECORD: Format = Format { name: "Azure Monitor", open: record };
/// A row of the tables AKSAudit and AKSAuditAdmin, or a table in an answer.
pub(super) const TABLE: Format = Format { name: "Log Analytics", open: table };

/// The column by which tables of events are recognized.
pub(super) const ID: &str = "AuditId";

/// The columns of the tables AKSAudit and AKSAuditAdmin, and the members of the event that they are.
const COLUMNS: [(&str, &str); 14] = [
    ("Level", "level"),
    (ID, "auditID"),
    ("Stage", "stage"),
    ("RequestUri", "requestURI"),
    ("Verb", "verb"),
    ("User", "user"),
    ("SourceIps", "sourceIPs"),
    ("UserAgent", "userAgent"),
    ("ObjectRef", "objectRef"),
    ("ResponseStatus", "responseStatus"),
    ("RequestObject", "requestObject"),
    ("ResponseObject", "responseObject"),
    ("Annotations", "annotations"),
    ("ImpersonatedUser", "impersonatedUser"),
];
/// The columns with objects and lists. The others are text, whatever a client has put into it.
const OBJECTS: [&str; 8] = [
    "User",
    "SourceIps",
    "ObjectRef",
    "ResponseStatus",
    "RequestObject",
    "ResponseObject",
    "Annotations",
    "ImpersonatedUser",
];
/// The columns with times.
const TIMES: [(&str, &str); 2] =
    [("RequestReceivedTime", "requestReceivedTimestamp"), ("StageReceivedTime", "stageTimestamp")];
/// What the portal appends to the names of columns with times.
const UTC: &str = " [UTC]";

fn record<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    let properties = object.object("properties");
    let (log, pod) = match &properties {
        Some(properties) => (properties.get("log"), properties.text("pod")),
        None => (object.get("log_s"), object.text("pod_s")),
    };
    let category = object.string("category").or_else(|| object.string("Category"));
    if category.is_some_and(|category| !category.starts_with("kube-audit")) && properties.is_some() {
        return Some(Content::Other);
    }
    let at = ["time", "TimeGenerated"].iter().find_map(|key| object.get(key)).and_then(time);
    Some(Content::one(Value::of(log?)?, at, pod))
}

fn table<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    if let (Some(columns), Some(rows)) = (object.array("columns"), object.array("rows")) {
        return rows_of(&columns, &rows);
    }
    if !object.has(ID) || !object.has("Verb") {
        return None;
    }
    event_of(|column| object.get(column).map(|raw| Cell::of(column, raw))).map(Content::Changed)
}

/// A cell of a table.
pub(super) enum Cell<'a> {
    Json(&'a [u8]),
    Text(Cow<'a, [u8]>),
}

// === impl Cell ===

impl<'a> Cell<'a> {
    /// Returns a cell of a column whose raw value is known.
    fn of(column: &str, raw: &'a [u8]) -> Cell<'a> {
        // Columns with objects are text with JSON in most exports. That of others is the same in the event.
        let is_text = raw == br#""""# || OBJECTS.contains(&column);
        match is_text.then(|| unescaped(raw)).flatten() {
            Some(text) => Cell::Text(Cow::Owned(text)),
            None => Cell::Json(raw),
        }
    }

    fn time(&self) -> Option<Micros> {
        match self {
            Cell::Json(raw) => time(raw),
            Cell::Text(text) => {
                let text = std::str::from_utf8(text).ok()?;
                time_of_text(text).or_else(|| portal_time(text))
            }
        }
    }
}

/// Returns the event whose members are the columns of a table.
pub(super) fn event_of<'a>(cell: impl Fn(&str) -> Option<Cell<'a>>) -> Option<Vec<u8>> {
    let mut event = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1""#.to_vec();
    for (column, member) in COLUMNS {
        match cell(column) {
            None => {}
            Some(Cell::Text(text)) if text.is_empty() => {}
            Some(Cell::Text(text)) if OBJECTS.contains(&column) && is_json(&text) => push(&mut event, member, &text),
            Some(Cell::Text(text)) => {
                push(&mut event, member, serde_json::to_string(std::str::from_utf8(&text).ok()?).ok()?.as_bytes());
            }
            Some(Cell::Json(json)) => push(&mut event, member, json),
        }
    }
    for (column, member) in TIMES {
        let cell = cell(column).or_else(|| cell(&format!("{column}{UTC}")));
        if let Some(at) = cell.and_then(|cell| cell.time()) {
            let at = jiff::Timestamp::from_microsecond(at).ok()?;
            push(&mut event, member, format!("\"{at:.6}\"").as_bytes());
        }
    }
    event.push(b'}');
    Some(event)
}

/// Returns whether a text is one object or list, so that what is in it cannot become a member of the event. Whether it is
/// valid is checked where it is used.
fn is_json(text: &[u8]) -> bool {
    matches!(text.first(), Some(b'{' | b'[')) && skip_value(text, 0) == Some(text.len())
}

fn push(event: &mut Vec<u8>, member: &str, value: &[u8]) {
    for part in [b",\"", member.as_bytes(), b"\":"] {
        event.extend_from_slice(part);
    }
    event.extend_from_slice(value);
}

/// Returns what the rows of a table are: events, or objects.
fn rows_of<'a>(columns: &[&'a [u8]], rows: &[&'a [u8]]) -> Option<Content<'a>> {
    let name = |column: &&'a [u8]| Object::of(column)?.get("name")?.strip_prefix(b"\"")?.strip_suffix(b"\"");
    let names: Vec<&[u8]> = columns.iter().map(name).collect::<Option<_>>()?;
    if !names.contains(&ID.as_bytes()) {
        let object = |row: &&'a [u8]| {
            let members = names.iter().copied().zip(elements(row)?);
            Some(Value::Made(Cow::Owned(object_of(members))))
        };
        let values = rows.iter().map(object).collect::<Option<_>>()?;
        return Some(Content::Inside(Inside { values, ..Inside::default() }));
    }
    let event = |row: &[u8]| {
        let cells = elements(row)?;
        event_of(|column| {
            let index = names.iter().position(|name| *name == column.as_bytes())?;
            cells.get(index).filter(|raw| **raw != b"null").map(|raw| Cell::of(column, raw))
        })
    };
    let (mut lines, mut count) = (Vec::new(), 0);
    for row in rows {
        match event(row) {
            Some(event) => {
                push_one_line(&event, &mut lines);
                lines.push(b'\n');
                count += 1;
            }
            None => lines.extend_from_slice(NOT_JSON),
        }
    }
    Some(Content::Lines { lines, count })
}

/// Parses a time as the portal exports it: `1/10/2023, 10:52:33.123 PM`.
fn portal_time(text: &str) -> Option<Micros> {
    let time = jiff::fmt::strtime::parse("%m/%d/%Y, %I:%M:%S%.f %p", text).ok()?.to_datetime().ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_portal_are_read() {
        assert_eq!(portal_time("1/10/2023, 10:52:33.123 PM"), Some(1_673_391_153_123_000));
        assert_eq!(portal_time("2023"), None);
    }
}
