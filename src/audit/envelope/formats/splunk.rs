//! Splunk: events for the HTTP event collector, and exported results.

use super::{Content, Format, Value};
use crate::audit::envelope::object::{Object, time};

/// An event, or a result.
pub(super) const FORMAT: Format = Format { name: "Splunk", open };

fn open<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    if let Some(result) = object.object("result") {
        let raw = Value::Text(result.bytes("_raw")?);
        return Some(Content::one(raw, result.get("_time").and_then(time), String::new()));
    }
    if let Some(raw) = object.bytes("_raw") {
        return Some(Content::one(Value::Text(raw), object.get("_time").and_then(time), String::new()));
    }
    // The other members of an event for the collector; `event` alone is too common a name.
    let is_event = ["sourcetype", "source", "host", "index", "time", "fields"].iter().any(|key| object.has(key));
    let event = Value::of(object.get("event").filter(|_| is_event)?)?;
    Some(Content::one(event, object.get("time").and_then(time), String::new()))
}
