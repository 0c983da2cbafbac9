//! Time limits of calls to the API server. Every call has one. Watches go on for longer, by a rule of their own.

use std::time::Duration;

/// One call about an object, such as a GET, a PATCH or a page of a list. An admission webhook that does not answer delays a
/// write by 10 s, its default timeout, and the write may succeed all the same.
pub const CALL: Duration = Duration::from_secs(15);
/// One attempt to renew the Lease: short enough for another attempt before the Lease is given up.
pub const RENEWAL: Duration = Duration::from_secs(3);
/// One call by the kill switch.
pub const LIFT: Duration = Duration::from_secs(3);
/// One Event. Nothing waits for it.
pub const EVENT: Duration = Duration::from_secs(5);
/// Asking at the start as which account this client acts.
pub const ACCOUNT: Duration = Duration::from_secs(5);
/// Giving the Lease up at the end.
pub const RELEASE: Duration = Duration::from_secs(2);
/// Establishing a connection, TLS included.
pub const CONNECT: Duration = Duration::from_secs(5);
/// How long the API server is asked to keep a watch open. One that is silent for 5 s longer is begun anew.
pub const WATCH: Duration = Duration::from_secs(30);
/// A connection on which nothing arrives for this long while something is awaited is closed. It bounds what has no other
/// limit: the start of a watch, and the list before it.
pub const SILENCE: Duration = Duration::from_secs(40);

/// Waits for a call, up to `limit`. A write that is given up may still be done by the API server.
///
/// # Errors
/// The call's own, or [`kube::Error::Service`] where there is no answer in time.
pub async fn within<T>(limit: Duration, call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = || kube::Error::Service(format!("no answer within {} s", limit.as_secs()).into());
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the limits promise together; docs/enforcer.md says the same.
    #[test]
    fn a_renewal_that_hangs_leaves_time_for_another() {
        use crate::enforce::lease::{DURATION, EVERY, MARGIN};
        assert!(EVERY + RENEWAL + RENEWAL <= DURATION - MARGIN);
        assert!(WATCH + Duration::from_secs(5) < SILENCE);
    }
}
