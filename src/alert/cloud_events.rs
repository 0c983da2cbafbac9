//! Posts each transition of a war as a CloudEvent 1.0 in structured mode.
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>
//!
//! The id of an event follows from the transition, so that receivers recognize an event that is posted twice, also by
//! several servers that receive the same audit events. Of replicas that share a log, one posts; the others keep each transition
//! until it has.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::detect::actor_class::ActorClassifier;
use crate::notify::turn::{self, Outlet, Turn, Unpublished, Unstored};
use crate::notify::{Changes, Sink};
use crate::pipeline::{Pipeline, Transition};
use crate::query::reporter::Reporter;
use crate::query::views::{Object, time};
use crate::telemetry::metrics::Metrics;
use crate::util::backoff::Backoff;
use crate::util::endpoint::Endpoint;
use crate::util::lock::lock;

/// Maximum number of transitions that wait. If the receiver is gone for so long that there are more, the oldest ones are
/// dropped and counted.
const WAITING_MAX: usize = 10_000;
/// Times between the first attempts, and between the last ones.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Age at which a transition that is not accepted is dropped: the receiver would learn of it too late.
const TRY_FOR: Duration = Duration::from_secs(3600);
/// How long transitions are still posted when the server stops, and how long none may come for that to end.
const DRAIN: Duration = Duration::from_secs(8);
const DRAINED: Duration = Duration::from_millis(300);
/// How long the receiver may take to answer.
const POSTED_WITHIN: Duration = Duration::from_secs(5);
/// Interval at which a replica looks whether it is the one that posts.
const TURN_EVERY: Duration = Duration::from_millis(200);
/// The names of these sinks in metrics.
const TOPIC_SINK: &str = "transitions_topic";
const SINK: &str = "cloud_events";

/// The sink: passes transitions to the task that posts. Clones share the queue.
#[derive(Clone)]
pub(crate) struct CloudEvents {
    queue: Arc<Queue>,
    metrics: Metrics,
    /// Whether this replica posts, if there are several.
    turn: Option<Arc<dyn Turn>>,
    /// The name of the sink in metrics.
    name: &'static str,
}

/// Where CloudEvents are posted.
pub(crate) enum Receiver {
    /// A server.
    Http(Endpoint),
    /// A topic.
    Topic(Arc<dyn Outlet>),
}

/// Transitions that wait, with their times of arrival. The one that is being posted stays at the front.
#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<(Instant, Transition)>>,
    arrived: Notify,
}

// === impl CloudEvents ===

impl CloudEvents {
    /// Creates a sink with an empty queue.
    pub(crate) fn new(metrics: Metrics, receiver: &Receiver, turn: Option<Arc<dyn Turn>>) -> CloudEvents {
        let name = match receiver {
            Receiver::Http(_) => SINK,
            Receiver::Topic(_) => TOPIC_SINK,
        };
        CloudEvents { queue: Arc::default(), metrics, turn, name }
    }

    /// Waits until there is a transition that this replica posts.
    async fn next(&self) -> (Instant, Transition) {
        loop {
            let next = lock(&self.queue.waiting).front().cloned().filter(|_| self.is_mine());
            if let Some(next) = next {
                return next;
            }
            if self.turn.is_none() {
                self.queue.arrived.notified().await;
            } else {
                tokio::time::sleep(TURN_EVERY).await;
            }
        }
    }

    /// Returns whether this replica posts.
    fn is_mine(&self) -> bool {
        self.turn.as_ref().is_none_or(|turn| turn.is_mine(POSTED_WITHIN))
    }

    /// Returns whether a transition still waits.
    fn has(&self, transition: &Transition) -> bool {
        lock(&self.queue.waiting).iter().any(|(_, waiting)| waiting == transition)
    }

    /// Removes a transition that was posted, or cannot be.
    fn remove(&self, transition: &Transition) {
        if let Some(turn) = &self.turn {
            turn.tell_published(turn::id(self.name, transition));
        }
        lock(&self.queue.waiting).retain(|(_, waiting)| waiting != transition);
    }
}

impl Unpublished for CloudEvents {
    fn forget(&self, id: &str) {
        lock(&self.queue.waiting).retain(|(_, waiting)| turn::id(self.name, waiting) != id);
    }

    fn forget_old(&self, is_old: &dyn Fn(&Transition) -> bool) {
        lock(&self.queue.waiting).retain(|(_, waiting)| !is_old(waiting));
    }
}

impl Sink for CloudEvents {
    fn publish(&self, changes: &Changes<'_>) {
        if changes.transitions.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut waiting = lock(&self.queue.waiting);
        waiting.extend(changes.transitions.iter().map(|transition| (now, transition.clone())));
        let excess = waiting.len().saturating_sub(WAITING_MAX);
        waiting.drain(..excess);
        self.metrics.count_notifications(self.name, "dropped", excess);
        self.queue.arrived.notify_one();
    }
}

