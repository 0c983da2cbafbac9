//! The changes that mutating webhooks made to a request, from the audit annotations.

use std::sync::Arc;

use super::actor::Client;
use super::fields::{Bodies, Evidence, FieldIntent, FieldValue, Fields, Intent, Path, is_at_or_below};
use super::write::Write;
use crate::audit::event::is_admission_patch;
use crate::audit::json_scan;

/// One field that a webhook set or removed.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// The webhook.
    pub webhook: Arc<Client>,
    /// The field.
    pub path: Path,
    /// What the request wanted; `None` if the request did not name the field.
    pub requested: Option<Intent>,
    /// The value that the webhook set; `None` if it removed the field.
    pub given: Option<FieldValue>,
}

/// Returns the fields that webhooks changed in a request.
pub(super) fn mutations(
    write: &Write<'_>,
    bodies: &Bodies<'_>,
    evidence: &Evidence,
    known: Option<&Fields>,
) -> Vec<Mutation> {
    let requested = match evidence {
        Evidence::Intents { intents, .. } if !intents.is_empty() => intents.clone(),
        Evidence::Whole { requested, .. } if !requested.intents().is_empty() => requested.intents().to_vec(),
        _ => bodies.whole_request_intents(),
    };
    // The admitted object has its lists in the order of the stored object.
    let known = match evidence {
        Evidence::Whole { fields, .. } => Some(&**fields),
        _ => known,
    };
    let mut found: Vec<Mutation> = Vec::new();
    for (_, value) in write.event.annotations.iter().filter(|(key, _)| is_admission_patch(key)) {
        let text = |key| json_scan::member(value.as_bytes(), key).and_then(json_scan::plain_string);
        let (Some(configuration), Some(webhook)) = (text("configuration"), text("webhook")) else { continue };
        let Some(patch) = json_scan::member(value.as_bytes(), "patch") else { continue };
        let webhook = Arc::new(Client::webhook(configuration, webhook));
        for FieldIntent { path, intent } in bodies.webhook_intents(patch, known) {
            let given = match intent {
                Intent::Set(value) => Some(value),
                Intent::Remove => None,
                Intent::Modify => continue,
            };
            let is_it =
                |a: &&FieldIntent| a.path == path || (a.intent == Intent::Remove && is_at_or_below(&path, &a.path));
            let requested = requested.iter().find(is_it).map(|a| a.intent.clone());
            // If two webhooks set one field, the later one wins.
            found.retain(|mutation| mutation.path != path);
            found.push(Mutation { webhook: webhook.clone(), path, requested, given });
        }
    }
    found
}

// === impl Mutation ===

impl Mutation {
    /// Returns the value that the request asked for, if the webhook set another one.
    pub(super) fn overridden(&self) -> Option<Option<&FieldValue>> {
        let requested = match self.requested.as_ref()? {
            Intent::Set(value) => Some(value),
            Intent::Remove => None,
            Intent::Modify => return None,
        };
        (requested != self.given.as_ref()).then_some(requested)
    }
}

#[cfg(test)]
#[path = "admission/tests.rs"]
mod tests;
