//! OpenTelemetry: log records in JSON. The protobuf form is decoded where it arrives.

use std::borrow::Cow;

use super::{Content, Format, Value};
use crate::audit::envelope::object::{Object, time};

/// A log record.
pub(super) const RECORD: Format = Format { name: "OTLP", open };

/// The logs of one resource of OpenShift.
pub(super) const OPENSHIFT: Format = Format { name: OPENSHIFT_NAME, open: openshift };

/// The name of the logs that ClusterLogForwarder sends.
pub(crate) const OPENSHIFT_NAME: &str = "OTLP of OpenShift";

/// Maximum depth of a body that is made of key-value lists.
const DEPTH_MAX: usize = 64;

fn openshift<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    let resource = object.get("resource")?;
    memchr::memmem::find(resource, b"\"openshift.").is_some().then_some(())?;
    Some(Content::one(Value::Json(object.get("scopeLogs")?), None, String::new()))
}

fn open<'a>(object: &Object<'a>) -> Option<Content<'a>> {
    let body = object.object("body")?;
    let at = ["timeUnixNano", "observedTimeUnixNano"].iter().find_map(|key| object.get(key)).and_then(time);
    let value = match (body.bytes("stringValue"), body.get("bytesValue")) {
        (Some(text), _) => Value::Text(text),
        (None, Some(bytes)) => Value::of_base64(bytes)?,
        (None, None) => {
            let mut json = Vec::new();
            any_value(&body, DEPTH_MAX, &mut json)?;
            Value::Made(Cow::Owned(json))
        }
    };
    Some(Content::one(value, at, String::new()))
}

/// Appends the JSON that an `AnyValue` stands for.
fn any_value(value: &Object<'_>, depth: usize, json: &mut Vec<u8>) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    if let Some(list) = value.object("kvlistValue") {
        json.push(b'{');
        for (index, pair) in list.array("values").unwrap_or_default().into_iter().enumerate() {
            let pair = Object::of(pair)?;
            if index > 0 {
                json.push(b',');
            }
            // An empty key is left out in OTLP's JSON.
            json.extend_from_slice(pair.get("key").unwrap_or(b"\"\""));
            json.push(b':');
            match pair.object("value") {
                Some(value) => any_value(&value, depth, json)?,
                None => json.extend_from_slice(b"null"),
            }
        }
        json.push(b'}');
    } else if let Some(list) = value.object("arrayValue") {
        json.push(b'[');
        for (index, element) in list.array("values").unwrap_or_default().into_iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            any_value(&Object::of(element)?, depth, json)?;
        }
        json.push(b']');
    } else if let Some(number) = value.get("intValue") {
        // 64-bit integers are strings in OTLP's JSON.
        let number = number.strip_prefix(b"\"").and_then(|n| n.strip_suffix(b"\"")).unwrap_or(number);
        let number: i64 = std::str::from_utf8(number).ok()?.parse().ok()?;
        json.extend_from_slice(number.to_string().as_bytes());
    } else if let Some(number) = value.get("doubleValue") {
        // The Collector's parser makes every number a double, also the codes of responses.
        let text = std::str::from_utf8(number).ok()?;
        json.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    } else {
        let scalar = ["stringValue", "boolValue"].iter().find_map(|key| value.get(key));
        json.extend_from_slice(scalar.unwrap_or(b"null"));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parsed_body_is_the_json_that_it_was() {
        let body = br#"{"kvlistValue":{"values":[
            {"key":"a","value":{"stringValue":"x\"y"}},
            {"key":"b","value":{"arrayValue":{"values":[{"intValue":"7"},{"boolValue":true},{"doubleValue":1.5},{"doubleValue":200.0}]}}},
            {"key":"c","value":{"kvlistValue":{"values":[]}}},
            {"key":"d","value":{}},
            {"value":{"kvlistValue":{}}}]}}"#;
        let mut json = Vec::new();
        any_value(&Object::of(body).unwrap(), DEPTH_MAX, &mut json).unwrap();
        assert_eq!(String::from_utf8(json).unwrap(), r#"{"a":"x\"y","b":[7,true,1.5,200],"c":{},"d":null,"":{}}"#);
        let deep = format!("{}{{}}{}", r#"{"arrayValue":{"values":["#.repeat(100), "]}}".repeat(100));
        assert!(any_value(&Object::of(deep.as_bytes()).unwrap(), DEPTH_MAX, &mut Vec::new()).is_none());
    }
}
