//! Admission webhooks that change or reject requests.

use serde_json::{Value, json};

use super::actors::Actor;
use super::exchange::Exchange;
use super::kinds::Kind;
use super::paths::{self, Change};
use super::simulator::{Target, failure};

type Mutate = dyn Fn(&Value, &Actor) -> Vec<Change>;
type Validate = dyn Fn(&Value, &Actor) -> Option<String>;

/// A mutating or validating webhook for the main resource of one kind.
pub(crate) struct Webhook {
    pub(crate) configuration: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) mutate: Option<Box<Mutate>>,
    pub(crate) validate: Option<Box<Validate>>,
}

// === impl Webhook ===

impl Webhook {
    pub(crate) fn mutating(
        kind: Kind,
        configuration: &'static str,
        name: &'static str,
        mutate: impl Fn(&Value, &Actor) -> Vec<Change> + 'static,
    ) -> Webhook {
        Webhook { configuration, name, kind, mutate: Some(Box::new(mutate)), validate: None }
    }

    pub(crate) fn validating(
        kind: Kind,
        name: &'static str,
        validate: impl Fn(&Value, &Actor) -> Option<String> + 'static,
    ) -> Webhook {
        Webhook { configuration: "guards", name, kind, mutate: None, validate: Some(Box::new(validate)) }
    }

    /// Returns it as a party.
    pub(crate) fn actor(&self) -> Actor {
        Actor::new(&format!("webhook {}/{}", self.configuration, self.name), "")
    }
}

/// Passes an object through all webhooks of its kind, in order.
pub(crate) fn admit(
    hooks: &[Webhook],
    target: &Target,
    actor: &Actor,
    after: &mut Value,
    exchange: &mut Exchange,
) -> Result<(), (u16, Value)> {
    for (index, hook) in hooks.iter().filter(|hook| hook.kind == target.kind).enumerate() {
        if let Some(mutate) = &hook.mutate {
            let changes = mutate(after, actor);
            let operations = paths::json_operations(after, &changes);
            let wanted = paths::changed(after, &changes);
            let is_mutated = wanted != *after;
            let key = format!("mutation.webhook.admission.k8s.io/round_0_index_{index}");
            let told = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": is_mutated});
            exchange.annotations.push((key, told.to_string()));
            if is_mutated {
                let key = format!("patch.webhook.admission.k8s.io/round_0_index_{index}");
                let patch = json!({"configuration": hook.configuration, "webhook": hook.name,
                    "patch": operations, "patchType": "JSONPatch"});
                exchange.annotations.push((key, patch.to_string()));
            }
            *after = wanted;
        }
        if let Some(message) = hook.validate.as_ref().and_then(|validate| validate(after, actor)) {
            let message = format!("admission webhook \"{}\" denied the request: {message}", hook.name);
            return Err((403, failure(target, 403, "Forbidden", &message)));
        }
    }
    Ok(())
}
