//! Changes of fields, and what is known of them.

use super::path::Path;
use super::value::FieldValue;
use crate::detect::meter::TEXT_BYTES;

/// The evidence level: how much is known of what a write changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EvidenceLevel {
    /// The part of the object that was written (Metadata).
    Object,
    /// The requested fields and values (Request).
    Field,
    /// The actual changes (RequestResponse).
    Value,
}

/// A field that one write changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The field.
    pub path: Path,
    /// The value before; `None` if it was absent or is not known.
    pub old: Option<FieldValue>,
    /// The value after; `None` if the write removed it.
    pub new: Option<FieldValue>,
    /// Whether the new value is not known, because it depends on the stored one.
    pub is_opaque: bool,
}

// === impl Change ===

impl Change {
    /// Returns the approximate bytes of the change.
    pub(in crate::detect) fn bytes(&self) -> usize {
        let value = |value: &Option<FieldValue>| value.as_ref().map_or(0, FieldValue::bytes);
        size_of::<Change>() + TEXT_BYTES + self.path.len() + value(&self.old) + value(&self.new)
    }

    /// Returns a change with both values as far as the bodies show them.
    pub fn new(path: &Path, old: Option<&FieldValue>, new: Option<&FieldValue>) -> Change {
        Change { path: path.clone(), old: old.cloned(), new: new.cloned(), is_opaque: false }
    }
}
