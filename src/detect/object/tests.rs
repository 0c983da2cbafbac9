//! One object, from its first write to a war over it.

use serde_json::{Value, json};

use super::incoming::evidence_level_of;
use super::*;
use crate::audit::event::Verb;
use crate::detect::fields::EvidenceLevel;
use crate::detect::record::Record;
use crate::detect::tests::{SECOND, START, Server, Watcher, attributed, state_change};
use crate::detect::write::Part;

const LEVELS: [&str; 3] = ["Metadata", "Request", "RequestResponse"];

fn mode(value: &str) -> Value {
    json!({"data": {"mode": value}})
}

/// carol creates the object. Then alice and bob set `data.mode` alternately, every ten seconds.
fn war(level: &'static str, writes: i64) -> Vec<Value> {
    let mut server = Server::new(level);
    let mut events = vec![server.create(0, "carol", mode("zero"))];
    for turn in 1..=writes {
        let (who, value) = if turn % 2 == 1 { ("alice", "a") } else { ("bob", "b") };
        events.push(server.patch(turn * 10, who, mode(value)));
    }
    events
}

#[test]
fn a_war_is_detected_at_every_level_with_the_confidence_of_that_level() {
    let seen = |level| {
        let watcher = Watcher::of(&war(level, 6));
        (watcher.contested(), watcher.wars())
    };
    assert_eq!(seen("RequestResponse"), (vec!["data.mode 4/4".into()], vec!["Fields alice,bob 4 confirmed".into()]));
    assert_eq!(seen("Request"), (vec!["data.mode 4/4".into()], vec!["Fields alice,bob 4 probable".into()]));
    assert_eq!(seen("Metadata"), (vec![], vec!["Part(Main) alice,bob 4 possible".into()]));
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    for level in LEVELS {
        let events = war(level, 4);
        let expected = Watcher::of(&events);
        let mut order: Vec<usize> = (0..events.len()).collect();
        // All orders of five events, by Heap's algorithm.
        let (mut count, mut i) = (vec![0; events.len()], 0);
        while i < events.len() {
            if count[i] < i {
                order.swap(if i % 2 == 0 { 0 } else { count[i] }, i);
                let watcher = Watcher::of(order.iter().map(|index| &events[*index]));
                assert_eq!(watcher.wars(), expected.wars(), "{level} {order:?}");
                assert_eq!(watcher.contested(), expected.contested(), "{level} {order:?}");
                count[i] += 1;
                i = 0;
            } else {
                count[i] = 0;
                i += 1;
            }
        }
    }
}

fn seconds(watcher: &Watcher) -> Vec<(String, Effect, Verb, i64)> {
    let show = |r: &Record| (r.client.actor.to_string(), r.effect, r.verb, (r.order.at - START) / SECOND);
    watcher.history().records().map(show).collect()
}

#[test]
fn a_history_begins_with_the_second_client_and_at_metadata_with_alternation() {
    let begins = |level: &'static str, who: &[&str]| {
        let mut server = Server::new(level);
        let mut watcher = Watcher::of(&[server.create(0, who[0], mode("zero"))]);
        for (turn, who) in who.iter().enumerate().skip(1) {
            watcher.see(&server.patch(turn as i64 * 10, who, mode(&turn.to_string())));
        }
        watcher.state.history().is_some()
    };
    for level in LEVELS {
        assert!(!begins(level, &["alice"; 5]), "{level}");
        assert!(begins(level, &["alice", "bob", "alice"]), "{level}");
        assert!(begins(level, &["alice", "bob", "bob", "alice"]), "{level}");
    }
    assert!(!begins("Metadata", &["alice", "alice", "bob", "bob"]));
    assert!(!begins("Metadata", &["alice", "bob", "carol"]));
    assert!(begins("Request", &["alice", "bob"]) && begins("RequestResponse", &["alice", "bob"]));
}

