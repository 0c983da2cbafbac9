//! OpenTelemetry logs over HTTP: the protobuf form of requests, and the answers.
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use hyper::header::{CONTENT_TYPE, HeaderMap};
use prost::Message;
use serde_json::{Map, Value, json};

use super::{text, with_body};
use crate::net::Reply;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// Whether a request is protobuf.
pub(super) fn is_protobuf(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case(PROTOBUF))
}

/// Returns the answer: an empty message if the request was accepted, or else a Status. Records that are not audit events are
/// accepted too, since sending them again would not help.
pub(super) fn answer(headers: &HeaderMap, reply: Reply) -> Reply {
    let is_protobuf = is_protobuf(headers);
    if reply.status().is_success() {
        let (media_type, empty) = if is_protobuf { (PROTOBUF, "") } else { (JSON, "{}") };
        return with_body(reply, media_type, empty);
    }
    let status = Status { message: text(&reply) };
    if is_protobuf {
        with_body(reply, PROTOBUF, status.encode_to_vec())
    } else {
        with_body(reply, JSON, json!({"message": status.message}).to_string())
    }
}

/// Returns a request as lines of JSON, one for each record.
///
/// # Errors
/// It is not a valid message.
pub(super) fn json(body: &[u8]) -> Result<Vec<u8>, String> {
    let request = ExportLogsServiceRequest::decode(body).map_err(|error| error.to_string())?;
    let mut lines = Vec::with_capacity(body.len() + body.len() / 4);
    for resource in &request.resource_logs {
        for record in resource.scope_logs.iter().flat_map(|scope| &scope.log_records) {
            let time = if record.time_unix_nano > 0 { record.time_unix_nano } else { record.observed_time_unix_nano };
            let body = match record.body.as_ref().and_then(|body| body.value.as_ref()) {
                Some(any_value::Value::String(text)) => Value::String(text.clone()),
                Some(any_value::Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into(),
                Some(value) => value_of(value),
                None => continue,
            };
            let line = json!({"timestamp": time, "message": body});
            serde_json::to_writer(&mut lines, &line).map_err(|error| error.to_string())?;
            lines.push(b'\n');
        }
    }
    Ok(lines)
}

/// Returns the JSON that a value stands for.
fn value_of(value: &any_value::Value) -> Value {
    let inner = |value: &AnyValue| value.value.as_ref().map_or(Value::Null, value_of);
    match value {
        any_value::Value::String(text) => text.clone().into(),
        any_value::Value::Bool(is_so) => (*is_so).into(),
        any_value::Value::Int(number) => (*number).into(),
        // The Collector's parser makes every number a double, also the codes of responses.
        any_value::Value::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => (*number as i64).into(),
        any_value::Value::Double(number) => (*number).into(),
        any_value::Value::Array(array) => array.values.iter().map(inner).collect(),
        any_value::Value::Kvlist(list) => {
            let pair = |pair: &KeyValue| (pair.key.clone(), pair.value.as_ref().map_or(Value::Null, inner));
            Value::Object(list.values.iter().map(pair).collect::<Map<_, _>>())
        }
        any_value::Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into(),
    }
}

/// The message of `google/rpc/status.proto`, with the only field that OTLP over HTTP needs.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
}

// The messages of opentelemetry/proto/collector/logs/v1, with the fields that are read.

#[derive(Clone, PartialEq, Message)]
struct ExportLogsServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceLogs {
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeLogs {
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct LogRecord {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(fixed64, tag = "11")]
    observed_time_unix_nano: u64,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "any_value::Value", tags = "1, 2, 3, 4, 5, 6, 7")]
    value: Option<any_value::Value>,
}

#[derive(Clone, PartialEq, Message)]
struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValueList {
    #[prost(message, repeated, tag = "1")]
    values: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

mod any_value {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Value {
        #[prost(string, tag = "1")]
        String(String),
        #[prost(bool, tag = "2")]
        Bool(bool),
        #[prost(int64, tag = "3")]
        Int(i64),
        #[prost(double, tag = "4")]
        Double(f64),
        #[prost(message, tag = "5")]
        Array(super::ArrayValue),
        #[prost(message, tag = "6")]
        Kvlist(super::KeyValueList),
        #[prost(bytes = "vec", tag = "7")]
        Bytes(Vec<u8>),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_a_status_in_the_encoding_of_the_request() {
        let mut refused = with_body(Reply::default(), "text/plain", "retry later\n");
        *refused.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, JSON.parse().unwrap());
        assert_eq!(text(&answer(&headers, refused.clone())), r#"{"message":"retry later"}"#);
        headers.insert(CONTENT_TYPE, PROTOBUF.parse().unwrap());
        let reply = answer(&headers, refused);
        assert_eq!((reply.status().as_u16(), &reply.headers()[CONTENT_TYPE]), (503, &PROTOBUF.parse().unwrap()));
        // Field 2, of 11 bytes.
        assert_eq!(text(&reply), "\u{12}\u{b}retry later");
    }
}
