//! One object, from its first write to a war over it.

use serde_json::{Value, json};

use super::*;
use crate::detect::tests::{SECOND, START, Server, Watcher, attributed, state_change};

const LEVELS: [&str; 3] = ["Metadata", "Request", "RequestResponse"];

fn mode(value: &str) -> Value {
    json!({"data": {"mode": value}})
}

/// alice and bob set `data.mode` alternately, every ten seconds, after carol created the object.
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
fn the_same_war_is_seen_at_every_level_as_sure_as_the_level_allows() {
    let seen = |level| {
        let watcher = Watcher::of(&war(level, 6));
        (watcher.contested(), watcher.wars())
    };
    assert_eq!(seen("RequestResponse"), (vec!["data.mode 4/4".into()], vec!["Fields alice,bob 4 confirmed".into()]));
    assert_eq!(seen("Request"), (vec!["data.mode 4/4".into()], vec!["Fields alice,bob 4 probable".into()]));
    assert_eq!(seen("Metadata"), (vec![], vec!["Part(Main) alice,bob 4 possible".into()]));
}

#[test]
fn the_order_of_arrival_changes_nothing() {
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
    watcher.contest().history().map(show).collect()
}

#[test]
fn one_client_has_no_contest_and_at_metadata_two_have_none_until_they_write_in_turns() {
    let begins = |level: &'static str, who: &[&str]| {
        let mut server = Server::new(level);
        let mut watcher = Watcher::of(&[server.create(0, who[0], mode("zero"))]);
        for (turn, who) in who.iter().enumerate().skip(1) {
            watcher.see(&server.patch(turn as i64 * 10, who, mode(&turn.to_string())));
        }
        watcher.state.contest().is_some()
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
fn what_was_settled_before_a_contest_is_remembered_by_its_first_and_last_write() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[
        server.create(0, "alice", mode("zero")),
        server.patch(60, "alice", mode("1")),
        server.update(120, "alice", mode("2")),
        server.patch(180, "alice", mode("3")),
    ]);
    assert!(watcher.state.is_unsettled());
    watcher.state.settle(START + 180 * SECOND + super::super::contest::LATE_MAX);
    assert!(watcher.state.is_unsettled(), "somebody may still come late");
    watcher.state.settle(START + 181 * SECOND + super::super::contest::LATE_MAX);
    assert!(!watcher.state.is_unsettled());
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
fn a_deletion_that_was_settled_is_remembered_as_one() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.delete(60, "bob")]);
    watcher.state.settle(START + 1000 * SECOND);
    watcher.see(&server.create(1100, "alice", mode("zero")));
    let who: Vec<_> = seconds(&watcher).into_iter().map(|(who, effect, _, second)| (who, effect, second)).collect();
    let (alice, bob) = ("alice".to_owned(), "bob".to_owned());
    assert_eq!(who, [(alice.clone(), Effect::Create, 0), (bob, Effect::Delete, 60), (alice, Effect::Create, 1100)]);
}

#[test]
fn bringing_back_what_another_one_took_away_is_a_contest() {
    for level in LEVELS {
        let mut server = Server::new(level);
        let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.delete(10, "bob")]);
        assert!(watcher.state.contest().is_none(), "{level}: taken away once");
        watcher.see(&server.create(20, "alice", mode("zero")));
        assert!(watcher.state.contest().is_some(), "{level}");
    }
    // Who makes anew what it took away itself contests nothing.
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::new();
    for turn in 0..3 {
        watcher.see(&server.create(turn * 20, "alice", mode("zero")));
        watcher.see(&server.delete(turn * 20 + 10, "alice"));
    }
    assert!(watcher.state.contest().is_none());
}

