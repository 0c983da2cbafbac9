//! What others may see and do of the enforcer while it runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a status begins while the kill switch is on.
pub const STOPPED: &str = "stopped";

/// A kill switch, and how it is doing.
#[derive(Clone, Debug, Default)]
pub struct Control {
    is_stopped: Arc<AtomicBool>,
    status: Arc<Mutex<String>>,
}

// === impl Control ===

impl Control {
    /// Lifts all pauses and sets none, or begins again.
    pub fn stop(&self, is_stopped: bool) {
        self.is_stopped.store(is_stopped, Ordering::Relaxed);
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// How it is doing, in a sentence.
    pub fn status(&self) -> String {
        let status = self.lock().clone();
        match self.is_stopped() && !status.starts_with(STOPPED) {
            true => format!("{STOPPED}; {status}"),
            false => status,
        }
    }

    /// Says how it is doing.
    pub fn say(&self, status: impl Into<String>) {
        *self.lock() = status.into();
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
