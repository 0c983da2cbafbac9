//! Patterns without a war: several actors write one object, and nobody fights.

mod admission;
mod coworkers;
mod forms;
mod lifecycle;
mod rollouts;
mod turns;

use super::scenario::Pattern;

pub(crate) const PATTERNS: &[&[Pattern]] = &[
    coworkers::PATTERNS,
    rollouts::PATTERNS,
    turns::PATTERNS,
    lifecycle::PATTERNS,
    admission::PATTERNS,
    forms::PATTERNS,
];
