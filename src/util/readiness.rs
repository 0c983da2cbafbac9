//! Whether a part of the server is ready, shared between that part and the health checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a part is ready. Clones share the value.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

// === impl Readiness ===

impl Readiness {
    /// Returns the readiness of a part that is ready from the start.
    pub fn always() -> Readiness {
        let readiness = Readiness::default();
        readiness.set(true);
        readiness
    }

    /// Sets whether the part is ready.
    pub fn set(&self, is_ready: bool) {
        self.0.store(is_ready, Ordering::Relaxed);
    }

    /// Whether the part is ready.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
