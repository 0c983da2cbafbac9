//! The reconciler's task: compares each asset with its object when either changes, and corrects the object by
//! server-side apply.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::Scope;
use kube::{Client, ResourceExt, discovery};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::manifest::{Asset, Assets, Id};
use super::plan::{self, Evidence, Gate, Left, Next, Wanted};
use super::watchers::{QUEUE_MAX, Watches, directory};
use super::{drift, overrides};
use crate::audit::event::{Micros, parse_timestamp};
use crate::detect::annotations::{PAUSED_BECAUSE, PAUSED_UNTIL};
use crate::detect::assessment::Assessment;
use crate::detect::verdict::{Confidence, State};
use crate::detect::write::ObjectName;
use crate::enforce::calls::{CALL, within};
use crate::enforce::events::Events;
use crate::enforce::keeper::Tenure;
use crate::enforce::link::Link;
use crate::enforce::pauses::Target;
use crate::enforce::verdicts::{CLUSTER, would_pause};
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;
use crate::telemetry::control::Control;
use crate::telemetry::golden_state_metrics::GoldenStateMetrics;

/// Interval at which every asset is compared, even without notifications, in case a watch missed a change.
const RESYNC: Duration = Duration::from_secs(600);
/// Interval at which a replica that does not act checks whether it should.
const IDLE: Duration = Duration::from_secs(2);
/// Delay before an asset is compared again whose kind or namespace does not exist.
const MISSING_AGAIN: Duration = Duration::from_secs(10);
/// Delay before an asset is compared again that must not be corrected yet.
const GATE_AGAIN: Duration = Duration::from_secs(2);
/// Delay before an asset is compared again whose object changed between read and write.
const CHANGED_AGAIN: Duration = Duration::from_millis(200);
/// Delay after a file changes before the files are read, for further changes.
const SETTLE: Duration = Duration::from_millis(300);
/// Interval at which the directory is read without notifications, which not all file systems send.
const REREAD: Duration = Duration::from_secs(60);

/// Configuration of the reconciler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Directory of the Golden State.
    pub directory: PathBuf,
    /// The field manager for server-side apply.
    pub field_manager: String,
    /// The value of the label `managed-by`.
    pub managed_by: String,
    /// Minimum confidence of a verdict that stops a correction.
    pub confidence: Confidence,
    /// If the latest event is older than this, nothing is corrected.
    pub fresh_for: Micros,
}

/// The reconciler.
pub struct Reconciler {
    client: Client,
    pipeline: Arc<Pipeline>,
    metrics: GoldenStateMetrics,
    settings: Settings,
    link: Link,
    control: Control,
    events: Events,
    assets: Assets,
    golden: BTreeMap<Id, Asset>,
    kinds: BTreeMap<(String, String), (ApiResource, Scope)>,
    known: BTreeMap<Id, Known>,
    due: BTreeSet<(Instant, Id)>,
}

/// State of one asset.
#[derive(Clone, Debug, Default)]
struct Known {
    due: Option<Instant>,
    corrected: Option<Micros>,
    failures: u32,
    /// What was last reported, by reason, so that it is reported only once.
    told: BTreeMap<&'static str, String>,
}

/// An object, and the API to access it.
struct Place {
    api: Api<DynamicObject>,
    resource: ApiResource,
    key: ObjectKey,
}

// === impl Reconciler ===

