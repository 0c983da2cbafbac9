//! Writes Kubernetes Events about objects, as `kubectl describe` shows them.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use super::calls::{EVENT, within};

/// Maximum number of queued Events. Further ones are dropped.
const QUEUE_MAX: usize = 256;

/// Writes Events in a separate task, so that nothing waits for them. Failures are logged.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<(ObjectReference, Event)>,
}

// === impl Events ===

impl Events {
    /// Starts the task, with `instance` as the reporting instance. The task ends when the last clone is dropped and the
    /// queue is empty.
    pub(crate) fn new(client: Client, instance: &str) -> Events {
        let reporter = Reporter { controller: "editwar".into(), instance: Some(instance.into()) };
        let recorder = Recorder::new(client, reporter);
        let (queue, mut events) = mpsc::channel::<(ObjectReference, Event)>(QUEUE_MAX);
        tokio::spawn(async move {
            while let Some((about, event)) = events.recv().await {
                if let Err(error) = within(EVENT, recorder.publish(&event, &about)).await {
                    tracing::warn!(%error, reason = event.reason, "cannot write an Event; allow it: \
                        {{apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}}");
                }
            }
        });
        Events { queue }
    }

    /// Writes a Warning, for a problem that began or continues.
    pub(crate) fn warn(&self, about: &ObjectReference, reason: &str, note: String) {
        self.enqueue(about, EventType::Warning, reason, note);
    }

    /// Writes a Normal Event, for a change or the end of a problem.
    pub(crate) fn publish(&self, about: &ObjectReference, reason: &str, note: String) {
        self.enqueue(about, EventType::Normal, reason, note);
    }

    fn enqueue(&self, about: &ObjectReference, type_: EventType, reason: &str, note: String) {
        let action = "Enforce".to_owned();
        let event = Event { type_, reason: reason.to_owned(), note: Some(note), action, secondary: None };
        if self.queue.try_send((about.clone(), event)).is_err() {
            tracing::warn!(reason, "dropping an Event: {QUEUE_MAX} others are queued");
        }
    }
}
