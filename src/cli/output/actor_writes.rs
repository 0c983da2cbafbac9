//! The result of `who --actor`: the objects that an actor wrote, and its writes.

use std::collections::BTreeSet;
use std::fmt::Write;

use comfy_table::{Attribute, Cell};

use super::coverage::{coverage, problems};
use super::participants::changed;
use super::war::{counted, name};
use crate::cli::style::{Style, clock};
use crate::query::views::{ActorWrites, ObjectWrite, WrittenObject};

/// Default number of writes that are listed.
const WRITES_DEFAULT: usize = 40;

/// Formats what actors have written. `max` is the number of most recent writes to list: 0 for all.
pub(in crate::cli) fn actor_writes(found: &ActorWrites, max: Option<usize>, style: Style) -> String {
    let mut out = problems(&found.coverage, style);
    if found.objects.is_empty() {
        let _ = write!(out, "\n{}", coverage(&found.coverage));
        return out;
    }
    if !out.is_empty() {
        out.push('\n');
    }
    for actor in found.objects.iter().map(|found| found.writer.actor.as_str()).collect::<BTreeSet<_>>() {
        out.push_str(&objects(actor, found, style));
        out.push('\n');
    }
    if found.omitted > 0 {
        let _ = writeln!(out, "{} more objects are not shown.\n", found.omitted);
    }
    let max = match max.unwrap_or(WRITES_DEFAULT) {
        0 => usize::MAX,
        max => max,
    };
    let from = found.writes.len().saturating_sub(max);
    if !found.writes.is_empty() {
        out.push_str(&timeline(&found.writes[from..], style));
    }
    if from > 0 {
        let _ = writeln!(out, "({from} earlier writes are not shown: --timeline-limit 0 shows all)");
    }
    let all: u64 = found.objects.iter().map(|object| u64::from(object.writer.writes)).sum();
    let kept = found.writes.len() as u64;
    if kept < all {
        let text = format!(
            "{} of these writes are not listed: a server keeps the writes to contested objects only, and memory is \
             limited. To list more, run this command with audit logs.",
            all - kept
        );
        out.push_str(&style.wrapped(&text, 0));
    }
    let _ = write!(out, "\n{}", coverage(&found.coverage));
    out
}

/// Lists the objects that an actor wrote, below a line about all of them.
fn objects(actor: &str, found: &ActorWrites, style: Style) -> String {
    let own: Vec<&WrittenObject> = found.objects.iter().filter(|object| object.writer.actor == actor).collect();
    let writes: u32 = own.iter().map(|object| object.writer.writes).sum();
    let first = own.iter().map(|object| object.writer.first).min().unwrap_or_default();
    let last = own.iter().map(|object| object.writer.last).max().unwrap_or_default();
    let text = format!(
        "{}: {} to {}, {} to {}",
        style.actor(actor),
        counted(writes.into(), "write"),
        counted(own.len() as u64, "object"),
        clock(first),
        clock(last)
    );
    let mut out = style.bold(&style.wrapped(&text, 0));
    for WrittenObject { object, writer } in own {
        let verbs: Vec<String> = writer.verbs.iter().map(|(verb, count)| format!("{verb} {count}")).collect();
        let no_ops = if writer.no_ops > 0 { format!(", {} no-ops", writer.no_ops) } else { String::new() };
        let text = format!("{}: {}{no_ops}, last at {}", name(object), verbs.join(", "), &clock(writer.last)[11..]);
        out.push_str(&style.wrapped(&text, 2));
    }
    out
}

/// Formats writes as a table.
fn timeline(writes: &[ObjectWrite], style: Style) -> String {
    let mut table = style.table();
    let head = ["TIME", "OBJECT", "VERB", "CHANGED"];
    table.set_header(head.map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
    for entry in writes {
        table.add_row([
            clock(entry.write.at)[11..].to_owned(),
            name(&entry.object),
            entry.write.verb.clone(),
            changed(&entry.write, style),
        ]);
    }
    format!("{table}\n")
}
