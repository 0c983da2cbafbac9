//! Reusable buffer pool for request bodies. Allocating large buffers on one thread and freeing them on another
//! fragments the allocator's memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Free buffers, with a limit on their total size.
#[derive(Clone, Debug)]
pub(super) struct BufferPool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    bytes_max: usize,
}

// === impl BufferPool ===

impl BufferPool {
    /// Creates a pool that keeps free buffers of at most `bytes_max` bytes in total.
    pub(super) fn new(bytes_max: usize) -> BufferPool {
        BufferPool { free: Arc::default(), bytes_max }
    }

    /// Returns an empty buffer with a capacity of at least `bytes`: the smallest free one that is large enough, or else
    /// a new one.
    pub(super) fn acquire(&self, bytes: usize) -> Vec<u8> {
        let mut free = self.lock();
        let fitting = (0..free.len()).filter(|at| free[*at].capacity() >= bytes).min_by_key(|at| free[*at].capacity());
        match fitting {
            Some(at) => free.swap_remove(at),
            None => Vec::with_capacity(bytes),
        }
    }

    /// Returns a buffer to the pool.
    pub(super) fn release(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut free = self.lock();
        let held: usize = free.iter().map(Vec::capacity).sum();
        if held + buffer.capacity() <= self.bytes_max {
            free.push(buffer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_sufficient_buffer_is_reused_and_the_pool_is_bounded() {
        let buffers = BufferPool::new(3000);
        for bytes in [2000, 1000, 500] {
            let mut buffer = Vec::with_capacity(bytes);
            buffer.extend_from_slice(b"rest");
            buffers.release(buffer);
        }
        assert_eq!(buffers.lock().len(), 2, "the third is one too many");
        let small = buffers.acquire(10);
        assert!(small.is_empty() && small.capacity() == 1000);
        assert_eq!(buffers.acquire(1500).capacity(), 2000);
        assert_eq!(buffers.lock().len(), 0);
        assert!(buffers.acquire(7).capacity() >= 7);
    }
}
