//! How far logs were read, kept in a file that is whole at any moment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::audit::event::Micros;

/// First bytes by which a file is known: an event's audit ID stands within the first 200.
pub(super) const HEAD_BYTES_MAX: usize = 1024;
const VERSION: u32 = 1;

/// A place in a file, and what was read up to it since the log was followed first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Where the file lies: a hint, for it may be compressed into another.
    pub device: u64,
    /// Which file: a hint too.
    pub inode: u64,
    /// How many of its first bytes it is known by.
    pub head_len: usize,
    /// Their hash.
    pub head_hash: u64,
    /// Bytes of whole lines that were handed on, unpacked.
    pub offset: u64,
    /// The latest time of an event among all that was read.
    pub at: Micros,
    /// Lines that were handed on, of all files.
    pub lines: u64,
    /// Bytes that were handed on, of all files.
    pub bytes: u64,
}

/// The positions of all followed logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// By the log's name.
    pub positions: BTreeMap<PathBuf, Position>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    positions: BTreeMap<PathBuf, Position>,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Cannot be read or written.
    #[error("the checkpoint {path}: {source}; its directory must exist and be writable")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Is none.
    #[error("{path} is no checkpoint: {message}; delete it to begin at the start of the logs")]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// No thread.
    #[error("no thread to follow logs with: {source}; raise the limit of processes")]
    Thread {
        /// Why.
        source: io::Error,
    },
}

/// FNV-1a: the same in every version and on every machine.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

// === impl Checkpoint ===

impl Checkpoint {
    /// The checkpoint in a file; an empty one where there is no file.
    ///
    /// # Errors
    /// [`Error`].
    pub fn load(path: &Path) -> Result<Checkpoint, Error> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checkpoint::default()),
            Err(source) => return Err(Error::Io { path: path.into(), source }),
        };
        let invalid = |message: String| Error::Invalid { path: path.into(), message };
        let stored: Stored = serde_json::from_slice(&text).map_err(|e| invalid(e.to_string()))?;
        if stored.version != VERSION {
            return Err(invalid(format!("version {}, and this editwar knows {VERSION}", stored.version)));
        }
        Ok(Checkpoint { positions: stored.positions })
    }

    /// Writes the checkpoint: a crash leaves the old one or the new one, never a part.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let stored = Stored { version: VERSION, positions: self.positions.clone() };
        let text = serde_json::to_vec_pretty(&stored).expect("paths were read as text");
        let write = || -> io::Result<()> {
            let mut name = path.as_os_str().to_owned();
            name.push(".new");
            let mut file = File::create(&name)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&name, path)?;
            // The new name is on disk once the directory is.
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        };
        write().map_err(|source| Error::Io { path: path.into(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written_and_damage_is_told() {
        let path = std::env::temp_dir().join(format!("editwar-checkpoint-{}.json", std::process::id()));
        drop(std::fs::remove_file(&path));
        assert_eq!(Checkpoint::load(&path).unwrap(), Checkpoint::default());
        let position =
            Position { device: 1, inode: 2, head_len: 3, head_hash: u64::MAX, offset: 5, at: -6, lines: 7, bytes: 8 };
        let checkpoint = Checkpoint { positions: [(PathBuf::from("/a/b.log"), position)].into() };
        checkpoint.save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint);
        std::fs::write(&path, "{\"version\":1,").unwrap();
        assert!(Checkpoint::load(&path).unwrap_err().to_string().contains("delete it"));
        std::fs::write(&path, "{\"version\":9,\"positions\":{}}").unwrap();
        assert!(Checkpoint::load(&path).unwrap_err().to_string().contains("version 9"));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_hash_stays_what_it_was() {
        // The published test values of FNV-1a.
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
