//! The changes that mutating webhooks made to a request, from the audit annotations.

use std::sync::Arc;

use super::actor::Client;
use super::fields::{Bodies, Evidence, FieldValue, Fields, Named, Path, Want, is_at_or_below};
use super::write::Write;
use crate::audit::scan;

/// One field that a webhook set or removed.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// The webhook.
    pub webhook: Arc<Client>,
    /// The field.
    pub path: Path,
    /// What the request wanted; `None` if the request did not name the field.
    pub asked: Option<Want>,
    /// The value that the webhook set; `None` if it removed the field.
    pub given: Option<FieldValue>,
}

/// Whether any mutating webhook changed the request.
pub(super) fn is_mutated(write: &Write<'_>) -> bool {
    write.event.annotations.iter().any(|(key, _)| is_patch(key))
}

/// Returns the fields that webhooks changed in a request.
pub(super) fn mutations(
    write: &Write<'_>,
    bodies: &Bodies<'_>,
    evidence: &Evidence,
    known: Option<&Fields>,
) -> Vec<Mutation> {
    let asked = match evidence {
        Evidence::Named { named, .. } if !named.is_empty() => named.clone(),
        Evidence::Whole { asked, .. } if !asked.named().is_empty() => asked.named().to_vec(),
        _ => bodies.asked_whole(),
    };
    // The admitted object has its lists in the order of the stored object.
    let known = match evidence {
        Evidence::Whole { fields, .. } => Some(&**fields),
        _ => known,
    };
    let mut found: Vec<Mutation> = Vec::new();
    for (_, value) in write.event.annotations.iter().filter(|(key, _)| is_patch(key)) {
        let text = |key| scan::member(value.as_bytes(), key).and_then(scan::plain_string);
        let (Some(configuration), Some(webhook)) = (text("configuration"), text("webhook")) else { continue };
        let Some(patch) = scan::member(value.as_bytes(), "patch") else { continue };
        let webhook = Arc::new(Client::webhook(configuration, webhook));
        for Named { path, want } in bodies.patched_by_webhook(patch, known) {
            let given = match want {
                Want::Value(value) => Some(value),
                Want::Removed => None,
                Want::Touched => continue,
            };
            let is_it = |a: &&Named| a.path == path || (a.want == Want::Removed && is_at_or_below(&path, &a.path));
            let asked = asked.iter().find(is_it).map(|a| a.want.clone());
            // If two webhooks set one field, the later one wins.
            found.retain(|mutation| mutation.path != path);
            found.push(Mutation { webhook: webhook.clone(), path, asked, given });
        }
    }
    found
}

fn is_patch(key: &str) -> bool {
    key.starts_with("patch.webhook.admission.k8s.io/")
}

// === impl Mutation ===

impl Mutation {
    /// Returns the value that the request asked for, if the webhook set another one.
    pub(super) fn overridden(&self) -> Option<Option<&FieldValue>> {
        let asked = match self.asked.as_ref()? {
            Want::Value(value) => Some(value),
            Want::Removed => None,
            Want::Touched => return None,
        };
        (asked != self.given.as_ref()).then_some(asked)
    }
}

#[cfg(test)]
#[path = "admission/tests.rs"]
mod tests;