#[test]
fn what_is_known_of_an_object_is_told() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero"))]);
    assert_eq!(watcher.state.kind().map(|kind| &**kind), Some("ConfigMap"));
    assert_eq!(watcher.state.base(), START - 600 * SECOND, "ten minutes for what comes late");
    let stored = |watcher: &Watcher| serde_json::from_slice::<Value>(watcher.state.body().unwrap()).unwrap();
    assert_eq!(stored(&watcher)["data"]["mode"], "zero");
    watcher.see(&server.update(10, "alice", mode("one")));
    assert_eq!(stored(&watcher)["data"]["mode"], "one", "the latest");
    assert_eq!(watcher.state.last_at(), START + 10 * SECOND);
    assert!(watcher.state.troubles().is_none());
    let mut stale = server.patch(30, "bob", mode("x"));
    stale["responseStatus"] = json!({"code": 409, "reason": "Conflict", "message": "the object has been modified"});
    watcher.see(&stale);
    assert_eq!(watcher.state.last_at(), START + 30 * SECOND, "also what failed");
    assert_eq!(watcher.state.troubles().unwrap().actors().next().map(|(who, t)| (&**who, t.stale)), Some(("bob", 1)));
    assert_eq!(watcher.state.seen().len(), 1, "what was not stored is no write");
    let mut failed = server.patch(40, "dave", mode("y"));
    failed["responseStatus"] = json!({"code": 403, "reason": "Forbidden", "message": "no"});
    watcher.see(&failed);
    assert_eq!(watcher.state.troubles().unwrap().actors().count(), 1, "a refusal by RBAC is nobody's trouble");
    let mut other = server.update(50, "alice", mode("two"));
    other["responseObject"]["kind"] = "Other".into();
    watcher.see(&other);
    assert_eq!(watcher.state.kind().map(|kind| &**kind), Some("Other"));
}

#[test]
fn what_an_observation_adds_is_what_is_kept() {
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
fn clients_are_bounded_and_the_longest_silent_one_goes_first() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero"))]);
    for turn in 1..SEEN_MAX as i64 {
        watcher.see(&server.patch(turn, &format!("w{turn}"), mode(&turn.to_string())));
    }
    watcher.see(&server.patch(100, "carol", mode("again")));
    assert_eq!(watcher.state.seen().len(), SEEN_MAX);
    watcher.see(&server.patch(101, "late", mode("late")));
    let names: Vec<&str> = watcher.state.seen().iter().map(|s| &*s.client.actor).collect();
    assert_eq!(names.len(), SEEN_MAX);
    assert!(names.contains(&"carol") && names.contains(&"late") && !names.contains(&"w1") && names.contains(&"w2"));
}

#[test]
fn one_client_at_several_places_is_shown_with_all_of_them() {
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
    let alice = watcher.state.seen().iter().find(|s| &*s.client.actor == "alice").unwrap().client.clone();
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
fn writes_of_a_scheduler_and_a_kubelet_to_one_pod_are_no_contest() {
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
    assert!(watcher.state.contest().is_none());
}

#[test]
fn an_update_that_is_answered_with_the_revision_it_replaced_changed_nothing() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero"))]);
    let observed = watcher.see(&server.update(10, "bob", mode("zero")));
    assert!(observed.is_no_op);
    assert!(!watcher.see(&server.update(20, "bob", mode("one"))).is_no_op);
    let seen = watcher.state.seen().iter().find(|s| &*s.client.actor == "bob").unwrap();
    assert_eq!((seen.writes(), seen.no_ops), (1, 1));
}

#[test]
fn a_change_whose_bodies_cannot_be_read_says_so() {
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
    assert!(!watcher.see(&none).is_unreadable, "there is none to read");
    assert!(!watcher.see(&server.patch(40, "bob", mode("d"))).is_unreadable);
    assert!(!watcher.see(&server.delete(50, "bob")).is_unreadable, "a deletion needs none");
}

