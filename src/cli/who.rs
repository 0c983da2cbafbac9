//! `editwar who`: shows who writes one object, and what they write.

use std::io::Write;

use anyhow::{Result, bail};

use super::args::{Format, WhoArgs};
use super::connection::ServerTarget;
use super::{Outcome, analyze, markdown, output};
use crate::detect::policy::{Policy, Target};
use crate::query::client::with_query;
use crate::query::reporter::Reporter;
use crate::query::views::{Filter, Participants};

/// Runs `editwar who`.
///
/// # Errors
/// Invalid arguments, an unknown object, or no readable input.
pub fn run(args: &WhoArgs) -> Result<Outcome> {
    answer(args, args.remote.server.is_some().then(|| ServerTarget::At(args.remote.clone())))
}

/// Queries `server`, unless there are files to read.
///
/// # Errors
/// As for [`run`].
pub fn answer(args: &WhoArgs, server: Option<ServerTarget>) -> Result<Outcome> {
    let (kind, name) = analyze::kind_and_name(&args.object)?;
    let (found, is_whole) = match (server, args.inputs.is_empty()) {
        (Some(server), true) => (from_server(args, &server, &kind, &name)?, true),
        _ => from_files(args, &kind, &name)?,
    };
    let mut stdout = anstream::stdout().lock();
    match args.log.output {
        Format::Json => write!(stdout, "{}", output::json(&found)?)?,
        Format::Yaml => write!(stdout, "{}", output::yaml(&found)?)?,
        Format::Markdown => write!(stdout, "{}", markdown::participants(&found))?,
        Format::Table | Format::Wide => {
            let style = output::Style::of_stdout(args.log.output == Format::Wide);
            write!(stdout, "{}", output::participants(&found, args.timeline_limit, style))?;
        }
    }
    stdout.flush()?;
    Ok(Outcome::of_search(is_whole, found.wars.iter().any(|war| war.is_loud())))
}

/// Queries a server for the participants of an object.
fn from_server(args: &WhoArgs, server: &ServerTarget, kind: &str, name: &str) -> Result<Participants> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let parameters = [
        ("kind", Some(kind)),
        ("name", Some(name)),
        ("namespace", args.namespace.as_deref()),
        ("cluster", args.cluster.as_deref()),
        ("since", args.log.since.as_deref()),
    ];
    let path = with_query("/api/v1/participants", &parameters);
    runtime.block_on(async { Ok(server.open().await?.get(&path).await?) })
}

fn from_files(args: &WhoArgs, kind: &str, name: &str) -> Result<(Participants, bool)> {
    if args.inputs.is_empty() {
        bail!("no input: give audit logs to read, or a running server with --server URL");
    }
    let target = Target { kind: kind.to_owned(), name: name.to_owned(), namespace: args.namespace.clone() };
    let config = args.log.config()?;
    let policy = Policy { history_of: Some(target), ..config.policy() };
    let (pipeline, is_whole) = analyze::read(&args.inputs, &args.log, &config, policy)?;
    let filter = Filter {
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        namespace: args.namespace.clone(),
        ..Filter::default()
    };
    let classes = config.classes();
    let lens = Reporter { pipeline: &pipeline, classes: &classes };
    match lens.find(&filter) {
        Ok(found) => Ok((found, is_whole)),
        Err(why) => bail!("{}: {why}", args.object),
    }
}
