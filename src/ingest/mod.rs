//! Event sources: files, logs that are tailed, and the audit webhook. All of them use bounded memory, whatever their
//! input is.
//!
//! - [`files`]: reads complete logs with several workers. [`document`], [`decompress`] and [`ahead`] handle other
//!   formats.
//! - [`follow`]: tails logs; [`tail`] tracks one log across rotations.
//! - [`webhook`]: receives batches from kube-apiserver; [`buffers`] is its buffer pool.
//! - [`keep`] decides what is stored in the journal; [`news`] publishes the results of a batch.

pub mod ahead;
pub mod buffers;
pub mod decompress;
pub mod document;
pub mod files;
pub mod follow;
pub mod keep;
pub mod news;
pub mod tail;
pub mod webhook;
