//! The intake: live sources pass bytes with audit events to it. It decodes them once, makes the writes durable,
//! observes the events, and publishes what they changed, in this order. Writes are only observed once they are durable. With a
//! log that replicas share, the reader of the log observes them.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::convert::ConvertingReader;
use super::decompress;
use crate::audit::decoded_chunk::DecodedChunk;
use crate::audit::event::Micros;
use crate::detect::object::ObjectState;
use crate::detect::verdict::{Confidence, State};
use crate::detect::write::classify_write;
use crate::journal::append::Append;
use crate::journal::committer::Unavailable;
use crate::journal::record::{Arrival, Record};
use crate::notify::turn::Turn;
use crate::notify::{Changes, Sinks};
use crate::pipeline::coverage::Doubts;
use crate::pipeline::key::ObjectKey;
use crate::pipeline::{Batch, Pipeline, dedupe};
use crate::telemetry::metrics::Metrics;
use crate::util::clock;

/// Bodies up to this size are decoded on the async thread, which takes well below a millisecond. 400 events at Metadata
/// have 340 kB.
const AT_ONCE_BYTES: usize = 512 << 10;
/// Maximum number of decoded events of one body that are in memory at once. kube-apiserver sends 400 by default.
const EVENTS_MAX: usize = 16 << 10;

/// Maximum time between two samples of the times of events, in microseconds. If there is more, all times are looked at.
const SAMPLED_WITHIN: u64 = 60_000_000;

/// Number of bytes of converted lines that are decoded at once.
const PART_BYTES: usize = 1 << 20;

/// Where events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The cluster.
    pub cluster: &'a str,
    /// The source: the address of an API server, or the path of a log.
    pub source: &'a str,
}

/// The path of events from the sources to the sinks, shared by all sources of a server.
#[derive(Clone)]
pub struct Intake {
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
    journal: Option<Arc<dyn Append>>,
    /// Whether this replica leads, if all of them read the writes from the journal and observe them in that order.
    turn: Option<Arc<dyn Turn>>,
    sinks: Sinks,
    /// Limits concurrent decoding to the number of cores. More threads would only use more memory.
    decoders: Arc<Semaphore>,
}

// === impl Intake ===

impl Intake {
    /// Creates an intake without a journal.
    pub fn new(pipeline: Arc<Pipeline>, metrics: Metrics, sinks: Sinks) -> Intake {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Intake { pipeline, metrics, journal: None, turn: None, sinks, decoders: Arc::new(Semaphore::new(cores)) }
    }

    /// Stores every write in the journal before it is observed.
    pub fn with_journal(self, journal: Option<Arc<dyn Append>>) -> Intake {
        Intake { journal, ..self }
    }

    /// Stores every write in a log that replicas share, and leaves it to the reader of the log to observe it.
    pub(crate) fn with_log(self, log: Arc<dyn Append>, turn: Arc<dyn Turn>) -> Intake {
        Intake { journal: Some(log), turn: Some(turn), ..self }
    }

    /// Returns whether there may be other replicas.
    pub(super) fn is_replicated(&self) -> bool {
        self.turn.is_some()
    }

    /// Returns whether this replica passes on what all of them would find by themselves.
    pub(super) fn leads(&self) -> bool {
        self.turn.as_ref().is_none_or(|turn| turn.is_mine(Duration::ZERO))
    }

    /// Returns the objects of a cluster over which there is a war, or may be one.
    pub(crate) fn contested(&self, cluster: &str) -> BTreeSet<ObjectKey> {
        let is_contested = |state: &ObjectState| {
            let worst = state.history().and_then(|history| history.analysis().worst(Confidence::Possible));
            worst.is_some_and(|war| war.tally.state() != State::Calm)
        };
        let table = self.pipeline.table();
        let keys = table.notable().into_iter().filter(|key| key.cluster() == cluster);
        keys.filter(|key| table.with(key, is_contested) == Some(true)).collect()
    }

    /// Records that a watch has missed revisions until this time.
    pub(crate) fn record_missed(&self, until: Micros) {
        self.pipeline.record_missed(until);
    }

