//! Azure: diagnostic records of AKS, as Event Hubs and blobs have them, and the tables of Log Analytics.

use std::borrow::Cow;

use super::{Content, Format, Inside, Value};
use crate::audit::envelope::object::{Object, elements, object_of, string, time, unescaped};
use crate::audit::event::Micros;
use crate::audit::json_scan::skip_value;

/// A diagnostic record, or a row of the table AzureDiagnostics.
pub(super) const RECORD: Format = Format { name: "Azure Monitor", open: record };
/// A row of the tables AKSAudit and AKSAuditAdmin, or a table in an answer.
pub(super) const TABLE: Format = Format { name: "Log Analytics", open: table };

/// The columns of the tables AKSAudit and AKSAuditAdmin, and the members of the event that they are.
const COLUMNS: [(&str, &str); 14] = [
    ("Level", "level"),
    ("AuditId", "auditID"),
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
        return rows_of(&columns, &rows).map(|values| Content::Inside(Inside { values, ..Inside::default() }));
    }
    if !object.has("AuditId") || !object.has("Verb") {
        return None;
    }
    let mut event = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1""#.to_vec();
    for (column, member) in COLUMNS {
        // Columns with objects are text with JSON in most exports.
        let value = match object.get(column) {
            None => continue,
            Some(raw) => match OBJECTS.contains(&column).then(|| unescaped(raw)).flatten().filter(|text| is_json(text))
            {
                Some(json) => Cow::Owned(json),
                None if raw == br#""""# => continue,
                None => Cow::Borrowed(raw),
            },
        };
        push(&mut event, member, &value);
    }
    for (column, member) in TIMES {
        let raw = object.get(column).or_else(|| object.get(&format!("{column}{UTC}")));
        if let Some(at) = raw.and_then(|raw| time(raw).or_else(|| portal_time(&string(raw)?))) {
            let at = jiff::Timestamp::from_microsecond(at).ok()?;
            push(&mut event, member, format!("\"{at:.6}\"").as_bytes());
        }
    }
    event.push(b'}');
    Some(Content::Changed(event))
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

/// Returns the rows of a table as objects.
fn rows_of<'a>(columns: &[&'a [u8]], rows: &[&'a [u8]]) -> Option<Vec<Value<'a>>> {
    let name = |column: &&'a [u8]| Object::of(column)?.get("name")?.strip_prefix(b"\"")?.strip_suffix(b"\"");
    let names: Vec<&[u8]> = columns.iter().map(name).collect::<Option<_>>()?;
    let row = |row: &&'a [u8]| {
        let members = names.iter().copied().zip(elements(row)?);
        Some(Value::Made(Cow::Owned(object_of(members))))
    };
    rows.iter().map(row).collect()
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
