//! Locks that survive panics.

use std::sync::{Mutex, MutexGuard};

/// Locks a mutex even if a thread panicked while it held it: continuing with the present state is better than stopping.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
