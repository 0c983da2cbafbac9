//! `editwar simulate`: evaluates a log with other limits, and shows what would have been paused, when, and with what
//! effect.

use std::fmt::Write as _;
use std::io::Write;
use std::num::NonZeroU32;

use anyhow::{Context, Result, bail};
use comfy_table::Cell;
use serde::Serialize;

use super::args::{Format, SimulateArgs};
use super::junit::xml;
use super::{Outcome, analyze, output, style};
use crate::audit::event::Micros;
use crate::config::Duration;
use crate::detect::assessment::{Assessment, WarAssessment};
use crate::detect::bucket::Limit;
use crate::detect::object::ObjectState;
use crate::detect::policy::{Limits, Policy};
use crate::detect::verdict::{Confidence, State};
use crate::pipeline::key::ObjectKey;
use crate::query::reporter::Reporter;
use crate::query::views::{Coverage, Object, StatsView, time, time_option};
use crate::util::duration;

/// The result of a simulation.
#[derive(Debug, Serialize)]
struct Simulation {
    scenarios: Vec<Scenario>,
    coverage: Coverage,
    stats: StatsView,
}

/// One set of limits, and its effect.
#[derive(Debug, Serialize)]
struct Scenario {
    buckets: Vec<String>,
    pause_after: u32,
    quiet_period: String,
    /// Number of wars with a thrashing event.
    thrashing: u32,
    /// Number of retakes while the war was sustained. A reconciler that honours pauses would not have made its share of
    /// them.
    spared: u32,
    /// Number of wars that were over when they became sustained: no retake followed.
    needless: u32,
    wars: Vec<Hit>,
}

/// A war with a thrashing event.
#[derive(Debug, Serialize)]
struct Hit {
    object: Object,
    state: State,
    confidence: Confidence,
    retakes: u32,
    thrashing_events: u32,
    #[serde(with = "time_option")]
    first_retake: Option<Micros>,
    #[serde(with = "time_option")]
    thrashing_at: Option<Micros>,
    #[serde(with = "time_option")]
    sustained_at: Option<Micros>,
    /// Start of `state`.
    #[serde(with = "time")]
    since: Micros,
    /// How many times its war became sustained.
    sustained_count: u32,
    spared: u32,
    needless: bool,
    /// The parties of the war.
    parties: Vec<String>,
}

/// Runs `editwar simulate`.
///
/// # Errors
/// Invalid arguments, or no readable input.
pub(super) fn run(args: &SimulateArgs) -> Result<Outcome> {
    if !args.log.output.is_table() && !matches!(args.log.output, Format::Json | Format::Yaml) {
        return Err(args.log.output.refused("table, wide, json or yaml"));
    }
    let config = args.log.config.load()?;
    let policies = policies(args, &config.policy())?;
    let limits: Vec<Limits> = policies.iter().map(|p| p.limits.clone()).collect();
    let (pipelines, problems) = analyze::read_into(&args.inputs, &args.log, &config, policies)?;
    let classes = config.classes();
    let scenarios = pipelines
        .iter()
        .zip(&limits)
        .map(|(pipeline, limits)| scenario(&Reporter::new(pipeline, &classes), limits, args.min_confidence));
    let stats = pipelines[0].stats();
    let mut coverage = Coverage::from(&stats).within(pipelines[0].range());
    coverage.problems.extend(problems);
    let simulation = Simulation { scenarios: scenarios.collect(), coverage, stats: StatsView::from(&stats) };
    let mut stdout = anstream::stdout().lock();
    match args.log.output {
        Format::Json => write!(stdout, "{}", output::json(&simulation)?)?,
        Format::Yaml => write!(stdout, "{}", output::yaml(&simulation)?)?,
        Format::Table | Format::Wide => {
            let style = output::Style::of_stdout(args.log.output == Format::Wide);
            write!(stdout, "{}", table(&simulation, style))?;
        }
        _ => unreachable!("refused above"),
    }
    stdout.flush()?;
    analyze::repeat_problems(&simulation.coverage, args.log.output, args.log.quiet);
    let hits = &simulation.scenarios[0].wars;
    if let Some(path) = &args.junit {
        std::fs::write(path, junit(hits, &simulation.coverage)).with_context(|| path.display().to_string())?;
    }
    Ok(Outcome::of_search(&simulation.coverage, !hits.is_empty()))
}

