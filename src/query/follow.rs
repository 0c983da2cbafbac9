//! Watched decisions: one line of JSON now, one for every change, and one every 30 seconds as a sign of life.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::answers::Decision;
use super::api::{Api, problem};
use crate::escape;
use crate::net::budget::Reservation;
use crate::pipeline::key::ObjectKey;

/// How often a watched object is checked. A check takes a few microseconds.
const EVERY: Duration = Duration::from_millis(200);
/// Maximum time between two lines, so that both sides notice a broken connection.
const ALIVE: Duration = Duration::from_secs(30);
/// The body of any answer, complete or streaming.
pub type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// One watched decision. It takes one unit of the streams' budget until it is dropped.
struct Following {
    api: Api,
    key: ObjectKey,
    last: Option<(Decision, Instant)>,
    _stream: Reservation,
    /// Whether the server was ready before. If so, not being ready means that it stops; otherwise it is still starting.
    was_ready: bool,
}

// === impl Api ===

impl Api {
    /// Answers one request of this client, with one response or a stream.
    pub fn answer(&self, request: &Request<Incoming>, client: IpAddr) -> Response<Answer> {
        if let Some(key) = followed(request) {
            return match self.streams().reserve(client, 1) {
                Some(stream) => {
                    Following { api: self.clone(), key, last: None, _stream: stream, was_ready: false }.stream()
                }
                None => problem(StatusCode::TOO_MANY_REQUESTS, "too many watches: query without watch=true")
                    .map(BodyExt::boxed_unsync),
            };
        }
        self.handle(request).map(BodyExt::boxed_unsync)
    }
}

/// Returns the object whose decision a request watches.
fn followed(request: &Request<Incoming>) -> Option<ObjectKey> {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let is_watch = query.split('&').any(|pair| matches!(pair, "watch" | "watch=1" | "watch=true"));
    let rest = path.strip_prefix("/api/v1/objects/").filter(|_| is_watch && request.method() == Method::GET)?;
    Api::named(rest, query).filter(|(_, view)| view == "decision").map(|(key, _)| key)
}

/// Whether the answer to a request is a stream. A stream must end when its client's rights do.
pub fn is_followed(request: &Request<Incoming>) -> bool {
    followed(request).is_some()
}

// === impl Following ===

impl Following {
    fn stream(self) -> Response<Answer> {
        let lines = stream::unfold(self, async |mut following| {
            let line = following.next().await?;
            Some((Ok(Frame::data(line)), following))
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
        }
    }
}
