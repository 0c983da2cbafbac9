//! Posts the lines of tailed logs to another server, which observes those of all nodes.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::journal::committer::Unavailable;
use crate::util::endpoint::{Credentials, Endpoint};
use crate::util::lock::lock;
use crate::util::readiness::Readiness;

/// How long the server may take to store one chunk. The same lines are posted again then, and count once.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Posts lines to the webhook of another server.
pub(crate) struct Forwarder {
    url: String,
    credentials: Credentials,
    server: Mutex<Endpoint>,
    runtime: Handle,
    /// Whether the server has accepted the latest chunk.
    accepts: Readiness,
}

// === impl Forwarder ===

impl Forwarder {
    /// Must be called on the runtime that sends the requests.
    ///
    /// # Errors
    /// The URL is not valid, or the CA certificates cannot be read.
    pub(crate) fn new(url: String, credentials: Credentials) -> anyhow::Result<Forwarder> {
        let server = Mutex::new(Endpoint::new(&url, &credentials)?);
        Ok(Forwarder { url, credentials, server, runtime: Handle::current(), accepts: Readiness::always() })
    }

    pub(super) fn readiness(&self) -> Readiness {
        self.accepts.clone()
    }

    /// Posts lines. On `Ok`, the server has stored their writes. Must not be called from async code.
    ///
    /// # Errors
    /// [`Unavailable`] if the server does not accept them, for whatever reason. Lines are never dropped, because the configuration of the
    /// server may cause the rejection.
    pub(super) fn post(&self, lines: &[u8]) -> Result<(), Unavailable> {
        let body = Bytes::copy_from_slice(lines);
        let mut server = lock(&self.server);
        let posted = self.runtime.block_on(server.post("application/json", body, ANSWERED_WITHIN));
        let was_accepting = self.accepts.is_ready();
        self.accepts.set(posted.is_ok());
        match posted {
            Ok(()) if was_accepting => Ok(()),
            Ok(()) => {
                tracing::info!(server = server.host(), "the server accepts events again");
                Ok(())
            }
            Err(failure) => {
                if was_accepting {
                    let error = format!("{:#}", failure.error);
                    tracing::error!(
                        server = server.host(),
                        error,
                        "the server does not accept events; posting them again until it does"
                    );
                }
                // The CA certificates may have been replaced.
                let _guard = self.runtime.enter();
                if let Ok(again) = Endpoint::new(&self.url, &self.credentials) {
                    *server = again;
                }
                Err(Unavailable)
            }
        }
    }
}
