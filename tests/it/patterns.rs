//! Random scenarios from seeds: mechanisms in clusters that are wars or not, each with the truth about what happens in
//! it.
//!
//! The truth is derived from what the actors want, according to the definitions in `docs/`, not from the engine's
//! results.

mod actors;
mod check;
mod exchange;
mod kinds;
mod paths;
mod peace;
mod rng;
mod scenario;
mod simulator;
mod war;
mod webhooks;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::check::{Failure, check};
use self::scenario::Pattern;
use crate::cluster::{LEVELS, Level};

/// Number of seeds in every test run.
const SEEDS: u64 = 3;

fn patterns() -> Vec<&'static Pattern> {
    peace::PATTERNS.iter().chain(war::PATTERNS).copied().flatten().collect()
}

/// Checks all patterns with these seeds, or only those whose name contains `EDITWAR_PATTERN`.
fn failures(seeds: std::ops::Range<u64>) -> Vec<Failure> {
    let only = std::env::var("EDITWAR_PATTERN").unwrap_or_default();
    let patterns: Vec<_> = patterns().into_iter().filter(|pattern| pattern.name.contains(&only)).collect();
    let work: Vec<(&Pattern, u64)> =
        patterns.iter().flat_map(|pattern| seeds.clone().map(|seed| (*pattern, seed))).collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let worker = || {
        while let Some((pattern, seed)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            let failures = std::panic::catch_unwind(|| check(pattern, *seed)).unwrap_or_else(|panic| {
                let message = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".into());
                let what = format!("panic at some level: {}", message.replace('\n', " "));
                vec![Failure { pattern: pattern.name, level: Level::Metadata, variant: "any", seed: *seed, what }]
            });
            found.lock().unwrap().extend(failures);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(worker);
        scope.spawn(worker);
    });
    let mut found = found.into_inner().unwrap();
    let place = |failure: &Failure| patterns.iter().position(|pattern| pattern.name == failure.pattern);
    found.sort_by_key(|failure| (place(failure), failure.seed));
    found
}

/// Formats all failures as a table.
fn table(failures: &[Failure]) -> String {
    let mut text = String::from("| pattern | level | arrival | seed | what is wrong |\n|---|---|---|---|---|\n");
    for failure in failures {
        let Failure { pattern, level, variant, seed, what } = failure;
        writeln!(text, "| {pattern} | {level:?} | {variant} | {seed} | {what} |").unwrap();
    }
    text
}

fn assert_none(failures: &[Failure]) {
    let patterns: std::collections::BTreeSet<&str> = failures.iter().map(|failure| failure.pattern).collect();
    assert!(failures.is_empty(), "{} failures of {} patterns\n{}", failures.len(), patterns.len(), table(failures));
}

#[test]
fn every_pattern_is_judged_correctly() {
    assert_none(&failures(0..SEEDS));
}

/// Tests `EDITWAR_SEEDS` seeds of every pattern. `EDITWAR_PATTERN` selects patterns by a part of their name.
#[test]
#[ignore = "takes minutes; EDITWAR_SEEDS says how many seeds"]
fn every_pattern_is_judged_correctly_with_many_seeds() {
    let seeds = std::env::var("EDITWAR_SEEDS").map_or(1_000, |text| text.parse().unwrap());
    assert_none(&failures(0..seeds));
}

#[test]
fn patterns_have_unique_names_and_reasons() {
    let all = patterns();
    let names: std::collections::BTreeSet<&str> = all.iter().map(|pattern| pattern.name).collect();
    assert_eq!(names.len(), all.len(), "two patterns share a name");
    assert!(all.iter().all(|pattern| pattern.why.len() > 20), "a pattern without a reason");
    for pattern in &all {
        assert!(pattern.play(1).server.exchanges.len() < 1_000, "{} is too long", pattern.name);
    }
}

#[test]
fn a_seed_always_gives_the_same_events() {
    for pattern in patterns() {
        let lines = |seed| {
            let exchanges = pattern.play(seed).server.exchanges;
            exchanges.iter().map(|exchange| exchange.line(Level::RequestResponse, 0)).collect::<Vec<_>>()
        };
        assert_eq!(lines(5), lines(5), "{}", pattern.name);
    }
}

/// Prints the log of the pattern `EDITWAR_PATTERN` with the seed `EDITWAR_SEED` at the level `EDITWAR_LEVEL`, for
/// `editwar analyze`.
#[test]
#[ignore = "prints a log; EDITWAR_PATTERN says which"]
fn log_of_a_pattern() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let level = LEVELS.into_iter().find(|level| format!("{level:?}") == variable("EDITWAR_LEVEL"));
    let pattern = patterns().into_iter().find(|pattern| pattern.name == variable("EDITWAR_PATTERN"));
    let scenario = pattern.expect("a pattern of that name").play(variable("EDITWAR_SEED").parse().unwrap_or(0));
    let mut log = vec![b'\n'];
    for exchange in &scenario.server.exchanges {
        log.extend(exchange.line(level.unwrap_or(Level::RequestResponse), 0));
        log.push(b'\n');
    }
    std::io::Write::write_all(&mut std::io::stdout(), &log).unwrap();
}

/// Prints the table in `docs/accuracy.md`.
#[test]
#[ignore = "prints a table; EDITWAR_SEEDS says how many seeds"]
fn accuracy() {
    let seeds = std::env::var("EDITWAR_SEEDS").map_or(20, |text| text.parse().unwrap());
    std::io::Write::write_all(&mut std::io::stdout(), format!("\n{}", accuracy_table(seeds)).as_bytes()).unwrap();
}

/// Formats precision and recall by level, followed by the number of completely correct seeds per pattern.
fn accuracy_table(seeds: u64) -> String {
    let mut totals: BTreeMap<usize, check::Score> = BTreeMap::new();
    let mut rows = String::new();
    for pattern in patterns() {
        let mut cells = Vec::new();
        for (nth, level) in LEVELS.into_iter().enumerate() {
            let mut score = check::Score::default();
            (0..seeds).for_each(|seed| score.add(check::score(pattern, seed, level)));
            totals.entry(nth).or_default().add(score);
            cells.push(if score.is_decidable { format!("{}/{seeds}", score.right) } else { "–".into() });
        }
        let kind = if pattern.play(0).expect.is_empty() { "peace" } else { "war" };
        writeln!(rows, "| {} | {kind} | {} | {} |", pattern.name, cells.join(" | "), pattern.why).unwrap();
    }
    let mut text = String::from("| level | wars | found | false | precision | recall | right in every respect |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    for (nth, level) in LEVELS.into_iter().enumerate() {
        let score = totals[&nth];
        let percent = |part: u64, of: u64| match of {
            0 => "–".to_owned(),
            _ => format!("{:.1} %", 100.0 * part as f64 / of as f64),
        };
        let check::Score { expected, found, wrong, right, runs, .. } = score;
        let (precision, recall) = (percent(found, found + wrong), percent(found, expected));
        writeln!(
            text,
            "| {level:?} | {expected} | {found} | {wrong} | {precision} | {recall} | {} |",
            percent(right, runs)
        )
        .unwrap();
    }
    let head = LEVELS.map(|level| format!("{level:?}")).join(" | ");
    format!("{text}\n| pattern | | {head} | why |\n|---|---|---|---|---|---|\n{rows}")
}
