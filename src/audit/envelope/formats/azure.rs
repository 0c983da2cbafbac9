//! Azure: diagnostic records of AKS, as Event Hubs and blobs have them, and the tables of Log Analytics.

use std::borrow::Cow;
use std::io::Write as _;

use super::{Content, Format, Inside, Value};
use crate::audit::envelope::object::{Object, elements, object_of, push_string, time, time_of_text, unescaped};
use crate::audit::envelope::reader::Reader;
use crate::audit::envelope::unwrap::NOT_JSON;
use crate::audit::event::Micros;
use crate::audit::json_scan::{skip_space, skip_value};

/// A diagnostic record, or a row of the table AzureDiagnostics.
pub(super) const RECORD: Format = Format { name: "Azure Monitor", open: record };
/// A row of the tables AKSAudit and AKSAuditAdmin, or a table in an answer.
pub(super) const TABLE: Format = Format { name: "Log Analytics", open: table };

/// The columns by which tables of events are recognized.
pub(super) const NEEDED: [&str; 2] = ["AuditId", "Verb"];

/// The columns of the tables AKSAudit and AKSAuditAdmin, and the members of the event that they are.
const COLUMNS: [(&str, &str, Kind); 16] = [
    ("Level", "level", Kind::Text),
    ("AuditId", "auditID", Kind::Text),
    ("Stage", "stage", Kind::Text),
    ("RequestUri", "requestURI", Kind::Text),
    ("Verb", "verb", Kind::Text),
    ("User", "user", Kind::Json),
    ("SourceIps", "sourceIPs", Kind::Json),
    ("UserAgent", "userAgent", Kind::Text),
    ("ObjectRef", "objectRef", Kind::Json),
    ("ResponseStatus", "responseStatus", Kind::Json),
    ("RequestObject", "requestObject", Kind::Json),
    ("ResponseObject", "responseObject", Kind::Json),
    ("Annotations", "annotations", Kind::Json),
    ("ImpersonatedUser", "impersonatedUser", Kind::Json),
    ("RequestReceivedTime", "requestReceivedTimestamp", Kind::Time),
    ("StageReceivedTime", "stageTimestamp", Kind::Time),
];

/// What a column has.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Text, whatever a client has put into it.
    Text,
    /// An object or a list, in most exports as text.
    Json,
    Time,
}

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
    if !NEEDED.iter().all(|column| object.has(column)) {
        return None;
    }
    let mut event = Vec::with_capacity(EVENT_BYTES);
    push_event(&mut event, |column| {
        let (name, _, kind) = COLUMNS[column];
        let of_portal = || (kind == Kind::Time).then(|| object.get(&format!("{name}{UTC}"))).flatten();
        object.get(name).or_else(of_portal).map(Cell::Json)
    })?;
    Some(Content::Changed(event))
}

/// The positions of the columns of a table of events. None has as many columns as 16 bits can count.
pub(super) struct Columns([Option<u16>; COLUMNS.len()]);

// === impl Columns ===

impl Columns {
    /// Returns the positions in a header, or `None` if the table is not one of events.
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str>) -> Option<Columns> {
        let mut found = Columns([None; COLUMNS.len()]);
        let mut has = [false; NEEDED.len()];
        for (position, name) in (0..=u16::MAX).zip(names) {
            let name = name.strip_suffix(UTC).unwrap_or(name);
            if let Some(column) = COLUMNS.iter().position(|(column, ..)| *column == name) {
                found.0[column].get_or_insert(position);
            }
            has.iter_mut().zip(NEEDED).for_each(|(has, needed)| *has |= name == needed);
        }
        has.iter().all(|has| *has).then_some(found)
    }

    /// Returns the cell of a column. `get` returns the cell at a position.
    pub(super) fn cell<'a>(&self, column: usize, get: impl Fn(usize) -> Option<Cell<'a>>) -> Option<Cell<'a>> {
        self.0[column].map(usize::from).and_then(get)
    }
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

