//! Azure: diagnostic records of AKS, as Event Hubs and blobs have them, and the tables of Log Analytics.

use std::borrow::Cow;
use std::io::Write as _;

use super::{Content, Format, Inside, Value};
use crate::audit::envelope::object::{
    Object, elements, first_elements, object_of, push_string, time, time_of_text, unescaped,
};
use crate::audit::envelope::unwrap::NOT_JSON;
use crate::audit::event::Micros;
use crate::audit::json_scan::{skip_space, skip_value};

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
/// The usual size of an event.
const EVENT_BYTES: usize = 4 << 10;
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
    if let (Some(columns), Some(rows)) = (object.array("columns"), object.get("rows")) {
        return rows_of(&columns, rows);
    }
    if !object.has(ID) || !object.has("Verb") {
        return None;
    }
    let mut event = Vec::with_capacity(EVENT_BYTES);
    push_event(&mut event, |column| object.get(column).map(Cell::Json))?;
    Some(Content::Changed(event))
}

/// A cell of a table.
pub(super) enum Cell<'a> {
    Json(&'a [u8]),
    Text(&'a [u8]),
}

// === impl Cell ===

impl Cell<'_> {
    fn time(&self) -> Option<Micros> {
        let text = match self {
            Cell::Json(raw) if raw.first() == Some(&b'"') => Cow::Owned(unescaped(raw)?),
            Cell::Json(text) | Cell::Text(text) => Cow::Borrowed(*text),
        };
        let text = std::str::from_utf8(&text).ok()?;
        time_of_text(text).or_else(|| portal_time(text))
    }
}

/// Appends the event whose members are the columns of a table, without line breaks. `cell` returns that of a column.
pub(super) fn push_event<'a>(event: &mut Vec<u8>, cell: impl Fn(&str) -> Option<Cell<'a>>) -> Option<()> {
    let start = event.len();
    event.extend_from_slice(br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1""#);
    for (column, member) in COLUMNS {
        if let Some(cell) = cell(column) {
            push_member(event, member, &cell, OBJECTS.contains(&column))?;
        }
    }
    for (column, member) in TIMES {
        let cell = cell(column).or_else(|| cell(&format!("{column}{UTC}")));
        if let Some(at) = cell.and_then(|cell| cell.time()) {
            let at = jiff::Timestamp::from_microsecond(at).ok()?;
            write!(event, ",\"{member}\":\"{at:.6}\"").ok()?;
        }
    }
    event.push(b'}');
    // In JSON, they are white space.
    let mut from = start;
    while let Some(len) = memchr::memchr(b'\n', &event[from..]) {
        event[from + len] = b' ';
        from += len + 1;
    }
    Some(())
}

/// Appends a member, unless it is empty. Objects and lists are text with JSON in most exports.
fn push_member(event: &mut Vec<u8>, member: &str, cell: &Cell<'_>, is_object: bool) -> Option<()> {
    let start = event.len();
    write!(event, ",\"{member}\":").ok()?;
    let value = event.len();
    match cell {
        Cell::Json(br#""""#) | Cell::Text(b"") => event.truncate(start),
        Cell::Json(raw) if is_object && raw.first() == Some(&b'"') => {
            push_string(raw, event)?;
            if !is_json(&event[value..]) {
                event.truncate(value);
                event.extend_from_slice(raw);
            }
        }
        Cell::Text(text) if !(is_object && is_json(text)) => {
            serde_json::to_writer(event, std::str::from_utf8(text).ok()?).ok()?;
        }
        Cell::Json(json) | Cell::Text(json) => event.extend_from_slice(json),
    }
    Some(())
}

/// Returns whether a text is one object or list, so that what is in it cannot become a member of the event. Whether it is
/// valid is checked where it is used.
fn is_json(text: &[u8]) -> bool {
    matches!(text.first(), Some(b'{' | b'[')) && skip_value(text, 0) == Some(text.len())
}

/// Returns what the rows of a table are: events, or objects.
fn rows_of<'a>(columns: &[&'a [u8]], rows: &'a [u8]) -> Option<Content<'a>> {
    let name = |column: &&'a [u8]| Object::of(column)?.get("name")?.strip_prefix(b"\"")?.strip_suffix(b"\"");
    let names: Vec<&[u8]> = columns.iter().map(name).collect::<Option<_>>()?;
    if !names.contains(&ID.as_bytes()) {
        let object = |row: &'a [u8]| {
            let members = names.iter().copied().zip(elements(row)?);
            Some(Value::Made(Cow::Owned(object_of(members))))
        };
        let values = elements(rows)?.into_iter().map(object).collect::<Option<_>>()?;
        return Some(Content::Inside(Inside { values, ..Inside::default() }));
    }
    let mut lines = Vec::with_capacity(rows.len());
    let mut count = 0;
    let mut at = skip_space(rows, rows.starts_with(b"[").then_some(1)?);
    while rows.get(at)? != &b']' {
        let end = lines.len();
        let (cells, len) = first_elements(&rows[at..])?;
        let cell = |column: &str| {
            let index = names.iter().position(|name| *name == column.as_bytes())?;
            cells.get(index).filter(|raw| **raw != b"null").map(|raw| Cell::Json(raw))
        };
        match push_event(&mut lines, cell) {
            Some(()) => {
                lines.push(b'\n');
                count += 1;
            }
            None => {
                lines.truncate(end);
                lines.extend_from_slice(NOT_JSON);
            }
        }
        at = skip_space(rows, at + len);
        match rows.get(at)? {
            b',' => at = skip_space(rows, at + 1),
            b']' => {}
            _ => return None,
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
