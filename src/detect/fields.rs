//! The fields of a body: paths, values, and the differences between two states of an object.
//!
//! A body is flattened to its leaves, such as `spec.template.spec.containers[name=web].image`. Lists whose items
//! Kubernetes merges by key are walked by that key; any other list is one value. Fields that the server sets and the
//! bookkeeping of tools are left out.

mod bodies;
mod change;
mod intent;
mod owned;
mod parse;
mod path;
mod quantity;
mod state;
mod value;
mod walk;

pub use self::bodies::{Bodies, Evidence, PatchIntent, RequestForm, Shape};
pub use self::change::{Change, EvidenceLevel};
pub use self::intent::{FieldIntent, Intent};
pub(crate) use self::owned::owned_paths;
pub(in crate::detect) use self::path::is_at_or_below;
pub use self::path::{Path, part_of};
pub use self::state::Fields;
pub use self::value::{FieldValue, VALUE_BYTES_MAX};

#[cfg(test)]
#[path = "fields/tests.rs"]
mod tests;
