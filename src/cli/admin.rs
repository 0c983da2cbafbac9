//! The admin listener: checks the rights of a request, and answers it.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use prometheus::IntCounter;

use super::computing::Computing;
use super::gates::{self, Guarded};
use crate::net::Peer;
use crate::query::api::Api;
use crate::query::follow::{self, Answer};
use crate::query::levels;
use crate::telemetry::logs::Levels;
use crate::telemetry::metrics::Metrics;

/// The handler of the admin listener.
#[derive(Clone)]
pub(super) struct Admin {
    gate: Guarded,
    has_authentication: bool,
    api: Api,
    levels: Levels,
    computing: Computing,
    /// Counts requests that are rejected because too many others are queued.
    busy: IntCounter,
}

// === impl Admin ===

impl Admin {
    pub(super) fn new(gate: Guarded, has_authentication: bool, api: Api, levels: Levels, metrics: &Metrics) -> Admin {
        let busy = metrics.refused.with_label_values(&["busy"]);
        Admin { gate, has_authentication, api, levels, computing: Computing::default(), busy }
    }

    /// Answers one request.
    pub(super) async fn handle(self, request: Request<Incoming>, peer: Peer) -> Response<Answer> {
        let client = peer.address.ip();
        let Some(right) = gates::right(&request) else { return self.api.answer(&request, client) };
        if let Err(refusal) = self.gate.admit(&request, &peer, right, "").await {
            return refusal.map(BodyExt::boxed_unsync);
        }
        if request.uri().path() == levels::PATH {
            // With authentication, the required right was checked. Without, only local clients may change the level.
            let may_change = self.has_authentication || client.to_canonical().is_loopback();
            return levels::handle(&self.levels, &request, may_change).map(BodyExt::boxed_unsync);
        }
        if follow::is_followed(&request) {
            let reply = self.api.answer(&request, client);
            return self.gate.while_admitted(request.headers().clone(), peer, right, reply);
        }
        match self.computing.begin(client).await {
            Some(_permits) if peer.is_reading() => tokio::task::block_in_place(|| self.api.answer(&request, client)),
            _ => {
                self.busy.inc();
                Computing::refused().map(BodyExt::boxed_unsync)
            }
        }
    }
}
