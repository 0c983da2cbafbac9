//! Compares the findings for a scenario with the truth, at every level and in different orders of arrival.

use std::collections::{BTreeMap, BTreeSet};

use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::detect::policy::Policy;
use editwar::detect::verdict::Confidence;
use editwar::pipeline::{Bounds, Pipeline};
use serde_json::Value;

use super::exchange::Exchange;
use super::paths;
use super::rng::Rng;
use super::scenario::{ExpectedField, Pattern, Scenario, Shown};
use crate::cluster::{LEVELS, Level};
use crate::util;

/// A difference between findings and truth.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) pattern: &'static str,
    pub(crate) level: Level,
    pub(crate) variant: &'static str,
    pub(crate) seed: u64,
    pub(crate) what: String,
}

/// The part of a finding that is compared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) object: String,
    pub(crate) confidence: Confidence,
    cause: String,
    is_loud: bool,
    retakes: u32,
    thrashing_events: u32,
    parties: BTreeSet<String>,
    fields: BTreeMap<String, BTreeSet<(String, String)>>,
}

/// Maximum clock difference in the variant with two API servers, and the minimum gap between writes that it requires,
/// in seconds.
const SKEW: f64 = 0.5;
const GAP: f64 = 1.2;
/// Maximum delay of shuffled events, in microseconds.
const SHUFFLE: u64 = 60_000_000;

// === Ingestion ===

/// Returns the verdicts on these events. All accesses to reports are in this function, in case their names change.
pub(crate) fn verdicts<'a>(lines: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<Found> {
    let bounds = Bounds { objects_max: 1_000, body_bytes_max: 8 << 20, requests_max: 10_000, ..Bounds::default() };
    let pipeline = Pipeline::new(Policy::default(), bounds);
    let mut lines = lines.into_iter().peekable();
    while let Some((source, first)) = lines.next() {
        let mut batch = pipeline.batch("", source);
        let more = std::iter::from_fn(|| lines.next_if(|(next, _)| *next == source));
        for line in std::iter::once(first).chain(more.map(|(_, line)| line)) {
            batch.ingest(&DecodedChunk::of(line, false, Vec::new()), 0);
        }
    }
    let report = util::report(&pipeline);
    let shown = |value: &editwar::query::views::Value| {
        let text = if value.absent {
            "(absent)".to_owned()
        } else if value.redacted {
            "(hidden)".to_owned()
        } else {
            value.value.to_string()
        };
        (value.actor.clone(), text)
    };
    let found = |war: &editwar::query::views::War| Found {
        object: util::name(&war.object),
        confidence: war.confidence,
        cause: war.cause.as_str().to_owned(),
        is_loud: war.thrashing_events > 0 && war.confidence > Confidence::Possible,
        retakes: war.retakes,
        thrashing_events: war.thrashing_events,
        parties: war.parties.iter().map(|party| party.actor.clone()).collect(),
        fields: war.fields.iter().map(|f| (f.path.clone(), f.values.iter().map(shown).collect())).collect(),
    };
    report.wars.iter().map(found).collect()
}

fn loud(found: Vec<Found>) -> Vec<Found> {
    let mut loud: Vec<Found> = found.into_iter().filter(|war| war.is_loud).collect();
    loud.sort_by(|a, b| (&a.object, &a.parties).cmp(&(&b.object, &b.parties)));
    loud
}

fn lines(scenario: &Scenario, level: Level) -> Vec<Vec<u8>> {
    scenario.server.exchanges.iter().map(|exchange| exchange.line(level, 0)).collect()
}

fn one_source(lines: &[Vec<u8>]) -> impl Iterator<Item = (&str, &[u8])> {
    lines.iter().map(|line| ("one", line.as_slice()))
}

// === Comparison ===

/// Returns everything that is wrong with one seed of a pattern.
pub(crate) fn check(pattern: &Pattern, seed: u64) -> Vec<Failure> {
    let scenario = pattern.play(seed);
    let mut failures = Vec::new();
    let mut fail = |level, variant, what| {
        failures.push(Failure { pattern: pattern.name, level, variant, seed, what });
    };
    for problem in unsound(&scenario) {
        fail(Level::RequestResponse, "pattern", problem);
    }
    for level in LEVELS {
        let lines = lines(&scenario, level);
        let all = verdicts(one_source(&lines));
        for problem in problems(&scenario, level, &all) {
            fail(level, "as written", problem);
        }
        if level == Level::Metadata {
            continue;
        }
        let expected = loud(all);
        let mut compare = |variant, found: Vec<Found>, is_exact: bool| {
            if let Some(what) = difference(&expected, &loud(found), is_exact) {
                fail(level, variant, what);
            }
        };
        // One other order of arrival per seed, since each costs as much as all the rest.
        match seed % 3 {
            0 => compare("shuffled", verdicts(one_source(&shuffled(&scenario, &lines, seed))), true),
            1 => {
                let twice: Vec<Vec<u8>> = lines.iter().flat_map(|line| [line.clone(), line.clone()]).collect();
                compare("twice", verdicts(one_source(&twice)), true);
            }
            _ if is_slow(&scenario) => compare("two clocks", two_clocks(&scenario, level, seed), false),
            _ => {}
        }
    }
    failures
}