#[test]
fn finalized_writes_are_represented_by_the_first_and_the_last_one() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[
        server.create(0, "alice", mode("zero")),
        server.patch(60, "alice", mode("1")),
        server.update(120, "alice", mode("2")),
        server.patch(180, "alice", mode("3")),
    ]);
    assert!(watcher.state.can_be_finalized());
    watcher.state.finalize(START + 180 * SECOND + super::super::write_history::LATE_MAX);
    assert!(watcher.state.can_be_finalized(), "a late write may still arrive");
    watcher.state.finalize(START + 181 * SECOND + super::super::write_history::LATE_MAX);
    assert!(!watcher.state.can_be_finalized());
    watcher.see(&server.patch(600, "bob", mode("4")));
    watcher.see(&server.patch(700, "alice", mode("5")));
    let alice = |effect, verb, second| ("alice".to_owned(), effect, verb, second);
    let (create, modify) = (Effect::Create, Effect::Modify);
    let bob = ("bob".to_owned(), modify, Verb::Patch, 600);
    let expected =
        [alice(create, Verb::Create, 0), alice(modify, Verb::Patch, 180), bob, alice(modify, Verb::Patch, 700)];
    assert_eq!(seconds(&watcher), expected);
    assert_eq!(watcher.wars(), ["Part(Main) alice,bob 1 possible"]);
}

#[test]
fn a_finalized_deletion_is_remembered() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.delete(60, "bob")]);
    watcher.state.finalize(START + 1000 * SECOND);
    watcher.see(&server.create(1100, "alice", mode("zero")));
    let who: Vec<_> = seconds(&watcher).into_iter().map(|(who, effect, _, second)| (who, effect, second)).collect();
    let (alice, bob) = ("alice".to_owned(), "bob".to_owned());
    assert_eq!(who, [(alice.clone(), Effect::Create, 0), (bob, Effect::Delete, 60), (alice, Effect::Create, 1100)]);
}

#[test]
fn recreating_what_another_client_deleted_begins_a_history() {
    for level in LEVELS {
        let mut server = Server::new(level);
        let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.delete(10, "bob")]);
        assert!(watcher.state.history().is_none(), "{level}: one deletion");
        watcher.see(&server.create(20, "alice", mode("zero")));
        assert!(watcher.state.history().is_some(), "{level}");
    }
    // An actor that recreates what it deleted itself contests nothing.
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::new();
    for turn in 0..3 {
        watcher.see(&server.create(turn * 20, "alice", mode("zero")));
        watcher.see(&server.delete(turn * 20 + 10, "alice"));
    }
    assert!(watcher.state.history().is_none());
}

#[test]
fn the_state_returns_what_is_known_of_the_object() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero"))]);
    assert_eq!(watcher.state.kind().map(|kind| &**kind), Some("ConfigMap"));
    assert_eq!(watcher.state.base(), START - 600 * SECOND, "ten minutes for late events");
    let stored = |watcher: &Watcher| serde_json::from_slice::<Value>(watcher.state.body().unwrap()).unwrap();
    assert_eq!(stored(&watcher)["data"]["mode"], "zero");
    watcher.see(&server.update(10, "alice", mode("one")));
    assert_eq!(stored(&watcher)["data"]["mode"], "one", "the latest body");
    assert_eq!(watcher.state.last_at(), START + 10 * SECOND);
    assert!(watcher.state.failures().is_none());
    let mut stale = server.patch(30, "bob", mode("x"));
    stale["responseStatus"] = json!({"code": 409, "reason": "Conflict", "message": "the object has been modified"});
    watcher.see(&stale);
    assert_eq!(watcher.state.last_at(), START + 30 * SECOND, "failed requests count too");
    assert_eq!(watcher.state.failures().unwrap().actors().next().map(|(who, t)| (&**who, t.stale)), Some(("bob", 1)));
    assert_eq!(watcher.state.writers().len(), 1, "a request that was not stored does not count as a write");
    let mut failed = server.patch(40, "dave", mode("y"));
    failed["responseStatus"] = json!({"code": 403, "reason": "Forbidden", "message": "no"});
    watcher.see(&failed);
    assert_eq!(
        watcher.state.failures().unwrap().actors().count(),
        1,
        "a request that RBAC rejects is not counted as a failure"
    );
    let mut other = server.update(50, "alice", mode("two"));
    other["responseObject"]["kind"] = "Other".into();
    watcher.see(&other);
    assert_eq!(watcher.state.kind().map(|kind| &**kind), Some("Other"));
}

