//! Events on the objects: what `kubectl describe` shows.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// Writes Events. One that cannot be written is logged and missed by nobody but its reader.
pub struct Events {
    recorder: Recorder,
}

// === impl Events ===

impl Events {
    /// Writes Events as this instance.
    pub fn new(client: Client, instance: &str) -> Events {
        let reporter = Reporter { controller: "editwar".into(), instance: Some(instance.into()) };
        Events { recorder: Recorder::new(client, reporter) }
    }

    /// A war began, or goes on.
    pub async fn warn(&self, about: &ObjectReference, reason: &str, note: String) {
        self.publish(about, EventType::Warning, reason, note).await;
    }

    /// It is over.
    pub async fn tell(&self, about: &ObjectReference, reason: &str, note: String) {
        self.publish(about, EventType::Normal, reason, note).await;
    }

    async fn publish(&self, about: &ObjectReference, type_: EventType, reason: &str, note: String) {
        let action = "Enforce".to_owned();
        let event = Event { type_, reason: reason.to_owned(), note: Some(note), action, secondary: None };
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::warn!(%error, reason, "cannot write an Event; allow it: \
                {{apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}}");
        }
    }
}
