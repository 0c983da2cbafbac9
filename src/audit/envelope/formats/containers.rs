//! Objects with a list of entries. Each is unwrapped on its own.

use super::{Content, Format, Inside, Value};
use crate::audit::envelope::object::Object;

/// The format of objects with a list.
pub(super) const FORMAT: Format = Format { name: "", open };

/// The members that are lists of entries, and what has them.
pub(in crate::audit::envelope) const LISTS: &[&str] = &[
    // EventList.
    "items",
    // Firehose, Event Hubs and blobs of Azure Monitor.
    "records",
    // `aws logs filter-log-events` and `get-log-events`.
    "events",
    // CloudWatch subscriptions.
    "logEvents",
    // The answer of Logs Insights: rows of fields.
    "results",
    // OTLP.
    "resourceLogs",
    "scopeLogs",
    "logRecords",
    // Elasticsearch: hits.hits.
    "hits",
    // Loki's push API, and the answer to a query: data.result.
    "streams",
    "result",
    // Cloud Logging's API, and `gcloud logging read` behind a proxy.
    "entries",
    // Log Analytics' API.
    "tables",
    // Around the answer to a query of Loki.
    "data",
    // Lambda, as it receives records from Kinesis.
    "Records",
];

fn open<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    // A list of other Kubernetes objects is none of events.
    if object.has("kind") && !object.is("kind", "EventList") {
        return None;
    }
    let (_, list) = object.members().find(|(key, _)| LISTS.iter().any(|list| list.as_bytes() == *key))?;
    let value = match list.first()? {
        b'[' | b'{' => Value::Json(list),
        _ => return None,
    };
    Some(Content::Inside(Inside { values: vec![value], ..Inside::default() }))
}
