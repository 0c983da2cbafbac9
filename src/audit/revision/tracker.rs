//! Follows the objects of one resource from revision to revision, and makes the events of their writes.
//!
//! Two watches may show the same revision: one of the metadata of all objects, and one with the values of a single object.
//! Whichever comes first determines who made it; the other one finds the answer here. An event with values replaces the one
//! without, because both have the same revision.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;
use serde_json::value::RawValue;

use super::event::{Change, Revision, Values};
use super::managed_fields::{
    Authorship, Entry, Manager, authorship, difference, intersection, is_empty, repeated_author, union,
};
use super::{Kind, Metadata, Resource};
use crate::audit::event::Micros;

/// Number of latest revisions of an object whose authors are kept for the other watch.
const REVISIONS_KEPT: usize = 16;
/// Times of managers have whole seconds. A revision is dated within that second, at the time when it was seen if possible.
const SECOND: Micros = 1_000_000;
/// How far back an earlier write of a manager that has lost fields is reported. Retakes after a longer time do not count.
const EARLIER_MAX: Micros = 6 * 3600 * SECOND;

/// The objects of one resource that have changed since the watch began.
#[derive(Debug)]
pub(crate) struct Tracker {
    resource: Resource,
    objects: BTreeMap<Box<str>, Object>,
    /// The uids of the objects, with the least recently changed first.
    order: VecDeque<(u64, Box<str>)>,
    /// Number of changes so far.
    changes: u64,
    bytes: usize,
    bytes_max: usize,
}

/// One object.
#[derive(Debug)]
struct Object {
    metadata: Metadata,
    /// The authors of the latest revisions.
    revisions: VecDeque<Written>,
    /// The fields that each manager is known to have written, from events.
    known: BTreeMap<Manager, Value>,
    last_at: Micros,
    /// The number of the change that moved it to the end of the order.
    changed: u64,
    bytes: usize,
}

/// Who made a revision.
#[derive(Debug)]
struct Written {
    revision: u64,
    change: Change,
    author: Option<Authorship>,
    at: Micros,
    has_event: bool,
    has_values: bool,
    bytes: usize,
}

/// One event of a watch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// What happened.
    pub kind: Kind,
    /// The object's metadata.
    pub metadata: &'a Metadata,
    /// The object, if the watch shows its values.
    pub object: Option<&'a RawValue>,
    /// When the event was received.
    pub at: Micros,
}

/// What a revision shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    /// Whether an event was made.
    pub is_write: bool,
    /// Whether it is not known who made the revision.
    pub is_unknown: bool,
    /// Whether a manager took over fields from another one: the values of this object are worth watching.
    pub is_takeover: bool,
}

// === impl Tracker ===

impl Tracker {
    /// Returns a tracker that keeps objects of at most this size; beyond it, those that changed least recently are
    /// forgotten.
    pub(crate) fn new(resource: Resource, bytes_max: usize) -> Tracker {
        Tracker { resource, objects: BTreeMap::new(), order: VecDeque::new(), changes: 0, bytes: 0, bytes_max }
    }

    /// Appends the events of a revision to `lines`. Events without values are left out if `is_promoted`, because the watch
    /// of the single object will deliver the revision with values.
    pub(crate) fn observe(&mut self, seen: &Seen<'_>, is_promoted: bool, lines: &mut Vec<u8>) -> Observation {
        match seen.kind {
            Kind::Added | Kind::Modified => self.write(seen, is_promoted, lines),
            Kind::Deleted => self.delete(seen, lines),
            Kind::Bookmark | Kind::Error => Observation::default(),
        }
    }

    /// Appends the event of the revision before those that the watch of an object's values will show, so that their values
    /// can be compared with it.
    pub(crate) fn base(&mut self, object: &RawValue, lines: &mut Vec<u8>) {
        let Some(metadata) = Metadata::of(object) else { return };
        let revision = metadata.revision();
        let Some(known) = self.objects.get_mut(&metadata.uid) else { return };
        let index = known.revisions.partition_point(|written| written.revision < revision);
        if known.revisions.get(index).is_none_or(|written| written.revision != revision) {
            // It was written before the watch began: its author is not looked for.
            let times = metadata.managed_fields.iter().filter_map(Entry::at);
            let next = known.revisions.get(index).map_or(i64::MAX, |written| written.at);
            let at = times.max().unwrap_or(0).min(next);
            let (change, has_event, has_values) = (Change::Modify, false, false);
            let bytes = size_of::<Written>();
            known.revisions.insert(index, Written { revision, change, author: None, at, has_event, has_values, bytes });
        }
        known.repeat(&self.resource, &metadata, Some(object), lines);
    }

