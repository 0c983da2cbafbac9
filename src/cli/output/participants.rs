//! The result of `who`: the wars over one object with their remedies, the actors, and the timeline of the writes.

use std::fmt::Write;

use comfy_table::{Attribute, Cell, Table};

use super::coverage::{coverage, problems};
use super::findings::findings;
use super::war::{counted, fields_name, name, shown_state, times, value_text, verdict};
use crate::cli::style::{Style, clean, clock, is_by, json_text, words};
use crate::cli::timeline_chart;
use crate::detect::remedy::RemedyKind;
use crate::query::views::{ChangeView, Coverage, Participants, Party, Remedy, TimelineEntry, War};

/// Formats the result of `who`: first the verdict, the times, the parties and the remedies; then the evidence.
/// `timeline_max` is the number of most recent writes to show: 0 for all, `None` for no timeline.
pub fn participants(found: &Participants, timeline_max: Option<usize>, style: Style) -> String {
    let mut out = problems(&found.coverage, style);
    if !out.is_empty() {
        out.push('\n');
    }
    let title = name(&found.object);
    if found.wars.is_empty() {
        let has_findings = found.contention.is_some() || !found.hot_loops.is_empty() || !found.flapping.is_empty();
        let in_part = if found.coverage.is_incomplete() { " in what was read" } else { "" };
        let verdict = if has_findings { ", but:" } else { "" };
        let _ = writeln!(out, "{}: no war{in_part}{verdict}", style.bold(&title));
    }
    for (index, war) in found.wars.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        out.push_str(&summary(war, &title, style));
        out.push_str(&remedies(war, style));
    }
    let findings = findings(&found.flapping, &found.contention, &found.hot_loops, style);
    if !findings.is_empty() && !found.wars.is_empty() {
        out.push('\n');
    }
    out.push_str(&findings);
    for known in &found.cooperation {
        let actors: Vec<String> = known.actors.iter().map(|actor| style.actor(actor)).collect();
        let text = format!("by design: {} write {}: {}", actors.join(" and "), known.fields.join(", "), known.reason);
        out.push_str(&style.wrapped(&clean(&text), 2));
    }
    for war in &found.wars {
        out.push_str(&timeline_chart::picture(war, &found.timeline, &found.coverage, style));
    }
    for dependent in found.wars.iter().flat_map(|w| &w.dependents) {
        let (object, actor) = (name(&dependent.object), style.actor(&dependent.actor));
        let text = format!("dependent: {object}, written {} times by {actor}", dependent.writes);
        let _ = write!(out, "\n{}", style.wrapped(&text, 0));
    }
    let is_party = |p: &&Party| found.wars.iter().flat_map(|w| &w.parties).any(|q| q.actor == p.actor);
    let (parties, others): (Vec<_>, Vec<_>) = found.actors.iter().partition(is_party);
    for (title, actors) in [("PARTIES", parties), ("OTHER WRITERS", others)] {
        let title = if found.wars.is_empty() { "WRITERS" } else { title };
        if !actors.is_empty() && style.is_narrow() {
            let _ = write!(out, "\n{}", actors_list(title, &actors, style));
        } else if !actors.is_empty() {
            let _ = writeln!(out, "\n{}", actors_table(title, &actors, style));
        }
    }
    out.push_str(&writes(found, timeline_max, style));
    if !found.transitions.is_empty() {
        let transitions: Vec<String> = found
            .transitions
            .iter()
            .map(|transition| format!("{} {}", clock(transition.at), words(transition.to.as_str())))
            .collect();
        let _ = write!(out, "\n{}", style.wrapped(&format!("verdicts: {}", transitions.join(", ")), 0));
    }
    let _ = write!(out, "\n{}", coverage(&found.coverage));
    out
}

/// Formats the verdict, the times, the fields with the values of each party, and the cause.
fn summary(war: &War, title: &str, style: Style) -> String {
    let mut out = String::new();
    let verdict = verdict(war).join(", ");
    let _ = writeln!(out, "{}: {}", style.bold(title), style.state(shown_state(war), &verdict));
    let (retakes, rate) = (counted(war.retakes.into(), "retake"), war.rate());
    out.push_str(&style.wrapped(&format!("{}; {retakes}, {rate}", times(war, style)), 2));
    for field in &war.fields {
        let _ = writeln!(out, "\n  {}", style.bold(&clean(fields_name(&field.path))));
        let mut table = style.table();
        for value in &field.values {
            table.add_row([
                format!("   {}", value_text(value, style)),
                style.actor(&value.actor),
                counted(value.count.into(), "time"),
            ]);
        }
        let _ = writeln!(out, "{}", table.trim_fmt());
    }
    out.push('\n');
    out.push_str(&style.wrapped(&format!("Cause: {}", words(war.cause.as_str())), 2));
    for sentence in &war.evidence {
        out.push_str(&style.wrapped(&clean(sentence), 4));
    }
    out
}

