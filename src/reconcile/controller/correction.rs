//! Compares one asset with its object, and creates, corrects or deletes the object. What to do is decided by
//! [`crate::reconcile::plan`].

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::Value;

use super::object_api::{ObjectApi, reference};
use super::{Correction, GATE_RETRY, MISSING_RETRY, Reconciler};
use crate::audit::event::parse_timestamp;
use crate::detect::annotations::{PAUSED_BECAUSE, PAUSED_UNTIL};
use crate::detect::assessment::Assessment;
use crate::detect::verdict::State;
use crate::enforce::calls::{CALL, within};
use crate::enforce::pauses::Target;
use crate::enforce::selection::CLUSTER;
use crate::enforce::verdicts::would_pause;
use crate::pipeline::key::ObjectKey;
use crate::reconcile::drift;
use crate::reconcile::manifest::{Asset, Id};
use crate::reconcile::plan::{self, Action, DesiredObject, GateInput, SkipReason, WriteGate};
use crate::util::clock;

/// Interval at which every asset is compared, even without notifications, in case a watch missed a change.
pub(super) const RESYNC: Duration = Duration::from_secs(600);
/// Delay before an asset is compared again whose object changed between read and write.
pub(super) const CONFLICT_RETRY: Duration = Duration::from_millis(200);

// === impl Reconciler ===

impl Reconciler {
    pub(super) async fn compare(&mut self, id: &Id, asset: &Asset, object_api: &ObjectApi) -> kube::Result<Duration> {
        let live = within(CALL, object_api.api.get_opt(&id.name)).await?;
        let value = live.as_ref().and_then(|live| serde_json::to_value(live).ok());
        let about = reference(id, live.as_ref());
        match plan::action(&asset.object, asset.is_tombstone, value.as_ref(), &self.settings.managed_by) {
            Action::Skip(why) => {
                self.skip(id, why, live.as_ref(), object_api, &about).await;
                self.record_success(id);
                Ok(RESYNC)
            }
            Action::Delete => {
                let uid = live.as_ref().and_then(ResourceExt::uid);
                let only = kube::api::Preconditions { uid, resource_version: None };
                self.set_gauge(&self.metrics.tombstones, id, 1);
                let params = DeleteParams::default().preconditions(only);
                match within(CALL, object_api.api.delete(&id.name, &params)).await {
                    Ok(_) => tracing::info!(asset = %id, "deleted the object of a tombstone"),
                    // Another actor has deleted it.
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    // Another object has its name now.
                    Err(kube::Error::Api(status)) if status.code == 409 => return Ok(CONFLICT_RETRY),
                    Err(error) => return Err(error),
                }
                self.record_success(id);
                Ok(MISSING_RETRY)
            }
            Action::Apply(wanted) => {
                self.report_overrides(id, &wanted, &about).await;
                match value {
                    None => self.create(id, &wanted, object_api).await,
                    Some(live) => self.correct(id, &wanted, &live, object_api, &about).await,
                }
            }
        }
    }

    async fn skip(
        &mut self,
        id: &Id,
        why: SkipReason,
        live: Option<&DynamicObject>,
        object_api: &ObjectApi,
        about: &ObjectReference,
    ) {
        match why {
            SkipReason::Paused => {
                self.set_gauge(&self.metrics.compliance, id, 0);
                let annotations = live.map(ResourceExt::annotations);
                if annotations.is_some_and(|a| a.contains_key(PAUSED_BECAUSE)) {
                    let until = annotations.and_then(|a| a.get(PAUSED_UNTIL)).and_then(|text| parse_timestamp(text));
                    let target = Target {
                        resource: object_api.resource.clone(),
                        namespace: object_api.key.object().namespace.to_owned(),
                        name: id.name.clone(),
                        uid: live.and_then(ResourceExt::uid),
                    };
                    self.inbox.report_pause(object_api.key.clone(), target, until);
                }
            }
            SkipReason::Unmanaged => {
                self.set_customizations(id, &["unmanaged"]);
                if self.is_new_report(id, "UnmanagedMode", "unmanaged") {
                    self.events.publish(
                        about,
                        "UnmanagedMode",
                        "the object is unmanaged, so editwar does not change it".into(),
                    );
                }
            }
            SkipReason::NotOurs => self.set_gauge(&self.metrics.tombstones, id, i64::from(live.is_some())),
            SkipReason::Deleting => {}
        }
        if why != SkipReason::Unmanaged {
            self.clear_report(id, "UnmanagedMode");
        }
    }

