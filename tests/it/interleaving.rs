//! Transitions, counters and the journal depend only on the events: neither on queries, between batches or at the same
//! time, nor on how the events are divided into batches, files and workers. A replay of the journal gives the same again.
//! This file tests it with all recordings.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::audit::times;
use editwar::detect::actor_class::ActorClassifier;
use editwar::detect::policy::Policy;
use editwar::detect::verdict::State;
use editwar::ingest::files::{self, Consumer, Input};
use editwar::ingest::intake::{Intake, Origin};
use editwar::journal::append::Append;
use editwar::journal::committer::{Journal, OnFailure, Settings};
use editwar::journal::disk::Disk;
use editwar::journal::store::Retention;
use editwar::journal::{record, replay};
use editwar::notify::metrics::MetricsSink;
use editwar::notify::{Changes, Sink, Sinks};
use editwar::pipeline::clock::Tolerance;
use editwar::pipeline::key::ObjectKey;
use editwar::pipeline::{Batch, Bounds, Pipeline, ThrashingEvent, Transition};
use editwar::query::api::Api;
use editwar::telemetry::metrics::{Metrics, SeriesLimits};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::cli::scratch;
use crate::util;

const DAY: i64 = 24 * 3600 * 1_000_000;
/// Number of events in a batch that kube-apiserver posts by default.
const BATCH: usize = 400;
/// All questions that change nothing, as paths of the HTTP API.
const QUESTIONS: &[&str] = &[
    "/api/v1/wars?all=1",
    "/api/v1/objects/{resource}/{namespace}/{name}/decision",
    "/api/v1/participants?kind={resource}&namespace={namespace}&name={name}",
    "/metrics",
    "/api/v1/transitions?since=2014-06-01",
    "/api/v1/objects/{resource}/{namespace}/{name}/decision?watch=true",
    "/api/v1/objects/{resource}/{namespace}/{name}",
    "/api/v1/objects/{resource}/{namespace}/{name}/participants",
    "/api/v1/wars?state=ongoing&since=1h&limit=1",
    "/api/v1/overview",
    "/readyz?verbose",
];
/// More of them, which take long: they replay an object from the journal, or look at all objects.
const LONG_QUESTIONS: &[&str] = &[
    "/api/v1/objects/{resource}/{namespace}/{name}/timeline?since=2014-06-01",
    "/api/v1/objects/{resource}/{namespace}/{name}?since=2014-06-01",
    "/api/v1/writes?actor=a",
    "/api/v1/sources",
];
/// Number of bytes up to which a log is read. Of longer ones, only the beginning is, unless `EDITWAR_SEEDS` is set.
const BYTES_MAX: usize = 6 << 20;
/// Number of bytes up to which a log is read in every way.
const SHORT_BYTES: usize = 3 << 20;

/// Everything that must not change, in parts with a name each. The lines of a part are sorted.
type Outcome = BTreeMap<&'static str, Vec<String>>;

/// How a log is ingested, and what is asked in the meantime.
#[derive(Clone, Debug)]
struct Plan {
    /// Where batches end, apart from the end of the log.
    ends: Vec<End>,
    /// Number of threads that query without a pause until all events are ingested.
    pollers: usize,
}

/// The end of a batch.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Number of lines before it.
    lines: usize,
    /// Number of queries after it. Unless there is none, a long one comes as well.
    queries: usize,
    /// Index of the first of these.
    first: usize,
}

/// The plan of kube-apiserver's batches, without any query.
fn plain(lines: usize) -> Plan {
    Plan { ends: (BATCH..lines).step_by(BATCH).map(|lines| End { lines, queries: 0, first: 0 }).collect(), pollers: 0 }
}

fn plans(lines: usize) -> impl Strategy<Value = Plan> {
    let queries = prop_oneof![6 => Just(0), 9 => 1..=30_usize, 1 => 31..=1_000_usize];
    let end = (0..=lines, queries, 0..QUESTIONS.len());
    let end = end.prop_map(|(lines, queries, first)| End { lines, queries, first });
    (vec(end, 1..=10), 0..=2_usize).prop_map(|(mut ends, pollers)| {
        ends.sort_by_key(|end| end.lines);
        Plan { ends, pollers }
    })
}

/// A sink that keeps everything.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<(Vec<Transition>, Vec<ThrashingEvent>)>>);

impl Sink for Kept {
    fn publish(&self, changes: &Changes<'_>) {
        let mut kept = self.0.lock().unwrap();
        kept.0.extend(changes.transitions.iter().cloned());
        kept.1.extend(changes.thrashing.iter().cloned());
    }
}