impl Reconciler {
    /// Creates a reconciler that has not read any files yet.
    pub fn new(
        client: Client,
        (pipeline, metrics): (Arc<Pipeline>, GoldenStateMetrics),
        settings: Settings,
        events: Events,
        link: Link,
        control: Control,
    ) -> Reconciler {
        Reconciler {
            events,
            client,
            pipeline,
            metrics,
            settings,
            link,
            control,
            assets: Assets::default(),
            golden: BTreeMap::new(),
            kinds: BTreeMap::new(),
            known: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Runs until `stop` turns true, and acts while the Lease is held. Calls in flight are dropped when the Lease is
    /// lost, the kill switch is turned on, or `stop` turns true.
    pub async fn run(mut self, mut tenure: Tenure, mut stop: watch::Receiver<bool>) {
        let control = self.control.clone();
        let (changed, mut objects) = mpsc::channel(QUEUE_MAX);
        let mut watches = Watches::new(self.client.clone(), changed);
        let mut watched = directory(&self.settings.directory)
            .map_err(|error| tracing::warn!(%error, "cannot watch the directory of the Golden State; reading it every minute"))
            .ok();
        let mut read: Option<Instant> = None;
        loop {
            // The kill switch stops every write, also those of the reconciler.
            let is_held = tenure.is_held();
            let is_leading = is_held && !control.is_stopped();
            let at = self.due.first().map(|(at, _)| *at).filter(|_| is_leading);
            let until = at.unwrap_or_else(|| Instant::now() + IDLE).min(read.map_or(Instant::now(), |at| at + REREAD));
            let files = async {
                match &mut watched {
                    Some((_, files)) => files.recv().await,
                    None => std::future::pending().await,
                }
            };
            let has_files = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tenure.gained(IDLE), if !is_held => false,
                _ = files => true,
                Some(id) = objects.recv() => {
                    self.schedule(id, Duration::ZERO);
                    false
                }
                () = tokio::time::sleep_until(until.into()) => false,
            };
            if has_files {
                tokio::time::sleep(SETTLE).await;
                read = None;
            }
            if read.is_none_or(|at| at.elapsed() >= REREAD) {
                read = Some(Instant::now());
                self.read(&mut watches);
            }
            let now = Instant::now();
            while is_leading
                && let Some((at, _)) = self.due.first()
                && *at <= now
                && tenure.is_held()
                && !control.is_stopped()
            {
                let Some((_, id)) = self.due.pop_first() else { break };
                let again = tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = control.wait_for(true) => Some(GATE_AGAIN),
                    () = tenure.lost() => Some(GATE_AGAIN),
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
            self.control.say(format!("cannot read the Golden State: {error}"));
            return;
        }
        for (file, why) in &self.assets.broken {
            tracing::warn!(file = %file.display(), why, "invalid file in the Golden State; keeping its previous content");
        }
        let golden = self.assets.by_id();
        if golden == self.golden {
            return;
        }
        tracing::info!(assets = golden.len(), broken = self.assets.broken.len(), "loaded the Golden State");
        let changed: Vec<Id> =
            golden.iter().filter(|(id, asset)| self.golden.get(id) != Some(asset)).map(|(id, _)| id.clone()).collect();
        let gone: Vec<Id> = self.golden.keys().filter(|id| !golden.contains_key(*id)).cloned().collect();
        self.golden = golden;
        for id in &gone {
            self.customized(id, &[]);
            for gauge in [&self.metrics.compliance, &self.metrics.tombstones] {
                drop(gauge.remove_label_values(&[&id.kind, &id.name, &id.namespace]));
            }
        }
        self.known.retain(|id, _| self.golden.contains_key(id));
        self.due.retain(|(_, id)| self.golden.contains_key(id));
        watches.want(self.golden.keys().cloned().collect());
        changed.into_iter().for_each(|id| self.schedule(id, Duration::ZERO));
    }

    /// Schedules an asset after `wait`, unless it is already scheduled earlier.
    fn schedule(&mut self, id: Id, wait: Duration) {
        let at = Instant::now() + wait;
        let known = self.known.entry(id.clone()).or_default();
        if let Some(before) = known.due {
            if self.due.contains(&(before, id.clone())) && before <= at {
                return;
            }
            self.due.remove(&(before, id.clone()));
        }
        known.due = Some(at);
        self.due.insert((at, id));
    }

    /// Reconciles one asset. Returns the delay until the next time.
    async fn reconcile(&mut self, id: &Id, watches: &mut Watches) -> Option<Duration> {
        let asset = self.golden.get(id)?.clone();
        let started = Instant::now();
        let again = match self.place(id).await {
            Ok(Some(place)) => {
                watches.watch(id, &place.resource);
                match self.compare(id, &asset, &place).await {
                    Ok(again) => {
                        self.known.entry(id.clone()).or_default().failures = 0;
                        again
                    }
                    Err(error) => self.failed(id, &error).await,
                }
            }
            Ok(None) => MISSING_AGAIN,
            Err(error) => self.failed(id, &error).await,
        };
        self.metrics.seconds.observe(started.elapsed().as_secs_f64());
        Some(again)
    }

    /// Looks up the API of an object. Returns `None` if its kind does not exist yet.
    async fn place(&mut self, id: &Id) -> kube::Result<Option<Place>> {
        let kind = (id.api_version.clone(), id.kind.clone());
        let missing = self.metrics.missing.with_label_values(&[id.group(), id.version(), id.kind.as_str()]);
        if !self.kinds.contains_key(&kind) {
            let gvk = GroupVersionKind::gvk(id.group(), id.version(), &id.kind);
            match within(CALL, discovery::pinned_kind(&self.client, &gvk)).await {
                Ok((resource, capabilities)) => drop(self.kinds.insert(kind.clone(), (resource, capabilities.scope))),
                Err(kube::Error::Discovery(_)) => {
                    if missing.get() == 0 {
                        tracing::warn!(asset = %id, "the API server does not know this kind; skipping the object until it does");
                    }
                    missing.set(1);
                    return Ok(None);
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    missing.set(1);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        missing.set(0);
        let Some((resource, scope)) = self.kinds.get(&kind).cloned() else { return Ok(None) };
        let api = match scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), namespace(id), &resource),
        };
        let name = ObjectName {
            group: id.group(),
            resource: &resource.plural,
            namespace: if scope == Scope::Cluster { "" } else { namespace(id) },
            name: &id.name,
        };
        let key = ObjectKey::new(CLUSTER, &name);
        self.link.hold(key.clone());
        Ok(Some(Place { api, resource, key }))
    }

    async fn compare(&mut self, id: &Id, asset: &Asset, place: &Place) -> kube::Result<Duration> {
        let live = within(CALL, place.api.get_opt(&id.name)).await?;
        let value = live.as_ref().and_then(|live| serde_json::to_value(live).ok());
        let about = reference(id, live.as_ref());
        match plan::next(&asset.object, asset.is_tombstone, value.as_ref(), &self.settings.managed_by) {
            Next::Leave(why) => {
                self.left(id, why, live.as_ref(), place, &about).await;
                Ok(RESYNC)
            }
            Next::Delete => {
                let uid = live.as_ref().and_then(ResourceExt::uid);
                let only = kube::api::Preconditions { uid, resource_version: None };
                self.gauge(&self.metrics.tombstones, id, 1);
                let how = DeleteParams::default().preconditions(only);
                within(CALL, place.api.delete(&id.name, &how)).await?;
                tracing::info!(asset = %id, "deleted the object of a tombstone");
                Ok(MISSING_AGAIN)
            }
            Next::Apply(wanted) => {
                self.overrides(id, &wanted, &about).await;
                match value {
                    None => self.create(id, &wanted, place).await,
                    Some(live) => self.correct(id, &wanted, &live, place, &about).await,
                }
            }
        }
    }

    async fn left(&mut self, id: &Id, why: Left, live: Option<&DynamicObject>, place: &Place, about: &ObjectReference) {
        match why {
            Left::Paused => {
                self.gauge(&self.metrics.compliance, id, 0);
                let annotations = live.map(ResourceExt::annotations);
                if annotations.is_some_and(|a| a.contains_key(PAUSED_BECAUSE)) {
                    let until = annotations.and_then(|a| a.get(PAUSED_UNTIL)).and_then(|text| parse_timestamp(text));
                    let target = Target {
                        resource: place.resource.clone(),
                        namespace: place.key.object().namespace.to_owned(),
                        name: id.name.clone(),
                        uid: live.and_then(ResourceExt::uid),
                    };
                    self.link.found(place.key.clone(), target, until);
                }
            }
            Left::Unmanaged => {
                self.customized(id, &["unmanaged"]);
                if self.is_news(id, "UnmanagedMode", "unmanaged") {
                    self.events.tell(
                        about,
                        "UnmanagedMode",
                        "the object is unmanaged, so editwar does not change it".into(),
                    );
                }
            }
            Left::NotOurs => self.gauge(&self.metrics.tombstones, id, i64::from(live.is_some())),
            Left::Deleting => {}
        }
        if why != Left::Unmanaged {
            self.forget_news(id, "UnmanagedMode");
        }
    }

    #[tracing::instrument(level = "debug", skip_all, fields(object = ?id))]
    async fn create(&mut self, id: &Id, wanted: &Wanted, place: &Place) -> kube::Result<Duration> {
        let evidence = self.evidence(id, &place.key, None);
        // The first creation overwrites nobody. If it was created before, somebody has deleted it.
        match plan::gate(&evidence) {
            Gate::Fought => {
                if self.is_news(id, "Throttled", "fought") {
                    tracing::warn!(asset = %id, "not created again: another actor keeps deleting the object");
                }
                self.gauge(&self.metrics.compliance, id, 0);
                return Ok(GATE_AGAIN);
            }
            Gate::Waiting | Gate::Stale if evidence.corrected.is_some() => {
                self.gauge(&self.metrics.compliance, id, 0);
                return Ok(GATE_AGAIN);
            }
            _ => {}
        }
        let how = self.how();
        match within(CALL, place.api.patch(&id.name, &how, &Patch::Apply(&wanted.object))).await {
            Ok(made) => {
                self.known.entry(id.clone()).or_default().corrected = Some(now());
                self.forget_news(id, "Throttled");
                tracing::info!(asset = %id, "created the missing object");
                self.gauge(&self.metrics.compliance, id, 1);
                self.events.tell(&reference(id, Some(&made)), "AssetApplied", "created the missing object".into());
                Ok(RESYNC)
            }
            // The namespace does not exist yet.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                if self.is_news(id, "missing", &status.message) {
                    tracing::warn!(asset = %id, why = status.message, "cannot apply the object yet");
                }
                self.gauge(&self.metrics.compliance, id, 0);
                Ok(MISSING_AGAIN)
            }
            Err(error) => Err(error),
        }
    }