    /// Checks whether events are accepted at the moment.
    ///
    /// # Errors
    /// [`Unavailable`] if writes cannot be stored.
    pub fn check(&self) -> Result<(), Unavailable> {
        self.journal.as_ref().map_or(Ok(()), |journal| journal.check().map_err(|_| Unavailable))
    }

    /// Ingests the body of a request. On `Ok`, its writes are durable, if there is a journal, and its events are
    /// observed. Returns the number of events, malformed ones included.
    ///
    /// `reserve` reserves memory for the decoded events, in bytes, and returns `false` if there is not enough. In that
    /// case no other body is decoded on this core until the journal has stored the events.
    ///
    /// # Errors
    /// [`Unavailable`] if the writes cannot be stored. If the same body is sent again, none of its events counts twice.
    pub async fn ingest_body(
        &self,
        origin: Origin<'_>,
        body: &[u8],
        reserve: impl FnOnce(usize) -> bool,
    ) -> Result<u64, Unavailable> {
        let decode = || -> Result<(DecodedChunk<'_>, bool), Unavailable> {
            let mut stored = Ok(());
            let timer = self.metrics.batch_decode_duration.start_timer();
            let chunk = if is_long(body) {
                DecodedChunk::of_values_in_parts(body, EVENTS_MAX, |part| {
                    if stored.is_ok() {
                        stored = self.ingest_blocking(origin, part);
                    }
                })
            } else {
                DecodedChunk::of_values(body)
            };
            timer.observe_duration();
            stored?;
            let may_wait = reserve(chunk.bytes());
            if !may_wait {
                tokio::task::block_in_place(|| self.ingest_blocking(origin, &chunk))?;
            }
            Ok((chunk, may_wait))
        };
        let (chunk, is_left) = self.computing(body, decode).await?;
        if !is_left {
            return Ok(chunk.positions);
        }
        if let Some(journal) = &self.journal {
            let records = self.computing(body, || self.records(origin, &chunk, journal.record_bytes_max())).await;
            let span = tracing::debug_span!("journal", records = records.len());
            journal.append(records).instrument(span).await?;
        }
        self.computing(body, || self.observe(origin, &chunk)).await;
        Ok(chunk.positions)
    }

    /// Ingests lines of a log. On `Ok`, their writes are durable, if there is a journal, and their events are observed.
    /// Must not be called from async code.
    ///
    /// # Errors
    /// [`Unavailable`] if the writes cannot be stored. The lines have no effect then.
    pub fn ingest_lines(&self, origin: Origin<'_>, lines: &[u8]) -> Result<(), Unavailable> {
        let timer = self.metrics.batch_decode_duration.start_timer();
        let chunk = DecodedChunk::of(lines, false, Vec::new());
        timer.observe_duration();
        self.ingest_blocking(origin, &chunk)
    }

    /// Ingests a body that is compressed or has another format than kube-apiserver's own, in parts. Otherwise like
    /// [`Intake::ingest_body`].
    ///
    /// # Errors
    /// [`Unavailable`] if the writes cannot be stored. If the same body is sent again, none of its events counts twice.
    pub(super) async fn ingest_converted(&self, origin: Origin<'_>, body: Vec<u8>) -> Result<u64, Unavailable> {
        let _permit = self.decoders.acquire().await;
        tokio::task::block_in_place(|| {
            let mut events = 0;
            let mut lines = Vec::new();
            let stream = decompress::open(io::Cursor::new(body), Arc::default());
            let mut reader = stream.map(|stream| ConvertingReader::new(Vec::new(), stream.reader));
            loop {
                let start = lines.len();
                lines.resize(start + PART_BYTES, 0);
                let read = match &mut reader {
                    Ok(reader) => reader.read(&mut lines[start..]),
                    Err(_) => Ok(0),
                };
                lines.truncate(start + *read.as_ref().unwrap_or(&0));
                // What cannot be decompressed is counted as malformed.
                let read = read.unwrap_or_else(|error| {
                    tracing::debug!(%error, "a body cannot be decompressed");
                    lines.extend_from_slice(b"\n?\n");
                    0
                });
                let end = match memchr::memrchr(b'\n', &lines) {
                    Some(newline) if read > 0 => newline + 1,
                    _ if read > 0 => continue,
                    _ => lines.len(),
                };
                let timer = self.metrics.batch_decode_duration.start_timer();
                let chunk = DecodedChunk::of(&lines[..end], false, Vec::new());
                timer.observe_duration();
                events += chunk.positions;
                self.ingest_blocking(origin, &chunk)?;
                drop(chunk);
                lines.drain(..end);
                if read == 0 {
                    return Ok(events);
                }
            }
        })
    }

