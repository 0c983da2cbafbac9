//! Patterns of wars: several actors overwrite each other's values of one field.

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
