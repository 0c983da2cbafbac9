//! Responses of the HTTP API.

use std::borrow::Cow;
use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::escape;
use crate::net::Reply;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The body of any answer, complete or streaming.
pub(crate) type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// Why a request cannot be answered, and the HTTP status for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) error: String,
}

/// An error response.
#[derive(Serialize, JsonSchema)]
pub(super) struct Problem<'a> {
    /// What is wrong, and what to do about it.
    error: Cow<'a, str>,
}

// === impl Failure ===

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Failure {
        Failure { status, error: error.into() }
    }

    pub(super) fn reply(&self) -> Reply {
        problem(self.status, &self.error)
    }
}

pub(super) fn text(status: StatusCode, text: String) -> Reply {
    reply(status, TEXT, text.into_bytes().into_boxed_slice().into())
}

pub(super) fn json(value: &impl Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(body) => reply(StatusCode::OK, JSON, harmless(body)),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

pub(super) fn problem(status: StatusCode, error: &str) -> Reply {
    let body = serde_json::to_string(&Problem { error: error.into() }).unwrap_or_default();
    reply(status, JSON, harmless(body))
}

/// Escapes JSON so that it is safe to show on a terminal.
fn harmless(body: String) -> Bytes {
    let body = match escape::json(&body) {
        Cow::Borrowed(_) => body,
        Cow::Owned(escaped) => escaped,
    };
    // Drops the spare capacity, because the body is held until the client has read it.
    body.into_bytes().into_boxed_slice().into()
}

fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    reply
}
