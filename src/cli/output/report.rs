//! The report of `analyze` and `wars`: a table of the wars, or a list in narrow terminals, and a line for each other
//! finding.

use std::fmt::Write;

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, Table, Width};

use super::coverage::{coverage, problems};
use super::findings::{excess, findings};
use super::war::{counted, fields_name, name, shown_state, status, times, value_text, verdict};
use crate::cli::style::{Style, clean};
use crate::detect::verdict::State;
use crate::query::views::{Coverage, Field, HotLoop, Matched, Object, ProblemKind, Report, War};
use crate::util::duration;
use crate::util::shell::quoted;

/// How to query for details: the command before the object, and the arguments after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhoCommand {
    /// `editwar who`, or the equivalent of the kubectl plugin.
    pub command: &'static str,
    /// Arguments that name the server. Without them, the same files are used.
    pub server_arguments: Option<String>,
}

impl Default for WhoCommand {
    fn default() -> WhoCommand {
        WhoCommand { command: "editwar who", server_arguments: None }
    }
}

/// Formats the report of `analyze`.
pub fn report(report: &Report, who: &WhoCommand, style: Style) -> String {
    let mut out = problems(&report.coverage, style);
    let (undecided, decided): (Vec<&War>, Vec<&War>) = report.wars.iter().partition(|war| war.is_undecided());
    let verdict = if decided.is_empty() { no_war(report) } else { Some(counts(&decided)) };
    if let Some(verdict) = verdict {
        // These are the counts of the shown objects only.
        let shown = if report.omitted > 0 && !decided.is_empty() { "Only the most urgent objects: " } else { "" };
        let _ = writeln!(out, "{}{shown}{verdict}", if out.is_empty() { "" } else { "\n" });
    }
    if !decided.is_empty() {
        let _ = write!(out, "\n{}", listing(&decided, style));
    }
    if !undecided.is_empty() {
        let text = format!(
            "{} undecided: several actors write {} alternately, but the log does not show which fields. To decide, log \
             these objects at level Request or higher: editwar setup policy",
            undecided.len(),
            if undecided.len() == 1 { "this object" } else { "these objects" },
        );
        let _ = write!(out, "\n{}\n{}", style.wrapped(&text, 0), listing(&undecided, style));
    }
    if report.omitted > 0 {
        let omitted = report.omitted;
        let _ =
            writeln!(out, "\n{omitted} more objects are not shown. Narrow the query, for example to one namespace.");
    }
    // That a party of a war writes often is part of the war.
    let is_party = |found: &HotLoop| {
        let is_its_war = |war: &&War| war.object == found.object && war.parties.iter().any(|p| p.actor == found.actor);
        report.wars.iter().any(|war| is_its_war(&war))
    };
    let hot_loops: Vec<HotLoop> = report.hot_loops.iter().filter(|found| !is_party(found)).cloned().collect();
    let findings = findings(&report.flapping, &report.contention, &hot_loops, style);
    let excesses: String = report.cooperation.iter().map(|found| excess(found, style)).collect();
    if !findings.is_empty() || !excesses.is_empty() {
        let _ = write!(out, "\n{findings}{excesses}");
    }
    let _ = write!(out, "\n{}", coverage(&report.coverage));
    if style.now.is_some() && !report.wars.is_empty() && who.server_arguments.is_none() {
        out.push_str("Ages count back from the last event; --utc shows times instead.\n");
    }
    if let Some(war) = report.wars.first() {
        let _ = writeln!(out, "For details and remedies, run: {}", who_command(&war.object, who, &report.coverage));
    }
    out
}

fn listing(wars: &[&War], style: Style) -> String {
    if style.is_narrow() { stacked(wars, style) } else { format!("{}\n", table(wars, style)) }
}

/// Counts wars: `3 edit wars: 2 ongoing, 1 ended`.
fn counts(wars: &[&War]) -> String {
    let number = |wanted: &str| wars.iter().filter(|war| status(war) == wanted).count();
    let parts: Vec<String> = ["ongoing", "subsiding", "ended"]
        .iter()
        .map(|status| (number(status), status))
        .filter(|(count, _)| *count > 0)
        .map(|(count, status)| format!("{count} {status}"))
        .collect();
    format!("{}: {}", counted(wars.len() as u64, "edit war"), parts.join(", "))
}

/// Returns the sentence for a report without wars, or `None` if no event or object was examined.
pub(in crate::cli) fn no_war(report: &Report) -> Option<String> {
    let kinds = report.coverage.problems.iter().map(|problem| problem.kind);
    if kinds.clone().any(|kind| matches!(kind, ProblemKind::NoMatch | ProblemKind::NoEvents)) {
        return None;
    }
    let with_fields = if report.wars.is_empty() { "" } else { " with known fields" };
    let in_part = if kinds.clone().any(ProblemKind::is_blocking) { " in what was read" } else { "" };
    let Matched { writes, objects, other_wars } = report.matched;
    let looked_at = format!("{} to {}", counted(writes, "write"), counted(objects, "object"));
    Some(match other_wars {
        0 => format!("No edit war{with_fields}{in_part}: {looked_at}."),
        1 => format!("No edit war with these properties{in_part}, but 1 with others: {looked_at}."),
        more => format!("No edit war with these properties{in_part}, but {more} with others: {looked_at}."),
    })
}

