//! Prints the kinds of evidence, from least to most, with what each needs and shows.

use std::fmt::Write as _;

use crate::cli::evidence::{Description, Evidence};

const LAST: &str = "\
Each kind needs what it says and no more: a watch needs no audit log, and a log
that you have needs no cluster. `editwar doctor` tells which kind you have now.
";

/// Returns the kinds of evidence as a text of at most 80 columns.
pub(super) fn print() -> String {
    let mut text = "What editwar can base an answer on, from least to most:\n\n".to_owned();
    for (number, kind) in Evidence::ALL.into_iter().enumerate() {
        let Description { name, needs, shows, lacks, commands } = kind.description();
        let _ = writeln!(text, "{}  {name}", number + 1);
        for (title, line) in [("needs", needs), ("shows", shows), ("misses", lacks)] {
            let _ = writeln!(text, "   {title:<9}{line}");
        }
        for (number, command) in commands.iter().enumerate() {
            let title = if number == 0 { "command" } else { "" };
            let _ = writeln!(text, "   {title:<9}{command}");
        }
        text.push('\n');
    }
    text + LAST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_in_80_columns() {
        let text = print();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for kind in Evidence::ALL {
            assert!(text.contains(kind.description().name), "{text}");
        }
    }
}
