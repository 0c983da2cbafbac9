//! Watched decisions: one line of JSON immediately, one for every change, and one every 30 seconds to keep the
//! connection alive.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Response, StatusCode};
use tokio::sync::watch;

use super::api::Api;
use super::decision::{self, Decision};
use super::json_lines::{self, Lines, Phase, Phases};
use super::reply::{Answer, problem};
use super::route::Call;
use crate::pipeline::key::ObjectKey;

/// Minimum time between two checks of a watched object. A check takes a few microseconds.
const EVERY: Duration = Duration::from_millis(100);
/// Maximum time between two checks. Some changes of a decision come without a transition: a new party, or the shutdown
/// of the server.
const AT_LATEST: Duration = Duration::from_secs(1);
/// Maximum time between two lines, so that both sides notice a broken connection.
const ALIVE: Duration = Duration::from_secs(30);

/// One watched decision.
struct WatchedDecision {
    api: Api,
    key: ObjectKey,
    changes: watch::Receiver<()>,
    last: Option<(Decision, Instant)>,
    phases: Phases,
}

/// Answers a request with a stream of decisions.
pub(super) fn stream(call: &Call<'_>) -> Response<Answer> {
    if let Some(why) = decision::unavailable(call.api) {
        return problem(StatusCode::SERVICE_UNAVAILABLE, why).map(BodyExt::boxed_unsync);
    }
    let (api, phases) = (call.api.clone(), Phases::default());
    let changes = api.change_signal().subscribe();
    json_lines::answer(call, WatchedDecision { api, key: call.object(), changes, last: None, phases })
}

impl Lines for WatchedDecision {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let decision = self.api.decision(&self.key);
            let is_news = self.last.as_ref().is_none_or(|(last, at)| {
                // A newer time alone is not a change.
                let same = Decision { as_of: last.as_of, ..decision.clone() };
                same != *last || at.elapsed() >= ALIVE
            });
            if is_news {
                let line = json_lines::line(&decision);
                self.last = Some((decision, Instant::now()));
                return Some(line);
            }
            // Another replica may know more.
            if self.phases.now(&self.api) == Phase::Stopping || self.api.is_behind() {
                return None;
            }
            tokio::time::sleep(EVERY).await;
            drop(tokio::time::timeout(AT_LATEST, self.changes.changed()).await);
        }
    }
}
