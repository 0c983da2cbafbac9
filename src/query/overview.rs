//! The overview: one short row for each finding, as an answer or as a stream of changes.
//!
//! All clients share one [`Snapshot`], which is made at most once a second and only if there were new events. Rows that
//! have not changed are the same in the next snapshot, so that a stream finds what to send by comparing pointers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;

use super::api::Api;
use super::reply::{Answer, Failure, json, problem};
use super::route::{Call, OBJECTS_SHOWN_MAX};
use super::views::OverviewRow;
use crate::enforce::control::Control;
use crate::escape;
use crate::net::Reply;
use crate::net::budget::Reservation;
use crate::util::lock::lock;

/// Minimum time between two snapshots, also as a multiple of the time that one takes.
const EVERY: Duration = Duration::from_secs(1);
const EVERY_TIMES: u32 = 10;
/// Maximum time between two lines, so that both sides notice a broken connection.
const ALIVE: Duration = Duration::from_secs(10);
/// Number of rows in a line. A client that reads slowly holds one line in the server's memory.
const ROWS_PER_LINE: usize = 100;

/// The latest snapshot, shared by all clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Overviews {
    latest: Arc<Mutex<Option<Arc<Snapshot>>>>,
    /// Locked while a snapshot is made.
    making: Arc<tokio::sync::Mutex<()>>,
}

/// All rows at one time, as JSON.
#[derive(Debug)]
struct Snapshot {
    made: Instant,
    /// How long it took.
    took: Duration,
    /// The number of events on which the rows are based.
    events: u64,
    head: Arc<RawValue>,
    /// The rows by id.
    rows: BTreeMap<Arc<str>, Arc<RawValue>>,
    /// Number of objects that are left out.
    omitted: usize,
}

/// A line of the answer: [`super::views::Overview`], whose parts are JSON already.
#[derive(Default, Serialize)]
struct Line {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reset: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<Arc<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rows: Vec<Arc<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone: Vec<Arc<str>>,
    complete: bool,
}

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
    // Requests are handled on threads that may block.
    let snapshot = Handle::current().block_on(call.api.overviews().current(call.api));
    Ok(json(&Line {
        reset: true,
        head: Some(snapshot.head.clone()),
        rows: snapshot.rows.values().cloned().collect(),
        gone: Vec::new(),
        complete: true,
    }))
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

// === impl Overviews ===

impl Overviews {
    /// Returns the latest snapshot, or a new one if it is due.
    async fn current(&self, api: &Api) -> Arc<Snapshot> {
        let _making = self.making.lock().await;
        let latest = lock(&self.latest).clone();
        if let Some(latest) = &latest
            && latest.made.elapsed() < EVERY.max(latest.took * EVERY_TIMES)
        {
            return latest.clone();
        }
        let api = api.clone();
        let made = tokio::task::spawn_blocking(move || Arc::new(Snapshot::make(&api, latest.as_deref()))).await;
        let made = made.expect("a snapshot can be made");
        *lock(&self.latest) = Some(made.clone());
        made
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Makes a snapshot, which shares with the one before what has not changed.
    fn make(api: &Api, before: Option<&Snapshot>) -> Snapshot {
        let started = Instant::now();
        let reporter = api.reporter();
        let (mut head, events) = reporter.overview_head();
        let (rows, omitted) = match before {
            // Verdicts change with events only, and with the time of events.
            Some(before) if before.events == events => (before.rows.clone(), before.omitted),
            before => {
                let (rows, omitted) = reporter.overview(OBJECTS_SHOWN_MAX, api.owner_labels());
                (rows.iter().map(|row| shared(row, before)).collect(), omitted)
            }
        };
        head.omitted = omitted;
        head.enforcer = api.enforcer().map(Control::status);
        head.coverage.problems.extend(api.live_problems());
        let head = raw(&head);
        let same = before.map(|before| &before.head).filter(|before| before.get() == head.get());
        let head = same.cloned().unwrap_or(head);
        Snapshot { head, rows, omitted, events, made: Instant::now(), took: started.elapsed() }
    }

    /// Returns the lines that turn the rows of `known` into these.
    fn lines_since(&self, known: Option<&Snapshot>) -> VecDeque<Line> {
        let is_known = |id: &Arc<str>, row: &Arc<RawValue>| {
            known.and_then(|known| known.rows.get(id)).is_some_and(|known| Arc::ptr_eq(known, row))
        };
        let changed = self.rows.iter().filter(|(id, row)| !is_known(id, row));
        let changed: Vec<_> = changed.map(|(_, row)| row.clone()).collect();
        let mut lines: VecDeque<Line> =
            changed.chunks(ROWS_PER_LINE).map(|rows| Line { rows: rows.to_vec(), ..Line::default() }).collect();
        let gone = known.into_iter().flat_map(|known| known.rows.keys());
        let gone: Vec<_> = gone.filter(|id| !self.rows.contains_key(*id)).cloned().collect();
        let head = known.is_none_or(|known| !Arc::ptr_eq(&known.head, &self.head)).then(|| self.head.clone());
        if lines.is_empty() && (known.is_none() || head.is_some() || !gone.is_empty()) {
            lines.push_back(Line::default());
        }
        if let Some(first) = lines.front_mut() {
            (first.reset, first.head, first.gone) = (known.is_none(), head, gone);
        }
        if let Some(last) = lines.back_mut() {
            last.complete = true;
        }
        lines
    }
}

/// Returns a row with its id, both as the snapshot before has them if they are the same.
fn shared(row: &OverviewRow, before: Option<&Snapshot>) -> (Arc<str>, Arc<RawValue>) {
    let json = raw(row);
    match before.and_then(|before| before.rows.get_key_value(&*row.id)) {
        Some((id, known)) if known.get() == json.get() => (id.clone(), known.clone()),
        Some((id, _)) => (id.clone(), json),
        None => (row.id.as_str().into(), json),
    }
}

fn raw(value: &impl Serialize) -> Arc<RawValue> {
    serde_json::value::to_raw_value(value).expect("views are JSON").into()
}

// === impl WatchedOverview ===

impl WatchedOverview {
    /// Waits for the next line. Returns `None` if the server is stopping.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.unsent.pop_front() {
                self.last_line = Instant::now();
                return Some((escape::json(&serde_json::to_string(&line).ok()?).into_owned() + "\n").into());
            }
            if self.known.is_some() {
                tokio::time::sleep(EVERY).await;
            }
            if self.api.is_ready() {
                self.was_ready = true;
            } else if self.was_ready {
                return None;
            }
            let snapshot = self.api.overviews().current(&self.api).await;
            self.unsent = snapshot.lines_since(self.known.as_deref());
            self.known = Some(snapshot);
            if self.unsent.is_empty() && self.last_line.elapsed() >= ALIVE {
                self.unsent.push_back(Line { complete: true, ..Line::default() });
            }
        }
    }
}
