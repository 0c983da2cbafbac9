//! Everything that is kept of one object, shown to pipelines of its own: the same engine tells of last week as of now.

use super::Error;
use super::reader::Reader;
use super::record::{self, Key};
use super::replay::take;
use crate::audit::event::Micros;
use crate::detect::policy::Policy;
use crate::pipeline::key::ObjectKey;
use crate::pipeline::{Bounds, Pipeline};

/// Writes of one object that one question may bring up, and bytes of them: the latest.
const WRITES_MAX: usize = 20_000;
const BYTES_MAX: usize = 64 << 20;
/// Writes of one object that a pipeline keeps to be shown, less some that come late.
const PAGE: usize = 400;
/// Writes before a page that it is told of, to know what fields were before.
const CONTEXT: usize = 40;

/// One object's kept writes, in the order of time.
#[derive(Clone, Debug)]
pub struct Past {
    texts: Vec<(Micros, Vec<u8>)>,
    /// The first instant that was looked at: the one asked for, or where there were more writes than one answer shows.
    pub since: Micros,
    /// From when on every acknowledged write is here.
    pub complete_since: Micros,
}

// === impl Past ===

impl Past {
    /// The writes of an object at or after `since`, or the latest of them.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(reader: &Reader, object: &ObjectKey, since: Micros) -> Result<Past, Error> {
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
        Ok(Past { texts, since, complete_since: since.max(reader.complete_since()) })
    }

    /// Whether nothing is kept of it.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// What the engine makes of all of it.
    pub fn whole(&self, policy: &Policy, object: &ObjectKey) -> Pipeline {
        show(&self.texts, policy, object)
    }

    /// The writes in pages: what the engine makes of each, and from when on the page counts. What is before that is there
    /// so that the page's first writes are understood.
    pub fn pages(&self, policy: &Policy, object: &ObjectKey) -> impl Iterator<Item = (Micros, Pipeline)> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let first = self.texts.get(from)?.0;
            let mut to = (from + PAGE).min(self.texts.len());
            // Writes of the same instant stay together.
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
        pipeline.table().follow(object, *first);
    }
    let entries = || texts.iter().filter_map(|(_, text)| record::entry(text));
    if let Some(first) = entries().next() {
        let mut batch = pipeline.batch(first.cluster, first.source);
        entries().for_each(|entry| take(&mut batch, &entry));
    }
    pipeline
}