    /// Appends the events of the revisions that were left out because their values were expected, but did not come.
    pub(crate) fn without_values(&mut self, uid: &str, lines: &mut Vec<u8>) {
        let Some(known) = self.objects.get_mut(uid) else { return };
        for written in known.revisions.iter_mut().filter(|written| written.is_awaited()) {
            written.has_event = true;
            written.tell(&self.resource, &known.metadata, lines);
        }
    }

    fn write(&mut self, seen: &Seen<'_>, is_promoted: bool, lines: &mut Vec<u8>) -> Observation {
        let Seen { kind, metadata, object, at } = *seen;
        let revision = metadata.revision();
        let known = self.objects.get_mut(&metadata.uid);
        if let Some(known) = known
            && revision <= known.metadata.revision()
        {
            // The other watch was faster, or the watch was started again.
            return known.repeat(&self.resource, metadata, object, lines);
        }
        if object.is_some() && !self.objects.contains_key(&metadata.uid) {
            // It was deleted or forgotten in the meantime. Only the watch of all objects begins with new ones.
            return Observation::default();
        }
        let change = if kind == Kind::Added { Change::Create } else { Change::Modify };
        let before = self.objects.remove(&metadata.uid);
        // The first revision that is seen of an existing object is only the base of the comparison.
        let is_base = before.is_none() && change == Change::Modify;
        let before_entries = before.as_ref().map_or(&[][..], |known| &known.metadata.managed_fields);
        let entries = &metadata.managed_fields;
        let is_marked =
            before.as_ref().is_some_and(|known| known.metadata.deletion_timestamp != metadata.deletion_timestamp);
        let author = (!is_base).then(|| authorship(before_entries, entries)).flatten();
        let author =
            author.or_else(|| (!is_base && !is_marked).then(|| repeated_author(before_entries, entries, at)).flatten());
        let mut next = match before {
            Some(known) => known,
            None => Object::new(metadata.clone()),
        };
        self.bytes -= next.bytes;
        let at = author.as_ref().and_then(|author| author.at).map_or(at, |time| at.clamp(time, time + SECOND - 1));
        let at = next.last_at.max(at);
        // The time at which a base was written is not known.
        next.last_at = if is_base { next.last_at } else { at };
        let mut observation = Observation { is_unknown: author.is_none() && !is_base, ..Observation::default() };
        let this = Revision { resource: &self.resource, metadata, at, seen: seen.at };
        // Also without an author, it shows that there was a write.
        let is_silent = object.is_none() && is_promoted;
        if let Some(author) = &author {
            observation.is_takeover = change == Change::Modify && !author.lost.is_empty();
            if change == Change::Modify {
                next.earlier_writes(author, &this, lines);
            }
            next.learn(author);
        }
        if !is_silent {
            let continues = next.revisions.back().is_some_and(|before| before.has_values);
            let values = object.map(|object| Values { object, continues });
            this.write(change, author.as_ref(), values, lines);
            observation.is_write = true;
        }
        let has_event = !is_silent;
        next.metadata = metadata.clone();
        let bytes = size_of::<Written>() + author.as_ref().map_or(0, bytes_of);
        let has_values = object.is_some();
        next.revisions.push_back(Written { revision, change, author, at, has_event, has_values, bytes });
        if next.revisions.len() > REVISIONS_KEPT {
            if let Some(written) = next.revisions.pop_front().filter(Written::is_awaited) {
                written.tell(&self.resource, &next.metadata, lines);
            }
            next.forget_lost();
        }
        self.keep(next);
        observation
    }

    /// Makes the event of a deletion. Both watches show it; that of all objects counts.
    fn delete(&mut self, seen: &Seen<'_>, lines: &mut Vec<u8>) -> Observation {
        if seen.object.is_some() {
            return Observation::default();
        }
        self.without_values(&seen.metadata.uid, lines);
        let known = self.objects.remove(&seen.metadata.uid);
        self.bytes -= known.as_ref().map_or(0, |known| known.bytes);
        let at = known.map_or(seen.at, |known| known.last_at.max(seen.at));
        Revision { resource: &self.resource, metadata: seen.metadata, at, seen: at }.deletion(lines);
        Observation { is_write: true, ..Observation::default() }
    }

    fn keep(&mut self, mut object: Object) {
        self.changes += 1;
        object.changed = self.changes;
        object.bytes = object.measure();
        self.bytes += object.bytes;
        let uid = object.metadata.uid.clone();
        self.order.push_back((object.changed, uid.clone()));
        self.objects.insert(uid, object);
        while self.bytes > self.bytes_max {
            let Some((changed, uid)) = self.order.pop_front() else { break };
            let is_oldest = self.objects.get(&uid).is_some_and(|object| object.changed == changed);
            if let Some(object) = is_oldest.then(|| self.objects.remove(&uid)).flatten() {
                self.bytes -= object.bytes;
            }
        }
        if self.order.len() > 2 * self.objects.len() + REVISIONS_KEPT {
            let objects = &self.objects;
            self.order.retain(|(changed, uid)| objects.get(uid).is_some_and(|object| object.changed == *changed));
        }
    }
}