#[test]
fn of_a_change_that_cannot_be_read_only_the_part_is_known() {
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
fn an_event_tells_as_much_as_its_level_and_its_bodies_allow() {
    let body = json!({"data": {"mode": "a"}});
    let tier = |level: &'static str, verb: &str, request: Option<&Value>, response: Option<&Value>| {
        let mut event = Server::new(level).create(0, "alice", mode("zero"));
        event["verb"] = verb.into();
        let fields = event.as_object_mut().unwrap();
        for (key, value) in [("requestObject", request), ("responseObject", response)] {
            fields.remove(key);
            fields.extend(value.map(|value| (key.to_owned(), value.clone())));
        }
        attributed(&event, |write, _| tier_of(write.event.level, write))
    };
    assert_eq!(tier("RequestResponse", "patch", Some(&body), Some(&body)), Tier::Value);
    assert_eq!(tier("RequestResponse", "patch", Some(&body), None), Tier::Field);
    assert_eq!(tier("RequestResponse", "patch", None, None), Tier::Object);
    assert_eq!(tier("Request", "patch", Some(&body), None), Tier::Field);
    assert_eq!(tier("Request", "patch", None, None), Tier::Object, "a change without a body");
    assert_eq!(tier("Request", "delete", None, None), Tier::Field, "a deletion may be sent without options");
    assert_eq!(tier("Metadata", "delete", None, None), Tier::Object);
    assert_eq!(tier("Metadata", "patch", Some(&body), Some(&body)), Tier::Object, "no bodies belong to this level");
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
        watcher.state.contest().is_some()
    };
    let repeats = i64::from(REPEATS_MIN);
    assert!(begins("Metadata", ARGO, "", repeats));
    assert!(!begins("Metadata", ARGO, "", repeats - 1), "it has not repeated itself often enough");
    assert!(!begins("Metadata", "alice", "", 2 * repeats), "no GitOps tool");
    assert!(!begins("Metadata", ARGO, "status", 2 * repeats), "the status is nobody's intent");
    assert!(!begins("Request", ARGO, "", 2 * repeats), "bodies tell the applications apart");
}

#[test]
fn writes_to_different_parts_are_no_contest() {
    for level in LEVELS {
        let mut server = Server { of: ("apps", "deployments", "Deployment"), ..Server::new(level) };
        let mut watcher = Watcher::of(&[server.create(0, "alice", json!({"spec": {"a": 0}}))]);
        for turn in 1..6 {
            let who = if turn % 2 == 1 { "bob" } else { "alice" };
            let mut event = server.patch(turn * 10, who, json!({"spec": {"a": turn}, "status": {"a": turn}}));
            event["objectRef"]["subresource"] = if who == "bob" { "status" } else { "" }.into();
            watcher.see(&event);
        }
        assert!(watcher.state.contest().is_none(), "{level}");
    }
}

#[test]
fn a_creation_behind_the_deletion_of_an_object_that_nobody_saw_made_is_no_contest() {
    let mut server = Server::new("Metadata");
    server.create(0, "carol", mode("zero"));
    let watcher = Watcher::of(&[
        server.delete(10, "bob"),
        server.create(20, "alice", mode("zero")),
        server.patch(30, "alice", mode("one")),
    ]);
    assert!(watcher.state.contest().is_none(), "the first one was made by somebody nobody saw");
}

#[test]
fn a_change_answered_with_the_revision_that_it_replaced_leaves_no_record() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero")), server.patch(5, "bob", mode("b"))]);
    assert_eq!(watcher.contest().history().count(), 2);
    assert!(watcher.see(&server.update(10, "alice", mode("b"))).is_no_op);
    assert_eq!(watcher.contest().history().count(), 2);
    assert!(!watcher.see(&server.update(20, "alice", mode("a"))).is_no_op);
    assert_eq!(watcher.contest().history().count(), 3);
}

#[test]
fn a_client_at_as_many_places_as_are_kept_is_shown_with_each_of_them() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero")), server.patch(1, "bob", mode("b"))]);
    for place in 0..2 * ORIGINS_MAX {
        let mut event = server.patch(10 + place as i64, "alice", mode(&place.to_string()));
        event["sourceIPs"] = json!([format!("10.0.0.{place}")]);
        watcher.see(&event);
    }
    let origins = watcher.state.more.as_ref().unwrap().contest.as_ref().unwrap().origins.len();
    assert_eq!(origins, ORIGINS_MAX);
}

