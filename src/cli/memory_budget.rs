//! Detects the memory limit, and divides it among the parts of the server.

use std::path::Path;

use crate::net;
use crate::pipeline::Bounds;

/// Roots of the control group hierarchies and the file with the limit: version 2, then the memory controller of version
/// 1. In a container, the root is the container's own group.
const GROUPS: [(&str, &str); 2] =
    [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
/// Lists the control groups of this process: `0::/system.slice/editwar.service`, `5:memory:/docker/…`.
const OWN: &str = "/proc/self/cgroup";
/// Version 1 represents "no limit" as a number near 2^63.
const NO_LIMIT: usize = 1 << 60;
/// Divisor for the memory of objects, as counted by the pipeline. Under attack, with all objects being replaced, the
/// allocator holds almost three times the counted bytes.
const OBJECTS_SHARE: usize = 8;
/// Bytes of one remembered request, including the unused slots of its hash table.
const REQUEST_BYTES: usize = 32;
/// Bytes of batches in flight if there is no memory limit.
const IN_FLIGHT_BYTES: usize = 256 << 20;

/// Minimum number of connections per listener; bytes of unread responses and of HTTP/2 windows if there is no memory
/// limit.
const CONNECTIONS_MIN: usize = 64;
const ANSWER_BYTES: usize = 256 << 20;
const WINDOW_BYTES: usize = 128 << 20;

/// Returns the smallest limit of this process's control groups and their ancestors, if there is one.
pub(super) fn limit() -> Option<usize> {
    let own = std::fs::read_to_string(OWN).unwrap_or_default();
    limit_of(&own, &|path| limit_in(&std::fs::read_to_string(path).ok()?))
}

fn limit_of(own: &str, read: &dyn Fn(&Path) -> Option<usize>) -> Option<usize> {
    let groups = own.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let version = if controllers.is_empty() { 0 } else { 1 };
        (version == 0 || controllers.split(',').any(|c| c == "memory")).then_some((version, path))
    });
    // Includes the roots: in a container, the path may be that of the host, which does not exist there.
    let all = groups.chain([(0, "/"), (1, "/")]).flat_map(|(version, path)| {
        let (root, file) = GROUPS[version];
        let own = Path::new(path.trim_start_matches('/')).ancestors();
        own.map(move |path| Path::new(root).join(path).join(file))
    });
    all.filter_map(|path| read(&path)).min()
}

fn limit_in(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT)
}

/// Reduces `bounds` to fit in `limit`. Also returns the maximum number of bytes of batches in flight.
///
/// A batch needs about twice its size: as it was received, and as it is written to disk. A quarter of the memory is
/// reserved for what is not counted: connections, the journal's page cache, and fragmentation.
pub(super) fn within(limit: Option<usize>, bounds: Bounds) -> (Bounds, usize) {
    let Some(limit) = limit else { return (bounds, IN_FLIGHT_BYTES) };
    let bounds = Bounds {
        bytes_max: bounds.bytes_max.min(limit / OBJECTS_SHARE),
        body_bytes_max: bounds.body_bytes_max.min(limit / 8),
        requests_max: bounds.requests_max.min(limit / 16 / REQUEST_BYTES).max(1),
        ..bounds
    };
    (bounds, IN_FLIGHT_BYTES.min(limit / 8))
}

/// Returns the limits on connections for `limit` bytes of memory: an eighth for unread responses, a sixteenth for
/// HTTP/2 windows, and one connection per listener for each MiB. Connections can use two thirds of the file
/// descriptors.
pub(super) fn of_connections(limit: Option<usize>, descriptors: Option<usize>) -> net::Limits {
    let limit = limit.unwrap_or(usize::MAX);
    let by_memory = (limit >> 20).max(CONNECTIONS_MIN);
    let by_descriptors = descriptors.map_or(usize::MAX, |count| count / 3).max(CONNECTIONS_MIN);
    net::Limits::new(
        net::CONNECTIONS_MAX.min(by_memory).min(by_descriptors),
        ANSWER_BYTES.min(limit / 8),
        WINDOW_BYTES.min(limit / 16),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_limit_lowers_the_defaults_and_never_raises_them() {
        let (bounds, in_flight) = within(Some(256 << 20), Bounds::default());
        assert_eq!((bounds.bytes_max, bounds.body_bytes_max, in_flight), (32 << 20, 32 << 20, 32 << 20));
        assert_eq!(within(Some(1 << 40), Bounds::default()), (Bounds::default(), IN_FLIGHT_BYTES));
        assert_eq!(within(None, Bounds::default()), (Bounds::default(), IN_FLIGHT_BYTES));
    }

    #[test]
    fn the_lowest_limit_of_all_enclosing_cgroups_applies() {
        let files = [
            ("/sys/fs/cgroup/system.slice/memory.max", 4 << 30),
            ("/sys/fs/cgroup/system.slice/editwar.service/memory.max", 512 << 20),
            ("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", 1 << 30),
            ("/sys/fs/cgroup/memory.max", 8usize << 30),
        ];
        let read = |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, bytes)| *bytes);
        assert_eq!(limit_of("0::/system.slice/editwar.service\n", &read), Some(512 << 20));
        assert_eq!(limit_of("0::/system.slice/other.service\n", &read), Some(4 << 30));
        assert_eq!(limit_of("7:cpu:/x\n5:memory:/docker/abc\n", &read), Some(1 << 30));
        assert_eq!(limit_of("0::/../../gone\n", &read), Some(8 << 30));
        assert_eq!(limit_of("", &|_| None), None);
    }

    #[test]
    fn unlimited_cgroups_of_both_versions_have_no_limit() {
        assert_eq!(limit_in("max\n"), None);
        assert_eq!(limit_in("9223372036854771712\n"), None);
        assert_eq!(limit_in("536870912\n"), Some(512 << 20));
    }
}
