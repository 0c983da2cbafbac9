//! The thread that reads the log from the start of the window on, and passes its writes to the pipeline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::lead::Lead;
use super::message::{Message, Notice};
use super::producer::PARTITION;
use super::topic::{self, Refusal};
use super::{LogSettings, Reading, Target};
use crate::audit::event::Micros;
use crate::ingest::intake::count_wrong_clocks;
use crate::ingest::kafka::client::{self, Context};
use crate::journal::append::Append as _;
use crate::journal::record::{self, Entry, Record};
use crate::journal::replay;
use crate::notify::Changes;
use crate::util::clock;

/// Maximum time to wait for the first record of a batch.
const POLL: Duration = Duration::from_millis(50);
/// Maximum number of records, and of their bytes, that are observed at once.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 4 << 20;
/// How long the brokers may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// Delay before the brokers are asked again, or the disk is written again.
const RETRY: Duration = Duration::from_secs(1);
/// Number of failed attempts after which a warning is logged.
const WARN_AFTER: usize = 3;
/// Interval of checks whether this replica is behind the log.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How far a replica may be behind the log to be ready: by the records that it does not read within that time.
const BEHIND_MAX: Duration = Duration::from_secs(30);

struct Reader {
    consumer: BaseConsumer<Context>,
    settings: LogSettings,
    lead: Arc<Lead>,
    target: Target,
    is_stopped: Arc<AtomicBool>,
    handle: Handle,
    /// The offset after the last record that was observed.
    position: i64,
    /// Whether the records that were in the log at the start have been observed.
    is_live: bool,
    /// The end of the log at the latest check.
    end: i64,
    /// When that was.
    checked: Instant,
    /// Since when this replica has everything that was in the log then.
    current: Instant,
}

/// Starts the thread.
///
/// # Errors
/// The thread cannot be started, or the settings are not accepted.
pub(super) fn start(
    settings: LogSettings,
    lead: Arc<Lead>,
    target: Target,
    newest: Option<Micros>,
) -> anyhow::Result<Reading> {
    let mut config = client::consumer_config(&settings.kafka)?;
    // Every replica reads everything, and knows by itself where to start.
    config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    let context = Context::new(&settings.kafka, target.metrics.clone());
    let consumer: BaseConsumer<Context> = config.create_with_context(context)?;
    let is_stopped = Arc::new(AtomicBool::default());
    let now = Instant::now();
    let flag = is_stopped.clone();
    let mut reader = Reader {
        consumer,
        settings,
        lead,
        target,
        is_stopped: flag,
        handle: Handle::current(),
        position: 0,
        is_live: false,
        end: 0,
        checked: now,
        current: now,
    };
    let (caught_up, is_caught_up) = oneshot::channel();
    let (ended, has_ended) = oneshot::channel();
    std::thread::Builder::new().name("kafka-log".into()).spawn(move || {
        reader.run(newest, caught_up);
        let _ = ended.send(());
    })?;
    Ok(Reading { caught_up: is_caught_up, is_stopped, ended: has_ended })
}

// === impl Reader ===

impl Reader {
    fn run(&mut self, newest: Option<Micros>, caught_up: oneshot::Sender<Result<(), String>>) {
        self.set_current(false);
        let mut failures = 0;
        let end = loop {
            if self.is_stopped() {
                return;
            }
            match topic::prepare(&self.settings, &self.target.metrics, &self.handle)
                .and_then(|()| self.seek(newest).map_err(Refusal::Unreachable))
            {
                Ok(end) => break end,
                Err(Refusal::Unsuitable(why)) => {
                    let _ = caught_up.send(Err(why));
                    return;
                }
                Err(Refusal::Unreachable(error)) => {
                    failures += 1;
                    // A topic that was just created is not known to all brokers at once.
                    if failures == WARN_AFTER {
                        tracing::warn!(%error, "Kafka: the log cannot be read yet; trying again");
                    }
                    self.wait();
                }
            }
        };
        let start = self.position;
        tracing::info!(topic = self.settings.topic, records = end - start, "Kafka: reading the log");
        let mut caught_up = Some(caught_up);
        // The time of the latest write.
        let mut latest = Micros::MIN;
        while !self.is_stopped() {
            if self.position >= end
                && let Some(caught_up) = caught_up.take()
            {
                self.is_live = true;
                self.end = end;
                self.target
                    .published
                    .iter()
                    .for_each(|published| published.forget_before(latest.saturating_sub(replay::MARGIN)));
                self.set_current(true);
                // The server may have been stopped in the meantime.
                let _ = caught_up.send(Ok(()));
            }
            let (records, notices) = self.receive();
            latest =
                records.iter().filter(|record| record.is_write()).map(|record| record.key.at()).fold(latest, i64::max);
            self.store(&records);
            self.observe(&records);
            notices.iter().for_each(|notice| self.follow(notice));
            self.check_delay();
            if self.is_live {
                self.lead.claim();
            }
        }
    }

