//! Compares one asset with its object, and creates, corrects or deletes the object. What to do is decided by
//! [`crate::reconcile::plan`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::Value;

use super::object_api::{Place, reference};
use super::{GATE_AGAIN, MISSING_AGAIN, Reconciler};
use crate::audit::event::{Micros, parse_timestamp};
use crate::detect::annotations::{PAUSED_BECAUSE, PAUSED_UNTIL};
use crate::detect::assessment::Assessment;
use crate::detect::verdict::State;
use crate::enforce::calls::{CALL, within};
use crate::enforce::pauses::Target;
use crate::enforce::verdicts::{CLUSTER, would_pause};
use crate::pipeline::key::ObjectKey;
use crate::reconcile::drift;
use crate::reconcile::manifest::{Asset, Id};
use crate::reconcile::plan::{self, Evidence, Gate, Left, Next, Wanted};

/// Interval at which every asset is compared, even without notifications, in case a watch missed a change.
const RESYNC: Duration = Duration::from_secs(600);
/// Delay before an asset is compared again whose object changed between read and write.
const CHANGED_AGAIN: Duration = Duration::from_millis(200);

// === impl Reconciler ===

impl Reconciler {
    pub(super) async fn compare(&mut self, id: &Id, asset: &Asset, place: &Place) -> kube::Result<Duration> {
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
                    self.inbox.report_pause(place.key.clone(), target, until);
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
                self.inbox.request_pause(place.key.clone());
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
            max_event_age: self.settings.max_event_age,
        }
    }

    fn how(&self) -> PatchParams {
        PatchParams::apply(&self.settings.field_manager).force()
    }
}

fn now() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as Micros)
}
