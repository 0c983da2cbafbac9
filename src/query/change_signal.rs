//! The sink that wakes up watched decisions.

use tokio::sync::watch;

use crate::notify::{Changes, Sink};

/// The sink that wakes up watches.
#[derive(Clone, Debug, Default)]
pub struct ChangeSignal(watch::Sender<()>);

// === impl ChangeSignal ===

impl ChangeSignal {
    /// Returns a receiver that is notified of every change.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

impl Sink for ChangeSignal {
    fn publish(&self, _: &Changes<'_>) {
        self.0.send_replace(());
    }
}
