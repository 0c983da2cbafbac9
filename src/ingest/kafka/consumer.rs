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
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::{oneshot, watch};

use super::client::{self, Context};
use super::merge::{MESSAGE_BYTES, Merge, Partition};
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
/// Maximum time, in the times of messages, between two commits. A repeated event is recognised for a quarter of an hour.
const COMMITTED_MS: i64 = 5 * 60_000;
/// How far a message may be ahead of this machine's clock for its time to be plausible.
const AHEAD_MS: i64 = 60_000;
/// How long another member of the group may have partitions, as while one process replaces another.
const SHARED_MAX: Duration = Duration::from_secs(60);
/// How long a stop waits until the offsets are committed and the group is left. A broker that hangs needs longer.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// The source that reads topics.
pub(super) struct KafkaSource {
    worker: Worker,
    readiness: Readiness,
}

struct Worker {
    consumer: Arc<BaseConsumer<Context>>,
    intake: Intake,
    metrics: Metrics,
    readiness: Readiness,
    /// The cluster of each topic.
    clusters: BTreeMap<String, String>,
    feeds: BTreeMap<String, Feed>,
    assigned: BTreeSet<Partition>,
    /// Since when another member of the group has partitions, and whether that was logged.
    shared: Option<(Instant, bool)>,
    has_failed: bool,
}

/// The topics of one cluster.
#[derive(Default)]
struct Feed {
    /// The name of the source.
    source: String,
    merge: Merge,
    /// The messages that are due and not ingested yet.
    lines: Vec<u8>,
    /// The offset of the latest of them in each partition.
    offsets: BTreeMap<Partition, i64>,
    /// The time of the latest of them.
    latest_ms: Option<i64>,
    /// The time of the latest one that was committed.
    committed_ms: Option<i64>,
}

// === impl KafkaSource ===

