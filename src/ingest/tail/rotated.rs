//! Lists the files of one log in the order in which they were written: rotated files first, the current one last.
//!
//! Rotated files are recognised by name, each with or without `.gz`: kube-apiserver and lumberjack put a time before
//! the extension (`audit-2026-02-11T10-00-00.000.log`), logrotate appends a number or a date (`audit.log.1`,
//! `audit.log-20260211`), and the kubelet appends a time (`0.log.20260211-100000`).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Maximum length of a rotation number. Longer numbers are dates.
const NUMBER_LEN_MAX: usize = 4;

/// The identity of a file on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Device number.
    pub(super) device: u64,
    /// Inode number on the device.
    pub(super) inode: u64,
}

/// One file of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path.
    pub(super) path: PathBuf,
    /// Its identity.
    pub(super) identity: Identity,
    /// Whether it is compressed.
    pub(super) is_packed: bool,
    /// Whether it is the file that is being written.
    pub(super) is_live: bool,
    /// Whether its size is 0.
    pub(super) is_empty: bool,
    /// Index of the log's directory that contains it.
    pub(super) folder: usize,
}

/// A directory that contains files of a log, and the log's file name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    /// Path of the directory.
    pub(super) path: PathBuf,
    name: String,
}

/// The age of a rotated file according to its name. The least rank is the oldest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Number(Reverse<u32>),
    Stamp(String),
}

struct Found {
    entry: Entry,
    rank: Rank,
    modified: SystemTime,
}

// === impl Identity ===

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Identity {
        Identity { device: metadata.dev(), inode: metadata.ino() }
    }
}

// === impl Entry ===

impl Entry {
    /// Returns the file that a log's name refers to now, or `None` if there is none. A directory, a pipe or a device is
    /// an error: it has no first bytes to identify it by, and reading a pipe may never end.
    pub(super) fn live(path: &Path) -> io::Result<Option<Entry>> {
        match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => Err(not_a_file()),
            Ok(found) => Ok(Some(Entry {
                path: path.into(),
                identity: Identity::of(&found),
                is_packed: false,
                is_live: true,
                is_empty: found.len() == 0,
                folder: 0,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn not_a_file() -> io::Error {
    io::Error::other("not a regular file; give the path of a log file")
}

/// Returns the directories of a log: the previous target of its symbolic links (`real`), its own, and the current
/// target.
pub(super) fn folders(path: &Path, real: Option<&Path>) -> Vec<Folder> {
    let now = std::fs::canonicalize(path).ok();
    let mut folders: Vec<Folder> = Vec::new();
    for file in [real, Some(path), now.as_deref()].into_iter().flatten() {
        let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { continue };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let Ok(folder) = std::fs::canonicalize(folder) else { continue };
        let folder = Folder { path: folder, name: name.to_string_lossy().into_owned() };
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Returns all files of a log, oldest first. The file that is being written is last.
pub(super) fn list(path: &Path, real: Option<&Path>) -> io::Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for (index, folder) in folders(path, real).iter().enumerate() {
        entries.extend(list_folder(folder, index)?);
        // In the previous target directory, the last file still has the log's name.
        entries.extend(Entry::live(&folder.path.join(&folder.name))?.map(|e| Entry {
            is_live: false,
            folder: index,
            ..e
        }));
    }
    if let Some(live) = Entry::live(path)? {
        let folder = entries.iter().find(|e| e.identity == live.identity).map_or(0, |e| e.folder);
        entries.retain(|e| e.identity != live.identity);
        entries.push(Entry { folder, ..live });
    }
    Ok(entries)
}

fn list_folder(folder: &Folder, index: usize) -> io::Result<Vec<Entry>> {
    let mut found: HashMap<String, Found> = HashMap::new();
    for item in std::fs::read_dir(&folder.path)? {
        let path = item?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let Some(rank) = rank(plain, &folder.name) else { continue };
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => continue,
            // Deleted since the directory was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let is_packed = plain.len() < name.len();
        // While a file is being compressed both exist, and only the plain one is complete.
        if is_packed && found.contains_key(plain) {
            continue;
        }
        let modified = metadata.modified()?;
        let identity = Identity::of(&metadata);
        let is_empty = metadata.len() == 0;
        let entry = Entry { path, identity, is_packed, is_live: false, is_empty, folder: index };
        found.insert(plain.to_owned(), Found { entry, rank, modified });
    }
    let mut found: Vec<Found> = found.into_values().collect();
    let numbers = found.iter().filter(|f| matches!(f.rank, Rank::Number(_))).count();
    // Numbers and dates cannot be compared, so a mixture is sorted by modification time.
    if numbers == 0 || numbers == found.len() {
        found.sort_by(|a, b| a.rank.cmp(&b.rank));
    } else {
        found.sort_by_key(|f| f.modified);
    }
    Ok(found.into_iter().map(|f| f.entry).collect())
}

/// Returns the rank of a file among the rotated files of the log `live`, or `None` if it is not one of them.
fn rank(name: &str, live: &str) -> Option<Rank> {
    let behind = name.strip_prefix(live).and_then(|rest| rest.strip_prefix(['.', '-']));
    let before = || {
        let (stem, extension) = live.rsplit_once('.')?;
        name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(extension)?.strip_suffix('.')
    };
    let mark = behind.or_else(before)?;
    let is_mark = mark.starts_with(|c: char| c.is_ascii_digit())
        && mark.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'T' | b'Z' | b':' | b'-' | b'_' | b'.'));
    match mark.parse::<u32>() {
        _ if !is_mark => None,
        Ok(number) if mark.len() <= NUMBER_LEN_MAX => Some(Rank::Number(Reverse(number))),
        _ => Some(Rank::Stamp(mark.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_rotated(name: &str, live: &str) -> bool {
        rank(name, live).is_some()
    }

    #[test]
    fn rotated_files_are_distinguished_from_other_files() {
        for name in ["audit-2026-02-11T10-00-00.000.log", "audit.log.1", "audit.log-20260211", "audit.log.20260211-10"]
        {
            assert!(is_rotated(name, "audit.log"), "{name}");
        }
        for name in
            ["audit.log", "audit-webhook.log", "audit.log.new", "audit2.log", "audit-1.json", "x-1.log", "audit.log."]
        {
            assert!(!is_rotated(name, "audit.log"), "{name}");
        }
    }

    #[test]
    fn the_oldest_rotated_file_comes_first() {
        let in_order = |names: &[&str]| {
            let ranks: Vec<Rank> = names.iter().map(|name| rank(name, "audit.log").unwrap()).collect();
            assert!(ranks.is_sorted(), "{names:?}");
        };
        in_order(&["audit.log.12", "audit.log.2", "audit.log.1"]);
        in_order(&[
            "audit-2026-02-11T10-00-00.000.log",
            "audit-2026-02-11T10-00-00.001.log",
            "audit-2026-03-01T00-00-00.000.log",
        ]);
        in_order(&["audit.log-20251231", "audit.log-20260101"]);
    }
}
