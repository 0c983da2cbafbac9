//! Text output for people: tables and timelines. All external text is escaped first.

use std::fmt::Write;

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, Table, Width};
use serde::Serialize;

pub use super::style::{Style, clean};
use super::style::{clock, is_by, json_text, words};
use super::timeline_chart;
use crate::audit::event::Micros;
use crate::detect::verdict::State;
use crate::escape;
use crate::query::views::{
    Coverage, Field, Object, Participants, Party, Report, TimelineEntry, Transitions, Value, War, WrongClock,
};
use crate::util::shell::quoted;

/// Below this width, wars are listed one below the other, since table columns would be too narrow.
const STACKED_BELOW: u16 = 110;

/// How to query for details: the command before the object, and the arguments after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// `editwar who`, or the equivalent of the kubectl plugin.
    pub command: &'static str,
    /// Arguments that name the server. Without them, the same files are used.
    pub place: Option<String>,
}

impl Default for Ask {
    fn default() -> Ask {
        Ask { command: "editwar who", place: None }
    }
}

/// Formats the report of `analyze`.
pub fn report(report: &Report, ask: &Ask, style: Style) -> String {
    let mut out = String::new();
    let undecided = report.wars.iter().filter(|war| war.is_undecided()).count();
    if undecided == report.wars.len() {
        let stats = &report.stats.counters;
        let (writes, objects) = (stats.writes, stats.objects);
        let _ = match undecided {
            0 => writeln!(out, "No edit war: {writes} writes to {objects} objects."),
            _ => writeln!(out, "No edit war with known fields: {writes} writes to {objects} objects."),
        };
    }
    if !report.wars.is_empty() {
        if style.width < STACKED_BELOW {
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
    let line = |out: &mut String, title: &str, text: String| {
        let _ = writeln!(out, "{} {text}", style.bold(title));
    };
    let others = report.flapping.len() + report.contention.len() + report.hot_loops.len() + report.cooperation.len();
    if others > 0 {
        let _ = writeln!(out);
    }
    for flapping in &report.flapping {
        let text = format!(
            "{}: requests of {} were alternately accepted ({}) and rejected ({}) by {}: {}",
            name(&flapping.object),
            style.actor(&flapping.actor),
            flapping.accepted,
            flapping.rejected,
            clean(&flapping.by),
            clean(&flapping.message)
        );
        line(&mut out, "Flapping admission", text);
    }
    for contention in &report.contention {
        let who: Vec<String> =
            contention.parties.iter().map(|p| format!("{} {}", style.actor(&p.actor), p.conflicts)).collect();
        let text = format!(
            "{}: {} conflicts in {} ({})",
            name(&contention.object),
            contention.stale + contention.apply_conflicts,
            span(contention.since, contention.until),
            who.join(", ")
        );
        line(&mut out, "Contention", text);
    }
    for hot in &report.hot_loops {
        let mut what = Vec::new();
        if hot.writes > 0 {
            what.push(format!("wrote {} times", hot.writes));
        }
        if hot.no_ops > 0 {
            what.push(format!("sent {} requests that changed nothing", hot.no_ops));
        }
        let (actor, what) = (style.actor(&hot.actor), what.join(" and "));
        line(&mut out, "Hot loop", format!("{}: {actor} {what}, {}", name(&hot.object), hot.rate()));
    }
    for found in &report.cooperation {
        let actors: Vec<String> = found.actors.iter().map(|actor| style.actor(actor)).collect();
        let text = format!(
            "{}: {} times in {} ({}); not a war: {}",
            name(&found.object),
            found.times,
            span(found.since, found.until),
            actors.join(", "),
            clean(&found.reason)
        );
        line(&mut out, &capitalised(found.excess.as_deref().unwrap_or(&found.name)), text);
    }
    let _ = write!(out, "\n{}", coverage(&report.coverage));
    if let Some(war) = report.wars.first() {
        let _ = writeln!(out, "For details and remedies, run: {}", who_command(war, ask, &report.coverage));
    }
    out
}

/// Formats what a report is based on: sources, time range, gaps, and how complete the events are.
pub fn coverage(coverage: &Coverage) -> String {
    let mut out = String::new();
    let (Some(first), Some(last)) = (coverage.first, coverage.last) else {
        return "There are no audit events.\n".into();
    };
    let names: Vec<String> = coverage.sources.iter().take(3).map(|s| clean(&s.source)).collect();
    let more = coverage.sources.len().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let _ = writeln!(out, "Based on {}{more}, {} to {}.", names.join(", "), clock(first), clock(last));
    for gap in coverage.gaps.iter().take(5) {
        let _ = writeln!(out, "No audit events from {} to {}.", clock(gap.from), &clock(gap.to)[11..]);
    }
    for (source, gap) in coverage.sources.iter().flat_map(|s| s.gaps.iter().map(move |gap| (s, gap))).take(5) {
        if !coverage.gaps.contains(gap) {
            let (from, to) = (clock(gap.from), clock(gap.to));
            let _ = writeln!(out, "No audit events of {} from {from} to {}.", clean(&source.source), &to[11..]);
        }
    }
    for WrongClock { source, future, long_ago } in coverage.wrong_clocks.iter().take(5) {
        let source = clean(source);
        if *future > 0 {
            let _ =
                writeln!(out, "{future} writes of {source} have times in the future. Check the clock of that machine.");
        }
        if *long_ago > 0 {
            let _ =
                writeln!(out, "{long_ago} writes of {source} have times long ago. Check the clock of that machine.");
        }
    }
    let levels = &coverage.levels;
    let all = levels.metadata + levels.request + levels.request_response;
    let share = |n: u64| (n * 100).checked_div(all).unwrap_or(0);
    if all == 0 {
        out.push_str("None of them is a write.\n");
    } else if levels.request_response == all && coverage.truncated == 0 {
        out.push_str("All writes have request and response bodies (RequestResponse).\n");
    }
    if levels.metadata > 0 {
        let _ = writeln!(
            out,
            "{} % of the writes have no bodies (Metadata), so their fields are unknown.",
            share(levels.metadata)
        );
    }
    if levels.request > 0 {
        let _ = writeln!(
            out,
            "{} % have no response bodies (Request), so only the requested changes are known.",
            share(levels.request)
        );
    }
    if coverage.truncated > 0 {
        let _ = writeln!(out, "kube-apiserver truncated {} bodies.", coverage.truncated);
    }
    out
}

/// Returns the command that shows more about a war.
fn who_command(war: &War, ask: &Ask, coverage: &Coverage) -> String {
    let Object { group, resource, namespace, name, .. } = &war.object;
    let dot = if group.is_empty() { "" } else { "." };
    let object = quoted(&clean(&format!("{resource}{dot}{group}/{name}")));
    let namespace = if namespace.is_empty() { String::new() } else { format!(" -n {}", quoted(&clean(namespace))) };
    let command = ask.command;
    if let Some(place) = &ask.place {
        return format!("{command} {object}{namespace} {place}").trim_end().to_owned();
    }
    let file = |source: &str| if source == "standard input" { "-".to_owned() } else { quoted(&clean(source)) };
    let files: Vec<String> = coverage.sources.iter().take(3).map(|s| file(&s.source)).collect();
    let files = if coverage.sources.len() <= 3 { files.join(" ") } else { "FILE…".into() };
    format!("{command} {object}{namespace} {files}")
}

fn wars(wars: &[War], style: Style) -> Table {
    let mut table = style.table();
    let head = ["OBJECT", "FOUGHT OVER", "PARTIES (WRITES)", "SINCE", "RETAKES", "STATE"];
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
            Cell::new(format!("{}\n{}", war.retakes, war.rate())),
            state_cell(war),
        ]);
    }
    let fixed = |chars: u16| ColumnConstraint::LowerBoundary(Width::Fixed(chars));
    for (index, chars) in [(3, 10), (4, 9), (5, 10)] {
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
        let _ = writeln!(out, "  since {}, {retakes} retakes, {rate}", clock(war.since));
    }
    out
}

