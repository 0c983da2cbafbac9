//! The limits of a pipeline: what it keeps, and which event times it accepts.

use super::clock::Tolerance;
use crate::audit::event::Micros;

/// The limits of what a pipeline keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Objects that are tracked. Beyond this number, old, uncontested objects are evicted first.
    pub objects_max: usize,
    /// Approximate bytes of all objects together.
    pub bytes_max: usize,
    /// Bytes of stored bodies that are kept without being parsed.
    pub body_bytes_max: usize,
    /// Requests that are remembered for deduplication.
    pub requests_max: usize,
    /// How far event times may differ from this machine's clock.
    pub tolerance: Tolerance,
}

/// A range of event times: from `since`, before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// The first instant of the range.
    pub since: Micros,
    /// The first instant after the range.
    pub until: Micros,
}

// === impl Bounds ===

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            objects_max: 1_000_000,
            bytes_max: 1 << 30,
            body_bytes_max: 32 << 20,
            requests_max: 1_000_000,
            tolerance: Tolerance::default(),
        }
    }
}

// === impl TimeRange ===

impl Default for TimeRange {
    /// Returns the range of all times.
    fn default() -> TimeRange {
        TimeRange { since: i64::MIN, until: i64::MAX }
    }
}