/// Returns all combinations of the given limits.
fn policies(args: &SimulateArgs, live: &Policy) -> Result<Vec<Policy>> {
    let or_live = |given: Vec<Limits>| if given.is_empty() { vec![live.limits.clone()] } else { given };
    let buckets = args
        .limit
        .iter()
        .map(|text| Ok(Limits { buckets: buckets(text)?.into_iter().collect(), ..live.limits.clone() }));
    let mut all = or_live(buckets.collect::<Result<_>>()?);
    if !args.pause_after.is_empty() {
        let each =
            |l: &Limits| args.pause_after.iter().map(|n| Limits { pause_after: *n, ..l.clone() }).collect::<Vec<_>>();
        all = all.iter().flat_map(each).collect();
    }
    if !args.quiet_period.is_empty() {
        let periods = args.quiet_period.iter().map(|period| period.micros());
        let each =
            |l: &Limits| periods.clone().map(|quiet_period| Limits { quiet_period, ..l.clone() }).collect::<Vec<_>>();
        all = all.iter().flat_map(each).collect();
    }
    if all.len() > 64 {
        bail!("{} combinations of limits exceed the maximum of 64: give fewer values", all.len());
    }
    // The configured overrides apply to every scenario.
    Ok(all.into_iter().map(|limits| Policy { limits, ..live.clone() }).collect())
}

/// Parses token buckets like `5/10m,12/6h`.
fn buckets(text: &str) -> Result<Vec<Limit>> {
    let one = |bucket: &str| {
        let (burst, window) = bucket.split_once('/')?;
        let window = duration::parse(window)?.as_secs();
        Some(Limit { burst: burst.parse().ok()?, window_s: NonZeroU32::new(u32::try_from(window).ok()?)? })
    };
    let mut found: Vec<Limit> = text
        .split(',')
        .map(|bucket| one(bucket).with_context(|| format!("expected a limit such as 5/10m, got \"{bucket}\"")))
        .collect::<Result<_>>()?;
    found.sort_by_key(|limit| limit.window_s);
    Ok(found)
}

fn scenario(reporter: &Reporter<'_>, limits: &Limits, confidence: Confidence) -> Scenario {
    let mut wars: Vec<Hit> = hits(reporter, confidence);
    wars.sort_by(|a, b| order(a).cmp(&order(b)));
    let window = |l: &Limit| Duration(std::time::Duration::from_secs(u64::from(l.window_s.get())));
    Scenario {
        buckets: limits.buckets.iter().map(|l| format!("{}/{}", l.burst, window(l))).collect(),
        pause_after: limits.pause_after.get(),
        quiet_period: Duration(std::time::Duration::from_micros(limits.quiet_period.unsigned_abs())).to_string(),
        thrashing: wars.len() as u32,
        spared: wars.iter().map(|hit| hit.spared).sum(),
        needless: wars.iter().map(|hit| u32::from(hit.needless)).sum(),
        wars,
    }
}

/// Sorts sustained wars first, in the order in which they became so.
fn order(hit: &Hit) -> (bool, Option<Micros>, &Object) {
    (hit.sustained_at.is_none(), hit.sustained_at, &hit.object)
}

fn hits(reporter: &Reporter<'_>, confidence: Confidence) -> Vec<Hit> {
    let pipeline = reporter.pipeline;
    let of = |key: ObjectKey| {
        let look = |state: &ObjectState| {
            let assessment = Assessment::of(state);
            let hits = assessment.wars().filter(|war| war.is_thrashing() && war.confidence >= confidence);
            hits.map(|war| hit(&key, state, war)).collect::<Vec<_>>()
        };
        pipeline.table().with(&key, look)
    };
    pipeline.table().notable().into_iter().filter_map(of).flatten().collect()
}

fn hit(key: &ObjectKey, state: &ObjectState, war: &WarAssessment<'_>) -> Hit {
    let machine = &war.tally.machine;
    let first = machine.milestones();
    let sustained_count = machine.sustained_count();
    let is_over = machine.last_sustained().is_some_and(|at| machine.last_retake() <= at);
    Hit {
        object: Object::of(key, state),
        state: war.state,
        confidence: war.confidence,
        retakes: war.tally.retakes,
        thrashing_events: war.tally.thrashing_events,
        first_retake: first.retake,
        thrashing_at: first.thrashing,
        sustained_at: first.sustained,
        since: war.state_since,
        sustained_count,
        spared: machine.spared(),
        needless: sustained_count > 0 && is_over,
        parties: war.parties.iter().map(|party| party.to_string()).collect(),
    }
}

