//! The reconciler's task: compares each asset with its object when either changes, and corrects the object by
//! server-side apply.
//!
//! This file schedules the assets; `correction` handles one asset, `object_api` finds the API of its object, and
//! `reports` sends metrics and Events.

mod correction;
mod object_api;
mod reports;
mod schedule;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::object_api::{Kinds, reference};
use self::schedule::Schedule;
use super::manifest::{Asset, Assets, Id};
use super::watchers::{QUEUE_MAX, Watches, directory};
use crate::audit::event::Micros;
use crate::detect::verdict::Confidence;
use crate::enforce::control::Control;
use crate::enforce::events::Events;
use crate::enforce::inbox::Inbox;
use crate::enforce::leader_election::Leadership;
use crate::pipeline::Pipeline;
use crate::telemetry::golden_state_metrics::GoldenStateMetrics;

/// Interval at which a replica that does not act checks whether it should.
const IDLE: Duration = Duration::from_secs(2);
/// Delay before an asset is compared again whose kind or namespace does not exist.
const MISSING_RETRY: Duration = Duration::from_secs(10);
/// Delay before an asset is compared again that must not be corrected yet.
const GATE_RETRY: Duration = Duration::from_secs(2);
/// Delay after a file changes before the files are read, for further changes.
const SETTLE: Duration = Duration::from_millis(300);
/// Interval at which the directory is read without notifications, which not all file systems send.
const REREAD_INTERVAL: Duration = Duration::from_secs(60);

/// Configuration of the reconciler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Directory of the Golden State.
    pub directory: PathBuf,
    /// The field manager for server-side apply.
    pub field_manager: String,
    /// The value of the label `managed-by`.
    pub managed_by: String,
    /// Minimum confidence of a verdict that stops a correction.
    pub confidence: Confidence,
    /// If the latest event is older than this, nothing is corrected.
    pub max_event_age: Micros,
}

/// The reconciler.
pub(crate) struct Reconciler {
    client: Client,
    pipeline: Arc<Pipeline>,
    metrics: GoldenStateMetrics,
    settings: Settings,
    inbox: Inbox,
    control: Control,
    events: Events,
    assets: Assets,
    desired: BTreeMap<Id, Asset>,
    kinds: Kinds,
    states: BTreeMap<Id, AssetState>,
    schedule: Schedule,
}

/// State of one asset.
#[derive(Clone, Debug, Default)]
struct AssetState {
    last_correction: Option<Correction>,
    failures: u32,
    /// What was last reported, by reason, so that it is reported only once.
    last_reports: BTreeMap<&'static str, String>,
}

/// A write to an object.
#[derive(Clone, Copy, Debug)]
struct Correction {
    /// Wall clock when it was sent.
    at: Micros,
    /// Whether it is known to have been executed.
    is_confirmed: bool,
}

// === impl Reconciler ===

impl Reconciler {
    /// Creates a reconciler that has not read any files yet.
    pub(crate) fn new(
        client: Client,
        pipeline: Arc<Pipeline>,
        metrics: GoldenStateMetrics,
        settings: Settings,
        events: Events,
        inbox: Inbox,
        control: Control,
    ) -> Reconciler {
        Reconciler {
            events,
            pipeline,
            metrics,
            settings,
            inbox,
            control,
            assets: Assets::default(),
            desired: BTreeMap::new(),
            kinds: Kinds::new(client.clone()),
            client,
            states: BTreeMap::new(),
            schedule: Schedule::default(),
        }
    }