/// Returns the command that shows more about an object.
pub(super) fn who_command(object: &Object, who: &WhoCommand, coverage: &Coverage) -> String {
    let object = object.arguments();
    let command = who.command;
    if let Some(server) = &who.server_arguments {
        return format!("{command} {object} {server}").trim_end().to_owned();
    }
    let file = |source: &str| if source == "standard input" { "-".to_owned() } else { quoted(&clean(source)) };
    let files: Vec<String> = coverage.sources.iter().take(3).map(|s| file(&s.source)).collect();
    let files = if coverage.sources.len() <= 3 { files.join(" ") } else { "FILE…".into() };
    format!("{command} {object} {files}")
}

/// Sets the commands that show whether a war is over: they ask the same server, or read what was added to the files.
pub fn set_checks(wars: &mut [War], who: &WhoCommand, coverage: &Coverage) {
    // The end of standard input, from which a duration would count back, is not known in advance.
    let is_piped = coverage.sources.iter().any(|source| source.source == "standard input");
    for war in wars {
        war.verify = who_command(&war.object, who, coverage);
        if who.server_arguments.is_none() && !is_piped {
            war.verify.push_str(" --since 10m");
        }
    }
}

fn table(wars: &[&War], style: Style) -> Table {
    let mut table = style.table();
    let began = if style.now.is_some() { "AGE" } else { "SINCE" };
    let head = ["OBJECT", "FOUGHT OVER", "PARTIES (WRITES)", began, "LAST", "RETAKES", "STATE"];
    table.set_header(head.map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
    for war in wars {
        let fields: Vec<String> = war.fields.iter().map(|field| fought_over(field, style)).collect();
        let parties: Vec<String> = war
            .parties
            .iter()
            .map(|p| format!("{} ({})", style.actor(&p.actor), p.writes))
            .chain(war.dependents.iter().map(|e| format!("dependent: {}", name(&e.object))))
            .collect();
        table.add_row([
            Cell::new(name(&war.object)),
            Cell::new(fields.join("\n")),
            Cell::new(parties.join("\n")),
            Cell::new(match style.now {
                Some(now) => duration::age(now.saturating_sub(war.since)),
                None => style.past(war.since),
            }),
            Cell::new(style.past(war.until)),
            Cell::new(format!("{}\n{}", war.retakes, war.rate())),
            state_cell(war),
        ]);
    }
    let fixed = |chars: u16| ColumnConstraint::LowerBoundary(Width::Fixed(chars));
    let times = if style.now.is_some() { 8 } else { 10 };
    for (index, chars) in [(3, times), (4, times), (5, 9), (6, 10)] {
        if let Some(column) = table.column_mut(index) {
            column.set_constraint(fixed(chars + 2));
        }
    }
    table
}

/// Formats wars one below the other, for narrow terminals.
fn stacked(wars: &[&War], style: Style) -> String {
    let mut out = String::new();
    for (index, war) in wars.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let (object, verdict) = (style.bold(&name(&war.object)), verdict(war).join(", "));
        let _ = writeln!(out, "{object}  {}", style.state(shown_state(war), &verdict));
        for field in &war.fields {
            let _ = writeln!(out, "  {}", fought_over(field, style));
        }
        for party in &war.parties {
            let _ = writeln!(out, "  {} ({} writes)", style.actor(&party.actor), party.writes);
        }
        for dependent in &war.dependents {
            let _ = writeln!(out, "  dependent: {}", name(&dependent.object));
        }
        let (retakes, rate) = (war.retakes, war.rate());
        out.push_str(&style.wrapped(&format!("{}; {retakes} retakes, {rate}", times(war, style)), 2));
    }
    out
}

fn state_cell(war: &War) -> Cell {
    let cell = Cell::new(verdict(war).join("\n"));
    match shown_state(war) {
        State::Sustained => cell.fg(Color::Red),
        State::Thrashing | State::Subsiding => cell.fg(Color::Yellow),
        State::Calm | State::Contested => cell,
    }
}

/// Formats a field with its values, as `spec.replicas 3 ⇄ 5`.
fn fought_over(field: &Field, style: Style) -> String {
    let path = fields_name(&field.path);
    let mut values: Vec<String> = Vec::new();
    for value in &field.values {
        let text = value_text(value, style);
        if !values.contains(&text) {
            values.push(text);
        }
    }
    let shown = if style.is_wide { values.len() } else { 4 };
    let more = if values.len() > shown { " ⇄ …" } else { "" };
    values.truncate(shown);
    format!("{} {}{more}", clean(path), values.join(" ⇄ ")).trim_end().to_owned()
}
