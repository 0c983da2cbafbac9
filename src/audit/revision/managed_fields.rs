//! Compares the `managedFields` of two successive revisions of an object: who made the later one, which fields it took
//! over, and from whom.
//!
//! The API server updates the entry of the manager that writes: its fields, and its time (in seconds). Fields that another
//! manager changes leave the entry. An entry that only lost fields is therefore not that of the writer. A write that only
//! removes fields by an update changes no entry of its writer, whose name is then not known.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::audit::event::{Micros, parse_timestamp};

/// Managers that the API server invents for fields whose manager it does not know. They never write.
const INVENTED: [&str; 2] = ["before-first-apply", "ancient-changes"];
/// Times of managers have whole seconds.
const SECOND: Micros = 1_000_000;
/// How much later than it was written a revision may be seen, and how far apart the clocks may be, to be dated by it.
const DELAY_MAX: Micros = 2 * SECOND;
/// Maximum depth of a set of fields. Kubernetes' own types stay below 20.
const DEPTH_MAX: usize = 64;

/// One entry of `managedFields`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// The manager.
    #[serde(default)]
    pub manager: Box<str>,
    /// `Apply` or `Update`.
    #[serde(default)]
    pub operation: Box<str>,
    /// The version in which the fields are named.
    #[serde(default)]
    pub api_version: Box<str>,
    /// The subresource that was written; empty for the object itself.
    #[serde(default)]
    pub subresource: Box<str>,
    /// When the manager last wrote, in seconds.
    #[serde(default)]
    pub time: Option<Box<str>>,
    /// The set of its fields.
    #[serde(default, rename = "fieldsV1")]
    pub fields: Option<Box<RawValue>>,
}

/// A manager with its operation: who wrote, as far as a watch shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Manager {
    /// The name.
    pub name: Box<str>,
    /// `Apply` or `Update`.
    pub operation: Box<str>,
    /// The subresource that was written; empty for the object itself.
    pub subresource: Box<str>,
}

/// Who made a revision, and what it took over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Authorship {
    /// The manager.
    pub manager: Manager,
    /// When it wrote, in whole seconds.
    pub at: Option<Micros>,
    /// The fields that it did not own before, and that no other manager owns with the same value.
    pub taken: Value,
    /// Those of them that other managers lost.
    pub lost: Vec<Loss>,
    /// Whether it changed only fields that the manager owned before: it took none over, and no other manager lost any.
    pub is_own: bool,
}

/// Fields that a manager lost to the writer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loss {
    /// The manager that owned them.
    pub manager: Manager,
    /// When it wrote last, in whole seconds.
    pub at: Option<Micros>,
    /// The fields.
    pub fields: Value,
}

// === impl Entry ===

impl Entry {
    /// Returns the manager.
    pub(crate) fn manager(&self) -> Manager {
        Manager { name: self.manager.clone(), operation: self.operation.clone(), subresource: self.subresource.clone() }
    }

    /// Returns when the manager last wrote.
    pub(crate) fn at(&self) -> Option<Micros> {
        self.time.as_deref().and_then(parse_timestamp)
    }

    /// Returns the set of its fields.
    pub(crate) fn fields(&self) -> Value {
        let parsed = self.fields.as_ref().and_then(|fields| serde_json::from_str(fields.get()).ok());
        parsed.unwrap_or_else(empty)
    }

    /// Returns the approximate bytes of the entry.
    pub(crate) fn bytes(&self) -> usize {
        let time = self.time.as_ref().map_or(0, |time| time.len());
        let fields = self.fields.as_ref().map_or(0, |fields| fields.get().len());
        let texts = self.manager.len() + self.operation.len() + self.api_version.len() + self.subresource.len();
        size_of::<Entry>() + texts + time + fields
    }

    fn is_of(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && self.api_version == other.api_version
    }

    /// Returns the text of the set of its fields.
    pub(crate) fn text(&self) -> &str {
        self.fields.as_ref().map_or("", |fields| fields.get())
    }
}

