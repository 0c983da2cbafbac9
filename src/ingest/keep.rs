//! Decides which events are stored in the journal, and how much of them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::audit::decode::{Decoded, Malformed};
use crate::detect::policy::Policy;
use crate::detect::write::classify_write;
use crate::journal::record::{Arrival, Record};
use crate::pipeline::dedupe;

/// Returns the record of a write that is within the configured scope, or `None` for everything else.
pub fn record(policy: &Policy, cluster: &str, source: &str, decoded: Result<Decoded<'_>, Malformed>) -> Option<Record> {
    let Ok(Decoded::Event(event)) = decoded else { return None };
    let write = classify_write(&event).ok()?;
    let limits = policy.limits(&write.object)?;
    // What must not be kept in memory must not be stored on disk either.
    let is_bare = dedupe::omits_body(Some(limits), &write.object);
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX));
    Record::new(Arrival { cluster, source, at: now }, &write, is_bare)
}
