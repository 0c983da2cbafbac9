//! Times as users write them: RFC 3339, or a date with or without a time of day, which is in UTC. Flags and queries share this
//! syntax.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Parses a time, in microseconds since 1970: `2026-02-11T10:00:00Z`, `2026-02-11T10:00`, `2026-02-11 10:00` or
/// `2026-02-11`.
pub(crate) fn parse(text: &str) -> Option<i64> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(at.as_microsecond());
    }
    let local: DateTime = text.parse().ok()?;
    Some(local.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_of_day_are_in_utc() {
        let at = parse("2026-02-11T00:00:00Z").unwrap();
        for (text, seconds) in [
            ("2026-02-11", 0),
            ("2026-02-11T10:00", 36_000),
            ("2026-02-11 10:00:30", 36_030),
            ("2026-02-11T10:00:30.5Z", 36_030),
            ("2026-02-11T12:00:00+02:00", 36_000),
        ] {
            assert_eq!(parse(text).map(|found| (found - at) / 1_000_000), Some(seconds), "{text}");
        }
        for wrong in ["", "10:00", "2026-02", "2026-02-30", "yesterday", "30m"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
