//! The thread that reads messages, ingests their events and stores the offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::{oneshot, watch};

use super::client::{self, Context};
use super::merge::{Merge, Partition};
use super::{Error, Settings, messages};
use crate::ingest::Source;
use crate::ingest::intake::{Intake, Origin};
use crate::telemetry::metrics::Metrics;
use crate::util::clock;
use crate::util::readiness::Readiness;

/// Number of bytes of lines that are ingested at once.
const BATCH_BYTES: usize = 1 << 20;
/// Maximum time to wait for the first message of a batch.
const POLL: Duration = Duration::from_millis(100);
/// Delay before a batch is passed to the intake again.
const RETRY: Duration = Duration::from_secs(1);
/// Minimum time between two warnings about failed reads.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The source that reads topics.
pub(super) struct KafkaSource {
    worker: Worker,
    readiness: Readiness,
}

struct Worker {
    consumer: Arc<BaseConsumer<Context>>,
    intake: Intake,
    metrics: Metrics,
    /// The topics, each with its cluster and the name of the source.
    topics: BTreeMap<String, (String, String)>,
    merge: Merge,
    assigned: BTreeSet<Partition>,
    /// Messages that are due and not ingested yet, by topic.
    batch: BTreeMap<String, Due>,
    /// Whether the intake has rejected the batch.
    is_blocked: bool,
    readiness: Readiness,
    /// Whether librdkafka has reported an error after which it reads nothing any more.
    is_fenced: bool,
    warned: Option<Instant>,
}

/// Messages of one topic.
#[derive(Default)]
struct Due {
    lines: Vec<u8>,
    /// The offset of the latest message of each partition.
    offsets: BTreeMap<i32, i64>,
}

// === impl KafkaSource ===

impl KafkaSource {
    /// # Errors
    /// A file cannot be read, or the settings are not accepted.
    pub(super) fn new(settings: Settings, intake: Intake, metrics: Metrics) -> Result<KafkaSource, Error> {
        let readiness = Readiness::default();
        let consumer = client::consumer(&settings, metrics.clone(), readiness.clone())?;
        let topics = settings.topics.into_iter().map(|(topic, cluster)| {
            let source = format!("kafka {topic}");
            (topic, (cluster, source))
        });
        let worker = Worker {
            consumer,
            intake,
            metrics,
            topics: topics.collect(),
            merge: Merge::default(),
            assigned: BTreeSet::new(),
            batch: BTreeMap::new(),
            is_blocked: false,
            readiness: readiness.clone(),
            is_fenced: false,
            warned: None,
        };
        Ok(KafkaSource { worker, readiness })
    }
}

impl Source for KafkaSource {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Reads until `stop` turns true. Returns after everything that was received is ingested, as far as the journal can
    /// be written, and the offsets are committed.
    fn run(self: Box<Self>, mut stop: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
        let mut worker = self.worker;
        Box::pin(async move {
            let is_stopped = Arc::new(AtomicBool::new(false));
            let (ended, has_ended) = oneshot::channel();
            let flag = is_stopped.clone();
            let thread = std::thread::Builder::new().name("kafka".into()).spawn(move || {
                worker.run(&flag);
                // The consumer leaves its group when it is dropped.
                drop(worker);
                // The receiver is gone if the server was not shut down gracefully.
                let _ = ended.send(());
            });
            if let Err(error) = thread {
                tracing::error!(%error, "cannot start the thread that reads Kafka");
                return;
            }
            // After a fatal error, the thread has ended before: the server goes on without it, and is not ready.
            drop(stop.wait_for(|stop| *stop).await);
            is_stopped.store(true, Ordering::Relaxed);
            if has_ended.await.is_err() {
                tracing::error!("the thread that reads Kafka ended unexpectedly");
            }
        })
    }
}

// === impl Worker ===

impl Worker {
    fn run(&mut self, is_stopped: &AtomicBool) {
        let mut is_idle = true;
        while !is_stopped.load(Ordering::Relaxed) && !self.is_fenced {
            self.follow_assignment();
            let wait = match (self.is_blocked, is_idle) {
                (true, _) => RETRY,
                (false, true) => POLL,
                (false, false) => Duration::ZERO,
            };
            self.receive(wait);
            self.take_due();
            is_idle = self.batch.is_empty();
            self.is_blocked = !self.ingest();
            let change = self.merge.change(Instant::now());
            self.pause(change.pause);
            self.resume(change.resume);
        }
        self.ingest();
        if self.is_fenced {
            return;
        }
        if let Err(error) = self.consumer.commit_consumer_state(CommitMode::Sync)
            && !is_nothing_to_commit(&error)
        {
            tracing::warn!(%error, "Kafka: offsets cannot be committed; some messages will be read again");
        }
    }

