//! What is detected in a sequence of writes: wars by field, overrides, co-operations, and their bounds.

use serde_json::{Value, json};

use super::cooperations::COOPERATIONS_MAX;
use super::overrides::OVERRIDES_MAX;
use super::tracked_fields::FIELDS_MAX;
use super::*;
use crate::detect::assessment::{Assessment, WarAssessment};
use crate::detect::cooperation::{CooperationRule, CooperationRules};
use crate::detect::fields::FieldValue;
use crate::detect::meter::TEXT_BYTES;
use crate::detect::tests::{SECOND, START, Server, Watcher};

fn data(pairs: &[(&str, &str)]) -> Value {
    let map: serde_json::Map<String, Value> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
    json!({"data": map})
}

/// carol creates the object. Then each actor in turn, every 10 seconds, sets these fields to its own name.
fn story(level: &'static str, writes: &[(&str, &[&str])]) -> (Server, Watcher) {
    let mut server = Server::new(level);
    let mut watcher = Watcher::of(&[server.create(0, "carol", data(&[("x", "0"), ("y", "0"), ("z", "0")]))]);
    for (turn, (who, keys)) in writes.iter().enumerate() {
        let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (*key, *who)).collect();
        watcher.see(&server.patch(10 * (turn as i64 + 1), who, data(&pairs)));
    }
    (server, watcher)
}

#[test]
fn fields_with_the_same_parties_are_one_war_and_others_are_separate_wars() {
    let writes: &[(&str, &[&str])] = &[
        ("alice", &["x", "y", "z"]),
        ("bob", &["x", "y"]),
        ("dave", &["z"]),
        ("alice", &["x", "y", "z"]),
        ("bob", &["x"]),
    ];
    let (_, watcher) = story("RequestResponse", writes);
    assert_eq!(watcher.wars(), ["Fields alice,bob 2 confirmed", "Fields alice,dave 1 confirmed"]);
    let assessment = Assessment::of(&watcher.state);
    let paths = |war: &WarAssessment<'_>| war.fields.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>();
    let wars: Vec<Vec<String>> = assessment.wars().map(paths).collect();
    assert_eq!(wars, [vec!["data.x", "data.y"], vec!["data.z"]], "the field with the most retakes first");
    assert_eq!(watcher.contested(), ["data.x 2/2", "data.y 1/1", "data.z 1/1"]);
}

#[test]
fn a_war_that_an_actor_joins_continues_with_all_parties() {
    let writes: &[(&str, &[&str])] =
        &[("alice", &["x"]), ("bob", &["x"]), ("alice", &["x"]), ("dave", &["x"]), ("bob", &["x"]), ("dave", &["x"])];
    let (_, watcher) = story("RequestResponse", writes);
    assert_eq!(watcher.wars(), ["Fields alice,bob,dave 3 confirmed"]);
}

#[test]
fn a_war_splits_if_an_actor_joins_over_one_of_its_fields() {
    let both: &[&str] = &["x", "y"];
    let writes: &[(&str, &[&str])] = &[
        ("alice", both),
        ("bob", both),
        ("alice", both),
        ("bob", both),
        ("dave", &["x"]),
        ("bob", &["x"]),
        ("dave", &["x"]),
        ("alice", &["y"]),
    ];
    let (_, watcher) = story("RequestResponse", writes);
    // Two retakes of both fields; then bob and dave retake x, and alice retakes y.
    assert_eq!(watcher.wars(), ["Fields alice,bob,dave 4 confirmed", "Fields alice,bob 3 confirmed"]);
}

#[test]
fn a_possible_war_is_not_reported_beside_a_thrashing_war_with_known_fields() {
    let (mut server, mut watcher) = story("Metadata", &[("dave", &["y"]), ("erin", &["y"]), ("dave", &["y"])]);
    assert_eq!(watcher.wars(), ["Part(Main) dave,erin 1 possible"]);
    server.level = "RequestResponse";
    let mut fight = |watcher: &mut Watcher, from: i64, writes: i64| {
        for turn in from..from + writes {
            let who = if turn % 2 == 0 { "alice" } else { "bob" };
            watcher.see(&server.patch(100 + turn * 5, who, data(&[("x", who)])));
        }
    };
    fight(&mut watcher, 0, 7);
    let is_possible = |war: &String| war.ends_with("possible");
    assert!(watcher.wars().iter().any(is_possible), "there is no thrashing event after five retakes");
    fight(&mut watcher, 7, 1);
    assert_eq!(watcher.wars(), ["Fields alice,bob 6 confirmed"]);
}

