//! Serialises times as RFC 3339.

use serde::{Deserialize, Deserializer, Serializer};

use crate::audit::event::{Micros, parse_timestamp};

/// Formats a time, with only as many decimals as necessary.
pub(crate) fn text(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |t| t.to_string())
}

/// Serialises a time.
pub(crate) fn serialize<S: Serializer>(at: &Micros, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*at))
}

/// Deserialises a time.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_timestamp(&text).ok_or_else(|| serde::de::Error::custom(format!("expected an RFC 3339 time, got \"{text}\"")))
}
