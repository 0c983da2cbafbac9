//! Leader election: only the replica that holds the Lease acts. A separate task renews the Lease, so that slow calls
//! elsewhere do not delay the renewal, and publishes the time until which this replica may act.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::calls::{RELEASE, RENEWAL};
use super::control::STANDING_BY;
use super::lease::{EVERY, Lease};
use super::pause_client::Error;
use crate::util::readiness::Readiness;

/// The task that renews the Lease. It releases the Lease and ends when every [`Leadership`] is dropped.
pub(crate) struct LeaderElector {
    lease: Lease,
    /// Whether what this replica knows is recent enough to act on it.
    readiness: Readiness,
    status: watch::Sender<LeaseStatus>,
}

/// The right to act. It expires by the monotonic clock of this process, before another replica can acquire the Lease.
#[derive(Clone, Debug)]
pub(crate) struct Leadership(watch::Receiver<LeaseStatus>);

#[derive(Clone, Debug)]
pub(super) struct LeaseStatus {
    pub(super) held_until: Option<Instant>,
    /// Why the Lease is not held, or why the last renewal failed. Empty if neither is the case.
    problem: String,
}

// === impl LeaderElector ===

impl LeaderElector {
    /// Creates an elector that has not tried to acquire the Lease yet, and a receiver of its state.
    pub(crate) fn new(lease: Lease, readiness: Readiness) -> (LeaderElector, Leadership) {
        let (status, leadership) = watch::channel(LeaseStatus { held_until: None, problem: "starting".to_owned() });
        (LeaderElector { lease, readiness, status }, Leadership(leadership))
    }

    /// Renews the Lease until every [`Leadership`] is dropped. While this replica is not ready, another one may hold it.
    pub(crate) async fn run(mut self) {
        loop {
            let started = Instant::now();
            if !self.readiness.is_ready() {
                let problem = "this replica does not know all writes yet".to_owned();
                self.status.send_replace(LeaseStatus { held_until: None, problem });
                tokio::select! {
                    () = self.status.closed() => break,
                    // If that fails, the Lease expires.
                    _ = tokio::time::timeout(RELEASE, self.lease.release(started)) => {}
                }
                tokio::time::sleep_until(started + EVERY).await;
                continue;
            }
            let renewal = tokio::time::timeout(RENEWAL, self.lease.renew(started));
            let problem = tokio::select! {
                () = self.status.closed() => break,
                renewed = renewal => match renewed {
                    Ok(Ok(true)) => String::new(),
                    Ok(Ok(false)) => STANDING_BY.to_owned(),
                    Ok(Err(error)) => self.describe(&error),
                    Err(_) => {
                        self.describe(&Error::Unavailable(format!("no answer within {} s", RENEWAL.as_secs())))
                    }
                },
            };
            self.status.send_replace(LeaseStatus { held_until: self.lease.held_until(), problem });
            tokio::select! {
                () = self.status.closed() => break,
                () = tokio::time::sleep_until(started + EVERY) => {}
            }
        }
        if tokio::time::timeout(RELEASE, self.lease.release(Instant::now())).await.is_err() {
            tracing::warn!("cannot release the Lease; another replica takes over when it expires");
        }
    }

    /// Describes an error. Logs it if it differs from the previous one.
    fn describe(&self, error: &Error) -> String {
        let problem = format!("the Lease: {error}");
        if self.status.borrow().problem != problem {
            tracing::warn!(%error, "cannot renew the Lease");
        }
        problem
    }
}

// === impl Leadership ===

impl Leadership {
    /// Returns whether this replica may act now.
    pub(crate) fn is_held(&self) -> bool {
        self.0.borrow().held_until.is_some_and(|until| Instant::now() < until)
    }

    /// Returns why it may not act, or why the last renewal failed.
    pub(crate) fn problem(&self) -> String {
        self.0.borrow().problem.clone()
    }

    /// Waits until this replica may no longer act. Returns at once if it may not act now.
    pub(crate) async fn wait_until_lost(&mut self) {
        loop {
            let Some(until) = self.0.borrow_and_update().held_until else { return };
            tokio::select! {
                biased;
                renewed = self.0.changed() => if renewed.is_err() { return },
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    /// Waits until this replica may act, for at most `limit`.
    pub(crate) async fn wait_until_held(&mut self, limit: Duration) {
        let is_held = |s: &LeaseStatus| s.held_until.is_some_and(|until| Instant::now() < until);
        drop(tokio::time::timeout(limit, self.0.wait_for(is_held)).await);
    }
}

#[cfg(test)]
impl Leadership {
    /// Returns the right to act for this time, as long as the sender exists.
    pub(super) fn held_for(time: Duration) -> (watch::Sender<LeaseStatus>, Leadership) {
        let held_until = Some(Instant::now() + time);
        let (status, leadership) = watch::channel(LeaseStatus { held_until, problem: String::new() });
        (status, Leadership(leadership))
    }
}

#[cfg(test)]
mod tests;