#[test]
fn an_observation_reports_the_body_bytes_that_it_adds() {
    for level in LEVELS {
        let mut watcher = Watcher::new();
        let mut bodies = 0;
        for event in war(level, 12) {
            bodies += watcher.see(&event).body_bytes;
            assert_eq!(bodies, watcher.state.body_bytes() as isize, "{level}");
        }
        watcher.state.drop_bodies();
        assert_eq!(watcher.state.body_bytes(), 0);
    }
    let alone = |level| Watcher::of(&war(level, 0)).state.body_bytes();
    assert_eq!(alone("Metadata"), 0);
    assert!(alone("Request") > 10 && alone("RequestResponse") > alone("Request"));
}

#[test]
fn clients_are_bounded_and_the_longest_silent_one_is_dropped_first() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero"))]);
    for turn in 1..WRITERS_MAX as i64 {
        watcher.see(&server.patch(turn, &format!("w{turn}"), mode(&turn.to_string())));
    }
    watcher.see(&server.patch(100, "carol", mode("again")));
    assert_eq!(watcher.state.writers().len(), WRITERS_MAX);
    watcher.see(&server.patch(101, "late", mode("late")));
    let names: Vec<&str> = watcher.state.writers().iter().map(|s| &*s.client.actor).collect();
    assert_eq!(names.len(), WRITERS_MAX);
    assert!(names.contains(&"carol") && names.contains(&"late") && !names.contains(&"w1") && names.contains(&"w2"));
}

#[test]
fn a_client_has_all_origins_it_writes_from() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&war("RequestResponse", 0));
    let mut from = |watcher: &mut Watcher, second: i64, who: &str, ip: &str| {
        if server.stored.is_none() {
            server.create(0, "carol", mode("zero"));
        }
        let mut event = server.patch(second, who, mode(&second.to_string()));
        event["sourceIPs"] = json!([ip]);
        watcher.see(&event);
    };
    for (second, ip) in [(10, "10.0.0.1"), (20, "10.0.0.2"), (30, "10.0.0.2"), (40, "10.0.0.1")] {
        from(&mut watcher, second, "alice", ip);
    }
    from(&mut watcher, 50, "bob", "10.0.0.9");
    let alice = watcher.state.writers().iter().find(|s| &*s.client.actor == "alice").unwrap().client.clone();
    let mut places: Vec<String> = watcher.state.origins(&alice).map(|o| o.source_ip.to_string()).collect();
    places.sort();
    places.dedup();
    assert_eq!(places, ["10.0.0.1", "10.0.0.2"]);
    for i in 0..2 * ORIGINS_MAX {
        from(&mut watcher, 100 + i as i64, "alice", &format!("10.1.0.{i}"));
    }
    assert!(watcher.state.origins(&alice).count() <= 1 + ORIGINS_MAX);
}

#[test]
fn writes_of_scheduler_and_kubelet_to_a_pod_begin_no_history() {
    let mut server = Server { of: ("", "pods", "Pod"), ..Server::new("Metadata") };
    let controller = "system:serviceaccount:kube-system:replicaset-controller";
    let mut watcher = Watcher::of(&[server.create(0, controller, json!({"spec": {"a": 1}}))]);
    for (turn, who, subresource) in [
        (1, "system:kube-scheduler", "binding"),
        (2, "system:node:n1", "status"),
        (3, "system:node:n1", "status"),
        (4, controller, ""),
    ] {
        let mut event = server.patch(turn * 10, who, json!({"spec": {"turn": turn}}));
        event["objectRef"]["subresource"] = subresource.into();
        if subresource == "binding" {
            event["verb"] = "create".into();
        }
        watcher.see(&event);
    }
    assert!(watcher.state.history().is_none());
}

#[test]
fn an_update_answered_with_the_replaced_revision_is_a_no_op() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero"))]);
    let observed = watcher.see(&server.update(10, "bob", mode("zero")));
    assert!(observed.is_no_op);
    assert!(!watcher.see(&server.update(20, "bob", mode("one"))).is_no_op);
    let seen = watcher.state.writers().iter().find(|s| &*s.client.actor == "bob").unwrap();
    assert_eq!((seen.writes(), seen.no_ops), (1, 1));
}

