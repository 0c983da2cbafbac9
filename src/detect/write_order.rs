//! The order of one object's writes: by resourceVersion if it is known, by time otherwise.

use crate::audit::event::Micros;

/// The position of a write among the writes of its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOrder {
    /// Twice the resourceVersion that the write resulted in, or twice the one that it replaced, plus one: no other
    /// write can be between them. 0 if neither is known.
    pub revision: u64,
    /// A hash of the object's uid, which distinguishes epochs; 0 if it is not known.
    pub uid: u64,
    /// When the request arrived.
    pub at: Micros,
    /// Whether the object was gone after the write, which makes it the last one of its epoch.
    pub is_last: bool,
}

// === impl WriteOrder ===

impl WriteOrder {
    /// Returns the revision of a write that resulted in `resulting`, or that replaced `replaced`; 0 means unknown.
    pub fn revision(resulting: u64, replaced: u64) -> u64 {
        match (resulting, replaced) {
            (0, 0) => 0,
            (0, replaced) => replaced.saturating_mul(2).saturating_add(1),
            (resulting, _) => resulting.saturating_mul(2),
        }
    }

    /// Whether this write precedes `other`, judged by these two alone.
    pub fn is_before(&self, other: &WriteOrder) -> bool {
        if self.revision != 0 && other.revision != 0 && self.revision != other.revision {
            return self.revision < other.revision;
        }
        if self.uid != 0 && self.uid == other.uid && self.is_last != other.is_last {
            return other.is_last;
        }
        self.at < other.at
    }

    /// Whether the stored revision is known.
    pub fn is_stored(&self) -> bool {
        self.revision != 0 && self.revision.is_multiple_of(2)
    }

    /// Whether both report the same stored revision. If so, the later one stored nothing.
    pub fn is_same_revision(&self, other: &WriteOrder) -> bool {
        self.is_stored() && self.revision == other.revision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at: Micros) -> WriteOrder {
        WriteOrder { at, ..WriteOrder::default() }
    }

    #[test]
    fn an_update_of_a_revision_directly_follows_it() {
        assert_eq!(WriteOrder::revision(0, 0), 0, "nothing is known");
        assert_eq!(WriteOrder::revision(7, 0), 14);
        assert_eq!(WriteOrder::revision(7, 6), 14, "the resulting revision takes precedence over the replaced one");
        // An update of 7 follows the write that stored 7, and precedes the one that stored 8.
        assert_eq!(WriteOrder::revision(0, 7), 15);
        assert!(
            WriteOrder::revision(7, 0) < WriteOrder::revision(0, 7)
                && WriteOrder::revision(0, 7) < WriteOrder::revision(8, 0)
        );
    }

    #[test]
    fn revisions_take_precedence_over_times() {
        let revision = |revision, at| WriteOrder { revision, at, ..WriteOrder::default() };
        assert!(revision(14, 9).is_before(&revision(16, 1)) && !revision(16, 1).is_before(&revision(14, 9)));
        // If the revisions are equal, or one is not known, the time decides.
        for (a, b) in
            [(revision(14, 1), revision(14, 2)), (at(1), revision(14, 2)), (revision(14, 1), at(2)), (at(1), at(2))]
        {
            assert!(a.is_before(&b) && !b.is_before(&a), "{a:?} {b:?}");
        }
        assert!(!at(1).is_before(&at(1)), "no write precedes itself");
        assert!(!revision(14, 1).is_before(&revision(14, 1)));
    }

    #[test]
    fn a_deletion_is_the_last_write_of_its_epoch_regardless_of_clocks() {
        let write = |uid, at, is_last| WriteOrder { uid, at, is_last, ..WriteOrder::default() };
        assert!(write(1, 9, false).is_before(&write(1, 5, true)) && !write(1, 5, true).is_before(&write(1, 9, false)));
        // If the epochs differ, or one is not known, the time decides.
        assert!(!write(2, 9, false).is_before(&write(1, 5, true)) && write(1, 5, true).is_before(&write(2, 9, false)));
        assert!(!write(0, 9, false).is_before(&write(0, 5, true)));
        assert!(write(1, 5, true).is_before(&write(1, 9, true)), "of two deletions, the earlier one is first");
        let known = |revision, at, is_last| WriteOrder { revision, ..write(1, at, is_last) };
        assert!(known(14, 5, true).is_before(&known(16, 9, false)), "revisions come first");
    }

    #[test]
    fn only_stored_revisions_can_be_equal() {
        let revision = |revision| WriteOrder { revision, ..WriteOrder::default() };
        assert_eq!([0, 14, 15].map(|r| revision(r).is_stored()), [false, true, false]);
        assert!(revision(14).is_same_revision(&revision(14)));
        assert!(!revision(14).is_same_revision(&revision(16)));
        assert!(!revision(15).is_same_revision(&revision(15)), "both replaced 7, which is not a stored revision");
        assert!(!revision(0).is_same_revision(&revision(0)));
    }
}