/// Posts transitions to one receiver, in order.
pub(crate) struct Poster {
    /// Where the wars are looked up.
    pub(crate) pipeline: Arc<Pipeline>,
    /// Classifies the actors.
    pub(crate) classes: Arc<ActorClassifier>,
    /// Counts what was posted.
    pub(crate) metrics: Metrics,
    /// The receiver.
    pub(crate) receiver: Receiver,
    /// The attribute `source`.
    pub(crate) source: String,
}

// === impl Receiver ===

impl Receiver {
    /// Posts an event about an object.
    ///
    /// # Errors
    /// [`Unstored`].
    async fn post(&self, object: &str, body: &Bytes) -> Result<(), Unstored> {
        match self {
            Receiver::Http(endpoint) => {
                let posted = endpoint.post("application/cloudevents+json", body.clone(), POSTED_WITHIN).await;
                posted.map_err(|failure| {
                    let reason = format!("{:#}", failure.error);
                    Unstored { reason, is_temporary: failure.is_temporary }
                })
            }
            Receiver::Topic(topic) => topic.put(object, body).await,
        }
    }

    fn name(&self) -> &str {
        match self {
            Receiver::Http(endpoint) => endpoint.host(),
            Receiver::Topic(topic) => topic.name(),
        }
    }
}

// === impl Poster ===

impl Poster {
    /// Posts transitions until the server stops, and then those that wait, for some seconds.
    pub(crate) async fn run(self, queue: CloudEvents, mut stop: watch::Receiver<bool>) {
        let post_all = async {
            loop {
                let (since, transition) = queue.next().await;
                self.deliver(&queue, &transition, since).await;
            }
        };
        let stopped = async {
            drop(stop.wait_for(|stops| *stops).await);
            if !queue.is_mine() {
                return;
            }
            // The last requests are still being processed.
            let deadline = Instant::now() + DRAIN;
            while Instant::now() < deadline {
                tokio::time::sleep(DRAINED).await;
                if lock(&queue.queue.waiting).is_empty() {
                    break;
                }
            }
        };
        tokio::select! {
            () = post_all => {}
            () = stopped => {}
        }
        let lost = lock(&queue.queue.waiting).len();
        // Another replica posts what waits.
        if lost > 0 && queue.turn.is_none() {
            self.metrics.count_notifications(queue.name, "dropped", lost);
            tracing::warn!(lost, "transitions were not posted as CloudEvents before the server stopped");
        }
    }

    /// Posts a transition until it is accepted, or cannot be.
    async fn deliver(&self, queue: &CloudEvents, transition: &Transition, since: Instant) {
        if let Some(result) = self.post(queue, transition, since).await {
            self.metrics.count_notifications(queue.name, result, 1);
            queue.remove(transition);
        }
    }

    /// Returns what became of a transition, or `None` if another replica posts it.
    async fn post(&self, queue: &CloudEvents, transition: &Transition, since: Instant) -> Option<&'static str> {
        let event = self.event(transition);
        let object = event["subject"].as_str().unwrap_or_default();
        let body = Bytes::from(event.to_string());
        let mut backoff = Backoff::between(RETRY[0], RETRY[1]);
        let mut is_first = true;
        loop {
            // Another replica posts it, or has posted it in the meantime.
            if !queue.is_mine() || !queue.has(transition) {
                return None;
            }
            if since.elapsed() > TRY_FOR {
                return Some("dropped");
            }
            let Err(Unstored { reason, is_temporary }) = self.receiver.post(object, &body).await else {
                return Some("sent");
            };
            if std::mem::take(&mut is_first) {
                tracing::warn!(
                    receiver = self.receiver.name(),
                    error = reason,
                    "a receiver does not accept a CloudEvent"
                );
            }
            if !is_temporary {
                return Some("dropped");
            }
            self.metrics.count_notifications(queue.name, "failed", 1);
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Returns the event for a transition, with the wars over the object as they are now.
    fn event(&self, transition: &Transition) -> Value {
        let Transition { object: key, from, to, at, .. } = transition;
        let reporter = Reporter::new(&self.pipeline, &self.classes);
        let rows = reporter.overview_of(key);
        let object = rows.first().map_or_else(|| Object::from(key), |row| row.object.clone());
        let path = object.path();
        json!({
            "specversion": "1.0",
            "id": format!("{path}/{}-{}@{at}", from.as_str(), to.as_str()),
            "source": self.source,
            "type": format!("dev.editwar.war.{}", to.as_str()),
            "subject": path,
            "time": time::text(*at),
            "datacontenttype": "application/json",
            "data": {"object": object, "from": from, "to": to, "at": time::text(*at), "findings": rows},
        })
    }
}
