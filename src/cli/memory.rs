//! How much memory there is, and what of it each part of the server may have.

use std::path::Path;

use crate::pipeline::Bounds;

/// Where a control group tells its limit: version 2, then version 1. Inside of a container these are the container's own.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// Version 1 writes "no limit" as a number near 2^63.
const NO_LIMIT: usize = 1 << 60;
/// Bytes of a calm object with its name and place in the table.
const OBJECT_BYTES: usize = 1 << 10;
/// Bytes of one remembered request, with the empty places of its table.
const REQUEST_BYTES: usize = 32;
/// Bytes on their way in where nothing says how much memory there is.
const IN_FLIGHT_BYTES: usize = 256 << 20;

/// The limit of this process's control group, if there is one.
pub fn limit() -> Option<usize> {
    let read = |path| limit_in(&std::fs::read_to_string(Path::new(path)).ok()?);
    LIMITS.into_iter().find_map(read)
}

fn limit_in(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT)
}

/// These bounds, or tighter ones that fit in `limit`; and the bytes of batches that may be on their way.
///
/// A batch is held about twice, as it came and as it is written to disk; a quarter of the memory is left for what is counted
/// by nobody: connections, the journal's pages, the allocator's gaps.
pub fn within(limit: Option<usize>, bounds: Bounds) -> (Bounds, usize) {
    let Some(limit) = limit else { return (bounds, IN_FLIGHT_BYTES) };
    let bounds = Bounds {
        objects_max: bounds.objects_max.min(limit * 3 / 8 / OBJECT_BYTES).max(1),
        body_bytes_max: bounds.body_bytes_max.min(limit / 8),
        requests_max: bounds.requests_max.min(limit / 16 / REQUEST_BYTES).max(1),
    };
    (bounds, IN_FLIGHT_BYTES.min(limit / 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_tightens_and_never_widens() {
        let (bounds, in_flight) = within(Some(256 << 20), Bounds::default());
        assert_eq!((bounds.objects_max, bounds.body_bytes_max, in_flight), (98_304, 32 << 20, 32 << 20));
        assert_eq!(within(Some(1 << 40), Bounds::default()), (Bounds::default(), IN_FLIGHT_BYTES));
        assert_eq!(within(None, Bounds::default()), (Bounds::default(), IN_FLIGHT_BYTES));
    }

    #[test]
    fn both_versions_of_no_limit_are_none() {
        assert_eq!(limit_in("max\n"), None);
        assert_eq!(limit_in("9223372036854771712\n"), None);
        assert_eq!(limit_in("536870912\n"), Some(512 << 20));
    }
}
