//! Counts the bytes of values that many objects share, as long as these values live. No single object accounts for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a shared text in addition to its characters: its reference counts, and the allocator's rounding.
pub(super) const TEXT_BYTES: usize = 24;

/// Returns the approximate bytes of a B-tree map with `len` entries: nodes of eleven slots, two thirds full on average. The
/// first node is as large as the others.
pub(super) fn map_bytes<K, V>(len: usize) -> usize {
    const NODE_SLOTS: usize = 11;
    let node = NODE_SLOTS * (size_of::<K>() + size_of::<V>()) + 24;
    len.div_ceil(NODE_SLOTS * 2 / 3) * node
}

/// A shared count of bytes.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<AtomicUsize>);

/// Bytes that count until this is dropped.
#[derive(Debug, Default)]
pub struct Charge {
    bytes: usize,
    meter: Option<Meter>,
}

// === impl Meter ===

impl Meter {
    /// Returns the present count.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds bytes to the count until the returned charge is dropped.
    pub fn charge(&self, bytes: usize) -> Charge {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Charge { bytes, meter: Some(self.clone()) }
    }
}

// === impl Charge ===

impl Charge {
    /// Returns the number of bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Clone for Charge {
    fn clone(&self) -> Charge {
        self.meter.as_ref().map_or_else(Charge::default, |meter| meter.charge(self.bytes))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(Meter(count)) = &self.meter {
            count.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_count_until_they_are_dropped() {
        let meter = Meter::default();
        let first = meter.charge(10);
        let second = first.clone();
        assert_eq!((first.bytes(), second.bytes(), Charge::default().bytes()), (10, 10, 0));
        assert_eq!(meter.bytes(), 20);
        drop(first);
        assert_eq!(meter.bytes(), 10);
        drop((second, Charge::default()));
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn a_map_has_nodes_of_eleven_slots_that_are_two_thirds_full() {
        // Eleven pairs of sixteen bytes, and 24: seven entries to a node.
        let nodes = [0, 1, 7, 8, 14, 15].map(|len| map_bytes::<u64, u64>(len) / 200);
        assert_eq!(nodes, [0, 1, 1, 2, 2, 3]);
        assert_eq!(map_bytes::<u64, u64>(1), 200);
        assert_eq!(map_bytes::<u64, u8>(1), 11 * 9 + 24);
    }
}
