//! Persistent storage: every write is on disk before its batch is acknowledged, and is read again at the next start.
//!
//! - [`committer`]: the front end. Collects the writes of all requests; its thread, in `group_commit`, commits them in
//!   groups.
//! - [`append`]: the trait by which sources store writes. A log on Kafka implements it, too.
//! - [`store`]: a directory of segments with retention by age and size.
//! - [`segment`]: one file, with an index by object. [`record`] is the stored form of a write, [`transition`] that of a
//!   transition.
//! - `head`: which segments should exist. `listing`: which segments do exist. `disk`: all file operations that change
//!   something.
//! - [`reader`]: concurrent reads.
//! - [`replay`]: feeds the recent past into the pipeline at startup. [`object_history`]: the full history of one object,
//!   for queries.

pub mod append;
pub mod committer;
pub mod disk;
mod group_commit;
mod head;
mod listing;
pub(crate) mod object_history;
pub(crate) mod reader;
pub mod record;
pub mod replay;
pub mod segment;
mod shared;
pub mod store;
mod transition;

use std::mem::{Discriminant, discriminant};
use std::path::PathBuf;

/// The reason why something cannot be stored or read. Each message tells the user what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be used.
    #[error("journal {path}: {source}: choose a directory that editwar can write to, or set --journal off")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A file cannot be written or read.
    #[error("journal {path}: {message}{}", hint(message))]
    Storage {
        /// The file.
        path: PathBuf,
        /// The error of the storage engine or the operating system.
        message: String,
    },
    /// Another process has the journal open.
    #[error("journal {0}: another process has it open; stop that process, or use another directory")]
    Busy(PathBuf),
    /// The file that was open is no longer in the directory.
    #[error(
        "journal {0}: was deleted or replaced while it was open: its content is lost; editwar creates it again, and the \
         history starts there"
    )]
    Gone(PathBuf),
    /// Free space is so low that the next write may fail.
    #[error("journal {path}: only {} MiB are free{}", free >> 20, FULL_HINT)]
    Full {
        /// The directory.
        path: PathBuf,
        /// Free bytes of its file system.
        free: u64,
    },
    /// The content of the file is not what was written to it.
    #[error(
        "journal {path}: damaged ({message}): the writes in this file are lost; move it away, or set \
         journal.on_failure=degrade to let editwar do this"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The file was written by another version.
    #[error(
        "journal {path}: has format {found}, but this editwar writes format {}: move it away, or set \
         journal.on_failure=degrade to let editwar do this; the editwar that wrote it can still read it",
        segment::FORMAT
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
}

impl Error {
    /// Returns the kind of error, to log each kind once. All errors that report a lack of space are one kind.
    fn kind(&self) -> Discriminant<Error> {
        match self {
            Error::Storage { message, .. } if !hint(message).is_empty() => {
                discriminant(&Error::Full { path: PathBuf::new(), free: 0 })
            }
            other => discriminant(other),
        }
    }
}

/// What to do when space is exhausted.
const FULL_HINT: &str = ": free some space, or lower journal.max_size";

fn hint(message: &str) -> &'static str {
    let is_full = ["No space left", "File too large", "quota"].iter().any(|words| message.contains(words));
    if is_full { FULL_HINT } else { "" }
}