#[test]
fn the_sixth_retake_within_ten_minutes_is_a_thrashing_event_of_its_party() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", data(&[("x", "0")]))]);
    let events: Vec<Value> = (0..11)
        .map(|turn| {
            let who = if turn % 2 == 0 { "alice" } else { "bob" };
            server.patch(10 + turn * 5, who, data(&[("x", who)]))
        })
        .collect();
    let told: Vec<Vec<(String, u32)>> = events
        .iter()
        .map(|event| watcher.see(event).thrashing_events.iter().map(|(who, count)| (who.to_string(), *count)).collect())
        .collect();
    // The third write is the first retake, so the eighth write, by bob, is the sixth retake.
    let one = |who: &str| vec![(who.to_owned(), 1)];
    assert!(told[..7].iter().all(Vec::is_empty), "{told:?}");
    assert_eq!(told[7..], [one("bob"), one("alice"), one("bob"), one("alice")]);
    assert_eq!(watcher.analysis().state(Confidence::Confirmed), State::Sustained);
    // The same if some writes arrive in another order.
    let mut late = Watcher::of(&[Server::new("RequestResponse").create(0, "carol", data(&[("x", "0")]))]);
    let mut total: BTreeMap<String, u32> = BTreeMap::new();
    for index in [0, 1, 2, 3, 4, 5, 7, 6, 8, 10, 9] {
        for (who, count) in late.see(&events[index]).thrashing_events {
            assert!(count > 0, "only parties with new thrashing events are returned");
            *total.entry(who.to_string()).or_default() += count;
        }
    }
    assert_eq!(total.into_iter().collect::<Vec<_>>(), [("alice".to_owned(), 2), ("bob".to_owned(), 2)]);
}

#[test]
fn the_creator_of_an_object_is_the_first_writer_of_its_fields() {
    let mut server = Server::new("RequestResponse");
    let events = [
        server.create(0, "carol", data(&[("x", "0")])),
        server.patch(10, "alice", data(&[("x", "1")])),
        server.patch(20, "carol", data(&[("x", "0")])),
    ];
    assert_eq!(Watcher::of(&events).wars(), ["Fields alice,carol 1 confirmed"]);
    // After a write without bodies, a value can no longer be attributed to the creator.
    let mut server = Server::new("Request");
    let mut events = vec![server.create(0, "carol", data(&[("x", "0")]))];
    server.level = "Metadata";
    events.push(server.patch(5, "dave", data(&[("w", "1")])));
    server.level = "Request";
    events.extend([server.patch(10, "alice", data(&[("x", "1")])), server.patch(20, "carol", data(&[("x", "0")]))]);
    assert!(
        !Watcher::of(&events).wars().iter().any(|war| war.starts_with("Fields")),
        "{:?}",
        Watcher::of(&events).wars()
    );
}

#[test]
fn setting_and_lifting_pauses_is_not_a_retake() {
    for level in ["Metadata", "Request", "RequestResponse"] {
        let mut server = Server::new(level);
        let mut watcher = Watcher::of(&[server.create(0, "carol", data(&[("x", "0")]))]);
        watcher.limits.own = Some("editwar".into());
        for turn in 1..6 {
            let (who, value) = if turn % 2 == 1 { ("editwar", json!("true")) } else { ("alice", Value::Null) };
            let pause = json!({"metadata": {"annotations": {crate::detect::annotations::PAUSED: value}}});
            watcher.see(&server.patch(turn * 10, who, pause));
        }
        let wars = watcher.wars();
        assert!(wars.iter().all(|war| !war.starts_with("Fields")), "{level}: {wars:?}");
        assert!(level == "Metadata" || wars.is_empty(), "{level}: {wars:?}");
        // At Metadata, a pause cannot be recognised, but writes of the account that sets pauses are not retakes.
        assert!(!wars.iter().any(|war| war.contains("editwar,")), "{level}: {wars:?}");
    }
}

