//! Findings other than wars, with advice for each: flapping admission, contention, hot loops, and co-operation that
//! happens too often.

use crate::audit::event::Micros;
use crate::cli::style::{Style, clean, clock};
use crate::query::views::{Contention, Cooperation, Flapping, HotLoop};

use super::war::name;

/// Formats flapping admission, contention and hot loops: what happened, until when, who, and what to do.
pub(super) fn findings<'f>(
    flapping: &[Flapping],
    contention: impl IntoIterator<Item = &'f Contention>,
    hot_loops: &[HotLoop],
    style: Style,
) -> String {
    let mut out = String::new();
    for flapping in flapping {
        let text = format!(
            "{}: admission alternately accepted ({}) and rejected ({}) requests of {}. Rejected by {}: {}",
            name(&flapping.object),
            flapping.accepted,
            flapping.rejected,
            style.actor(&flapping.actor),
            clean(&flapping.by),
            clean(&flapping.message)
        );
        let advice =
            "Find out why the webhook or policy decides differently about the same request, and make it consistent.";
        out.push_str(&finding("Flapping admission", &text, (flapping.since, flapping.until), advice, style));
    }
    for contention in contention {
        let who: Vec<String> =
            contention.parties.iter().map(|p| format!("{} ({})", style.actor(&p.actor), p.conflicts)).collect();
        let text = format!(
            "{}: {} requests failed with a conflict (409), by {}.",
            name(&contention.object),
            contention.stale + contention.apply_conflicts,
            who.join(", ")
        );
        let advice = if contention.apply_conflicts > contention.stale {
            "Let each client apply only the fields that it owns; another manager owns these."
        } else {
            "Let the clients patch only their own fields, or read the object again before each update."
        };
        out.push_str(&finding("Contention", &text, (contention.since, contention.until), advice, style));
    }
    for hot in hot_loops {
        let mut what = Vec::new();
        if hot.writes > 0 {
            what.push(format!("wrote {} times", hot.writes));
        }
        if hot.no_ops > 0 {
            what.push(format!("sent {} requests that changed nothing", hot.no_ops));
        }
        let text =
            format!("{}: {} {}, {}.", name(&hot.object), style.actor(&hot.actor), what.join(" and "), hot.rate());
        let advice = if hot.no_ops > hot.writes {
            "Let the client compare the object before it writes, and write only if something differs."
        } else {
            "Let the client write less often, for example only if a value has changed significantly."
        };
        out.push_str(&finding("Hot loop", &text, (hot.since, hot.until), advice, style));
    }
    out
}

/// Formats a co-operation that happens too often.
pub(super) fn excess(found: &Cooperation, style: Style) -> String {
    let actors: Vec<String> = found.actors.iter().map(|actor| style.actor(actor)).collect();
    let text = format!(
        "{}: {} times in {} ({}); not a war: {}",
        name(&found.object),
        found.times,
        duration(found.since, found.until),
        actors.join(", "),
        clean(&found.reason)
    );
    let title = capitalised(found.excess.as_deref().unwrap_or(&found.name));
    format!("{} {text}\n", style.bold(&title))
}

fn finding(title: &str, text: &str, (since, until): (Micros, Micros), advice: &str, style: Style) -> String {
    let times = match until - since {
        0..1_000_000 => format!("At {}.", clock(since)),
        _ => format!("Since {}, last at {}, within {}.", clock(since), &clock(until)[11..], duration(since, until)),
    };
    let lines = style.wrapped(&format!("{title} {text}"), 0).replacen(title, &style.bold(title), 1);
    format!("{lines}{}{}", style.wrapped(&times, 2), style.wrapped(&format!("To do: {advice}"), 2))
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Formats the time from `since` to `until`: `90 s`, `5 min`, `3 h`.
fn duration(since: Micros, until: Micros) -> String {
    let seconds = (until - since) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
