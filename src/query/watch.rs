//! Watched decisions: one line of JSON immediately, one for every change, and one every 30 seconds to keep the
//! connection alive.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use tokio::sync::watch;

use super::api::Api;
use super::decision::Decision;
use super::reply::{Answer, problem};
use super::route::Call;
use crate::escape;
use crate::net::budget::Reservation;
use crate::pipeline::key::ObjectKey;

/// Minimum time between two checks of a watched object. A check takes a few microseconds.
const EVERY: Duration = Duration::from_millis(100);
/// Maximum time between two checks. Some changes of a decision come without a transition: a new party, or the shutdown
/// of the server.
const AT_LATEST: Duration = Duration::from_secs(1);
/// Maximum time between two lines, so that both sides notice a broken connection.
const ALIVE: Duration = Duration::from_secs(30);

/// One watched decision. It uses one unit of the budget for streams until it is dropped.
struct WatchedDecision {
    api: Api,
    key: ObjectKey,
    changes: watch::Receiver<()>,
    last: Option<(Decision, Instant)>,
    _stream: Reservation,
    /// Whether the server was ready before. If so, a server that is not ready is stopping; otherwise it is still
    /// starting.
    was_ready: bool,
}

/// Answers a request with a stream of decisions.
pub(super) fn stream(call: &Call<'_>) -> Response<Answer> {
    let api = call.api.clone();
    let Some(stream) = api.streams().reserve(call.client, 1) else {
        let error = "too many watches: query without watch=true";
        return problem(StatusCode::TOO_MANY_REQUESTS, error).map(BodyExt::boxed_unsync);
    };
    let changes = api.change_signal().subscribe();
    WatchedDecision { api, key: call.object(), changes, last: None, _stream: stream, was_ready: false }.stream()
}

// === impl WatchedDecision ===

impl WatchedDecision {
    fn stream(self) -> Response<Answer> {
        let lines = stream::unfold(self, async |mut decision| {
            let line = decision.next().await?;
            Some((Ok(Frame::data(line)), decision))
        });
        let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        response
    }

    /// Waits for the next line. Returns `None` if the server is stopping.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let decision = self.api.decision(&self.key);
            let is_news = self.last.as_ref().is_none_or(|(last, at)| {
                // A newer time alone is not a change.
                let same = Decision { as_of: last.as_of, ..decision.clone() };
                same != *last || at.elapsed() >= ALIVE
            });
            if is_news {
                let line = escape::json(&serde_json::to_string(&decision).ok()?).into_owned() + "\n";
                self.last = Some((decision, Instant::now()));
                return Some(line.into());
            }
            if self.api.is_ready() {
                self.was_ready = true;
            } else if self.was_ready {
                return None;
            }
            tokio::time::sleep(EVERY).await;
            drop(tokio::time::timeout(AT_LATEST, self.changes.changed()).await);
        }
    }
}
