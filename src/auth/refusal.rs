//! Why a request is rejected, and its response.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use crate::net::Reply;

/// The reason why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The client is not known.
    Unknown,
    /// The client has a known certificate without the right.
    Forbidden,
    /// The client has a known token without the right. The response is the same as for [`Refusal::Unknown`]; otherwise
    /// anyone could probe which strings are tokens.
    TokenForbidden,
    /// The Kubernetes API server cannot be reached or the rate limit is exceeded.
    Unavailable,
}

// === impl Refusal ===

impl Refusal {
    /// Returns the value of the metric label.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Refusal::Unknown => "unauthenticated",
            Refusal::Forbidden | Refusal::TokenForbidden => "forbidden",
            Refusal::Unavailable => "review_unavailable",
        }
    }

    /// Returns the response. It does not reveal more than the status code.
    pub(crate) fn reply(self) -> Reply {
        let (status, text) = match self {
            Refusal::Unknown | Refusal::TokenForbidden => (StatusCode::UNAUTHORIZED, "{\"error\":\"unauthorized\"}"),
            Refusal::Forbidden => (StatusCode::FORBIDDEN, "{\"error\":\"forbidden\"}"),
            Refusal::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "{\"error\":\"try again\"}"),
        };
        let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *reply.status_mut() = status;
        if status == StatusCode::UNAUTHORIZED {
            reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        reply
    }
}
