//! The report of `analyze` and `wars`: a table of the wars, or a list in narrow terminals, and a line for each other
//! finding.

use std::fmt::Write;

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, Table, Width};

use super::coverage::{coverage, problems};
use super::findings::{excess, findings};
use super::war::{counted, fields_name, name, shown_state, status, times, value_text, verdict};
use crate::cli::style::{Style, clean, clock};
use crate::detect::verdict::State;
use crate::query::views::{Coverage, Field, Object, ProblemKind, Report, War};
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
    let undecided = report.wars.iter().filter(|war| war.is_undecided()).count();
    if undecided == report.wars.len()
        && let Some(line) = no_war(report)
    {
        let _ = writeln!(out, "{}{line}", if out.is_empty() { "" } else { "\n" });
    } else if !out.is_empty() && !report.wars.is_empty() {
        out.push('\n');
    }
    if !report.wars.is_empty() {
        // These are the counts of the shown objects only.
        let shown = if report.omitted > 0 { "Only the most urgent objects: " } else { "" };
        let _ = writeln!(out, "{shown}{}\n", counts(&report.wars));
        if style.is_narrow() {
            out.push_str(&stacked(&report.wars, style))
        } else {
            let _ = writeln!(out, "{}", wars(&report.wars, style));
        }
    }
    if report.omitted > 0 {
        let omitted = report.omitted;
        let _ = writeln!(out, "{omitted} more objects are not shown. Narrow the query, for example to one namespace.");
    }
    if undecided > 0 {
        let _ = writeln!(
            out,
            "{undecided} undecided: several actors write these objects alternately, but the log does not show which fields. \
             To decide, log them at level Request or higher: editwar setup policy"
        );
    }
    let findings = findings(&report.flapping, &report.contention, &report.hot_loops, style);
    let excesses: String = report.cooperation.iter().map(|found| excess(found, style)).collect();
    if !findings.is_empty() || !excesses.is_empty() {
        let _ = write!(out, "\n{findings}{excesses}");
    }
    let _ = write!(out, "\n{}", coverage(&report.coverage));
    if let Some(war) = report.wars.first() {
        let _ = writeln!(out, "For details and remedies, run: {}", who_command(war, who, &report.coverage));
    }
    out
}

/// Counts the wars: `3 edit wars: 2 ongoing, 1 ended; 1 undecided`.
fn counts(wars: &[War]) -> String {
    let undecided = wars.iter().filter(|war| war.is_undecided()).count();
    let decided = wars.iter().filter(|war| !war.is_undecided());
    let number = |wanted: &str| decided.clone().filter(|war| status(war) == wanted).count();
    let parts: Vec<String> = ["ongoing", "subsiding", "ended"]
        .iter()
        .map(|status| (number(status), status))
        .filter(|(count, _)| *count > 0)
        .map(|(count, status)| format!("{count} {status}"))
        .collect();
    let all = counted(decided.clone().count() as u64, "edit war");
    match (parts.is_empty(), undecided) {
        (true, undecided) => format!("{undecided} undecided"),
        (false, 0) => format!("{all}: {}", parts.join(", ")),
        (false, undecided) => format!("{all}: {}; {undecided} undecided", parts.join(", ")),
    }
}

/// Returns the sentence for a report without wars, or `None` if no event or object was examined.
pub(in crate::cli) fn no_war(report: &Report) -> Option<String> {
    let kinds = report.coverage.problems.iter().map(|problem| problem.kind);
    if kinds.clone().any(|kind| matches!(kind, ProblemKind::NoMatch | ProblemKind::NoEvents)) {
        return None;
    }
    let with_fields = if report.wars.is_empty() { "" } else { " with known fields" };
    let in_part = if kinds.clone().any(ProblemKind::is_blocking) { " in what was read" } else { "" };
    let (writes, objects) = (counted(report.matched.writes, "write"), counted(report.matched.objects, "object"));
    Some(format!("No edit war{with_fields}{in_part}: {writes} to {objects}."))
}

/// Returns the command that shows more about a war.
fn who_command(war: &War, who: &WhoCommand, coverage: &Coverage) -> String {
    let Object { group, resource, namespace, name, .. } = &war.object;
    let dot = if group.is_empty() { "" } else { "." };
    let object = quoted(&clean(&format!("{resource}{dot}{group}/{name}")));
    let namespace = if namespace.is_empty() { String::new() } else { format!(" -n {}", quoted(&clean(namespace))) };
    let command = who.command;
    if let Some(server) = &who.server_arguments {
        return format!("{command} {object}{namespace} {server}").trim_end().to_owned();
    }
    let file = |source: &str| if source == "standard input" { "-".to_owned() } else { quoted(&clean(source)) };
    let files: Vec<String> = coverage.sources.iter().take(3).map(|s| file(&s.source)).collect();
    let files = if coverage.sources.len() <= 3 { files.join(" ") } else { "FILE…".into() };
    format!("{command} {object}{namespace} {files}")
}

fn wars(wars: &[War], style: Style) -> Table {
    let mut table = style.table();
    let head = ["OBJECT", "FOUGHT OVER", "PARTIES (WRITES)", "SINCE", "LAST", "RETAKES", "STATE"];
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
            Cell::new(clock(war.since).replacen(' ', "\n", 1)),
            Cell::new(clock(war.until).replacen(' ', "\n", 1)),
            Cell::new(format!("{}\n{}", war.retakes, war.rate())),
            state_cell(war),
        ]);
    }
    let fixed = |chars: u16| ColumnConstraint::LowerBoundary(Width::Fixed(chars));
    for (index, chars) in [(3, 10), (4, 10), (5, 9), (6, 10)] {
        if let Some(column) = table.column_mut(index) {
            column.set_constraint(fixed(chars + 2));
        }
    }
    table
}

/// Formats wars one below the other, for narrow terminals.
fn stacked(wars: &[War], style: Style) -> String {
    let mut out = String::new();
    for war in wars {
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
        out.push_str(&style.wrapped(&format!("{}; {retakes} retakes, {rate}", times(war)), 2));
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
