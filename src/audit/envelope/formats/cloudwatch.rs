//! CloudWatch Logs: the entries of `aws logs` and of subscriptions, and the answers of Logs Insights.

use super::{Content, Format, Inside, Value};
use crate::audit::envelope::object::{Object, time};

/// A message about the subscription itself.
pub(super) const CONTROL: Format =
    Format { name: "CloudWatch", open: |object| object.is("messageType", "CONTROL_MESSAGE").then_some(Content::Other) };

/// An entry of a log stream.
pub(super) const ENTRY: Format = Format { name: "CloudWatch", open: entry };

/// A field of a row in the answer of `aws logs get-query-results`.
pub(super) const INSIGHTS: Format = Format { name: "CloudWatch Insights", open: insights };

fn entry<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    // What Lambda receives from a subscription.
    if let Some(data) = object.object("awslogs") {
        return Some(Content::one(Value::of_base64(data.get("data")?)?, None, String::new()));
    }
    let is_number = object.get("timestamp").is_some_and(|at| at.first().is_some_and(u8::is_ascii_digit));
    if !is_number || !["ingestionTime", "eventId", "id"].iter().any(|key| object.has(key)) {
        return None;
    }
    let message = Value::of(object.get("message")?)?;
    Some(Content::one(message, object.get("timestamp").and_then(time), object.text("logStreamName")))
}

fn insights<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    let (field, value) = (object.get("field")?, object.get("value")?);
    if field != b"\"@message\"" {
        return Some(Content::Inside(Inside::default()));
    }
    Some(Content::one(Value::of(value)?, None, String::new()))
}