#[test]
fn a_write_with_unparsable_bodies_is_unreadable() {
    let mut server = Server::new("Request");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.patch(10, "bob", mode("b"))]);
    let mut deep = json!("x");
    for _ in 0..600 {
        deep = json!([deep]);
    }
    let mut event = server.patch(20, "alice", mode("a"));
    event["requestObject"] = json!({"data": deep});
    assert!(watcher.see(&event).is_unreadable);
    let mut none = server.patch(30, "alice", mode("c"));
    none.as_object_mut().unwrap().remove("requestObject");
    assert!(!watcher.see(&none).is_unreadable, "there is no body to read");
    assert!(!watcher.see(&server.patch(40, "bob", mode("d"))).is_unreadable);
    assert!(!watcher.see(&server.delete(50, "bob")).is_unreadable, "a deletion needs no body");
}

#[test]
fn an_unreadable_write_is_known_only_by_its_part() {
    let mut server = Server::new("Request");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero"))]);
    let mut deep = json!("x");
    for _ in 0..600 {
        deep = json!([deep]);
    }
    for (turn, who) in ["alice", "bob", "alice"].iter().enumerate() {
        let mut event = server.patch(10 * (turn as i64 + 1), who, mode(who));
        event["requestObject"] = json!({"data": deep});
        watcher.see(&event);
    }
    assert_eq!(watcher.wars(), ["Part(Main) alice,bob 1 possible"]);
}

#[test]
fn the_evidence_level_depends_on_the_audit_level_and_the_bodies() {
    let body = json!({"data": {"mode": "a"}});
    let level = |level: &'static str, verb: &str, request: Option<&Value>, response: Option<&Value>| {
        let mut event = Server::new(level).create(0, "alice", mode("zero"));
        event["verb"] = verb.into();
        let fields = event.as_object_mut().unwrap();
        for (key, value) in [("requestObject", request), ("responseObject", response)] {
            fields.remove(key);
            fields.extend(value.map(|value| (key.to_owned(), value.clone())));
        }
        attributed(&event, |write, _| evidence_level_of(write))
    };
    assert_eq!(level("RequestResponse", "patch", Some(&body), Some(&body)), EvidenceLevel::Value);
    assert_eq!(level("RequestResponse", "patch", Some(&body), None), EvidenceLevel::Field);
    assert_eq!(level("RequestResponse", "patch", None, None), EvidenceLevel::Object);
    assert_eq!(level("Request", "patch", Some(&body), None), EvidenceLevel::Field);
    assert_eq!(level("Request", "patch", None, None), EvidenceLevel::Object, "a change without a body");
    assert_eq!(level("Request", "delete", None, None), EvidenceLevel::Field, "a deletion may be sent without options");
    assert_eq!(level("Metadata", "delete", None, None), EvidenceLevel::Object);
    assert_eq!(
        level("Metadata", "patch", Some(&body), Some(&body)),
        EvidenceLevel::Object,
        "bodies are ignored at this level"
    );
}

#[test]
fn only_a_gitops_tool_without_bodies_may_be_two_applications() {
    const ARGO: &str = "system:serviceaccount:argocd:argocd-application-controller";
    let begins = |level: &'static str, who: &str, subresource: &str, writes: i64| {
        let mut server = Server::new(level);
        server.create(0, "carol", mode("zero"));
        let mut watcher = Watcher::new();
        for turn in 1..=writes {
            let mut event = server.patch(turn * 10, who, mode(&turn.to_string()));
            event["objectRef"]["subresource"] = subresource.into();
            watcher.see(&event);
        }
        watcher.state.history().is_some()
    };
    let repeats = i64::from(promotion::REPEATS_MIN);
    assert!(begins("Metadata", ARGO, "", repeats));
    assert!(!begins("Metadata", ARGO, "", repeats - 1), "not enough repetitions");
    assert!(!begins("Metadata", "alice", "", 2 * repeats), "not a GitOps tool");
    assert!(!begins("Metadata", ARGO, "status", 2 * repeats), "the status is not applied from a repository");
    assert!(!begins("Request", ARGO, "", 2 * repeats), "bodies tell the applications apart");
}