    fn wait(&self) {
        self.handle.block_on(async { tokio::time::sleep(RETRY).await });
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Starts to read at the oldest record that is needed. Returns the offset after the newest record.
    fn seek(&mut self, newest: Option<Micros>) -> Result<i64, KafkaError> {
        let topic = self.settings.topic.as_str();
        let (low, high) = self.consumer.fetch_watermarks(topic, PARTITION, ANSWERED_WITHIN)?;
        let since = clock::now() - self.settings.window;
        let since = match (&self.target.journal, newest) {
            (None, _) => Some(since),
            (Some(_), Some(newest)) => Some(since.min(newest - replay::MARGIN)),
            // An empty disk gets everything.
            (Some(_), None) => None,
        };
        self.position = match since {
            None => low,
            Some(since) => {
                let mut wanted = TopicPartitionList::new();
                wanted.add_partition_offset(topic, PARTITION, Offset::Offset(since.max(0) / 1_000))?;
                let found = self.consumer.offsets_for_times(wanted, ANSWERED_WITHIN)?;
                match found.find_partition(topic, PARTITION).map(|found| found.offset()) {
                    Some(Offset::Offset(offset)) => offset,
                    // There is nothing so recent.
                    _ => high,
                }
            }
        };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, PARTITION, Offset::Offset(self.position))?;
        self.consumer.assign(&list)?;
        Ok(high)
    }

    /// Receives messages. Waits for the first one.
    fn receive(&mut self) -> (Vec<Record>, Vec<Notice>) {
        let (mut records, mut notices) = (Vec::new(), Vec::new());
        let (mut bytes, mut wait) = (0, POLL);
        while records.len() < BATCH && bytes < BATCH_BYTES && notices.len() < BATCH {
            let message = match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => message,
                // Errors are reported by the context.
                Some(Err(error)) => {
                    tracing::debug!(%error, "Kafka: a record cannot be read yet");
                    break;
                }
            };
            wait = Duration::ZERO;
            self.position = message.offset() + 1;
            match Message::of(&message) {
                Some(Message::Record(record)) => {
                    bytes += record.bytes();
                    records.push(record);
                }
                Some(Message::Notice(notice)) => notices.push(notice),
                None => tracing::warn!(offset = message.offset(), "Kafka: the log has a message of another program"),
            }
        }
        (records, notices)
    }

    /// Follows notices. They are about writes before them, which have been observed.
    fn follow(&self, notice: &Notice) {
        match notice {
            Notice::Claim(claim) => self.lead.read(claim),
            Notice::Published(id) => self.target.published.iter().for_each(|published| published.forget(id)),
        }
    }

    /// Stores the writes on the local disk. A repeated record replaces itself.
    fn store(&self, records: &[Record]) {
        let Some(journal) = &self.target.journal else { return };
        let writes: Vec<Record> = records.iter().filter(|record| record.is_write()).cloned().collect();
        while !writes.is_empty() && journal.append_blocking(writes.clone()).is_err() && !self.is_stopped() {
            self.wait();
        }
    }

    /// Observes records, and publishes what they changed.
    fn observe(&self, records: &[Record]) {
        let Target { pipeline, state, sinks, metrics, .. } = &self.target;
        let sinks = if self.is_live { sinks } else { state };
        let texts: Vec<Vec<u8>> = records.iter().filter_map(|record| record::unpack(&record.packed)).collect();
        let entries: Vec<Entry<'_>> = texts.iter().filter_map(|text| record::entry(text)).collect();
        for run in entries.chunk_by(|a, b| a.cluster == b.cluster) {
            let mut batch = pipeline.batch(run[0].cluster, run[0].source);
            for entry in run {
                replay::ingest_entry(&mut batch, entry);
                metrics.set_last_batch(entry.cluster, entry.source, clock::now_seconds());
            }
            count_wrong_clocks(metrics, &batch);
            sinks.publish(&Changes::of(&mut batch));
        }
    }

    /// Notes whether this replica is behind the log, or does not know whether it is.
    fn check_delay(&mut self) {
        if !self.is_live || self.checked.elapsed() < CHECK_EVERY {
            return;
        }
        if self.position >= self.end {
            self.current = self.checked;
        }
        if let Ok((_, end)) = self.consumer.fetch_watermarks(&self.settings.topic, PARTITION, POLL * 20) {
            (self.end, self.checked) = (end, Instant::now());
        }
        self.set_current(self.current.elapsed() < BEHIND_MAX);
    }

    fn set_current(&self, is_current: bool) {
        self.target.readiness.set(is_current);
        self.target.metrics.set_log_current(&self.settings.topic, is_current);
    }
}
