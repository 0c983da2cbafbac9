//! The thread that reads the log from the start of the window on, and passes its writes to the pipeline.

use std::panic::{AssertUnwindSafe, catch_unwind};
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
use super::topic::{self, Refusal};
use super::{LogSettings, PARTITION, Reading, Target};
use crate::audit::event::Micros;
use crate::ingest::intake::count_wrong_clocks;
use crate::ingest::kafka::client::{self, Context};
use crate::journal::append::Append as _;
use crate::journal::record::{self, Entry, Record};
use crate::journal::replay;
use crate::notify::Changes;
use crate::pipeline::Transition;
use crate::pipeline::key::ObjectKey;
use crate::util::clock;

/// Maximum time to wait for the first record of a batch.
const POLL: Duration = Duration::from_millis(50);
/// Maximum number of messages, and of their unpacked bytes, that are processed at once.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 8 << 20;
/// How long the brokers may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// The same for a check, during which nothing is read.
const CHECKED_WITHIN: Duration = Duration::from_secs(1);
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
    /// When the end was seen that this replica has reached.
    caught_up_at: Instant,
    /// Whether there was nothing more to read.
    is_at_end: bool,
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
    config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest").set("enable.partition.eof", "true");
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
        caught_up_at: now,
        is_at_end: false,
    };
    let (caught_up, is_caught_up) = oneshot::channel();
    let (ended, has_ended) = oneshot::channel();
    std::thread::Builder::new().name("kafka-log".into()).spawn(move || {
        reader.run(newest, caught_up);
        // The last notices are sent.
        drop(reader);
        let _ = ended.send(());
    })?;
    Ok(Reading { caught_up: is_caught_up, is_stopped, ended: has_ended })
}

// === impl Reader ===

impl Reader {
    fn run(&mut self, newest: Option<Micros>, caught_up: oneshot::Sender<Result<(), String>>) {
        self.set_current(false);
        let mut end = match self.open(newest) {
            Ok(Some(end)) => end,
            Ok(None) => return,
            Err(why) => {
                // The server may have been stopped in the meantime.
                let _ = caught_up.send(Err(why));
                return;
            }
        };
        tracing::info!(topic = self.settings.topic, records = end - self.position, "Kafka: reading the log");
        let mut caught_up = Some(caught_up);
        while !self.is_stopped() {
            if self.position >= end || self.is_at_end {
                // What was written in the meantime, if it is much.
                end = self.end_of_log().unwrap_or(end);
                if (end - self.position <= BATCH as i64 || self.is_at_end)
                    && let Some(caught_up) = caught_up.take()
                {
                    self.go_live(end);
                    let _ = caught_up.send(Ok(()));
                }
            }
            let messages = self.receive();
            self.process(messages);
            self.check_delay();
            if self.is_live && self.target.readiness.is_ready() {
                self.lead.claim();
            }
        }
    }

