//! The order and repetition of events must not change any verdict: neither its parties, fields and values, nor its counts
//! and state, nor the transitions that led to it. If events arrive up to a minute late, a war may be noticed by as much
//! earlier or later; its end is at the same microsecond.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::detect::policy::Policy;
use editwar::detect::verdict::State;
use editwar::pipeline::key::ObjectKey;
use editwar::pipeline::{Batch, Bounds, Pipeline, Transition};
use editwar::query::views::Report;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;

use crate::cli::{fixture, run, scratch};
use crate::cluster::{Cluster, Level, OPERATOR};
use crate::util;

const MINUTE: i64 = 60 * 1_000_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// What must not change: object and fields, confidence, parties, and fields with their values.
type Essence = BTreeMap<String, (String, BTreeSet<String>, BTreeMap<String, BTreeSet<String>>)>;

/// Identifies a war by its object and fields, since an object may have several.
fn over(war: &editwar::query::views::War) -> String {
    let paths: Vec<&str> = war.fields.iter().map(|field| field.path.as_str()).collect();
    format!("{} {}", util::name(&war.object), paths.join(" "))
}

fn essence(report: &Report) -> Essence {
    let of_war = |war: &editwar::query::views::War| {
        let parties = war.parties.iter().map(|p| p.actor.clone()).collect();
        let values = |field: &editwar::query::views::Field| {
            field.values.iter().map(|v| format!("{} {} {} {}", v.value, v.absent, v.redacted, v.actor)).collect()
        };
        let fields = war.fields.iter().map(|f| (f.path.clone(), values(f))).collect();
        (over(war), (war.confidence.as_str().to_owned(), parties, fields))
    };
    report.wars.iter().map(of_war).collect()
}

/// Everything that was found in a log.
struct Verdicts {
    /// The report at the time of the latest event.
    report: Report,
    /// All transitions in the order in which they were found, including those that come without another event.
    transitions: Vec<Transition>,
}

// === impl Verdicts ===

impl Verdicts {
    /// Returns what was found in a pipeline. `transitions` are those of the batches.
    fn of(pipeline: &Pipeline, mut transitions: Vec<Transition>) -> Verdicts {
        let report = util::report(pipeline);
        transitions.extend(pipeline.pass_time("", pipeline.latest().unwrap() + 2 * DAY));
        Verdicts { report, transitions }
    }

    /// Ingests lines one by one. Time passes after every tenth, as after a batch.
    fn of_lines<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Verdicts {
        let pipeline = Pipeline::new(Policy::default(), Bounds::default());
        let mut batch = pipeline.batch("", "test");
        for (number, line) in lines.into_iter().enumerate() {
            batch.ingest(&DecodedChunk::of(line, false, Vec::new()), number as u64);
            if number % 10 == 9 {
                batch.pass_time();
            }
        }
        batch.pass_time();
        let transitions = std::mem::take(&mut batch.transitions);
        drop(batch);
        Verdicts::of(&pipeline, transitions)
    }

    /// Returns whether all objects go through the same states. Quiet periods end at the same time, and a war that is
    /// noticed changes its state within `late_max` of the same time. If a deletion may arrive before the writes that it
    /// follows, the war over that object may be over before all of its states are reached.
    fn has_course_of(&self, other: &Verdicts, late_max: i64) -> bool {
        let (courses, others) = (self.courses(), other.courses());
        let is_end = |step: &Transition| matches!(step.to, State::Subsiding | State::Calm);
        let is_same_step = |(a, b): (&&Transition, &&Transition)| {
            (a.from, a.to) == (b.from, b.to) && (a.at - b.at).abs() <= if is_end(a) { 0 } else { late_max }
        };
        courses.keys().chain(others.keys()).all(|object| {
            let of = |courses: &BTreeMap<_, Vec<_>>| courses.get(object).cloned().unwrap_or_default();
            let (course, other): (Vec<&Transition>, Vec<&Transition>) = (of(&courses), of(&others));
            let is_deleted = other.last().is_some_and(|step| step.to == State::Calm && step.from != State::Subsiding);
            if late_max > 0 && is_deleted {
                let is_known = |step: &&Transition| other.iter().any(|known| known.to == step.to);
                let end = course.last().or(other.last()).map(|step| (step.to, step.at));
                return course.iter().all(is_known) && end == other.last().map(|step| (step.to, step.at));
            }
            course.len() == other.len() && course.iter().zip(&other).all(is_same_step)
        })
    }

