//! Values of fields as JSON.

use crate::detect::fields::FieldValue;

/// Returns a value as JSON. A truncated value that is not a string becomes a string.
pub(in crate::query) fn json_of(value: &Option<FieldValue>) -> serde_json::Value {
    let Some(text) = value.as_ref().and_then(FieldValue::text) else { return serde_json::Value::Null };
    let cut = || {
        // For a truncated string: add the closing quote.
        let whole = text.strip_prefix('"').map(|_| format!("{text}\""));
        whole.and_then(|whole| serde_json::from_str(&whole).ok()).unwrap_or_else(|| text.into())
    };
    serde_json::from_str(text).unwrap_or_else(|_| cut())
}

/// Whether a value is truncated.
pub(in crate::query) fn is_cut(value: &Option<FieldValue>) -> bool {
    let text = value.as_ref().and_then(FieldValue::text);
    text.is_some_and(|text| text.ends_with('…') && serde_json::from_str::<serde_json::Value>(text).is_err())
}

/// Whether a value is hidden, as those of Secrets are.
pub(in crate::query) fn is_redacted(value: &Option<FieldValue>) -> bool {
    value.as_ref().is_some_and(|value| value.text().is_none())
}
