//! Text output for people: tables and timelines. All external text is escaped first.
//!
//! [`report()`] formats the result of `analyze` and `wars`, [`participants()`] that of `who`. Colours and the width of the
//! terminal are in [`super::style`].

mod coverage;
mod document;
mod findings;
mod participants;
mod report;
mod war;

pub use super::style::{Style, clean};
pub use coverage::{coverage, problems};
pub(super) use document::{json, yaml};
pub use participants::participants;
pub(super) use report::no_war;
pub use report::{WhoCommand, report};
pub(super) use war::verdict;
pub use war::{name, transitions};
