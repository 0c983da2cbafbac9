//! Parsing and formatting of durations and sizes in the configuration.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_yaml_ng::Value;

use crate::audit::event::Micros;
use crate::util::duration;

/// A time span, written `90s`, `10m`, `1h30m`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub struct Duration(#[schemars(with = "String")] pub std::time::Duration);

/// A size, written as a number of bytes or `64KiB`, `32MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub struct Bytes(#[schemars(with = "String")] pub usize);

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a duration such as 90s, 10m or 1h30m, got \"{0}\"")]
pub struct NotADuration(String);

/// A text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a size such as 65536 or 64MiB, got \"{0}\"")]
pub struct NotASize(String);

// === impl Duration ===

impl Duration {
    /// Returns the duration in microseconds, the unit of event time.
    pub fn micros(self) -> Micros {
        duration::micros(self.0)
    }
}

impl FromStr for Duration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Duration, NotADuration> {
        duration::parse(text).map(Duration).ok_or_else(|| NotADuration(text.to_owned()))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration::text(self.0))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

// === impl Bytes ===

impl FromStr for Bytes {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Bytes, NotASize> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let shift = match text[digits..].trim() {
            "" | "B" => Some(0),
            "KiB" | "Ki" => Some(10),
            "MiB" | "Mi" => Some(20),
            "GiB" | "Gi" => Some(30),
            _ => None,
        };
        let bytes = shift.and_then(|shift| text[..digits].parse::<usize>().ok()?.checked_mul(1 << shift));
        bytes.map(Bytes).ok_or_else(|| NotASize(text.to_owned()))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, name) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{name}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let text = match &value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_trip() {
        for text in ["64MiB", "1GiB", "4KiB", "1000"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
        assert_eq!("1 GiB".parse(), Ok(Bytes(1 << 30)));
        for wrong in ["", "many", "1TB", "-1", "99999999999999999999"] {
            assert_eq!(wrong.parse::<Bytes>(), Err(NotASize(wrong.to_owned())));
        }
    }
}