    #[tracing::instrument(level = "debug", skip_all, fields(object = ?id))]
    async fn create(&mut self, id: &Id, wanted: &DesiredObject, object_api: &ObjectApi) -> kube::Result<Duration> {
        let input = self.gate_input(id, &object_api.key, None);
        // The first creation overwrites nobody. If it was created before, somebody has deleted it.
        match plan::write_gate(&input) {
            WriteGate::AtWar => {
                if self.is_new_report(id, "Throttled", "fought") {
                    tracing::warn!(asset = %id, "not created again: another actor keeps deleting the object");
                }
                self.set_gauge(&self.metrics.compliance, id, 0);
                return Ok(GATE_RETRY);
            }
            // Nothing will show whether an unconfirmed creation was executed.
            WriteGate::Stale if self.last_correction(id).is_none_or(|last| !last.is_confirmed) => {}
            WriteGate::AwaitingEvent | WriteGate::Stale => {
                self.set_gauge(&self.metrics.compliance, id, 0);
                return Ok(GATE_RETRY);
            }
            WriteGate::Open => {}
        }
        match self.apply(id, &wanted.object, object_api).await {
            Ok(made) => {
                self.record_success(id);
                self.clear_report(id, "Throttled");
                tracing::info!(asset = %id, "created the missing object");
                self.set_gauge(&self.metrics.compliance, id, 1);
                self.events.publish(&reference(id, Some(&made)), "AssetApplied", "created the missing object".into());
                Ok(RESYNC)
            }
            // The namespace does not exist yet, or the kind no longer exists.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                if self.is_new_report(id, "missing", &status.message) {
                    tracing::warn!(asset = %id, why = status.message, "cannot apply the object yet");
                }
                self.set_gauge(&self.metrics.compliance, id, 0);
                self.kinds.forget(id);
                Ok(MISSING_RETRY)
            }
            Err(error) => Err(error),
        }
    }

    #[tracing::instrument(level = "debug", skip_all, fields(object = ?id))]
    async fn correct(
        &mut self,
        id: &Id,
        wanted: &DesiredObject,
        live: &Value,
        object_api: &ObjectApi,
        about: &ObjectReference,
    ) -> kube::Result<Duration> {
        // The uid and resourceVersion ensure that the write fails if the object was changed or replaced since it was
        // read.
        let mut object = wanted.object.clone();
        for key in ["uid", "resourceVersion"] {
            object["metadata"][key] = live["metadata"][key].clone();
        }
        let patch = Patch::Apply(&object);
        let dry_run = match within(CALL, object_api.api.patch(&id.name, &self.patch_params().dry_run(), &patch)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(CONFLICT_RETRY),
            result => result?,
        };
        let dry_run = serde_json::to_value(dry_run).map_err(kube::Error::SerdeError)?;
        let paths = drift::between(live, &dry_run);
        if paths.is_empty() {
            self.record_success(id);
            self.set_gauge(&self.metrics.compliance, id, 1);
            self.clear_report(id, "Throttled");
            self.clear_report(id, "DriftDetected");
            return Ok(RESYNC);
        }
        self.set_gauge(&self.metrics.compliance, id, 0);
        let named = drift::named(&paths);
        let gate = plan::write_gate(&self.gate_input(id, &object_api.key, Some(&paths)));
        if gate != WriteGate::Open {
            self.leave_uncorrected(id, gate, &named, object_api, about);
            return Ok(GATE_RETRY);
        }
        match self.apply(id, &object, object_api).await {
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(CONFLICT_RETRY),
            result => drop(result?),
        }
        self.record_success(id);
        self.set_gauge(&self.metrics.compliance, id, 1);
        tracing::info!(asset = %id, fields = named, "corrected drift");
        self.events.publish(about, "DriftCorrected", named);
        Ok(RESYNC)
    }

    /// Reports why drift of these fields is not corrected now.
    fn leave_uncorrected(
        &mut self,
        id: &Id,
        gate: WriteGate,
        fields: &str,
        object_api: &ObjectApi,
        about: &ObjectReference,
    ) {
        match gate {
            WriteGate::Open | WriteGate::AwaitingEvent => {}
            WriteGate::AtWar => {
                self.inbox.request_pause(object_api.key.clone());
                if self.is_new_report(id, "Throttled", "fought") {
                    let note = format!(
                        "{fields}: not corrected, because other actors fight over the object; see the Event ThrashingDetected"
                    );
                    self.events.warn(about, "Throttled", note);
                }
            }
            WriteGate::Stale => {
                if self.is_new_report(id, "DriftDetected", fields) {
                    let note = format!("{fields}: not corrected, because there are no recent audit events");
                    self.events.warn(about, "DriftDetected", note);
                }
            }
        }
    }

    /// Writes an object. After a write that may have been executed, its event must be seen before the next one.
    async fn apply(&mut self, id: &Id, object: &Value, object_api: &ObjectApi) -> kube::Result<DynamicObject> {
        // Set before the write, because the call may be dropped.
        let correction = Correction { at: clock::now(), is_confirmed: false };
        let before = self.states.entry(id.clone()).or_default().last_correction.replace(correction);
        let params = self.patch_params();
        let result = within(CALL, object_api.api.patch(&id.name, &params, &Patch::Apply(object))).await;
        let after = match &result {
            Ok(_) => Some(Correction { is_confirmed: true, ..correction }),
            // An API server that runs into a timeout itself answers 500 or 504.
            Err(kube::Error::Api(status)) if status.code < 500 => before,
            Err(_) => Some(correction),
        };
        self.states.entry(id.clone()).or_default().last_correction = after;
        result
    }

    fn last_correction(&self, id: &Id) -> Option<Correction> {
        self.states.get(id)?.last_correction
    }

    /// Collects what is known about an object that differs at these paths. `None` stands for an object that does not
    /// exist.
    fn gate_input(&self, id: &Id, key: &ObjectKey, paths: Option<&[String]>) -> GateInput {
        let latest = self.pipeline.latest_of(CLUSTER);
        let look = |object: &crate::detect::object::ObjectState| Assessment::of(object).state(self.settings.confidence);
        let state = self.pipeline.table().with(key, look);
        GateInput {
            state: state.unwrap_or(State::Calm),
            would_pause: would_pause(&self.pipeline, self.settings.confidence, key, paths),
            latest,
            last_correction: self.last_correction(id).map(|correction| correction.at),
            now: clock::now(),
            max_event_age: self.settings.max_event_age,
        }
    }

    fn patch_params(&self) -> PatchParams {
        PatchParams::apply(&self.settings.field_manager).force()
    }
}