fn through(server: &mut Server, second: i64, who: &str, requested: &str, given: &str) -> Value {
    let operations = json!([{"op": "replace", "path": "/data/x", "value": given}]);
    server.patch_through(second, who, data(&[("x", requested)]), ("policy", operations))
}

#[test]
fn a_webhook_that_replaces_the_same_request_repeatedly_overrides_it() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", data(&[("x", "stored")]))]);
    watcher.see(&through(&mut server, 10, "alice", "wish", "stored"));
    assert_eq!(watcher.wars(), [""; 0], "one override is not a war");
    for second in [20, 30] {
        watcher.see(&through(&mut server, second, "alice", "wish", "stored"));
    }
    assert_eq!(
        watcher.wars(),
        ["Override alice,webhook policy/policy.example.com 4 probable"],
        "each repetition counts as a retake by both"
    );
    let war = watcher.analysis().wars().next().unwrap();
    let found: Vec<_> = watcher.analysis().overrides_of(war.id).map(|o| (o.path.to_string(), o.count)).collect();
    assert_eq!(found, [("data.x".to_owned(), 3)]);
    // A pipeline that requests another value each time is not in a war, nor is another requester's single request.
    let mut pipeline = Watcher::of(&[Server::new("RequestResponse").create(0, "carol", data(&[("x", "stored")]))]);
    for (second, wish) in [(10, "v1"), (20, "v2"), (30, "v3")] {
        pipeline.see(&through(&mut server, second, "alice", wish, "stored"));
    }
    pipeline.see(&through(&mut server, 40, "bob", "v1", "stored"));
    assert_eq!(pipeline.wars(), [""; 0]);
}

#[test]
fn an_overridden_request_that_arrives_before_the_write_it_found_counts_once() {
    let mut server = Server::new("RequestResponse");
    let created = server.create(0, "carol", data(&[("x", "stored")]));
    let change = server.patch(5, "carol", json!({"data": {"y": "1"}}));
    let requests = [10, 20].map(|second| through(&mut server, second, "alice", "wish", "stored"));
    for turn in 0..3 {
        let mut events = vec![&created, &requests[0], &requests[1]];
        events.insert(turn + 1, &change);
        let mut watcher = Watcher::of(&[]);
        events.into_iter().for_each(|event| drop(watcher.see(event)));
        assert_eq!(
            watcher.wars(),
            ["Override alice,webhook policy/policy.example.com 2 probable"],
            "the change arrives after {turn} requests"
        );
    }
}

#[test]
fn a_request_repeated_after_the_window_does_not_count() {
    let window = Limits::default().window() / SECOND;
    let retakes = |pause: i64| {
        let mut server = Server::new("RequestResponse");
        let mut watcher = Watcher::of(&[server.create(0, "carol", data(&[("x", "stored")]))]);
        watcher.see(&through(&mut server, 10, "alice", "wish", "stored"));
        watcher.see(&through(&mut server, 10 + pause, "alice", "wish", "stored"));
        watcher.analysis().wars().map(|war| war.tally.retakes).sum::<u32>()
    };
    assert_eq!((retakes(window), retakes(window + 1)), (2, 0));
}

#[test]
fn an_override_is_sustained_for_controllers_and_never_for_people() {
    let state = |who: &str| {
        let mut server = Server::new("RequestResponse");
        let mut watcher = Watcher::of(&[server.create(0, "carol", data(&[("x", "stored")]))]);
        for turn in 1..20 {
            watcher.see(&through(&mut server, turn * 10, who, "wish", "stored"));
        }
        watcher.analysis().state(Confidence::Probable)
    };
    assert_eq!(state("alice"), State::Thrashing);
    assert_eq!(state("system:serviceaccount:argocd:argocd-application-controller"), State::Sustained);
}