#[test]
fn writes_to_different_parts_begin_no_history() {
    for level in LEVELS {
        let mut server = Server { of: ("apps", "deployments", "Deployment"), ..Server::new(level) };
        let mut watcher = Watcher::of(&[server.create(0, "alice", json!({"spec": {"a": 0}}))]);
        for turn in 1..6 {
            let who = if turn % 2 == 1 { "bob" } else { "alice" };
            let mut event = server.patch(turn * 10, who, json!({"spec": {"a": turn}, "status": {"a": turn}}));
            event["objectRef"]["subresource"] = if who == "bob" { "status" } else { "" }.into();
            watcher.see(&event);
        }
        assert!(watcher.state.history().is_none(), "{level}");
    }
}

#[test]
fn the_first_creation_after_a_deletion_begins_no_history() {
    let mut server = Server::new("Metadata");
    server.create(0, "carol", mode("zero"));
    let watcher = Watcher::of(&[
        server.delete(10, "bob"),
        server.create(20, "alice", mode("zero")),
        server.patch(30, "alice", mode("one")),
    ]);
    assert!(watcher.state.history().is_none(), "the creator of the object is not known");
}

#[test]
fn a_no_op_leaves_no_record() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero")), server.patch(5, "bob", mode("b"))]);
    assert_eq!(watcher.history().records().count(), 2);
    assert!(watcher.see(&server.update(10, "alice", mode("b"))).is_no_op);
    assert_eq!(watcher.history().records().count(), 2);
    assert!(!watcher.see(&server.update(20, "alice", mode("a"))).is_no_op);
    assert_eq!(watcher.history().records().count(), 3);
}

#[test]
fn origins_are_kept_up_to_the_maximum() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero")), server.patch(1, "bob", mode("b"))]);
    for place in 0..2 * ORIGINS_MAX {
        let mut event = server.patch(10 + place as i64, "alice", mode(&place.to_string()));
        event["sourceIPs"] = json!([format!("10.0.0.{place}")]);
        watcher.see(&event);
    }
    let origins = watcher.state.optional.as_ref().unwrap().conflict.as_ref().unwrap().origins.len();
    assert_eq!(origins, ORIGINS_MAX);
}

#[test]
fn the_bytes_of_an_object_are_those_of_its_contents() {
    let own = size_of::<ObjectState>();
    assert_eq!(ObjectState::new(START).bytes(), own);
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.patch(10, "bob", mode("b"))]);
    let pending = |watcher: &Watcher| watcher.state.pending.as_ref().unwrap().bytes();
    assert_eq!(watcher.state.bytes(), own + pending(&watcher), "two writers are stored inline");
    watcher.see(&server.patch(20, "carol", mode("c")));
    // With the third writer, they move to the heap.
    let seen = 3 * size_of::<WriterStats>();
    assert_eq!(watcher.state.bytes(), own + seen + pending(&watcher));
    let mut stale = server.patch(25, "carol", mode("x"));
    stale["responseStatus"] = json!({"code": 409, "reason": "Conflict", "message": "the object has been modified"});
    watcher.see(&stale);
    let failures = watcher.state.failures().unwrap().bytes();
    assert!(failures > 0);
    assert_eq!(watcher.state.bytes(), own + seen + pending(&watcher) + size_of::<OptionalState>() + failures);
    // From here on, there are two origins and no pending writes.
    for (second, who) in [(30, "alice"), (40, "bob")] {
        watcher.see(&server.patch(second, who, mode(who)));
    }
    let conflict = watcher.state.optional.as_ref().unwrap().conflict.as_ref().unwrap();
    assert_eq!(conflict.origins.len(), 2);
    let history = conflict.history.bytes() + 2 * size_of::<(Arc<Client>, Origin)>();
    assert_eq!(watcher.state.bytes(), own + seen + size_of::<OptionalState>() + failures + history);
}

#[test]
fn conclusions_stay_when_the_records_are_dropped() {
    let mut watcher = Watcher::of(&war("RequestResponse", 6));
    let wars = watcher.wars();
    watcher.state.drop_history();
    assert_eq!(watcher.history().records().count(), 0);
    assert_eq!(watcher.wars(), wars);
}

