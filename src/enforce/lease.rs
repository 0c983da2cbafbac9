//! The Lease: its duration and its margins, and one attempt to acquire, renew or release it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::core::ApiResource;
use kube::{Client, Resource};
use tokio::time::Instant;

use super::pause_client::{self, explained};

/// Duration of the Lease. With the interval of checks, another replica takes over within 15 s.
pub(crate) const DURATION: Duration = Duration::from_secs(10);
/// Interval of renewals and checks.
pub(crate) const EVERY: Duration = Duration::from_secs(2);
/// A holder that could not renew the Lease stops acting this long before it expires.
pub(crate) const MARGIN: Duration = Duration::from_secs(2);

/// A participant in the election.
pub(crate) struct Lease {
    api: Api<Object>,
    namespace: String,
    name: String,
    identity: String,
    /// The last observed renewal of another holder, and when it was observed by the local clock: the clocks of other
    /// replicas may be wrong.
    seen: Option<(Option<String>, Option<MicroTime>, Instant)>,
    held_until: Option<Instant>,
}

// === impl Lease ===

impl Lease {
    /// Creates a participant named `identity` for the Lease `name` in `namespace`.
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Lease {
        Lease {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
            held_until: None,
        }
    }

    /// Returns until when this replica may act, by the monotonic clock, or `None` if it does not hold the Lease.
    /// Counted from when the last successful renewal was sent.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Acquires or renews the Lease, if it is free or held by this identity. Returns whether it is held.
    ///
    /// # Errors
    /// [`pause_client::Error`] if it cannot be read or written.
    pub(crate) async fn renew(&mut self, now: Instant) -> Result<bool, pause_client::Error> {
        let resource = ApiResource::erase::<Object>(&());
        let found = self.api.get_opt(&self.name).await.map_err(|e| explained(e, &resource, "get"))?;
        let written = match found {
            None => {
                let lease = Object { metadata: self.metadata(None), spec: Some(self.spec(None)) };
                self.api.create(&PostParams::default(), &lease).await.map_err(|e| (e, "create"))
            }
            Some(lease) => {
                if !self.may_acquire(&lease, now) {
                    self.held_until = None;
                    return Ok(false);
                }
                let revision = lease.meta().resource_version.clone();
                let lease = Object { metadata: self.metadata(revision), spec: Some(self.spec(lease.spec.as_ref())) };
                self.api.replace(&self.name, &PostParams::default(), &lease).await.map_err(|e| (e, "update"))
            }
        };
        match written {
            Ok(_) => {
                self.held_until = Some(now + DURATION - MARGIN);
                Ok(true)
            }
            // Another replica was faster.
            Err((kube::Error::Api(status), _)) if status.code == 409 => {
                self.held_until = None;
                Ok(false)
            }
            Err((kube::Error::Api(status), "create")) if status.code == 404 => {
                let namespace = &self.namespace;
                Err(pause_client::Error::Unavailable(format!(
                    "the namespace \"{namespace}\" does not exist: create it, or set enforce.lease_namespace to another one"
                )))
            }
            Err((error, verb)) => Err(explained(error, &resource, verb)),
        }
    }

    /// Releases the Lease, so that another replica does not have to wait until it expires.
    pub(crate) async fn release(&mut self, now: Instant) {
        if self.held_until.take().is_none_or(|until| now >= until) {
            return;
        }
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else { return };
        let Some(spec) = lease.spec.as_mut().filter(|s| s.holder_identity.as_ref() == Some(&self.identity)) else {
            return;
        };
        spec.holder_identity = None;
        drop(self.api.replace(&self.name, &PostParams::default(), &lease).await);
    }

    /// Returns whether the Lease can be acquired: it is ours, has no holder, or was not renewed for its whole duration
    /// by the local clock.
    fn may_acquire(&mut self, lease: &Object, now: Instant) -> bool {
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|s| s.holder_identity.clone()).filter(|holder| !holder.is_empty());
        if holder.is_none() || holder.as_ref() == Some(&self.identity) {
            return true;
        }
        let renewed = spec.and_then(|s| s.renew_time.clone());
        match &self.seen {
            Some((who, when, since)) if *who == holder && *when == renewed => now - *since >= DURATION,
            _ => {
                self.seen = Some((holder, renewed, now));
                false
            }
        }
    }

    fn metadata(&self, resource_version: Option<String>) -> ObjectMeta {
        ObjectMeta { name: Some(self.name.clone()), resource_version, ..ObjectMeta::default() }
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let is_ours = before.is_some_and(|s| s.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|s| s.lease_transitions).unwrap_or(0) + i32::from(!is_ours);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: before.filter(|_| is_ours).and_then(|s| s.acquire_time.clone()).or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests;
