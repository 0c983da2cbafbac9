//! What all watches of a source share.

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore};

use super::delivery::Delivery;
use super::promotion::Promotions;
use super::status::WatchStatus;

/// What all watches of a source share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) delivery: Delivery,
    pub(super) status: WatchStatus,
    pub(super) promotions: Promotions,
    /// Limits requests that are begun at the same time.
    pub(super) starts: Arc<Semaphore>,
    /// Whether values must not be kept, and so not be read.
    pub(super) redacts: bool,
    /// Notified when a definition of resources has changed.
    pub(super) definitions: Arc<Notify>,
}