    /// Notices which partitions were assigned and revoked.
    fn follow_assignment(&mut self) {
        let Ok(list) = self.consumer.assignment() else { return };
        let assigned: BTreeSet<Partition> =
            list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect();
        if assigned == self.assigned {
            return;
        }
        // Whether a partition is still paused after an assignment depends on the protocol of the group.
        self.resume(assigned.iter().cloned());
        self.merge.assign(assigned.iter().cloned(), Instant::now());
        for topic in self.topics.keys() {
            let count = assigned.iter().filter(|(assigned, _)| assigned == topic).count();
            self.metrics.record_kafka_partitions(topic, count);
        }
        self.assigned = assigned;
    }

    /// Receives messages until none is left, but at most about a batch. Waits for the first one. It is called while nothing
    /// can be ingested, too: polling keeps the consumer in its group.
    fn receive(&mut self, mut wait: Duration) {
        let consumer = self.consumer.clone();
        let mut bytes = 0;
        while bytes < BATCH_BYTES {
            let message = match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    self.failed(&error);
                    break;
                }
            };
            wait = Duration::ZERO;
            // A message without content is a tombstone of a compacted topic.
            let content = message.payload().unwrap_or_default();
            bytes += content.len();
            let partition = (message.topic().to_owned(), message.partition());
            if !self.assigned.contains(&partition) {
                // It was assigned by this poll.
                self.follow_assignment();
            }
            let at = message.timestamp().to_millis();
            self.merge.push(&partition, at, message.offset(), content, Instant::now());
        }
        for (partition, lag) in consumer.context().take_lags() {
            self.merge.set_lag(&partition, lag);
        }
    }

    /// Adds the messages that are due to the batch.
    fn take_due(&mut self) {
        let now = Instant::now();
        let mut bytes = self.batch.values().map(|due| due.lines.len()).sum::<usize>();
        while bytes < BATCH_BYTES
            && let Some(((topic, number), message)) = self.merge.next(now)
        {
            let due = match self.batch.get_mut(topic) {
                Some(due) => due,
                None => self.batch.entry(topic.clone()).or_default(),
            };
            let before = due.lines.len();
            messages::append(&message.content, &mut due.lines);
            due.offsets.insert(*number, message.offset);
            bytes += due.lines.len() - before;
        }
    }

    /// Ingests the batch, and stores the offsets of what is durable now. Returns `false` if a part of it was rejected, which
    /// stays in the batch.
    fn ingest(&mut self) -> bool {
        let Worker { batch, topics, intake, consumer, metrics, .. } = self;
        batch.retain(|topic, due| {
            let Some((cluster, source)) = topics.get(topic) else { return false };
            if intake.check().is_err() || intake.ingest_lines(Origin { cluster, source }, &due.lines).is_err() {
                return true;
            }
            metrics.set_last_batch(cluster, source, clock::now_seconds());
            for (partition, offset) in &due.offsets {
                // A partition that was revoked in the meantime is read again by its new owner.
                if let Err(error) = consumer.store_offset(topic, *partition, *offset) {
                    tracing::debug!(%error, topic, partition, "Kafka: an offset is not stored");
                }
            }
            false
        });
        batch.is_empty()
    }

    fn pause(&self, partitions: impl IntoIterator<Item = Partition>) {
        let list = listed(partitions);
        if list.count() > 0
            && let Err(error) = self.consumer.pause(&list)
        {
            tracing::debug!(%error, "Kafka: partitions cannot be paused");
        }
    }

    fn resume(&self, partitions: impl IntoIterator<Item = Partition>) {
        let list = listed(partitions);
        if list.count() > 0
            && let Err(error) = self.consumer.resume(&list)
        {
            tracing::debug!(%error, "Kafka: partitions cannot be resumed");
        }
    }

    /// Reports that a read has failed. librdkafka tries again.
    fn failed(&mut self, error: &KafkaError) {
        self.metrics.count_kafka_error();
        if let Some((_, reason)) = self.consumer.client().fatal_error() {
            self.is_fenced = true;
            self.readiness.set(false);
            tracing::error!(
                reason,
                "Kafka: this process reads no topics any more; does another editwar use the same group?"
            );
            return;
        }
        if self.warned.is_none_or(|warned| warned.elapsed() > WARN_EVERY) {
            self.warned = Some(Instant::now());
            tracing::warn!(%error, "Kafka: cannot read; trying again");
        }
    }
}

fn listed(partitions: impl IntoIterator<Item = Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(&topic, partition);
    }
    list
}

fn is_nothing_to_commit(error: &KafkaError) -> bool {
    matches!(error, KafkaError::ConsumerCommit(rdkafka::types::RDKafkaErrorCode::NoOffset))
}
