//! `editwar watch`: finds wars in a cluster while they happen, with nothing but read access to it.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::analyze;
use super::args::{Format, KubeAccess, SortKey, WatchArgs, WatchOptions};
use super::output::WhoCommand;
use super::{Outcome, output, who};
use crate::audit::event::Micros;
use crate::config::Config;
use crate::detect::actor_class::ActorClassifier;
use crate::detect::policy::{HistoryScope, Policy, Target};
use crate::detect::remedy::Contexts;
use crate::ingest::Source;
use crate::ingest::intake::Intake;
use crate::ingest::watch::status::{Summary, WatchStatus};
use crate::ingest::watch::{Recording, Settings, Wanted, WatchSource};
use crate::notify::{Changes, Sink, Sinks};
use crate::pipeline::Pipeline;
use crate::query::reporter::Reporter;
use crate::query::views::{Filter, Participants, ProblemKind, Report, War, time};
use crate::telemetry::metrics::Metrics;

/// Interval at which ages are brought up to date, if nothing changes.
const REFRESH: Duration = Duration::from_secs(2);
/// Minimum time between two tables: a hot war must not flood the terminal.
const REDRAW_AFTER: Duration = Duration::from_millis(200);
/// Time to wait for the first connections before it is said that there are none.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Maximum number of resources that are named in a message.
const NAMES_SHOWN: usize = 8;
/// Clears the terminal, and moves the cursor to its first cell.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Runs `editwar watch`.
///
/// # Errors
/// Invalid arguments, or the cluster cannot be reached.
pub(super) fn run(args: &WatchArgs) -> Result<Outcome> {
    watch_cluster(&args.options, args.namespace.as_deref(), &args.access, "editwar watch")
}

/// Returns the arguments with which the same cluster is watched again, for a while.
fn arguments(access: &KubeAccess) -> String {
    format!("{} --for 10m", access.flags()).trim_start().to_owned()
}

/// Watches a cluster until the time is over or the process is interrupted.
///
/// # Errors
/// As for [`run`].
pub(super) fn watch_cluster(
    options: &WatchOptions,
    namespace: Option<&str>,
    access: &KubeAccess,
    command: &'static str,
) -> Result<Outcome> {
    let config = options.config.load()?;
    let who = WhoCommand { command, server_arguments: Some(arguments(access)) };
    let only = options.objects.iter().map(|object| wanted(object)).collect::<Result<Vec<_>>>()?;
    let recording = options.record.as_deref().map(record).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (client, _) = access.connect().await?;
        let settings = Settings {
            namespaces: namespace.map(str::to_owned).into_iter().collect(),
            only,
            ..config.watch_settings()
        };
        Watch::new(client, settings, &config, options, recording).run(&who).await
    })
}

/// Parses `KIND` or `KIND/NAME`.
fn wanted(typed: &str) -> Result<Wanted> {
    if !typed.contains('/') && !typed.is_empty() {
        return Ok(Wanted { kind: typed.to_owned(), name: None });
    }
    let (kind, name) = analyze::kind_and_name(typed)?;
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':'));
    if !is_name {
        bail!("\"{name}\" is not the name of an object");
    }
    Ok(Wanted { kind, name: Some(name) })
}

fn record(path: &Path) -> Result<Recording> {
    Recording::create(path).with_context(|| path.display().to_string())
}

/// A running watch, and what it prints.
struct Watch<'a> {
    pipeline: Arc<Pipeline>,
    classes: ActorClassifier,
    contexts: Contexts,
    status: WatchStatus,
    source: WatchSource,
    recording: Option<Recording>,
    changed: watch::Receiver<()>,
    options: &'a WatchOptions,
    /// The only object that is watched, if it is one.
    object: Option<Filter>,
}

/// What was seen so far.
struct View {
    report: Report,
    /// The participants of the only object that is watched, if it was written.
    participants: Option<Participants>,
}

/// Wakes up the printer.
struct Waker(watch::Sender<()>);

impl Sink for Waker {
    fn publish(&self, _: &Changes<'_>) {
        self.0.send_replace(());
    }
}

// === impl Watch ===