    #[tracing::instrument(level = "debug", skip_all, fields(object = ?id))]
    async fn correct(
        &mut self,
        id: &Id,
        wanted: &Wanted,
        live: &Value,
        place: &Place,
        about: &ObjectReference,
    ) -> kube::Result<Duration> {
        // The uid and resourceVersion ensure that the write fails if the object was changed or replaced since it was
        // read.
        let mut object = wanted.object.clone();
        for key in ["uid", "resourceVersion"] {
            object["metadata"][key] = live["metadata"][key].clone();
        }
        let patch = Patch::Apply(&object);
        let would_be = match within(CALL, place.api.patch(&id.name, &self.how().dry_run(), &patch)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(CHANGED_AGAIN),
            result => result?,
        };
        let would_be = serde_json::to_value(would_be).map_err(kube::Error::SerdeError)?;
        let paths = drift::between(live, &would_be);
        if paths.is_empty() {
            self.gauge(&self.metrics.compliance, id, 1);
            self.forget_news(id, "Throttled");
            self.forget_news(id, "DriftDetected");
            return Ok(RESYNC);
        }
        self.gauge(&self.metrics.compliance, id, 0);
        let evidence = self.evidence(id, &place.key, Some(&paths));
        let named = drift::named(&paths);
        match plan::gate(&evidence) {
            Gate::Open => {}
            Gate::Waiting => return Ok(GATE_AGAIN),
            Gate::Fought => {
                self.link.ask(place.key.clone());
                if self.is_news(id, "Throttled", "fought") {
                    let note = format!(
                        "{named}: not corrected, because other actors fight over the object; see the Event ThrashingDetected"
                    );
                    self.events.warn(about, "Throttled", note);
                }
                return Ok(GATE_AGAIN);
            }
            Gate::Stale => {
                if self.is_news(id, "DriftDetected", &named) {
                    let note = format!("{named}: not corrected, because there are no recent audit events");
                    self.events.warn(about, "DriftDetected", note);
                }
                return Ok(GATE_AGAIN);
            }
        }
        // Set before the write: if it times out, it may have succeeded, and its event must be seen before the next
        // write.
        let before = self.known.entry(id.clone()).or_default().corrected.replace(now());
        match within(CALL, place.api.patch(&id.name, &self.how(), &patch)).await {
            Ok(_) => {}
            Err(error) => {
                let is_refused = matches!(error, kube::Error::Api(_));
                if let Some(known) = self.known.get_mut(id).filter(|_| is_refused) {
                    known.corrected = before;
                }
                match error {
                    kube::Error::Api(status) if status.code == 409 => return Ok(CHANGED_AGAIN),
                    error => return Err(error),
                }
            }
        }
        self.gauge(&self.metrics.compliance, id, 1);
        tracing::info!(asset = %id, fields = named, "corrected drift");
        self.events.tell(about, "DriftCorrected", named);
        Ok(RESYNC)
    }