#[test]
fn an_object_without_bodies_has_no_kind() {
    let mut watcher = Watcher::of(&war("Metadata", 1));
    assert_eq!(watcher.state.kind(), None);
    let mut server = Server::new("RequestResponse");
    watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.delete(10, "alice")]);
    assert_eq!(
        watcher.state.kind().map(|kind| &**kind),
        Some("ConfigMap"),
        "the response to a deletion does not contain it"
    );
}

#[test]
fn a_write_that_turns_out_to_be_a_no_op_is_discounted() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero"))]);
    // alice's write does not change the main part.
    assert!(watcher.see(&server.patch(10, "alice", mode("zero"))).is_no_op);
    let status = |server: &mut Server, second: i64, who: &str| {
        let mut event = server.patch(second, who, json!({"status": {"phase": "ready"}}));
        event["objectRef"]["subresource"] = "status".into();
        event
    };
    let (bob, alice) = (status(&mut server, 20, "bob"), status(&mut server, 21, "alice"));
    let counts = |watcher: &Watcher| {
        let of_alice = watcher.state.writers().iter().filter(|s| &*s.client.actor == "alice");
        of_alice.map(|s| (s.part, s.writes(), s.no_ops)).collect::<Vec<_>>()
    };
    watcher.see(&alice);
    assert_eq!(counts(&watcher), [(Part::Main, 0, 1), (Part::Status, 1, 0)]);
    watcher.see(&bob);
    assert_eq!(counts(&watcher), [(Part::Main, 0, 1), (Part::Status, 0, 1)], "bob's status write stored the revision");
}

#[test]
fn a_deletion_certainly_stored_its_revision() {
    let mut server = Server::new("RequestResponse");
    let watcher = Watcher::of(&[
        server.create(0, "alice", mode("zero")),
        server.delete(10, "bob"),
        server.create(20, "alice", mode("zero")),
        server.delete(30, "bob"),
    ]);
    let war = watcher.analysis().wars().next().unwrap();
    assert_eq!((war.scope, war.tally.retakes, war.tally.reversals), (crate::detect::war::Scope::Object, 2, 2));
    assert!(watcher.history().records().all(|record| record.level == EvidenceLevel::Value));
}

#[test]
fn a_no_op_has_no_revision_of_its_own() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero")), server.patch(5, "bob", mode("b"))]);
    let operations = json!([{"op": "replace", "path": "/data/mode", "value": "b"}]);
    let observed = watcher.see(&server.patch_through(10, "alice", mode("a"), ("policy", operations)));
    assert!(observed.is_no_op);
    let last = watcher.history().records().last().unwrap();
    assert_eq!((&*last.client.actor, last.is_no_op, last.order.revision), ("alice", true, 0));
}

#[test]
fn of_two_writes_with_one_revision_the_one_whose_part_changed_stored_it() {
    let is_no_op = |changed: bool| {
        let mut server = Server { of: ("apps", "deployments", "Deployment"), ..Server::new("RequestResponse") };
        let mut watcher = Watcher::of(&[
            server.create(0, "carol", json!({"spec": {"a": 0}})),
            server.patch(5, "bob", json!({"spec": {"a": 1}})),
        ]);
        let before = server.clone();
        let mut status = server.patch(20, "system:node:n1", json!({"status": {"a": 1}}));
        status["objectRef"]["subresource"] = "status".into();
        if !changed {
            // The write has a new revision, but did not change the status.
            let mut other = before.clone();
            status = other.patch(20, "system:node:n1", json!({"spec": {"a": 2}}));
            status["objectRef"]["subresource"] = "status".into();
            server = other;
        }
        watcher.see(&status);
        // This write was answered with the same revision, by an API server whose clock is a second behind.
        let observed =
            watcher.see(&server.patch(19, "alice", json!({"spec": server.stored.as_ref().unwrap()["spec"]})));
        observed.is_no_op
    };
    assert!(is_no_op(true), "the status write changed the status, so it stored the revision");
    assert!(!is_no_op(false), "the status write did not change the status, so alice stored the revision");
}

