//! Serialises times as RFC 3339, or null.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::audit::event::{Micros, parse_timestamp};

/// Serialises a time, or null.
pub(crate) fn serialize<S: Serializer>(at: &Option<Micros>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(super::time::text).serialize(serializer)
}

/// Deserialises a time, or null.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Micros>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.and_then(|text| parse_timestamp(&text)))
}
