//! What a watch says about a write besides its fields: its field manager, and whether it changed only fields that this
//! manager owned before.

use crate::audit::event::{Event, JOINED, OWN};

/// The field manager of a write, if a watch shows it, and whether it kept to the fields of its manager.
///
/// Managers are compared by hashes of 15 bits, since this is kept for every object. If two are equal by chance, their
/// clients are not told apart: a war is then possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ownership(u16);

/// The bit that says that the write kept to the fields of its manager. The others are the hash, or 0 without a manager.
const KEPT: u16 = 1;

// === impl Ownership ===

impl Ownership {
    pub(super) fn of(event: &Event<'_>) -> Ownership {
        if !event.is_watched() {
            return Ownership::default();
        }
        let manager = event.annotation(JOINED).unwrap_or(&event.username);
        if manager.is_empty() {
            return Ownership::default();
        }
        let hash = (super::hash(manager) as u16 & !KEPT).max(2);
        Ownership(hash | if event.annotation(OWN).is_some() { KEPT } else { 0 })
    }

    /// Whether the write changed only fields that its manager owned before.
    pub(super) fn is_kept(self) -> bool {
        self.0 & KEPT != 0
    }

    /// Whether the write certainly changed no field that an earlier write has changed: that one was made by another
    /// manager, which would own such a field since then.
    pub(super) fn excludes(self, earlier: Ownership) -> bool {
        self.is_kept() && earlier.0 != 0 && (self.0 | KEPT) != (earlier.0 | KEPT)
    }
}

#[cfg(test)]
#[path = "ownership/tests.rs"]
mod tests;
