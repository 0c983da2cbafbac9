//! Posts each transition of a war as a CloudEvent 1.0 in structured mode.
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>
//!
//! The id of an event follows from the transition, so that receivers recognize an event that is posted twice, also by
//! several servers that receive the same audit events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Endpoint;
use crate::detect::actor_class::ActorClassifier;
use crate::notify::{Changes, Sink};
use crate::pipeline::{Pipeline, Transition};
use crate::query::reporter::Reporter;
use crate::query::views::{Object, time};
use crate::telemetry::metrics::Metrics;

/// Maximum number of transitions that wait. If the receiver is gone for so long that there are more, new ones are dropped
/// and counted.
const WAITING_MAX: usize = 10_000;
/// Times between attempts: doubled from the first to the last.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Time after which a transition that is not accepted is dropped: the receiver would learn of it too late.
const TRY_FOR: Duration = Duration::from_secs(3600);
/// The name of this sink in metrics.
const SINK: &str = "cloud_events";

/// The sink: passes transitions to the task that posts.
#[derive(Clone)]
pub(crate) struct CloudEvents {
    queue: mpsc::Sender<Transition>,
    metrics: Metrics,
}

/// The receiving end of [`CloudEvents`].
pub(crate) struct Queue(mpsc::Receiver<Transition>);

// === impl CloudEvents ===

impl CloudEvents {
    /// Creates a sink and its queue.
    pub(crate) fn new(metrics: Metrics) -> (CloudEvents, Queue) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (CloudEvents { queue: sender, metrics }, Queue(receiver))
    }
}

impl Sink for CloudEvents {
    fn publish(&self, changes: &Changes<'_>) {
        for transition in changes.transitions {
            if self.queue.try_send(transition.clone()).is_err() {
                self.metrics.count_notifications(SINK, "dropped", 1);
            }
        }
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
    pub(crate) endpoint: Endpoint,
    /// The attribute `source`.
    pub(crate) source: String,
    /// Keys of the labels of objects that say who owns them.
    pub(crate) owner_labels: Vec<String>,
}

// === impl Poster ===

impl Poster {
    /// Posts transitions until the server stops.
    pub(crate) async fn run(self, queue: Queue, mut stop: watch::Receiver<bool>) {
        let mut queue = queue.0;
        loop {
            let transition = tokio::select! {
                transition = queue.recv() => transition,
                _ = stop.wait_for(|stops| *stops) => return,
            };
            let Some(transition) = transition else { return };
            tokio::select! {
                () = self.deliver(&transition) => {}
                _ = stop.wait_for(|stops| *stops) => return,
            }
        }
    }

    /// Posts a transition until it is accepted, or cannot be.
    async fn deliver(&self, transition: &Transition) {
        let body = Bytes::from(self.event(transition).to_string());
        let (started, mut wait) = (Instant::now(), RETRY[0]);
        loop {
            let Err(failure) = self.endpoint.post("application/cloudevents+json", body.clone()).await else {
                self.metrics.count_notifications(SINK, "sent", 1);
                return;
            };
            if wait == RETRY[0] {
                let error = format!("{:#}", failure.error);
                tracing::warn!(url = %self.endpoint.url(), error, "a receiver does not accept a CloudEvent");
            }
            if !failure.is_temporary || started.elapsed() > TRY_FOR {
                self.metrics.count_notifications(SINK, "dropped", 1);
                return;
            }
            self.metrics.count_notifications(SINK, "failed", 1);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY[1]);
        }
    }

    /// Returns the event for a transition, with the wars over the object as they are now.
    fn event(&self, transition: &Transition) -> Value {
        let Transition { object: key, from, to, at } = transition;
        let reporter = Reporter::new(&self.pipeline, &self.classes);
        let rows = reporter.overview_of(key, &self.owner_labels);
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
