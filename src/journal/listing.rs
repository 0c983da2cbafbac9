//! The files of a journal's directory, by their names, and what their absence says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::head::{Found, Known};
use super::segment::DRAFT;
use crate::audit::event::Micros;

/// Ends of names: segments, and those that could not be read and were set aside.
pub(super) const SUFFIX: &str = "redb";
pub(super) const ASIDE: &str = "redb.aside";
/// The file that is written to see whether there is space.
pub(super) const PROBE: &str = "probe.new";

/// What a directory holds.
#[derive(Default)]
pub(super) struct Listing {
    /// Numbers, names and last times of those that ended.
    pub(super) sealed: Vec<(u64, PathBuf, Micros)>,
    /// Those that did not end, or have not got their name yet.
    pub(super) plain: Vec<(u64, PathBuf)>,
    /// Numbers and last times of those that were set aside.
    aside: Vec<(u64, Option<Micros>)>,
    /// Those that are being made, or were when the process ended.
    pub(super) drafts: Vec<PathBuf>,
}

// === impl Listing ===

impl Listing {
    /// Reads the directory.
    ///
    /// # Errors
    /// That it cannot be read.
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

    /// Numbers of the files that hold writes.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        let plain = self.plain.iter().map(|(number, _)| *number);
        self.sealed.iter().map(|(number, ..)| *number).chain(plain).chain(self.aside.iter().map(|(number, _)| *number))
    }

    /// What the head says, after a look at which files are missing.
    pub(super) fn reconcile(&self, found: Found, now: Micros) -> Known {
        let numbers: BTreeSet<u64> = self.numbers().collect();
        let (first, last) = (numbers.first().copied().unwrap_or(0), numbers.last().copied().unwrap_or(0));
        let mut known = match found {
            Found::Known(known) => known,
            // A journal that was written before there were heads: what went with its age or size is not known.
            Found::Nothing if !numbers.is_empty() => {
                let oldest = self.sealed.first().filter(|(number, ..)| *number > 1).map(|(.., last)| last + 1);
                Known { first, last, complete_since: oldest.unwrap_or(0).min(now) }
            }
            Found::Nothing | Found::Damaged => Known { first, last, complete_since: now },
        };
        let mut lost = None;
        let expected = numbers.range(known.first..).copied();
        let mut before = known.first.max(1) - 1;
        for number in expected {
            if number > before + 1 {
                // Of a file that is gone nothing is known but that later ones were written after it.
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
