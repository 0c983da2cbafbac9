//! Who creates and who deletes an object, and when that is a fight.

use serde_json::{Value, json};

use super::*;
use crate::detect::policy::Limits;
use crate::detect::tests::{SECOND, START, Server, Watcher};

const CONTROLLER: &str = "system:serviceaccount:kube-system:replicaset-controller";
const TTL: &str = "system:serviceaccount:kube-system:ttl-after-finished-controller";
const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";
const PODS: (&str, &str, &str) = ("", "pods", "Pod");
const JOBS: (&str, &str, &str) = ("batch", "jobs", "Job");

/// One creates and another one deletes, alternately, every 10 seconds; `content` is what is created each time.
fn turns(
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
    watcher.findings().cooperations().iter().map(|c| (c.name.to_string(), c.tally.retakes)).collect()
}

#[test]
fn delete_and_create_by_different_actors_alternately_is_a_war_over_the_object() {
    let watcher = turns(("", "configmaps", "ConfigMap"), "alice", "bob", same);
    // Creation at 0, deletion at 10; from the second creation on each takes something back.
    assert_eq!(watcher.wars(), ["Object alice,bob 4 confirmed"]);
    let findings = watcher.findings();
    assert_eq!((findings.existence_retakes(), findings.deleted_at()), (4, Some(START + 50 * SECOND)));
    let counts: Vec<_> =
        findings.existence().iter().map(|(who, effect, count)| (&*who.actor, *effect, *count)).collect();
    assert_eq!(counts, [("alice", Effect::Create, 3), ("bob", Effect::Delete, 3)]);
}

#[test]
fn an_object_that_was_created_again_is_not_deleted() {
    let mut server = Server::new("RequestResponse");
    let mut watcher =
        Watcher::of(&[server.create(0, "alice", same(0)), server.patch(5, "bob", json!({"spec": {"a": 2}}))]);
    assert_eq!(watcher.findings().deleted_at(), None);
    watcher.see(&server.delete(10, "bob"));
    assert_eq!(watcher.findings().deleted_at(), Some(START + 10 * SECOND));
    watcher.see(&server.delete(12, "gc"));
    assert_eq!(watcher.findings().deleted_at(), Some(START + 10 * SECOND), "who deletes it once more only finishes it");
    watcher.see(&server.create(20, "alice", same(0)));
    assert_eq!(watcher.findings().deleted_at(), None);
    assert_eq!(watcher.findings().existence_retakes(), 1, "alice's: she had created it, and bob deleted it");
}

#[test]
fn one_actor_that_replaces_an_object_fights_nobody() {
    let watcher = turns(("", "configmaps", "ConfigMap"), "alice", "alice", same);
    assert!(watcher.wars().is_empty());
}

#[test]
fn what_lies_further_back_than_the_window_is_not_taken_back() {
    let window = Limits::default().window() / SECOND;
    let retakes = |second: i64| {
        let mut server = Server::new("RequestResponse");
        let events = [
            server.create(0, "alice", same(0)),
            server.patch(1, "bob", json!({"spec": {"a": 2}})),
            server.delete(second - 60, "bob"),
            server.create(second, "alice", same(0)),
        ];
        Watcher::of(&events).findings().existence_retakes()
    };
    assert_eq!((retakes(window), retakes(window + 1)), (1, 0));
}

#[test]
fn what_follows_its_deleted_owner_fights_nobody() {
    let collector = "system:serviceaccount:kube-system:generic-garbage-collector";
    assert!(turns(("", "configmaps", "ConfigMap"), "alice", collector, same).wars().is_empty());
    assert!(turns(("", "configmaps", "ConfigMap"), "alice", "generic-garbage-collector", same).wars().is_empty());
    let named_alike = turns(("", "configmaps", "ConfigMap"), "alice", "my-generic-garbage-collector", same);
    assert_eq!(named_alike.findings().existence_retakes(), 4);
}

#[test]
fn a_pod_is_deleted_to_be_made_anew_by_its_controller() {
    let restarts = turns(PODS, CONTROLLER, "alice", same);
    assert!(restarts.wars().is_empty(), "{:?}", restarts.wars());
    assert_eq!(cooperations(&restarts), [("pod-restart".to_owned(), 4)]);
    let by_hand = turns(PODS, "bob", "alice", same);
    assert_eq!(by_hand.findings().existence_retakes(), 4, "no controller makes it anew");
    let config = turns(("", "configmaps", "ConfigMap"), CONTROLLER, "alice", same);
    assert_eq!(config.findings().existence_retakes(), 4, "no Pod");
}

#[test]
fn a_finished_job_makes_room_for_the_next_one() {
    let next = |turn: i64| json!({"spec": {"a": turn}});
    for (who, watcher) in [
        ("a pipeline, the same job", turns(JOBS, "ci-runner", TTL, same)),
        ("a GitOps tool, another job", turns(JOBS, FLUX, TTL, next)),
    ] {
        assert_eq!(cooperations(&watcher), [("finished-job".to_owned(), 4)], "{who}");
        assert!(watcher.wars().is_empty(), "{who}");
    }
    let insists = turns(JOBS, FLUX, TTL, same);
    assert!(insists.findings().existence_retakes() > 0, "a GitOps tool that brings the same job back");
    let by_hand = turns(JOBS, "ci-runner", "alice", same);
    assert_eq!(by_hand.findings().existence_retakes(), 4, "no controller removes it");
    let no_job = turns(("", "configmaps", "ConfigMap"), "ci-runner", TTL, same);
    assert_eq!(no_job.findings().existence_retakes(), 4);
    let in_tree = turns(JOBS, "system:serviceaccount:kube-system:cronjob-controller", TTL, next);
    assert_eq!(in_tree.findings().existence_retakes(), 4, "a controller of Kubernetes names its jobs anew");
}

#[test]
fn who_creates_and_deletes_is_bounded() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::new();
    for turn in 0..AUTHORS_MAX as i64 + 4 {
        watcher.see(&server.create(turn * 2, &format!("creator-{turn}"), same(0)));
        watcher.see(&server.delete(turn * 2 + 1, "alice"));
    }
    assert_eq!(watcher.findings().existence().len(), AUTHORS_MAX);
    assert!(watcher.findings().existence().iter().any(|(who, _, count)| &*who.actor == "alice" && *count > 10));
}

#[test]
fn as_many_are_remembered_as_are_followed() {
    let limits = Limits::default();
    let on = ObjectLimits { limits: &limits, group: "", resource: "configmaps" };
    let takes_back = |others: usize| {
        let mut existence = Existence::default();
        let mut step = |turn: usize, who: &str| {
            let client = Arc::new(Client::named(who));
            let author = Author { client, at: START + turn as i64 * SECOND, seq: turn as u32 };
            let effect = if turn.is_multiple_of(2) { Effect::Create } else { Effect::Delete };
            let event = Event { effect, author: &author, tier: Tier::Object, content: None };
            matches!(existence.step(&event, &on), Step::Retake(_))
        };
        step(0, "alice");
        assert!((1..=others).all(|turn| !step(turn, &format!("other-{turn}"))), "everybody comes once");
        step(others + 1, "alice")
    };
    assert!(takes_back(AUTHORS_MAX - 1));
    assert!(!takes_back(AUTHORS_MAX), "one too many");
}