/// Returns the state and confidence of a war. An undecided one has no state.
pub(super) fn verdict(war: &War) -> Vec<String> {
    if war.is_undecided() {
        return vec!["undecided".to_owned()];
    }
    let state = if war.deleted.is_some() { "ended: deleted".to_owned() } else { words(war.state.as_str()) };
    vec![state, war.confidence.as_str().to_owned()]
}

/// Returns the state for colours. Undecided wars have none.
fn shown_state(war: &War) -> State {
    if war.is_undecided() { State::Calm } else { war.state }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
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
    let path = match field.path.as_str() {
        "(object)" => "the whole object",
        "(main)" => "fields not in the log",
        "(status)" => "status, fields not in the log",
        path => path,
    };
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

pub(super) fn value_text(value: &Value, style: Style) -> String {
    match &value.value {
        _ if value.redacted => "(redacted)".into(),
        serde_json::Value::Null => "(absent)".into(),
        json => json_text(json, style),
    }
}

/// Formats the transitions of wars, one per line.
pub fn transitions(found: &Transitions, style: Style) -> String {
    if found.transitions.is_empty() {
        return format!("no verdict has changed since {}\n", clock(found.complete_since));
    }
    let mut table = style.table();
    table.set_header(["WHEN", "OBJECT", "FROM", "TO"].map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
    for transition in &found.transitions {
        let (from, to) = (words(transition.from.as_str()), words(transition.to.as_str()));
        table.add_row([clock(transition.at), name(&transition.object), from, to]);
    }
    format!("{table}\n")
}

/// Formats the result of `who`, with the last `writes_max` writes of the timeline, or all if it is 0.
pub fn participants(found: &Participants, writes_max: usize, style: Style) -> String {
    let mut out = String::new();
    let title = name(&found.object);
    if found.wars.is_empty() {
        let _ = writeln!(out, "{}: no war", style.bold(&title));
    }
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
            out.push_str(&wrapped(&clean(sentence), 2, style));
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
        out.push_str(&wrapped(&clean(&text), 2, style));
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

/// Wraps text to the width of the terminal, with an indent. Words are not split.
fn wrapped(text: &str, indent: usize, style: Style) -> String {
    let width = usize::from(style.width).saturating_sub(indent).max(20);
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

/// Formats an object as `Deployment shop/web`, with its cluster if it has one.
pub fn name(object: &Object) -> String {
    let place = [&object.cluster, &object.namespace, &object.name];
    let place: Vec<String> = place.iter().filter(|part| !part.is_empty()).map(|part| clean(part)).collect();
    format!("{} {}", clean(&object.kind), place.join("/"))
}

fn span(since: Micros, until: Micros) -> String {
    let seconds = (until - since) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// Formats a value as JSON. Characters that are harmful in a terminal are escaped, which does not change the value.
pub(super) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(escape::json(&serde_json::to_string_pretty(value)?).into_owned() + "\n")
}

/// Formats a value as YAML. If it contains characters that are harmful in a terminal and that YAML would not escape, it
/// is formatted as JSON, which is valid YAML too.
pub(super) fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_yaml_ng::to_string(value)?;
    if text.contains(|c| escape::is_harmful(c) && c != '\n') {
        Ok(escape::yaml(&serde_json::to_string_pretty(value)?).into_owned() + "\n")
    } else {
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_harmless_and_mean_the_same() {
        let value = serde_json::json!({"name": "\u{9b}2J\u{202e}\u{e0041}\u{2028}", "plain": "größe"});
        let (json, written) = (json(&value).unwrap(), yaml(&value).unwrap());
        for text in [&json, &written] {
            assert!(!text.contains(|c| escape::is_harmful(c) && c != '\n'), "{text}");
        }
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        assert_eq!(serde_yaml_ng::from_str::<serde_json::Value>(&written).unwrap(), value);
        assert_eq!(yaml(&serde_json::json!({"a": "größe"})).unwrap(), "a: größe\n");
    }
}
