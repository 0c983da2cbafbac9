//! What an answer is based on: sources, time range, gaps, and how complete the events are.

use std::fmt::Write;

use crate::cli::style::{Style, clean, clock};
use crate::query::views::{Coverage, WrongClock};

/// Formats the problems because of which an answer may be wrong, or empty although there is a war. They are shown
/// first.
pub fn problems(coverage: &Coverage, style: Style) -> String {
    let mut out = String::new();
    for problem in &coverage.problems {
        let title = problem.kind.title();
        let text = style.wrapped(&format!("{title}: {}", clean(&problem.message)), 0);
        out.push_str(&text.replacen(title, &style.bold(title), 1));
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
    for (source, caveat) in coverage.feeds.iter().flat_map(|f| f.caveats.iter().map(|text| (&f.source, text))).take(8) {
        let _ = writeln!(out, "{}: {}", clean(source), clean(caveat));
    }
    let levels = &coverage.levels;
    let audited = levels.metadata + levels.request + levels.request_response;
    // A write that both show is one write.
    let all = audited.saturating_sub(levels.joined) + levels.watched + levels.reviewed;
    let watched = levels.watched.saturating_sub(levels.joined);
    let metadata = levels.metadata.saturating_sub(levels.joined + levels.fields_reviewed);
    let share = |n: u64| (n * 100).checked_div(all).unwrap_or(0);
    if all == 0 {
        out.push_str("None of the events is a write.\n");
    } else if levels.request_response == all && coverage.truncated == 0 {
        out.push_str("All writes have request and response bodies (RequestResponse).\n");
    }
    if levels.joined > 0 {
        let _ = writeln!(
            out,
            "{} % of the writes are known from the audit log and a watch: their accounts\n\
             come from the audit log, their fields and values from the watch.",
            share(levels.joined)
        );
    }
    if levels.fields_reviewed > 0 {
        let _ = writeln!(
            out,
            "{} % of the writes have no bodies in the audit log; an admission webhook\n\
             showed their fields and values.",
            share(levels.fields_reviewed)
        );
    }
    if watched > 0 {
        let _ = writeln!(
            out,
            "{} % of the writes are known only from a watch: by manager, not by account.\n\
             Clients with the same field manager cannot be told apart, and it may not be\n\
             known who removed fields.",
            share(watched)
        );
    }
    if metadata > 0 {
        let _ = writeln!(
            out,
            "{} % of the writes have no bodies (Metadata), so their fields are unknown.",
            share(metadata)
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