#[test]
fn a_webhook_that_changes_the_stored_value_is_a_party() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", data(&[("x", "zero")]))]);
    for turn in 0..4 {
        watcher.see(&server.patch(turn * 20 + 10, "alice", data(&[("x", "alice")])));
        // bob writes another field, and the webhook sets x in the same request.
        let operations = json!([{"op": "replace", "path": "/data/x", "value": "webhook"}]);
        let patch = data(&[("y", &turn.to_string())]);
        watcher.see(&server.patch_through(turn * 20 + 20, "bob", patch, ("policy", operations)));
    }
    assert_eq!(watcher.wars(), ["Fields alice,webhook policy/policy.example.com 6 confirmed"]);
}

#[test]
fn overridden_requests_are_bounded_and_the_rarest_is_dropped_first() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", data(&[("x", "stored")]))]);
    for second in [10, 20] {
        watcher.see(&through(&mut server, second, "alice", "often", "stored"));
    }
    for turn in 0..OVERRIDES_MAX as i64 + 5 {
        watcher.see(&through(&mut server, 100 + turn, "alice", &format!("v{turn}"), "stored"));
    }
    let overrides = &watcher.analysis().overrides;
    assert_eq!(overrides.iter().len(), OVERRIDES_MAX);
    assert!(overrides.iter().any(|o| o.count == 2), "the most frequent request is kept");
    assert!(!overrides.iter().any(|o| o.requested == Some(FieldValue::of_json(r#""v0""#))), "the oldest is not");
}

#[test]
fn a_cooperation_is_counted_once_per_write_with_its_actors_and_fields() {
    let mut server = Server { of: ("coordination.k8s.io", "leases", "Lease"), ..Server::new("RequestResponse") };
    let mut watcher = Watcher::of(&[server.create(0, "carol", json!({"spec": {"holderIdentity": "carol", "t": 0}}))]);
    for turn in 1..=6 {
        let who = if turn % 2 == 1 { "a" } else { "b" };
        // Each write sets two fields, whose values return.
        watcher.see(&server.patch(turn * 10, who, json!({"spec": {"holderIdentity": who, "t": turn % 2}})));
    }
    assert_eq!(watcher.wars(), [""; 0]);
    let [lease] = watcher.analysis().cooperations() else { panic!("one") };
    assert_eq!((&*lease.name, lease.excess.as_deref(), lease.tally.retakes), ("lease", Some("leader flapping"), 4));
    assert_eq!(lease.actors.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(lease.paths.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["spec.holderIdentity", "spec.t"]);
}

#[test]
fn a_cooperation_names_a_limited_number_of_actors_and_fields() {
    let mut server = Server { of: ("coordination.k8s.io", "leases", "Lease"), ..Server::new("RequestResponse") };
    let mut watcher = Watcher::of(&[server.create(0, "carol", json!({"spec": {}}))]);
    for turn in 0..4 * 12 {
        let spec: serde_json::Map<String, Value> =
            (0..12).map(|i| (format!("f{i:02}"), json!(format!("v{}", turn % 12)))).collect();
        watcher.see(&server.patch(turn * 10 + 10, &format!("actor-{}", turn % 12), json!({"spec": spec})));
    }
    let [lease] = watcher.analysis().cooperations() else { panic!("one") };
    assert_eq!((lease.actors.len(), lease.paths.len()), (Cooperation::SHOWN_MAX, Cooperation::SHOWN_MAX));
}

#[test]
fn fields_are_bounded_and_contested_ones_are_kept() {
    let (mut server, mut watcher) = story("RequestResponse", &[("alice", &["x"]), ("bob", &["x"]), ("alice", &["x"])]);
    for turn in 0..3 {
        let keys: Vec<String> = (0..120).map(|i| format!("k{turn}-{i}")).collect();
        let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
        watcher.see(&server.patch(100 + turn * 10, "dave", data(&pairs)));
    }
    assert_eq!(watcher.analysis().fields.len(), FIELDS_MAX);
    assert_eq!(watcher.contested(), ["data.x 1/1"]);
}

#[test]
fn a_sustained_war_ends_with_time_or_when_a_person_lifts_the_pause() {
    let writes: Vec<(&str, &[&str])> = (0..12)
        .map(|turn| if turn % 2 == 0 { ("alice", ["x"].as_slice()) } else { ("bob", ["x"].as_slice()) })
        .collect();
    let (_, mut watcher) = story("RequestResponse", &writes);
    let state = |watcher: &Watcher| watcher.state.state();
    assert_eq!(state(&watcher), State::Sustained);
    let last = START + 120 * SECOND;
    let limits = watcher.limits.clone();
    watcher.state.advance(last + 599 * SECOND, &limits);
    assert_eq!(state(&watcher), State::Sustained);
    watcher.state.advance(last + 600 * SECOND, &limits);
    assert_eq!(state(&watcher), State::Subsiding);
    watcher.state.resume(last + 700 * SECOND);
    assert_eq!(state(&watcher), State::Calm);
}

#[test]
fn a_deletion_ends_the_wars_and_a_recreated_object_starts_without_them() {
    let (mut server, mut watcher) =
        story("RequestResponse", &[("alice", &["x"]), ("bob", &["x"]), ("alice", &["x"]), ("bob", &["x"])]);
    assert_eq!(watcher.analysis().state(Confidence::Confirmed), State::Contested);
    watcher.see(&server.delete(60, "dave"));
    assert_eq!(watcher.analysis().state(Confidence::Confirmed), State::Calm);
    watcher.see(&server.create(70, "erin", data(&[("x", "0")])));
    watcher.see(&server.patch(80, "alice", data(&[("x", "alice")])));
    assert_eq!(
        watcher.analysis().state(Confidence::Confirmed),
        State::Calm,
        "alice has not written the new object before"
    );
    watcher.see(&server.patch(90, "erin", data(&[("x", "0")])));
    assert_eq!(
        watcher.analysis().state(Confidence::Confirmed),
        State::Contested,
        "erin retakes the field that she created"
    );
}

#[test]
fn a_write_that_restores_one_value_is_a_reversal() {
    let both: &[&str] = &["x", "y"];
    let (mut server, mut watcher) = story("RequestResponse", &[("alice", both), ("bob", both), ("alice", both)]);
    // bob answers alice's reversal: he sets x to a new value, and y to the value that he set before.
    watcher.see(&server.patch(60, "bob", data(&[("x", "new"), ("y", "bob")])));
    assert_eq!(watcher.contested(), ["data.x 2/1", "data.y 2/2"]);
    let war = watcher.analysis().wars().next().unwrap();
    assert_eq!((war.tally.retakes, war.tally.reversals), (2, 2));
}

#[test]
fn a_possible_war_raises_no_thrashing_event() {
    let mut server = Server::new("Metadata");
    let mut watcher = Watcher::of(&[server.create(0, "carol", data(&[("x", "0")]))]);
    for turn in 0..12 {
        let who = if turn % 2 == 0 { "alice" } else { "bob" };
        assert!(watcher.see(&server.patch(10 + turn * 5, who, data(&[("x", who)]))).thrashing_events.is_empty());
    }
    assert_eq!(watcher.wars(), ["Part(Main) alice,bob 10 possible"]);
}

#[test]
fn a_repeated_deletion_ends_no_war() {
    let (mut server, mut watcher) = story("Metadata", &[("alice", &["x"]), ("bob", &["x"]), ("alice", &["x"])]);
    let state = |watcher: &Watcher| watcher.analysis().state(Confidence::Possible);
    assert_eq!(state(&watcher), State::Contested);
    let deletion = server.clone().delete(40, "dave");
    watcher.see(&deletion);
    assert_eq!(state(&watcher), State::Calm);
    // Finalizers keep the object, and alice and bob continue.
    watcher.see(&server.patch(50, "bob", data(&[("x", "bob")])));
    assert_eq!(state(&watcher), State::Contested);
    watcher.see(&server.clone().delete(60, "dave"));
    assert_eq!(state(&watcher), State::Contested);
}

#[test]
fn a_war_stays_one_if_an_actor_joins_over_all_its_fields() {
    let both: &[&str] = &["x", "y"];
    let writes: &[(&str, &[&str])] = &[("alice", both), ("bob", both), ("alice", both), ("dave", both), ("bob", both)];
    let (_, watcher) = story("RequestResponse", writes);
    assert_eq!(watcher.wars(), ["Fields alice,bob,dave 2 confirmed"]);
}

#[test]
fn a_war_ends_when_all_its_fields_have_moved_to_another_one() {
    let fight = |all: &'static [&'static str]| {
        let writes: &[(&str, &[&str])] = &[
            ("alice", all),
            ("bob", all),
            ("alice", all),
            ("bob", all),
            ("dave", &["x"]),
            ("bob", &["x"]),
            ("dave", &["x"]),
            ("dave", &["y"]),
            ("alice", &["y"]),
        ];
        story("RequestResponse", writes).1.wars()
    };
    // Two retakes of both fields, two of x by bob and dave, and one of y by alice.
    assert_eq!(fight(&["x", "y"]), ["Fields alice,bob,dave 5 confirmed"]);
    let of_z = "Fields alice,bob 2 confirmed".to_owned();
    assert_eq!(fight(&["x", "y", "z"]), ["Fields alice,bob,dave 5 confirmed".to_owned(), of_z], "z stays");
}

#[test]
fn a_part_retaken_from_a_new_actor_is_the_same_war_with_one_more_party() {
    let writes: &[(&str, &[&str])] =
        &[("alice", &["x"]), ("bob", &["x"]), ("alice", &["x"]), ("dave", &["x"]), ("alice", &["x"])];
    let (_, watcher) = story("Metadata", writes);
    assert_eq!(watcher.wars(), ["Part(Main) alice,bob,dave 2 possible"]);
}

#[test]
fn without_reversals_a_war_is_at_most_probable() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", data(&[("x", "0")]))]);
    for turn in 0..10 {
        let who = if turn % 2 == 0 { "alice" } else { "bob" };
        watcher.see(&server.patch(10 + turn, who, data(&[("x", &format!("v{turn}"))])));
    }
    // Each answers the other within a second. Retakes count once each has answered twice, from the sixth write on.
    assert_eq!(watcher.wars(), ["Fields alice,bob 5 probable"]);
}

#[test]
fn cooperations_of_one_object_are_bounded() {
    let rule = |n: usize| CooperationRule {
        name: format!("rule{n}"),
        resource: "configmaps".into(),
        path: format!("data.k{n}"),
        sides: ("*".into(), "*".into()),
        reason: "a test".into(),
        excess: None,
    };
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::new();
    let rules: Vec<CooperationRule> = (0..=COOPERATIONS_MAX).map(rule).collect();
    watcher.limits.cooperations = Arc::new(CooperationRules::with(rules, &[]));
    let keys: Vec<String> = (0..=COOPERATIONS_MAX).map(|n| format!("k{n}")).collect();
    watcher.see(&server.create(0, "carol", data(&[])));
    for (turn, who) in ["alice", "bob", "alice"].into_iter().enumerate() {
        let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), who)).collect();
        watcher.see(&server.patch(10 + turn as i64 * 10, who, data(&pairs)));
    }
    assert_eq!(watcher.analysis().cooperations().len(), COOPERATIONS_MAX);
    assert_eq!(watcher.wars(), [""; 0]);
}