    /// Returns the transitions of each object, in the order in which they were found.
    fn courses(&self) -> BTreeMap<&ObjectKey, Vec<&Transition>> {
        let mut courses: BTreeMap<&ObjectKey, Vec<&Transition>> = BTreeMap::new();
        self.transitions.iter().for_each(|step| courses.entry(&step.object).or_default().push(step));
        courses
    }
}

fn stage_time(line: &[u8]) -> i64 {
    editwar::audit::times::of_event(line).expect("every event has its time")
}

/// Runs `check` on every recording with several seeds, some recordings at a time. `is_same` compares the result with that
/// of the log in its original order.
fn on_every_recording(
    cases: u32,
    check: impl Fn(&[&[u8]], u64) -> Verdicts + Sync,
    is_same: impl Fn(&str, &Verdicts, &Verdicts) -> bool + Sync,
) {
    let recordings = Mutex::new(util::smaller_recordings());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let Some(recording) = recordings.lock().unwrap().pop() else { return };
                    on_recording(&recording, cases, &check, &is_same);
                }
            });
        }
    });
}

fn on_recording(
    recording: &str,
    cases: u32,
    check: impl Fn(&[&[u8]], u64) -> Verdicts,
    is_same: impl Fn(&str, &Verdicts, &Verdicts) -> bool,
) {
    let log = util::log(recording);
    let lines = util::lines(&log);
    let expected = Verdicts::of_lines(lines.iter().copied());
    // The same seeds each time. EDITWAR_SEEDS sets a number of other seeds.
    let more = std::env::var("EDITWAR_SEEDS").ok().and_then(|n| n.parse().ok());
    let config = Config { cases: more.unwrap_or(cases), failure_persistence: None, ..Config::default() };
    let mut runner = match more {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    runner
        .run(&any::<u64>(), |seed| {
            let found = check(&lines, seed);
            let told = |Verdicts { report, transitions }: &Verdicts| {
                (essence(report), counts(report), states(report), transitions.clone())
            };
            let message = || format!("{:#?} instead of {:#?}", told(&found), told(&expected));
            prop_assert!(is_same(recording, &found, &expected), "{} seed {}: {}", recording, seed, message());
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{recording}: {e}"));
}

fn is_equal(_: &str, found: &Verdicts, expected: &Verdicts) -> bool {
    let told = |report: &Report| (essence(report), counts(report), states(report));
    told(&found.report) == told(&expected.report)
}

/// Returns the state of each war.
fn states(report: &Report) -> BTreeMap<String, State> {
    report.wars.iter().map(|war| (over(war), war.state)).collect()
}

/// Returns the numbers of retakes and thrashing events of each war. Wars with a single party are omitted: an account
/// that may be two actors is only examined after its first few writes, so without bodies its counts depend on the
/// order.
fn counts(report: &Report) -> BTreeMap<String, (u32, u32)> {
    report
        .wars
        .iter()
        .filter(|war| war.parties.len() > 1)
        .map(|war| (over(war), (war.retakes, war.thrashing_events)))
        .collect()
}

/// A small random number generator, so that a seed determines everything.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn shuffling_within_a_minute_changes_no_verdict() {
    on_every_recording(
        3,
        |lines, mut seed| {
            let mut keyed: Vec<(i64, &[u8])> =
                lines.iter().map(|line| (stage_time(line) + (next(&mut seed) % 60_000_000) as i64, *line)).collect();
            keyed.sort_by_key(|(at, _)| *at);
            Verdicts::of_lines(keyed.into_iter().map(|(_, line)| line))
        },
        |recording, found, expected| is_equal(recording, found, expected) && found.has_course_of(expected, MINUTE),
    );
}

#[test]
fn batches_delivered_twice_change_no_verdict_and_no_count() {
    on_every_recording(
        3,
        |lines, mut seed| {
            let mut batches: Vec<Vec<&[u8]>> = Vec::new();
            let mut rest = lines;
            while !rest.is_empty() {
                let (batch, behind) = rest.split_at((next(&mut seed) as usize % 400 + 1).min(rest.len()));
                batches.push(batch.to_vec());
                rest = behind;
            }
            // A repeated batch arrives up to eight batches later, as after a lost response.
            let mut order: Vec<(usize, usize)> = (0..batches.len()).map(|i| (i * 10, i)).collect();
            for i in 0..batches.len() {
                if next(&mut seed).is_multiple_of(2) {
                    order.push((i * 10 + (next(&mut seed) % 80) as usize, i));
                }
            }
            order.sort();
            let pipeline = Pipeline::new(Policy::default(), Bounds::default());
            let mut transitions = Vec::new();
            for (_, index) in order {
                let items: Vec<String> =
                    batches[index].iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
                let body = format!(r#"{{"kind":"EventList","items":[{}]}}"#, items.join(","));
                let mut batch = pipeline.batch("", "test");
                batch.ingest(&DecodedChunk::of_values(body.as_bytes()), 0);
                batch.pass_time();
                transitions.append(&mut batch.transitions);
            }
            let once = util::pipeline_of(lines.iter().copied());
            let writes =
                |p: &Pipeline| (p.stats().counters.writes, p.stats().counters.no_ops, p.stats().counters.failed);
            assert_eq!(writes(&pipeline), writes(&once));
            Verdicts::of(&pipeline, transitions)
        },
        |recording, found, expected| is_equal(recording, found, expected) && found.has_course_of(expected, 0),
    );
}

/// Splits the users between two API servers whose logs are read as two files. The counts must be the same as for one.
#[test]
fn a_log_split_in_two_gives_the_same_counts() {
    for recording in
        ["conflict-storm", "conflict-storm-metadata", "gitops-vs-kubectl-request", "hpa-vs-applier", "oddities"]
    {
        let log = util::log(recording);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for line in util::lines(&log) {
            let event: serde_json::Value = serde_json::from_slice(line).unwrap();
            let user = event["user"]["username"].as_str().unwrap_or_default();
            let half =
                if user.bytes().map(u64::from).sum::<u64>().is_multiple_of(2) { &mut first } else { &mut second };
            half.extend_from_slice(line);
            half.push(b'\n');
        }
        assert!(!first.is_empty() && !second.is_empty(), "{recording}: one log is empty");
        let directory = scratch(&format!("two-logs-{recording}"));
        let paths = [("first.log", first), ("second.log", second)].map(|(name, text)| {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        });
        let counted = |files: &[&str]| {
            let (_, out, err) = run(&[&["analyze", "--all", "-q", "-o", "json"], files].concat(), None);
            let report: Report = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{recording}: {e}: {out}{err}"));
            counts(&report)
        };
        let whole = fixture(recording);
        assert_eq!(counted(&[&paths[0], &paths[1]]), counted(&[&whole]), "{recording}");
    }
}

#[test]
fn clocks_two_seconds_apart_change_no_verdict() {
    on_every_recording(
        2,
        |lines, mut seed| {
            let moved: Vec<(i64, Vec<u8>)> = lines
                .iter()
                .map(|line| {
                    let shift = if next(&mut seed).is_multiple_of(2) { 0 } else { 2_000_000 };
                    let mut event: serde_json::Value = serde_json::from_slice(line).unwrap();
                    for key in ["requestReceivedTimestamp", "stageTimestamp"] {
                        let text = event[key].as_str().unwrap().to_owned();
                        let at = editwar::audit::event::parse_timestamp(&text).unwrap() + shift;
                        event[key] = format!("{:.6}", jiff::Timestamp::from_microsecond(at).unwrap()).into();
                    }
                    // Each server's events arrive in their own order, shortly after they happened.
                    (stage_time(line) + (next(&mut seed) % 3_000_000) as i64, serde_json::to_vec(&event).unwrap())
                })
                .collect();
            let mut moved = moved;
            moved.sort_by_key(|(at, _)| *at);
            Verdicts::of_lines(moved.iter().map(|(_, line)| line.as_slice()))
        },
        is_equal_but_for_lost_order,
    );
}

/// Without stored revisions, the order of writes is unknown if they are closer together than the difference between the
/// clocks. A faster war may then be missed, but none may be made up, and a slower one must be unchanged. Within that
/// time, the creator of an object also cannot be distinguished from a party.
fn is_equal_but_for_lost_order(recording: &str, found: &Verdicts, expected: &Verdicts) -> bool {
    if !recording.contains("-metadata") && !recording.ends_with("-request") {
        return is_equal(recording, found, expected);
    }
    let expected = &expected.report;
    let (found_essence, expected_essence) = (essence(&found.report), essence(expected));
    let is_made_up = |(object, (_, parties, fields)): (&String, &(String, BTreeSet<String>, BTreeMap<_, _>))| {
        expected_essence.get(object).is_none_or(|(_, expected_parties, expected_fields)| {
            (parties.is_disjoint(expected_parties)) || fields.keys().any(|path| !expected_fields.contains_key(path))
        })
    };
    let is_slow = |war: &&editwar::query::views::War| war.retakes_per_minute.is_some_and(|rate| rate < 15.0);
    let slow = expected.wars.iter().filter(is_slow).map(over);
    !found_essence.iter().any(is_made_up)
        && slow.into_iter().all(|object| found_essence.get(&object) == expected_essence.get(&object))
}

#[test]
fn events_that_arrive_an_hour_late_are_not_a_hot_loop() {
    let mut cluster = Cluster::new(Level::Metadata);
    let path = "configmaps/shop/config";
    let body = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"v": "0"}});
    cluster.create(OPERATOR, path, body);
    // The log of another API server for the hour before, with about a write per minute.
    cluster.wait(-3600.0);
    for turn in 0..70 {
        cluster.wait(50.0);
        cluster.patch(OPERATOR, path, "", json!({"data": {"v": turn.to_string()}}));
    }
    let found = |cluster: &Cluster| util::report(&util::pipeline_of(cluster.lines())).hot_loops.len();
    assert_eq!(found(&cluster), 0);
    // A hot loop is still detected.
    cluster.wait(300.0);
    for turn in 0..200 {
        cluster.wait(0.2);
        cluster.patch(OPERATOR, path, "", json!({"data": {"v": format!("hot-{turn}")}}));
    }
    assert_eq!(found(&cluster), 1);
}

