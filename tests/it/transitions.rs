//! Transitions depend only on the events: not on queries, nor on how events are divided into batches, files and
//! workers, nor on whether they are replayed from the journal.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::detect::policy::Policy;
use editwar::detect::verdict::State;
use editwar::ingest::files::{self, Consumer, Input};
use editwar::ingest::intake::{Intake, Origin};
use editwar::journal::committer::{Journal, OnFailure, Settings};
use editwar::journal::disk::Disk;
use editwar::journal::replay;
use editwar::journal::store::Retention;
use editwar::notify::metrics::MetricsSink;
use editwar::notify::{Changes, Sink, Sinks};
use editwar::pipeline::{Batch, Bounds, Pipeline, Transition};
use editwar::query::views::Report;
use editwar::telemetry::metrics::{self, Metrics};
use serde_json::json;

use crate::cli::scratch;
use crate::cluster::{ALICE, BOB, Cluster, HPA, Level, OPERATOR};
use crate::util;

const SECOND: i64 = 1_000_000;
const START: i64 = 1_795_400_000 * SECOND;
const DAY: i64 = 24 * 3600 * SECOND;
const WEB: &str = "deployments.apps/shop/web";

/// Ingests the lines in batches of `batch_len`, and calls `ask` after each batch. Returns all transitions in order,
/// including those of the two days after the last event, and the report before that time.
fn observe(lines: &[&[u8]], batch_len: usize, ask: impl Fn(&Pipeline)) -> (Vec<Transition>, Report) {
    let pipeline = Pipeline::new(Policy::default(), Bounds::default());
    let mut found = Vec::new();
    for lines in lines.chunks(batch_len) {
        let text = lines.join(&b'\n');
        let mut batch = pipeline.batch("", "test");
        batch.ingest(&DecodedChunk::of(&text, false, Vec::new()), 0);
        batch.pass_time();
        found.append(&mut batch.transitions);
        drop(batch);
        ask(&pipeline);
    }
    let report = util::report(&pipeline);
    found.extend(pipeline.pass_time("", pipeline.latest().unwrap() + 2 * DAY));
    found.sort_by(|a, b| (a.at, &a.object, a.to).cmp(&(b.at, &b.object, b.to)));
    (found, report)
}

fn ask_everything(pipeline: &Pipeline) {
    drop(util::report(pipeline));
    for key in pipeline.table().notable() {
        assert!(pipeline.table().with(&key, |state| state.state()).is_some());
    }
}

/// Adds a war with this number of retakes, one per second from `START` + 1 s on.
fn war(cluster: &mut Cluster, retakes: usize) {
    let body = json!({"kind": "Deployment", "apiVersion": "apps/v1", "spec": {"replicas": 3}});
    cluster.create(OPERATOR, WEB, body);
    cluster.wait(0.5);
    cluster.scale(HPA, WEB, 5);
    cluster.wait(0.5);
    for turn in 0..retakes {
        match turn % 2 {
            0 => cluster.patch(OPERATOR, WEB, "", json!({"spec": {"replicas": 3}})),
            _ => cluster.scale(HPA, WEB, 5),
        }
        cluster.wait(1.0);
    }
}

#[test]
fn a_war_ends_after_its_quiet_periods_and_the_end_is_a_transition() {
    let mut cluster = Cluster::at(Level::RequestResponse, START);
    war(&mut cluster, 30);
    // Writes to another object: one every five minutes, for two hours.
    let other = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {}});
    cluster.create(OPERATOR, "configmaps/shop/other", other);
    for n in 0..24 {
        cluster.wait(300.0);
        cluster.patch(OPERATOR, "configmaps/shop/other", "", json!({"data": {"n": n.to_string()}}));
    }
    let lines: Vec<&[u8]> = cluster.lines().collect();
    let (found, report) = observe(&lines, 1, |_| {});
    let steps: Vec<(State, State, i64)> =
        found.iter().map(|transition| (transition.from, transition.to, (transition.at - START) / SECOND)).collect();
    // The buckets are 5 in 10 min and 12 in 6 h: the sixth retake is the first to find one empty, and the eighth is the
    // third. The last retake is the thirtieth. The quiet period is the longer one of 10 min and two refills of the
    // empty bucket (10 min / 5 · 2).
    let [contested, thrashing, paused, subsiding, calm] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!(*contested, (State::Calm, State::Contested, 1));
    assert_eq!(*thrashing, (State::Contested, State::Thrashing, 6));
    assert_eq!(*paused, (State::Thrashing, State::Sustained, 8));
    assert_eq!(*subsiding, (State::Sustained, State::Subsiding, 30 + 600));
    assert_eq!(*calm, (State::Subsiding, State::Calm, 30 + 1200));
    assert_eq!(report.wars[0].state, State::Calm);
    assert_eq!(observe(&lines, 1, ask_everything), (found.clone(), report.clone()));
    assert_eq!(observe(&lines, usize::MAX, |_| {}), (found, report));
}