/// Appends the event that a row stands for, without line breaks. `cell` returns the cell of a column, which is given by its
/// index in [`COLUMNS`]. Returns `None` if the row is not an event; a part of it may have been appended by then.
pub(super) fn push_event<'a>(event: &mut Vec<u8>, cell: impl Fn(usize) -> Option<Cell<'a>>) -> Option<()> {
    let start = event.len();
    event.extend_from_slice(br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1""#);
    for (column, (_, member, kind)) in COLUMNS.iter().enumerate() {
        if let Some(cell) = cell(column) {
            push_member(event, member, &cell, *kind)?;
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

/// Appends a member, unless it is empty.
fn push_member(event: &mut Vec<u8>, member: &str, cell: &Cell<'_>, kind: Kind) -> Option<()> {
    let start = event.len();
    write!(event, ",\"{member}\":").ok()?;
    let value = event.len();
    match cell {
        Cell::Json(br#""""#) | Cell::Text(b"") => event.truncate(start),
        _ if kind == Kind::Time => match cell.time() {
            Some(at) => write!(event, "\"{:.6}\"", jiff::Timestamp::from_microsecond(at).ok()?).ok()?,
            None => event.truncate(start),
        },
        Cell::Json(raw) if kind == Kind::Json && raw.first() == Some(&b'"') => {
            // What is no JSON remains a text, as the platform puts it in the place of a body that is too large.
            if push_string(raw, event).is_none() || !is_json(&event[value..]) {
                event.truncate(value);
                event.extend_from_slice(raw);
            }
        }
        Cell::Text(text) if !(kind == Kind::Json && is_json(text)) => {
            serde_json::to_writer(event, std::str::from_utf8(text).ok()?).ok()?;
        }
        Cell::Json(json) | Cell::Text(json) => event.extend_from_slice(json),
    }
    Some(())
}

/// Returns whether a text is one object or list, so that what is in it cannot become a member of the event. All of a list is
/// checked, since markers such as `[truncated]` look like one.
fn is_json(text: &[u8]) -> bool {
    match text.first() {
        Some(b'{') => skip_value(text, 0).is_some_and(|end| skip_space(text, end) == text.len()),
        Some(b'[') => serde_json::from_slice::<&serde_json::value::RawValue>(text).is_ok(),
        _ => false,
    }
}

/// Returns what the rows of a table are: events, or objects.
fn rows_of<'a>(columns: &[&'a [u8]], rows: &'a [u8]) -> Option<Content<'a>> {
    let name = |column: &&'a [u8]| Object::of(column)?.get("name")?.strip_prefix(b"\"")?.strip_suffix(b"\"");
    let names: Vec<&[u8]> = columns.iter().map(name).collect::<Option<_>>()?;
    let columns = Columns::of(names.iter().map(|name| std::str::from_utf8(name).unwrap_or_default()));
    let Some(columns) = columns else {
        let object = |row: &'a [u8]| {
            let members = names.iter().copied().zip(elements(row)?);
            Some(Value::Made(Cow::Owned(object_of(members))))
        };
        let values = elements(rows)?.into_iter().map(object).collect::<Option<_>>()?;
        return Some(Content::Inside(Inside { values, ..Inside::default() }));
    };
    let mut lines = Vec::with_capacity(rows.len());
    let mut count = 0;
    Reader::new(rows).within(*b"[]", |row| {
        let end = lines.len();
        let cells = row.elements()?;
        let get = |at: usize| cells.get(at).filter(|raw| **raw != b"null").map(|raw| Cell::Json(raw));
        match push_event(&mut lines, |column| columns.cell(column, get)) {
            Some(()) => {
                lines.push(b'\n');
                count += 1;
            }
            None => {
                lines.truncate(end);
                lines.extend_from_slice(NOT_JSON);
            }
        }
        Some(())
    })?;
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

    #[test]
    fn a_body_that_is_no_json_stays_a_text() {
        let of = |body: &str| {
            let row = format!(r#"{{"AuditId":"a","Verb":"patch","User":"{{}}\n","RequestObject":{body}}}"#);
            match table(&Object::of(row.as_bytes()).unwrap()) {
                Some(Content::Changed(event)) => String::from_utf8(event).unwrap(),
                _ => panic!("{row} is an event"),
            }
        };
        let start = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a","verb":"patch","user":{} ,"requestObject":"#;
        for (body, expected) in [
            (r#""{\"a\":\"}\"}""#, r#"{"a":"}"}"#),
            (r#""{\"a\":{}""#, r#""{\"a\":{}""#),
            (r#""{\"a\":1},\"verb\":\"get\"""#, r#""{\"a\":1},\"verb\":\"get\"""#),
            (r#""{\"a\":\"\ud83d""#, r#""{\"a\":\"\ud83d""#),
            (r#""[truncated]""#, r#""[truncated]""#),
            (r#""[1,\n2]""#, "[1, 2]"),
        ] {
            assert_eq!(of(body), format!("{start}{expected}}}"));
        }
    }
}
