//! Replays stored writes into a pipeline: the recent window at startup, or the history of one object for a query.

use super::Error;
use super::reader::Reader;
use super::record::{self, Entry};
use crate::audit::decoded_chunk::DecodedChunk;
use crate::audit::event::Micros;
use crate::detect::policy::Policy;
use crate::notify::Changes;
use crate::pipeline::{Batch, Pipeline};

/// Time added to the longest window, for events that arrive late or again. A replay of the window and this margin finds
/// every transition that happened live.
pub const MARGIN: Micros = 15 * 60 * 1_000_000;
/// Maximum number of records that are replayed between two calls of `publish`, and of their bytes, unless a single one has more.
const RUN: usize = 1000;
const RUN_BYTES: usize = 8 << 20;

/// Returns how far back events can influence the verdicts of this policy, in microseconds.
pub fn window(policy: &Policy) -> Micros {
    let all = std::iter::once(&policy.limits).chain(policy.overrides.iter().map(|o| &o.limits));
    let longest = all.flat_map(|limits| {
        let buckets = limits.buckets.iter().map(|bucket| bucket.window());
        buckets.chain([limits.window(), limits.contention.window(), limits.quiet_period, limits.quiet_period_max])
    });
    longest.max().unwrap_or(0).saturating_add(MARGIN)
}

/// Replays all records at or after `since` into `pipeline`, and passes the resulting changes to `publish`. Returns the
/// number of records.
///
/// # Errors
/// [`Error`].
pub fn replay(
    reader: &Reader,
    since: Micros,
    pipeline: &Pipeline,
    mut publish: impl FnMut(&Changes<'_>),
) -> Result<u64, Error> {
    let mut texts = Vec::with_capacity(RUN);
    let (mut count, mut bytes) = (0, 0);
    let mut show = |texts: &mut Vec<Vec<u8>>| {
        let entries: Vec<Entry<'_>> = texts.iter().filter_map(|text| record::entry(text)).collect();
        for run in entries.chunk_by(|a, b| a.cluster == b.cluster) {
            let mut batch = pipeline.batch(run[0].cluster, run[0].source);
            run.iter().for_each(|entry| ingest_entry(&mut batch, entry));
            publish(&Changes::of(&mut batch));
        }
        texts.clear();
    };
    reader.since(since, |_, packed| {
        texts.extend(record::unpack(packed));
        count += 1;
        bytes += record::unpacked_bytes(packed);
        if texts.len() == RUN || bytes >= RUN_BYTES {
            show(&mut texts);
            bytes = 0;
        }
    })?;
    show(&mut texts);
    Ok(count)
}

/// Ingests one stored event.
pub(crate) fn ingest_entry<'p>(batch: &mut Batch<'p>, entry: &Entry<'p>) {
    batch.set_source(entry.source);
    if let Some(at) = entry.arrived {
        batch.set_arrival(at);
    }
    let chunk = match entry.times() {
        Some(times) => DecodedChunk::of_times(times),
        None => DecodedChunk::of(entry.event, false, Vec::new()),
    };
    batch.ingest(&chunk, 0);
}
