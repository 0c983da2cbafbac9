//! Amazon Data Firehose, and records of Kinesis: `data` is base64, mostly of a compressed CloudWatch subscription.

use super::{Content, Format, Value};
use crate::audit::envelope::object::Object;

/// One record.
pub(super) const FORMAT: Format = Format { name: "Firehose", open };

fn open<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    // What Lambda receives from Kinesis has the record below `kinesis`.
    let kinesis = object.object("kinesis");
    let record = kinesis.as_ref().unwrap_or(object);
    // A record has nothing else that could be events.
    let is_record = record.get("data")?.first() == Some(&b'"') && !record.has("message") && !record.has("log");
    if !is_record {
        return None;
    }
    Some(Content::one(Value::of_base64(record.get("data")?)?, None, String::new()))
}