/// carol creates the object, alice and bob fight over `data.x`, and dave later sets as many other fields as can be
/// tracked in addition.
fn full() -> (Server, Watcher) {
    let (mut server, mut watcher) = story("RequestResponse", &[("alice", &["x"]), ("bob", &["x"]), ("alice", &["x"])]);
    let keys: Vec<String> = (1..FIELDS_MAX).map(|n| format!("k{n}")).collect();
    let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
    watcher.see(&server.patch(60, "dave", data(&pairs)));
    assert_eq!(watcher.analysis().fields.len(), FIELDS_MAX);
    assert_eq!((watcher.analysis().untracked_fields(), watcher.analysis().is_truncated()), (0, false));
    (server, watcher)
}

fn follows(watcher: &Watcher, key: &str) -> bool {
    watcher.analysis().fields.get(&format!("data.{key}").into()).is_some()
}

#[test]
fn a_field_that_has_not_changed_for_the_window_is_replaced_by_another_one() {
    let window = Limits::default().window() / SECOND;
    let (mut server, mut watcher) = full();
    watcher.see(&server.patch(60 + window - 1, "erin", data(&[("a", "1")])));
    assert!(!follows(&watcher, "a"));
    assert_eq!((watcher.analysis().untracked_fields(), watcher.analysis().is_truncated()), (1, false));
    watcher.see(&server.patch(60 + window, "erin", data(&[("b", "1")])));
    assert!(follows(&watcher, "b"));
    assert!(follows(&watcher, "x"), "a contested field stays tracked");
    assert_eq!(watcher.analysis().fields.len(), FIELDS_MAX);
    // The same without an earlier attempt.
    let (mut server, mut watcher) = full();
    watcher.see(&server.patch(60 + window, "erin", data(&[("b", "1")])));
    assert!(follows(&watcher, "b") && watcher.analysis().fields.len() == FIELDS_MAX);
}