impl<'a> Watch<'a> {
    fn new(
        client: kube::Client,
        settings: Settings,
        config: &Config,
        options: &'a WatchOptions,
        recording: Option<Recording>,
    ) -> Watch<'a> {
        let object = match settings.only.as_slice() {
            [Wanted { kind, name: Some(name) }] => Some(Filter {
                kind: Some(kind.clone()),
                name: Some(name.clone()),
                namespace: settings.namespaces.first().cloned(),
                ..Filter::default()
            }),
            _ => None,
        };
        let target = object.as_ref().map(|object| Target {
            kind: object.kind.clone().unwrap_or_default(),
            name: object.name.clone().unwrap_or_default(),
            namespace: object.namespace.clone(),
        });
        let policy = Policy { history_of: target.map(HistoryScope::Object), ..config.policy() };
        let pipeline = Arc::new(Pipeline::new(policy, config.bounds()));
        let metrics = Metrics::new(config.series_limits());
        let status = WatchStatus::new(&metrics);
        let (waker, changed) = watch::channel(());
        let intake = Intake::new(pipeline.clone(), metrics, Sinks::new(vec![Arc::new(Waker(waker))]));
        let source = WatchSource::new(client, settings, intake, recording.clone(), status.clone());
        let (classes, contexts) = (config.classes(), config.contexts());
        Watch { pipeline, classes, contexts, status, source, recording, changed, options, object }
    }

    async fn run(self, who: &WhoCommand) -> Result<Outcome> {
        let Watch { pipeline, classes, contexts, status, source, recording, mut changed, options, object } = self;
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(Box::new(source).run(stopped));
        let reporter = Reporter::new(&pipeline, &classes).with_contexts(&contexts);
        let mut printer = Printer::new(options, who);
        let end = tokio::time::sleep(options.duration.map_or(Duration::from_secs(u64::from(u32::MAX)), |d| d.0));
        tokio::pin!(end);
        let started = tokio::time::Instant::now();
        loop {
            let is_late = started.elapsed() >= CONNECT_WITHIN;
            printer.tell_status(&status.summary(), is_late);
            printer.update(view(&reporter, &status, object.as_ref(), !options.objects.is_empty()), status.now())?;
            tokio::select! {
                () = &mut end => break,
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = changed.changed() => tokio::time::sleep(REDRAW_AFTER).await,
                () = tokio::time::sleep(REFRESH) => {}
            }
        }
        stop.send_replace(true);
        running.await?;
        let view = view(&reporter, &status, object.as_ref(), !options.objects.is_empty());
        if let Some(error) = recording.and_then(|recording| recording.error()) {
            bail!("the recording is not complete: {error}");
        }
        let outcome = Outcome::of_search(&view.report.coverage, view.report.wars.iter().any(War::is_loud));
        printer.finish(view, status.now())?;
        Ok(outcome)
    }
}

/// Returns everything that was seen, contested objects included.
///
/// With `names_kinds`, the user has named what to watch, so that what may not be read is a problem.
fn view(reporter: &Reporter<'_>, status: &WatchStatus, object: Option<&Filter>, names_kinds: bool) -> View {
    let report = reporter.report(&Filter { all: true, ..Filter::default() });
    let participants = object.and_then(|object| reporter.find(object).ok());
    let mut view = View { report, participants };
    let summary = status.summary();
    if summary.connected == 0 {
        view.problem(summary.error.clone().unwrap_or_else(|| "no resource is watched".to_owned()));
    } else if !summary.connecting.is_empty() {
        view.problem(format!("there is no watch at the moment of {}", names(summary.connecting.iter())));
    }
    for kind in &summary.unknown_kinds {
        view.problem(format!("the cluster has no kind \"{kind}\""));
    }
    for object in &summary.missing {
        view.problem(format!("{object} does not exist"));
    }
    view.not_watched(&summary.failing);
    if names_kinds {
        view.not_watched(&summary.forbidden);
    }
    if summary.gaps > 0 {
        view.problem(format!(
            "writes may be missing: {} times, the API server no longer had the revisions since a watch was interrupted",
            summary.gaps
        ));
    }
    if summary.unmanaged > 0 {
        view.problem(format!(
            "{} changed, but the API server does not record who writes them: they have no managedFields",
            output::counted(summary.unmanaged as u64, "object")
        ));
    }
    view
}

// === impl View ===

impl View {
    /// Adds the problem that resources are not watched: one for each, or one for all if there are many.
    fn not_watched(&mut self, resources: &[(String, String)]) {
        match resources {
            [(_, message), _, _, _, ..] => {
                let all = names(resources.iter().map(|(name, _)| name));
                self.problem(format!("{} resources are not watched: {all}; {message}", resources.len()));
            }
            few => few.iter().for_each(|(name, message)| self.problem(format!("{name} is not watched: {message}"))),
        }
    }

    fn problem(&mut self, message: String) {
        let coverages = self.participants.as_mut().map(|found| &mut found.coverage);
        for coverage in coverages.into_iter().chain([&mut self.report.coverage]) {
            coverage.add_problem(ProblemKind::IncompleteInput, message.clone());
        }
    }
}

/// Prints wars as they begin, change and end.
struct Printer<'a> {
    options: &'a WatchOptions,
    who: &'a WhoCommand,
    is_terminal: bool,
    /// The wars that were printed, by object and parties, with their states.
    printed: BTreeMap<String, &'static str>,
    told: Option<String>,
}

// === impl Printer ===