#[test]
fn an_object_takes_the_bytes_of_what_it_holds() {
    let own = size_of::<ObjectState>();
    assert_eq!(ObjectState::new(START).bytes(), own);
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.patch(10, "bob", mode("b"))]);
    let recent = |watcher: &Watcher| watcher.state.recent.as_ref().unwrap().bytes();
    assert_eq!(watcher.state.bytes(), own + recent(&watcher), "two clients have their place in it");
    watcher.see(&server.patch(20, "carol", mode("c")));
    // With the third one they are four places elsewhere.
    let seen = 4 * size_of::<Seen>();
    assert_eq!(watcher.state.bytes(), own + seen + recent(&watcher));
    let mut stale = server.patch(25, "carol", mode("x"));
    stale["responseStatus"] = json!({"code": 409, "reason": "Conflict", "message": "the object has been modified"});
    watcher.see(&stale);
    let troubles = watcher.state.troubles().unwrap().bytes();
    assert!(troubles > 0);
    assert_eq!(watcher.state.bytes(), own + seen + recent(&watcher) + size_of::<More>() + troubles);
    // Two origins from here on, and no recent writes.
    for (second, who) in [(30, "alice"), (40, "bob")] {
        watcher.see(&server.patch(second, who, mode(who)));
    }
    let contested = watcher.state.more.as_ref().unwrap().contest.as_ref().unwrap();
    assert_eq!(contested.origins.len(), 2);
    let contest = contested.contest.bytes() + 2 * size_of::<(Arc<Client>, Origin)>();
    assert_eq!(watcher.state.bytes(), own + seen + size_of::<More>() + troubles + contest);
}

#[test]
fn what_the_writes_amount_to_stays_when_they_are_dropped() {
    let mut watcher = Watcher::of(&war("RequestResponse", 6));
    let wars = watcher.wars();
    watcher.state.drop_history();
    assert_eq!(watcher.contest().history().count(), 0);
    assert_eq!(watcher.wars(), wars);
}

#[test]
fn an_object_without_bodies_has_no_kind() {
    let mut watcher = Watcher::of(&war("Metadata", 1));
    assert_eq!(watcher.state.kind(), None);
    let mut server = Server::new("RequestResponse");
    watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.delete(10, "alice")]);
    assert_eq!(watcher.state.kind().map(|kind| &**kind), Some("ConfigMap"), "the answer to a deletion tells none");
}

#[test]
fn a_write_that_another_one_turns_out_to_have_stored_is_taken_back_where_it_was_counted() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero"))]);
    // alice finds the main part as she wants it.
    assert!(watcher.see(&server.patch(10, "alice", mode("zero"))).is_no_op);
    let status = |server: &mut Server, second: i64, who: &str| {
        let mut event = server.patch(second, who, json!({"status": {"phase": "ready"}}));
        event["objectRef"]["subresource"] = "status".into();
        event
    };
    let (bob, alice) = (status(&mut server, 20, "bob"), status(&mut server, 21, "alice"));
    let counts = |watcher: &Watcher| {
        let of_alice = watcher.state.seen().iter().filter(|s| &*s.client.actor == "alice");
        of_alice.map(|s| (s.part, s.writes(), s.no_ops)).collect::<Vec<_>>()
    };
    watcher.see(&alice);
    assert_eq!(counts(&watcher), [(Part::Main, 0, 1), (Part::Status, 1, 0)]);
    watcher.see(&bob);
    assert_eq!(counts(&watcher), [(Part::Main, 0, 1), (Part::Status, 0, 1)], "bob was first");
}

#[test]
fn a_deletion_whose_answer_was_seen_takes_back_as_surely_as_a_creation() {
    let mut server = Server::new("RequestResponse");
    let watcher = Watcher::of(&[
        server.create(0, "alice", mode("zero")),
        server.delete(10, "bob"),
        server.create(20, "alice", mode("zero")),
        server.delete(30, "bob"),
    ]);
    let war = watcher.findings().wars().next().unwrap();
    assert_eq!((war.scope, war.tally.retakes, war.tally.reversals), (crate::detect::war::Scope::Object, 2, 2));
    assert!(watcher.contest().history().all(|record| record.tier == Tier::Value));
}

