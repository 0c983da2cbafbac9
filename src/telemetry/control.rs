//! What others may see and do of the enforcer while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// How a status begins while the kill switch is on.
pub const STOPPED: &str = "stopped";
/// The status of a replica that does not act, because another one does.
pub const STANDING_BY: &str = "standing by: another replica holds the Lease";
/// What is not lifted while nothing has been looked at.
pub const NOT_BEGUN: &str = "all pauses";
/// Pauses that a status names.
const NAMED_MAX: usize = 3;

/// The kill switch, and how the enforcer is doing.
#[derive(Clone, Debug)]
pub struct Control {
    stopped: Arc<watch::Sender<bool>>,
    lifting: Arc<watch::Sender<Lifting>>,
    status: Arc<Mutex<String>>,
}

/// What became of the pauses since the kill switch was turned on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifting {
    /// Pauses that were lifted: `deployments.apps/shop/web`.
    pub lifted: BTreeSet<String>,
    /// Pauses that could not be lifted yet, and resources that could not be looked for pauses; why. All is done when it is
    /// empty.
    pub not_lifted: BTreeMap<String, String>,
}

// === impl Control ===

impl Default for Control {
    fn default() -> Control {
        Control {
            stopped: Arc::new(watch::Sender::new(false)),
            lifting: Arc::new(watch::Sender::new(Lifting::default())),
            status: Arc::default(),
        }
    }
}

impl Control {
    /// Lifts all pauses and sets none, or begins again.
    pub fn stop(&self, is_stopped: bool) {
        if self.is_stopped() != is_stopped {
            let not_lifted = [(NOT_BEGUN.to_owned(), "not begun yet".to_owned())].into_iter().filter(|_| is_stopped);
            self.lifting.send_replace(Lifting { lifted: BTreeSet::new(), not_lifted: not_lifted.collect() });
            self.stopped.send_replace(is_stopped);
        }
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Whether it is stopped, and each change of that from now on.
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.stopped.subscribe()
    }

    /// Returns as soon as it is stopped, or is not.
    pub async fn wait_for(&self, is_stopped: bool) {
        // It ends with an error only when the sender is gone, which this holds.
        drop(self.changes().wait_for(|stopped| *stopped == is_stopped).await);
    }

    /// What became of the pauses so far.
    pub fn lifting(&self) -> Lifting {
        self.lifting.borrow().clone()
    }

    /// What became of the pauses, as soon as all are lifted, or after `limit`.
    pub async fn lifted_within(&self, limit: Duration) -> Lifting {
        let mut lifting = self.lifting.subscribe();
        drop(tokio::time::timeout(limit, lifting.wait_for(|lifting| lifting.not_lifted.is_empty())).await);
        self.lifting()
    }

    /// A pause cannot be lifted yet, or a resource not be looked for pauses. Whether that is news.
    pub fn not_lifted(&self, name: &str, why: &str) -> bool {
        self.lifting.send_if_modified(|lifting| {
            let before = lifting.not_lifted.insert(name.to_owned(), why.to_owned());
            before.as_deref() != Some(why)
        })
    }

    /// A pause is lifted.
    pub fn lifted(&self, name: &str) {
        self.lifting.send_modify(|lifting| {
            lifting.not_lifted.remove(name);
            lifting.lifted.insert(name.to_owned());
        });
    }

    /// A resource was looked for pauses.
    pub fn looked_for(&self, resource: &str) {
        self.lifting.send_modify(|lifting| drop(lifting.not_lifted.remove(resource)));
    }

    /// How it is doing, in a sentence.
    pub fn status(&self) -> String {
        if !self.is_stopped() {
            return self.said();
        }
        let left = &self.lifting.borrow().not_lifted;
        let named: Vec<String> = left.iter().take(NAMED_MAX).map(|(name, why)| format!("{name} ({why})")).collect();
        let mut status = match left.is_empty() {
            true => format!("{STOPPED}: all pauses are lifted, and none is set"),
            false => format!("{STOPPED}: none is set; not lifted yet: {} of them: {}", left.len(), named.join(", ")),
        };
        if let Some(note) = self.other_replica() {
            status.push_str("; ");
            status.push_str(&note);
        }
        status
    }

    /// That another replica acts, where one does: this kill switch does not stop it.
    pub fn other_replica(&self) -> Option<String> {
        (self.said() == STANDING_BY).then(|| format!("{STANDING_BY}, and goes on until it is stopped too"))
    }

    /// Says how it is doing.
    pub fn say(&self, status: impl Into<String>) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status.into();
    }

    fn said(&self) -> String {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
