//! `editwar analyze`: finds wars in audit log files.

use std::cmp::Reverse;
use std::io::{IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::args::{AnalyzeArgs, Format, LogArgs, SortKey};
use super::{Outcome, explain_input, markdown, output};
use crate::audit::decoded_chunk::DecodedChunk;
use crate::audit::event::Micros;
use crate::config::Config;
use crate::detect::policy::Policy;
use crate::ingest::files::{self, Input};
use crate::pipeline::stats::{Malformed, Stats};
use crate::pipeline::{Batch, Pipeline, TimeRange};
use crate::query::reporter::Reporter;
use crate::query::views::{Coverage, Filter, Problem, ProblemKind, Report, War, WarFilter};
use crate::util::clock;
use crate::util::{duration, time_input};

/// Minimum input size for which a progress bar is shown.
const PROGRESS_FROM_BYTES: u64 = 64 << 20;
/// Default maximum number of workers. Only one worker at a time ingests what the others have read and decoded;
/// ingestion is a quarter of the work. More than eight workers would wait, and hold decoded events in memory.
const WORKERS_MAX: NonZeroUsize = NonZeroUsize::new(8).expect("eight is not zero");

/// Runs `editwar analyze`.
///
/// # Errors
/// Invalid arguments, or no readable input.
pub(super) fn run(args: &AnalyzeArgs) -> Result<Outcome> {
    if args.explain_input {
        return explain_input::run(&args.inputs, &args.log);
    }
    let (paths, object) = split(&args.inputs, args.object.as_deref());
    let (kind, name) = object.as_deref().map(kind_and_name).transpose()?.unzip();
    let conditions = &args.conditions;
    if kind.is_some() && conditions.kind.is_some() {
        bail!("--kind and KIND/NAME exclude each other");
    }
    let config = args.log.config.load()?;
    let (pipeline, problems) = read(&paths, &args.log, &config, config.policy())?;
    let classes = config.classes();
    let filter = Filter {
        namespace: args.namespace.clone(),
        kind: kind.or_else(|| conditions.kind.clone()),
        name,
        actor: conditions.actor.clone(),
        all: conditions.all,
        war: WarFilter {
            class: conditions.class,
            state: conditions.state,
            confidence: conditions.confidence,
            cause: conditions.cause,
            since: None,
        },
        limit: conditions.top.map(NonZeroUsize::get),
        ..Filter::default()
    };
    let contexts = config.contexts();
    let mut report = Reporter::new(&pipeline, &classes).with_contexts(&contexts).report(&filter);
    report.coverage.problems.extend(problems);
    let printed = Printed {
        who: &output::WhoCommand::default(),
        format: args.log.output,
        now: report.coverage.last.filter(|_| !args.log.utc),
        sort: conditions.sort,
    };
    print(&mut report, &printed)?;
    repeat_problems(&report.coverage, args.log.output, args.log.quiet);
    // The process is about to exit: freeing a million objects one by one would take longer than that.
    std::mem::forget(pipeline);
    Ok(Outcome::of_search(&report.coverage, report.wars.iter().any(|war| war.is_loud())))
}

/// How a report is printed.
pub(super) struct Printed<'a> {
    /// How to query for details.
    pub who: &'a output::WhoCommand,
    /// The format.
    pub format: Format,
    /// The time to which tables show times relative. Without one, they are shown in UTC.
    pub now: Option<Micros>,
    /// The order of the wars.
    pub sort: SortKey,
}

/// Sorts and prints a report, with the commands that show whether its wars are over.
///
/// # Errors
/// Errors of standard output.
pub(super) fn print(report: &mut Report, printed: &Printed<'_>) -> Result<()> {
    if printed.sort != SortKey::Urgency {
        sort(&mut report.wars, printed.sort);
    }
    output::set_checks(&mut report.wars, printed.who, &report.coverage);
    let mut stdout = anstream::stdout().lock();
    match printed.format {
        Format::Json => write!(stdout, "{}", output::json(report)?)?,
        Format::Yaml => write!(stdout, "{}", output::yaml(report)?)?,
        Format::Jsonl => write!(stdout, "{}", output::json_lines(&report.wars)?)?,
        Format::Csv => write!(stdout, "{}", output::csv_wars(&report.wars)?)?,
        Format::Name => report.wars.iter().try_for_each(|war| writeln!(stdout, "{}", war.object.arguments()))?,
        Format::Markdown => write!(stdout, "{}", markdown::report(report))?,
        Format::Table | Format::Wide => {
            let style = output::Style::of_stdout(printed.format == Format::Wide).relative_to(printed.now);
            write!(stdout, "{}", output::report(report, printed.who, style))?;
        }
    }
    stdout.flush()?;
    // Rows have no place for this.
    if matches!(printed.format, Format::Jsonl | Format::Csv | Format::Name) {
        if report.matched.other_wars > 0 {
            let others = report.matched.other_wars;
            anstream::eprintln!("editwar: no edit war with these properties; {others} with others");
        }
        if report.omitted > 0 {
            anstream::eprintln!("editwar: {} more objects are not listed", report.omitted);
        }
    }
    Ok(())
}