#[test]
fn a_late_write_counts_at_its_own_time() {
    let mut cluster = Cluster::at(Level::RequestResponse, START);
    war(&mut cluster, 30);
    let mut lines: Vec<&[u8]> = cluster.lines().collect();
    // The last retake arrives after a write to another object has already ended the war.
    let last = lines.pop().unwrap();
    let mut later = Cluster::at(Level::RequestResponse, START + 29 * SECOND + 601 * SECOND);
    later.create(OPERATOR, "configmaps/shop/other", json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {}}));
    lines.extend(later.lines());
    lines.push(last);
    let (found, report) = observe(&lines, 1, |_| {});
    let steps: Vec<(State, i64)> =
        found.iter().map(|transition| (transition.to, (transition.at - START) / SECOND)).collect();
    assert_eq!(
        steps[3..],
        [(State::Sustained, 30), (State::Subsiding, 29 + 600), (State::Subsiding, 30 + 600), (State::Calm, 30 + 1200)]
    );
    // The counts are the same as for the log in its original order.
    let (_, in_order) = observe(&cluster.lines().collect::<Vec<_>>(), 1, |_| {});
    assert_eq!((report.wars[0].state, report.wars[0].retakes), (State::Sustained, in_order.wars[0].retakes));
    assert_eq!(report.wars[0].thrashing_events, in_order.wars[0].thrashing_events);
}

#[test]
fn queries_and_batch_sizes_do_not_change_transitions() {
    for recording in util::smaller_recordings() {
        let log = util::log(&recording);
        let lines = util::lines(&log);
        let (transitions, report) = observe(&lines, usize::MAX, |_| {});
        assert!(transitions.iter().all(|transition| transition.from != transition.to), "{recording}");
        for (batch_len, is_asked) in [(1_000, true), (77, false)] {
            let (found, told) = observe(&lines, batch_len, |pipeline| {
                if is_asked {
                    ask_everything(pipeline);
                }
            });
            assert_eq!(found, transitions, "{recording}, batches of {batch_len}");
            assert_eq!(told.wars, report.wars, "{recording}, batches of {batch_len}");
        }
        // Each object's transitions are a chain that begins and ends calm.
        for key in transitions.iter().map(|transition| &transition.object) {
            let of_object: Vec<&Transition> =
                transitions.iter().filter(|transition| transition.object == *key).collect();
            let is_chain = of_object.windows(2).all(|pair| pair[0].to == pair[1].from);
            let ends = (of_object[0].from, of_object[of_object.len() - 1].to);
            assert!(is_chain && ends == (State::Calm, State::Calm), "{recording}: {of_object:?}");
        }
    }
}

/// Ingests wars over 500 objects of a cluster, with this number of writes each, alternately by alice and bob.
fn begin_wars(pipeline: &Pipeline, cluster: &str, writes: usize) {
    let mut events = Cluster::at(Level::RequestResponse, START);
    for n in 0..500 {
        let path = format!("configmaps/shop/o{n}");
        events.create(ALICE, &path, json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"v": "a"}}));
        for write in 1..writes {
            let (who, value) = if write % 2 == 0 { (ALICE, "a") } else { (BOB, "b") };
            events.patch(who, &path, "", json!({"data": {"v": value}}));
        }
    }
    take(pipeline, cluster, &events);
}

fn take(pipeline: &Pipeline, cluster: &str, events: &Cluster) {
    let text = events.lines().collect::<Vec<_>>().join(&b'\n');
    pipeline.batch(cluster, "test").ingest(&DecodedChunk::of(&text, false, Vec::new()), 0);
}