#[test]
fn what_stored_nothing_has_no_revision_of_its_own() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero")), server.patch(5, "bob", mode("b"))]);
    let operations = json!([{"op": "replace", "path": "/data/mode", "value": "b"}]);
    let observed = watcher.see(&server.patch_through(10, "alice", mode("a"), ("policy", operations)));
    assert!(observed.is_no_op);
    let last = watcher.contest().history().last().unwrap();
    assert_eq!((&*last.client.actor, last.is_no_op, last.order.revision), ("alice", true, 0));
}

#[test]
fn of_two_writes_to_different_parts_the_one_whose_part_changed_stored_the_revision() {
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
            // A revision that moved, and a status that did not.
            let mut other = before.clone();
            status = other.patch(20, "system:node:n1", json!({"spec": {"a": 2}}));
            status["objectRef"]["subresource"] = "status".into();
            server = other;
        }
        watcher.see(&status);
        // By a clock that is a second behind: answered with the same revision.
        let observed =
            watcher.see(&server.patch(19, "alice", json!({"spec": server.stored.as_ref().unwrap()["spec"]})));
        observed.is_no_op
    };
    assert!(is_no_op(true), "the status changed with it, so that alice only found it");
    assert!(!is_no_op(false), "nothing of the status changed with it: alice was first");
}

#[test]
fn bodies_that_do_not_belong_to_the_level_are_not_missed() {
    let mut server = Server::new("Request");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.patch(10, "bob", mode("b"))]);
    let mut event = server.patch(20, "alice", mode("a"));
    event["level"] = "Metadata".into();
    event["requestObject"] = json!((0..600).fold(json!("x"), |deep, _| json!([deep])));
    assert!(!watcher.see(&event).is_unreadable);
}

#[test]
fn who_makes_its_object_anew_takes_nothing_back_from_who_changes_it_then() {
    let mut server = Server::new("Metadata");
    let watcher = Watcher::of(&[
        server.create(0, "carol", mode("zero")),
        server.delete(10, "carol"),
        server.create(20, "carol", mode("zero")),
        server.patch(30, "bob", mode("b")),
    ]);
    assert!(watcher.state.contest().is_none());
}

#[test]
fn a_write_to_the_other_part_is_no_turn() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.patch(10, "bob", mode("b"))]);
    let mut status = server.patch(20, "alice", json!({"status": {"a": 1}}));
    status["objectRef"]["subresource"] = "status".into();
    watcher.see(&status);
    watcher.see(&server.patch(30, "bob", mode("c")));
    assert!(watcher.state.contest().is_none(), "of the main part: alice, bob, bob");
}

#[test]
fn who_writes_right_after_its_own_write_goes_on() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero"))]);
    let last = |watcher: &Watcher| watcher.state.recent().next_back().unwrap().order;
    assert!(!watcher.state.goes_on(Part::Main, &last(&watcher)), "it has only begun");
    let first = last(&watcher);
    watcher.see(&server.patch(10, "alice", mode("a")));
    assert!(watcher.state.goes_on(Part::Main, &last(&watcher)));
    assert!(!watcher.state.goes_on(Part::Main, &first), "another write came after it");
    assert!(!watcher.state.goes_on(Part::Status, &last(&watcher)), "another part");
    watcher.see(&server.patch(20, "bob", mode("b")));
    assert!(!watcher.state.goes_on(Part::Main, &last(&watcher)), "another one's write is before it");
}

#[test]
fn bindings_and_the_other_part_are_no_turns_after_they_are_settled_either() {
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
    watcher.state.settle(START + 1000 * SECOND);
    assert!(!watcher.state.is_unsettled());
    watcher.see(&through(1100, "bob", ""));
    assert!(watcher.state.contest().is_none(), "alice, alice, bob");
}

#[test]
fn who_only_changed_the_object_before_it_was_settled_did_not_create_it() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "alice", mode("zero")), server.patch(60, "bob", mode("b"))]);
    watcher.state.settle(START + 1000 * SECOND);
    watcher.see(&server.patch(1100, "alice", mode("a")));
    let who: Vec<_> = seconds(&watcher).into_iter().map(|(who, effect, _, second)| (who, effect, second)).collect();
    let (alice, bob) = ("alice".to_owned(), "bob".to_owned());
    assert_eq!(who, [(alice.clone(), Effect::Create, 0), (bob, Effect::Modify, 60), (alice, Effect::Modify, 1100)]);
}