/// Returns what is wrong with the verdicts at one level.
pub(crate) fn problems(scenario: &Scenario, level: Level, all: &[Found]) -> Vec<String> {
    if level == Level::Metadata {
        let sure = all.iter().filter(|war| war.confidence > Confidence::Possible);
        return sure.map(|war| format!("{} is {:?} at Metadata", war.object, war.confidence)).collect();
    }
    if scenario.needs_values.is_some() && level == Level::Request {
        let sure = all.iter().filter(|war| war.is_loud && war.confidence == Confidence::Confirmed);
        return sure.map(|war| format!("{} is confirmed without values", war.object)).collect();
    }
    let loud: Vec<&Found> = all.iter().filter(|war| war.is_loud).collect();
    let mut problems = Vec::new();
    let expected: BTreeSet<String> = scenario.expect.iter().map(|field| field.target.text()).collect();
    for war in loud.iter().filter(|war| !expected.contains(&war.object)) {
        let fields: Vec<&String> = war.fields.keys().take(4).collect();
        problems.push(format!(
            "false war: {} {:?} {} retakes, {:?} over {fields:?}",
            war.object, war.confidence, war.retakes, war.parties
        ));
    }
    for object in &expected {
        let here: Vec<&&Found> = loud.iter().filter(|war| war.object == *object).collect();
        if here.is_empty() {
            let quiet = all.iter().find(|war| war.object == *object);
            let found =
                quiet.map_or("nothing".into(), |war| format!("{:?} with {} retakes", war.confidence, war.retakes));
            problems.push(format!("missed war: {object}; found {found}"));
            continue;
        }
        if let (Some(cause), Level::RequestResponse) = (scenario.cause, level)
            && let Some(war) = here.iter().find(|war| war.cause != cause)
        {
            problems.push(format!("the cause is {}, not {cause}", war.cause));
        }
        let fields: Vec<&ExpectedField> =
            scenario.expect.iter().filter(|field| field.target.text() == *object).collect();
        for path in here.iter().flat_map(|war| war.fields.keys()) {
            if !fields.iter().any(|field| field.path == *path) {
                problems.push(format!("not fought over: {path}"));
            }
        }
        for field in fields {
            let Some(war) = here.iter().find(|war| war.fields.contains_key(&field.path)) else {
                problems.push(format!("field not named: {}", field.path));
                continue;
            };
            problems.extend(wrong_field(field, war, level));
        }
    }
    problems
}

fn wrong_field(field: &ExpectedField, war: &Found, level: Level) -> Vec<String> {
    let mut problems = Vec::new();
    let parties: BTreeSet<String> = field.parties.iter().map(|party| party.name.clone()).collect();
    if war.parties != parties {
        problems.push(format!("{}: parties are {:?}, not {parties:?}", field.path, war.parties));
    }
    if field.is_override && war.confidence > Confidence::Probable {
        problems.push(format!("{}: an override is {:?}", field.path, war.confidence));
    }
    let shown = &war.fields[&field.path];
    for party in field.parties.iter().filter(|party| !party.values.is_empty()) {
        let found: BTreeSet<&str> =
            shown.iter().filter(|(actor, _)| *actor == party.name).map(|(_, value)| value.as_str()).collect();
        let text = |value: &Shown| match value {
            Shown::Is(value) => value.to_string(),
            Shown::Absent | Shown::Pruned => "(absent)".into(),
            Shown::Hidden => "(hidden)".into(),
        };
        for value in &party.values {
            // Values that an apply prunes are not in any request.
            let is_known = *value != Shown::Pruned || level == Level::RequestResponse;
            if is_known && !found.contains(text(value).as_str()) {
                problems.push(format!("{}: {} gave {}, shown are {found:?}", field.path, party.name, text(value)));
            }
        }
        let all: BTreeSet<String> = party.values.iter().map(text).collect();
        for value in found.iter().filter(|value| !all.contains(**value)) {
            problems.push(format!("{}: {} never gave {value}", field.path, party.name));
        }
    }
    problems
}

fn difference(expected: &[Found], found: &[Found], is_exact: bool) -> Option<String> {
    let names = |wars: &[Found]| wars.iter().map(|war| war.object.clone()).collect::<Vec<_>>();
    if names(expected) != names(found) {
        return Some(format!("{:?} instead of {:?}", names(found), names(expected)));
    }
    let counts = |war: &Found| (war.retakes, war.thrashing_events);
    expected.iter().zip(found).find_map(|(a, b)| {
        if (a.confidence, &a.parties, &a.fields) != (b.confidence, &b.parties, &b.fields) {
            return Some(format!("{}: other parties, fields, values or confidence", a.object));
        }
        // Clock differences affect events at the edge of a bucket's window.
        let is_close = a.retakes == b.retakes && a.thrashing_events.abs_diff(b.thrashing_events) <= 1;
        let is_same = if is_exact { counts(a) == counts(b) } else { is_close };
        (!is_same).then(|| format!("{}: counts {:?} instead of {:?}", a.object, counts(b), counts(a)))
    })
}

