//! Executes one action: reads the object, writes to it, and returns the outcome.

use std::sync::Arc;
use std::time::Duration;

use super::events::Events;
use super::leader_election::Leadership;
use super::means::Means;
use super::pause_client::{self, Error, LiveObject, PauseClient, because};
use super::pauses::{Pauses, Target};
use super::plan::{Action, PauseKind, Verdict};
use super::selection::{Exclusion, Selection};
use crate::audit::event::Micros;
use crate::notify::LiftedPauses;
use crate::pipeline::key::ObjectKey;

/// How long after its timeout the write of a pause may still take effect. Longer than an API server works on a request
/// (60 s by default).
const WRITE_MAY_APPEAR_FOR: Duration = Duration::from_secs(90);

/// Executes actions. Shared by all actions in flight.
pub(super) struct ActionExecutor {
    pub(super) pause_client: PauseClient,
    pub(super) events: Events,
    pub(super) selection: Selection,
    pub(super) pauses: Pauses,
    pub(super) lifted_pauses: Arc<dyn LiftedPauses>,
    pub(super) leadership: Leadership,
}

/// The outcome of an action.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The object with this uid is paused, until this time at least.
    Paused(Option<String>, Option<Micros>),
    /// The object is not paused, and there is nothing to do.
    NotPaused,
    /// The pause was removed too often: the object must be left alone for long.
    GivenUp,
    /// The object is unmanaged, or switched off with its namespace.
    Ineligible,
    /// The Application of Argo CD that this object is marked with does not exist here, or does not apply it.
    NoApplication(ObjectKey),
    /// The configuration does not allow a pause of this object.
    Excluded(ObjectKey, Exclusion),
    /// The paused object still exists, with this uid.
    Checked(Option<String>),
    /// The paused object is gone, and its pause with it.
    Gone,
}

// === impl ActionExecutor ===

impl ActionExecutor {
    /// Executes one action.
    ///
    /// # Errors
    /// [`Error`] of the API server. The state of the object is then unknown.
    #[tracing::instrument(level = "debug", name = "enforce", skip_all, fields(object = ?key, action = action.name()))]
    pub(super) async fn act(&self, key: &ObjectKey, action: Action) -> Result<Outcome, Error> {
        let Some(live) = self.pause_client.live(key).await? else {
            self.pauses.remove(key);
            // The Application that the marks of an object name may not exist in this cluster.
            return Ok(match action {
                Action::Pause {
                    verdict: Verdict { means: Some(Means::ArgoCd(contested)), .. },
                    kind: PauseKind::New,
                } => contested.into_iter().next().map_or(Outcome::Gone, Outcome::NoApplication),
                _ => Outcome::Gone,
            });
        };
        let target = live.target();
        match action {
            Action::Check(uid) => Ok(self.check(key, &live, target, uid.as_deref())),
            Action::Pause { verdict, kind } => self.pause(key, &live, target, &verdict, &kind).await,
            Action::Lift(why) => {
                self.lift(key, &target).await?;
                self.report_lift(&target, why.reason().to_owned());
                Ok(Outcome::NotPaused)
            }
            Action::Resume(removal) => {
                self.lifted_pauses.lift(key, removal.at);
                self.lift(key, &target).await?;
                self.report_lift(&target, format!("{} lifted the pause", removal.actor));
                Ok(Outcome::NotPaused)
            }
            Action::GiveUp(removal) => {
                // What is left of the pause, such as the switch of a tool.
                self.lift(key, &target).await?;
                let note = format!("{} repeatedly removed the pause, so it is no longer set", removal.actor);
                tracing::warn!(object = target.title(), note, "pause stripped");
                self.events.warn(&target.reference(), "PauseStripped", note);
                Ok(Outcome::GivenUp)
            }
        }
    }

    fn check(&self, key: &ObjectKey, live: &LiveObject, target: Target, uid: Option<&str>) -> Outcome {
        if uid.is_some() && target.uid.as_deref() == uid {
            return Outcome::Checked(target.uid);
        }
        match live.pause() {
            // The pause was set by an earlier holder of the Lease, or its write timed out and succeeded.
            Some(until) => {
                let uid = target.uid.clone();
                self.pauses.insert(key.clone(), target);
                Outcome::Paused(uid, until)
            }
            // The write of the pause may still succeed.
            None if uid.is_none()
                && self.pauses.registered_at(key).is_some_and(|at| at.elapsed() < WRITE_MAY_APPEAR_FOR) =>
            {
                Outcome::NotPaused
            }
            None => {
                self.pauses.remove(key);
                Outcome::Gone
            }
        }
    }