    /// Reports overrides that are new, and those that are invalid.
    async fn overrides(&mut self, id: &Id, wanted: &Wanted, about: &ObjectReference) {
        self.customized(id, &wanted.customizations);
        for (reason, text) in [
            ("InvalidPatch", invalid(wanted, |i| matches!(i, overrides::Invalid::Patch(_)))),
            ("InvalidIgnoreFields", invalid(wanted, |i| matches!(i, overrides::Invalid::Ignore(..)))),
        ] {
            if text.is_empty() {
                self.forget_news(id, reason);
            } else if self.is_news(id, reason, &text) {
                self.events.warn(about, reason, text);
            }
        }
        let is_patched = wanted.customizations.contains(&"patch")
            && !wanted.invalid.iter().any(|i| matches!(i, overrides::Invalid::Patch(_)));
        if !is_patched {
            self.forget_news(id, "PatchApplied");
        } else if self.is_news(id, "PatchApplied", &wanted.object["spec"].to_string()) {
            self.events.tell(about, "PatchApplied", "applied the patch annotation".into());
        }
    }

    async fn failed(&mut self, id: &Id, error: &kube::Error) -> Duration {
        self.gauge(&self.metrics.compliance, id, 0);
        let known = self.known.entry(id.clone()).or_default();
        known.failures = known.failures.saturating_add(1);
        let wait = GATE_AGAIN.saturating_mul(1 << known.failures.min(7));
        let text = error.to_string();
        if self.is_news(id, "ApplyFailed", &text) {
            tracing::warn!(asset = %id, error = text, "cannot reconcile the object; retrying");
            self.control.say(format!("{id}: {text}"));
            if matches!(error, kube::Error::Api(_)) {
                self.events.warn(&reference(id, None), "ApplyFailed", text.chars().take(900).collect());
            }
        }
        wait
    }