#[test]
fn a_field_whose_change_is_undone_replaces_an_uncontested_one() {
    let (mut server, mut watcher) = full();
    watcher.see(&server.patch(70, "erin", data(&[("y", "erin")])));
    assert!(!follows(&watcher, "y"));
    watcher.see(&server.patch(80, "frank", data(&[("y", "0")])));
    assert!(follows(&watcher, "y") && follows(&watcher, "x"));
    assert_eq!(watcher.analysis().fields.len(), FIELDS_MAX);
    assert_eq!((watcher.analysis().untracked_fields(), watcher.analysis().is_truncated()), (0, false));
    watcher.see(&server.patch(90, "erin", data(&[("y", "erin")])));
    assert_eq!(watcher.contested(), ["data.x 1/1", "data.y 1/1"]);
    // A third value is a retake too, because frank's write restored an earlier value.
    let (mut server, mut watcher) = full();
    for (second, who, value) in [(70, "erin", "erin"), (80, "frank", "0"), (90, "erin", "other")] {
        watcher.see(&server.patch(second, who, data(&[("y", value)])));
    }
    assert_eq!(watcher.contested(), ["data.x 1/1", "data.y 1/0"]);
}

#[test]
fn a_field_that_the_same_write_changes_stays_tracked() {
    let (mut server, mut watcher) = full();
    watcher.see(&server.patch(70, "erin", data(&[("y", "erin")])));
    // frank undoes erin's change, and changes all other fields in the same write.
    let keys: Vec<String> = (1..FIELDS_MAX).map(|n| format!("k{n}")).collect();
    let mut pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "w")).collect();
    pairs.push(("y", "0"));
    watcher.see(&server.patch(80, "frank", data(&pairs)));
    assert!(!follows(&watcher, "y"));
    assert!(keys.iter().all(|key| follows(&watcher, key)));
}

