//! Executes one action: reads the object, writes to it, and returns the outcome.

use std::sync::Arc;
use std::time::Duration;

use super::events::Events;
use super::keeper::Tenure;
use super::pause_client::{self, Error, Live, PauseClient, because};
use super::pauses::{Pauses, Target};
use super::plan::{Action, Again, REFUSED_FOR, STRIPPED_FOR, Verdict};
use super::selection::Selection;
use crate::audit::event::Micros;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;

/// How long after its timeout the write of a pause may still take effect. Longer than an API server works on a request
/// (60 s by default).
const UNANSWERED: Duration = Duration::from_secs(90);

/// Executes actions. Shared by all actions in flight.
pub(super) struct Actor {
    pub(super) pause_client: PauseClient,
    pub(super) events: Events,
    pub(super) selection: Selection,
    pub(super) pauses: Pauses,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) tenure: Tenure,
}

/// The outcome of an action.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The object with this uid is paused, until this time at least.
    Paused(Option<String>, Option<Micros>),
    /// The object is not paused, and there is nothing to do.
    Over,
    /// The object must be left alone for this duration.
    Left(Micros),
    /// The paused object still exists, with this uid.
    Checked(Option<String>),
    /// The paused object is gone, and its pause with it.
    Ended,
}

// === impl Actor ===

impl Actor {
    /// Executes one action.
    ///
    /// # Errors
    /// [`Error`] of the API server. The state of the object is then unknown.
    #[tracing::instrument(level = "debug", name = "enforce", skip_all, fields(object = ?key, action = action.name()))]
    pub(super) async fn act(&self, key: &ObjectKey, action: Action) -> Result<Outcome, Error> {
        let Some(live) = self.pause_client.live(key).await? else {
            self.pauses.remove(key);
            return Ok(Outcome::Ended);
        };
        let target = live.target();
        match action {
            Action::Check(uid) => Ok(self.check(key, &live, target, uid.as_deref())),
            Action::Pause { verdict, again } => self.pause(key, &live, target, &verdict, &again).await,
            Action::Lift(why) => {
                self.lift(key, &target).await?;
                self.resolved(&target, why.reason().to_owned());
                Ok(Outcome::Over)
            }
            Action::Resumed(removal) => {
                self.pipeline.resume(key, removal.at);
                self.lift(key, &target).await?;
                self.resolved(&target, format!("{} lifted the pause", removal.actor));
                Ok(Outcome::Over)
            }
            Action::Stripped(removal) => {
                let note = format!("{} repeatedly removed the pause, so it is no longer set", removal.actor);
                tracing::warn!(object = target.title(), note, "pause stripped");
                self.events.warn(&target.reference(), "PauseStripped", note);
                self.pauses.remove(key);
                Ok(Outcome::Left(STRIPPED_FOR))
            }
        }
    }

    fn check(&self, key: &ObjectKey, live: &Live, target: Target, uid: Option<&str>) -> Outcome {
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
            None if uid.is_none() && self.pauses.entered(key).is_some_and(|at| at.elapsed() < UNANSWERED) => {
                Outcome::Over
            }
            None => {
                self.pauses.remove(key);
                Outcome::Ended
            }
        }
    }

    async fn pause(
        &self,
        key: &ObjectKey,
        live: &Live,
        target: Target,
        verdict: &Verdict,
        again: &Again,
    ) -> Result<Outcome, Error> {
        let is_selected = live.has(&self.selection.labels, &self.selection.annotations) && !live.is_unmanaged();
        if !is_selected || self.pause_client.is_switched_off(key.object().namespace).await? {
            return Ok(Outcome::Left(REFUSED_FOR));
        }
        let was_entered = self.pauses.entered(key).is_some();
        self.pauses.insert(key.clone(), target.clone());
        match self.write(self.pause_client.pause(&target, verdict)).await {
            // The write may have succeeded, so the pause stays registered.
            Err(error @ Error::Unavailable(_)) => return Err(error),
            Err(Error::Gone) => {
                self.pauses.remove(key);
                return Ok(Outcome::Ended);
            }
            Err(error) => {
                if !was_entered {
                    self.pauses.remove(key);
                }
                return Err(error);
            }
            Ok(()) => {}
        }
        let paused = Outcome::Paused(target.uid.clone(), verdict.until);
        match again {
            Again::Longer => return Ok(paused),
            Again::Stripped(by) => {
                tracing::warn!(object = target.title(), %by, "the pause was removed and is set again")
            }
            // The runbook refers to this message.
            Again::No => tracing::warn!("Token bucket exhausted for {}, skipping reconcile", target.title()),
        }
        let until =
            verdict.until.map(|at| format!("; paused until at least {}", pause_client::clock(at))).unwrap_or_default();
        let note = format!("{}{until}", because(verdict));
        tracing::info!(object = target.title(), namespace = target.namespace, note, "paused");
        self.events.warn(&target.reference(), "ThrashingDetected", note);
        Ok(paused)
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
        if !self.tenure.is_held() {
            return Err(Error::Unavailable("the Lease was lost before the write".to_owned()));
        }
        write.await
    }

    fn resolved(&self, target: &Target, note: String) {
        tracing::info!(object = target.title(), note, "pause lifted");
        self.events.tell(&target.reference(), "ThrashingResolved", note);
    }
}
