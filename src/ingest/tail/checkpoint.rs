//! Stores how far logs were read, in a file that is replaced atomically.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::audit::event::Micros;

/// Maximum number of first bytes that identify a file. The audit ID of an event is within the first 200.
pub(super) const HEAD_BYTES_MAX: usize = 1024;
const VERSION: u32 = 1;

/// A position in a file, and totals since the log was first tailed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Device of the file. Only a hint, since the file may be compressed into another one.
    pub device: u64,
    /// Inode of the file. Only a hint, like the device.
    pub inode: u64,
    /// Number of first bytes that identify the file.
    pub head_len: usize,
    /// Hash of these bytes.
    pub head_hash: u64,
    /// Number of decompressed bytes of whole lines that were passed on.
    pub offset: u64,
    /// The latest event time of everything that was read.
    pub at: Micros,
    /// Total number of lines that were passed on, of all files.
    pub lines: u64,
    /// Total number of bytes that were passed on, of all files.
    pub bytes: u64,
}

/// The positions of all logs that are tailed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Positions by the path of the log.
    pub positions: BTreeMap<PathBuf, Position>,
}

#[derive(Serialize, Deserialize)]
struct CheckpointFile {
    version: u32,
    positions: BTreeMap<PathBuf, Position>,
}

/// The reason why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("checkpoint {path}: {source}; check that its directory exists and is writable")]
    Io {
        /// Path of the checkpoint.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not a valid checkpoint.
    #[error("{path} is not a valid checkpoint: {message}; delete it to start at the beginning of the logs")]
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The thread cannot be started.
    #[error("cannot start a thread to tail logs: {source}; raise the limit on processes")]
    Thread {
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Returns the FNV-1a hash, which is the same in every version and on every machine.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

// === impl Checkpoint ===

impl Checkpoint {
    /// Loads a checkpoint. Returns an empty one if the file does not exist.
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
        let file: CheckpointFile = serde_json::from_slice(&text).map_err(|e| invalid(e.to_string()))?;
        if file.version != VERSION {
            return Err(invalid(format!(
                "it has version {}, but this editwar supports version {VERSION}",
                file.version
            )));
        }
        Ok(Checkpoint { positions: file.positions })
    }

    /// Saves the checkpoint atomically: after a crash, either the old or the new one exists.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let file = CheckpointFile { version: VERSION, positions: self.positions.clone() };
        let text = serde_json::to_vec_pretty(&file).expect("paths were read as text");
        let write = || -> io::Result<()> {
            let mut name = path.as_os_str().to_owned();
            name.push(".new");
            let mut file = File::create(&name)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&name, path)?;
            // The rename is durable once the directory is synced.
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
    fn checkpoints_round_trip_and_damage_is_an_error() {
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
    fn the_hash_is_fnv_1a() {
        // The published test values of FNV-1a.
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
