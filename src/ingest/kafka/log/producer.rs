//! Writes records to the log. A batch is acknowledged when the brokers have confirmed all of its records.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::LogSettings;
use super::message::Notice;
use crate::ingest::intake::LOG_MESSAGE_BYTES_MAX;
use crate::ingest::kafka::Error;
use crate::ingest::kafka::client::{self, Context};
use crate::journal::append::Append;
use crate::journal::committer::Unavailable;
use crate::journal::record::Record;
use crate::notify::turn::{Outlet, Unstored};
use crate::telemetry::metrics::Metrics;
use crate::util::clock;
use crate::util::lock::lock;

/// The only partition.
pub(super) const PARTITION: i32 = 0;
/// How long the brokers may take to confirm a record. kube-apiserver gives a batch 30 seconds.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(20);
/// The same for a transition: the lead may end soon after.
const TRANSITION_WITHIN: Duration = Duration::from_secs(4);
/// Memory for records that are not confirmed yet, in kB. More are rejected.
const UNCONFIRMED_KB: &str = "32768";
/// How long records wait for others, so that they are sent and stored together.
const LINGER_MS: &str = "2";
/// Compresses again across records, which resemble each other.
const COMPRESSION: &str = "lz4";
/// Errors that another attempt does not change.
const PERMANENT: [RDKafkaErrorCode; 2] =
    [RDKafkaErrorCode::TopicAuthorizationFailed, RDKafkaErrorCode::MessageSizeTooLarge];
/// How long a stop waits for the confirmation of records that nobody waits for.
const FLUSH: Duration = Duration::from_secs(5);

/// Appends to the log.
pub(super) struct Producer {
    client: Mutex<Arc<ThreadedProducer<Context>>>,
    settings: LogSettings,
    metrics: Metrics,
    /// How long the brokers may take to confirm a message.
    within: Duration,
    pub(super) topic: String,
    /// Why the latest record was not stored, until another one is.
    trouble: Arc<Mutex<Option<String>>>,
}

/// The records of one batch.
pub(in crate::ingest::kafka) struct Group {
    /// Number of records that are not confirmed yet.
    left: AtomicUsize,
    has_failed: AtomicBool,
    done: Mutex<Option<oneshot::Sender<Result<(), Unavailable>>>>,
    /// Where the reason of a failure is noted. The first one is reported in the log.
    trouble: Arc<Mutex<Option<String>>>,
}

// === impl Producer ===

impl Producer {
    /// # Errors
    /// A file cannot be read, or the settings are not accepted.
    pub(super) fn new(settings: &LogSettings, metrics: Metrics) -> Result<Producer, Error> {
        Producer::to(settings, &settings.topic, CONFIRMED_WITHIN, metrics)
    }

    fn to(settings: &LogSettings, topic: &str, within: Duration, metrics: Metrics) -> Result<Producer, Error> {
        let client = Mutex::new(Arc::new(client(settings, within, metrics.clone())?));
        let (settings, topic) = (settings.clone(), topic.to_owned());
        Ok(Producer { client, settings, metrics, within, topic, trouble: Arc::default() })
    }

    /// Returns the client. After an error from which it does not recover, there is a new one.
    fn client(&self) -> Arc<ThreadedProducer<Context>> {
        let mut current = lock(&self.client);
        if let Some((_, reason)) = current.client().fatal_error() {
            tracing::error!(reason, "Kafka: the producer has failed, and is created again");
            match client(&self.settings, self.within, self.metrics.clone()) {
                Ok(client) => *current = Arc::new(client),
                Err(error) => tracing::error!(%error, "Kafka: the producer cannot be created"),
            }
        }
        current.clone()
    }

    /// Sends a message that is no write, without waiting for its confirmation.
    pub(super) fn notify(&self, notice: &Notice) {
        let text = serde_json::to_vec(notice).expect("names and numbers are written to memory");
        let group = Arc::new(self.group(1, None));
        let message = BaseRecord::with_opaque_to(&self.topic, group)
            .partition(PARTITION)
            .key(&[][..])
            .payload(&text)
            .timestamp(clock::now() / 1_000);
        if let Err((error, message)) = self.client().send(message) {
            message.delivery_opaque.settle(Err(&error));
        }
    }

    fn group(&self, count: usize, done: Option<oneshot::Sender<Result<(), Unavailable>>>) -> Group {
        Group {
            left: AtomicUsize::new(count),
            has_failed: AtomicBool::new(false),
            done: Mutex::new(done),
            trouble: self.trouble.clone(),
        }
    }