#[test]
fn only_a_deletion_after_which_the_object_is_gone_is_its_last_write() {
    let mut server = Server::new("RequestResponse");
    server.create(0, "alice", mode("zero"));
    let is_last = |event: &Value| attributed(event, |write, _| order_of(write).is_last);
    let changed = server.patch(10, "alice", mode("a"));
    assert!(!is_last(&changed));
    // Finalizers hold it: the answer is the object, marked.
    let mut marked = server.clone().delete(20, "bob");
    marked["responseObject"] = changed["responseObject"].clone();
    assert!(!is_last(&marked));
    assert!(is_last(&server.delete(20, "bob")));
}

#[test]
fn what_webhooks_made_of_a_creation_is_kept_where_its_bodies_do_not_show_it() {
    let kept = |level: &'static str, is_mutated: bool| {
        let mut event = Server::new(level).create(0, "alice", mode("zero"));
        if is_mutated {
            let operations = json!([{"op": "add", "path": "/data/more", "value": "m"}]);
            let patch = json!({"configuration": "policy", "webhook": "policy.example.com", "patch": operations, "patchType": "JSONPatch"});
            event["annotations"] = json!({"patch.webhook.admission.k8s.io/round_0_index_0": patch.to_string()});
        }
        let watcher = Watcher::of(&[event]);
        let mutations = watcher.state.recent().next().unwrap().mutations.as_ref();
        mutations.map(|mutations| mutations.iter().map(|m| m.path.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(kept("Request", true), Some(vec!["data.more".to_owned()]));
    assert_eq!(kept("Request", false), None);
    assert_eq!(kept("RequestResponse", true), None, "the stored object shows it");
    assert_eq!(kept("Metadata", true), None, "there is no body to change");
}

#[test]
fn who_wrote_another_part_before_an_object_was_made_anew_did_not_take_it_away() {
    let mut server = Server::new("Metadata");
    let created = server.create(0, "carol", mode("zero"));
    let mut status = server.patch(5, "node", json!({"status": {"a": 1}}));
    status["objectRef"]["subresource"] = "status".into();
    let (deleted, again) = (server.delete(10, "carol"), server.create(20, "carol", mode("zero")));
    assert!(Watcher::of(&[created, status, deleted, again]).state.contest().is_none());
}

#[test]
fn what_was_made_anew_was_made_after_it_was_taken_away() {
    let begins = |second: i64| {
        let mut server = Server::new("Metadata");
        let events = [
            server.create(0, "alice", mode("zero")),
            server.delete(10, "bob"),
            server.create(second, "alice", mode("zero")),
        ];
        Watcher::of(&events).state.contest().is_some()
    };
    assert!(begins(11));
    assert!(!begins(10), "at the same time nothing is after anything");
}

#[test]
fn an_observation_tells_the_changes_that_were_due_and_that_of_its_write() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero"))]);
    let mut told = Vec::new();
    // Ten retakes until 120 s; alice tries again after the quiet period of ten minutes, and bob answers.
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
fn lifting_a_pause_is_a_change_and_lifting_none_is_not() {
    let mut watcher = Watcher::of(&war("RequestResponse", 12));
    let at = START + 130 * SECOND;
    assert_eq!(watcher.state.resume(at), Some(state_change(State::Sustained, State::Calm, 130)));
    assert_eq!(watcher.state.resume(at), None);
    assert_eq!(watcher.new_deadline(), None, "nothing is due while it is calm");
}

#[test]
fn an_object_with_one_writer_has_nothing_to_change() {
    let mut watcher = Watcher::of(&war("RequestResponse", 0));
    assert!(watcher.state.contest().is_none());
    assert_eq!((watcher.new_deadline(), watcher.advance(5000)), (None, vec![]));
    assert_eq!(watcher.state.resume(START + SECOND), None);
}
