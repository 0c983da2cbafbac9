//! `editwar who`: shows who writes one object, and what they write.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hyper::StatusCode;

use super::args::{Format, WhoArgs};
use super::connection::ServerTarget;
use super::{Outcome, analyze, markdown, output, owners};
use crate::audit::event::Micros;
use crate::detect::policy::{HistoryScope, Policy, Target};
use crate::query::client::{Error, with_query};
use crate::query::reporter::Reporter;
use crate::query::views::{ActorWrites, Filter, Participants};
use crate::util::clock;

/// Runs `editwar who`.
///
/// # Errors
/// Invalid arguments, an unknown object, or no readable input.
pub(super) fn run(args: &WhoArgs) -> Result<Outcome> {
    answer(args, args.remote.server.is_some().then(|| ServerTarget::At(args.remote.clone())))
}

/// Queries `server`, unless there are files to read.
///
/// # Errors
/// As for [`run`].
pub(super) fn answer(args: &WhoArgs, server: Option<ServerTarget>) -> Result<Outcome> {
    if let Some(actor) = &args.actor {
        return writes_of(actor, args, server);
    }
    let first = args.object.as_deref().context("expected KIND/NAME, such as deployment/web")?;
    let (object, inputs) = object_and_inputs(first, &args.inputs);
    let (kind, name) = analyze::kind_and_name(&object)?;
    if server.is_none() && inputs.is_empty() {
        return owners::show(args, &kind, &name, &[]);
    }
    let is_live = server.is_some() && inputs.is_empty();
    let who = match &server {
        Some(server) if is_live => server.who_command(),
        _ => output::WhoCommand::default(),
    };
    // The cluster that the user chose is the one that this server watches.
    let has_cluster = is_live && (is_plugin(server.as_ref()) || args.access.is_chosen());
    let shows_owners = has_cluster && args.log.output.is_table();
    let found = match server {
        Some(server) if is_live => from_server(args, &server, &kind, &name),
        _ => from_files(args, &inputs, &kind, &name),
    };
    let mut found = match found {
        // Nobody has written the object while the server was looking.
        Err(error) if shows_owners => return owners::show(args, &kind, &name, &[]).map_err(|_| error),
        found => found?,
    };
    let now = if is_live { Some(clock::now()) } else { found.coverage.last };
    let (format, timeline_max) = (args.log.output, args.timeline_max());
    print(&mut found, &Printed { who: &who, format, now: now.filter(|_| !args.log.utc), timeline_max })?;
    if shows_owners && !found.wars.iter().any(|war| war.is_loud()) {
        writeln!(anstream::stdout().lock())?;
        if let Err(error) = owners::show(args, &kind, &name, &found.timeline) {
            anstream::eprintln!("editwar: cannot show who owns its fields now: {}", output::clean(&error.to_string()));
        }
    }
    analyze::repeat_problems(&found.coverage, args.log.output, args.log.quiet);
    Ok(Outcome::of_search(&found.coverage, found.wars.iter().any(|war| war.is_loud())))
}

/// Whether the server is found through the cluster that it watches.
fn is_plugin(server: Option<&ServerTarget>) -> bool {
    matches!(server, Some(ServerTarget::In(_)))
}

/// How the participants of an object are printed.
pub(super) struct Printed<'a> {
    /// How to query again.
    pub who: &'a output::WhoCommand,
    /// The format.
    pub format: Format,
    /// The time to which tables show times relative. Without one, they are shown in UTC.
    pub now: Option<Micros>,
    /// The number of writes to print: 0 for all, `None` for no timeline.
    pub timeline_max: Option<usize>,
}

/// Prints the participants of an object, with the commands that show whether its wars are over.
///
/// # Errors
/// Errors of standard output.
pub(super) fn print(found: &mut Participants, printed: &Printed<'_>) -> Result<()> {
    output::set_checks(&mut found.wars, printed.who, &found.coverage);
    let mut stdout = anstream::stdout().lock();
    let writes = || found.timeline.iter().map(|write| (&found.object, write));
    match printed.format {
        Format::Json => write!(stdout, "{}", output::json(found)?)?,
        Format::Yaml => write!(stdout, "{}", output::yaml(found)?)?,
        Format::Jsonl => write!(stdout, "{}", output::json_lines(&found.timeline)?)?,
        Format::Csv => write!(stdout, "{}", output::csv_writes(writes())?)?,
        Format::Name => writeln!(stdout, "{}", found.object.arguments())?,
        Format::Markdown => write!(stdout, "{}", markdown::participants(found))?,
        Format::Table | Format::Wide => {
            let style = output::Style::of_stdout(printed.format == Format::Wide).relative_to(printed.now);
            write!(stdout, "{}", output::participants(found, printed.timeline_max, style))?;
        }
    }
    Ok(stdout.flush()?)
}

