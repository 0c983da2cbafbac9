//! The last change of each untracked field, for objects of which more fields change than can be tracked. It shows when
//! another writer undoes the change.
//!
//! A client can change thousands of fields with each write, different ones each time, to hide a war over one field. A field
//! whose value another writer restores is tracked from then on. Which of the other fields are forgotten is random, so that
//! no sequence of writes can hide a field.

use std::collections::HashMap;
use std::sync::Arc;

use super::actor::Client;
use super::fields::{Change, FieldValue};

/// Maximum number of fields. It is less than seven eighths of 2^16, so that the table never has more than 2^16 slots.
const FIELDS_MAX: usize = 56_000;

/// The last changes of many fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Sketch {
    /// By a keyed hash of the path, for which clients cannot construct collisions.
    fields: HashMap<u64, LastChange, foldhash::fast::RandomState>,
    /// How often half of the fields were forgotten.
    halvings: u32,
}

/// The last change of a field.
#[derive(Clone, Debug)]
pub(super) struct LastChange {
    /// The client that made it.
    pub(super) client: Arc<Client>,
    /// A hash of the value before it; `None` if the field was absent.
    before: Option<u64>,
}

// === impl Sketch ===

impl Sketch {
    /// Records a change. If it undoes the last change by another writer, returns that change.
    pub(super) fn record(&mut self, change: &Change, client: &Arc<Client>) -> Option<LastChange> {
        let path = super::hash(&change.path);
        let hash = |value: &Option<FieldValue>| value.as_ref().map(FieldValue::hash);
        let is_undone = |last: &&LastChange| !last.client.is_same_actor(client) && last.before == hash(&change.new);
        if self.fields.get(&path).filter(is_undone).is_some() {
            return self.fields.remove(&path);
        }
        self.insert(change, client);
        None
    }

    /// Records a change without checking what it undoes.
    pub(super) fn insert(&mut self, change: &Change, client: &Arc<Client>) {
        let path = super::hash(&change.path);
        if self.fields.len() >= FIELDS_MAX && !self.fields.contains_key(&path) {
            self.halvings += 1;
            let is_kept = |path: &u64| super::hash_of(&(path, self.halvings)) & 1 == 0;
            self.fields.retain(|path, _| is_kept(path));
        }
        let before = change.old.as_ref().map(FieldValue::hash);
        self.fields.insert(path, LastChange { client: client.clone(), before });
    }

    /// Returns the number of fields.
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// Returns the approximate bytes of the sketch.
    pub(super) fn bytes(&self) -> usize {
        self.fields.capacity() * 8 / 7 * (size_of::<(u64, LastChange)>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> Arc<Client> {
        Arc::new(Client::named(name))
    }

    fn change(path: &str, old: Option<&str>, new: Option<&str>) -> Change {
        Change::new(&path.into(), old.map(FieldValue::of_json).as_ref(), new.map(FieldValue::of_json).as_ref())
    }

    #[test]
    fn a_change_that_another_writer_undoes_is_returned() {
        let (alice, bob) = (client("alice"), client("bob"));
        let mut sketch = Sketch::default();
        assert!(sketch.record(&change("a", Some("1"), Some("2")), &alice).is_none());
        assert!(sketch.record(&change("b", None, Some("1")), &alice).is_none());
        assert!(sketch.record(&change("a", Some("2"), Some("1")), &alice).is_none(), "its author undid it");
        assert!(sketch.record(&change("a", Some("1"), Some("3")), &bob).is_none(), "a third value");
        assert_eq!(sketch.record(&change("b", Some("1"), None), &bob).unwrap().client, alice);
        assert_eq!(sketch.len(), 1);
    }

    #[test]
    fn a_war_over_one_field_is_detected_among_any_number_of_changes() {
        let (alice, bob) = (client("alice"), client("bob"));
        let mut sketch = Sketch::default();
        let mut attempt = 0;
        loop {
            if sketch.record(&change("x", Some("1"), Some("2")), &bob).is_some() {
                break;
            }
            for n in 0..FIELDS_MAX {
                sketch.record(&change(&format!("dummy{attempt}-{n}"), None, Some("1")), &bob);
            }
            assert!(sketch.len() <= FIELDS_MAX && sketch.bytes() < 8 << 20, "{}", sketch.bytes());
            if sketch.record(&change("x", Some("2"), Some("1")), &alice).is_some() {
                break;
            }
            attempt += 1;
            // The chance is a half or a quarter for each attempt.
            assert!(attempt < 200, "it is never noticed");
        }
    }

    #[test]
    fn a_full_sketch_forgets_a_different_half_of_its_fields_each_time() {
        let alice = client("alice");
        let mut sketch = Sketch::default();
        let mut filled = 0;
        let mut fill = |sketch: &mut Sketch| {
            let before = sketch.halvings;
            while sketch.halvings == before {
                sketch.insert(&change(&format!("f{filled}"), None, Some("1")), &alice);
                filled += 1;
            }
        };
        fill(&mut sketch);
        let half = FIELDS_MAX * 2 / 5..FIELDS_MAX * 3 / 5;
        assert!(half.contains(&sketch.len()), "{}", sketch.len());
        let kept: Vec<u64> = sketch.fields.keys().copied().collect();
        fill(&mut sketch);
        assert!(half.contains(&sketch.len()), "{}", sketch.len());
        let again = kept.iter().filter(|path| sketch.fields.contains_key(path)).count();
        assert!((kept.len() * 2 / 5..kept.len() * 3 / 5).contains(&again), "{again} of {}", kept.len());
    }

    #[test]
    fn the_bytes_are_those_of_all_slots() {
        let mut sketch = Sketch::default();
        assert_eq!((sketch.len(), sketch.bytes()), (0, 0));
        for n in 0..5 {
            sketch.insert(&change(&format!("f{n}"), None, Some("1")), &client("alice"));
        }
        assert_eq!(sketch.len(), 5);
        // Eight slots, of which seven may be used, and a control byte for each.
        assert_eq!(sketch.bytes(), 8 * (size_of::<(u64, LastChange)>() + 1));
    }
}