impl KafkaSource {
    /// # Errors
    /// A file cannot be read, or the settings are not accepted.
    pub(super) fn new(settings: Settings, intake: Intake, metrics: Metrics) -> Result<KafkaSource, Error> {
        let readiness = Readiness::default();
        let consumer = Arc::new(client::consumer(&settings, metrics.clone())?);
        let mut feeds: BTreeMap<String, Feed> = BTreeMap::new();
        for (topic, cluster) in &settings.topics {
            let source = &mut feeds.entry(cluster.clone()).or_default().source;
            *source += if source.is_empty() { "kafka " } else { "," };
            *source += topic;
        }
        let worker = Worker {
            consumer,
            intake,
            metrics,
            readiness: readiness.clone(),
            clusters: settings.topics,
            feeds,
            assigned: BTreeSet::new(),
            shared: None,
            has_failed: false,
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

    /// Reads until `stop` turns true. Returns after everything that is due is ingested, as far as the journal can be written.
    /// Messages that wait for others are read again after a restart.
    fn run(self: Box<Self>, mut stop: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
        let mut worker = self.worker;
        Box::pin(async move {
            let is_stopped = Arc::new(AtomicBool::new(false));
            let (ingested, has_ingested) = oneshot::channel();
            let (closed, has_closed) = oneshot::channel();
            let flag = is_stopped.clone();
            let thread = std::thread::Builder::new().name("kafka".into()).spawn(move || {
                worker.run(&flag);
                // The receivers are gone if the server was not shut down gracefully.
                let _ = ingested.send(());
                worker.commit(CommitMode::Sync);
                // The consumer leaves its group.
                drop(worker);
                let _ = closed.send(());
            });
            if let Err(error) = thread {
                tracing::error!(%error, "cannot start the thread that reads Kafka");
                return;
            }
            // After a fatal error, the thread has ended before: the server goes on without it, and is not ready.
            drop(stop.wait_for(|stop| *stop).await);
            is_stopped.store(true, Ordering::Relaxed);
            if has_ingested.await.is_err() {
                tracing::error!("the thread that reads Kafka ended unexpectedly");
            } else if tokio::time::timeout(CLOSE_MAX, has_closed).await.is_err() {
                tracing::warn!("Kafka: the brokers do not answer; some messages will be read again");
            }
        })
    }
}

// === impl Worker ===

impl Worker {
    fn run(&mut self, is_stopped: &AtomicBool) {
        let topics: Vec<&str> = self.clusters.keys().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&topics) {
            tracing::error!(%error, "Kafka: cannot subscribe to the topics");
            return;
        }
        let mut wait = POLL;
        while !is_stopped.load(Ordering::Relaxed) && !self.has_failed {
            self.receive(wait);
            self.follow_assignment();
            self.follow_statistics();
            let is_idle = !self.take_due();
            let is_blocked = !self.ingest();
            wait = match (is_blocked, is_idle) {
                (true, _) => RETRY,
                (false, true) => POLL,
                (false, false) => Duration::ZERO,
            };
            for feed in self.feeds.values_mut() {
                let change = feed.merge.change(Instant::now());
                pause(&self.consumer, change.pause);
                resume(&self.consumer, change.resume);
            }
        }
        self.ingest();
    }

    /// Notices which partitions were assigned and revoked. What waits to be ingested of a revoked one is read again.
    fn follow_assignment(&mut self) {
        let Ok(list) = self.consumer.assignment() else { return };
        let assigned: BTreeSet<Partition> =
            list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect();
        if assigned == self.assigned {
            return;
        }
        // Whether a partition is still paused after an assignment depends on the protocol of the group.
        resume(&self.consumer, assigned.iter().cloned());
        for (cluster, feed) in &mut self.feeds {
            let is_of_cluster = |partition: &&Partition| self.clusters.get(&partition.0) == Some(cluster);
            feed.merge.assign(assigned.iter().filter(is_of_cluster).cloned(), Instant::now());
        }
        for topic in self.clusters.keys() {
            let count = assigned.iter().filter(|(assigned, _)| assigned == topic).count();
            self.metrics.record_kafka_partitions(topic, count);
        }
        self.assigned = assigned;
        self.readiness.set(self.reads_all_topics());
    }

    /// Whether partitions of every topic are assigned. A topic that does not exist has none.
    fn reads_all_topics(&self) -> bool {
        // Replicas divide the partitions, and all know what each of them has read.
        self.intake.is_replicated()
            || self.clusters.keys().all(|topic| self.assigned.iter().any(|(assigned, _)| assigned == topic))
    }

    /// Uses the statistics: which partitions were read to their end, and which are read by others.
    fn follow_statistics(&mut self) {
        let progress = self.consumer.context().take_progress();
        if progress.is_empty() {
            return;
        }
        for client::Progress { partition, is_at_end, .. } in &progress {
            if let Some(feed) = self.clusters.get(&partition.0).and_then(|cluster| self.feeds.get_mut(cluster)) {
                feed.merge.set_at_end(partition, *is_at_end);
            }
        }
        let unread = progress.iter().filter(|progress| !progress.is_read).count();
        if unread == 0 || self.assigned.is_empty() || self.intake.is_replicated() {
            self.shared = None;
            self.readiness.set(self.reads_all_topics());
            return;
        }
        let (since, is_logged) = *self.shared.get_or_insert((Instant::now(), false));
        if since.elapsed() >= SHARED_MAX && !is_logged {
            self.shared = Some((since, true));
            self.readiness.set(false);
            tracing::error!(
                unread,
                of = progress.len(),
                "Kafka: another program in the same group reads some of the partitions, so that not all writes are known \
                 here; use another group (kafka.group), or stop that program"
            );
        }
    }

    /// Receives messages until none is left, but at most about a batch. Waits for the first one. It is called while nothing
    /// can be ingested, too: polling keeps the consumer in its group.
    fn receive(&mut self, mut wait: Duration) {
        let consumer = self.consumer.clone();
        let latest_ms = clock::now() / 1_000 + AHEAD_MS;
        let mut bytes = 0;
        // That of the message before, mostly that of the next one.
        let mut partition: Partition = (String::new(), -1);
        while bytes < BATCH_BYTES {
            let message = match consumer.poll(wait) {
                None => return,
                Some(Ok(message)) => message,
                Some(Err(_)) => return self.check_fatal(),
            };
            wait = Duration::ZERO;
            // A message without content is a tombstone of a compacted topic.
            let content = message.payload().unwrap_or_default();
            bytes += content.len() + MESSAGE_BYTES;
            if partition.1 != message.partition() || partition.0 != message.topic() {
                partition = (message.topic().to_owned(), message.partition());
            }
            if !self.assigned.contains(&partition) {
                // It was assigned by this poll.
                self.follow_assignment();
            }
            let Some(feed) = self.clusters.get(&partition.0).and_then(|cluster| self.feeds.get_mut(cluster)) else {
                continue;
            };
            let at = message.timestamp().to_millis().filter(|at| (1..=latest_ms).contains(at));
            if feed.merge.push(&partition, at, message.offset(), content, Instant::now()) {
                return;
            }
        }
    }

    /// Takes the messages that are due. Returns whether there is anything to ingest.
    fn take_due(&mut self) -> bool {
        let now = Instant::now();
        for feed in self.feeds.values_mut() {
            while feed.lines.len() + feed.offsets.len() < BATCH_BYTES
                && let Some((partition, message)) = feed.merge.next(now)
            {
                messages::append(&message.content, &mut feed.lines);
                match feed.offsets.get_mut(partition) {
                    Some(offset) => *offset = message.offset,
                    None => drop(feed.offsets.insert(partition.clone(), message.offset)),
                }
                feed.latest_ms = message.at.max(feed.latest_ms);
            }
        }
        self.feeds.values().any(|feed| !feed.offsets.is_empty())
    }

    /// Ingests what is due, and stores the offsets of what is durable now. Returns `false` if some of it was rejected.
    fn ingest(&mut self) -> bool {
        let Worker { feeds, intake, consumer, metrics, .. } = self;
        let (mut is_done, mut must_commit) = (true, false);
        for (cluster, feed) in feeds.iter_mut().filter(|(_, feed)| !feed.offsets.is_empty()) {
            let origin = Origin { cluster, source: &feed.source };
            if intake.check().is_err() || intake.ingest_lines(origin, &feed.lines).is_err() {
                is_done = false;
                continue;
            }
            metrics.set_last_batch(cluster, &feed.source, clock::now_seconds());
            for ((topic, partition), offset) in std::mem::take(&mut feed.offsets) {
                // A partition that was revoked in the meantime is read again by its new owner.
                if let Err(error) = consumer.store_offset(&topic, partition, offset) {
                    tracing::debug!(%error, topic, partition, "Kafka: an offset is not stored");
                }
            }
            feed.lines.clear();
            feed.lines.shrink_to(2 * BATCH_BYTES);
            let committed_ms = *feed.committed_ms.get_or_insert(feed.latest_ms.unwrap_or_default());
            if feed.latest_ms.is_some_and(|latest| latest - committed_ms > COMMITTED_MS) {
                feed.committed_ms = feed.latest_ms;
                must_commit = true;
            }
        }
        if must_commit {
            self.commit(CommitMode::Async);
        }
        is_done
    }

    /// Commits the offsets that are stored. librdkafka does so every second, too.
    fn commit(&self, mode: CommitMode) {
        match self.consumer.commit_consumer_state(mode) {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => tracing::warn!(%error, "Kafka: offsets cannot be committed; some messages may be read again"),
        }
    }

    /// Stops reading after an error from which librdkafka does not recover. All others are reported by the context.
    fn check_fatal(&mut self) {
        if let Some((_, reason)) = self.consumer.client().fatal_error() {
            self.has_failed = true;
            self.readiness.set(false);
            tracing::error!(reason, "Kafka: no topics are read any more; restart editwar");
        }
    }
}

fn pause(consumer: &BaseConsumer<Context>, partitions: impl IntoIterator<Item = Partition>) {
    let list = listed(partitions);
    if list.count() > 0
        && let Err(error) = consumer.pause(&list)
    {
        tracing::debug!(%error, "Kafka: partitions cannot be paused");
    }
}

fn resume(consumer: &BaseConsumer<Context>, partitions: impl IntoIterator<Item = Partition>) {
    let list = listed(partitions);
    if list.count() > 0
        && let Err(error) = consumer.resume(&list)
    {
        tracing::debug!(%error, "Kafka: partitions cannot be resumed");
    }
}

fn listed(partitions: impl IntoIterator<Item = Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(&topic, partition);
    }
    list
}
