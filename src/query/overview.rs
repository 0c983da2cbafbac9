//! The overview: one short row for each finding, as an answer or as a stream of changes.
//!
//! All clients share one [`Snapshot`], which is made at most once a second and only if there were new events. Rows that
//! have not changed are the same in the next snapshot, so that a stream finds what to send by comparing pointers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Response, StatusCode};

use super::api::Api;
use super::json_lines::{self, Lines, Phase, Phases};
use super::overview_snapshot::{Changes, EVERY, Line, Snapshot};
use super::reply::{Answer, Failure, json};
use super::route::{Call, OBJECTS_SHOWN_MAX};
use crate::enforce::control::Control;
use crate::net::Reply;

/// Maximum time between two lines, so that both sides notice a broken connection.
const ALIVE: Duration = Duration::from_secs(10);

/// A client that watches the overview.
struct WatchedOverview {
    api: Api,
    /// The snapshot that the client has when all unsent lines are sent.
    known: Option<Arc<Snapshot>>,
    changes: Changes,
    unsent: VecDeque<Line>,
    last_line: Instant,
    phases: Phases,
}

pub(super) fn show(call: &Call<'_>) -> Result<Reply, Failure> {
    if !call.api.is_ready() {
        return Err(Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "starting or stopping: not all writes are known yet",
        ));
    }
    Ok(json(&current(call.api).whole()))
}

/// Returns the present snapshot. To be called on a thread that may block, as requests are handled.
pub(super) fn current(api: &Api) -> Arc<Snapshot> {
    api.overviews().current_blocking(|before| make(api, before))
}

/// Makes a snapshot.
fn make(api: &Api, before: Option<&Snapshot>) -> Snapshot {
    let started = Instant::now();
    let reporter = api.reporter();
    let (mut head, events) = reporter.overview_head();
    head.enforcer = api.enforcer().map(Control::status);
    head.coverage.problems.extend(api.live_problems());
    head.late_sources = api.late_sources(&head.coverage);
    let rows = || reporter.overview(OBJECTS_SHOWN_MAX);
    Snapshot::make(before, started, events, head, rows)
}

/// Answers a request with a stream of changes.
pub(super) fn stream(call: &Call<'_>) -> Response<Answer> {
    let (api, phases) = (call.api.clone(), Phases::default());
    let (changes, known, unsent, last_line) = (api.overviews().changes(), None, VecDeque::new(), Instant::now());
    json_lines::answer(call, WatchedOverview { api, known, changes, unsent, last_line, phases })
}

impl Lines for WatchedOverview {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(next) = self.unsent.pop_front() {
                self.last_line = Instant::now();
                return Some(json_lines::line(&next));
            }
            let api = self.api.clone();
            let make = move |before: Option<&Snapshot>| make(&api, before);
            if !self.api.is_ready() {
                tokio::time::sleep(EVERY).await;
            } else if self.known.is_some() {
                let api = self.api.clone();
                self.api.overviews().keep_current(move || api.is_ready(), make.clone());
                // The time is checked below.
                let _ =
                    tokio::time::timeout(ALIVE.saturating_sub(self.last_line.elapsed()), self.changes.changed()).await;
            }
            match self.phases.now(&self.api) {
                Phase::Running => {}
                // The rows would be those of a part of the journal.
                Phase::Starting => return Some(json_lines::line(&Line::alive())),
                Phase::Stopping => return None,
            }
            let snapshot = self.api.overviews().current(make).await;
            self.unsent = snapshot.lines_since(self.known.as_deref());
            self.known = Some(snapshot);
            if self.unsent.is_empty() && self.last_line.elapsed() >= ALIVE {
                self.unsent.push_back(Line::alive());
            }
        }
    }
}