fn states(pipeline: &Pipeline, cluster: &str) -> Vec<State> {
    pipeline.table().select(|key, state| (key.cluster() == cluster).then(|| state.state()))
}

#[test]
fn time_in_one_cluster_causes_no_transition_in_another() {
    let pipeline = Pipeline::new(Policy::default(), Bounds::default());
    begin_wars(&pipeline, "ahead", 3);
    begin_wars(&pipeline, "behind", 3);
    let ended = pipeline.pass_time("ahead", START + DAY);
    assert_eq!(ended.len(), 500);
    assert!(ended.iter().all(|transition| transition.object.cluster() == "ahead"), "{ended:?}");
    assert!(states(&pipeline, "ahead").iter().all(|state| *state == State::Calm));
    assert!(states(&pipeline, "behind").iter().all(|state| *state == State::Contested));
}

#[test]
fn deadlines_are_kept_while_the_table_grows() {
    // As long as the time after which a contested war ends, so that each war has one deadline and no earlier one is
    // left over.
    let mut policy = Policy::default();
    policy.limits.quiet_period = 7_200 * SECOND;
    let pipeline = Pipeline::new(policy, Bounds::default());
    // Ten retakes each: the eighth is the third thrashing event.
    begin_wars(&pipeline, "", 12);
    assert!(states(&pipeline, "").iter().all(|state| *state == State::Sustained));
    // The first quiet period ends, the table grows, and then the second one ends.
    assert_eq!(pipeline.pass_time("", START + 7_300 * SECOND).len(), 500);
    let mut others = Cluster::at(Level::RequestResponse, START + 7_300 * SECOND);
    for n in 0..20_000 {
        others.create(ALICE, &format!("configmaps/other/o{n}"), json!({"kind": "ConfigMap", "apiVersion": "v1"}));
    }
    take(&pipeline, "", &others);
    drop(pipeline.pass_time("", START + DAY));
    let left = states(&pipeline, "").iter().filter(|state| **state != State::Calm).count();
    assert_eq!(left, 0, "wars did not end");
}

/// Collects the transitions of log files.
struct Collector<'p>(Batch<'p>);

impl Consumer for Collector<'_> {
    fn ingest(&mut self, _: usize, chunk: &DecodedChunk<'_>, before: u64) {
        self.0.ingest(chunk, before);
    }

    fn broken(&mut self, error: files::Error) {
        panic!("{error}");
    }
}

/// Reads files with a number of workers, and returns the transitions in order.
fn read(paths: &[PathBuf], workers: usize) -> Vec<Transition> {
    let pipeline = Pipeline::new(Policy::default(), Bounds::default()).recorded();
    let mut collector = Collector(pipeline.batch("", "test"));
    let inputs: Vec<Input> = paths.iter().cloned().map(Input::File).collect();
    files::read(&inputs, NonZeroUsize::new(workers).unwrap(), &Arc::default(), &mut collector);
    let mut found = collector.0.transitions.clone();
    drop(collector);
    found.extend(pipeline.end());
    in_order(found)
}

fn in_order(mut transitions: Vec<Transition>) -> Vec<Transition> {
    transitions.sort_by(|a, b| (a.at, &a.object, a.to).cmp(&(b.at, &b.object, b.to)));
    transitions
}

/// Returns the recordings of up to 3 MiB, which are read several times in a few seconds, with their logs.
fn short_recordings() -> Vec<(String, Vec<u8>)> {
    let all = util::smaller_recordings().into_iter().map(|recording| (recording.clone(), util::log(&recording)));
    let short: Vec<_> = all.filter(|(_, log)| log.len() <= 3 << 20).collect();
    assert!(short.len() >= 10, "{}", short.len());
    short
}

#[test]
fn worker_count_and_file_splits_do_not_change_transitions() {
    let folder = scratch("transitions-files");
    let mut compared = 0;
    for (recording, log) in short_recordings() {
        let lines = util::lines(&log);
        let (first, second) = lines.split_at(lines.len() / 2);
        let write = |name: &str, lines: &[&[u8]]| {
            let path = folder.join(format!("{recording}-{name}.log"));
            std::fs::write(&path, lines.join(&b'\n')).unwrap();
            path
        };
        let whole = [write("whole", &lines)];
        let halves = [write("first", first), write("second", second)];
        let transitions = read(&whole, 1);
        for (paths, workers) in [(&whole[..], 2), (&whole, 8), (&halves, 1), (&halves, 2)] {
            assert_eq!(read(paths, workers), transitions, "{recording}: {} files, {workers} workers", paths.len());
        }
        compared += transitions.len();
    }
    assert!(compared > 30, "only {compared} transitions were compared");
}

