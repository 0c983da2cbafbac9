//! Text output for people: tables and timelines. All external text is escaped first.
//!
//! `report` formats the result of `analyze` and `wars`, `participants` that of `who`, and `actor_writes` that of
//! `who --actor`. Colours, times and the width of the terminal are in [`super::style`].

mod actor_writes;
mod coverage;
mod document;
mod findings;
mod participants;
mod report;
mod rows;
mod war;

pub use super::style::{Style, clean};
pub(super) use actor_writes::actor_writes;
pub use coverage::{coverage, problems};
pub(super) use document::{json, json_lines, yaml};
pub use participants::participants;
pub(super) use participants::{remedies_heading, remedy_notes};
pub(super) use report::no_war;
pub use report::{WhoCommand, report, set_checks};
pub(super) use rows::{csv_wars, csv_writes};
pub(super) use war::{counted, verdict};
pub use war::{name, transitions};