/// A server without its listeners, with a journal on disk.
struct Server {
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
    kept: Kept,
    sinks: Sinks,
    journal: Option<Arc<Journal>>,
    api: Api,
}

/// This machine's clock has no influence: recordings become older, and some of the times in them are far apart.
fn pipeline() -> Pipeline {
    let tolerance = Tolerance { ahead: i64::MAX / 4, behind: i64::MAX / 4 };
    Pipeline::new(Policy::default(), Bounds { tolerance, ..Bounds::default() })
}

// === impl Server ===

impl Server {
    fn start(folder: Option<&Path>) -> Server {
        let pipeline = Arc::new(pipeline());
        let metrics = Metrics::new(SeriesLimits { max_objects: 1_000, max_actors_per_object: 16, ttl: Duration::MAX });
        let journal = folder.map(|folder| {
            let retention = Retention { age: i64::MAX / 4, bytes: 1 << 30, window: i64::MAX / 4, ahead: 0 };
            let (disk, look_every) = (Disk::default(), Duration::from_millis(200));
            let settings =
                Settings { folder: folder.into(), retention, on_failure: OnFailure::Reject, disk, look_every };
            let (journal, is_open) = Journal::start(settings, &metrics, Box::new(|_, _| Ok(Vec::new()))).unwrap();
            is_open.blocking_recv().unwrap();
            Arc::new(journal)
        });
        let kept = Kept::default();
        let mut sinks: Vec<Arc<dyn Sink>> =
            vec![Arc::new(kept.clone()), Arc::new(MetricsSink::new(pipeline.clone(), metrics.clone()))];
        sinks.extend(journal.clone().map(|journal| journal as Arc<dyn Sink>));
        let classes = Arc::new(ActorClassifier::default());
        let api = Api::new(pipeline.clone(), classes, metrics.clone()).with_journal(journal.clone());
        api.set_ready(true);
        Server { pipeline, metrics, kept, sinks: Sinks::new(sinks), journal, api }
    }

    /// Returns the status and the body of an answer, or the first line of a stream.
    fn ask(&self, uri: &str) -> (u16, String) {
        let request = hyper::Request::get(uri).body(()).unwrap();
        let answer = self.api.answer(&request, IpAddr::V4(Ipv4Addr::LOCALHOST), true);
        let (status, mut body) = (answer.status().as_u16(), answer.into_body());
        let first = body.frame().now_or_never().expect("the answer is there");
        let text = first.and_then(|frame| frame.unwrap().into_data().ok()).unwrap_or_default();
        (status, String::from_utf8(text.into()).unwrap())
    }

    /// Asks one of these questions, by its index, about a contested object if there is one.
    fn poll(&self, questions: &[&str], index: usize) {
        let contested = self.pipeline.table().notable();
        let unseen = ObjectKey::from("\0apps\0deployments\0nowhere\0unseen");
        let key = contested.get(index / questions.len() % (contested.len() + 1)).unwrap_or(&unseen);
        let object = key.object();
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let resource = match object.group {
            "" => encoded(object.resource),
            group => format!("{}.{}", encoded(object.resource), encoded(group)),
        };
        let namespace = if object.namespace.is_empty() { "-".to_owned() } else { encoded(object.namespace) };
        let uri = questions[index % questions.len()]
            .replace("{resource}", &resource)
            .replace("{namespace}", &namespace)
            .replace("{name}", &encoded(object.name));
        let (status, text) = self.ask(&uri);
        assert!([200, 404].contains(&status), "{uri}: {status} {text}");
    }

    /// Asks questions until a flag is set, with pauses, since the events need a core as well.
    fn poll_until(&self, is_over: &AtomicBool, first: usize) {
        for index in (first..).take_while(|_| !is_over.load(Relaxed)) {
            self.poll(QUESTIONS, index);
            if index % 50 == 0 {
                self.poll(LONG_QUESTIONS, index / 50);
            }
            crate::envtest::pause(5);
        }
    }

    /// Ingests lines as planned.
    fn ingest(&self, lines: &[&[u8]], plan: &Plan) {
        let intake = Intake::new(self.pipeline.clone(), self.metrics.clone(), self.sinks.clone());
        let intake = intake.with_journal(self.journal.clone().map(|journal| journal as Arc<dyn Append>));
        let mut before = 0;
        let end = End { lines: lines.len(), queries: 0, first: 0 };
        for End { lines: until, queries, first } in plan.ends.iter().copied().chain([end]) {
            let text = lines[before..until].join(&b'\n');
            intake.ingest_lines(Origin { cluster: "", source: "test" }, &text).unwrap();
            before = until;
            if queries > 0 {
                self.poll(LONG_QUESTIONS, first);
            }
            (first..first + queries).for_each(|index| self.poll(QUESTIONS, index));
        }
    }