#[test]
fn missing_bodies_at_metadata_are_not_unreadable() {
    let mut server = Server::new("Request");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.patch(10, "bob", mode("b"))]);
    let mut event = server.patch(20, "alice", mode("a"));
    event["level"] = "Metadata".into();
    event["requestObject"] = json!((0..600).fold(json!("x"), |deep, _| json!([deep])));
    assert!(!watcher.see(&event).is_unreadable);
}

#[test]
fn recreating_an_object_is_not_a_retake_from_later_writers() {
    let mut server = Server::new("Metadata");
    let watcher = Watcher::of(&[
        server.create(0, "carol", mode("zero")),
        server.delete(10, "carol"),
        server.create(20, "carol", mode("zero")),
        server.patch(30, "bob", mode("b")),
    ]);
    assert!(watcher.state.history().is_none());
}

#[test]
fn writes_to_the_other_part_do_not_alternate() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.patch(10, "bob", mode("b"))]);
    let mut status = server.patch(20, "alice", json!({"status": {"a": 1}}));
    status["objectRef"]["subresource"] = "status".into();
    watcher.see(&status);
    watcher.see(&server.patch(30, "bob", mode("c")));
    assert!(watcher.state.history().is_none(), "the writers of the main part: alice, bob, bob");
}

#[test]
fn a_write_right_after_an_own_write_does_not_alternate() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero"))]);
    let last = |watcher: &Watcher| watcher.state.pending_writes().next_back().unwrap().order;
    assert!(!watcher.state.continues_own(Part::Main, &last(&watcher)), "there is only one write");
    let first = last(&watcher);
    watcher.see(&server.patch(10, "alice", mode("a")));
    assert!(watcher.state.continues_own(Part::Main, &last(&watcher)));
    assert!(!watcher.state.continues_own(Part::Main, &first), "another write came after it");
    assert!(!watcher.state.continues_own(Part::Status, &last(&watcher)), "another part");
    watcher.see(&server.patch(20, "bob", mode("b")));
    assert!(!watcher.state.continues_own(Part::Main, &last(&watcher)), "the write before it is another actor's");
}

#[test]
fn finalized_bindings_and_writes_to_the_other_part_do_not_alternate() {
    let mut server = Server { of: ("", "pods", "Pod"), ..Server::new("Metadata") };
    let created = server.create(0, "alice", json!({}));
    let mut through = |second: i64, who: &str, subresource: &str| {
        let mut event = server.patch(second, who, json!({"spec": {"turn": second}, "status": {"turn": second}}));
        event["objectRef"]["subresource"] = subresource.into();
        if subresource == "binding" {
            event["verb"] = "create".into();
        }
        event
    };
    let mut watcher = Watcher::of(&[created]);
    for (second, who, subresource) in
        [(10, "system:kube-scheduler", "binding"), (20, "system:node:n1", "status"), (30, "alice", "")]
    {
        watcher.see(&through(second, who, subresource));
    }
    watcher.state.finalize(START + 1000 * SECOND);
    assert!(!watcher.state.can_be_finalized());
    watcher.see(&through(1100, "bob", ""));
    assert!(watcher.state.history().is_none(), "the writers of the main part: alice, alice, bob");
}

#[test]
fn a_finalized_writer_without_a_creation_begins_with_a_modification() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.patch(60, "bob", mode("b"))]);
    watcher.state.finalize(START + 1000 * SECOND);
    watcher.see(&server.patch(1100, "alice", mode("a")));
    let who: Vec<_> = seconds(&watcher).into_iter().map(|(who, effect, _, second)| (who, effect, second)).collect();
    let (alice, bob) = ("alice".to_owned(), "bob".to_owned());
    assert_eq!(who, [(alice.clone(), Effect::Create, 0), (bob, Effect::Modify, 60), (alice, Effect::Modify, 1100)]);
}

