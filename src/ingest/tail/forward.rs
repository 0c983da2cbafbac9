//! Posts the lines of tailed logs to another server, which observes those of all nodes.

use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::journal::committer::Unavailable;
use crate::util::endpoint::Endpoint;
use crate::util::readiness::Readiness;

/// How long the server may take to store one chunk, as kube-apiserver gives it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// Posts lines to the webhook of another server.
pub(crate) struct Forwarder {
    server: Endpoint,
    runtime: Handle,
    /// Whether the server has accepted the latest chunk.
    accepts: Readiness,
}

// === impl Forwarder ===

impl Forwarder {
    /// Must be called on the runtime that sends the requests.
    pub(crate) fn new(server: Endpoint) -> Forwarder {
        Forwarder { server, runtime: Handle::current(), accepts: Readiness::always() }
    }

    pub(super) fn readiness(&self) -> Readiness {
        self.accepts.clone()
    }

    /// Posts lines. On `Ok`, the server has stored their writes. Must not be called from async code.
    ///
    /// # Errors
    /// [`Unavailable`] if the server does not accept them. That it rejects them as they are is no reason to drop them: the fault may
    /// be in its configuration.
    pub(super) fn post(&self, lines: &[u8]) -> Result<(), Unavailable> {
        let body = Bytes::copy_from_slice(lines);
        let posted = self.runtime.block_on(self.server.post("application/json", body, ANSWERED_WITHIN));
        let was_accepting = self.accepts.is_ready();
        self.accepts.set(posted.is_ok());
        match posted {
            Ok(()) if was_accepting => Ok(()),
            Ok(()) => {
                tracing::info!(server = self.server.host(), "the server accepts events again");
                Ok(())
            }
            Err(failure) => {
                if was_accepting {
                    let error = format!("{:#}", failure.error);
                    tracing::error!(
                        server = self.server.host(),
                        error,
                        "the server does not accept events; posting them again until it does"
                    );
                }
                Err(Unavailable)
            }
        }
    }
}
