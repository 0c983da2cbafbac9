//! The key of an object, and its slot in the object table.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use foldhash::quality::RandomState;

use crate::detect::write::ObjectName;

/// The key of an object: cluster, group, resource, namespace and name in one string.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Box<str>);

/// An object's name with its hash, by which tables find it.
#[derive(Clone, Copy, Debug)]
pub struct ObjectSlot<'k> {
    pub(super) cluster: &'k str,
    object: ObjectName<'k>,
    pub(super) hash: u64,
}

/// Half of a hash whose halves are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HalfHash(u32);

/// Separates the parts of a key. No name contains it.
const SEPARATOR: u8 = 0;

// === impl ObjectKey ===

impl ObjectKey {
    /// Returns the key of an object.
    pub fn new(cluster: &str, object: &ObjectName<'_>) -> ObjectKey {
        let ObjectName { group, resource, namespace, name } = object;
        let len = cluster.len() + group.len() + resource.len() + namespace.len() + name.len() + 4;
        let mut text = String::with_capacity(len);
        for part in [cluster, group, resource, namespace] {
            text.push_str(part);
            text.push(char::from(SEPARATOR));
        }
        text.push_str(name);
        ObjectKey(text.into())
    }

    /// Returns the key of an object, or `None` if a name contains the separator, so that it is not a valid name.
    pub fn of(cluster: &str, object: &ObjectName<'_>) -> Option<ObjectKey> {
        let key = ObjectKey::new(cluster, object);
        let separators = key.0.bytes().filter(|b| *b == SEPARATOR).count();
        (separators == 4).then_some(key)
    }

    /// Whether this is the key of the object at this slot.
    pub(super) fn is_of(&self, slot: &ObjectSlot<'_>) -> bool {
        let ObjectSlot { cluster, object, .. } = slot;
        let mut rest = Some(self.0.as_bytes());
        for part in [cluster, object.group, object.resource, object.namespace] {
            rest = rest.and_then(|rest| rest.strip_prefix(part.as_bytes())?.strip_prefix(&[SEPARATOR]));
        }
        rest.is_some_and(|rest| rest == object.name.as_bytes())
    }

    /// Returns the cluster's name. It is empty if there is only one cluster.
    pub fn cluster(&self) -> &str {
        let [cluster, ..] = self.parts();
        cluster
    }

    /// Returns the object's name within its cluster.
    pub fn object(&self) -> ObjectName<'_> {
        let [_, group, resource, namespace, name] = self.parts();
        ObjectName { group, resource, namespace, name }
    }

    fn parts(&self) -> [&str; 5] {
        let mut parts = [""; 5];
        let mut from = 0;
        let ends = memchr::memchr_iter(SEPARATOR, self.0.as_bytes()).chain([self.0.len()]);
        for (part, to) in parts.iter_mut().zip(ends) {
            *part = &self.0[from..to];
            from = to + 1;
        }
        parts
    }
}

impl From<&str> for ObjectKey {
    fn from(text: &str) -> ObjectKey {
        ObjectKey(text.into())
    }
}

impl AsRef<str> for ObjectKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.parts())
    }
}

// === impl ObjectSlot ===

impl<'k> ObjectSlot<'k> {
    /// Returns the slot of an object in tables that use this hasher.
    pub(super) fn new(cluster: &'k str, object: ObjectName<'k>, hasher: &RandomState) -> ObjectSlot<'k> {
        let parts = [cluster, object.group, object.resource, object.namespace, object.name];
        ObjectSlot { cluster, object, hash: hash(hasher, &parts) }
    }

    /// Returns the object's key, or `None` if its names are not valid.
    pub fn key(&self) -> Option<ObjectKey> {
        ObjectKey::of(self.cluster, &self.object)
    }
}

/// Returns the hash of an object's names. Both halves are equal, so that an object can keep it in four bytes. There can
/// be a million objects; the few of them that share a hash are told apart by their names.
fn hash(hasher: &RandomState, parts: &[&str; 5]) -> u64 {
    let mut hasher = hasher.build_hasher();
    parts.iter().for_each(|part| hasher.write(part.as_bytes()));
    HalfHash::of(hasher.finish()).whole()
}

// === impl HalfHash ===

impl HalfHash {
    /// Returns the lower half of a hash.
    pub(super) fn of(hash: u64) -> HalfHash {
        HalfHash(hash as u32)
    }

    /// Returns the hash of which both halves are this one.
    pub(super) fn whole(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}
