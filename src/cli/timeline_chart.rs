//! Draws a war as a timeline chart: a row for each party, time from left to right, and the value at each write.

use std::fmt::Write;

use super::style::{Style, clean, clock, is_by, json_text};
use crate::audit::event::Micros;
use crate::query::views::{Coverage, TimelineEntry, War};

/// Maximum number of rows and fields that are drawn. The tables show the rest.
const LANES_MAX: usize = 6;
const FIELDS_MAX: usize = 3;
/// Maximum length of a value in characters.
const VALUE_CHARS_MAX: usize = 10;
/// Minimum number of columns for the time axis.
const TIME_COLUMNS_MIN: usize = 30;

/// Draws the contested fields of a war. Returns an empty string if there is nothing to draw or not enough space.
pub(super) fn picture(war: &War, timeline: &[TimelineEntry], coverage: &Coverage, style: Style) -> String {
    let mut out = String::new();
    let parties = || war.parties.iter().map(|party| party.actor.as_str());
    let label_width = parties().map(|party| style.actor(party).chars().count()).max().unwrap_or(0).min(40);
    let width = usize::from(style.width.min(200)).saturating_sub(label_width + 4);
    let times: Vec<Micros> = timeline.iter().map(|m| m.at).filter(|at| *at >= war.since).collect();
    let (Some(from), Some(to)) = (times.iter().min(), times.iter().max()) else { return out };
    if width < TIME_COLUMNS_MIN || to <= from {
        return out;
    }
    let scale = Scale { from: *from, to: *to, width };
    let is_drawn = |path: &&str| timeline.iter().any(|m| value_of(m, path).is_some());
    let paths = war.fields.iter().map(|f| f.path.as_str()).filter(is_drawn).take(FIELDS_MAX);
    for path in paths {
        let _ = writeln!(out, "\n{}", style.bold(&clean(path)));
        // Only the parties that write this field.
        let is_drawn = |party: &&str| timeline.iter().any(|m| is_by(party, m) && value_of(m, path).is_some());
        for lane in parties().filter(is_drawn).take(LANES_MAX) {
            let mut row = scale.row(coverage);
            let writes = timeline.iter().filter(|m| is_by(lane, m));
            for moment in writes {
                if let Some(value) = value_of(moment, path) {
                    row.put(scale.column(moment.at), &value);
                }
            }
            let label: String = style.actor(lane).chars().take(label_width).collect();
            let _ = writeln!(out, "  {label:label_width$}  {}", row.text());
        }
        let (from, to) = (clock(scale.from), clock(scale.to));
        let axis = format!("{:width$}", &from[11..], width = width.saturating_sub(9));
        let _ = writeln!(out, "  {:label_width$}  {axis}{}", "", &to[11..]);
    }
    out
}

/// Returns the value that a write gave to a field, shortened.
fn value_of(moment: &TimelineEntry, path: &str) -> Option<String> {
    if path == "(object)" {
        return match moment.effect.as_str() {
            "create" => Some("created".into()),
            "delete" => Some("deleted".into()),
            _ => None,
        };
    }
    if matches!(path, "(main)" | "(status)") {
        return (format!("({})", moment.part) == path).then(|| "•".into());
    }
    let change = moment.changes.iter().find(|c| c.path == path)?;
    let style = Style { width: 0, is_coloured: false, is_wide: false, now: None };
    let text = match &change.new {
        _ if change.new_redacted => "•".to_owned(),
        _ if change.new_unknown => "?".to_owned(),
        serde_json::Value::Null => "∅".to_owned(),
        value => json_text(value, style),
    };
    Some(if text.chars().count() > VALUE_CHARS_MAX {
        text.chars().take(VALUE_CHARS_MAX - 1).chain(['…']).collect()
    } else {
        text
    })
}

/// Maps times to columns.
struct Scale {
    from: Micros,
    to: Micros,
    width: usize,
}

/// One row: its cells, and the first free column. There is one empty cell after each value.
struct Row {
    cells: Vec<char>,
    taken: usize,
}

// === impl Scale ===

impl Scale {
    fn column(&self, at: Micros) -> usize {
        let columns = (self.width - 1) as f64;
        let share = (at - self.from) as f64 / (self.to - self.from) as f64;
        (share.clamp(0.0, 1.0) * columns).round() as usize
    }

    /// Returns an empty row, shaded where there are no audit events.
    fn row(&self, coverage: &Coverage) -> Row {
        let mut cells = vec!['·'; self.width];
        for gap in coverage.gaps.iter().filter(|gap| gap.to > self.from && gap.from < self.to) {
            cells[self.column(gap.from)..=self.column(gap.to)].fill('░');
        }
        Row { cells, taken: 0 }
    }
}

// === impl Row ===

impl Row {
    /// Draws a value at its column, or only a dot if there is no space for it.
    fn put(&mut self, column: usize, value: &str) {
        let chars: Vec<char> = value.chars().collect();
        let start = column.min(self.cells.len().saturating_sub(chars.len()));
        if start < self.taken || start + chars.len() > self.cells.len() {
            if column + 1 >= self.taken && column < self.cells.len() {
                self.cells[column] = '•';
                self.taken = self.taken.max(column + 2);
            }
            return;
        }
        self.cells[start..start + chars.len()].copy_from_slice(&chars);
        self.taken = start + chars.len() + 1;
    }

    fn text(&self) -> String {
        self.cells.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::views::Gap;

    #[test]
    fn values_are_drawn_at_their_time_and_gaps_are_shaded() {
        let scale = Scale { from: 0, to: 100, width: 21 };
        let coverage = Coverage { gaps: vec![Gap { from: 40, to: 60 }], ..Coverage::default() };
        let mut row = scale.row(&coverage);
        for (at, value) in [(0, "3"), (20, "5"), (25, "3"), (100, "long")] {
            row.put(scale.column(at), value);
        }
        assert_eq!(row.text(), "3···5•··░░░░░····long");
    }
}
