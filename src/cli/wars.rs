//! `editwar wars`: lists the wars that a running server knows.

use std::io::Write;

use anyhow::{Result, bail};
use serde::de::DeserializeOwned;

use super::args::{Format, WarsArgs, Which};
use super::connection::ServerTarget;
use super::{Outcome, analyze, output};
use crate::detect::verdict::State;
use crate::query::client::with_query;
use crate::query::views::{Report, Transitions};

/// Runs `editwar wars`.
///
/// # Errors
/// The server is not reachable or rejects the request.
pub fn run(args: &WarsArgs) -> Result<Outcome> {
    if args.remote.server.is_none() {
        bail!("no server: set --server URL or EDITWAR_SERVER");
    }
    list(&args.which, args.namespace.as_deref(), &ServerTarget::At(args.remote.clone()))
}

/// Lists transitions.
fn transitions(which: &Which, namespace: Option<&str>, since: &str, target: &ServerTarget) -> Result<Outcome> {
    let (cluster, kind) = (which.cluster.as_deref(), which.kind.as_deref());
    let parameters = [("since", Some(since)), ("namespace", namespace), ("cluster", cluster), ("kind", kind)];
    let found: Transitions = ask(target, with_query("/api/v1/transitions", &parameters))?;
    let mut stdout = anstream::stdout().lock();
    match which.output {
        Format::Json => write!(stdout, "{}", output::json(&found)?)?,
        Format::Yaml => write!(stdout, "{}", output::yaml(&found)?)?,
        Format::Markdown => bail!("-o markdown does not support --since: for one object, use editwar who"),
        Format::Table | Format::Wide => {
            let style = output::Style::of_stdout(which.output == Format::Wide);
            write!(stdout, "{}", output::transitions(&found, style))?;
        }
    }
    stdout.flush()?;
    let is_war = found
        .transitions
        .iter()
        .any(|transition| transition.to == State::Thrashing || transition.to == State::Sustained);
    Ok(if is_war { Outcome::War } else { Outcome::Calm })
}

fn ask<T: DeserializeOwned>(target: &ServerTarget, path: String) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Ok(target.open().await?.get(&path).await?) })
}

/// Lists the wars that a server knows, or past transitions.
///
/// # Errors
/// As for [`run`].
pub fn list(which: &Which, namespace: Option<&str>, target: &ServerTarget) -> Result<Outcome> {
    if let Some(since) = &which.since {
        return transitions(which, namespace, since, target);
    }
    let all = which.all.to_string();
    let (cluster, actor) = (which.cluster.as_deref(), which.actor.as_deref());
    let top = which.top.map(|top| top.to_string());
    let parameters = [
        ("all", Some(all.as_str())),
        ("namespace", namespace),
        ("cluster", cluster),
        ("actor", actor),
        ("kind", which.kind.as_deref()),
        ("limit", top.as_deref()),
    ];
    let report: Report = ask(target, with_query("/api/v1/wars", &parameters))?;
    analyze::print(&report, &target.who_command(), which.output)?;
    Ok(Outcome::of_search(&report.coverage, report.wars.iter().any(|war| war.is_loud())))
}
