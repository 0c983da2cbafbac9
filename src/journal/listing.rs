//! Lists the files of a journal's directory by name, and derives from gaps in their numbers which writes are missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::head::{Found, HeadContent};
use super::segment::DRAFT;
use crate::audit::event::Micros;

/// File name extensions: segments, and unreadable segments that were set aside.
pub(super) const SUFFIX: &str = "redb";
pub(super) const ASIDE: &str = "redb.aside";
/// A temporary file that is written to check for free space.
pub(super) const PROBE: &str = "probe.new";

/// The files of a directory, by kind.
#[derive(Default)]
pub(super) struct Listing {
    /// Sealed segments: number, path, and the time of the last write.
    pub(super) sealed: Vec<(u64, PathBuf, Micros)>,
    /// Segments that are not sealed, or were not renamed yet when the process ended.
    pub(super) plain: Vec<(u64, PathBuf)>,
    /// Segments that were set aside: number, and the time of the last write if the name has one.
    aside: Vec<(u64, Option<Micros>)>,
    /// Drafts of segments and probes that a previous process left behind.
    pub(super) drafts: Vec<PathBuf>,
}

// === impl Listing ===

impl Listing {
    /// Reads the directory.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn read(folder: &Path) -> std::io::Result<Listing> {
        let mut listing = Listing::default();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some((stem, suffix)) = name.split_once('.') else { continue };
            let (number, last) = match stem.split_once('-') {
                Some((number, last)) => (number, last.parse().ok()),
                None => (stem, None),
            };
            match (suffix, number.parse(), last) {
                (DRAFT, ..) => listing.drafts.push(path),
                _ if name == PROBE => listing.drafts.push(path),
                (SUFFIX, Ok(number), Some(last)) => listing.sealed.push((number, path, last)),
                (SUFFIX, Ok(number), None) => listing.plain.push((number, path)),
                (ASIDE, Ok(number), last) => listing.aside.push((number, last)),
                _ => {}
            }
        }
        listing.sealed.sort();
        listing.plain.sort();
        Ok(listing)
    }

    /// Returns the numbers of all segments, including those that were set aside.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        let plain = self.plain.iter().map(|(number, _)| *number);
        self.sealed.iter().map(|(number, ..)| *number).chain(plain).chain(self.aside.iter().map(|(number, _)| *number))
    }

    /// Returns the content of the head, corrected for segments that are missing.
    pub(super) fn reconcile(&self, found: Found, now: Micros) -> HeadContent {
        let numbers: BTreeSet<u64> = self.numbers().collect();
        let (first, last) = (numbers.first().copied().unwrap_or(0), numbers.last().copied().unwrap_or(0));
        let mut known = match found {
            Found::Known(known) => known,
            // A journal from before head files existed: it is not known what retention has removed.
            Found::Nothing if !numbers.is_empty() => {
                let oldest = self.sealed.first().filter(|(number, ..)| *number > 1).map(|(.., last)| last + 1);
                HeadContent { first, last, complete_since: oldest.unwrap_or(0).min(now) }
            }
            Found::Nothing | Found::Damaged => HeadContent { first, last, complete_since: now },
        };
        let mut lost = None;
        let expected = numbers.range(known.first..).copied();
        let mut before = known.first.max(1) - 1;
        for number in expected {
            if number > before + 1 {
                // Nothing is known about a missing segment, except that later ones were written after it.
                let after = self.sealed.iter().find(|(sealed, ..)| *sealed >= number).map_or(now, |(.., last)| *last);
                lost = lost.max(Some(after.min(now)));
                known.first = number;
            }
            before = number;
        }
        if known.last > before {
            lost = Some(now);
        }
        if let Some(until) = lost {
            tracing::warn!("journal files are missing; the history is complete from the next file on");
            known.complete_since = known.complete_since.max(until.saturating_add(1));
        }
        known.last = last;
        known
    }
}