fn sort(wars: &mut [War], key: SortKey) {
    match key {
        SortKey::Urgency => {}
        SortKey::Since => wars.sort_by_key(|war| Reverse(war.since)),
        SortKey::Last => wars.sort_by_key(|war| Reverse(war.until)),
        SortKey::Retakes => wars.sort_by_key(|war| Reverse(war.retakes)),
        SortKey::Object => wars.sort_by(|a, b| a.object.cmp(&b.object)),
    }
}

/// Reads logs into a new pipeline. Also returns the problems with input that could not be read.
///
/// # Errors
/// Nothing could be read.
pub(super) fn read(
    paths: &[PathBuf],
    args: &LogArgs,
    config: &Config,
    policy: Policy,
) -> Result<(Pipeline, Vec<Problem>)> {
    let (mut pipelines, problems) = read_into(paths, args, config, vec![policy])?;
    Ok((pipelines.remove(0), problems))
}

/// Reads logs into several new pipelines at once, one for each policy.
///
/// # Errors
/// Nothing could be read.
pub(super) fn read_into(
    paths: &[PathBuf],
    args: &LogArgs,
    config: &Config,
    policies: Vec<Policy>,
) -> Result<(Vec<Pipeline>, Vec<Problem>)> {
    let inputs = files::inputs(paths)?;
    if inputs.is_empty() {
        bail!("no input: give a file, a directory or - for standard input");
    }
    let range = range(args, &inputs, config.bounds().tolerance.ahead)?;
    let new = |policy| Pipeline::new(policy, config.bounds()).recorded().within(range);
    let pipelines: Vec<Pipeline> = policies.into_iter().map(new).collect();
    let progress = Progress::begin(files::total_bytes(&inputs), args.quiet);
    let read = progress.read.clone();
    let names: Vec<String> = inputs.iter().map(Input::name).collect();
    let batches = pipelines.iter().map(|p| p.batch("", "")).collect();
    let mut consumer = LogConsumer { batches, names: &names, progress, problems: Vec::new() };
    let cores = std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(WORKERS_MAX));
    files::read(&inputs, args.workers.unwrap_or(cores), &read, &mut consumer);
    consumer.progress.bar.finish_and_clear();
    let mut problems = std::mem::take(&mut consumer.problems);
    drop(consumer);
    pipelines.iter().for_each(|pipeline| drop(pipeline.end()));
    let stats = pipelines[0].stats();
    if stats.counters.events == 0 {
        problems.extend(skipped(&stats));
        print_problems(&problems, args.quiet);
        let why = if stats.malformed.contains_key("legacy_format") {
            "the log has the `legacy` format, which does not name objects: run kube-apiserver with --audit-log-format=json"
        } else {
            "no audit events in the input: expected the JSON audit log of kube-apiserver, or an export of a cloud or a log \
             shipper (docs/sources); `editwar analyze --explain-input FILE` shows what was recognized"
        };
        bail!(why);
    }
    problems.extend(skipped(&stats));
    Ok((pipelines, problems))
}

/// Splits `KIND/NAME`.
///
/// # Errors
/// The argument does not have this form.
pub(super) fn kind_and_name(typed: &str) -> Result<(String, String)> {
    match typed.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((kind.to_owned(), name.to_owned()))
        }
        _ => bail!("expected KIND/NAME, such as deployment/web, got \"{typed}\""),
    }
}

/// Separates the paths from the optional `KIND/NAME`, which is the argument that is not a file.
fn split(inputs: &[PathBuf], object: Option<&str>) -> (Vec<PathBuf>, Option<String>) {
    let mut object = object.map(str::to_owned);
    let mut paths = Vec::new();
    for path in inputs {
        let text = path.to_string_lossy();
        let is_object = object.is_none()
            && !path.exists()
            && path.parent().is_none_or(|directory| !directory.exists())
            && kind_and_name(&text).is_ok();
        if is_object { object = Some(text.into_owned()) } else { paths.push(path.clone()) }
    }
    (paths, object)
}