/// Returns who made the revision with the entries `after`, if exactly one manager may have made it. `before` are the
/// entries of the revision before; a new object has none.
pub(crate) fn authorship(before: &[Entry], after: &[Entry]) -> Option<Authorship> {
    let mut writers = after.iter().filter(|entry| {
        let known = before.iter().find(|known| known.is_of(entry));
        !INVENTED.contains(&&*entry.manager) && known.is_none_or(|known| has_written(known, entry))
    });
    let (writer, None) = (writers.next()?, writers.next()) else { return None };
    let manager = writer.manager();
    // A manager that uses another version of the API has another entry.
    let own = |entries: &[Entry]| {
        let own = entries.iter().filter(|entry| entry.manager() == manager);
        own.fold(empty(), |all, entry| union(all, entry.fields()))
    };
    let is_other = |entry: &&Entry| entry.manager() != manager;
    let mut taken = difference(&own(after), &own(before));
    for other in after.iter().filter(is_other) {
        taken = difference(&taken, &other.fields());
    }
    let losses = before.iter().filter(is_other).filter(|other| !INVENTED.contains(&&*other.manager)).map(|other| {
        let left = after.iter().find(|entry| entry.is_of(other)).map_or_else(empty, Entry::fields);
        // Also fields that both owned, with the same value, before the writer changed it.
        let fields = intersection(&difference(&other.fields(), &left), &own(after));
        Loss { manager: other.manager(), at: other.at(), fields }
    });
    let lost: Vec<Loss> = losses.filter(|loss| !is_empty(&loss.fields)).collect();
    let taken = lost.iter().fold(taken, |taken, loss| union(taken, loss.fields.clone()));
    // A field that is removed leaves all entries.
    let is_unchanged = |other: &Entry| after.iter().any(|entry| entry.is_of(other) && entry.text() == other.text());
    let is_own = is_empty(&taken) && before.iter().filter(is_other).all(is_unchanged);
    Some(Authorship { at: writer.at(), manager, taken, lost, is_own })
}

/// Returns who made a revision that changed no entry, and was seen at `seen`: it changed the values of fields that its manager
/// had already. Either the manager had written in the same second before, so that its time did not move, or it is one without
/// a time, as those that write the `scale` subresource are. Nobody is returned if it can be more than one.
pub(crate) fn repeated_author(before: &[Entry], after: &[Entry], seen: Micros) -> Option<Authorship> {
    let is_same = |a: &Entry, b: &Entry| a.is_of(b) && a.time == b.time && a.text() == b.text();
    if before.len() != after.len() || !before.iter().zip(after).all(|(a, b)| is_same(a, b)) {
        return None;
    }
    let latest = after.iter().filter_map(Entry::at).max();
    let is_near = latest.is_some_and(|at| (at - DELAY_MAX..at + SECOND + DELAY_MAX).contains(&seen));
    let is_candidate = |entry: &&Entry| entry.time.is_none() || (is_near && entry.at() == latest);
    let mut writers = after.iter().filter(is_candidate);
    let (writer, None) = (writers.next()?, writers.next()) else { return None };
    let author =
        || Authorship { manager: writer.manager(), at: writer.at(), taken: empty(), lost: Vec::new(), is_own: true };
    (!INVENTED.contains(&&*writer.manager)).then(author)
}

/// Whether the manager of an entry has written since.
fn has_written(before: &Entry, after: &Entry) -> bool {
    before.time != after.time
        || (before.text() != after.text() && !is_empty(&difference(&after.fields(), &before.fields())))
}

/// Returns whether a set has no fields.
pub(crate) fn is_empty(set: &Value) -> bool {
    set.as_object().is_none_or(Map::is_empty)
}

fn empty() -> Value {
    Value::Object(Map::new())
}

/// Returns all fields of two sets.
pub(crate) fn union(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Object(mut a), Value::Object(b)) => {
            for (name, below) in b {
                let merged = match a.remove(&name) {
                    Some(known) => union(known, below),
                    None => below,
                };
                a.insert(name, merged);
            }
            Value::Object(a)
        }
        (a, _) => a,
    }
}

/// Returns the fields of `a` that are not in `b`.
pub(crate) fn difference(a: &Value, b: &Value) -> Value {
    select(a, b, false, 0).unwrap_or_else(empty)
}

/// Returns the fields that are in both sets.
pub(crate) fn intersection(a: &Value, b: &Value) -> Value {
    select(a, b, true, 0).unwrap_or_else(empty)
}

/// Returns the leaves of `a` that are also in `b`, or that are not. A leaf is a field without fields below it.
fn select(a: &Value, b: &Value, wanted: bool, depth: usize) -> Option<Value> {
    let (a, b) = (a.as_object()?, b.as_object());
    if a.is_empty() || depth > DEPTH_MAX {
        return wanted.then(empty);
    }
    let of = |(name, below): (&String, &Value)| {
        let kept = match b.and_then(|b| b.get(name)) {
            Some(known) => select(below, known, wanted, depth + 1)?,
            None if wanted => return None,
            None => below.clone(),
        };
        Some((name.clone(), kept))
    };
    let kept: Map<String, Value> = a.iter().filter_map(of).collect();
    (!kept.is_empty()).then_some(Value::Object(kept))
}

#[cfg(test)]
#[path = "managed_fields/tests.rs"]
mod tests;
