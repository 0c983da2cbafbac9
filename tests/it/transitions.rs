//! When transitions happen: at their own times, in each cluster by itself. That nothing but the events changes them is tested
//! in `interleaving`.

use std::sync::LazyLock;

use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::detect::policy::Policy;
use editwar::detect::verdict::State;
use editwar::pipeline::{Bounds, Pipeline, Transition};
use editwar::query::views::Report;
use serde_json::json;

use crate::cluster::{ALICE, BOB, Cluster, HPA, Level, OPERATOR};
use crate::util;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * 3600 * SECOND;
/// Some days ago, by whole days: events that are older than what is kept have other times than they say.
static START: LazyLock<i64> = LazyLock::new(|| (crate::clock::now() / DAY - 4) * DAY);
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
    let mut cluster = Cluster::at(Level::RequestResponse, *START);
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
        found.iter().map(|transition| (transition.from, transition.to, (transition.at - *START) / SECOND)).collect();
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
    let mut cluster = Cluster::at(Level::RequestResponse, *START);
    war(&mut cluster, 30);
    let mut lines: Vec<&[u8]> = cluster.lines().collect();
    // The last retake arrives after a write to another object has already ended the war.
    let last = lines.pop().unwrap();
    let mut later = Cluster::at(Level::RequestResponse, *START + 29 * SECOND + 601 * SECOND);
    later.create(OPERATOR, "configmaps/shop/other", json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {}}));
    lines.extend(later.lines());
    lines.push(last);
    let (found, report) = observe(&lines, 1, |_| {});
    let steps: Vec<(State, i64)> =
        found.iter().map(|transition| (transition.to, (transition.at - *START) / SECOND)).collect();
    assert_eq!(
        steps[3..],
        [(State::Sustained, 30), (State::Subsiding, 29 + 600), (State::Subsiding, 30 + 600), (State::Calm, 30 + 1200)]
    );
    // The counts are the same as for the log in its original order.
    let (_, in_order) = observe(&cluster.lines().collect::<Vec<_>>(), 1, |_| {});
    assert_eq!((report.wars[0].state, report.wars[0].retakes), (State::Sustained, in_order.wars[0].retakes));
    assert_eq!(report.wars[0].thrashing_events, in_order.wars[0].thrashing_events);
}

/// Ingests wars over 500 objects of a cluster, with this number of writes each, alternately by alice and bob.
fn begin_wars(pipeline: &Pipeline, cluster: &str, writes: usize) {
    let mut events = Cluster::at(Level::RequestResponse, *START);
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
    let ended = pipeline.pass_time("ahead", *START + DAY);
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
    assert_eq!(pipeline.pass_time("", *START + 7_300 * SECOND).len(), 500);
    let mut others = Cluster::at(Level::RequestResponse, *START + 7_300 * SECOND);
    for n in 0..20_000 {
        others.create(ALICE, &format!("configmaps/other/o{n}"), json!({"kind": "ConfigMap", "apiVersion": "v1"}));
    }
    take(&pipeline, "", &others);
    drop(pipeline.pass_time("", *START + DAY));
    let left = states(&pipeline, "").iter().filter(|state| **state != State::Calm).count();
    assert_eq!(left, 0, "wars did not end");
}
