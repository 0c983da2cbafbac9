//! What is detected if only the written part is known.

use serde_json::{Value, json};

use crate::detect::policy::Limits;
use crate::detect::tests::{SECOND, Server, Watcher};

const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";
const DEPLOYMENTS: (&str, &str, &str) = ("apps", "deployments", "Deployment");
const BOOKS: &str = "system:serviceaccount:kube-system:deployment-controller";

/// carol creates the object. Then each actor in turn, every 10 seconds, writes a new value. Returns the wars.
fn written(of: (&'static str, &'static str, &'static str), who: &[&str]) -> Vec<String> {
    let mut server = Server { of, ..Server::new("Metadata") };
    let mut watcher = Watcher::of(&[server.create(0, "carol", json!({}))]);
    for (turn, who) in who.iter().enumerate() {
        watcher.see(&server.patch(10 * (turn as i64 + 1), who, json!({"spec": {"turn": turn}})));
    }
    watcher.wars()
}

#[test]
fn a_write_after_another_actors_write_can_be_a_retake() {
    assert_eq!(written(DEPLOYMENTS, &["alice", "bob"]), [""; 0]);
    assert_eq!(written(DEPLOYMENTS, &["alice", "bob", "alice"]), ["Part(Main) alice,bob 1 possible"]);
    assert_eq!(written(DEPLOYMENTS, &["alice", "bob", "bob", "alice"]), ["Part(Main) alice,bob 1 possible"]);
    assert_eq!(
        written(DEPLOYMENTS, &["alice", "alice", "bob", "dave"]),
        [""; 0],
        "nobody writes again after another actor"
    );
    assert_eq!(
        written(DEPLOYMENTS, &["alice", "bob", "dave", "alice"]),
        ["Part(Main) alice,dave 1 possible"],
        "the opponent is the last writer"
    );
}

#[test]
fn a_bookkeeper_is_not_a_party() {
    assert_eq!(written(DEPLOYMENTS, &["alice", BOOKS, "alice", BOOKS, "alice"]), [""; 0]);
    assert_eq!(written(DEPLOYMENTS, &["alice", "bob", BOOKS, "alice"]), ["Part(Main) alice,bob 1 possible"]);
    let elsewhere = written(("", "configmaps", "ConfigMap"), &["alice", BOOKS, "alice"]);
    assert_eq!(elsewhere.len(), 1, "it has no bookkeeping fields in a ConfigMap");
    let other = "system:serviceaccount:shop:my-deployment-controller";
    assert_eq!(
        written(DEPLOYMENTS, &["alice", other, "alice"]).len(),
        1,
        "the name is not exactly that of the bookkeeper"
    );
    assert_eq!(written(DEPLOYMENTS, &["alice", "deployment-controller", "alice"]), [""; 0]);
}

#[test]
fn a_gitops_tool_that_writes_repeatedly_may_be_two_applications() {
    let config = ("", "configmaps", "ConfigMap");
    assert!(written(config, &[FLUX; 3]).is_empty(), "a few writes are routine");
    let many = written(config, &[FLUX; 6]);
    assert_eq!(many.len(), 1);
    assert!(many[0].starts_with(&format!("Part(Main) {FLUX} ")), "{many:?}");
    assert!(written(config, &["alice"; 6]).is_empty(), "a person");
    for of in [
        ("kustomize.toolkit.fluxcd.io", "kustomizations", "Kustomization"),
        ("coordination.k8s.io", "leases", "Lease"),
        ("", "events", "Event"),
        ("events.k8s.io", "events", "Event"),
    ] {
        assert!(written(of, &[FLUX; 6]).is_empty(), "{of:?}: an object of the tool itself");
    }
}

#[test]
fn a_known_cooperation_over_the_part_is_not_a_retake() {
    let lease = ("coordination.k8s.io", "leases", "Lease");
    assert_eq!(written(lease, &["a", "b", "a", "b"]), [""; 0]);
}

#[test]
fn a_new_object_of_the_same_name_has_no_writers_yet() {
    let mut server = Server::new("Metadata");
    let patch = |turn: i64| json!({"data": {"turn": turn.to_string()}});
    let mut events = vec![
        server.create(0, "carol", json!({})),
        server.patch(10, "alice", patch(1)),
        server.patch(20, "bob", patch(2)),
    ];
    events.extend([
        server.delete(30, "carol"),
        server.create(40, "carol", json!({})),
        server.patch(50, "alice", patch(3)),
    ]);
    assert_eq!(Watcher::of(&events).wars(), [""; 0]);
    events.extend([server.patch(60, "bob", patch(4)), server.patch(70, "alice", patch(5))]);
    assert_eq!(Watcher::of(&events).wars(), ["Part(Main) alice,bob 1 possible"]);
}

#[test]
fn a_write_before_the_window_does_not_make_a_retake() {
    let window = Limits::default().window() / SECOND;
    let wars = |second: i64| {
        let mut server = Server::new("Metadata");
        let patch = |turn: i64| json!({"data": {"turn": turn.to_string()}});
        let events: Vec<Value> = vec![
            server.create(0, "carol", json!({})),
            server.patch(100, "alice", patch(1)),
            server.patch(100 + second - 60, "bob", patch(2)),
            server.patch(100 + second, "alice", patch(3)),
        ];
        Watcher::of(&events).wars().len()
    };
    assert_eq!((wars(window), wars(window + 1)), (1, 0));
}

#[test]
fn parts_are_not_retaken_if_all_fields_are_known() {
    let mut server = Server::new("Request");
    let mut watcher = Watcher::of(&[server.create(0, "carol", json!({}))]);
    for (turn, who) in ["alice", "bob", "alice", "bob"].iter().enumerate() {
        // Each writes its own field.
        watcher.see(&server.patch(10 * (turn as i64 + 1), who, json!({"data": {*who: turn.to_string()}})));
    }
    assert_eq!(watcher.wars(), [""; 0]);
    server.level = "Metadata";
    watcher.see(&server.patch(60, "alice", json!({"data": {"x": "y"}})));
    assert_eq!(watcher.wars(), ["Part(Main) alice,bob 1 possible"], "this write may have changed any field");
    server.level = "Request";
    watcher.see(&server.patch(70, "bob", json!({"data": {"bob": "again"}})));
    assert_eq!(watcher.wars(), ["Part(Main) alice,bob 2 possible"], "the write in between may have changed any field");
    watcher.see(&server.patch(80, "alice", json!({"data": {"alice": "again"}})));
    watcher.see(&server.patch(90, "bob", json!({"data": {"bob": "once more"}})));
    assert_eq!(
        watcher.wars(),
        ["Part(Main) alice,bob 3 possible"],
        "alice's previous write may have changed any field, but no write since bob's previous one"
    );
}

#[test]
fn the_status_is_a_separate_part() {
    let mut server = Server { of: DEPLOYMENTS, ..Server::new("Metadata") };
    let mut watcher = Watcher::of(&[server.create(0, "carol", json!({}))]);
    for (turn, who) in ["alice", "bob", "alice"].iter().enumerate() {
        let mut event = server.patch(10 * (turn as i64 + 1), who, json!({"spec": {"turn": turn}}));
        if *who == "bob" {
            event["objectRef"]["subresource"] = "status".into();
        }
        watcher.see(&event);
    }
    assert_eq!(watcher.wars(), [""; 0]);
}

#[test]
fn a_gitops_tool_retakes_from_its_third_consecutive_write() {
    let party = format!("Part(Main) {FLUX} 4 possible");
    assert_eq!(written(DEPLOYMENTS, &[FLUX; 6]), [party]);
}

/// Each of these clients in turn, every 10 seconds, writes a new value as a field manager. A watch shows that it changed
/// only fields that its manager owned before, except for the write of the last client.
fn watched(who: &[(&str, &str)], is_last_own: bool) -> Vec<String> {
    let mut server = Server { of: DEPLOYMENTS, ..Server::new("Metadata") };
    let mut watcher = Watcher::of(&[server.create(0, "carol", json!({}))]);
    for (turn, (who, manager)) in who.iter().enumerate() {
        let mut event = server.patch(10 * (turn as i64 + 1), who, json!({"spec": {"turn": turn}}));
        let manager = format!("{manager} (Update)");
        event["annotations"] = json!({"watch.editwar.dev/operation": "Update", "watch.editwar.dev/joined": manager});
        if is_last_own || turn + 1 < who.len() {
            event["annotations"]["watch.editwar.dev/own"] = "true".into();
        }
        watcher.see(&event);
    }
    watcher.wars()
}

#[test]
fn writes_that_keep_to_the_fields_of_their_managers_contest_only_those_of_the_same_manager() {
    let apart = [("alice", "tool-a"), ("bob", "tool-b")].repeat(4);
    assert_eq!(watched(&apart, true), [""; 0]);
    assert_eq!(watched(&apart, false).len(), 1, "it may have changed a field of the other one");
    let together = [("alice", "kubectl-edit"), ("bob", "kubectl-edit")].repeat(4);
    assert_eq!(watched(&together, true).len(), 1);
    let third = [("alice", "kubectl-edit"), ("bob", "kubectl-edit"), ("dave", "tool-d")].repeat(2);
    assert_eq!(watched(&third, true), ["Part(Main) alice,bob 2 possible"]);
}