// === Orders of arrival ===

fn shuffled(scenario: &Scenario, lines: &[Vec<u8>], seed: u64) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(seed ^ 0x0005_0fff);
    let arrival = |exchange: &Exchange| exchange.at + (rng.next() % SHUFFLE) as i64;
    let mut keyed: Vec<(i64, &Vec<u8>)> = scenario.server.exchanges.iter().map(arrival).zip(lines).collect();
    keyed.sort_by_key(|(at, _)| *at);
    keyed.into_iter().map(|(_, line)| line.clone()).collect()
}

/// Returns whether two different clocks preserve the order of every object's writes.
fn is_slow(scenario: &Scenario) -> bool {
    let mut last = BTreeMap::new();
    scenario.server.exchanges.iter().all(|exchange| {
        let before = last.insert(exchange.target.text(), exchange.at);
        before.is_none_or(|before| exchange.at - before > (GAP * 1e6) as i64)
    })
}

fn two_clocks(scenario: &Scenario, level: Level, seed: u64) -> Vec<Found> {
    let mut rng = Rng::new(seed ^ 0xc10c);
    let skew = if rng.coin() { SKEW } else { -SKEW };
    let of = |exchange: &Exchange| {
        if rng.coin() {
            (exchange.at, "one", exchange.line(level, 0))
        } else {
            let shift = (skew * 1e6) as i64;
            (exchange.at + shift, "other", exchange.line(level, shift))
        }
    };
    let mut merged: Vec<(i64, &str, Vec<u8>)> = scenario.server.exchanges.iter().map(of).collect();
    merged.sort_by_key(|(at, _, _)| *at);
    verdicts(merged.iter().map(|(_, source, line)| (*source, line.as_slice())))
}

// === Validity of the patterns ===

/// Minimum number of retakes of stored values in an expected war.
const RETAKES_MIN: usize = 8;

/// Checks that expected wars change stored values often enough.
fn unsound(scenario: &Scenario) -> Vec<String> {
    let is_moving = |field: &&ExpectedField| {
        let has_webhook = field.parties.iter().any(|party| party.name.starts_with("webhook "));
        field.path != "(object)" && !has_webhook
    };
    let retakes = |field: &ExpectedField| {
        let (mut now, mut writers): (Option<&Value>, Vec<&str>) = (None, Vec::new());
        for exchange in
            scenario.server.exchanges.iter().filter(|e| e.target.text() == field.target.text() && e.code < 300)
        {
            let Some(body) = exchange.response.as_ref().filter(|_| !exchange.is_dry_run) else { continue };
            let value = match exchange.subresource {
                "scale" if field.path != field.target.kind.replicas_path => continue,
                "scale" => body.pointer("/spec/replicas"),
                _ => paths::get(body, &field.path),
            };
            if value != now {
                writers.push(&exchange.actor.party);
                now = value;
            }
        }
        let is_retake = |nth: &usize| {
            let before = &writers[..*nth];
            before.last() != Some(&writers[*nth]) && before.contains(&writers[*nth])
        };
        (0..writers.len()).filter(is_retake).count()
    };
    let fields = scenario.expect.iter().filter(is_moving).map(|field| (field, retakes(field)));
    fields
        .filter(|(_, retakes)| *retakes < RETAKES_MIN)
        .map(|(field, retakes)| format!("the pattern is too weak: {} has {retakes} retakes", field.path))
        .collect()
}

// === Accuracy ===

/// Accuracy over many runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Score {
    pub(crate) runs: u64,
    /// Number of contested objects; how many of them were found; and how many others were reported.
    pub(crate) expected: u64,
    pub(crate) found: u64,
    pub(crate) wrong: u64,
    /// Number of runs without any difference in objects, parties, fields and values.
    pub(crate) right: u64,
    /// Whether the level contains enough information at all.
    pub(crate) is_decidable: bool,
}

// === impl Score ===

impl Score {
    pub(crate) fn add(&mut self, other: Score) {
        self.runs += other.runs;
        self.expected += other.expected;
        self.found += other.found;
        self.wrong += other.wrong;
        self.right += other.right;
        self.is_decidable |= other.is_decidable;
    }
}

/// Scores one level on one seed of a pattern.
pub(crate) fn score(pattern: &Pattern, seed: u64, level: Level) -> Score {
    let scenario = pattern.play(seed);
    let all = verdicts(one_source(&lines(&scenario, level)));
    let right = u64::from(problems(&scenario, level, &all).is_empty());
    let is_decidable = level == Level::RequestResponse || (level == Level::Request && scenario.needs_values.is_none());
    let expected: BTreeSet<String> = scenario.expect.iter().map(|field| field.target.text()).collect();
    let found: BTreeSet<String> = loud(all).into_iter().map(|war| war.object).collect();
    let wrong = found.difference(&expected).count() as u64;
    let (expected, found) =
        if is_decidable { (expected.len() as u64, found.intersection(&expected).count() as u64) } else { (0, 0) };
    Score { runs: 1, expected, found, wrong, right, is_decidable }
}
