//! Reports as Markdown, as handover notes for tickets. Names and values are escaped, so that they cannot contain
//! markup.

use std::fmt::Write;

use super::output::{coverage, name, no_war, remedies_heading, remedy_notes, verdict};
use super::style::{clean, clock, words};
use crate::query::views::{Coverage, Field, Participants, Problem, Report, War};

/// Formats a report.
pub fn report(report: &Report) -> String {
    let mut out = problems(&report.coverage);
    if report.wars.is_empty()
        && let Some(line) = no_war(report)
    {
        let _ = writeln!(out, "{}\n", text(&line));
    }
    for war in &report.wars {
        out.push_str(&of_war(war));
    }
    out.push_str(&footer(&report.coverage));
    out
}

/// Formats one object.
pub fn participants(found: &Participants) -> String {
    let mut out = problems(&found.coverage);
    if found.wars.is_empty() {
        let _ = writeln!(out, "## {}: no war\n", text(&name(&found.object)));
    }
    found.wars.iter().for_each(|war| out.push_str(&of_war(war)));
    let is_party = |actor: &str| found.wars.iter().flat_map(|w| &w.parties).any(|p| p.actor == actor);
    let others: Vec<_> = found.actors.iter().filter(|a| !is_party(&a.actor)).collect();
    if !others.is_empty() {
        let _ = writeln!(out, "Other writers:\n");
        for other in others {
            let _ = writeln!(out, "- {} ({}), {} writes", code(&other.actor), other.role.as_str(), other.writes);
        }
        out.push('\n');
    }
    out.push_str(&footer(&found.coverage));
    out
}

fn problems(of: &Coverage) -> String {
    let line = |problem: &Problem| format!("**{}:** {}\n\n", problem.kind.title(), text(&problem.message));
    of.problems.iter().map(line).collect()
}

fn of_war(war: &War) -> String {
    let mut out = String::new();
    let verdict = verdict(war).join(", ");
    let _ = writeln!(out, "## {}: {verdict}\n", text(&name(&war.object)));
    let _ = writeln!(
        out,
        "{} retakes since {}, most recently at {}, {}. Cause: **{}**.\n",
        war.retakes,
        clock(war.since),
        clock(war.until),
        war.rate(),
        words(war.cause.as_str())
    );
    for sentence in &war.evidence {
        let _ = writeln!(out, "- {}", text(sentence));
    }
    let _ = writeln!(out, "\n| party | what | writes | retakes | first | last |\n|---|---|---|---|---|---|");
    for p in &war.parties {
        let (first, last) = (clock(p.first), clock(p.last));
        let role = p.role.as_str();
        let _ = writeln!(out, "| {} | {role} | {} | {} | {first} | {last} |", code(&p.actor), p.writes, p.retakes);
    }
    let _ = writeln!(out, "\n| field | values |\n|---|---|");
    for field in &war.fields {
        let _ = writeln!(out, "| {} | {} |", code(&field.path), values(field));
    }
    for (number, remedy) in war.remedies.iter().enumerate() {
        if number == 0 || war.remedies[number - 1].kind != remedy.kind {
            let _ = writeln!(out, "\n### {}\n", text(&remedies_heading(war, remedy.kind)));
        }
        let _ = writeln!(out, "{}. {}\n", number + 1, text(&remedy.title));
        let _ = writeln!(out, "{}\n", block(&remedy.command));
        let _ = writeln!(out, "   {}\n", text(&remedy_notes(remedy)));
        if let Some(undo) = &remedy.undo {
            let _ = writeln!(out, "   To undo it:\n\n{}\n", block(undo));
        }
    }
    let _ = writeln!(out, "To check that the war is over:\n\n{}\n", block(&war.verify));
    out
}

fn values(field: &Field) -> String {
    let one = |v: &crate::query::views::Value| {
        let value = if v.absent {
            "(absent)".to_owned()
        } else if v.redacted {
            "(redacted)".to_owned()
        } else {
            code(&v.value.to_string())
        };
        format!("{value} by {} ×{}", code(&v.actor), v.count)
    };
    field.values.iter().take(6).map(one).collect::<Vec<_>>().join("; ")
}

fn footer(of: &Coverage) -> String {
    coverage(of).lines().map(|line| format!("_{}_  \n", text(line))).collect()
}

/// Escapes text, so that nothing in it is interpreted as Markdown or HTML.
pub(super) fn text(raw: &str) -> String {
    let mut out = String::new();
    for c in clean(raw).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '!' | '@' | '~' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// Formats text as inline code, also within table cells.
pub(super) fn code(raw: &str) -> String {
    let cleaned = clean(raw).replace('|', "\\|");
    let longest = cleaned.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if cleaned.starts_with('`') || cleaned.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{cleaned}{pad}{fence}")
}

/// Formats a command as a code block.
pub(super) fn block(command: &str) -> String {
    let cleaned = clean(command);
    let longest = cleaned.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("   {fence}sh\n   {cleaned}\n   {fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_is_escaped_in_markdown() {
        assert_eq!(text("[x](javascript:1) <img> *b* @all"), r"\[x\](javascript:1) &lt;img&gt; \*b\* \@all");
        assert_eq!(code("a`b|c"), r"``a`b\|c``");
        assert_eq!(code("`x`"), "`` `x` ``");
        assert!(block("echo ```").starts_with("   ````sh\n"));
    }
}
