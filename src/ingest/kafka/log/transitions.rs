//! The topic to which the leader writes transitions, for any other program.

use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::error::RDKafkaErrorCode;

use super::LogSettings;
use super::producer::Producer;
use crate::ingest::kafka::Error;
use crate::notify::turn::{Outlet, Unstored};
use crate::telemetry::metrics::Metrics;

/// How long the brokers may take to confirm a transition: the lead may end soon after.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(4);
/// Errors that another attempt does not change.
const PERMANENT: [RDKafkaErrorCode; 2] =
    [RDKafkaErrorCode::TopicAuthorizationFailed, RDKafkaErrorCode::MessageSizeTooLarge];

/// The topic for transitions.
pub(super) struct Transitions(Producer);

// === impl Transitions ===

impl Transitions {
    /// # Errors
    /// A file cannot be read, or the settings are not accepted.
    pub(super) fn new(settings: &LogSettings, topic: &str, metrics: Metrics) -> Result<Transitions, Error> {
        Ok(Transitions(Producer::to(settings, topic, CONFIRMED_WITHIN, metrics)?))
    }
}

impl Outlet for Transitions {
    fn put(&self, object: &str, event: &[u8]) -> BoxFuture<'_, Result<(), Unstored>> {
        let confirmation = self.0.send(std::iter::once((object, event)));
        Box::pin(async move {
            match confirmation.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => {
                    let is_temporary = error.rdkafka_error_code().is_none_or(|code| !PERMANENT.contains(&code));
                    Err(Unstored { reason: error.to_string(), is_temporary })
                }
                Err(error) => Err(Unstored { reason: error.to_string(), is_temporary: true }),
            }
        })
    }

    fn name(&self) -> &str {
        self.0.topic()
    }
}
