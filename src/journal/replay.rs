//! The past, shown to a pipeline: the recent window at a start, or everything about one object to who asks.

use super::Error;
use super::reader::Reader;
use super::record::{self, Entry};
use crate::audit::envelope;
use crate::audit::event::Micros;
use crate::detect::policy::Policy;
use crate::pipeline::{Batch, Pipeline, Thrash, Turn};

/// Time beyond the longest window in which an event may come late, or again. Within it, a replay finds every turn that was.
pub const MARGIN: Micros = 15 * 60 * 1_000_000;
/// Records that are shown between two reports of what followed from them.
const RUN: usize = 1000;

/// How far back events matter to the verdicts of this policy.
pub fn window(policy: &Policy) -> Micros {
    let all = std::iter::once(&policy.limits).chain(policy.overrides.iter().map(|o| &o.limits));
    let longest = all.flat_map(|limits| {
        let buckets = limits.buckets.iter().map(|bucket| bucket.window());
        buckets.chain([limits.window(), limits.contention.window(), limits.quiet, limits.quiet_max])
    });
    longest.max().unwrap_or(0).saturating_add(MARGIN)
}

/// Shows all records at or after `since` to `pipeline`; tells what they amount to. The number of records.
///
/// # Errors
/// [`Error`].
pub fn replay(
    reader: &Reader,
    since: Micros,
    pipeline: &Pipeline,
    mut tell: impl FnMut(&[Thrash], &[Turn]),
) -> Result<u64, Error> {
    let mut texts = Vec::with_capacity(RUN);
    let mut count = 0;
    let mut show = |texts: &mut Vec<Vec<u8>>| {
        let entries: Vec<Entry<'_>> = texts.iter().filter_map(|text| record::entry(text)).collect();
        for run in entries.chunk_by(|a, b| a.cluster == b.cluster) {
            let mut batch = pipeline.batch(run[0].cluster, run[0].source);
            run.iter().for_each(|entry| take(&mut batch, entry));
            batch.pass_time();
            tell(&batch.thrashes, &batch.turns);
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

/// Takes in one kept event.
pub(super) fn take<'p>(batch: &mut Batch<'p>, entry: &Entry<'p>) {
    batch.from(entry.source);
    if let Some(at) = entry.arrived {
        batch.arrived(at);
    }
    envelope::line(entry.event, |event| batch.take(event, 1));
    batch.lines(entry.event);
}
