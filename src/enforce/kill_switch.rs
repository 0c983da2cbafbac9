//! The kill switch: removes all pauses, in parallel and with its own client. It works whether or not this replica holds
//! the Lease, and independently of other calls that wait for the API server. Pauses that cannot be removed are reported
//! and retried.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use kube::Client;
use prometheus::IntGauge;
use tokio::sync::watch;

use super::calls::LIFT;
use super::control::{Control, LiftProgress, NOT_STARTED};
use super::events::Events;
use super::pause_client::{Error, Kind, PauseClient};
use super::pauses::{Pauses, Target};
use super::selection::title;
use crate::pipeline::key::ObjectKey;
use crate::telemetry::metrics::Metrics;

/// Number of pauses that are removed concurrently.
const PARALLEL: usize = 32;
/// Maximum delay between retries. The first delay is one second.
const AGAIN_MAX: Duration = Duration::from_secs(10);
/// Delays between the removal of all pauses and the next search for pauses: the first delay, and all later ones. A
/// write that timed out earlier may have succeeded in the meantime.
const VERIFY_FIRST: Duration = Duration::from_secs(2);
const VERIFY_EVERY: Duration = Duration::from_secs(30);

/// The status of a pause that was not tried yet.
const NOT_TRIED: &str = "not tried yet";

/// The task of the kill switch.
pub(crate) struct KillSwitch {
    pause_client: PauseClient,
    events: Events,
    pauses: Pauses,
    kinds: Vec<Kind>,
    control: Control,
    pending: IntGauge,
}

// === impl KillSwitch ===

impl KillSwitch {
    /// Creates a kill switch for the known `pauses`, and for all that are found on objects of these kinds.
    pub(crate) fn new(
        client: Client,
        events: Events,
        pauses: Pauses,
        kinds: Vec<Kind>,
        control: Control,
        metrics: &Metrics,
    ) -> KillSwitch {
        let help = "Pauses that the kill switch could not lift yet, and resources that it could not search for pauses.";
        let pending = IntGauge::new("editwar_kill_switch_pending_pauses", help).expect("the name is valid");
        KillSwitch {
            pause_client: PauseClient::new(client, LIFT),
            events,
            pauses,
            kinds,
            control,
            pending: metrics.register(pending),
        }
    }

    /// Runs until `stop` turns true.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let this = Arc::new(self);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = this.lift_when_stopped() => {}
        }
        let left = this.control.progress().not_lifted;
        if this.control.is_stopped() && !left.is_empty() {
            tracing::error!(pauses = ?left, "exiting before the kill switch could lift these pauses");
        }
    }

    async fn lift_when_stopped(self: &Arc<Self>) {
        let mut stopped = self.control.changes();
        loop {
            let is_stopped = *stopped.borrow_and_update();
            let lifting =
                async { if is_stopped { self.lift_until_started().await } else { std::future::pending().await } };
            tokio::select! {
                changed = stopped.changed() => if changed.is_err() { return },
                () = lifting => {}
            }
            self.pending.set(0);
        }
    }

    async fn lift_until_started(self: &Arc<Self>) {
        for (key, _) in self.pauses.all() {
            self.control.record_not_lifted(&name(&key), NOT_TRIED);
        }
        for kind in &self.kinds {
            self.control.record_not_lifted(&kind.to_string(), "not searched for pauses yet");
        }
        self.control.record_search(NOT_STARTED);
        let (mut again, mut verify) = (Duration::from_secs(1), VERIFY_FIRST);
        loop {
            self.pass().await;
            let LiftProgress { lifted, not_lifted } = self.control.progress();
            if not_lifted.is_empty() {
                if verify == VERIFY_FIRST {
                    tracing::warn!(lifted = lifted.len(), "kill switch: all pauses are lifted");
                }
                tokio::time::sleep(verify).await;
                (again, verify) = (Duration::from_secs(1), VERIFY_EVERY);
            } else {
                tracing::error!(not_lifted = not_lifted.len(), again_in = ?again, "kill switch: not all pauses are lifted");
                tokio::time::sleep(again).await;
                (again, verify) = ((again * 2).min(AGAIN_MAX), VERIFY_FIRST);
            }
        }
    }

    /// Tries to remove each pause once: known pauses immediately, others as they are found.
    async fn pass(self: &Arc<Self>) {
        let known = self.pauses.all();
        let keys: Arc<BTreeSet<ObjectKey>> = Arc::new(known.iter().map(|(key, _)| key.clone()).collect());
        let lifts = self.lift_all(known);
        let this = self.clone();
        let lists = stream::iter(self.kinds.clone()).for_each_concurrent(PARALLEL, move |kind| {
            let (this, keys) = (this.clone(), keys.clone());
            async move { this.lift_found(&kind, &keys).await }
        });
        futures_util::future::join(lifts, lists).await;
    }

    /// Lists a kind and removes the pauses that are found. Those in `known` are skipped, since they are removed anyway.
    async fn lift_found(self: &Arc<Self>, kind: &Kind, known: &BTreeSet<ObjectKey>) {
        let title = kind.to_string();
        match self.pause_client.paused(kind).await {
            Ok(mut found) => {
                found.retain(|found| !known.contains(&found.key));
                for found in &found {
                    self.control.record_not_lifted(&name(&found.key), NOT_TRIED);
                }
                self.control.record_search(&title);
                self.lift_all(found.into_iter().map(|found| (found.key, found.target)).collect()).await;
            }
            // The kind does not exist, so there are no pauses of it.
            Err(Error::Unknown(_)) => self.control.record_search(&title),
            Err(error) => self.failed(&title, &format!("cannot search for pauses: {error}")),
        }
        self.count();
    }

    async fn lift_all(self: &Arc<Self>, pauses: Vec<(ObjectKey, Target)>) {
        let this = self.clone();
        let lift = move |(key, target): (ObjectKey, Target)| {
            let this = this.clone();
            async move { this.lift(&key, &target).await }
        };
        stream::iter(pauses).for_each_concurrent(PARALLEL, lift).await;
    }

    async fn lift(&self, key: &ObjectKey, target: &Target) {
        match self.pause_client.lift(target).await {
            Ok(()) | Err(Error::Gone) => {
                self.pauses.remove(key);
                self.control.record_lifted(&name(key));
                let note = "the kill switch is on".to_owned();
                tracing::info!(object = target.title(), namespace = target.namespace, note, "pause lifted");
                self.events.publish(&target.reference(), "ThrashingResolved", note);
            }
            Err(error) => {
                // The next pass retries it.
                self.pauses.insert(key.clone(), target.clone());
                self.failed(&name(key), &error.to_string());
            }
        }
        self.count();
    }

    /// Records a failure. Logs it if it is new or its reason has changed.
    fn failed(&self, name: &str, why: &str) {
        if self.control.record_not_lifted(name, why) {
            tracing::error!(pause = name, why, "the kill switch cannot lift this pause; retrying");
        }
    }

    fn count(&self) {
        self.pending.set(i64::try_from(self.control.progress().not_lifted.len()).unwrap_or(i64::MAX));
    }
}

/// Formats an object as `deployments.apps/shop/web`.
fn name(key: &ObjectKey) -> String {
    let object = key.object();
    let namespace = if object.namespace.is_empty() { "-" } else { object.namespace };
    format!("{}/{namespace}/{}", title(object.resource, object.group), object.name)
}

#[cfg(test)]
mod tests;
