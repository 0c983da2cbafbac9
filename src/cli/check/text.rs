//! The result of a check for people.

use std::fmt::Write;

use super::report::{Coverage, Report, View};
use crate::check::{Certainty, Contender};
use crate::cli::output::{counted, remedy_notes};
use crate::cli::style::{Style, clean};

/// Other objects that a finding names without `-o wide`.
const OBJECTS_SHOWN: usize = 5;

/// Formats a result.
pub(super) fn report(report: &Report, style: Style) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", style.bold(&heading(report)));
    for finding in &report.findings {
        out.push('\n');
        out.push_str(&of(finding, style));
    }
    out.push('\n');
    out.push_str(&style.wrapped(&footer(&report.coverage), 0));
    if !style.is_wide && report.findings.iter().any(|finding| !finding.remedies.is_empty()) {
        out.push_str("-o wide shows the commands.\n");
    }
    out
}

/// Returns the number of findings.
pub(super) fn heading(report: &Report) -> String {
    let (bound, possible) = (report.count(Certainty::Bound), report.count(Certainty::Possible));
    let incomplete = if report.coverage.problems.is_empty() { "" } else { " (the answer is incomplete)" };
    match (bound, possible) {
        (0, 0) => format!("No fight found{incomplete}."),
        _ => format!(
            "{}: {bound} bound to happen, {possible} possible{incomplete}",
            counted((bound + possible) as u64, "fight")
        ),
    }
}

fn of(finding: &View, style: Style) -> String {
    let mut out = String::new();
    let (object, fields) = (clean(&finding.object.to_string()), clean(&finding.fields.join(", ")));
    let certainty = finding.certainty.as_str();
    let is_long = [&object, &fields, certainty].map(|text| text.chars().count() + 2).iter().sum::<usize>()
        > usize::from(style.width);
    let shown = match finding.certainty {
        Certainty::Bound if style.is_coloured => format!("\u{1b}[31m{certainty}\u{1b}[0m"),
        _ => certainty.to_owned(),
    };
    let _ = if is_long {
        writeln!(out, "{}  {shown}\n{}", style.bold(&object), style.wrapped(&fields, 2).trim_end())
    } else {
        writeln!(out, "{}  {shown}", style.bold(&format!("{object}  {fields}")))
    };
    for Contender { name, does } in &finding.contenders {
        out.push_str(&style.wrapped(&clean(&format!("{name} {does}")), 2));
    }
    let shown = if style.is_wide { finding.more_objects.len() } else { OBJECTS_SHOWN };
    if !finding.more_objects.is_empty() {
        let mut names: Vec<String> = finding.more_objects.iter().take(shown).map(ToString::to_string).collect();
        if let Some(more @ 1..) = finding.more_objects.len().checked_sub(shown) {
            names.push(format!("{more} more (-o wide)"));
        }
        out.push_str(&labelled(style, "Also:", &names.join(", ")));
    }
    out.push_str(&labelled(style, "When:", &finding.when));
    out.push_str(&labelled(style, "Seen:", &finding.evidence.join("; ")));
    out.push_str(&labelled(style, "To do:", &finding.advice));
    for remedy in &finding.remedies {
        // The advice says the same as the remedies that show something.
        if style.is_wide {
            let _ = writeln!(out, "    or: {}\n      {}", clean(&remedy.title), clean(&remedy.command));
            out.push_str(&style.wrapped(&clean(&remedy_notes(remedy)), 6));
            if let Some(undo) = &remedy.undo {
                let _ = writeln!(out, "      To undo it:\n        {}", clean(undo));
            }
        } else if remedy.kind == crate::detect::remedy::RemedyKind::Change {
            out.push_str(&labelled(style, "   or:", &remedy.title));
        }
    }
    out
}

/// Formats text behind a label, with its lines below each other.
fn labelled(style: Style, label: &str, text: &str) -> String {
    const INDENT: usize = 9;
    let wrapped = style.wrapped(&clean(text), INDENT);
    format!("  {label:<7}{}", wrapped.get(INDENT..).unwrap_or_default())
}

/// Returns what the result is based on.
pub(super) fn footer(coverage: &Coverage) -> String {
    let place = match coverage.namespace.as_str() {
        _ if coverage.resources.is_empty() => "the manifests alone".to_owned(),
        "" => "all namespaces".to_owned(),
        namespace => format!("namespace {namespace}"),
    };
    let kinds = match coverage.resources.len() {
        0 => String::new(),
        number => format!(" of {}", counted(number as u64, "kind")),
    };
    clean(&format!(
        "Based on {}{kinds} in {place}, at this moment. Wars of people are not foreseeable.",
        counted(coverage.objects as u64, "object")
    ))
}