    /// Lets time pass until all wars have ended, and returns what there is then.
    fn end(&self, end: i64) -> Outcome {
        self.sinks.publish(&Changes { transitions: &self.pipeline.pass_time("", end), thrashing: &[] });
        let kept = self.kept.0.lock().unwrap();
        let text = self.metrics.text(&self.pipeline, 0.0);
        // How long something took, and how many bytes the files have, is not determined by the events.
        let is_of_events = |line: &&str| {
            !line.starts_with('#') && !line.contains("_duration_seconds") && !line.contains("_size_bytes")
        };
        let mut outcome = outcome(&kept.0, &kept.1, &self.pipeline);
        outcome.insert("metrics", text.lines().filter(is_of_events).map(str::to_owned).collect());
        outcome
    }
}

/// Returns where the transitions of an object are not connected, or do not begin and end calm.
fn gaps(transitions: &[Transition]) -> Vec<String> {
    let mut states: BTreeMap<&ObjectKey, State> = BTreeMap::new();
    let mut gaps = Vec::new();
    for transition in transitions {
        let before = states.insert(&transition.object, transition.to).unwrap_or(State::Calm);
        if before != transition.from || transition.from == transition.to {
            gaps.push(format!("{} was {}: {transition:?}", name(&transition.object), before.as_str()));
        }
    }
    let ongoing = states.into_iter().filter(|(_, state)| *state != State::Calm);
    gaps.extend(ongoing.map(|(object, state)| format!("{} is {} at the end", name(object), state.as_str())));
    gaps
}

fn name(key: &ObjectKey) -> String {
    key.as_ref().replace('\0', "/")
}

fn outcome(transitions: &[Transition], thrashing: &[ThrashingEvent], pipeline: &Pipeline) -> Outcome {
    let mut changes: Vec<String> = transitions
        .iter()
        .map(|t| format!("{} {} {} {}", t.at, name(&t.object), t.from.as_str(), t.to.as_str()))
        .collect();
    changes.sort();
    let mut counts: BTreeMap<(&ObjectKey, &str), u32> = BTreeMap::new();
    thrashing.iter().for_each(|event| *counts.entry((&event.object, &*event.party)).or_default() += event.count);
    let counts = counts.iter().map(|((object, party), count)| format!("{} {party} {count}", name(object)));
    let mut wars: Vec<String> =
        util::report(pipeline).wars.iter().map(|war| serde_json::to_string(war).unwrap()).collect();
    wars.sort();
    let counters = serde_json::to_value(pipeline.stats().counters).unwrap();
    let counters = counters.as_object().unwrap().iter().map(|(name, count)| format!("{name} {count}")).collect();
    let (thrashing, gaps) = (counts.collect(), gaps(transitions));
    [("transitions", changes), ("thrashing", thrashing), ("wars", wars), ("counters", counters), ("gaps", gaps)].into()
}

/// Returns a server's journal, once it is open. A program that another test starts at the same moment holds the lock of a
/// journal that was just closed until it has replaced itself.
fn opened(server: &Server) -> &Journal {
    let journal = server.journal.as_ref().unwrap();
    util::until("the journal is open", || journal.reader().is_ok());
    journal
}

/// Returns what is in the journal of a folder: its writes, and the transitions as the API lists them.
fn stored(folder: &Path, hasher: &RandomState) -> [(&'static str, Vec<String>); 2] {
    let server = Server::start(Some(folder));
    let reader = opened(&server).reader().unwrap();
    let mut writes = Vec::new();
    let each = |key: record::Key, packed: &[u8]| {
        let text = record::unpack(packed).unwrap();
        // The time of arrival differs. Events are long, so a hash stands for each.
        let entry = record::entry(&text).unwrap();
        writes.push(format!("{:?} {} {} {:x}", key.0, entry.cluster, entry.source, hasher.hash_one(entry.event)));
    };
    reader.since(i64::MIN, each).unwrap();
    writes.sort();
    let (status, text) = server.ask("/api/v1/transitions?since=2014-06-01");
    assert_eq!(status, 200, "{text}");
    let listed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let listed = listed["transitions"].as_array().unwrap().iter().map(ToString::to_string).collect();
    server.journal.unwrap().close();
    [("writes in the journal", writes), ("transitions in the journal", listed)]
}

/// Returns what a log results in if it is ingested as planned.
fn run(lines: &[&[u8]], plan: &Plan, end: i64, folder: &Path, hasher: &RandomState) -> Outcome {
    drop(std::fs::remove_dir_all(folder));
    let server = Server::start(Some(folder));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for poller in 0..plan.pollers {
            let (server, is_over) = (&server, &is_over);
            scope.spawn(move || server.poll_until(is_over, poller));
        }
        let _over = Over(&is_over);
        server.ingest(lines, plan);
    });
    let mut outcome = server.end(end);
    server.journal.unwrap().close();
    outcome.extend(stored(folder, hasher));
    outcome
}

