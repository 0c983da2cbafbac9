//! Fields of an object that changes more of them than are followed: of each only its last change, to notice one that is
//! undone.
//!
//! Somebody may change thousands of fields with each write, other ones each time, to hide a fight over one. A field whose value
//! another writer brings back is worth following from then on; who of the others is forgotten is left to chance, so that no
//! order of writes keeps a field out of sight.

use std::collections::HashMap;
use std::sync::Arc;

use super::actor::Client;
use super::fields::{Change, FieldValue};

/// Fields that are kept: less than half of what a table of 2^17 places holds, which then never grows to twice that.
const FIELDS_MAX: usize = 56_000;

/// The last changes of many fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Sketch {
    /// By a hash of the path, which nobody outside can aim.
    fields: HashMap<u64, Trace, foldhash::fast::RandomState>,
    /// How often half of it was forgotten.
    rounds: u32,
}

/// The last change of a field.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    /// Who made it.
    pub(super) client: Arc<Client>,
    /// A hash of the value before it; `None` for the field's absence.
    before: Option<u64>,
}

// === impl Sketch ===

impl Sketch {
    /// Notes a change; the change that it undoes, where another writer made that.
    pub(super) fn note(&mut self, change: &Change, client: &Arc<Client>) -> Option<Trace> {
        let path = super::hash(&change.path);
        let hash = |value: &Option<FieldValue>| value.as_ref().map(FieldValue::hash);
        let is_undone = |last: &&Trace| !last.client.is_same_actor(client) && last.before == hash(&change.new);
        if self.fields.get(&path).filter(is_undone).is_some() {
            return self.fields.remove(&path);
        }
        self.put(change, client);
        None
    }

    /// Notes a change, whatever it undoes.
    pub(super) fn put(&mut self, change: &Change, client: &Arc<Client>) {
        let path = super::hash(&change.path);
        if self.fields.len() >= FIELDS_MAX && !self.fields.contains_key(&path) {
            self.rounds += 1;
            let is_kept = |path: &u64| super::hash_of(&(path, self.rounds)) & 1 == 0;
            self.fields.retain(|path, _| is_kept(path));
        }
        let before = change.old.as_ref().map(FieldValue::hash);
        self.fields.insert(path, Trace { client: client.clone(), before });
    }

    /// How many fields are in it.
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// Bytes that it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.fields.capacity() * 8 / 7 * (size_of::<(u64, Trace)>() + 1)
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
    fn a_change_that_another_writer_undoes_is_noticed() {
        let (alice, bob) = (client("alice"), client("bob"));
        let mut sketch = Sketch::default();
        assert!(sketch.note(&change("a", Some("1"), Some("2")), &alice).is_none());
        assert!(sketch.note(&change("b", None, Some("1")), &alice).is_none());
        assert!(sketch.note(&change("a", Some("2"), Some("1")), &alice).is_none(), "by its own hand");
        assert!(sketch.note(&change("a", Some("1"), Some("3")), &bob).is_none(), "a third value");
        assert_eq!(sketch.note(&change("b", Some("1"), None), &bob).unwrap().client, alice);
        assert_eq!(sketch.len(), 1);
    }

    #[test]
    fn a_fight_is_noticed_among_any_number_of_others() {
        let (alice, bob) = (client("alice"), client("bob"));
        let mut sketch = Sketch::default();
        let mut round = 0;
        loop {
            if sketch.note(&change("x", Some("1"), Some("2")), &bob).is_some() {
                break;
            }
            for n in 0..FIELDS_MAX {
                sketch.note(&change(&format!("dummy{round}-{n}"), None, Some("1")), &bob);
            }
            assert!(sketch.len() <= FIELDS_MAX && sketch.bytes() < 8 << 20, "{}", sketch.bytes());
            if sketch.note(&change("x", Some("2"), Some("1")), &alice).is_some() {
                break;
            }
            round += 1;
            // A chance of a half or a quarter each time.
            assert!(round < 200, "it is never noticed");
        }
    }

    #[test]
    fn a_full_table_forgets_half_of_its_fields_and_another_half_each_time() {
        let alice = client("alice");
        let mut sketch = Sketch::default();
        let mut filled = 0;
        let mut fill = |sketch: &mut Sketch| {
            let before = sketch.rounds;
            while sketch.rounds == before {
                sketch.put(&change(&format!("f{filled}"), None, Some("1")), &alice);
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
    fn a_table_takes_the_bytes_of_its_places() {
        let mut sketch = Sketch::default();
        assert_eq!((sketch.len(), sketch.bytes()), (0, 0));
        for n in 0..5 {
            sketch.put(&change(&format!("f{n}"), None, Some("1")), &client("alice"));
        }
        assert_eq!(sketch.len(), 5);
        // Eight places, of which seven may be taken; a byte to each tells which are.
        assert_eq!(sketch.bytes(), 8 * (size_of::<(u64, Trace)>() + 1));
    }
}