#[test]
fn only_a_completed_deletion_is_the_last_write() {
    let mut server = Server::new("RequestResponse");
    server.create(0, "alice", mode("zero"));
    let is_last = |event: &Value| attributed(event, |write, _| order_of(write).is_last);
    let changed = server.patch(10, "alice", mode("a"));
    assert!(!is_last(&changed));
    // With finalizers, the response is the object, marked for deletion.
    let mut marked = server.clone().delete(20, "bob");
    marked["responseObject"] = changed["responseObject"].clone();
    assert!(!is_last(&marked));
    assert!(is_last(&server.delete(20, "bob")));
}

#[test]
fn mutations_of_a_creation_are_kept_if_its_bodies_do_not_show_them() {
    let kept = |level: &'static str, is_mutated: bool| {
        let mut event = Server::new(level).create(0, "alice", mode("zero"));
        if is_mutated {
            let operations = json!([{"op": "add", "path": "/data/more", "value": "m"}]);
            let patch = json!({"configuration": "policy", "webhook": "policy.example.com", "patch": operations, "patchType": "JSONPatch"});
            event["annotations"] = json!({"patch.webhook.admission.k8s.io/round_0_index_0": patch.to_string()});
        }
        let watcher = Watcher::of(&[event]);
        let mutations = watcher.state.pending_writes().next().unwrap().mutations.as_ref();
        mutations.map(|mutations| mutations.iter().map(|m| m.path.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(kept("Request", true), Some(vec!["data.more".to_owned()]));
    assert_eq!(kept("Request", false), None);
    assert_eq!(kept("RequestResponse", true), None, "the stored object shows it");
    assert_eq!(kept("Metadata", true), None, "there is no body");
}

#[test]
fn a_writer_of_another_part_did_not_delete_the_object() {
    let mut server = Server::new("Metadata");
    let created = server.create(0, "carol", mode("zero"));
    let mut status = server.patch(5, "node", json!({"status": {"a": 1}}));
    status["objectRef"]["subresource"] = "status".into();
    let (deleted, again) = (server.delete(10, "carol"), server.create(20, "carol", mode("zero")));
    assert!(Watcher::of(&[created, status, deleted, again]).state.history().is_none());
}

#[test]
fn a_recreation_follows_the_deletion() {
    let begins = |second: i64| {
        let mut server = Server::new("Metadata");
        let events = [
            server.create(0, "alice", mode("zero")),
            server.delete(10, "bob"),
            server.create(second, "alice", mode("zero")),
        ];
        Watcher::of(&events).state.history().is_some()
    };
    assert!(begins(11));
    assert!(!begins(10), "at the same time, neither is after the other");
}

#[test]
fn an_observation_returns_the_due_transitions_and_that_of_its_write() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero"))]);
    let mut told = Vec::new();
    // Ten retakes until 120 s. After the quiet period of ten minutes, alice tries again, and bob answers.
    let seconds = (1..=12).map(|turn| turn * 10).chain([725, 730]);
    for (turn, second) in seconds.enumerate() {
        let (who, value) = if turn % 2 == 0 { ("alice", "a") } else { ("bob", "b") };
        let transitions = watcher.see(&server.patch(second, who, mode(value))).transitions;
        told.extend(transitions.into_iter().map(|change| (second, change)));
    }
    let expected = [
        (30, state_change(State::Calm, State::Contested, 30)),
        (80, state_change(State::Contested, State::Thrashing, 80)),
        (100, state_change(State::Thrashing, State::Sustained, 100)),
        (725, state_change(State::Sustained, State::Subsiding, 720)),
        (730, state_change(State::Subsiding, State::Sustained, 730)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn lifting_a_pause_is_a_transition_only_if_the_state_changes() {
    let mut watcher = Watcher::of(&war("RequestResponse", 12));
    let at = START + 130 * SECOND;
    assert_eq!(watcher.state.resume(at), Some(state_change(State::Sustained, State::Calm, 130)));
    assert_eq!(watcher.state.resume(at), None);
    assert_eq!(watcher.new_deadline(), None, "nothing is due while it is calm");
}

#[test]
fn an_object_with_one_writer_has_no_transitions() {
    let mut watcher = Watcher::of(&war("RequestResponse", 0));
    assert!(watcher.state.history().is_none());
    assert_eq!((watcher.new_deadline(), watcher.advance(5000)), (None, vec![]));
    assert_eq!(watcher.state.resume(START + SECOND), None);
}
