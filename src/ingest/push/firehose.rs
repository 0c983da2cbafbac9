//! Amazon Data Firehose, HTTP endpoint delivery: the access key is a header, and the answer repeats the ID of the request.
//! <https://docs.aws.amazon.com/firehose/latest/dev/httpdeliveryrequestresponse.html>

use hyper::header::HeaderMap;
use serde_json::json;

use super::{text, with_body};
use crate::net::Reply;
use crate::util::clock;

const ACCESS_KEY: &str = "x-amz-firehose-access-key";
const REQUEST_ID: &str = "x-amz-firehose-request-id";

/// Returns the access key of a request.
pub(super) fn access_key(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(ACCESS_KEY)?.to_str().ok()?.to_owned())
}

/// Returns the answer with the ID of the request, without which Firehose repeats it.
pub(super) fn answer(headers: &HeaderMap, reply: Reply) -> Reply {
    let id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let mut answer = json!({"requestId": id, "timestamp": clock::now() / 1000});
    if !reply.status().is_success() {
        answer["errorMessage"] = text(&reply).into();
    }
    with_body(reply, "application/json", answer.to_string())
}
