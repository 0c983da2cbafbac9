//! The overview: one short row for each finding, as an answer or as a stream of changes.
//!
//! All clients share one [`Snapshot`], which is made at most once a second and only if there were new events. Rows that
//! have not changed are the same in the next snapshot, so that a stream finds what to send by comparing pointers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::runtime::Handle;

use super::api::Api;
use super::overview_snapshot::{EVERY, Line, Snapshot};
use super::reply::{Answer, Failure, json, problem};
use super::route::{Call, OBJECTS_SHOWN_MAX};
use crate::enforce::control::Control;
use crate::escape;
use crate::net::Reply;
use crate::net::budget::Reservation;

/// Maximum time between two lines, so that both sides notice a broken connection.
const ALIVE: Duration = Duration::from_secs(10);

/// A client that watches the overview. It uses one unit of the budget for streams until it is dropped.
struct WatchedOverview {
    api: Api,
    /// The snapshot that the client has when all unsent lines are sent.
    known: Option<Arc<Snapshot>>,
    unsent: VecDeque<Line>,
    last_line: Instant,
    _stream: Reservation,
    /// Whether the server was ready before. If so, a server that is not ready is stopping; otherwise it is still
    /// starting.
    was_ready: bool,
}

pub(super) fn show(call: &Call<'_>) -> Result<Reply, Failure> {
    if !call.api.is_ready() {
        return Err(Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "starting or stopping: not all writes are known yet",
        ));
    }
    // Requests are handled on threads that may block.
    Ok(json(&Handle::current().block_on(current(call.api)).whole()))
}

/// Returns the latest snapshot, or a new one if it is due.
async fn current(api: &Api) -> Arc<Snapshot> {
    let shared = api.clone();
    let make = move |before: Option<&Snapshot>| {
        let (api, started) = (shared, Instant::now());
        let reporter = api.reporter();
        let (mut head, events) = reporter.overview_head();
        head.enforcer = api.enforcer().map(Control::status);
        head.coverage.problems.extend(api.live_problems());
        head.late_sources = api.late_sources(&head.coverage);
        let rows = || reporter.overview(OBJECTS_SHOWN_MAX, api.owner_labels());
        Snapshot::make(before, started, events, head, rows)
    };
    api.overviews().current(make).await
}

/// Answers a request with a stream of changes.
pub(super) fn stream(call: &Call<'_>) -> Response<Answer> {
    let api = call.api.clone();
    let Some(stream) = api.streams().reserve(call.client, 1) else {
        let error = "too many watches: query without watch=true";
        return problem(StatusCode::TOO_MANY_REQUESTS, error).map(BodyExt::boxed_unsync);
    };
    let watched = WatchedOverview {
        api,
        known: None,
        unsent: VecDeque::new(),
        last_line: Instant::now(),
        _stream: stream,
        was_ready: false,
    };
    let lines = stream::unfold(watched, async |mut watched| {
        let line = watched.next().await?;
        Some((Ok(Frame::data(line)), watched))
    });
    let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

/// Returns a line as text.
fn line(line: &Line) -> Bytes {
    let json = serde_json::to_string(line).expect("lines are JSON");
    (escape::json(&json).into_owned() + "\n").into()
}

// === impl WatchedOverview ===

impl WatchedOverview {
    /// Waits for the next line. Returns `None` if the server is stopping.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(next) = self.unsent.pop_front() {
                self.last_line = Instant::now();
                return Some(line(&next));
            }
            if self.known.is_some() || !self.api.is_ready() {
                tokio::time::sleep(EVERY).await;
            }
            if self.api.is_ready() {
                self.was_ready = true;
            } else if self.was_ready {
                return None;
            } else {
                // While the journal is replayed, the rows would be those of a part of it.
                return Some(line(&Line::alive()));
            }
            let snapshot = current(&self.api).await;
            self.unsent = snapshot.lines_since(self.known.as_deref());
            self.known = Some(snapshot);
            if self.unsent.is_empty() && self.last_line.elapsed() >= ALIVE {
                self.unsent.push_back(Line::alive());
            }
        }
    }
}
