//! Renews the Lease in a task of its own, independent of slow calls elsewhere, and publishes until when this replica
//! may act.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::calls::{RELEASE, RENEWAL};
use super::lease::{EVERY, Lease};
use super::pause_client::Error;
use crate::telemetry::control::STANDING_BY;

/// The task that renews the Lease. It releases the Lease and ends when every [`Tenure`] is dropped.
pub struct Keeper {
    lease: Lease,
    standing: watch::Sender<Standing>,
}

/// The right to act. It expires by the monotonic clock of this process, before another replica can acquire the Lease.
#[derive(Clone, Debug)]
pub struct Tenure(watch::Receiver<Standing>);

#[derive(Clone, Debug)]
struct Standing {
    held_until: Option<Instant>,
    /// Why the Lease is not held, or why the last renewal failed. Empty if neither is the case.
    trouble: String,
}

// === impl Keeper ===

impl Keeper {
    /// Creates a keeper that has not tried to acquire the Lease yet, and a receiver of its state.
    pub fn new(lease: Lease) -> (Keeper, Tenure) {
        let (standing, tenure) = watch::channel(Standing { held_until: None, trouble: "starting".to_owned() });
        (Keeper { lease, standing }, Tenure(tenure))
    }

    /// Renews the Lease until every [`Tenure`] is dropped.
    pub async fn run(mut self) {
        loop {
            let started = Instant::now();
            let renewal = tokio::time::timeout(RENEWAL, self.lease.renew(started));
            let trouble = tokio::select! {
                () = self.standing.closed() => break,
                renewed = renewal => match renewed {
                    Ok(Ok(true)) => String::new(),
                    Ok(Ok(false)) => STANDING_BY.to_owned(),
                    Ok(Err(error)) => self.failed(&error),
                    Err(_) => {
                        self.failed(&Error::Unavailable(format!("no answer within {} s", RENEWAL.as_secs())))
                    }
                },
            };
            self.standing.send_replace(Standing { held_until: self.lease.held_until(), trouble });
            tokio::select! {
                () = self.standing.closed() => break,
                () = tokio::time::sleep_until((started + EVERY).into()) => {}
            }
        }
        if tokio::time::timeout(RELEASE, self.lease.release(Instant::now())).await.is_err() {
            tracing::warn!("cannot release the Lease; another replica takes over when it expires");
        }
    }

    /// Describes an error. Logs it if it differs from the previous one.
    fn failed(&self, error: &Error) -> String {
        let trouble = format!("the Lease: {error}");
        if self.standing.borrow().trouble != trouble {
            tracing::warn!(%error, "cannot renew the Lease");
        }
        trouble
    }
}

// === impl Tenure ===

impl Tenure {
    /// Returns whether this replica may act now.
    pub fn is_held(&self) -> bool {
        self.0.borrow().held_until.is_some_and(|until| Instant::now() < until)
    }

    /// Returns why it may not act, or why the last renewal failed.
    pub fn trouble(&self) -> String {
        self.0.borrow().trouble.clone()
    }

    /// Waits until this replica may no longer act. Returns at once if it may not act now.
    pub async fn lost(&mut self) {
        loop {
            let Some(until) = self.0.borrow_and_update().held_until else { return };
            tokio::select! {
                biased;
                renewed = self.0.changed() => if renewed.is_err() { return },
                () = tokio::time::sleep_until(until.into()) => return,
            }
        }
    }

    /// Waits until this replica may act, for at most `limit`.
    pub async fn gained(&mut self, limit: Duration) {
        let is_held = |s: &Standing| s.held_until.is_some_and(|until| Instant::now() < until);
        drop(tokio::time::timeout(limit, self.0.wait_for(is_held)).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenure(held_until: Option<Instant>) -> (watch::Sender<Standing>, Tenure) {
        let (standing, tenure) = watch::channel(Standing { held_until, trouble: String::new() });
        (standing, Tenure(tenure))
    }

    fn held(time: Duration) -> Standing {
        Standing { held_until: Some(Instant::now() + time), trouble: String::new() }
    }

    #[tokio::test]
    async fn the_right_to_act_ends_by_its_own_clock_though_nothing_says_so() {
        let (_standing, mut tenure) = tenure(Some(Instant::now() + Duration::from_millis(50)));
        assert!(tenure.is_held());
        tenure.lost().await;
        assert!(!tenure.is_held());
    }

    #[tokio::test]
    async fn a_renewal_extends_it_and_a_keeper_that_is_gone_ends_it() {
        let (standing, mut tenure) = tenure(Some(Instant::now() + Duration::from_millis(100)));
        standing.send_replace(held(Duration::from_secs(60)));
        let lost = tokio::time::timeout(Duration::from_millis(300), tenure.lost()).await;
        assert!(lost.is_err() && tenure.is_held(), "it was renewed");
        drop(standing);
        tenure.lost().await;
    }

    #[tokio::test]
    async fn who_does_not_hold_the_lease_may_not_act() {
        let (_standing, mut tenure) = tenure(None);
        assert!(!tenure.is_held());
        tenure.lost().await;
    }
}
