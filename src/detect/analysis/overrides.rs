//! Requests whose values a mutating webhook replaces with the stored ones, so that nothing changes.

use std::sync::Arc;

use crate::audit::event::Micros;
use crate::detect::actor::Client;
use crate::detect::fields::{FieldValue, Path};
use crate::detect::record::Overridden;
use crate::detect::war::WarId;

/// Maximum number of overridden requests of one object, counted by requester, webhook, field and value.
pub(super) const OVERRIDES_MAX: usize = 64;

/// A value that a requester asks for, and that a webhook replaces each time.
#[derive(Clone, Debug)]
pub struct AdmissionOverride {
    /// The field.
    pub path: Path,
    /// The client that requests the value.
    pub requester: Arc<Client>,
    /// The webhook.
    pub webhook: Arc<Client>,
    /// The requested value; `None` if the field should be absent.
    pub requested: Option<FieldValue>,
    /// The value that the webhook sets instead.
    pub given: Option<FieldValue>,
    /// How often this happened.
    pub count: u32,
    at: Micros,
    pub(super) war: Option<WarId>,
}

/// The overridden requests of one object.
#[derive(Clone, Debug, Default)]
pub(super) struct AdmissionOverrides(Vec<AdmissionOverride>);

/// A request that was made, and overridden, before.
pub(super) struct Repeated {
    /// The position of the override.
    pub(super) index: usize,
    /// When the same value was last requested.
    pub(super) since: Micros,
}

// === impl AdmissionOverrides ===

impl AdmissionOverrides {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, AdmissionOverride> {
        self.0.iter()
    }

    /// Returns the approximate bytes of the list.
    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<AdmissionOverride>()
    }

    /// Counts an overridden request. Returns whether, and when, the requester requested the same value before.
    pub(super) fn record(&mut self, overridden: &Overridden, requester: &Arc<Client>, at: Micros) -> Option<Repeated> {
        let is_it = |o: &AdmissionOverride| {
            o.path == overridden.path
                && o.requester.is_same_actor(requester)
                && o.webhook.is_same_actor(&overridden.webhook)
                && o.requested == overridden.requested
        };
        if let Some(index) = self.0.iter().position(is_it) {
            let known = &mut self.0[index];
            let since = std::mem::replace(&mut known.at, at);
            known.count += 1;
            known.given = overridden.given.clone();
            return Some(Repeated { index, since });
        }
        if self.0.len() >= OVERRIDES_MAX
            && let Some(rarest) = (0..self.0.len()).min_by_key(|i| (self.0[*i].count, self.0[*i].at))
        {
            self.0.remove(rarest);
        }
        self.0.push(AdmissionOverride {
            path: overridden.path.clone(),
            requester: requester.clone(),
            webhook: overridden.webhook.clone(),
            requested: overridden.requested.clone(),
            given: overridden.given.clone(),
            count: 1,
            at,
            war: None,
        });
        None
    }

    /// Assigns an override to a war.
    pub(super) fn set_war(&mut self, index: usize, war: WarId) {
        self.0[index].war = Some(war);
    }
}
