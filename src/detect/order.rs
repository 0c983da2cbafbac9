//! The order of one object's writes: by resourceVersion where it is known, else by time.

use crate::audit::event::Micros;

/// The place of a write among the writes of its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Twice the resourceVersion that the write resulted in; or twice the one it replaced, plus one: nothing can
    /// stand between. 0 where neither is known.
    pub revision: u64,
    /// A hash of the object's uid, which tells epochs apart; 0 where it is not known.
    pub uid: u64,
    /// When the request arrived.
    pub at: Micros,
    /// Whether the object was gone after it: the last write of its epoch.
    pub is_last: bool,
}

// === impl Order ===

impl Order {
    /// The revision of a write that resulted in `resulting`, or that replaced `replaced`; 0 stands for not known.
    pub fn revision(resulting: u64, replaced: u64) -> u64 {
        match (resulting, replaced) {
            (0, 0) => 0,
            (0, replaced) => replaced.saturating_mul(2).saturating_add(1),
            (resulting, _) => resulting.saturating_mul(2),
        }
    }

    /// Whether this write came before `other`, as far as the two alone can tell.
    pub fn is_before(&self, other: &Order) -> bool {
        if self.revision != 0 && other.revision != 0 && self.revision != other.revision {
            return self.revision < other.revision;
        }
        if self.uid != 0 && self.uid == other.uid && self.is_last != other.is_last {
            return other.is_last;
        }
        self.at < other.at
    }

    /// Whether it is known which revision was stored.
    pub fn is_stored(&self) -> bool {
        self.revision != 0 && self.revision.is_multiple_of(2)
    }

    /// Whether both report the same stored revision: then the later one stored nothing.
    pub fn is_same_revision(&self, other: &Order) -> bool {
        self.is_stored() && self.revision == other.revision
    }
}
