//! Bytes of what many objects share, counted as long as it lives: no object can say what it is charged for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a shared text beside itself: its counts, and what an allocator rounds up.
pub(super) const TEXT_BYTES: usize = 24;

/// Bytes of a B-tree map of so many entries: nodes of eleven places, of which the first is never smaller, and which are two thirds
/// full on average.
pub(super) fn map_bytes<K, V>(len: usize) -> usize {
    const PLACES: usize = 11;
    let node = PLACES * (size_of::<K>() + size_of::<V>()) + 24;
    len.div_ceil(PLACES * 2 / 3) * node
}

/// A count of bytes.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<AtomicUsize>);

/// Bytes that are counted until this is dropped.
#[derive(Debug, Default)]
pub struct Charge {
    bytes: usize,
    meter: Option<Meter>,
}

// === impl Meter ===

impl Meter {
    /// What is counted now.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts so many bytes more.
    pub fn charge(&self, bytes: usize) -> Charge {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Charge { bytes, meter: Some(self.clone()) }
    }
}

// === impl Charge ===

impl Charge {
    /// How many they are.
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
    fn what_lives_is_counted_and_what_is_dropped_is_not() {
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
    fn a_map_takes_nodes_of_eleven_places_that_are_two_thirds_full() {
        // Eleven pairs of sixteen bytes, and 24: seven entries to a node.
        let nodes = [0, 1, 7, 8, 14, 15].map(|len| map_bytes::<u64, u64>(len) / 200);
        assert_eq!(nodes, [0, 1, 1, 2, 2, 3]);
        assert_eq!(map_bytes::<u64, u64>(1), 200);
        assert_eq!(map_bytes::<u64, u8>(1), 11 * 9 + 24);
    }
}
