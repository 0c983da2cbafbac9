//! What survives: every write, on disk before its batch is answered; read again at the next start.
//!
//! [`record`] is one write as it is kept, [`turn`] a verdict that changed, [`segment`] one file of them, [`store`] a directory of segments with an end to
//! its age and size. [`committer`] writes what all requests bring together, with one fsync for all. [`replay`] shows the
//! recent past to the pipeline at a start, [`past`] all of one object's to who asks.

pub mod committer;
pub mod past;
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

fn hint(message: &str) -> &'static str {
    let is_full = ["No space left", "File too large", "quota"].iter().any(|words| message.contains(words));
    if is_full { ": free some space, or lower journal.size_max" } else { "" }
}
