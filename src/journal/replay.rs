//! Replays stored writes into a pipeline: the recent window at a start, or the history of one object for a query.

use super::Error;
use super::reader::Reader;
use super::record::{self, Entry};
use crate::audit::envelope;
use crate::audit::event::Micros;
use crate::detect::policy::Policy;
use crate::pipeline::{Batch, Pipeline, ThrashingEvent, Transition};

/// Time added to the longest window, within which an event may arrive late or again. A replay of window and margin
/// finds every transition that happened live.
pub const MARGIN: Micros = 15 * 60 * 1_000_000;
/// Number of records that are replayed between two calls of `tell`.
const RUN: usize = 1000;

/// Returns how far back events can influence the verdicts of this policy, in microseconds.
pub fn window(policy: &Policy) -> Micros {
    let all = std::iter::once(&policy.limits).chain(policy.overrides.iter().map(|o| &o.limits));
    let longest = all.flat_map(|limits| {
        let buckets = limits.buckets.iter().map(|bucket| bucket.window());
        buckets.chain([limits.window(), limits.contention.window(), limits.quiet, limits.quiet_max])
    });
    longest.max().unwrap_or(0).saturating_add(MARGIN)
}

/// Replays all records at or after `since` into `pipeline`, and passes the resulting thrashing events and transitions
/// to `tell`. Returns the number of records.
///
/// # Errors
/// [`Error`].
pub fn replay(
    reader: &Reader,
    since: Micros,
    pipeline: &Pipeline,
    mut tell: impl FnMut(&[ThrashingEvent], &[Transition]),
) -> Result<u64, Error> {
    let mut texts = Vec::with_capacity(RUN);
    let mut count = 0;
    let mut show = |texts: &mut Vec<Vec<u8>>| {
        let entries: Vec<Entry<'_>> = texts.iter().filter_map(|text| record::entry(text)).collect();
        for run in entries.chunk_by(|a, b| a.cluster == b.cluster) {
            let mut batch = pipeline.batch(run[0].cluster, run[0].source);
            run.iter().for_each(|entry| take(&mut batch, entry));
            batch.pass_time();
            tell(&batch.thrashes, &batch.transitions);
        }
        texts.clear();
    };
    reader.since(since, |_, packed| {
        texts.extend(record::unpack(packed));
        count += 1;
        if texts.len() == RUN {
            show(&mut texts);
        }
    })?;
    show(&mut texts);
    Ok(count)
}

/// Ingests one stored event.
pub(super) fn take<'p>(batch: &mut Batch<'p>, entry: &Entry<'p>) {
    batch.from(entry.source);
    if let Some(at) = entry.arrived {
        batch.arrived(at);
    }
    envelope::line(entry.event, |event| batch.take(event, 1));
    batch.lines(entry.event);
}
