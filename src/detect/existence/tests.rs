//! Which creations and deletions of an object are a war.

use serde_json::{Value, json};

use super::*;
use crate::detect::policy::Limits;
use crate::detect::tests::{SECOND, START, Server, Watcher};

const CONTROLLER: &str = "system:serviceaccount:kube-system:replicaset-controller";
const TTL: &str = "system:serviceaccount:kube-system:ttl-after-finished-controller";
const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";
const PODS: (&str, &str, &str) = ("", "pods", "Pod");
const JOBS: (&str, &str, &str) = ("batch", "jobs", "Job");

/// One actor creates and another one deletes the object alternately, every 10 seconds. `content` returns the object for
/// each round.
fn alternations(
    of: (&'static str, &'static str, &'static str),
    creator: &str,
    deleter: &str,
    content: impl Fn(i64) -> Value,
) -> Watcher {
    let mut server = Server { of, ..Server::new("RequestResponse") };
    let mut watcher = Watcher::new();
    for turn in 0..3 {
        watcher.see(&server.create(turn * 20, creator, content(turn)));
        watcher.see(&server.delete(turn * 20 + 10, deleter));
    }
    watcher
}

fn same(_: i64) -> Value {
    json!({"spec": {"a": 1}})
}

fn cooperations(watcher: &Watcher) -> Vec<(String, u32)> {
    watcher.analysis().cooperations().iter().map(|c| (c.name.to_string(), c.tally.retakes)).collect()
}

#[test]
fn alternating_deletion_and_creation_by_two_actors_is_a_war_over_the_object() {
    let watcher = alternations(("", "configmaps", "ConfigMap"), "alice", "bob", same);
    // The first creation and the first deletion are not retakes; all later ones are.
    assert_eq!(watcher.wars(), ["Object alice,bob 4 confirmed"]);
    let analysis = watcher.analysis();
    assert_eq!((analysis.existence_retakes(), analysis.deleted_at()), (4, Some(START + 50 * SECOND)));
    let counts: Vec<_> =
        analysis.existence().iter().map(|(who, effect, count)| (&*who.actor, *effect, *count)).collect();
    assert_eq!(counts, [("alice", Effect::Create, 3), ("bob", Effect::Delete, 3)]);
}

#[test]
fn an_object_that_was_created_again_is_not_deleted() {
    let mut server = Server::new("RequestResponse");
    let mut watcher =
        Watcher::of(&[server.create(0, "alice", same(0)), server.patch(5, "bob", json!({"spec": {"a": 2}}))]);
    assert_eq!(watcher.analysis().deleted_at(), None);
    watcher.see(&server.delete(10, "bob"));
    assert_eq!(watcher.analysis().deleted_at(), Some(START + 10 * SECOND));
    watcher.see(&server.delete(12, "gc"));
    assert_eq!(
        watcher.analysis().deleted_at(),
        Some(START + 10 * SECOND),
        "a second deletion only completes the first"
    );
    watcher.see(&server.create(20, "alice", same(0)));
    assert_eq!(watcher.analysis().deleted_at(), None);
    assert_eq!(watcher.analysis().existence_retakes(), 1, "by alice, who had created the object before");
}

#[test]
fn one_actor_that_replaces_an_object_is_not_in_a_war() {
    let watcher = alternations(("", "configmaps", "ConfigMap"), "alice", "alice", same);
    assert!(watcher.wars().is_empty());
}

#[test]
fn a_write_after_the_window_is_not_a_retake() {
    let window = Limits::default().window() / SECOND;
    let retakes = |second: i64| {
        let mut server = Server::new("RequestResponse");
        let events = [
            server.create(0, "alice", same(0)),
            server.patch(1, "bob", json!({"spec": {"a": 2}})),
            server.delete(second - 60, "bob"),
            server.create(second, "alice", same(0)),
        ];
        Watcher::of(&events).analysis().existence_retakes()
    };
    assert_eq!((retakes(window), retakes(window + 1)), (1, 0));
}

#[test]
fn garbage_collection_is_not_a_retake() {
    let collector = "system:serviceaccount:kube-system:generic-garbage-collector";
    assert!(alternations(("", "configmaps", "ConfigMap"), "alice", collector, same).wars().is_empty());
    assert!(
        alternations(("", "configmaps", "ConfigMap"), "alice", "generic-garbage-collector", same).wars().is_empty()
    );
    let named_alike = alternations(("", "configmaps", "ConfigMap"), "alice", "my-generic-garbage-collector", same);
    assert_eq!(named_alike.analysis().existence_retakes(), 4);
}

#[test]
fn deleting_a_pod_of_a_controller_is_a_restart() {
    let restarts = alternations(PODS, CONTROLLER, "alice", same);
    assert!(restarts.wars().is_empty(), "{:?}", restarts.wars());
    assert_eq!(cooperations(&restarts), [("pod-restart".to_owned(), 4)]);
    let by_hand = alternations(PODS, "bob", "alice", same);
    assert_eq!(by_hand.analysis().existence_retakes(), 4, "no controller recreates it");
    let config = alternations(("", "configmaps", "ConfigMap"), CONTROLLER, "alice", same);
    assert_eq!(config.analysis().existence_retakes(), 4, "not a Pod");
}

#[test]
fn replacing_a_finished_job_is_a_cooperation() {
    let next = |turn: i64| json!({"spec": {"a": turn}});
    for (who, watcher) in [
        ("a pipeline, the same job", alternations(JOBS, "ci-runner", TTL, same)),
        ("a GitOps tool, another job", alternations(JOBS, FLUX, TTL, next)),
    ] {
        assert_eq!(cooperations(&watcher), [("finished-job".to_owned(), 4)], "{who}");
        assert!(watcher.wars().is_empty(), "{who}");
    }
    let insists = alternations(JOBS, FLUX, TTL, same);
    assert!(insists.analysis().existence_retakes() > 0, "a GitOps tool that recreates the same job");
    let by_hand = alternations(JOBS, "ci-runner", "alice", same);
    assert_eq!(by_hand.analysis().existence_retakes(), 4, "no controller removes it");
    let no_job = alternations(("", "configmaps", "ConfigMap"), "ci-runner", TTL, same);
    assert_eq!(no_job.analysis().existence_retakes(), 4);
    let in_tree = alternations(JOBS, "system:serviceaccount:kube-system:cronjob-controller", TTL, next);
    assert_eq!(in_tree.analysis().existence_retakes(), 4, "in-tree controllers give each job a new name");
}

#[test]
fn creators_and_deleters_are_bounded() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::new();
    for turn in 0..AUTHORS_MAX as i64 + 4 {
        watcher.see(&server.create(turn * 2, &format!("creator-{turn}"), same(0)));
        watcher.see(&server.delete(turn * 2 + 1, "alice"));
    }
    assert_eq!(watcher.analysis().existence().len(), AUTHORS_MAX);
    assert!(watcher.analysis().existence().iter().any(|(who, _, count)| &*who.actor == "alice" && *count > 10));
}

#[test]
fn all_tracked_actors_are_remembered() {
    let limits = Limits::default();
    let on = ObjectLimits { limits: &limits, group: "", resource: "configmaps" };
    let takes_back = |others: usize| {
        let mut existence = Existence::default();
        let mut step = |turn: usize, who: &str| {
            let client = Arc::new(Client::named(who));
            let author = Author { client, at: START + turn as i64 * SECOND, seq: turn as u32 };
            let effect = if turn.is_multiple_of(2) { Effect::Create } else { Effect::Delete };
            let event = ExistenceEvent { effect, author: &author, level: EvidenceLevel::Object, content: None };
            matches!(existence.step(&event, &on), Step::Retake(_))
        };
        step(0, "alice");
        assert!((1..=others).all(|turn| !step(turn, &format!("other-{turn}"))), "each writes once");
        step(others + 1, "alice")
    };
    assert!(takes_back(AUTHORS_MAX - 1));
    assert!(!takes_back(AUTHORS_MAX), "beyond the maximum");
}
