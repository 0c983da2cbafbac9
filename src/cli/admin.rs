//! The admin listener: checks the rights of a request, and answers it.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use prometheus::IntCounter;

use super::listener_auth::ListenerSecurity;
use super::query_limits::QueryLimiter;
use crate::net::Peer;
use crate::query::api::Api;
use crate::query::reply::Answer;
use crate::query::routes::{self, Found};
use crate::telemetry::metrics::Metrics;

/// How long the answer to a public request waits until more than what everyone gets can be computed.
const WAIT_FOR_MORE: Duration = Duration::from_millis(100);

/// The handler of the admin listener.
#[derive(Clone)]
pub(super) struct Admin {
    gate: ListenerSecurity,
    api: Api,
    computing: QueryLimiter,
    /// Counts requests that are rejected because too many others are queued.
    busy: IntCounter,
}

// === impl Admin ===

impl Admin {
    pub(super) fn new(gate: ListenerSecurity, api: Api, metrics: &Metrics) -> Admin {
        Admin { gate, api, computing: QueryLimiter::default(), busy: metrics.rejected.with_label_values(&["busy"]) }
    }

    /// Answers one request.
    pub(super) async fn handle(self, request: Request<Incoming>, peer: Peer) -> Response<Answer> {
        let client = peer.address.ip();
        let found = routes::find(request.method(), request.uri().path());
        let needed = found.right(request.method(), request.uri().query().is_some());
        // Without authentication, every client that may use the listener has all rights.
        let Some(right) = needed.or_else(|| found.right_to_more().filter(|_| self.gate.is_open())) else {
            return self.api.answer(&request, client, false);
        };
        if let Err(refusal) = self.gate.admit(&request, &peer, right, "").await {
            return refusal.map(BodyExt::boxed_unsync);
        }
        let query = request.uri().query().unwrap_or_default();
        match found {
            Found::Route(route, _) if route.is_stream(query) => {
                let reply = self.api.answer(&request, client, true);
                return self.gate.while_admitted(request.headers().clone(), peer, right, reply);
            }
            Found::Route(route, _) if !route.is_immediate() => {}
            _ => return self.api.answer(&request, client, true),
        }
        let permits = match needed {
            Some(_) => self.computing.begin(client).await,
            // What everyone gets need not wait for the rest.
            None => tokio::time::timeout(WAIT_FOR_MORE, self.computing.begin(client)).await.unwrap_or_default(),
        };
        match permits {
            Some(_permits) if peer.is_reading() => {
                tokio::task::block_in_place(|| self.api.answer(&request, client, true))
            }
            _ if needed.is_none() => self.api.answer(&request, client, false),
            _ => {
                self.busy.inc();
                QueryLimiter::refused().map(BodyExt::boxed_unsync)
            }
        }
    }
}
