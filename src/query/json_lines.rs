//! Answers that are streams of JSON lines, such as watched decisions.

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::api::Api;
use super::reply::{Answer, problem};
use super::route::Call;
use crate::escape;

/// The lines of one stream.
pub(super) trait Lines: Send + 'static {
    /// Waits for the next line. Returns `None` if the server is stopping.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// Whether a server has started, and is not stopping yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It replays the journal, so that what it knows is not complete.
    Starting,
    Running,
    Stopping,
}

/// Tells the phases of a server apart, for one stream.
#[derive(Debug, Default)]
pub(super) struct Phases {
    was_ready: bool,
}

/// Answers a request with a stream, which uses one unit of the budget for streams until it ends.
pub(super) fn answer<L: Lines>(call: &Call<'_>, lines: L) -> Response<Answer> {
    let Some(reservation) = call.api.streams().reserve(call.client, 1) else {
        let error = "too many watches: query without watch=true";
        return problem(StatusCode::TOO_MANY_REQUESTS, error).map(BodyExt::boxed_unsync);
    };
    let frames = stream::unfold((lines, reservation), async |(mut lines, reservation)| {
        let line = lines.next().await?;
        Some((Ok(Frame::data(line)), (lines, reservation)))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

/// Returns a value as a line, which is safe to show on a terminal.
pub(super) fn line(value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).expect("views are JSON");
    (escape::json(&json).into_owned() + "\n").into()
}

// === impl Phases ===

impl Phases {
    /// Returns the present phase.
    pub(super) fn now(&mut self, api: &Api) -> Phase {
        let is_ready = api.is_ready();
        self.was_ready |= is_ready;
        match (is_ready, self.was_ready) {
            (true, _) => Phase::Running,
            (false, true) => Phase::Stopping,
            (false, false) => Phase::Starting,
        }
    }
}