/// Formats the timeline or, without one, says how to get it.
fn writes(found: &Participants, max: Option<usize>, style: Style) -> String {
    let mut out = String::new();
    // If there is a war, status writes of other writers are hidden.
    let is_shown = |m: &&TimelineEntry| {
        let is_party = |war: &War| war.parties.iter().any(|p| is_by(&p.actor, m));
        style.is_wide || m.part == "main" || found.wars.is_empty() || found.wars.iter().any(is_party)
    };
    let moments: Vec<&TimelineEntry> = found.timeline.iter().filter(is_shown).collect();
    let Some(max) = max else {
        if !moments.is_empty() {
            let _ = writeln!(
                out,
                "\n{} in the timeline; --timeline shows them.",
                counted(found.timeline.len() as u64, "write")
            );
        }
        return out;
    };
    if moments.is_empty() {
        return out;
    }
    let shown = if max == 0 { moments.len() } else { max.min(moments.len()) };
    let from = moments.len() - shown;
    let _ = writeln!(out, "\n{}", timeline(&moments[from..], &found.coverage, style));
    if from > 0 {
        let _ = writeln!(out, "({from} earlier writes are not shown: --timeline-limit 0 shows all)");
    }
    let hidden = found.timeline.len() - moments.len();
    if hidden > 0 {
        let _ = writeln!(out, "({hidden} status writes of other writers are not shown: -o wide shows them)");
    }
    out
}

fn remedies(war: &War, style: Style) -> String {
    let mut out = String::new();
    for (number, remedy) in war.remedies.iter().enumerate() {
        if number == 0 || war.remedies[number - 1].kind != remedy.kind {
            let _ = writeln!(out, "\n{}", style.bold(&format!("{}:", remedies_heading(war, remedy.kind))));
        }
        let title = style.wrapped(&clean(&remedy.title), 4);
        let _ = writeln!(out, "{}", style.bold(&format!("{:>2}. {}", number + 1, title.trim())));
        // Commands are not wrapped, so that they can be copied.
        let _ = writeln!(out, "      {}", clean(&remedy.command));
        out.push_str(&style.wrapped(&clean(&remedy_notes(remedy)), 4));
        if let Some(undo) = &remedy.undo {
            let _ = writeln!(out, "    To undo it:\n      {}", clean(undo));
        }
    }
    let _ = writeln!(out, "\n{}\n      {}", style.bold("To check that it is over:"), clean(&war.verify));
    out
}

/// Returns what a remedy changes and gives up, or what to do with what it shows.
pub(in crate::cli) fn remedy_notes(remedy: &Remedy) -> String {
    let Remedy { kind, changes, tradeoff, .. } = remedy;
    match kind {
        RemedyKind::Show => format!("Then: {changes}."),
        RemedyKind::Change | RemedyKind::Delete => format!("Changes: {changes}. Tradeoff: {tradeoff}."),
    }
}

/// Returns the heading above the remedies of one kind.
pub(in crate::cli) fn remedies_heading(war: &War, kind: RemedyKind) -> String {
    let cluster = match war.object.cluster.as_str() {
        "" => String::new(),
        cluster => format!(" in the cluster {cluster}"),
    };
    match kind {
        RemedyKind::Change if war.is_ongoing() => format!("To end it{cluster}, choose one"),
        RemedyKind::Change => format!("To prevent it from starting again{cluster}, choose one"),
        RemedyKind::Show => "To fix it at its source (these commands change nothing)".to_owned(),
        RemedyKind::Delete => "As a last resort".to_owned(),
    }
}