    /// Prepares the topic and starts to read. Returns the offset after the newest record, or `None` if the server stops.
    ///
    /// # Errors
    /// The reason why the topic cannot be used.
    fn open(&mut self, newest: Option<Micros>) -> Result<Option<i64>, String> {
        let mut failures = 0;
        while !self.is_stopped() {
            // Passes a token to the client, if it authenticates with one.
            drop(self.consumer.poll(Duration::ZERO));
            let prepared = topic::prepare(&self.settings, &self.consumer, &self.target.metrics, &self.handle);
            match prepared.and_then(|()| self.seek(newest).map_err(Refusal::Unreachable)) {
                Ok(end) => return Ok(Some(end)),
                Err(Refusal::Unsuitable(why)) => return Err(why),
                Err(Refusal::Unreachable(error)) => {
                    failures += 1;
                    // A topic that was just created is not known to all brokers at once.
                    if failures == WARN_AFTER {
                        tracing::warn!(%error, "Kafka: the log cannot be read yet; trying again");
                    }
                    std::thread::park_timeout(RETRY);
                }
            }
        }
        Ok(None)
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

    fn end_of_log(&self) -> Option<i64> {
        self.consumer.fetch_watermarks(&self.settings.topic, PARTITION, CHECKED_WITHIN).ok().map(|(_, end)| end)
    }

    /// From now on, changes go to all sinks.
    fn go_live(&mut self, end: i64) {
        self.is_live = true;
        (self.end, self.checked, self.caught_up_at) = (end, Instant::now(), Instant::now());
        let pipeline = self.target.pipeline.clone();
        let now = clock::now();
        let is_old = move |transition: &Transition| {
            let latest = pipeline.latest_of(transition.object.cluster()).map_or(now, |latest| latest.min(now));
            transition.at < latest - replay::MARGIN
        };
        self.target.unpublished.iter().for_each(|unpublished| unpublished.forget_old(&is_old));
        self.set_current(true);
    }

    /// Receives messages. Waits for the first one.
    fn receive(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        let (mut bytes, mut wait) = (0, POLL);
        while messages.len() < BATCH && bytes < BATCH_BYTES {
            let message = match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.is_at_end = true;
                    break;
                }
                // Errors are reported by the context.
                Some(Err(error)) => {
                    tracing::debug!(%error, "Kafka: a record cannot be read yet");
                    break;
                }
            };
            wait = Duration::ZERO;
            self.is_at_end = false;
            self.position = message.offset() + 1;
            match Message::of(&message) {
                Some(message) => {
                    bytes += message.bytes();
                    messages.push(message);
                }
                None => tracing::warn!(offset = message.offset(), "Kafka: the log has a message of another program"),
            }
        }
        messages
    }

    /// Processes messages in their order.
    fn process(&mut self, messages: Vec<Message>) {
        let mut records = Vec::new();
        for message in messages {
            match message {
                Message::Record(record) => records.push(record),
                Message::Notice(notice) => {
                    self.take_in(std::mem::take(&mut records));
                    self.follow(&notice);
                }
            }
        }
        self.take_in(records);
    }

    fn follow(&self, notice: &Notice) {
        match notice {
            Notice::Claim(claim) => self.lead.follow(claim),
            Notice::Published(id) => self.target.unpublished.iter().for_each(|unpublished| unpublished.forget(id)),
            Notice::Resumed { object, at } => self.target.pipeline.resume(&ObjectKey::from(object.as_str()), *at),
        }
    }

    /// Stores records on the local disk, and observes them.
    fn take_in(&mut self, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let entries: Vec<Vec<u8>> = records.iter().filter_map(|record| record::unpack(&record.packed)).collect();
        if let Some(journal) = self.target.journal.clone() {
            // A repeated record replaces itself.
            let writes: Vec<Record> = records.into_iter().filter(Record::is_write).collect();
            while !writes.is_empty() && journal.append_blocking(writes.clone()).is_err() && !self.is_stopped() {
                self.check_delay();
                std::thread::park_timeout(RETRY);
            }
        }
        let entries: Vec<Entry<'_>> = entries.iter().filter_map(|text| record::entry(text)).collect();
        for run in entries.chunk_by(|a, b| a.cluster == b.cluster) {
            // An event that is a defect of editwar must not stop all replicas, again after each start.
            if catch_unwind(AssertUnwindSafe(|| self.observe(run))).is_err() {
                tracing::error!(writes = run.len(), "writes could not be observed; please report this as a defect");
            }
        }
    }

    /// Observes events of one cluster, and publishes what they changed.
    fn observe(&self, run: &[Entry<'_>]) {
        let Target { pipeline, rebuilding, sinks, metrics, .. } = &self.target;
        let sinks = if self.is_live { sinks } else { rebuilding };
        let mut batch = pipeline.batch(run[0].cluster, run[0].source);
        if self.is_live {
            batch.set_live();
        }
        run.iter().for_each(|entry| replay::ingest_entry(&mut batch, entry));
        count_wrong_clocks(metrics, &batch);
        sinks.publish(&Changes::of(&mut batch));
    }

    /// Notes whether this replica is behind the log, or does not know whether it is.
    fn check_delay(&mut self) {
        if !self.is_live || self.checked.elapsed() < CHECK_EVERY {
            return;
        }
        if self.position >= self.end {
            self.caught_up_at = self.checked;
        }
        if let Some(end) = self.end_of_log() {
            (self.end, self.checked) = (end, Instant::now());
        }
        self.set_current(self.caught_up_at.elapsed() < BEHIND_MAX);
    }

    fn set_current(&self, is_current: bool) {
        self.target.readiness.set(is_current);
        self.target.metrics.set_log_current(&self.settings.topic, is_current);
    }
}

/// The thread ends, also by a panic.
impl Drop for Reader {
    fn drop(&mut self) {
        self.set_current(false);
    }
}
