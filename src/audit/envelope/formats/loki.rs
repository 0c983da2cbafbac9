//! Loki: the lines of `logcli -o jsonl`, and the streams of its API.

use super::{Content, Format, Inside, Value};
use crate::audit::envelope::object::{Object, elements, time, unescaped};

/// A line of `logcli -o jsonl`.
pub(super) const ENTRY: Format = Format { name: "Loki", open: entry };
/// A stream of an answer or of a push: pairs of a time and a line.
pub(super) const STREAM: Format = Format { name: "Loki", open: stream };

fn entry<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    object.get("labels").filter(|labels| labels.first() == Some(&b'{'))?;
    let line = Value::Text(object.bytes("line")?);
    Some(Content::one(line, object.get("timestamp").and_then(time), String::new()))
}

fn stream<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    object.get("stream").filter(|labels| labels.first() == Some(&b'{'))?;
    let mut inside = Inside::default();
    for pair in object.array("values")? {
        let pair = elements(pair)?;
        inside.at = inside.at.or_else(|| pair.first().and_then(|at| time(at)));
        inside.values.push(Value::Text(pair.get(1).and_then(|line| unescaped(line))?));
    }
    Some(Content::Inside(inside))
}
