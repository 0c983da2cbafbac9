//! Timeouts of calls to the API server. Every call has one, except for watches, which have a separate limit.

use std::time::Duration;

/// One call for an object, such as a GET, a PATCH or a page of a list. An admission webhook that does not answer delays
/// a write by 10 s, its default timeout, and the write may still succeed.
pub(crate) const CALL: Duration = Duration::from_secs(15);
/// One attempt to renew the Lease. Short enough for a second attempt before the Lease expires.
pub(crate) const RENEWAL: Duration = Duration::from_secs(3);
/// One call by the kill switch.
pub(crate) const LIFT: Duration = Duration::from_secs(3);
/// Writing one Event. Nothing waits for it.
pub(crate) const EVENT: Duration = Duration::from_secs(5);
/// Querying the account of this client at startup.
pub(crate) const ACCOUNT: Duration = Duration::from_secs(5);
/// Releasing the Lease at shutdown.
pub(crate) const RELEASE: Duration = Duration::from_secs(2);
/// Establishing a connection, including TLS.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// The requested duration of a watch. A watch without events for 5 s longer than this is restarted.
pub(crate) const WATCH: Duration = Duration::from_secs(30);
/// A connection is closed if nothing arrives on it for this long while data is expected. This bounds what has no
/// separate timeout: the start of a watch, and the list before it.
pub(crate) const SILENCE: Duration = Duration::from_secs(40);

/// Waits for a call, for at most `limit`. The API server may still execute a write that timed out.
///
/// # Errors
/// The error of the call, or [`kube::Error::Service`] after a timeout.
pub(crate) async fn within<T>(limit: Duration, call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = || kube::Error::Service(format!("no answer within {} s", limit.as_secs()).into());
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Properties that depend on several limits. docs/enforcer.md states them too.
    #[test]
    fn a_renewal_that_hangs_leaves_time_for_another() {
        use crate::enforce::lease::{DURATION, EVERY, MARGIN};
        assert!(EVERY + RENEWAL + RENEWAL <= DURATION - MARGIN);
        assert!(WATCH + Duration::from_secs(5) < SILENCE);
    }
}
