//! The result of `who`: the wars over one object with their remedies, the actors, and the timeline of the writes.

use std::fmt::Write;

use comfy_table::{Attribute, Cell, Table};

use super::coverage::{coverage, problems};
use super::findings::findings;
use super::war::{name, shown_state, value_text, verdict};
use crate::cli::style::{Style, clean, clock, is_by, json_text, words};
use crate::cli::timeline_chart;
use crate::query::views::{Coverage, Participants, Party, TimelineEntry, War};

/// Formats the result of `who`, with the last `writes_max` writes of the timeline, or all if it is 0.
pub fn participants(found: &Participants, writes_max: usize, style: Style) -> String {
    let mut out = problems(&found.coverage, style);
    if !out.is_empty() {
        out.push('\n');
    }
    let title = name(&found.object);
    if found.wars.is_empty() {
        let has_findings = found.contention.is_some() || !found.hot_loops.is_empty() || !found.flapping.is_empty();
        let verdict = if has_findings { "no war, but:" } else { "no war" };
        let _ = writeln!(out, "{}: {verdict}", style.bold(&title));
    }
    out.push_str(&findings(&found.flapping, &found.contention, &found.hot_loops, style));
    for (index, war) in found.wars.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let verdict = verdict(war).join(", ");
        let _ = writeln!(out, "{}: {}", style.bold(&title), style.state(shown_state(war), &verdict));
        let _ = writeln!(
            out,
            "{} retakes ({} reversals) since {}, {}; {} thrashing events; cause: {}",
            war.retakes,
            war.reversals,
            clock(war.since),
            war.rate(),
            war.thrashing_events,
            words(war.cause.as_str())
        );
        for sentence in &war.evidence {
            out.push_str(&style.wrapped(&clean(sentence), 2));
        }
        for field in &war.fields {
            let _ = writeln!(out, "\n{} ({} retakes)", style.bold(&clean(&field.path)), field.retakes);
            let mut table = style.table();
            for value in &field.values {
                table.add_row([
                    format!("  {}", value_text(value, style)),
                    format!("by {}", style.actor(&value.actor)),
                    format!("{} times", value.count),
                ]);
            }
            let _ = writeln!(out, "{table}");
        }
    }
    for known in &found.cooperation {
        let actors: Vec<String> = known.actors.iter().map(|actor| style.actor(actor)).collect();
        let text = format!("by design: {} write {}: {}", actors.join(" and "), known.fields.join(", "), known.reason);
        out.push_str(&style.wrapped(&clean(&text), 2));
    }
    let is_party = |p: &&Party| found.wars.iter().flat_map(|w| &w.parties).any(|q| q.actor == p.actor);
    let (parties, others): (Vec<_>, Vec<_>) = found.actors.iter().partition(is_party);
    for (title, actors) in [("PARTIES", parties), ("OTHER WRITERS", others)] {
        if !actors.is_empty() {
            let title = if found.wars.is_empty() { "WRITERS" } else { title };
            let _ = writeln!(out, "\n{}", actors_table(title, &actors, style));
        }
    }
    for war in &found.wars {
        out.push_str(&timeline_chart::picture(war, &found.timeline, &found.coverage, style));
        out.push_str(&remedies(war, style));
    }
    for dependent in found.wars.iter().flat_map(|w| &w.dependents) {
        let _ = writeln!(
            out,
            "dependent: {}, written {} times by {}",
            name(&dependent.object),
            dependent.writes,
            style.actor(&dependent.actor)
        );
    }
    // If there is a war, status writes of other writers are hidden.
    let is_shown = |m: &&TimelineEntry| {
        let is_party = |war: &War| war.parties.iter().any(|p| is_by(&p.actor, m));
        style.is_wide || m.part == "main" || found.wars.is_empty() || found.wars.iter().any(is_party)
    };
    let moments: Vec<&TimelineEntry> = found.timeline.iter().filter(is_shown).collect();
    if !moments.is_empty() {
        let shown = if writes_max == 0 { moments.len() } else { writes_max.min(moments.len()) };
        let from = moments.len() - shown;
        let _ = writeln!(out, "\n{}", timeline(&moments[from..], &found.coverage, style));
        if from > 0 {
            let _ = writeln!(out, "({from} earlier writes are not shown: --timeline-limit 0 shows all)");
        }
        let hidden = found.timeline.len() - moments.len();
        if hidden > 0 {
            let _ = writeln!(out, "({hidden} status writes of other writers are not shown: -o wide shows them)");
        }
    }
    if !found.transitions.is_empty() {
        let transitions: Vec<String> = found
            .transitions
            .iter()
            .map(|transition| format!("{} {}", clock(transition.at), words(transition.to.as_str())))
            .collect();
        let _ = writeln!(out, "\nverdicts: {}", transitions.join(", "));
    }
    let _ = write!(out, "\n{}", coverage(&found.coverage));
    out
}

fn remedies(war: &War, style: Style) -> String {
    let mut out = String::new();
    for (number, remedy) in war.remedies.iter().enumerate() {
        let title = format!("{}. {}", number + 1, clean(&remedy.title));
        let _ = writeln!(out, "\n{} (option {})", style.bold(&title), remedy.option);
        let _ = writeln!(out, "   {}", clean(&remedy.command));
        let _ = writeln!(out, "   changes: {}", clean(&remedy.changes));
        let _ = writeln!(out, "   tradeoff: {}", clean(&remedy.tradeoff));
    }
    let _ = writeln!(out, "\n{}\n   {}", style.bold("To check that the war is over"), clean(&war.verify));
    out
}

fn actors_table(title: &str, actors: &[&Party], style: Style) -> Table {
    let mut table = style.table();
    let head = [title, "CLASS", "WRITES", "NO-OPS", "VERBS", "FIELD MANAGERS", "FIRST", "LAST"];
    table.set_header(head.map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
    for actor in actors {
        let verbs: Vec<String> = actor.verbs.iter().map(|(verb, count)| format!("{verb} {count}")).collect();
        let mut who = style.actor(&actor.actor);
        if !actor.impersonated_by.is_empty() {
            let by: Vec<String> = actor.impersonated_by.iter().map(|name| style.actor(name)).collect();
            let _ = write!(who, " (through {})", by.join(", "));
        }
        let managers: Vec<String> = actor.field_managers.iter().map(|m| clean(m)).collect();
        table.add_row([
            who,
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
        let json = |value: &serde_json::Value| match value {
            serde_json::Value::Null => "(none)".to_owned(),
            value => json_text(value, style),
        };
        let mut changes: Vec<String> =
            moment.changes.iter().map(|c| format!("{} {} → {}", clean(&c.path), json(&c.old), json(&c.new))).collect();
        let shown = if style.is_wide { changes.len() } else { 4 };
        if changes.len() > shown {
            let more = changes.len() - shown;
            changes.truncate(shown);
            changes.push(format!("and {more} more"));
        }
        if changes.is_empty() {
            changes.push(match (moment.effect.as_str(), moment.fields_known) {
                ("delete", _) => "deleted".into(),
                ("create", _) => "created".into(),
                (_, true) => "no compared field".to_owned(),
                (_, false) => format!("{}: fields not in the log", moment.part),
            });
        }
        table.add_row([
            clock(moment.at)[11..].to_owned(),
            style.actor(&moment.actor),
            moment.verb.clone(),
            changes.join("\n"),
        ]);
    }
    table
}