    async fn pause(
        &self,
        key: &ObjectKey,
        live: &LiveObject,
        target: Target,
        verdict: &Verdict,
        kind: &PauseKind,
    ) -> Result<Outcome, Error> {
        let refusal = match &verdict.means {
            Some(Means::ArgoCd(contested)) => self.refusal_of_application(key, live, contested).await?,
            _ => self.refusal(key, live).await?,
        };
        if let Some(refusal) = refusal {
            return Ok(refusal);
        }
        let was_registered = self.pauses.registered_at(key).is_some();
        self.pauses.insert(key.clone(), target.clone());
        match self.write(self.pause_client.pause(&target, verdict)).await {
            // The write may have succeeded, so the pause stays registered.
            Err(error @ Error::Unavailable(_)) => return Err(error),
            Err(Error::Gone) => {
                self.pauses.remove(key);
                return Ok(Outcome::Gone);
            }
            Err(error) => {
                if !was_registered {
                    self.pauses.remove(key);
                }
                return Err(error);
            }
            Ok(()) => {}
        }
        let paused = Outcome::Paused(target.uid.clone(), verdict.until);
        match kind {
            PauseKind::Extension => return Ok(paused),
            PauseKind::Restored(by) => {
                tracing::warn!(object = target.title(), %by, "the pause was removed and is set again")
            }
            // The runbook refers to this message.
            PauseKind::New => tracing::warn!("Token bucket exhausted for {}, skipping reconcile", target.title()),
        }
        let until =
            verdict.until.map(|at| format!("; paused until at least {}", pause_client::clock(at))).unwrap_or_default();
        let note = format!("{}{until}", because(verdict));
        tracing::info!(object = target.title(), namespace = target.namespace, note, "paused");
        self.events.warn(&target.reference(), "ThrashingDetected", note);
        Ok(paused)
    }

    /// Returns why an object may not be paused, if that is so.
    async fn refusal(&self, key: &ObjectKey, live: &LiveObject) -> Result<Option<Outcome>, Error> {
        if let Some(exclusion) = live.excluded_by(&self.selection) {
            return Ok(Some(Outcome::Excluded(key.clone(), exclusion)));
        }
        let is_ineligible = live.is_unmanaged() || self.pause_client.is_switched_off(key.object().namespace).await?;
        Ok(is_ineligible.then_some(Outcome::Ineligible))
    }

    /// Returns why an Application of Argo CD may not be paused, if that is so. At least one of the contested objects
    /// must be selected and, according to the Application itself, belong to it: anybody who may write an object can
    /// mark it as that of another Application.
    async fn refusal_of_application(
        &self,
        key: &ObjectKey,
        live: &LiveObject,
        contested: &[ObjectKey],
    ) -> Result<Option<Outcome>, Error> {
        let namespace = key.object().namespace;
        if live.is_unmanaged()
            || self.selection.is_excluded_namespace(namespace)
            || self.pause_client.is_switched_off(namespace).await?
        {
            return Ok(Some(Outcome::Ineligible));
        }
        let mut refusal = Outcome::Ineligible;
        for object in contested {
            let Some(found) = self.pause_client.live(object).await? else { continue };
            match self.refusal(object, &found).await? {
                Some(found) => refusal = found,
                None if self.pause_client.application_has(key, &found.target()).await? => return Ok(None),
                None => refusal = Outcome::NoApplication(object.clone()),
            }
        }
        Ok(Some(refusal))
    }

    async fn lift(&self, key: &ObjectKey, target: &Target) -> Result<(), Error> {
        match self.write(self.pause_client.lift(target)).await {
            Ok(()) | Err(Error::Gone) => {
                self.pauses.remove(key);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Runs a write, but only while the Lease is held. A write that is in flight when the Lease is lost is dropped with
    /// its task.
    async fn write(&self, write: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
        if !self.leadership.is_held() {
            return Err(Error::Unavailable("the Lease was lost before the write".to_owned()));
        }
        write.await
    }

    fn report_lift(&self, target: &Target, note: String) {
        tracing::info!(object = target.title(), note, "pause lifted");
        self.events.publish(&target.reference(), "ThrashingResolved", note);
    }
}

#[cfg(test)]
mod tests;
