//! Google Pub/Sub: messages that are pushed, and those of `gcloud pubsub subscriptions pull`.

use super::{Content, Format, Value};
use crate::audit::envelope::object::{Object, time};

/// A message with its subscription.
pub(super) const FORMAT: Format = Format { name: "Pub/Sub", open };

fn open<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    let message = object.object("message")?;
    let at = message.get("publishTime").and_then(time);
    let data = message.get("data")?;
    if !message.has("messageId") && !message.has("publishTime") && !object.has("ackId") {
        return None;
    }
    Some(Content::one(Value::of_base64(data)?, at, String::new()))
}