/// A sink that collects transitions.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Transition>>>);

impl Sink for Kept {
    fn publish(&self, changes: &Changes<'_>) {
        self.0.lock().unwrap().extend(changes.transitions.iter().cloned());
    }
}

/// Returns the counters of wars in the metrics of a server.
fn counters(metrics: &Metrics, pipeline: &Pipeline) -> Vec<String> {
    let text = metrics.text(pipeline, 0.0);
    let is_of_wars =
        |line: &&str| line.starts_with("virt_platform_thrashing") || line.starts_with("editwar_transitions");
    text.lines().filter(is_of_wars).map(str::to_owned).collect()
}

#[test]
fn a_journal_replay_gives_the_same_transitions_and_counts() {
    let mut compared = 0;
    for (recording, log) in short_recordings() {
        let new = || {
            let pipeline = Arc::new(Pipeline::new(Policy::default(), Bounds::default()));
            let bounds =
                metrics::SeriesLimits { max_objects: 1_000, max_actors_per_object: 16, ttl: std::time::Duration::MAX };
            (pipeline, Metrics::new(bounds), Kept::default())
        };
        let (pipeline, metrics, kept) = new();
        let folder = scratch(&format!("transitions-{recording}"));
        let retention = Retention { age: i64::MAX / 4, bytes: 1 << 30, window: i64::MAX / 4, ahead: 0 };
        let (disk, look_every) = (Disk::default(), std::time::Duration::from_secs(60));
        let settings = Settings { folder, retention, on_failure: OnFailure::Reject, disk, look_every };
        let (journal, is_open) = Journal::start(settings, &metrics, Box::new(|_, _| Ok(Vec::new()))).unwrap();
        is_open.blocking_recv().unwrap();
        let journal = Arc::new(journal);
        let metrics_sink = Arc::new(MetricsSink::new(pipeline.clone(), metrics.clone()));
        let sinks = Sinks::new(vec![Arc::new(kept.clone()), metrics_sink, journal.clone()]);
        let intake = Intake::new(pipeline.clone(), metrics.clone(), sinks.clone()).with_journal(Some(journal.clone()));
        // The journal does not keep bodies of Secrets, so a replay knows less about them than the original run.
        let mut lines = util::lines(&log);
        lines.retain(|line| memchr::memmem::find(line, br#""resource":"secrets""#).is_none());
        for lines in lines.chunks(100) {
            intake.ingest_lines(Origin { cluster: "", source: "test" }, &lines.join(&b'\n')).unwrap();
        }
        // Reads are not in the journal, so the end of the log may be later than the last record.
        let end = pipeline.latest().unwrap() + 2 * DAY;
        sinks.publish(&Changes { transitions: &pipeline.pass_time("", end), thrashing: &[] });

        let (replayed, replayed_metrics, replayed_kept) = new();
        let metrics_sink = Arc::new(MetricsSink::new(replayed.clone(), replayed_metrics.clone()));
        let sinks = Sinks::new(vec![Arc::new(replayed_kept.clone()), metrics_sink]);
        replay::replay(&journal.reader().unwrap(), i64::MIN, &replayed, |changes| sinks.publish(changes)).unwrap();
        sinks.publish(&Changes { transitions: &replayed.pass_time("", end), thrashing: &[] });
        journal.close();
        let of = |kept: &Kept| in_order(kept.0.lock().unwrap().clone());
        let (is, was) = (of(&replayed_kept), of(&kept));
        let missing: Vec<&Transition> = was.iter().filter(|transition| !is.contains(transition)).collect();
        let added: Vec<&Transition> = is.iter().filter(|transition| !was.contains(transition)).collect();
        assert!(is == was, "{recording}: {missing:?} are missing, and {added:?} were not there before");
        assert_eq!(counters(&replayed_metrics, &replayed), counters(&metrics, &pipeline), "{recording}");
        compared += of(&kept).len();
    }
    assert!(compared > 30, "only {compared} transitions were compared");
}
