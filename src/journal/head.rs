//! The head file of a journal: which segment files should exist, and since when no acknowledged write is missing.
//!
//! It is a single line of fixed length that is overwritten in place, so that an update needs no space on a full disk.
//! From the first write on, none of the three numbers ever decreases. So if a crash leaves only the first part of an
//! update on disk, the numbers that are read are at least those of the previous line.
//!
//! The file is locked while the journal is open: two processes cannot share a journal.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Error;
use super::disk::Disk;
use crate::audit::event::Micros;

/// Its file name in the journal's directory.
const NAME: &str = "head";

/// The head of an open journal.
#[derive(Debug)]
pub(super) struct Head {
    disk: Disk,
    path: PathBuf,
    file: File,
    known: HeadContent,
}

/// The content of a head file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeadContent {
    /// Number of the first segment that retention has not removed.
    pub(super) first: u64,
    /// Number of the last segment that was created.
    pub(super) last: u64,
    /// Every acknowledged write with an event time at or after this one is in the segments.
    pub(super) complete_since: Micros,
}

/// The state of the head file when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Empty: the journal is new, or older than head files are.
    Nothing,
    /// Valid content.
    Known(HeadContent),
    /// Content that does not parse.
    Damaged,
}

// === impl Head ===

impl Head {
    /// Opens and locks the head of a journal.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Directory`].
    pub(super) fn open(disk: &Disk, folder: &Path) -> Result<(Head, Found), Error> {
        Head::open_file(disk, folder, true)
    }

    /// Records that writes up to a time are missing, in a journal that is not open at the moment.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Directory`].
    pub(super) fn raise_closed(disk: &Disk, folder: &Path, complete_since: Micros) -> Result<(), Error> {
        let (mut head, found) = Head::open_file(disk, folder, false)?;
        match found {
            Found::Known(known) if known.complete_since < complete_since => {
                head.known = HeadContent { complete_since, ..known };
                head.write()
            }
            _ => Ok(()),
        }
    }

    fn open_file(disk: &Disk, folder: &Path, creates: bool) -> Result<(Head, Found), Error> {
        let unusable = |source| Error::Directory { path: folder.into(), source };
        let path = folder.join(NAME);
        let mut file = disk.open(&path, creates).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy(folder.into())),
            // The file system has no locks. redb's own lock is tried next.
            Err(TryLockError::Error(error)) => tracing::debug!(%error, "cannot lock the journal's head file"),
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(unusable)?;
        let found = if text.is_empty() {
            Found::Nothing
        } else {
            HeadContent::parse(&text).map_or(Found::Damaged, Found::Known)
        };
        let known = if let Found::Known(known) = found { known } else { HeadContent::default() };
        Ok((Head { disk: disk.clone(), path, file, known }, found))
    }

    /// Returns the current content.
    pub(super) fn known(&self) -> HeadContent {
        self.known
    }

    /// Replaces the content, durably. Writes nothing if the content is unchanged.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(super) fn set(&mut self, known: HeadContent) -> Result<(), Error> {
        if known == self.known {
            return Ok(());
        }
        // Set even if the write fails, so that answers from memory are correct.
        self.known = known;
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        let written = self.disk.write(&self.path, &self.file, 0, self.known.text().as_bytes());
        let written = written.and_then(|()| self.disk.sync(&self.path, &self.file));
        written.map_err(|error| Error::Storage { path: self.path.clone(), message: error.to_string() })
    }
}

// === impl HeadContent ===

impl HeadContent {
    fn text(&self) -> String {
        // There are no writes from before 1970 that could be missing.
        let complete_since = self.complete_since.max(0);
        format!("editwar journal: files {:020} to {:020}, complete since {complete_since:020}\n", self.first, self.last)
    }

    fn parse(text: &[u8]) -> Option<HeadContent> {
        let rest = std::str::from_utf8(text).ok()?.strip_prefix("editwar journal: files ")?;
        let (first, rest) = rest.split_once(" to ")?;
        let (last, rest) = rest.split_once(", complete since ")?;
        let complete_since = rest.strip_suffix('\n')?;
        let known = HeadContent {
            first: first.parse().ok()?,
            last: last.parse().ok()?,
            complete_since: complete_since.parse().ok()?,
        };
        (known.text().as_bytes() == text).then_some(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_round_trip_and_anything_else_is_damage() {
        let known = HeadContent { first: 3, last: 12, complete_since: 1_795_400_000_000_001 };
        let text = known.text();
        assert_eq!(HeadContent::parse(text.as_bytes()), Some(known));
        for end in 0..text.len() {
            assert_eq!(HeadContent::parse(&text.as_bytes()[..end]), None);
        }
        assert_eq!(HeadContent::parse(&vec![0; text.len()]), None);
    }

    #[test]
    fn a_partially_written_head_never_has_lower_values() {
        let before = HeadContent { first: 3, last: 99, complete_since: 1_795_399_999_999_999 };
        let after = HeadContent { first: 4, last: 100, complete_since: 1_795_400_000_000_001 };
        let (old, new) = (before.text(), after.text());
        for end in 0..=old.len() {
            let torn = HeadContent::parse(&[&new.as_bytes()[..end], &old.as_bytes()[end..]].concat()).unwrap();
            assert!(torn.first >= before.first && torn.last >= before.last, "{torn:?}");
            assert!(torn.complete_since >= before.complete_since, "{torn:?}");
        }
    }
}
