//! Which of what comes in is kept, and how much of it.

use crate::audit::decode::{Decoded, Malformed};
use crate::detect::policy::Policy;
use crate::detect::write::attribute;
use crate::journal::record::Record;

/// The record of a write that is looked at; `None` for all else.
pub fn record(policy: &Policy, cluster: &str, source: &str, decoded: Result<Decoded<'_>, Malformed>) -> Option<Record> {
    let Ok(Decoded::Event(event)) = decoded else { return None };
    let write = attribute(&event).ok()?;
    let limits = policy.limits(&write.object)?;
    // What may not be kept in memory may not be kept on disk.
    let is_bare = limits.redacts || write.object.resource == "secrets";
    Record::new(cluster, source, &write, is_bare)
}
