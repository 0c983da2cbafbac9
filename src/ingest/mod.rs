//! Event sources: files, logs that are tailed, and the audit webhook. All of them use bounded memory, whatever their
//! input is.
//!
//! - [`intake`]: decodes events of live sources, makes them durable, and observes them.
//! - [`webhook`]: receives batches from kube-apiserver; [`buffer_pool`] is its buffer pool.
//! - [`tail`]: reads logs while they are written, across rotations.
//! - [`mod@watch`]: watches the objects of a cluster, for clusters without an audit log.
//! - [`kafka`]: reads topics of Kafka.
//! - [`files`]: reads complete logs with several workers. [`convert`], [`decompress`] and [`readahead`] handle other formats
//!   and compression.
//!
//! To add a live source, implement [`Source`] in one file, and add it to the list in `Server::build` (`cli/server.rs`).

mod buffer_pool;
pub mod convert;
mod decompress;
pub mod files;
pub mod intake;
pub(crate) mod kafka;
mod push;
mod readahead;
pub mod tail;
pub(crate) mod watch;
pub mod webhook;

use futures_util::future::BoxFuture;
use tokio::sync::watch::Receiver;

use crate::util::readiness::Readiness;

/// A live source of audit events. It passes them to the [`intake::Intake`] that it was created with.
pub trait Source: Send {
    /// Returns its name for logs and health checks.
    fn name(&self) -> &'static str;

    /// Returns whether it delivers events yet. The server is ready when all its sources are.
    fn readiness(&self) -> Readiness {
        Readiness::always()
    }

    /// Runs until `stop` turns true. Returns after everything that was received is ingested.
    fn run(self: Box<Self>, stop: Receiver<bool>) -> BoxFuture<'static, ()>;
}
