//! Results of attacks: what was checked, what was measured, and the table of all results.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::require;

/// One attack on one promise.
pub(crate) struct Attack {
    /// `area/name`, as on the command line.
    pub(crate) name: &'static str,
    /// What must hold.
    pub(crate) promise: &'static str,
    /// When it runs, and together with what.
    pub(crate) kind: Kind,
    /// Runs the attack.
    pub(crate) run: fn(&Context, &mut Report) -> Outcome,
}

/// When an attack runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Mostly waits: runs concurrently with others.
    Beside,
    /// Loads the machine but measures no times: runs alongside those that wait.
    Heavy,
    /// Measures times or memory under load: runs alone.
    Alone,
    /// Takes long and loads the machine: runs alone, and only with `--full`.
    Long,
}

/// The environment of the attacks.
pub(crate) struct Context {
    /// The program under attack.
    pub(crate) binary: PathBuf,
    /// Whether to run the full version instead of the short one.
    pub(crate) is_full: bool,
    /// A directory for files.
    pub(crate) scratch: PathBuf,
}

/// The reason why an attack ended early.
pub(crate) enum Failure {
    /// A precondition of the attack does not hold, so that the promise cannot be verified. Counts as broken.
    Control(String),
    /// This machine cannot run the attack.
    Skipped(String),
}

/// How an attack ended. Its findings are in the report.
pub(crate) type Outcome = Result<(), Failure>;

/// The findings of an attack.
#[derive(Default)]
pub(crate) struct Report {
    checks: usize,
    violations: Vec<String>,
    numbers: Vec<String>,
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) promise: &'static str,
    pub(crate) result: Verdict,
    pub(crate) numbers: String,
    pub(crate) took: Duration,
}

/// The result in a row.
pub(crate) enum Verdict {
    Held,
    Broken(Vec<String>),
    Skipped(String),
}

// === impl Context ===

impl Context {
    /// Returns the count for the full or the short version.
    pub(crate) fn count<T>(&self, full: T, short: T) -> T {
        if self.is_full { full } else { short }
    }

    /// Returns an empty directory of this name.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.scratch.join(name);
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}

// === impl Report ===

impl Report {
    /// Adds a measurement to the table.
    pub(crate) fn number(&mut self, what: &str, value: impl std::fmt::Display) {
        self.numbers.push(format!("{what} {value}"));
    }

    /// Checks a promise.
    pub(crate) fn promise(&mut self, is_so: bool, violation: impl Into<String>) {
        self.checks += 1;
        if !is_so {
            let violation = violation.into();
            // The same violation is only reported once.
            if !self.violations.contains(&violation) {
                self.violations.push(violation);
            }
        }
    }

    /// Returns the row of the table.
    pub(crate) fn row(mut self, attack: &Attack, outcome: Outcome, took: Duration) -> Row {
        let result = match outcome {
            Err(Failure::Skipped(why)) if self.violations.is_empty() => Verdict::Skipped(why),
            Err(Failure::Control(why)) => {
                self.violations.push(format!("control: {why}"));
                Verdict::Broken(self.violations)
            }
            _ if !self.violations.is_empty() => Verdict::Broken(self.violations),
            _ if self.checks == 0 => Verdict::Broken(vec!["control: nothing was observed".into()]),
            _ => Verdict::Held,
        };
        Row { name: attack.name, promise: attack.promise, result, numbers: self.numbers.join(", "), took }
    }
}

/// Checks a precondition of the attack.
pub(crate) fn control(is_so: bool, what: impl Into<String>) -> Outcome {
    if is_so { Ok(()) } else { Err(Failure::Control(what.into())) }
}

// === impl Failure ===

impl Failure {
    /// Returns the failure of an attack that needs what this machine does not have.
    pub(crate) fn missing(requirement: &str, why: &str) -> Failure {
        let why = format!("{requirement}: {why}");
        if require::is_required(requirement) { Failure::Control(why) } else { Failure::Skipped(why) }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Control(error.to_string())
    }
}

// === impl Verdict ===

impl Verdict {
    /// Returns the result as one word.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Verdict::Held => "held",
            Verdict::Broken(_) => "BROKEN",
            Verdict::Skipped(_) => "skipped",
        }
    }
}

// === impl Row ===

impl Row {
    /// Returns whether the promise is broken.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.result, Verdict::Broken(_))
    }
}

/// Formats a Markdown table, followed by the details of broken promises.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = String::from("| promise | attack | result | numbers |\n|---|---|---|---|\n");
    for row in rows {
        let result = row.result.word();
        let seconds = row.took.as_secs_f64();
        let comma = if row.numbers.is_empty() { "" } else { ", " };
        writeln!(out, "| {} | {} | {result} | {}{comma}{seconds:.1} s |", row.promise, row.name, row.numbers).unwrap();
    }
    for row in rows {
        match &row.result {
            Verdict::Held => {}
            Verdict::Broken(how) => how.iter().for_each(|how| writeln!(out, "\n{}: BROKEN: {how}", row.name).unwrap()),
            Verdict::Skipped(why) => writeln!(out, "\n{}: skipped: {why}", row.name).unwrap(),
        }
    }
    let count = |is: fn(&Row) -> bool| rows.iter().filter(|row| is(row)).count();
    let (broken, skipped) = (count(Row::is_broken), count(|row| matches!(row.result, Verdict::Skipped(_))));
    writeln!(out, "\n{} held, {broken} BROKEN, {skipped} skipped", rows.len() - broken - skipped).unwrap();
    out
}

/// Formats the median and the 99th percentile of these times.
pub(crate) fn quantiles(times: &mut [Duration]) -> String {
    if times.is_empty() {
        return "none".to_owned();
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms", at(0.5), at(0.99), at(1.0))
}