    /// Runs until `stop` turns true, and acts while the Lease is held. Calls in flight are dropped when the Lease is
    /// lost, the kill switch is turned on, or `stop` turns true.
    pub(crate) async fn run(mut self, mut leadership: Leadership, mut stop: watch::Receiver<bool>) {
        let control = self.control.clone();
        let (changed, mut objects) = mpsc::channel(QUEUE_MAX);
        let mut watches = Watches::new(self.client.clone(), changed);
        let mut watched = directory(&self.settings.directory)
            .map_err(|error| tracing::warn!(%error, "cannot watch the directory of the Golden State; reading it every minute"))
            .ok();
        let mut read: Option<Instant> = None;
        loop {
            // The kill switch stops every write, also those of the reconciler.
            let is_held = leadership.is_held();
            let is_leading = is_held && !control.is_stopped();
            let at = self.schedule.next().filter(|_| is_leading);
            let until =
                at.unwrap_or_else(|| Instant::now() + IDLE).min(read.map_or(Instant::now(), |at| at + REREAD_INTERVAL));
            let files = async {
                match &mut watched {
                    Some((_, files)) => files.recv().await,
                    None => std::future::pending().await,
                }
            };
            let has_files = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = leadership.wait_until_held(IDLE), if !is_held => false,
                _ = files => true,
                Some(id) = objects.recv() => {
                    self.schedule(id, Duration::ZERO);
                    false
                }
                () = tokio::time::sleep_until(until) => false,
            };
            if has_files {
                tokio::time::sleep(SETTLE).await;
                read = None;
            }
            if read.is_none_or(|at| at.elapsed() >= REREAD_INTERVAL) {
                read = Some(Instant::now());
                self.read(&mut watches);
            }
            let now = Instant::now();
            while is_leading
                && leadership.is_held()
                && !control.is_stopped()
                && let Some(id) = self.schedule.pop_due(now)
            {
                let again = tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = control.wait_for(true) => Some(GATE_RETRY),
                    () = leadership.wait_until_lost() => Some(GATE_RETRY),
                    again = self.reconcile(&id, &mut watches) => again,
                };
                if let Some(again) = again {
                    self.schedule(id, again);
                }
            }
        }
    }

    /// Reads the Golden State, and schedules the assets that have changed.
    fn read(&mut self, watches: &mut Watches) {
        if let Err(error) = self.assets.read(&self.settings.directory) {
            tracing::warn!(%error, directory = %self.settings.directory.display(), "cannot read the Golden State; keeping the previous one");
            self.control.set_status(format!("cannot read the Golden State: {error}"));
            return;
        }
        for (file, why) in &self.assets.broken {
            tracing::warn!(file = %file.display(), why, "invalid file in the Golden State; keeping its previous content");
        }
        let desired = self.assets.by_id();
        if desired == self.desired {
            return;
        }
        tracing::info!(assets = desired.len(), broken = self.assets.broken.len(), "loaded the Golden State");
        let changed: Vec<Id> = desired
            .iter()
            .filter(|(id, asset)| self.desired.get(id) != Some(asset))
            .map(|(id, _)| id.clone())
            .collect();
        let gone: Vec<Id> = self.desired.keys().filter(|id| !desired.contains_key(*id)).cloned().collect();
        self.desired = desired;
        for id in &gone {
            self.set_customizations(id, &[]);
            for gauge in [&self.metrics.compliance, &self.metrics.tombstones] {
                drop(gauge.remove_label_values(&[&id.kind, &id.name, &id.namespace]));
            }
        }
        self.states.retain(|id, _| self.desired.contains_key(id));
        self.schedule.retain(|id| self.desired.contains_key(id));
        watches.set_objects(self.desired.keys().cloned().collect());
        changed.into_iter().for_each(|id| self.schedule(id, Duration::ZERO));
    }

    /// Schedules an asset after `wait`, unless it is already scheduled earlier.
    fn schedule(&mut self, id: Id, wait: Duration) {
        self.schedule.add(id, Instant::now() + wait);
    }

    /// Reconciles one asset. Returns the delay until the next time.
    async fn reconcile(&mut self, id: &Id, watches: &mut Watches) -> Option<Duration> {
        let asset = self.desired.get(id)?.clone();
        let started = Instant::now();
        let missing = self.metrics.missing.with_label_values(&[id.group(), id.version(), id.kind.as_str()]);
        let again = match self.kinds.find(id, &missing).await {
            Ok(Some(object_api)) => {
                self.inbox.add_managed(object_api.key.clone());
                watches.watch(id, &object_api.resource);
                match self.compare(id, &asset, &object_api).await {
                    Ok(again) => again,
                    Err(error) => self.failed(id, &error).await,
                }
            }
            Ok(None) => MISSING_RETRY,
            Err(error) => self.failed(id, &error).await,
        };
        self.metrics.seconds.observe(started.elapsed().as_secs_f64());
        Some(again)
    }

    /// Records that nothing is left to do for an asset. Its next failure is reported, and retried soon.
    fn record_success(&mut self, id: &Id) {
        self.states.entry(id.clone()).or_default().failures = 0;
        self.clear_report(id, "ApplyFailed");
        self.clear_report(id, "missing");
    }

    async fn failed(&mut self, id: &Id, error: &kube::Error) -> Duration {
        self.set_gauge(&self.metrics.compliance, id, 0);
        let state = self.states.entry(id.clone()).or_default();
        state.failures = state.failures.saturating_add(1);
        let wait = GATE_RETRY.saturating_mul(1 << state.failures.min(7));
        let text = error.to_string();
        if self.is_new_report(id, "ApplyFailed", &text) {
            tracing::warn!(asset = %id, error = text, "cannot reconcile the object; retrying");
            self.control.set_status(format!("{id}: {text}"));
            if matches!(error, kube::Error::Api(_)) {
                self.events.warn(&reference(id, None), "ApplyFailed", text.chars().take(900).collect());
            }
        }
        wait
    }
}

#[cfg(test)]
mod tests;
