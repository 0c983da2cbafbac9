//! The status and the kill switch of the enforcer, shared with the admin API.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::util::lock::lock;
use tokio::sync::watch;

/// The first word of the status while the kill switch is on.
pub(crate) const STOPPED: &str = "stopped";
/// The status of a replica that does not act because another one does.
pub(crate) const STANDING_BY: &str = "standing by: another replica holds the Lease";
/// The entry of `not_lifted` before any pause was looked up.
pub(crate) const NOT_STARTED: &str = "all pauses";
/// Maximum number of pauses in a status.
const PAUSES_SHOWN: usize = 3;

/// The kill switch, and the status of the enforcer.
#[derive(Clone, Debug)]
pub struct Control {
    stopped: Arc<watch::Sender<bool>>,
    progress: Arc<watch::Sender<LiftProgress>>,
    status: Arc<Mutex<String>>,
}

/// Progress of removing pauses since the kill switch was turned on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiftProgress {
    /// Pauses that were removed, such as `deployments.apps/shop/web`.
    pub lifted: BTreeSet<String>,
    /// Pauses that could not be removed yet, and resources that could not be listed, with the reason. Empty when
    /// everything is done.
    pub not_lifted: BTreeMap<String, String>,
}

// === impl Control ===

impl Default for Control {
    fn default() -> Control {
        Control {
            stopped: Arc::new(watch::Sender::new(false)),
            progress: Arc::new(watch::Sender::new(LiftProgress::default())),
            status: Arc::default(),
        }
    }
}

impl Control {
    /// Turns the kill switch on or off. While it is on, all pauses are removed and none are set.
    pub fn set_stopped(&self, is_stopped: bool) {
        if self.is_stopped() != is_stopped {
            let not_lifted =
                [(NOT_STARTED.to_owned(), "not started yet".to_owned())].into_iter().filter(|_| is_stopped);
            self.progress.send_replace(LiftProgress { lifted: BTreeSet::new(), not_lifted: not_lifted.collect() });
            self.stopped.send_replace(is_stopped);
        }
    }

    /// Returns whether the kill switch is on.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Returns a receiver of the kill switch's state.
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.stopped.subscribe()
    }

    /// Waits until the kill switch is on, or off.
    pub async fn wait_for(&self, is_stopped: bool) {
        // This fails only if the sender is dropped, and `self` holds it.
        drop(self.changes().wait_for(|stopped| *stopped == is_stopped).await);
    }

    /// Returns the current progress.
    pub fn progress(&self) -> LiftProgress {
        self.progress.borrow().clone()
    }

    /// Waits until all pauses are removed, for at most `limit`. Returns the progress.
    pub async fn wait_until_lifted(&self, limit: Duration) -> LiftProgress {
        let mut progress = self.progress.subscribe();
        drop(tokio::time::timeout(limit, progress.wait_for(|progress| progress.not_lifted.is_empty())).await);
        self.progress()
    }

    /// Records that a pause could not be removed yet, or a resource could not be listed. Returns whether this is new.
    pub fn record_not_lifted(&self, name: &str, why: &str) -> bool {
        self.progress.send_if_modified(|progress| {
            let before = progress.not_lifted.insert(name.to_owned(), why.to_owned());
            before.as_deref() != Some(why)
        })
    }

    /// Records that a pause was removed.
    pub fn record_lifted(&self, name: &str) {
        self.progress.send_modify(|progress| {
            progress.not_lifted.remove(name);
            progress.lifted.insert(name.to_owned());
        });
    }

    /// Records that a resource was searched for pauses.
    pub fn record_search(&self, resource: &str) {
        self.progress.send_modify(|progress| drop(progress.not_lifted.remove(resource)));
    }

    /// Returns the status as one sentence.
    pub fn status(&self) -> String {
        if !self.is_stopped() {
            return self.current_status();
        }
        let left = &self.progress.borrow().not_lifted;
        let named: Vec<String> = left.iter().take(PAUSES_SHOWN).map(|(name, why)| format!("{name} ({why})")).collect();
        let mut status = if left.is_empty() {
            format!("{STOPPED}: all pauses are lifted, and no new ones are set")
        } else {
            format!("{STOPPED}: no new pauses are set; {} not lifted yet: {}", left.len(), named.join(", "))
        };
        if let Some(note) = self.other_replica() {
            status.push_str("; ");
            status.push_str(&note);
        }
        status
    }

    /// Returns a note if another replica holds the Lease, since this kill switch does not stop it.
    pub fn other_replica(&self) -> Option<String> {
        (self.current_status() == STANDING_BY).then(|| format!("{STANDING_BY} and keeps acting until you stop it too"))
    }

    /// Sets the status.
    pub fn set_status(&self, status: impl Into<String>) {
        *lock(&self.status) = status.into();
    }

    fn current_status(&self) -> String {
        lock(&self.status).clone()
    }
}