/// Sets a flag at the end of its scope, also if that is a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Returns what a replay of the journal in a folder results in.
fn replayed(folder: &Path, end: i64) -> Outcome {
    let old = Server::start(Some(folder));
    let new = Server::start(None);
    let reader = opened(&old).reader().unwrap();
    replay::replay(&reader, i64::MIN, &new.pipeline, |changes| new.sinks.publish(changes)).unwrap();
    drop(reader);
    old.journal.unwrap().close();
    new.end(end)
}

/// Returns what differs, or `None`.
fn difference(found: &Outcome, expected: &Outcome, parts: &[&str]) -> Option<String> {
    let part = parts.iter().find(|part| found[**part] != expected[**part])?;
    let only = |these: &[String], others: &[String]| {
        let others: HashSet<&String> = others.iter().collect();
        let only = these.iter().filter(|line| !others.contains(line)).take(5);
        only.map(|line| format!("\n  {}", line.chars().take(400).collect::<String>())).collect::<String>()
    };
    let (more, less) = (only(&found[part], &expected[part]), only(&expected[part], &found[part]));
    Some(format!("{part} differ: found {more}\n instead of {less}"))
}

/// Returns a number that is set in the environment.
fn set(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Returns the seed of the plans. It is the same each time, unless `EDITWAR_SEED` or `EDITWAR_SEEDS` is set.
fn seed() -> u64 {
    let of_now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    set("EDITWAR_SEED").or(set("EDITWAR_SEEDS").map(|_| of_now())).unwrap_or(0)
}

/// Runs `check` on all recordings, the longest first, some at a time. It gets the name and the lines.
fn on_every_recording(check: impl Fn(&str, &[&[u8]], bool) + Sync) {
    let mut recordings: Vec<(usize, String)> =
        util::recordings().into_iter().map(|recording| (util::log(&recording).len(), recording)).collect();
    recordings.sort();
    let recordings = Mutex::new(recordings);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let Some((_, recording)) = recordings.lock().unwrap().pop() else { return };
                    let log = util::log(&recording);
                    let bytes_max = if set("EDITWAR_SEEDS").is_some() { usize::MAX } else { BYTES_MAX };
                    let end = memchr::memrchr(b'\n', &log[..log.len().min(bytes_max)]).unwrap();
                    check(&recording, &util::lines(&log[..end]), log.len() <= SHORT_BYTES);
                }
            });
        }
    });
}

