//! `editwar wars`: lists the wars that a running server knows.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Result, bail};
use serde::de::DeserializeOwned;

use super::analyze::{self, Printed};
use super::args::{Format, WarsArgs, Which};
use super::connection::ServerTarget;
use super::war_counts::WarCounts;
use super::{Outcome, output};
use crate::detect::verdict::State;
use crate::query::client::with_query;
use crate::query::views::{PartyClass, Report, Transitions, WarStatus};
use crate::util::clock;

/// Interval at which `--watch` queries the server.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// How far back transitions are listed by default.
const TRANSITIONS_SINCE: &str = "1d";
/// Clears the terminal, and moves the cursor to its first cell.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Runs `editwar wars`.
///
/// # Errors
/// The server is not reachable or rejects the request.
pub(super) fn run(args: &WarsArgs) -> Result<Outcome> {
    if args.remote.server.is_none() {
        bail!("no server: set --server URL or EDITWAR_SERVER");
    }
    list(&args.which, args.namespace.as_deref(), &ServerTarget::At(args.remote.clone()))
}

/// Lists the wars that a server knows, or past transitions.
///
/// # Errors
/// As for [`run`].
pub(super) fn list(which: &Which, namespace: Option<&str>, target: &ServerTarget) -> Result<Outcome> {
    let (mut kind, name) = which.object.as_deref().map(analyze::kind_and_name).transpose()?.unzip();
    if kind.is_some() && which.conditions.kind.is_some() {
        bail!("--kind and KIND/NAME exclude each other");
    }
    kind = kind.or_else(|| which.conditions.kind.clone());
    let common = [
        ("namespace", namespace),
        ("cluster", which.cluster.as_deref()),
        ("kind", kind.as_deref()),
        ("name", name.as_deref()),
        ("since", which.since.as_deref()),
    ];
    if which.transitions {
        return transitions(which, &common, target);
    }
    if let Some(key) = &which.by {
        return counts(which, key, &common, target);
    }
    let path = query(which, &common, target.context());
    if which.watch {
        return block_on(watch(which, target, &path))?;
    }
    let mut report: Report = ask(target, path)?;
    print(&mut report, which, target)?;
    analyze::repeat_problems(&report.coverage, which.output, false);
    Ok(Outcome::of_search(&report.coverage, report.wars.iter().any(|war| war.is_loud())))
}

/// Lists the wars whenever they change, until the process is interrupted. In a terminal, the list replaces the one before,
/// and its ages are kept up to date.
async fn watch(which: &Which, target: &ServerTarget, path: &str) -> Result<Outcome> {
    let server = target.open().await?;
    let is_redrawn = which.output.is_table() && std::io::stdout().is_terminal();
    let mut last = None;
    loop {
        let mut report: Report = server.get(path).await?;
        // The counts change with every event, and the wars rarely.
        let shown = Some((report.wars.clone(), report.coverage.problems.clone()));
        if is_redrawn {
            write!(anstream::stdout().lock(), "{CLEAR}")?;
        }
        if is_redrawn || last != shown {
            print(&mut report, which, target)?;
            analyze::repeat_problems(&report.coverage, which.output, false);
        }
        last = shown;
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn print(report: &mut Report, which: &Which, target: &ServerTarget) -> Result<()> {
    let now = (!which.utc).then(clock::now);
    analyze::print(
        report,
        &Printed { who: &target.who_command(), format: which.output, now, sort: which.conditions.sort },
    )
}

/// Returns the path of the query.
fn query(which: &Which, common: &[(&str, Option<&str>)], context: Option<&str>) -> String {
    let conditions = &which.conditions;
    let class = conditions.class.as_ref().map(PartyClass::to_string);
    let state = conditions.state.as_ref().map(WarStatus::to_string);
    let top = conditions.top.map(|top| top.to_string());
    let all = conditions.all.to_string();
    let mut parameters = common.to_vec();
    parameters.extend([
        ("all", Some(all.as_str())),
        ("actor", conditions.actor.as_deref()),
        ("context", context),
        ("class", class.as_deref()),
        ("state", state.as_deref()),
        ("confidence", conditions.confidence.map(|confidence| confidence.as_str())),
        ("cause", conditions.cause.map(|cause| cause.as_str())),
        ("limit", top.as_deref()),
    ]);
    with_query("/api/v1/wars", &parameters)
}

/// Lists transitions.
fn transitions(which: &Which, common: &[(&str, Option<&str>)], target: &ServerTarget) -> Result<Outcome> {
    let found = past_transitions(which, common, target)?;
    let mut stdout = anstream::stdout().lock();
    match which.output {
        Format::Json => write!(stdout, "{}", output::json(&found)?)?,
        Format::Yaml => write!(stdout, "{}", output::yaml(&found)?)?,
        Format::Jsonl => write!(stdout, "{}", output::json_lines(&found.transitions)?)?,
        Format::Table | Format::Wide => {
            let style = output::Style::of_stdout(which.output == Format::Wide);
            write!(stdout, "{}", output::transitions(&found, style))?;
        }
        other => return Err(other.refused("table, wide, json, jsonl or yaml")),
    }
    stdout.flush()?;
    let is_war = found
        .transitions
        .iter()
        .any(|transition| transition.to == State::Thrashing || transition.to == State::Sustained);
    Ok(if is_war { Outcome::War } else { Outcome::Calm })
}

/// Counts past wars by a key.
fn counts(which: &Which, key: &str, common: &[(&str, Option<&str>)], target: &ServerTarget) -> Result<Outcome> {
    let found = past_transitions(which, common, target)?;
    let counts = WarCounts::of(&found, key);
    let mut stdout = anstream::stdout().lock();
    match which.output {
        Format::Json => write!(stdout, "{}", output::json(&counts)?)?,
        Format::Yaml => write!(stdout, "{}", output::yaml(&counts)?)?,
        Format::Jsonl => write!(stdout, "{}", output::json_lines(&counts.groups)?)?,
        Format::Table | Format::Wide => {
            write!(stdout, "{}", counts.table(output::Style::of_stdout(which.output == Format::Wide)))?;
        }
        other => return Err(other.refused("table, wide, json, jsonl or yaml")),
    }
    stdout.flush()?;
    if let Some(hint) = counts.hint() {
        writeln!(anstream::stderr(), "{hint}")?;
    }
    if !found.transitions.is_empty() {
        return Ok(if counts.groups.is_empty() { Outcome::Calm } else { Outcome::War });
    }
    // Whether there was peace, or the filters match nothing and no event was received.
    let report: Report = ask(target, with_query("/api/v1/wars", common))?;
    analyze::print_problems(&report.coverage.problems, false);
    Ok(Outcome::of_search(&report.coverage, false))
}

fn past_transitions(which: &Which, common: &[(&str, Option<&str>)], target: &ServerTarget) -> Result<Transitions> {
    let mut parameters = common.to_vec();
    if which.since.is_none() {
        parameters.push(("since", Some(TRANSITIONS_SINCE)));
    }
    ask(target, with_query("/api/v1/transitions", &parameters))
}

fn ask<T: DeserializeOwned>(target: &ServerTarget, path: String) -> Result<T> {
    block_on(async { Ok(target.open().await?.get(&path).await?) })?
}

fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}
