//! The result of a check as Markdown, for merge requests. Names and values are escaped.

use std::fmt::Write;

use super::report::Report;
use super::text::{footer, heading};
use crate::cli::markdown::{block, code, text};
use crate::cli::output::remedy_notes;

/// Formats a result.
pub(super) fn report(report: &Report) -> String {
    let mut out = format!("{}\n\n", text(&heading(report)));
    for problem in &report.coverage.problems {
        let _ = writeln!(out, "**Incomplete:** {}\n", text(problem));
    }
    for finding in &report.findings {
        let _ = writeln!(out, "## {}: {}\n", text(&finding.object.to_string()), finding.certainty.as_str());
        let fields: Vec<String> = finding.fields.iter().map(|field| code(field)).collect();
        let _ = writeln!(out, "{}\n\n| who | what |\n|---|---|", fields.join(", "));
        for contender in &finding.contenders {
            let _ = writeln!(out, "| {} | {} |", code(&contender.name), text(&contender.does));
        }
        out.push('\n');
        if !finding.more_objects.is_empty() {
            let names: Vec<String> = finding.more_objects.iter().map(|object| code(&object.to_string())).collect();
            let _ = writeln!(out, "Also: {}\n", names.join(", "));
        }
        for sentence in &finding.evidence {
            let _ = writeln!(out, "- {}", text(sentence));
        }
        let (when, advice) = (text(&finding.when), text(&finding.advice));
        let _ = writeln!(out, "\nWhen: {when}.\n\nTo do: **{advice}**.\n");
        for (number, remedy) in finding.remedies.iter().enumerate() {
            let _ = writeln!(out, "{}. {}\n\n{}\n", number + 1, text(&remedy.title), block(&remedy.command));
            let _ = writeln!(out, "   {}\n", text(&remedy_notes(remedy)));
            if let Some(undo) = &remedy.undo {
                let _ = writeln!(out, "   To undo it:\n\n{}\n", block(undo));
            }
        }
    }
    let _ = writeln!(out, "_{}_", text(&footer(&report.coverage)));
    out
}
