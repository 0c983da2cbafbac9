//! The fields of one object that are tracked, and a sketch of the changes of all others.

use std::collections::BTreeMap;

use crate::audit::event::Micros;
use crate::detect::field_history::{Author, FieldHistory, Step};
use crate::detect::fields::{Change, EvidenceLevel, Path};
use crate::detect::meter::{TEXT_BYTES, map_bytes};
use crate::detect::policy::{Limits, ObjectLimits};
use crate::detect::sketch::{LastChange, Sketch};
use crate::detect::war::WarId;

/// Maximum number of tracked fields of one object. In other fields, only a change that another writer undoes is
/// detected.
pub(super) const FIELDS_MAX: usize = 256;
/// Time after which dropping a tracked field is tried again, if none could be dropped.
const RETRY_AFTER: Micros = 60_000_000;

/// The histories of an object's fields.
#[derive(Clone, Debug, Default)]
pub(super) struct TrackedFields {
    /// Boxed, because the first node of a map has room for eleven entries, and most objects have one field.
    by_path: BTreeMap<Path, Box<FieldHistory>>,
    /// Fields that changed while no further field could be tracked.
    sketch: Option<Box<Sketch>>,
    /// Before this time, no tracked field can be dropped for another one.
    full_until: Micros,
    /// Histories that began in an earlier object of the same name, and have not changed in this one yet. Sorted.
    outdated: Vec<Path>,
}

// === impl TrackedFields ===

impl TrackedFields {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, &FieldHistory)> {
        self.by_path.iter().map(|(path, field)| (path, &**field))
    }

    pub(super) fn get(&self, path: &Path) -> Option<&FieldHistory> {
        self.by_path.get(path).map(|field| &**field)
    }

    pub(super) fn get_mut(&mut self, path: &Path) -> Option<&mut FieldHistory> {
        self.by_path.get_mut(path).map(|field| &mut **field)
    }

    /// Returns the number of changed fields that are not tracked.
    pub(super) fn untracked(&self) -> usize {
        self.sketch.as_ref().map_or(0, |sketch| sketch.len())
    }

    /// Returns the approximate bytes of the histories.
    pub(super) fn bytes(&self) -> usize {
        let fields: usize = self.iter().map(|(path, field)| TEXT_BYTES + path.len() + field.bytes()).sum();
        let nodes = map_bytes::<Path, Box<FieldHistory>>(self.by_path.len());
        fields + nodes + self.sketch.as_ref().map_or(0, |sketch| sketch.bytes())
    }

    /// Begins again with a new object of the same name.
    pub(super) fn begin_epoch(&mut self) {
        self.outdated = self.by_path.keys().cloned().collect();
    }

    /// Whether the field has a history, but has not changed since the present object was created.
    pub(super) fn is_outdated(&self, path: &str) -> bool {
        self.outdated.binary_search_by(|outdated| (**outdated).cmp(path)).is_ok()
    }

    /// Whether a field other than `except` belongs to this war.
    pub(super) fn has_others_of(&self, war: WarId, except: impl Fn(&Path) -> bool) -> bool {
        self.iter().any(|(path, field)| field.war == Some(war) && !except(path))
    }

    /// Processes the next change in order. `creator` created the present object.
    pub(super) fn step<'l>(
        &mut self,
        change: &Change,
        level: EvidenceLevel,
        author: &Author,
        creator: Option<&Author>,
        on: &ObjectLimits<'l>,
    ) -> Step<'l> {
        if !self.by_path.contains_key(&change.path) {
            if let Some(field) = self.start_tracking(change, author, creator, on.limits) {
                self.by_path.insert(change.path.clone(), Box::new(field));
            }
        } else if let Ok(index) = self.outdated.binary_search(&change.path) {
            self.outdated.remove(index);
            if let Some(field) = self.get_mut(&change.path) {
                field.begin_epoch(change, creator);
            }
        }
        self.get_mut(&change.path).map_or(Step::None, |field| field.step(change, level, author, on))
    }

    /// Returns the history of a field that changes for the first time, if the field can be tracked. Contested fields
    /// are never dropped for it. Other fields are dropped if they have not changed for long, or if this write undoes
    /// the last change of the new field.
    fn start_tracking(
        &mut self,
        change: &Change,
        author: &Author,
        creator: Option<&Author>,
        limits: &Limits,
    ) -> Option<FieldHistory> {
        if self.by_path.len() < FIELDS_MAX || self.untrack_oldest(author.at.saturating_sub(limits.window()), author.at)
        {
            return Some(FieldHistory::new(change, creator));
        }
        let sketch = self.sketch.get_or_insert_default();
        let LastChange { client, .. } = sketch.record(change, &author.client)?;
        self.full_until = i64::MIN;
        let undone = Author { client, at: author.at, seq: author.seq };
        if self.untrack_oldest(i64::MAX, author.at) {
            return Some(FieldHistory::undoing(change, &undone));
        }
        // All tracked fields are contested, or this write makes them contested. The new field is contested as well, but
        // stays untracked.
        self.sketch.get_or_insert_default().insert(change, &author.client);
        None
    }

    /// Stops tracking the uncontested field that has not changed for the longest time, if it has not changed since
    /// `until`. Returns whether there was one.
    fn untrack_oldest(&mut self, until: Micros, now: Micros) -> bool {
        if now < self.full_until {
            return false;
        }
        // Fields that this write changes may become contested by it.
        let calm = self.iter().filter(|(_, field)| field.retakes == 0 && field.last_at != now);
        let oldest = calm.min_by_key(|(_, field)| field.last_at).map(|(path, field)| (path.clone(), field.last_at));
        match oldest {
            Some((path, at)) if at <= until => self.by_path.remove(&path).is_some(),
            Some((_, at)) => {
                self.full_until = now.saturating_add(at.saturating_sub(until));
                false
            }
            None => {
                self.full_until = now.saturating_add(RETRY_AFTER);
                false
            }
        }
    }
}

#[cfg(test)]
impl TrackedFields {
    pub(super) fn len(&self) -> usize {
        self.by_path.len()
    }

    pub(super) fn sketch_bytes(&self) -> Option<usize> {
        self.sketch.as_ref().map(|sketch| sketch.bytes())
    }
}