/// Formats actors one below the other, for narrow terminals.
fn actors_list(title: &str, actors: &[&Party], style: Style) -> String {
    let mut out = format!("{}\n", style.bold(title));
    for actor in actors {
        let _ = writeln!(out, "  {}", with_impersonators(actor, style));
        let verbs: Vec<String> = actor.verbs.iter().map(|(verb, count)| format!("{verb} {count}")).collect();
        let verbs = if verbs.is_empty() { String::new() } else { format!(" ({})", verbs.join(", ")) };
        let managers: Vec<String> = actor.field_managers.iter().map(|m| clean(m)).collect();
        let no_ops = if actor.no_ops > 0 { format!(", {} no-ops", actor.no_ops) } else { String::new() };
        let text = format!(
            "{}, {}{verbs}{no_ops}, {} to {}{}{}",
            actor.role.as_str(),
            counted(actor.writes.into(), "write"),
            &clock(actor.first)[11..],
            &clock(actor.last)[11..],
            if managers.is_empty() { "" } else { ", as " },
            managers.join(", ")
        );
        out.push_str(&style.wrapped(&text, 4));
    }
    out
}

fn with_impersonators(actor: &Party, style: Style) -> String {
    let by: Vec<String> = actor.impersonated_by.iter().map(|name| style.actor(name)).collect();
    let through = if by.is_empty() { String::new() } else { format!(" (through {})", by.join(", ")) };
    style.actor(&actor.actor) + &through
}

fn actors_table(title: &str, actors: &[&Party], style: Style) -> Table {
    let mut table = style.table();
    let head = [title, "CLASS", "WRITES", "NO-OPS", "VERBS", "FIELD MANAGERS", "FIRST", "LAST"];
    table.set_header(head.map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
    for actor in actors {
        let verbs: Vec<String> = actor.verbs.iter().map(|(verb, count)| format!("{verb} {count}")).collect();
        let managers: Vec<String> = actor.field_managers.iter().map(|m| clean(m)).collect();
        table.add_row([
            with_impersonators(actor, style),
            actor.role.as_str().to_owned(),
            actor.writes.to_string(),
            actor.no_ops.to_string(),
            verbs.join(", "),
            managers.join(", "),
            clock(actor.first)[11..].to_owned(),
            clock(actor.last)[11..].to_owned(),
        ]);
        if style.is_wide {
            for (what, words) in [("agent", &actor.user_agents), ("from", &actor.source_ips), ("pod", &actor.pods)] {
                for word in words {
                    table.add_row([format!("  {what} {}", clean(word))]);
                }
            }
        }
    }
    table
}

/// Formats what a write changed, one field per line.
pub(super) fn changed(moment: &TimelineEntry, style: Style) -> String {
    let mut changes: Vec<String> = moment.changes.iter().map(|change| change_text(change, style)).collect();
    let shown = if style.is_wide { changes.len() } else { 4 };
    if changes.len() > shown {
        let more = changes.len() - shown;
        changes.truncate(shown);
        changes.push(format!("and {more} more"));
    }
    if changes.is_empty() {
        changes.push(match moment.effect.as_str() {
            "delete" => "deleted".into(),
            "create" => "created".into(),
            _ if moment.fields_known => "no compared field".to_owned(),
            _ => format!("{}: fields not in the log", moment.part),
        });
    }
    changes.join("\n")
}

/// Formats a change of a field, as `spec.replicas 3 → 5`.
fn change_text(change: &ChangeView, style: Style) -> String {
    let text = |value: &serde_json::Value, is_redacted: bool| match value {
        _ if is_redacted => "(redacted)".to_owned(),
        serde_json::Value::Null => "(none)".to_owned(),
        value => json_text(value, style),
    };
    let ChangeView { path, old, new, old_redacted, new_redacted, new_unknown } = change;
    let new = if *new_unknown { "(unknown)".to_owned() } else { text(new, *new_redacted) };
    format!("{} {} → {new}", clean(path), text(old, *old_redacted))
}

fn timeline(moments: &[&TimelineEntry], coverage: &Coverage, style: Style) -> Table {
    let mut table = style.table();
    let head = ["TIME", "ACTOR", "VERB", "CHANGED"];
    table.set_header(head.map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
    let mut gaps = coverage.gaps.iter().peekable();
    for moment in moments {
        while gaps.next_if(|gap| gap.to <= moments[0].at).is_some() {}
        while let Some(gap) = gaps.next_if(|gap| gap.to <= moment.at) {
            let text = format!("no audit events from {} to {}", &clock(gap.from)[11..], &clock(gap.to)[11..]);
            table.add_row([String::new(), String::new(), String::new(), text]);
        }
        table.add_row([
            clock(moment.at)[11..].to_owned(),
            style.actor(&moment.actor),
            moment.verb.clone(),
            changed(moment, style),
        ]);
    }
    table
}
