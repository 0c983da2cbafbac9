//! Wars: mechanisms of clusters in which several actors take one field back from each other.

mod accounts;
mod admission;
mod fields;
mod objects;
mod rhythms;
mod values;

use super::scenario::Pattern;

pub(crate) const PATTERNS: &[&[Pattern]] = &[
    fields::PATTERNS,
    rhythms::PATTERNS,
    objects::PATTERNS,
    accounts::PATTERNS,
    admission::PATTERNS,
    values::PATTERNS,
];
