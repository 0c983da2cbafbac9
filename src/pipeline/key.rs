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

/// The lower half of a hash, which determines the upper one.
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

/// Returns the hash of an object's names. Its lower half determines the upper one, so that an object can keep it in four
/// bytes. Objects with the same hash are distinguished by their names.
fn hash(hasher: &RandomState, parts: &[&str; 5]) -> u64 {
    let mut hasher = hasher.build_hasher();
    parts.iter().for_each(|part| hasher.write(part.as_bytes()));
    HalfHash::of(hasher.finish()).whole()
}

/// Returns the index of the shard of a hash. It depends on bits in the middle: the hash table of a shard uses the lowest bits and
/// the highest seven.
pub(super) fn shard_of(hash: u64, shards: usize) -> usize {
    let middle = (hash >> 41) & 0xffff;
    (middle as usize * shards) >> 16
}

// === impl HalfHash ===

impl HalfHash {
    /// Returns the lower half of a hash.
    pub(super) fn of(hash: u64) -> HalfHash {
        HalfHash(hash as u32)
    }

    /// Returns the hash with this lower half. The upper half is derived from it by a multiplication, after which its
    /// bits depend on all lower ones: tables use the bits at both ends, and shards those between.
    pub(super) fn whole(self) -> u64 {
        u64::from(self.0.wrapping_mul(0x9e37_79b1)) << 32 | u64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn objects_of_one_shard_use_all_buckets_of_its_table() {
        let hasher = RandomState::default();
        let mut buckets: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for n in 0..200_000 {
            let name = format!("web-{n}");
            let hash = hash(&hasher, &["", "apps", "deployments", "shop", &name]);
            assert_eq!(HalfHash::of(hash).whole(), hash);
            // Nine shards, whose tables are so large that they use the lowest 18 bits.
            let counts = buckets.entry(shard_of(hash, 9)).or_insert_with(|| vec![0; 16]);
            counts[(hash as usize & 0x3_ffff) >> 14] += 1;
        }
        // On average, there are 1,389 in each sixteenth of each table.
        assert_eq!(buckets.len(), 9);
        assert!(buckets.values().flatten().all(|count| (1_130..1_650).contains(count)), "{buckets:?}");
    }
}