/// Shows what the actors whose names contain a text have written.
fn writes_of(actor: &str, args: &WhoArgs, server: Option<ServerTarget>) -> Result<Outcome> {
    let inputs: Vec<PathBuf> = args.object.iter().map(PathBuf::from).chain(args.inputs.iter().cloned()).collect();
    let found = match server {
        Some(server) if inputs.is_empty() => {
            if args.log.since.is_some() {
                bail!("--since with --actor needs audit logs to read: a server keeps no writes of one actor");
            }
            let parameters = [
                ("actor", Some(actor)),
                ("namespace", args.namespace.as_deref()),
                ("cluster", args.cluster.as_deref()),
            ];
            let path = with_query("/api/v1/writes", &parameters);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { anyhow::Ok(server.open().await?.get::<ActorWrites>(&path).await?) })?
        }
        _ => {
            if inputs.is_empty() {
                bail!("no input: give audit logs to read, or a running server with --server URL");
            }
            let config = args.log.config.load()?;
            let policy = Policy { history_of: Some(HistoryScope::All), ..config.policy() };
            let (pipeline, problems) = analyze::read(&inputs, &args.log, &config, policy)?;
            let filter =
                Filter { actor: Some(actor.to_owned()), namespace: args.namespace.clone(), ..Filter::default() };
            let classes = config.classes();
            let mut found = Reporter::new(&pipeline, &classes).writes_of_actors(&filter);
            found.coverage.problems.extend(problems);
            found
        }
    };
    let mut stdout = anstream::stdout().lock();
    match args.log.output {
        Format::Json => write!(stdout, "{}", output::json(&found)?)?,
        Format::Yaml => write!(stdout, "{}", output::yaml(&found)?)?,
        Format::Jsonl => write!(stdout, "{}", output::json_lines(&found.writes)?)?,
        Format::Csv => {
            let writes = found.writes.iter().map(|write| (&write.object, &write.write));
            write!(stdout, "{}", output::csv_writes(writes)?)?;
        }
        Format::Name => found.objects.iter().try_for_each(|o| writeln!(stdout, "{}", o.object.arguments()))?,
        Format::Markdown => return Err(args.log.output.refused("table, wide, json, jsonl, csv, name or yaml")),
        Format::Table | Format::Wide => {
            let style = output::Style::of_stdout(args.log.output == Format::Wide);
            write!(stdout, "{}", output::actor_writes(&found, args.timeline_limit, style))?;
        }
    }
    stdout.flush()?;
    analyze::repeat_problems(&found.coverage, args.log.output, args.log.quiet);
    Ok(Outcome::of_search(&found.coverage, false))
}

/// Returns the object as `KIND/NAME`, and the other arguments: people type `deployment/web audit.log`, `deployment web
/// audit.log` and `audit.log deployment/web`.
fn object_and_inputs(first: &str, others: &[PathBuf]) -> (String, Vec<PathBuf>) {
    let is_object = |text: &str| analyze::kind_and_name(text).is_ok() && !Path::new(text).exists();
    let mut others = others.to_vec();
    if is_object(first) {
        return (first.to_owned(), others);
    }
    if let Some(at) = others.iter().position(|other| is_object(&other.to_string_lossy())) {
        let object = others.remove(at);
        others.insert(0, first.into());
        return (object.to_string_lossy().into_owned(), others);
    }
    let is_name = |other: &PathBuf| !other.exists() && !other.to_string_lossy().contains('/');
    if !first.contains('/') && !Path::new(first).exists() && others.first().is_some_and(is_name) {
        let name = others.remove(0);
        return (format!("{first}/{}", name.to_string_lossy()), others);
    }
    (first.to_owned(), others)
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
        ("context", server.context()),
    ];
    let path = with_query("/api/v1/participants", &parameters);
    let found = runtime.block_on(async { Ok::<_, anyhow::Error>(server.open().await?.get(&path).await) })?;
    match found {
        // The message is clear without the URL of the query.
        Err(Error::Refused { status: StatusCode::NOT_FOUND, message, .. }) => bail!("{kind}/{name}: {message}"),
        found => Ok(found?),
    }
}

fn from_files(args: &WhoArgs, inputs: &[PathBuf], kind: &str, name: &str) -> Result<Participants> {
    if inputs.is_empty() {
        bail!("no input: give audit logs to read, or a running server with --server URL");
    }
    let target = Target { kind: kind.to_owned(), name: name.to_owned(), namespace: args.namespace.clone() };
    let config = args.log.config.load()?;
    let policy = Policy { history_of: Some(HistoryScope::Object(target)), ..config.policy() };
    let (pipeline, problems) = analyze::read(inputs, &args.log, &config, policy)?;
    let filter = Filter {
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        namespace: args.namespace.clone(),
        ..Filter::default()
    };
    let classes = config.classes();
    let contexts = config.contexts();
    let reporter = Reporter::new(&pipeline, &classes).with_contexts(&contexts);
    match reporter.find(&filter) {
        Ok(mut found) => {
            found.coverage.problems.extend(problems);
            Ok(found)
        }
        Err(why) => {
            analyze::print_problems(&problems, args.log.quiet);
            bail!("{kind}/{name}: {why}")
        }
    }
}
