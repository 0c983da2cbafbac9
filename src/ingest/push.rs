//! The ways in which events are posted to the webhook's listener: each path with its protocol, which decides how clients
//! identify themselves, how the body is encoded and what the answer is.

pub(super) mod admission;
pub(super) mod binary;
mod firehose;
mod otlp;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};

use crate::net::Reply;
use crate::util::cluster_name;

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Anything that posts events in a format that is recognized: kube-apiserver, log shippers.
    Audit,
    /// Google Pub/Sub, which has no header for a token.
    PubSub,
    /// Amazon Data Firehose.
    Firehose,
    /// OpenTelemetry logs over HTTP.
    Otlp,
    /// An admission webhook.
    Admission,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) protocol: Protocol,
    /// The cluster that the events belong to; empty for the only one.
    pub(super) cluster: String,
    /// The token in the path, for clients that cannot send one otherwise.
    token: Option<String>,
}

// === impl Route ===

impl Route {
    /// Returns the route of a path, or `None` if it is none of the webhook's.
    pub(super) fn of(path: &str) -> Option<Route> {
        let path = path.trim_end_matches('/');
        let route = |protocol, cluster: &str, token: Option<&str>| {
            cluster_name::is_valid(cluster).then(|| Route {
                protocol,
                cluster: cluster.to_owned(),
                token: token.map(str::to_owned),
            })
        };
        let mut parts = path.strip_prefix('/')?.split('/');
        let (first, rest): (&str, Vec<&str>) = (parts.next()?, parts.collect());
        match (first, &rest[..]) {
            ("audit", []) => route(Protocol::Audit, "", None),
            ("audit", [cluster]) if !cluster.is_empty() => route(Protocol::Audit, cluster, None),
            ("pubsub", []) => route(Protocol::PubSub, "", None),
            ("pubsub", [cluster]) if !cluster.is_empty() => route(Protocol::PubSub, cluster, None),
            ("pubsub", [cluster, token]) if !cluster.is_empty() && !token.is_empty() => {
                route(Protocol::PubSub, cluster, Some(token))
            }
            ("firehose", []) => route(Protocol::Firehose, "", None),
            ("firehose", [cluster]) if !cluster.is_empty() => route(Protocol::Firehose, cluster, None),
            ("v1", ["logs"]) => route(Protocol::Otlp, "", None),
            ("otlp", [cluster, "v1", "logs"]) if !cluster.is_empty() => route(Protocol::Otlp, cluster, None),
            ("admission", []) => route(Protocol::Admission, "", None),
            ("admission", [cluster]) if !cluster.is_empty() => route(Protocol::Admission, cluster, None),
            ("admission", [cluster, token]) if !cluster.is_empty() && !token.is_empty() => {
                route(Protocol::Admission, cluster, Some(token))
            }
            _ => None,
        }
    }

    /// Moves what identifies a client to where every other client has it: a bearer token.
    pub(super) fn identify(&self, request: &mut Request<Incoming>) {
        let token = match self.protocol {
            Protocol::Firehose => firehose::access_key(request.headers()),
            Protocol::Admission | Protocol::PubSub => self.token.clone(),
            Protocol::Audit | Protocol::Otlp => None,
        };
        if let Some(token) = token
            && !request.headers().contains_key(AUTHORIZATION)
            && let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}"))
        {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
    }
}

// === impl Protocol ===

impl Protocol {
    /// Whether the body of a request may have this encoding. A page in a browser can only send what is not allowed here.
    pub(super) fn accepts(self, headers: &HeaderMap) -> bool {
        crate::net::web::is_json(headers) || self.is_binary(headers)
    }

    /// Whether the body is in an encoding that must be decoded as a whole.
    pub(super) fn is_binary(self, headers: &HeaderMap) -> bool {
        self == Protocol::Otlp && otlp::is_protobuf(headers)
    }

    /// Returns a body in that encoding as JSON, or `None` if it is damaged.
    pub(super) fn json(self, body: &[u8]) -> Option<Vec<u8>> {
        otlp::json(body).inspect_err(|error| tracing::debug!(error, "a body is no OTLP message")).ok()
    }

    /// Returns the answer as the protocol specifies it.
    pub(super) fn answer(self, headers: &HeaderMap, mut reply: Reply) -> Reply {
        // What a client retries differs: 503 is what every protocol retries.
        let is_lost = matches!(reply.status(), StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        if self != Protocol::Audit && is_lost {
            *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        match self {
            Protocol::Firehose => firehose::answer(headers, reply),
            Protocol::Otlp => otlp::answer(headers, reply),
            _ => reply,
        }
    }
}

/// Replaces the body of an answer.
fn with_body(mut reply: Reply, media_type: &'static str, body: impl Into<Bytes>) -> Reply {
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    *reply.body_mut() = Full::new(body.into());
    reply
}

/// Returns the text of an answer.
fn text(reply: &Reply) -> String {
    // The body is in memory, so that it is there at once.
    let body = reply.body().clone().collect().now_or_never();
    let bytes = body.and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str) -> String {
        Route::of(path).map_or_else(|| "none".into(), |r| format!("{:?} {} {:?}", r.protocol, r.cluster, r.token))
    }

    #[test]
    fn paths_name_the_protocol_and_the_cluster() {
        assert_eq!(shown("/audit"), "Audit  None");
        assert_eq!(shown("/audit/"), "Audit  None");
        assert_eq!(shown("/audit/east-1"), "Audit east-1 None");
        assert_eq!(shown("/pubsub/east"), "PubSub east None");
        assert_eq!(shown("/pubsub/east/s3cret"), "PubSub east Some(\"s3cret\")");
        assert_eq!(shown("/firehose/east"), "Firehose east None");
        assert_eq!(shown("/v1/logs"), "Otlp  None");
        assert_eq!(shown("/otlp/east/v1/logs"), "Otlp east None");
        assert_eq!(shown("/admission/east/s3cret"), "Admission east Some(\"s3cret\")");
        for path in
            ["", "/", "/audits", "/audit/a/b", "/audit/a%2Fb", "/v1/traces", "/otlp/v1/logs", "/admission/a/b/c"]
        {
            assert_eq!(shown(path), "none", "{path}");
        }
    }
}
