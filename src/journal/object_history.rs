//! The stored history of one object, replayed into separate pipelines, so that past events are judged by the same
//! engine as live ones.

use super::Error;
use super::reader::Reader;
use super::record::{self, Key};
use super::replay::ingest_entry;
use crate::audit::event::Micros;
use crate::detect::policy::Policy;
use crate::pipeline::key::ObjectKey;
use crate::pipeline::{Bounds, Pipeline};

/// Maximum number of writes of one object that a query reads, and their maximum size in bytes. The latest ones are
/// kept.
const WRITES_MAX: usize = 20_000;
const BYTES_MAX: usize = 64 << 20;
/// Number of writes per page: what a pipeline retains of one object's timeline, minus a reserve for late writes.
const PAGE: usize = 400;
/// Number of writes before a page that are replayed first, so that the previous values of fields are known.
const CONTEXT: usize = 40;

/// The stored writes of one object, in order of time.
#[derive(Clone, Debug)]
pub(crate) struct ObjectHistory {
    texts: Vec<(Micros, Vec<u8>)>,
    /// Start of the covered time: the requested one, or later if there are more writes than a query reads.
    pub since: Micros,
    /// Since when every acknowledged write is included.
    pub complete_since: Micros,
}

// === impl ObjectHistory ===

impl ObjectHistory {
    /// Reads the writes of an object at or after `since`, or the latest of them if there are too many.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn read(reader: &Reader, object: &ObjectKey, since: Micros) -> Result<ObjectHistory, Error> {
        let mut found: Vec<(Key, Vec<u8>)> = Vec::new();
        let mut bytes = 0;
        let mut since = since;
        reader.of(object.as_ref(), since, WRITES_MAX + 1, |key, packed| {
            if found.len() == WRITES_MAX || bytes > BYTES_MAX {
                since = found.last().map_or(since, |(key, _)| key.at().saturating_add(1));
                return false;
            }
            if let Some(text) = record::unpack(packed) {
                bytes += text.len();
                found.push((key, text));
            }
            true
        })?;
        found.reverse();
        let texts = found.into_iter().filter(|(key, _)| key.at() >= since).map(|(k, t)| (k.at(), t)).collect();
        Ok(ObjectHistory { texts, since, complete_since: since.max(reader.complete_since()) })
    }

    /// Returns whether there are no stored writes.
    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Replays all writes and returns the resulting pipeline.
    pub(crate) fn whole(&self, policy: &Policy, object: &ObjectKey) -> Pipeline {
        show(&self.texts, policy, object)
    }

    /// Replays the writes in pages. For each page, returns its start time and the resulting pipeline. Entries before
    /// the start time only provide context for the page's first writes.
    pub(crate) fn pages(&self, policy: &Policy, object: &ObjectKey) -> impl Iterator<Item = (Micros, Pipeline)> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let first = self.texts.get(from)?.0;
            let mut to = (from + PAGE).min(self.texts.len());
            // Writes of the same instant stay on one page.
            while to < self.texts.len() && self.texts[to].0 == self.texts[to - 1].0 {
                to += 1;
            }
            let pipeline = show(&self.texts[from.saturating_sub(CONTEXT)..to], policy, object);
            from = to;
            Some((first, pipeline))
        })
    }
}

fn show(texts: &[(Micros, Vec<u8>)], policy: &Policy, object: &ObjectKey) -> Pipeline {
    let pipeline = Pipeline::new(policy.clone(), Bounds::default());
    if let Some((first, _)) = texts.first() {
        pipeline.table().keep_history(object, *first);
    }
    let entries = || texts.iter().filter_map(|(_, text)| record::entry(text));
    if let Some(first) = entries().next() {
        let mut batch = pipeline.batch(first.cluster, first.source);
        entries().for_each(|entry| ingest_entry(&mut batch, &entry));
        batch.release_all();
    }
    pipeline
}
