//! Passes requests of the HTTP API to their handlers.

use std::net::IpAddr;

use http_body_util::BodyExt;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Request, Response, StatusCode};

use super::api::Api;
use super::reply::{Answer, problem};
use super::route::{Call, Handler};
use super::routes::{self, Found};
use crate::net::Reply;

// === impl Api ===

impl Api {
    /// Answers a request of this client, whose body is not used. `is_admitted` says whether the client has the right that
    /// the route needs, or that makes a public route return more. Requests to routes that are not public must have been admitted.
    pub fn answer<B>(&self, request: &Request<B>, client: IpAddr, is_admitted: bool) -> Response<Answer> {
        let uri = request.uri();
        let _span = tracing::debug_span!("answer", method = %request.method(), path = uri.path()).entered();
        let (route, segments) = match routes::find(request.method(), uri.path()) {
            Found::Route(route, segments) => (route, segments),
            other => return without_route(&other).map(BodyExt::boxed_unsync),
        };
        let query = uri.query().unwrap_or_default();
        let call = Call::new(self, (client, is_admitted), request.headers(), segments, query);
        if let Err(failure) = route.check(&call.parameters) {
            return failure.reply().map(BodyExt::boxed_unsync);
        }
        let computed = match route.handler {
            Handler::Watchable(_, stream) if route.is_stream(query) => return stream(&call),
            Handler::Immediate(handler) => Ok(handler(&call)),
            Handler::Computed(handler) | Handler::Watchable(handler, _) => handler(&call),
        };
        computed.unwrap_or_else(|failure| failure.reply()).map(BodyExt::boxed_unsync)
    }
}

/// Returns the response to a request that has no route.
fn without_route(found: &Found<'_>) -> Reply {
    let Found::OtherMethods(methods) = found else {
        let error = "unknown path: try /, /openapi.json, /api/v1/wars, /metrics, /livez or /readyz; an object has \
                     /api/v1/objects/RESOURCE.GROUP/NAMESPACE/NAME, with - as the namespace of cluster-scoped objects";
        return problem(StatusCode::NOT_FOUND, error);
    };
    let methods: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    let methods = methods.join(", ").replace("GET", "GET, HEAD");
    let mut reply = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("this path only supports {methods}"));
    if let Ok(allowed) = HeaderValue::from_str(&methods) {
        reply.headers_mut().insert(ALLOW, allowed);
    }
    reply
}
