//! Sends messages, and says when the brokers have stored them: writes to the log, whose batch is acknowledged then, and what
//! replicas tell each other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::message::Notice;
use super::{LogSettings, MESSAGE_BYTES_MAX, PARTITION};
use crate::ingest::kafka::Error;
use crate::ingest::kafka::client::{self, Context};
use crate::journal::append::Append;
use crate::journal::committer::Unavailable;
use crate::journal::record::Record;
use crate::telemetry::metrics::Metrics;
use crate::util::clock;
use crate::util::lock::lock;

/// How long the brokers may take to confirm a write. kube-apiserver gives a batch 30 seconds.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(20);
/// Memory for messages that are not confirmed yet, in kB. More are rejected.
const UNCONFIRMED_KB: &str = "32768";
/// How long messages wait for others, so that they are sent and stored together.
const LINGER_MS: &str = "2";
/// Compresses again across records, which resemble each other.
const COMPRESSION: &str = "lz4";
/// Space in a message besides a record: its headers.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// How long a stop waits for the confirmation of messages that nobody waits for.
const FLUSH: Duration = Duration::from_secs(5);

/// Resolves when the brokers have confirmed messages, or have not in time.
type Confirmation = oneshot::Receiver<Result<(), KafkaError>>;

/// Sends messages to one topic.
pub(super) struct Producer {
    client: Mutex<Arc<ThreadedProducer<Context>>>,
    settings: LogSettings,
    metrics: Metrics,
    /// How long the brokers may take to confirm a message.
    within: Duration,
    topic: String,
    /// Whether the latest batch was not stored.
    is_failing: AtomicBool,
}

/// Messages that are confirmed together.
pub(in crate::ingest::kafka) struct Group {
    /// Number of messages that are not confirmed yet.
    left: AtomicUsize,
    /// Why one of them was not stored.
    failure: Mutex<Option<KafkaError>>,
    done: Mutex<Option<oneshot::Sender<Result<(), KafkaError>>>>,
}

// === impl Producer ===

impl Producer {
    /// Creates the producer of the log.
    ///
    /// # Errors
    /// A file cannot be read, or the settings are not accepted.
    pub(super) fn new(settings: &LogSettings, metrics: Metrics) -> Result<Producer, Error> {
        Producer::to(settings, &settings.topic, CONFIRMED_WITHIN, metrics)
    }

    /// Creates a producer of another topic, whose brokers have this time to confirm a message.
    ///
    /// # Errors
    /// A file cannot be read, or the settings are not accepted.
    pub(super) fn to(
        settings: &LogSettings,
        topic: &str,
        within: Duration,
        metrics: Metrics,
    ) -> Result<Producer, Error> {
        let client = Mutex::new(Arc::new(client(settings, within, metrics.clone())?));
        let (settings, topic) = (settings.clone(), topic.to_owned());
        Ok(Producer { client, settings, metrics, within, topic, is_failing: AtomicBool::default() })
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
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

    /// Sends messages: keys and contents.
    pub(super) fn send<K: AsRef<[u8]>, P: AsRef<[u8]>>(
        &self,
        messages: impl ExactSizeIterator<Item = (K, P)>,
    ) -> Confirmation {
        let (group, confirmation) = Group::of(messages.len());
        let (client, at_ms) = (self.client(), clock::now() / 1_000);
        for (key, content) in messages {
            let message = BaseRecord::with_opaque_to(&self.topic, group.clone())
                .partition(PARTITION)
                .key(key.as_ref())
                .payload(content.as_ref())
                .timestamp(at_ms);
            if let Err((error, message)) = client.send(message) {
                message.delivery_opaque.settle(Err(error));
            }
        }
        group.settle(Ok(()));
        confirmation
    }

    /// Sends a notice without waiting for its confirmation.
    pub(super) fn notify(&self, notice: &Notice) {
        let text = serde_json::to_vec(notice).expect("names and numbers are written to memory");
        drop(self.send(std::iter::once((b"", text))));
    }

    /// Waits until everything that was sent is stored, for some seconds at most.
    pub(super) fn flush(&self) {
        if let Err(error) = self.client().flush(FLUSH) {
            tracing::debug!(%error, "Kafka: records of rejected batches and notices are not confirmed");
        }
    }

    fn send_records(&self, records: &[Record]) -> Confirmation {
        let key = |record: &Record| [&record.key.0, record.object.as_ref().as_bytes()].concat();
        self.send(records.iter().map(|record| (key(record), &record.packed)))
    }

    /// Returns whether records are stored. Logs the first failure, and its end.
    fn confirmed(&self, outcome: Result<Result<(), KafkaError>, oneshot::error::RecvError>) -> Result<(), Unavailable> {
        match outcome {
            Ok(Ok(())) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("Kafka: the brokers store writes again");
                }
                return Ok(());
            }
            Ok(Err(error)) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                tracing::error!(%error, "Kafka: the brokers do not store writes; batches are rejected until they do");
            }
            _ => {}
        }
        Err(Unavailable)
    }
}

impl Append for Producer {
    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(async move {
            match &*records {
                [] => Ok(()),
                records => self.confirmed(self.send_records(records).await),
            }
        })
    }

    fn append_blocking(&self, records: Vec<Record>) -> Result<(), Unavailable> {
        match &*records {
            [] => Ok(()),
            records => self.confirmed(self.send_records(records).blocking_recv()),
        }
    }

    /// Always accepts: only an attempt shows whether the brokers confirm again.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn record_bytes_max(&self) -> usize {
        MESSAGE_BYTES_MAX - HEADER_BYTES_MAX
    }
}

// === impl Group ===

impl Group {
    /// Returns a group of so many messages, of which all must be sent before it is complete.
    fn of(count: usize) -> (Arc<Group>, Confirmation) {
        let (done, confirmation) = oneshot::channel();
        // One more for the end of sending.
        let left = AtomicUsize::new(count + 1);
        (Arc::new(Group { left, failure: Mutex::default(), done: Mutex::new(Some(done)) }), confirmation)
    }

    /// Notes the outcome of one message.
    fn settle(&self, outcome: Result<(), KafkaError>) {
        if let Err(error) = outcome {
            *lock(&self.failure) = Some(error);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        if let Some(done) = lock(&self.done).take() {
            // Nobody waits for a notice, and the client that posted a batch may be gone.
            if let Err(Err(error)) = done.send(lock(&self.failure).take().map_or(Ok(()), Err)) {
                tracing::warn!(%error, "Kafka: the brokers have not stored a message to the other replicas");
            }
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Group>;

    fn delivery(&self, result: &DeliveryResult<'_>, group: Arc<Group>) {
        group.settle(result.as_ref().map(drop).map_err(|(error, _)| error.clone()));
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
        .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
        .set("linger.ms", LINGER_MS)
        .set("compression.type", COMPRESSION);
    Ok(config)
}