#[test]
fn any_interleaving_of_queries_and_a_replay_give_the_same_transitions_counters_and_journal() {
    let seed = seed();
    on_every_recording(|recording, lines, is_short| {
        let folder = scratch(&format!("interleaving-{recording}"));
        let hasher = RandomState::new();
        let end = lines.iter().filter_map(|line| times::of_event(line)).max().unwrap() + 2 * DAY;
        let expected = run(lines, &plain(lines.len()), end, &folder, &hasher);
        assert_eq!(expected["gaps"], [""; 0], "{recording}");
        let parts: Vec<&str> = expected.keys().copied().collect();
        let cases = set("EDITWAR_SEEDS").map_or(if is_short { 2 } else { 1 }, |cases| cases as u32);
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 16, ..Config::default() };
        // Each recording has plans of its own.
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        recording.bytes().enumerate().for_each(|(n, byte)| bytes[8 + n % 24] ^= byte);
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        runner
            .run(&plans(lines.len()), |plan| {
                let found = run(lines, &plan, end, &folder, &hasher);
                let difference = difference(&found, &expected, &parts);
                prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{recording}, EDITWAR_SEED={seed}: {error}"));

        let (found, expected) = (replayable(replayed(&folder, end)), replayable(expected));
        let difference = difference(&found, &expected, &["transitions", "thrashing", "metrics"]);
        assert!(difference.is_none(), "{recording}, replayed: {}", difference.unwrap_or_default());
    });
}

/// Returns the part of an outcome that a replay of the journal repeats. The journal contains no reads, and no bodies of
/// Secrets, so less is known about these.
fn replayable(mut outcome: Outcome) -> Outcome {
    for lines in outcome.values_mut() {
        lines.retain(|line| !line.contains("/secrets/") && !line.contains(r#"kind="Secret""#));
    }
    let metrics = outcome.get_mut("metrics").expect("there are metrics");
    metrics.retain(|line| line.starts_with("virt_platform_thrashing"));
    outcome
}

#[test]
fn every_question_of_the_api_is_among_those_that_are_asked() {
    let (status, text) = Server::start(None).ask("/openapi.json");
    assert_eq!(status, 200);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let paths = document["paths"].as_object().unwrap().iter().filter(|(_, methods)| methods.get("get").is_some());
    let asked: BTreeSet<&str> = QUESTIONS
        .iter()
        .chain(LONG_QUESTIONS)
        .map(|question| question.split('?').next().expect("a part before it"))
        .collect();
    let missing: Vec<&String> = paths.map(|(path, _)| path).filter(|path| !asked.contains(path.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Collects what log files change.
struct Collector<'p>(Batch<'p>);

impl Consumer for Collector<'_> {
    fn ingest(&mut self, _: usize, chunk: &DecodedChunk<'_>, before: u64) {
        self.0.ingest(chunk, before);
    }

    fn broken(&mut self, error: files::Error) {
        panic!("{error}");
    }
}

/// Returns what files result in if this number of workers reads them, as `editwar analyze` does.
fn analyzed(paths: &[PathBuf], workers: usize) -> Outcome {
    let pipeline = pipeline().recorded();
    let mut collector = Collector(pipeline.batch("", "test"));
    let inputs: Vec<Input> = paths.iter().cloned().map(Input::File).collect();
    files::read(&inputs, NonZeroUsize::new(workers).unwrap(), &Arc::default(), &mut collector);
    let (mut transitions, thrashes) = (collector.0.transitions.clone(), collector.0.thrashes.clone());
    drop(collector);
    transitions.extend(pipeline.end());
    outcome(&transitions, &thrashes, &pipeline)
}

#[test]
fn any_number_of_workers_and_two_halves_of_a_log_give_the_same_transitions_and_counters() {
    let folder = scratch("interleaving-files");
    on_every_recording(|recording, lines, is_short| {
        let (first, second) = lines.split_at(lines.len() / 2);
        let write = |name: &str, lines: &[&[u8]]| {
            let path = folder.join(format!("{recording}-{name}.log"));
            std::fs::write(&path, lines.join(&b'\n')).unwrap();
            path
        };
        let whole = vec![write("whole", lines)];
        let halves = vec![write("first", first), write("second", second)];
        let expected = analyzed(&whole, 1);
        let parts: Vec<&str> = expected.keys().copied().collect();
        let ways = [(&whole, 2), (&whole, 8), (&halves, 1), (&halves, 2), (&halves, 8)];
        let is_tried = |workers: usize| is_short || set("EDITWAR_SEEDS").is_some() || workers == 8;
        for (paths, workers) in ways.into_iter().filter(|(_, workers)| is_tried(*workers)) {
            let found = analyzed(paths, workers);
            let difference = difference(&found, &expected, &parts);
            let (files, difference) = (paths.len(), difference.unwrap_or_default());
            assert!(difference.is_empty(), "{recording}, {files} files, {workers} workers: {difference}");
        }
        halves.iter().chain(&whole).for_each(|path| std::fs::remove_file(path).unwrap());
    });
}

#[test]
fn scrapes_at_the_same_time_count_every_event_once() {
    let log = util::log("hpa-vs-applier-metadata");
    let lines = util::lines(&log);
    for _ in 0..5 {
        let server = Server::start(None);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !is_over.load(Relaxed) {
                        drop(server.metrics.text(&server.pipeline, 0.0));
                    }
                });
            }
            let _over = Over(&is_over);
            let ends = (1..lines.len()).map(|lines| End { lines, queries: 0, first: 0 }).collect();
            server.ingest(&lines, &Plan { ends, pollers: 0 });
        });
        let text = server.metrics.text(&server.pipeline, 0.0);
        let count = |line: &str| line.strip_prefix("editwar_events_total")?.rsplit(' ').next()?.parse::<u64>().ok();
        let c = server.pipeline.stats().counters;
        let expected = c.writes + c.reads + c.dry_runs + c.no_ops + c.failed + c.others + c.ignored + c.duplicates;
        assert_eq!(text.lines().filter_map(count).sum::<u64>(), expected);
    }
}
