//! Durations as users write them: `90s`, `10m`, `1h30m`, `7d`. The configuration, flags and queries share this syntax.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// Units from the longest to the shortest, in milliseconds.
const UNITS: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];

/// Parses a duration in the "friendly" format of jiff. A day has 24 hours. Months and years are rejected, because their
/// length varies, and so are negative durations.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()
}

/// Formats a duration with the longest unit that divides it: `90s`, not `1m30s`, and `7d`, not `168h`.
pub(crate) fn text(duration: Duration) -> String {
    let millis = duration.as_millis();
    let unit = UNITS.iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

/// Formats an age in microseconds as kubectl does, with at most two units: `45s`, `2m10s`, `35m`, `5h12m`, `3d4h`.
pub(crate) fn age(micros: i64) -> String {
    let seconds = micros.max(0) / 1_000_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |first: i64, unit: &str, second: i64, smaller: &str| match second {
        0 => format!("{first}{unit}"),
        _ => format!("{first}{unit}{second}{smaller}"),
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

/// Converts a duration to microseconds, the unit of event time.
pub(crate) fn micros(duration: Duration) -> i64 {
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
    fn ages_have_at_most_two_units() {
        let ages = [-5, 0, 119, 120, 130, 599, 600, 10_799, 10_800, 18_720, 28_800, 172_800, 187_200, 691_200];
        let shown =
            ["0s", "0s", "119s", "2m", "2m10s", "9m59s", "10m", "179m", "3h", "5h12m", "8h", "2d", "2d4h", "8d"];
        assert_eq!(ages.map(|seconds| age(seconds * 1_000_000)), shown);
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