impl<'a> Printer<'a> {
    fn new(options: &'a WatchOptions, who: &'a WhoCommand) -> Printer<'a> {
        let is_terminal = std::io::stdout().is_terminal();
        Printer { options, who, is_terminal, printed: BTreeMap::new(), told: None }
    }

    /// Tells on stderr what is watched and what may not be read, once, and again when it changes.
    fn tell_status(&mut self, summary: &Summary, is_late: bool) {
        let Summary { connected, connecting, forbidden, error, .. } = summary;
        if (!connecting.is_empty() || *connected == 0) && !is_late {
            return;
        }
        let mut text = format!("watching {}", output::counted(*connected as u64, "resource"));
        if !forbidden.is_empty() {
            let refused = names(forbidden.iter().map(|(name, _)| name));
            text.push_str(&format!("; not watched, because this account may not list and watch them: {refused}"));
        }
        if !connecting.is_empty() {
            text.push_str(&format!("; no connection yet: {}", names(connecting.iter())));
        }
        if let Some(error) = error {
            text.push_str(&format!("; {error}"));
        }
        if self.told.as_ref() != Some(&text) {
            // In a terminal, it is part of the table.
            let is_in_table = self.is_terminal && self.options.output.is_table();
            if !is_in_table && !self.options.quiet {
                anstream::eprintln!("editwar: {}", output::clean(&text));
            }
            self.told = Some(text);
        }
    }

    fn update(&mut self, mut view: View, now: Micros) -> Result<()> {
        output::set_checks(&mut view.report.wars, self.who, &view.report.coverage);
        match self.options.output {
            Format::Table | Format::Wide if self.is_terminal => self.redraw(view, now),
            Format::Table | Format::Wide => self.print_changes(&view.report, |war| Ok(line(war))),
            Format::Jsonl => self.print_changes(&view.report, |war| Ok(output::json_lines(std::slice::from_ref(war))?)),
            // These formats are documents, and are printed at the end.
            Format::Json | Format::Yaml | Format::Markdown | Format::Csv | Format::Name => Ok(()),
        }
    }

    fn redraw(&mut self, view: View, now: Micros) -> Result<()> {
        write!(anstream::stdout().lock(), "{CLEAR}")?;
        self.print(view, now)?;
        if let Some(told) = &self.told {
            let hint = if self.options.duration.is_some() { "" } else { "; press Ctrl-C to stop" };
            writeln!(anstream::stdout().lock(), "\n{}{hint}", output::clean(told))?;
        }
        Ok(())
    }

    /// Prints the wars that began or changed their state.
    fn print_changes(&mut self, report: &Report, text: impl Fn(&War) -> Result<String>) -> Result<()> {
        let mut stdout = anstream::stdout().lock();
        for war in &report.wars {
            let mut parties: Vec<&str> = war.parties.iter().map(|party| party.actor.as_str()).collect();
            parties.sort_unstable();
            let key = format!("{} {}", war.object.arguments(), parties.join(" "));
            if self.printed.insert(key, war.state.as_str()) != Some(war.state.as_str()) {
                write!(stdout, "{}", text(war)?)?;
            }
        }
        Ok(stdout.flush()?)
    }

    /// Prints what was found in the end.
    fn finish(&mut self, view: View, now: Micros) -> Result<()> {
        match self.options.output {
            Format::Table | Format::Wide if self.is_terminal => self.redraw(view, now),
            Format::Jsonl => self.update(view, now),
            Format::Table | Format::Wide => {
                self.print_changes(&view.report, |war| Ok(line(war)))?;
                self.print(view, now)
            }
            _ => self.print(view, now),
        }
    }

    fn print(&self, mut view: View, now: Micros) -> Result<()> {
        let (who, format) = (self.who, self.options.output);
        let now = (!self.options.utc).then_some(now);
        match &mut view.participants {
            Some(found) => who::print(found, &who::Printed { who, format, now, timeline_max: None }),
            None => {
                let sort = SortKey::Urgency;
                analyze::print(&mut view.report, &analyze::Printed { who, format, now, sort })
            }
        }
    }
}

/// Formats a war that began or changed as one line.
fn line(war: &War) -> String {
    let parties: Vec<String> = war.parties.iter().map(|party| output::clean(&party.actor)).collect();
    let fields: Vec<String> = war.fields.iter().take(3).map(|field| output::clean(&field.path)).collect();
    let more = war.fields.len().saturating_sub(fields.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let retakes = output::counted(u64::from(war.retakes), "retake");
    format!(
        "{} {} {}: {}{more}; {}; {retakes}\n",
        time::text(war.until),
        war.state.as_str(),
        output::name(&war.object),
        fields.join(", "),
        parties.join(" and "),
    )
}

fn names<'n>(names: impl ExactSizeIterator<Item = &'n String>) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let shown: Vec<&str> = names.take(NAMES_SHOWN).map(String::as_str).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