    /// Collects what is known about an object that differs at these paths. `None` stands for an object that does not
    /// exist.
    fn evidence(&self, id: &Id, key: &ObjectKey, paths: Option<&[String]>) -> Evidence {
        let latest = self.pipeline.latest_of(CLUSTER);
        let look = |object: &crate::detect::object::ObjectState| Assessment::of(object).state(self.settings.confidence);
        let state = self.pipeline.table().with(key, look);
        Evidence {
            state: state.unwrap_or(State::Calm),
            would_pause: would_pause(&self.pipeline, self.settings.confidence, key, paths),
            latest,
            corrected: self.known.get(id).and_then(|known| known.corrected),
            now: now(),
            fresh_for: self.settings.fresh_for,
        }
    }

    fn how(&self) -> PatchParams {
        PatchParams::apply(&self.settings.field_manager).force()
    }

    fn gauge(&self, gauge: &prometheus::IntGaugeVec, id: &Id, value: i64) {
        gauge.with_label_values(&[id.kind.as_str(), id.name.as_str(), id.namespace.as_str()]).set(value);
    }

    fn customized(&self, id: &Id, types: &[&str]) {
        for kind in ["patch", "ignore", "unmanaged"] {
            let labels = [id.kind.as_str(), id.name.as_str(), id.namespace.as_str(), kind];
            if types.contains(&kind) {
                self.metrics.customizations.with_label_values(&labels).set(1)
            } else {
                drop(self.metrics.customizations.remove_label_values(&labels))
            }
        }
    }

    fn is_news(&mut self, id: &Id, what: &'static str, text: &str) -> bool {
        let told = &mut self.known.entry(id.clone()).or_default().told;
        told.insert(what, text.to_owned()).as_deref() != Some(text)
    }

    fn forget_news(&mut self, id: &Id, what: &str) {
        if let Some(known) = self.known.get_mut(id) {
            known.told.remove(what);
        }
    }
}

fn invalid(wanted: &Wanted, is_it: impl Fn(&overrides::Invalid) -> bool) -> String {
    wanted.invalid.iter().filter(|i| is_it(i)).map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn namespace(id: &Id) -> &str {
    if id.namespace.is_empty() { "default" } else { &id.namespace }
}

fn reference(id: &Id, live: Option<&DynamicObject>) -> ObjectReference {
    ObjectReference {
        api_version: Some(id.api_version.clone()),
        kind: Some(id.kind.clone()),
        name: Some(id.name.clone()),
        namespace: Some(id.namespace.clone()).filter(|n| !n.is_empty()),
        uid: live.and_then(ResourceExt::uid),
        ..ObjectReference::default()
    }
}

fn now() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as Micros)
}