#[test]
fn a_truncated_body_is_remembered() {
    use crate::detect::fields::{Evidence, Fields, PatchIntent};
    use crate::detect::write::{ObjectName, Part};
    use crate::detect::write_order::WriteOrder;
    let limits = Limits::default();
    let name = ObjectName { group: "", resource: "configmaps", namespace: "shop", name: "web" };
    let on = ObjectLimits::new(&limits, &name);
    let write = |evidence: Evidence| {
        let client = Arc::new(Client::named("alice"));
        let verb = crate::audit::event::Verb::Update;
        Record::new(WriteOrder::default(), client, verb, Effect::Modify, Part::Main, EvidenceLevel::Value, evidence)
    };
    // These fields are incomplete.
    let cut = Evidence::Whole {
        fields: Arc::new(Fields::default()),
        level: EvidenceLevel::Value,
        requested: PatchIntent::default(),
    };
    let mut analysis = Analysis::default();
    analysis.step(&write(Evidence::None), &on);
    assert_eq!((analysis.untracked_fields(), analysis.is_truncated()), (0, false));
    analysis.step(&write(cut), &on);
    analysis.step(&write(Evidence::None), &on);
    assert_eq!((analysis.untracked_fields(), analysis.is_truncated()), (0, true));
}

/// Asserts that the bytes are the sum of those of all contents.
fn assert_bytes(analysis: &Analysis) {
    let mut expected = size_of::<Analysis>();
    for (path, field) in analysis.fields.iter() {
        expected += TEXT_BYTES + path.len() + field.bytes();
    }
    expected += map_bytes::<Path, Box<FieldHistory>>(analysis.fields.len());
    expected += map_bytes::<Arc<str>, u32>(analysis.thrashing_events.len());
    expected += analysis.fields.sketch_bytes().unwrap_or(0);
    expected += size_of::<AdmissionOverride>() * analysis.overrides.iter().len();
    expected += size_of_val(analysis.cooperations());
    analysis.wars.iter().for_each(|war| expected += war.bytes());
    assert_eq!(analysis.bytes(), expected);
}

