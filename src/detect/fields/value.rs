//! Values of fields.

use std::borrow::Cow;
use std::sync::Arc;

use super::quantity;
use crate::audit::event::parse_timestamp;
use crate::detect::meter::TEXT_BYTES;
use crate::detect::{hash, hash_of};

/// Maximum number of bytes of a value that are kept for display.
pub const VALUE_BYTES_MAX: usize = 256;

/// The value of a field: compared by a keyed hash, displayed by its first bytes.
#[derive(Clone, Debug)]
pub struct FieldValue {
    pub(super) hash: u64,
    /// A hash that is the same for all notations of the value (`2000m` and `2`), or 0 if there is only one notation.
    /// Used only for custom resources. For built-in resources, `hash` itself is the same for all notations, because the
    /// API server stores only one of them.
    form: u64,
    /// JSON text, truncated to [`VALUE_BYTES_MAX`]; `None` if the value must not be kept.
    text: Option<Arc<str>>,
    /// Hashes of the items, if the value is a list.
    pub(super) items: Option<Arc<[u64]>>,
}

// === impl FieldValue ===

impl FieldValue {
    /// Returns the value of some JSON text. If it is `hidden`, only its hash is kept.
    pub(super) fn new(json: &str, hidden: bool) -> FieldValue {
        FieldValue { hash: hash(json), form: 0, text: (!hidden).then(|| cut(json).into()), items: None }
    }

    /// Returns the value of the field at `path`, with quantities normalised.
    pub(super) fn at(path: &str, json: &str, is_built_in: bool, hidden: bool) -> FieldValue {
        let value = FieldValue::new(json, hidden);
        let bare = unquoted(json);
        let may_be_quantity = is_numeric(bare) && quantity::is_quantity(path);
        match may_be_quantity.then(|| quantity::nanos(bare)).flatten() {
            Some(nanos) if is_built_in => FieldValue { hash: hash_of(&nanos), ..value },
            Some(nanos) => FieldValue { form: hash_of(&nanos), ..value },
            None => value,
        }
    }

    /// Whether this value only advances `old`: a number or a time that increased (quoted or not), a list that only
    /// grew, or a list whose first items were dropped while at least as many were appended.
    pub fn is_monotonic_update(&self, old: &FieldValue) -> bool {
        if let (Some(old), Some(new)) = (&old.items, &self.items) {
            let has_grown = new.len() > old.len() && old.iter().all(|item| new.contains(item));
            let has_rolled =
                || (1..old.len()).any(|from| new.len() > old.len() - from && new.starts_with(&old[from..]));
            return has_grown || has_rolled();
        }
        let (Some(old), Some(new)) = (old.text().map(unquoted), self.text().map(unquoted)) else { return false };
        if let (Ok(old), Ok(new)) = (old.parse::<f64>(), new.parse::<f64>()) {
            return new > old;
        }
        parse_timestamp(old).zip(parse_timestamp(new)).is_some_and(|(old, new)| new > old)
    }

    /// Whether both are notations of one value.
    pub fn is_same_form(&self, other: &FieldValue) -> bool {
        self == other || (self.form != 0 && self.form == other.form)
    }

    /// Returns the value as a number, if it is one.
    pub fn number(&self) -> Option<f64> {
        let text = unquoted(self.text()?);
        // Few values are numbers, and all are looked at.
        is_numeric(text).then(|| text.parse().ok()).flatten()
    }

    /// Returns the JSON text for display, truncated if it is long, or `None` if the value is not kept.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Returns the value if it is a text that is kept as a whole.
    pub fn string(&self) -> Option<String> {
        serde_json::from_str(self.text()?).ok()
    }

    /// Returns the approximate bytes of its heap memory.
    pub fn bytes(&self) -> usize {
        let text = self.text.as_ref().map_or(0, |text| TEXT_BYTES + text.len());
        text + self.items.as_ref().map_or(0, |items| TEXT_BYTES + items.len() * 8)
    }

    /// Returns a hash of the value.
    pub(in crate::detect) fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the value of JSON text, as if it was read from a body.
    pub fn of_json(json: &str) -> FieldValue {
        FieldValue::new(json, false)
    }
}

impl PartialEq for FieldValue {
    fn eq(&self, other: &FieldValue) -> bool {
        self.hash == other.hash
    }
}

/// Whether a text begins like a number.
fn is_numeric(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
}

/// Removes the quotes of a JSON string. Returns other JSON as it is.
fn unquoted(json: &str) -> &str {
    json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json)
}

/// Truncates a long text, and adds an ellipsis.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= VALUE_BYTES_MAX {
        return text.into();
    }
    let end = (0..=VALUE_BYTES_MAX - 3).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}…", &text[..end]).into()
}
