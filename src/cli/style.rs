//! How text, names, values and times are shown.

use std::io::IsTerminal;

use comfy_table::{ContentArrangement, Table, presets};

use crate::audit::event::Micros;
use crate::detect::verdict::State;
use crate::escape;
use crate::query::views::{TimelineEntry, time};
use crate::util::duration;

/// Width if there is no terminal.
const WIDTH_DEFAULT: u16 = 120;
/// Below this width, things are listed one below the other, since table columns would be too narrow.
const STACKED_BELOW: u16 = 140;
/// Maximum length of a value in a table, in characters.
const VALUE_CHARS_MAX: usize = 40;

/// How output is formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Width in columns.
    pub width: u16,
    /// Whether to use colours and bold text.
    pub is_coloured: bool,
    /// Whether to show full names and all rows.
    pub is_wide: bool,
    /// The time to which times are shown relative. Without one, they are shown in UTC.
    pub now: Option<Micros>,
}

// === impl Style ===

impl Style {
    /// Returns the style for standard output: the width of the terminal, and colours unless `NO_COLOR` is set.
    pub fn of_stdout(is_wide: bool) -> Style {
        let stdout = std::io::stdout();
        let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
        let width = if stdout.is_terminal() {
            Table::new().width().unwrap_or(WIDTH_DEFAULT)
        } else {
            columns.unwrap_or(WIDTH_DEFAULT)
        };
        let is_coloured = match anstream::AutoStream::choice(&stdout) {
            anstream::ColorChoice::Never => false,
            anstream::ColorChoice::Auto => stdout.is_terminal(),
            anstream::ColorChoice::Always | anstream::ColorChoice::AlwaysAnsi => true,
        };
        Style { width: if is_wide { 1000 } else { width.max(60) }, is_coloured, is_wide, now: None }
    }

    /// Returns the style with times relative to `now`. Wide output shows them in UTC.
    pub fn relative_to(self, now: Option<Micros>) -> Style {
        Style { now: now.filter(|_| !self.is_wide), ..self }
    }

    /// Formats a past time for a table: `5m ago`, or in UTC on two lines.
    pub(super) fn past(self, at: Micros) -> String {
        match self.now {
            Some(now) => format!("{} ago", duration::age(now.saturating_sub(at))),
            None => clock(at).replacen(' ', "\n", 1),
        }
    }

    /// Whether tables with many columns would be too narrow.
    pub(super) fn is_narrow(self) -> bool {
        self.width < STACKED_BELOW
    }

    pub(super) fn table(self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(self.width);
        if self.is_coloured {
            table.enforce_styling()
        } else {
            table.force_no_tty()
        };
        table
    }

    pub(super) fn actor(self, name: &str) -> String {
        if self.is_wide { clean(name) } else { short(name) }
    }

    pub(super) fn state(self, state: State, text: &str) -> String {
        let code = match state {
            State::Sustained => "31",
            State::Thrashing | State::Subsiding => "33",
            State::Calm | State::Contested => return text.to_owned(),
        };
        if self.is_coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Wraps text to the width of the terminal, with an indent. Words are not split.
    pub(super) fn wrapped(self, text: &str, indent: usize) -> String {
        let width = usize::from(self.width).saturating_sub(indent).max(20);
        let mut lines: Vec<String> = Vec::new();
        for word in text.split(' ') {
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        lines.iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
    }

    pub(super) fn bold(self, text: &str) -> String {
        if self.is_coloured { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

pub(super) fn json_text(json: &serde_json::Value, style: Style) -> String {
    let text = match json {
        serde_json::Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    };
    if style.is_wide || text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    text.chars().take(VALUE_CHARS_MAX - 1).chain(['…']).collect()
}

/// Returns whether a write was made by the party with this name.
pub(super) fn is_by(party: &str, moment: &TimelineEntry) -> bool {
    party == moment.actor || party.strip_prefix(&moment.actor) == Some(&format!(" via {}", moment.tool))
}

/// Shortens an actor's name by a common prefix. The result is always a suffix of the full name.
fn short(actor: &str) -> String {
    let rest = actor.strip_prefix("system:serviceaccount:").or_else(|| actor.strip_prefix("system:"));
    clean(rest.unwrap_or(actor))
}

/// Formats a time as `2026-02-11 10:00:00Z`, always with this width.
pub(super) fn clock(at: Micros) -> String {
    let text = time::text(at);
    match text.get(..19) {
        Some(seconds) if text.len() >= 20 => format!("{}Z", seconds.replacen('T', " ", 1)),
        _ => "0000-00-00 00:00:00Z".to_owned(),
    }
}

pub(super) fn words(snake: &str) -> String {
    snake.replace('_', " ")
}

/// Escapes text, so that it cannot contain control sequences or change the text direction.
pub fn clean(text: &str) -> String {
    escape::text(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_but_greppable() {
        assert_eq!(short("system:serviceaccount:kube-system:hpa"), "kube-system:hpa");
        assert_eq!(short("system:node:n1"), "node:n1");
        assert_eq!(short("alice"), "alice");
    }
}