#[test]
fn the_bytes_of_an_analysis_are_those_of_its_contents() {
    assert_eq!(Analysis::default().bytes(), size_of::<Analysis>());
    // Fields, some of them untracked, a war, thrashing events.
    let (mut server, mut watcher) = full();
    for turn in 0..12 {
        let who = if turn % 2 == 0 { "alice" } else { "bob" };
        watcher.see(&server.patch(70 + turn * 5, who, data(&[("x", who)])));
    }
    watcher.see(&server.patch(200, "erin", data(&[("y", "erin")])));
    assert!(watcher.analysis().fields.sketch_bytes().is_some() && !watcher.analysis().thrashing_events.is_empty());
    assert_bytes(watcher.analysis());
    // Overridden requests.
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", data(&[("x", "stored")]))]);
    for (second, wish) in [(10, "a"), (20, "b"), (30, "c")] {
        watcher.see(&through(&mut server, second, "alice", wish, "stored"));
    }
    assert_eq!(watcher.analysis().overrides.iter().len(), 3);
    assert_bytes(watcher.analysis());
    // A co-operation.
    let mut server = Server { of: ("coordination.k8s.io", "leases", "Lease"), ..Server::new("RequestResponse") };
    let mut watcher = Watcher::of(&[server.create(0, "carol", json!({"spec": {"holderIdentity": "carol"}}))]);
    for (turn, who) in ["a", "b", "a"].into_iter().enumerate() {
        watcher.see(&server.patch(10 + turn as i64 * 10, who, json!({"spec": {"holderIdentity": who}})));
    }
    assert_eq!(watcher.analysis().cooperations().len(), 1);
    assert_bytes(watcher.analysis());
}

#[test]
fn a_cooperation_at_time_zero_is_counted() {
    let limits = Limits::default();
    let rule = limits.cooperations.mechanism(crate::detect::cooperation::CONSUMED_MARK).unwrap();
    let mut analysis = Analysis::default();
    let author = Author { client: Arc::new(Client::named("alice")), at: 0, seq: 1 };
    for path in ["data.x", "data.y"] {
        analysis.cooperations.record(rule, path.into(), &author, &Client::named("bob"), &limits);
    }
    assert_eq!(analysis.cooperations()[0].tally.retakes, 1, "one write, of two fields");
}

#[test]
fn a_late_write_that_is_no_retake_adds_no_thrashing_event() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", data(&[("x", "0")]))]);
    let late = server.patch(5, "dave", data(&[("z", "1")]));
    for turn in 0..10 {
        let who = if turn % 2 == 0 { "alice" } else { "bob" };
        watcher.see(&server.patch(10 + turn * 5, who, data(&[("x", who)])));
    }
    assert_eq!(watcher.analysis().thrashing_events.len(), 2);
    assert!(watcher.see(&late).thrashing_events.is_empty());
}

#[test]
fn without_a_war_no_transition_is_due() {
    assert_eq!(Analysis::default().due(&Limits::default()), None);
}