    /// Runs CPU-bound work that is not decoding of events, once a permit is available.
    pub(super) async fn compute<T>(&self, work: impl FnOnce() -> T) -> T {
        let _permit = self.decoders.acquire().await;
        tokio::task::block_in_place(work)
    }

    fn ingest_blocking(&self, origin: Origin<'_>, chunk: &DecodedChunk<'_>) -> Result<(), Unavailable> {
        if let Some(journal) = &self.journal {
            journal.append_blocking(self.records(origin, chunk, journal.record_bytes_max()))?;
        }
        self.observe(origin, chunk);
        Ok(())
    }

    /// Runs CPU-bound work for a body, once a permit is available.
    async fn computing<T>(&self, body: &[u8], work: impl FnOnce() -> T) -> T {
        // The semaphore is never closed; if it were, the work would be done without a permit.
        let _permit = self.decoders.acquire().await;
        if is_long(body) {
            // Moves the other tasks of this thread to another one, which costs more than decoding a small batch.
            tokio::task::block_in_place(work)
        } else {
            work()
        }
    }

    /// Returns the writes of a chunk that are within the configured scope, as journal records. Of one that is too large, the
    /// bodies are left out.
    fn records(
        &self,
        Origin { cluster, source }: Origin<'_>,
        chunk: &DecodedChunk<'_>,
        bytes_max: usize,
    ) -> Vec<Record> {
        let arrival = Arrival { cluster, source, at: clock::now() };
        let record = |event| {
            let write = classify_write(event).ok()?;
            let limits = self.pipeline.policy().limits(&write.object)?;
            // What must not be kept in memory must not be stored on disk either.
            let is_bare = dedupe::omits_body(Some(limits), &write);
            let record = Record::new(arrival, &write, is_bare)?;
            if record.bytes() <= bytes_max {
                return Some(record);
            }
            let bare = Record::new(arrival, &write, true).filter(|record| record.bytes() <= bytes_max);
            if bare.is_none() {
                self.pipeline.batch(cluster, source).count_too_long();
            }
            bare
        };
        let mut records: Vec<Record> = chunk.events.iter().filter_map(record).collect();
        if self.is_replicated() && !chunk.times.is_empty() {
            let has_gap = chunk.times.windows(2).any(|pair| pair[1].abs_diff(pair[0]) > SAMPLED_WITHIN);
            let mut times = if has_gap { chunk.all_times() } else { chunk.times.clone() };
            times.dedup_by_key(|at| *at / 1_000_000);
            records.push(Record::of_times(arrival, &times));
        }
        records
    }

    /// Observes the events of a chunk, and publishes what they changed.
    fn observe(&self, Origin { cluster, source }: Origin<'_>, chunk: &DecodedChunk<'_>) {
        let _span = tracing::debug_span!("observe", events = chunk.events.len()).entered();
        let mut batch = self.pipeline.batch(cluster, source);
        if self.is_replicated() {
            return batch.count_unobserved(chunk);
        }
        batch.ingest(chunk, 0);
        count_wrong_clocks(&self.metrics, &batch);
        self.sinks.publish(&Changes::of(&mut batch));
    }
}

/// Counts the writes of a batch with implausible times, and warns of the first.
pub(super) fn count_wrong_clocks(metrics: &Metrics, batch: &Batch<'_>) {
    for (source, Doubts { future, long_ago }) in batch.doubts() {
        for (time, count) in [("future", future), ("long_ago", long_ago)] {
            let counter = metrics.wrong_clocks.with_label_values(&[time]);
            if count > 0 && counter.get() == 0 {
                tracing::warn!(
                    source,
                    time,
                    "writes have an implausible time and are processed as of now; check the clock of this API server"
                );
            }
            counter.inc_by(count);
        }
    }
}

fn is_long(body: &[u8]) -> bool {
    body.len() > AT_ONCE_BYTES
}
