//! Where writes are made durable before their batch is acknowledged: the journal on disk, or a log that replicas share.

use futures_util::future::BoxFuture;

use super::record::Record;
use super::shared::Unavailable;

/// Makes writes durable.
pub trait Append: Send + Sync {
    /// Appends these records. On `Ok` they are durable, unless the journal on disk is configured to accept what it cannot store.
    ///
    /// # Errors
    /// [`Unavailable`] if writes that cannot be stored are rejected.
    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), Unavailable>>;

    /// Like [`Append::append`], for callers outside of the async runtime.
    ///
    /// # Errors
    /// [`Unavailable`] if writes that cannot be stored are rejected.
    fn append_blocking(&self, records: Vec<Record>) -> Result<(), Unavailable>;

    /// Returns whether batches would be accepted.
    ///
    /// # Errors
    /// The reason why not, as text for users.
    fn check(&self) -> Result<(), String>;

    /// Returns the maximum size of a record in bytes.
    fn record_bytes_max(&self) -> usize;
}
