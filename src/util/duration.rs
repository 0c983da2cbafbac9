//! Durations as users write them: `90s`, `10m`, `1h30m`, `7d`. The configuration, flags and queries share this syntax.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// Units from the longest to the shortest, in milliseconds.
const UNITS: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];

/// Parses a duration in the "friendly" format of jiff. A day has 24 hours. Months and years are rejected, because their
/// length varies, and so are negative durations.
pub fn parse(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()
}

/// Formats a duration with the longest unit that divides it: `90s`, not `1m30s`, and `7d`, not `168h`.
pub fn text(duration: Duration) -> String {
    let millis = duration.as_millis();
    let unit = UNITS.iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

/// Converts a duration to microseconds, the unit of event time.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip() {
        for written in ["90s", "10m", "6h", "7d", "250ms", "36h", "0ms"] {
            assert_eq!(parse(written).map(text).as_deref(), Some(written));
        }
    }

    #[test]
    fn units_can_be_combined() {
        assert_eq!(parse("1h30m"), parse("90m"));
        assert_eq!(parse("1d 12h"), parse("36h"));
        assert_eq!(parse("1.5h"), parse("90m"));
        assert_eq!(parse("0s"), Some(Duration::ZERO));
    }

    #[test]
    fn invalid_negative_and_variable_lengths_are_rejected() {
        for wrong in ["", "10", "soon", "h", "1mo", "1y", "-5m", "5m ago", "10 parsecs", "99999999999999999999s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
