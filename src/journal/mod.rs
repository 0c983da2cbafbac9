//! What survives: every write, on disk before its batch is answered; read again at the next start.
//!
//! [`record`] is one write as it is kept, [`turn`] a verdict that changed, [`segment`] one file of them, [`store`] a directory of
//! segments with an end to its age and size, [`reader`] what reads them meanwhile. `head` knows what should be there, and `disk`
//! does every change to a file. [`committer`] writes what all requests bring together, with one commit for all. [`replay`]
//! shows the recent past to the pipeline at a start, [`past`] all of one object's to a question.

pub mod committer;
pub mod disk;
mod head;
pub mod past;
pub mod reader;
pub mod record;
pub mod replay;
pub mod segment;
pub mod store;
pub mod turn;

use std::path::PathBuf;

/// Why something cannot be kept or read again. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be used.
    #[error("journal {path}: {source}: give editwar a directory that it may write to, or --journal off")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written or read.
    #[error("journal {path}: {message}{}", hint(message))]
    Storage {
        /// Which.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// Another process has it open.
    #[error("journal {0}: another process has it open; stop that one, or give this one a directory of its own")]
    Busy(PathBuf),
    /// What was written to is not in the directory any more.
    #[error(
        "journal {0}: was deleted or replaced while it was open: what was in it is lost; it is made anew, and the history \
         begins there"
    )]
    Gone(PathBuf),
    /// The next write may fail.
    #[error("journal {path}: only {} MiB are free{}", free >> 20, FULL_HINT)]
    Full {
        /// The directory.
        path: PathBuf,
        /// Free bytes of its file system.
        free: u64,
    },
    /// The file is not what was written to it.
    #[error(
        "journal {path}: damaged ({message}): the writes in this file are lost; move it away, or set \
         journal.on_failure=degrade to have that done"
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Written by another version.
    #[error(
        "journal {path}: has format {found}, and this editwar writes format {}: move it away, or set \
         journal.on_failure=degrade to have that done; the editwar that wrote it can still read it",
        segment::FORMAT
    )]
    Format {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: String,
    },
}

/// What to do where there is no space.
const FULL_HINT: &str = ": free some space, or lower journal.size_max";

fn hint(message: &str) -> &'static str {
    let is_full = ["No space left", "File too large", "quota"].iter().any(|words| message.contains(words));
    if is_full { FULL_HINT } else { "" }
}