fn table(simulation: &Simulation, style: output::Style) -> String {
    let mut out = output::problems(&simulation.coverage, style);
    if !out.is_empty() {
        out.push('\n');
    }
    let mut table = style.table();
    table.set_header([
        "LIMITS",
        "PAUSE AFTER",
        "QUIET PERIOD",
        "THRASHING",
        "SUSTAINED",
        "RETAKES SPARED",
        "NEEDLESS PAUSES",
    ]);
    for scenario in &simulation.scenarios {
        let sustained = scenario.wars.iter().filter(|hit| hit.sustained_count > 0).count();
        table.add_row([
            Cell::new(scenario.buckets.join(", ")),
            Cell::new(scenario.pause_after),
            Cell::new(&scenario.quiet_period),
            Cell::new(scenario.thrashing),
            Cell::new(sustained),
            Cell::new(scenario.spared),
            Cell::new(scenario.needless),
        ]);
    }
    let _ = writeln!(out, "{table}");
    for scenario in &simulation.scenarios {
        if scenario.wars.is_empty() {
            continue;
        }
        let _ = writeln!(
            out,
            "\n{}, pause after {}, quiet period {}",
            scenario.buckets.join(", "),
            scenario.pause_after,
            scenario.quiet_period
        );
        let mut table = style.table();
        table.set_header(["OBJECT", "CONFIDENCE", "THRASHING AT", "SUSTAINED AT", "RETAKES", "SPARED", ""]);
        for hit in &scenario.wars {
            let at = |at: Option<Micros>| at.map_or_else(|| "never".to_owned(), style::clock);
            table.add_row([
                output::name(&hit.object),
                hit.confidence.as_str().to_owned(),
                at(hit.thrashing_at),
                at(hit.sustained_at),
                hit.retakes.to_string(),
                hit.spared.to_string(),
                if hit.needless { "needless: the war was over".to_owned() } else { String::new() },
            ]);
        }
        let _ = writeln!(out, "{table}");
    }
    let _ = write!(out, "\n{}", output::coverage(&simulation.coverage));
    out
}

/// Formats a JUnit report: a failed test for each object, or a single passing test; and an error for each reason why wars
/// may be missing.
fn junit(hits: &[Hit], coverage: &Coverage) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let (failures, errors) = (hits.len(), coverage.problems.len());
    let tests = (failures + errors).max(1);
    let _ = writeln!(out, "<testsuite name=\"editwar\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">");
    for problem in &coverage.problems {
        let (title, message) = (xml(problem.kind.title()), xml(&problem.message));
        let _ = writeln!(
            out,
            "  <testcase classname=\"editwar\" name=\"the log is complete\">\n    <error message=\"{title}: {message}\"/>\n  </testcase>"
        );
    }
    for hit in hits {
        let name = xml(&output::name(&hit.object));
        let message = format!(
            "{}, {} retakes since {}, by {}",
            hit.confidence.as_str(),
            hit.retakes,
            hit.first_retake.map(time::text).unwrap_or_default(),
            hit.parties.join(" and ")
        );
        let _ = writeln!(
            out,
            "  <testcase classname=\"editwar\" name=\"no war over {name}\">\n    <failure message=\"{}\"/>\n  </testcase>",
            xml(&message)
        );
    }
    if tests == 1 && failures + errors == 0 {
        let _ = writeln!(out, "  <testcase classname=\"editwar\" name=\"no war over any object\"/>");
    }
    out.push_str("</testsuite>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed_and_sorted_by_window() {
        let read = |text: &str| {
            buckets(text).map(|found| found.iter().map(|l| (l.burst.get(), l.window_s.get())).collect::<Vec<_>>())
        };
        assert_eq!(read("12/6h,5/10m").unwrap(), [(5, 600), (12, 21_600)]);
        for wrong in ["", "5", "0/10m", "5/0s", "5/soon", "-1/10m"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