#[test]
fn events_in_one_chunk_give_the_same_result_as_one_by_one() {
    for recording in util::smaller_recordings() {
        let log = util::log(&recording);
        // Each line twice, so that a request and its repetition are in one window.
        let twice: Vec<&[u8]> = util::lines(&log).into_iter().flat_map(|line| [line, line]).collect();
        let taken = |take: &dyn Fn(&mut Batch<'_>)| {
            let pipeline = Pipeline::new(Policy::default(), Bounds::default());
            let mut batch = pipeline.batch("", "test");
            take(&mut batch);
            let told = (batch.transitions.clone(), batch.thrashes.clone());
            drop(batch);
            (told, pipeline.stats().counters, serde_json::to_value(util::report(&pipeline).wars).unwrap())
        };
        let one_by_one = taken(&|batch| {
            twice.iter().for_each(|line| batch.ingest(&DecodedChunk::of(line, false, Vec::new()), 0));
        });
        let text = twice.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect::<Vec<u8>>();
        assert_eq!(
            taken(&|batch| batch.ingest(&DecodedChunk::of(&text, false, Vec::new()), 0)),
            one_by_one,
            "{recording}"
        );
        assert_eq!(taken(&|batch| batch.ingest(&DecodedChunk::of_values(&text), 0)), one_by_one, "{recording}");
        assert!(one_by_one.1.duplicates > 0, "{recording}");
    }
}