/// Returns the time range to analyze. Durations count back from the end of the newest file. A file that ends in the
/// future is only considered if all do, since the clock that wrote it is wrong.
fn range(args: &LogArgs, inputs: &[Input], clock_skew: Micros) -> Result<TimeRange> {
    let now = clock::now();
    let end = || -> Micros {
        let ends = || inputs.iter().filter_map(|input| files::end_time(input, clock_skew));
        let believed = ends().filter(|end| *end <= now.saturating_add(clock_skew)).max();
        believed.or_else(|| ends().max()).unwrap_or(i64::MAX)
    };
    let time = |text: &String| -> Result<Micros> {
        if let Some(at) = time_input::parse(text) {
            return Ok(at);
        }
        let back = duration::parse(text).map(duration::micros).with_context(|| {
            format!("expected a time such as 2026-02-11T10:00:00Z, a date (in UTC) or a duration such as 1h30m, got \"{text}\"")
        })?;
        match end() {
            i64::MAX => {
                bail!(
                    "`{text}` is relative to the end of the log, which is not known for standard input: give a time instead"
                )
            }
            end => Ok(end.saturating_sub(back)),
        }
    };
    Ok(TimeRange {
        since: args.since.as_ref().map(time).transpose()?.unwrap_or(i64::MIN),
        until: args.until.as_ref().map(time).transpose()?.unwrap_or(i64::MAX),
    })
}

/// Returns the problem of skipped input: the reasons, and where each occurred first.
fn skipped(stats: &Stats) -> Option<Problem> {
    if stats.malformed.is_empty() {
        return None;
    }
    let skipped: u64 = stats.malformed.values().map(|malformed| malformed.count).sum();
    let reasons: Vec<String> = stats
        .malformed
        .iter()
        .map(|(reason, Malformed { count, source, position, keys })| {
            let keys = if keys.is_empty() { String::new() } else { format!(", with the keys {keys}") };
            format!("{count} {reason} (first: {source}:{position}{keys})")
        })
        .collect();
    let all = stats.counters.events + skipped;
    let message = format!("{skipped} of {all} events cannot be read: {}", reasons.join(", "));
    // If most of the input cannot be read, "no war" would say nothing about it.
    let is_most = skipped > stats.counters.events;
    let kind = if is_most { ProblemKind::IncompleteInput } else { ProblemKind::SkippedEvents };
    Some(Problem { kind, message })
}

/// Prints the problems of an answer to stderr too if a program reads stdout.
pub(super) fn repeat_problems(coverage: &Coverage, format: Format, is_quiet: bool) {
    if !format.is_table() && format != Format::Markdown {
        print_problems(&coverage.problems, is_quiet);
    }
}

/// Prints problems, for commands without any other answer.
pub(super) fn print_problems(problems: &[Problem], is_quiet: bool) {
    for problem in problems.iter().filter(|_| !is_quiet) {
        anstream::eprintln!("editwar: {}", output::clean(&problem.message));
    }
}

struct LogConsumer<'p> {
    batches: Vec<Batch<'p>>,
    names: &'p [String],
    progress: Progress,
    problems: Vec<Problem>,
}

impl files::Consumer for LogConsumer<'_> {
    fn ingest(&mut self, input: usize, chunk: &DecodedChunk<'_>, before: u64) {
        // There is one batch, or several in a simulation.
        for batch in &mut self.batches {
            batch.set_source(&self.names[input]);
            batch.ingest(chunk, before);
        }
        self.progress.bar.set_position(self.progress.read.load(Ordering::Relaxed));
    }

    fn broken(&mut self, error: files::Error) {
        let message = format!("{error}; only the data before it was read");
        self.problems.push(Problem { kind: ProblemKind::IncompleteInput, message });
    }
}

struct Progress {
    bar: ProgressBar,
    read: Arc<AtomicU64>,
}

impl Progress {
    fn begin(total: u64, is_quiet: bool) -> Progress {
        let is_shown = !is_quiet && total >= PROGRESS_FROM_BYTES && std::io::stderr().is_terminal();
        let bar = if is_shown { ProgressBar::new(total) } else { ProgressBar::hidden() };
        let style = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
        if is_shown {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Progress { bar, read: Arc::default() }
    }
}
