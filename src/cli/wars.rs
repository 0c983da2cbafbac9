//! `editwar wars`: what a running server found.

use anyhow::Result;

use super::args::{WarsArgs, Which};
use super::reach::Reach;
use super::{Outcome, analyze};
use crate::cli::who::encoded;
use crate::query::views::Report;

/// Runs `editwar wars`.
///
/// # Errors
/// Where the server cannot be asked.
pub fn run(args: &WarsArgs) -> Result<Outcome> {
    list(&args.which, args.namespace.as_deref(), &Reach::At(args.server.clone()))
}

/// Lists the wars that a server knows of.
///
/// # Errors
/// As [`run`].
pub fn list(which: &Which, namespace: Option<&str>, reach: &Reach) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut path = format!("/api/v1/wars?all={}", which.all);
    for (key, value) in
        [("namespace", namespace), ("cluster", which.cluster.as_deref()), ("actor", which.actor.as_deref())]
    {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", encoded(value)));
        }
    }
    let report: Report = runtime.block_on(async { anyhow::Ok(reach.open().await?.get(&path).await?) })?;
    analyze::print(&report, which.output)?;
    Ok(if report.wars.iter().any(|war| war.thrashing_events > 0) { Outcome::War } else { Outcome::Calm })
}
