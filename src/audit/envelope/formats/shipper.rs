//! Log shippers: Fluent Bit, Fluentd, Vector, Filebeat, the container runtimes. The line of the log is one member.

use super::{Content, Format, Value};
use crate::audit::envelope::object::{Object, time};

/// An entry of any shipper.
pub(super) const FORMAT: Format = Format { name: "log shipper", open };

/// The members that shippers use for the line.
const LINES: [&str; 8] = ["log", "message", "line", "@message", "msg", "payload", "textPayload", "jsonPayload"];
/// The members that shippers use for the time.
const TIMES: [&str; 6] = ["@timestamp", "timestamp", "time", "ts", "date", "_timestamp"];

fn open<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    // Filebeat has an object named `log` beside the text of the line.
    let is_text = |raw: &&[u8]| raw.first() == Some(&b'"');
    let text = LINES.iter().find_map(|key| object.get(key).filter(is_text));
    let line = text.or_else(|| LINES.iter().find_map(|key| object.get(key))).and_then(Value::of)?;
    let at = TIMES.iter().find_map(|key| object.get(key)).and_then(time);
    // A container runtime splits long lines, each stream on its own.
    let stream = ["stream", "file", "host", "container_id"].map(|key| object.text(key)).join("/");
    Some(Content::one(line, at, stream))
}
