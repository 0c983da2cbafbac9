//! What requests do with fields.

use super::path::Path;
use super::value::FieldValue;
use crate::detect::meter::TEXT_BYTES;

/// A field that a request names, and what the request does with it.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldIntent {
    /// The field, or a branch if `intent` removes it or is not known.
    pub path: Path,
    /// What the request does with it.
    pub intent: Intent,
}

/// What a request does with a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Intent {
    /// Set the field to this value.
    Set(FieldValue),
    /// Remove the field and everything below it.
    Remove,
    /// Change the field in a way whose result depends on the stored value.
    Modify,
}

// === impl FieldIntent ===

impl FieldIntent {
    /// Returns the approximate bytes of the intent.
    pub(in crate::detect) fn bytes(&self) -> usize {
        let value = if let Intent::Set(value) = &self.intent { value.bytes() } else { 0 };
        size_of::<FieldIntent>() + TEXT_BYTES + self.path.len() + value
    }
}

// === impl Intent ===

impl Intent {
    pub(super) fn value(self) -> Option<FieldValue> {
        match self {
            Intent::Set(value) => Some(value),
            Intent::Remove | Intent::Modify => None,
        }
    }
}
