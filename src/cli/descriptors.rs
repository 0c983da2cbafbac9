//! Raises the limit on open file descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard limit; the soft limit is only low for programs that use `select`. Returns the
/// resulting limit, or `None` if there is none.
pub(super) fn raise() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    };
    current.map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}
