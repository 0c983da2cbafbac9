//! Memory is bounded, whatever input clients invent.

use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::detect::policy::Policy;
use editwar::detect::verdict::State;
use editwar::pipeline::table::Reclaimable;
use editwar::pipeline::{Bounds, Pipeline};
use editwar::query::reporter::Reporter;
use editwar::query::views::{Filter, Report};

use crate::util;

const LIMIT: usize = 8 << 20;

fn event(id: usize, at: i64, name: &str, user: &str, agent: &str, data: &str) -> String {
    let time = format!("{:.6}", jiff::Timestamp::from_microsecond(1_795_400_000_000_000 + at).unwrap());
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"{id}","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/configmaps/{name}","verb":"patch","user":{{"username":"{user}"}},"sourceIPs":["10.0.0.1"],"userAgent":"{agent}","objectRef":{{"resource":"configmaps","namespace":"shop","name":"{name}","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":200}},"requestObject":{{"data":{data}}},"requestReceivedTimestamp":"{time}","stageTimestamp":"{time}"}}"#
    )
}

/// Ingests events, and checks the memory limit after every hundred.
fn flood(pipeline: &Pipeline, events: impl Iterator<Item = String>) {
    let events: Vec<String> = events.collect();
    for run in events.chunks(100) {
        let mut batch = pipeline.batch("", "test");
        for event in run {
            batch.ingest(&DecodedChunk::of(event.as_bytes(), false, Vec::new()), 0);
        }
        let bytes = pipeline.table().bytes();
        // A write may need some memory before the excess is released.
        assert!(bytes <= LIMIT + (1 << 20), "{bytes} bytes are kept");
    }
}

fn is_right_about_an_honest_war(pipeline: &Pipeline, at: i64) {
    let one = |n: usize| {
        let (user, value) = if n.is_multiple_of(2) { ("alice", "a") } else { ("bob", "b") };
        event(n, at + n as i64 * 10_000_000, "honest", user, "kubectl/1", &format!(r#"{{"v":"{value}"}}"#))
    };
    flood(pipeline, (0..40).map(one));
    let report = util::report(pipeline);
    let war = report.wars.iter().find(|war| war.object.name == "honest").expect("it is found");
    assert_eq!((war.retakes, war.state), (38, State::Sustained));
}

fn pipeline() -> Pipeline {
    Pipeline::new(Policy::default(), Bounds { bytes_max: LIMIT, body_bytes_max: LIMIT / 4, ..Bounds::default() })
}

#[test]
fn contested_objects_with_large_bodies_stay_within_the_limit() {
    let pipeline = pipeline();
    let body = |n: usize| format!(r#"{{"v":"{}","x":"{}","y{n}":"{n}"}}"#, n % 2, "x".repeat(4 << 10));
    let write = |n: usize| {
        let (object, user) = (n % 200, if (n / 200).is_multiple_of(2) { "alice" } else { "bob" });
        event(n, n as i64 * 100_000, &format!("o{object}"), user, "kubectl/1", &body(n / 200))
    };
    flood(&pipeline, (0..6_000).map(write));
    assert!(pipeline.table().reclaimed().any(|(reclaimable, times)| reclaimable == Reclaimable::Bodies && times > 0));
    is_right_about_an_honest_war(&pipeline, 600_000_000);
}

#[test]
fn any_number_of_small_wars_stays_within_the_limit() {
    let pipeline = pipeline();
    let name = "n".repeat(240);
    let write = |n: usize| {
        let user = if n.is_multiple_of(2) { "alice" } else { "bob" };
        event(n, n as i64 * 1_000, &format!("{name}{}", n / 6), user, "kubectl/1", &format!(r#"{{"v":"{}"}}"#, n % 2))
    };
    flood(&pipeline, (0..20_000).map(write));
    assert!(pipeline.table().reclaimed().any(|(reclaimable, times)| reclaimable == Reclaimable::Objects && times > 0));
    is_right_about_an_honest_war(&pipeline, 30_000_000);
}

#[test]
fn any_number_of_user_agents_stays_within_the_limit() {
    let pipeline = pipeline();
    let agent = "a".repeat(300);
    let write = |n: usize| {
        let data = format!(r#"{{"v":"{}"}}"#, n % 7);
        event(n, n as i64 * 1_000, &format!("o{}", n % 500), "mallory", &format!("{n}{agent}/1"), &data)
    };
    flood(&pipeline, (0..40_000).map(write));
    is_right_about_an_honest_war(&pipeline, 50_000_000);
}

#[test]
fn a_limited_report_has_the_most_urgent_wars_and_counts_the_rest() {
    let pipeline = pipeline();
    let write = |n: usize| {
        let (object, round) = (n % 20, n / 20);
        let user = if round.is_multiple_of(2) { "alice" } else { "bob" };
        let data = format!(r#"{{"v":"{}"}}"#, round % 2);
        event(n, n as i64 * 100_000, &format!("o{object}"), user, "kubectl/1", &data)
    };
    flood(&pipeline, (0..240).map(write));
    is_right_about_an_honest_war(&pipeline, 100_000_000);
    let report = |limit, bytes_max| {
        let filter = Filter { limit, bytes_max, ..Filter::default() };
        let classes = Policy::default().classes;
        Reporter::new(&pipeline, &classes).report(&filter)
    };
    let names = |report: &Report| report.wars.iter().map(|war| war.object.name.clone()).collect::<Vec<_>>();
    let whole = report(None, None);
    assert_eq!((whole.wars.len(), whole.omitted), (21, 0));
    assert_eq!(report(Some(21), None), whole);
    let short = report(Some(3), None);
    assert_eq!((short.wars.len(), short.omitted), (3, 18));
    assert_eq!(names(&short)[0], "honest", "it has the most retakes");
    // Three wars are more than 4,000 bytes. The report ends with the first war that exceeds the limit.
    let small = report(None, Some(4_000));
    let bytes = serde_json::to_string(&small.wars).unwrap().len();
    assert!((1..=3).contains(&small.wars.len()) && bytes < 10_000, "{} wars, {bytes} bytes", small.wars.len());
    assert_eq!((names(&small)[0].as_str(), small.omitted), ("honest", 21 - small.wars.len()));
}

#[test]
fn objects_with_a_single_writer_do_not_grow() {
    let pipeline = pipeline();
    // A single writer per object and a write every minute for a month: only the fact that it wrote is retained.
    let write = |n: usize| {
        let minute = (n as i64 - 40_000) * 60_000_000;
        event(n, minute, &format!("o{}", n % 20), "kubelet", "kubelet/1", "{}")
            .replace(r#","requestObject":{"data":{}}"#, "")
    };
    flood(&pipeline, (0..8_000).map(write));
    let early = pipeline.table().bytes();
    flood(&pipeline, (8_000..40_000).map(write));
    let late = pipeline.table().bytes();
    assert!(late <= early + early / 10, "{early} bytes were counted, and then {late}");
    assert!(pipeline.table().reclaimed().all(|(_, times)| times == 0), "nothing had to be given up");
}
