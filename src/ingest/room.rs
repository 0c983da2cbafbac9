//! Room for batches that are on their way in. Whoever finds none is told to come again, before its body is read.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Parts of the room of which one source has at most one, however many it asks for: others find room too.
const SHARES: usize = 4;

/// Bytes that may be on their way at once, of all sources and of each.
#[derive(Clone, Debug)]
pub struct Room {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bytes_max: usize,
    source_bytes_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// A place in the room; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    room: Room,
    source: IpAddr,
    bytes: usize,
}

// === impl Room ===

impl Room {
    /// Room for `bytes_max` bytes, in batches of at most `batch_bytes_max`.
    pub fn new(bytes_max: usize, batch_bytes_max: usize) -> Room {
        let source_bytes_max = (bytes_max / SHARES).max(batch_bytes_max);
        Room { inner: Arc::new(Inner { bytes_max, source_bytes_max, taken: Mutex::default() }) }
    }

    /// A place for a batch of `bytes` from `source`; `None` while there is no room.
    pub fn enter(&self, source: IpAddr, bytes: usize) -> Option<Place> {
        let mut place = Place { room: self.clone(), source, bytes: 0 };
        place.grow(bytes).then_some(place)
    }
}

// === impl Place ===

impl Place {
    /// Makes the place larger; `false` where there is no room for that.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let Inner { bytes_max, source_bytes_max, taken } = &*self.room.inner;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = taken.by_source.get(&self.source).copied().unwrap_or(0);
        if taken.bytes + bytes > *bytes_max || of_source + bytes > *source_bytes_max {
            return false;
        }
        taken.bytes += bytes;
        taken.by_source.insert(self.source, of_source + bytes);
        self.bytes += bytes;
        true
    }

    /// The bytes it has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.inner.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.bytes -= self.bytes;
        let left = taken.by_source.get(&self.source).map_or(0, |bytes| bytes - self.bytes);
        // Only sources that have something on its way are remembered.
        match left {
            0 => drop(taken.by_source.remove(&self.source)),
            left => drop(taken.by_source.insert(self.source, left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn one_source_leaves_room_for_others_and_gives_back_what_it_had() {
        let room = Room::new(1000, 100);
        let places: Vec<Place> = (0..10).map_while(|_| room.enter(A, 50)).collect();
        assert_eq!(places.len(), 5);
        let mut other = room.enter(B, 200).unwrap();
        assert!(other.grow(50) && !other.grow(1));
        assert_eq!(other.bytes(), 250);
        drop(places);
        assert!(room.enter(A, 250).is_some());
        drop(other);
        let taken = room.inner.taken.lock().unwrap();
        assert_eq!((taken.bytes, taken.by_source.len()), (0, 0));
    }

    #[test]
    fn all_sources_together_keep_to_the_room() {
        let room = Room::new(1000, 400);
        let sources = (1..=9).map(|n| IpAddr::from([10, 0, 0, n]));
        let places: Vec<Place> = sources.filter_map(|source| room.enter(source, 400)).collect();
        assert_eq!(places.len(), 2);
    }
}