// === impl Written ===

impl Written {
    /// Whether its event was left out because its values are expected.
    fn is_awaited(&self) -> bool {
        !self.has_event && self.author.is_some()
    }

    /// Appends its event, without values.
    fn tell(&self, resource: &Resource, metadata: &Metadata, lines: &mut Vec<u8>) {
        let metadata = Metadata { resource_version: self.revision.to_string().into(), ..metadata.clone() };
        let this = Revision { resource, metadata: &metadata, at: self.at, seen: self.at };
        this.write(self.change, self.author.as_ref(), None, lines);
    }
}

// === impl Object ===

impl Object {
    fn new(metadata: Metadata) -> Object {
        Object { metadata, revisions: VecDeque::new(), known: BTreeMap::new(), last_at: i64::MIN, changed: 0, bytes: 0 }
    }

    /// Handles a revision that was seen before. If it now has values, its event is made again, with them.
    fn repeat(
        &mut self,
        resource: &Resource,
        metadata: &Metadata,
        object: Option<&RawValue>,
        lines: &mut Vec<u8>,
    ) -> Observation {
        let revision = metadata.revision();
        let index = self.revisions.iter().position(|written| written.revision == revision);
        let (Some(index), Some(object)) = (index, object) else { return Observation::default() };
        let continues = index.checked_sub(1).is_some_and(|before| self.revisions[before].has_values);
        let written = &mut self.revisions[index];
        if written.has_values {
            return Observation::default();
        }
        (written.has_event, written.has_values) = (true, true);
        let this = Revision { resource, metadata, at: written.at, seen: written.at };
        this.write(written.change, written.author.as_ref(), Some(Values { object, continues }), lines);
        Observation { is_write: true, is_unknown: written.author.is_none(), is_takeover: false }
    }

    /// Makes the events of writes that are only known because the fields that they had set are lost now.
    fn earlier_writes(&mut self, author: &Authorship, this: &Revision<'_>, lines: &mut Vec<u8>) {
        for loss in &author.lost {
            let known = self.known.get(&loss.manager);
            let unknown = known.map_or_else(|| loss.fields.clone(), |known| difference(&loss.fields, known));
            let Some(at) = loss.at.filter(|at| *at <= this.at && this.at - *at <= EARLIER_MAX) else { continue };
            if is_empty(&unknown) {
                continue;
            }
            let earlier = super::managed_fields::Loss { fields: unknown.clone(), ..loss.clone() };
            this.earlier_write(&earlier, at, lines);
            let known = self.known.remove(&loss.manager);
            let all = known.map_or(unknown.clone(), |known| union(known, unknown));
            self.known.insert(loss.manager.clone(), all);
        }
    }

    fn learn(&mut self, author: &Authorship) {
        let known = self.known.remove(&author.manager);
        let all = known.map_or_else(|| author.taken.clone(), |known| union(known, author.taken.clone()));
        self.known.insert(author.manager.clone(), all);
    }

    /// Forgets what managers have written that they do not own any more: they can only lose what they own.
    fn forget_lost(&mut self) {
        let entries = &self.metadata.managed_fields;
        let owned = |manager: &Manager| {
            let own = entries.iter().filter(|entry| entry.manager() == *manager);
            own.map(Entry::fields).reduce(union)
        };
        let known = std::mem::take(&mut self.known).into_iter();
        self.known = known
            .filter_map(|(manager, fields)| Some((manager.clone(), intersection(&fields, &owned(&manager)?))))
            .collect();
    }

    fn measure(&self) -> usize {
        // What is known of the managers is at most what their entries have.
        let known = if self.known.is_empty() { 0 } else { PARSED * self.metadata.bytes() };
        size_of::<Object>() + self.metadata.bytes() + known + self.revisions.iter().map(|r| r.bytes).sum::<usize>()
    }
}

/// Approximate bytes of a parsed set for each byte of its text.
const PARSED: usize = 8;

fn bytes_of(author: &Authorship) -> usize {
    let text = |set: &Value| set.to_string().len() * PARSED;
    text(&author.taken) + author.lost.iter().map(|loss| text(&loss.fields)).sum::<usize>()
}

#[cfg(test)]
#[path = "tracker/tests.rs"]
mod tests;
