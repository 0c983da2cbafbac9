//! The writers of one object, in little memory: most objects have one or two.

use std::mem::take;
use std::ops::{Deref, DerefMut};

use super::writer_stats::WriterStats;

/// The writers of one object, one for each client and part. Up to two are stored in place, as in a `SmallVec`, but without a
/// length beside them. This makes an object 8 bytes smaller, and its allocation 32 bytes.
#[derive(Clone, Debug, Default)]
pub(super) enum Writers {
    #[default]
    None,
    One(WriterStats),
    Two([WriterStats; 2]),
    Many(Vec<WriterStats>),
}

const _: () = assert!(size_of::<Writers>() == 2 * size_of::<WriterStats>());

// === impl Writers ===

impl Writers {
    /// Adds a writer.
    pub(super) fn push(&mut self, writer: WriterStats) {
        *self = match take(self) {
            Writers::None => Writers::One(writer),
            Writers::One(first) => Writers::Two([first, writer]),
            Writers::Two(two) => Writers::Many(two.into_iter().chain([writer]).collect()),
            Writers::Many(mut many) => {
                if many.len() == many.capacity() {
                    many.reserve_exact(2);
                }
                many.push(writer);
                Writers::Many(many)
            }
        };
    }

    /// Removes the writer at this index.
    pub(super) fn remove(&mut self, index: usize) {
        if let Writers::Many(many) = self {
            many.remove(index);
            return;
        }
        let mut few = self.to_vec();
        few.remove(index);
        *self = Writers::None;
        few.into_iter().for_each(|writer| self.push(writer));
    }

    /// Returns the bytes that are not stored in place.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Writers::Many(many) => many.capacity() * size_of::<WriterStats>(),
            _ => 0,
        }
    }
}

impl Deref for Writers {
    type Target = [WriterStats];

    fn deref(&self) -> &[WriterStats] {
        match self {
            Writers::None => &[],
            Writers::One(writer) => std::slice::from_ref(writer),
            Writers::Two(two) => two,
            Writers::Many(many) => many,
        }
    }
}

impl DerefMut for Writers {
    fn deref_mut(&mut self) -> &mut [WriterStats] {
        match self {
            Writers::None => &mut [],
            Writers::One(writer) => std::slice::from_mut(writer),
            Writers::Two(two) => two,
            Writers::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::detect::actor::Client;
    use crate::detect::write::Part;

    #[test]
    fn writers_stay_in_their_order_however_many_there_are() {
        let writer = |part| WriterStats::new(Arc::new(Client::named("alice")), part);
        let mut writers = Writers::default();
        let mut expected = Vec::new();
        for n in 0..7 {
            assert_eq!(writers.iter().map(|w| w.part).collect::<Vec<_>>(), expected);
            let part = if n % 3 == 0 { Part::Status } else { Part::Main };
            writers.push(writer(part));
            expected.push(part);
        }
        writers.remove(3);
        expected.remove(3);
        writers[0].no_ops = 7;
        assert_eq!(writers.iter().map(|w| w.part).collect::<Vec<_>>(), expected);
        assert_eq!((writers.len(), writers[0].no_ops), (6, 7));
        assert!(writers.heap_bytes() >= 6 * size_of::<WriterStats>());
        let mut two = Writers::default();
        [Part::Main, Part::Status].into_iter().for_each(|part| two.push(writer(part)));
        two.remove(0);
        assert_eq!(two.iter().map(|w| w.part).collect::<Vec<_>>(), [Part::Status]);
    }
}