    /// Sends records. Returns what resolves when all are confirmed, or `None` if there are none.
    fn send(&self, records: &[Record]) -> Option<oneshot::Receiver<Result<(), Unavailable>>> {
        if records.is_empty() {
            return None;
        }
        let (done, is_done) = oneshot::channel();
        // One more than records, until all are sent.
        let group = Arc::new(self.group(records.len() + 1, Some(done)));
        let (client, at_ms) = (self.client(), clock::now() / 1_000);
        let mut key = Vec::new();
        for record in records {
            key.clear();
            key.extend_from_slice(&record.key.0);
            key.extend_from_slice(record.object.as_ref().as_bytes());
            let message = BaseRecord::with_opaque_to(&self.topic, group.clone())
                .partition(PARTITION)
                .key(&key)
                .payload(&record.packed)
                .timestamp(at_ms);
            if let Err((error, message)) = client.send(message) {
                message.delivery_opaque.settle(Err(&error));
            }
        }
        group.settle(Ok(()));
        Some(is_done)
    }
}

impl Append for Producer {
    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), Unavailable>> {
        let is_done = self.send(&records);
        Box::pin(async move {
            match is_done {
                Some(is_done) => is_done.await.unwrap_or(Err(Unavailable)),
                None => Ok(()),
            }
        })
    }

    fn append_blocking(&self, records: Vec<Record>) -> Result<(), Unavailable> {
        self.send(&records).map_or(Ok(()), |is_done| is_done.blocking_recv().unwrap_or(Err(Unavailable)))
    }

    /// Always accepts: only an attempt shows whether the brokers confirm again.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Producer {
    /// Waits until everything that was sent is stored, for some seconds at most.
    pub(super) fn flush(&self) {
        if let Err(error) = self.client().flush(FLUSH) {
            tracing::debug!(%error, "Kafka: records of rejected batches and notices are not confirmed");
        }
    }
}

// === impl Group ===

impl Group {
    /// Notes the outcome of one record.
    fn settle(&self, outcome: Result<(), &KafkaError>) {
        if let Err(error) = outcome {
            self.has_failed.store(true, Ordering::Relaxed);
            if lock(&self.trouble).replace(error.to_string()).is_none() {
                tracing::error!(%error, "Kafka: the brokers do not store writes; batches are rejected until they do");
            }
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let has_failed = self.has_failed.load(Ordering::Relaxed);
        if !has_failed && lock(&self.trouble).take().is_some_and(|reason| !reason.is_empty()) {
            tracing::info!("Kafka: the brokers store writes again");
        }
        if let Some(done) = lock(&self.done).take() {
            // The client that posted the batch may be gone.
            let _ = done.send(if has_failed { Err(Unavailable) } else { Ok(()) });
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Group>;

    fn delivery(&self, result: &DeliveryResult<'_>, group: Arc<Group>) {
        group.settle(result.as_ref().map(drop).map_err(|(error, _)| error));
    }
}

fn client(settings: &LogSettings, within: Duration, metrics: Metrics) -> Result<ThreadedProducer<Context>, Error> {
    let context = Context::new(&settings.kafka, metrics);
    config(settings, within)?.create_with_context(context).map_err(|error| Error::Settings(error.to_string()))
}

/// Returns librdkafka's configuration.
fn config(settings: &LogSettings, within: Duration) -> Result<ClientConfig, Error> {
    let mut config = client::config(&settings.kafka)?;
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", within.as_millis().to_string())
        .set("queue.buffering.max.kbytes", UNCONFIRMED_KB)
        .set("message.max.bytes", LOG_MESSAGE_BYTES_MAX.to_string())
        .set("linger.ms", LINGER_MS)
        .set("compression.type", COMPRESSION);
    Ok(config)
}

/// The topic for transitions.
pub(super) struct Transitions(Producer);

// === impl Transitions ===

impl Transitions {
    /// # Errors
    /// A file cannot be read, or the settings are not accepted.
    pub(super) fn new(settings: &LogSettings, topic: &str, metrics: Metrics) -> Result<Transitions, Error> {
        Ok(Transitions(Producer::to(settings, topic, TRANSITION_WITHIN, metrics)?))
    }
}

impl Outlet for Transitions {
    fn put(&self, object: &str, event: &[u8]) -> BoxFuture<'_, Result<(), Unstored>> {
        let (done, is_done) = oneshot::channel();
        // The caller reports the reason. It is not the first one, so that it is not logged here, too.
        let trouble = Arc::new(Mutex::new(Some(String::new())));
        let group = Arc::new(Group { trouble: trouble.clone(), ..self.0.group(1, Some(done)) });
        let message = BaseRecord::with_opaque_to(&self.0.topic, group).key(object).payload(event);
        if let Err((error, message)) = self.0.client().send(message) {
            message.delivery_opaque.settle(Err(&error));
        }
        Box::pin(async move {
            if is_done.await.is_ok_and(|outcome| outcome.is_ok()) {
                return Ok(());
            }
            let reason = lock(&trouble).take().unwrap_or_default();
            let is_temporary = !PERMANENT.iter().any(|code| reason.contains(&format!("{code:?}")));
            Err(Unstored { reason, is_temporary })
        })
    }

    fn name(&self) -> &str {
        &self.0.topic
    }
}
