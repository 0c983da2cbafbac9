//! The true order of writes that arrive in any order, and which of them are kept.

use serde_json::{Value, json};

use super::*;
use crate::audit::event::Verb;
use crate::detect::actor::Client;
use crate::detect::fields::{Change, Evidence, EvidenceLevel, FieldValue, Path};
use crate::detect::tests::{SECOND, START, Server, Watcher, state_change};
use crate::detect::verdict::{Confidence, State};
use crate::detect::write::{ObjectName, Part};

const LEVELS: [&str; 3] = ["Metadata", "Request", "RequestResponse"];

fn mode(value: &str) -> Value {
    json!({"data": {"mode": value}})
}

/// Asserts that the counted bytes are those of the records, and that finalized records keep no state.
fn assert_accounts(history: &WriteHistory) {
    assert_eq!(history.bytes, history.records.iter().map(Record::bytes).sum::<usize>());
    assert!(history.bytes() > history.bytes);
    assert!(history.records.iter().take(history.finalized).all(|r| r.state.is_none() && !r.has_evidence()));
    assert!(history.finalized < history.records.len().max(1) || history.records.len() == history.finalized);
}

/// The conclusions.
#[derive(Debug, PartialEq)]
struct Essence {
    wars: Vec<String>,
    contested: Vec<String>,
    /// The numbers of writes and no-ops by actor.
    seen: Vec<(String, u32, u32)>,
    deleted: Option<Micros>,
}

fn essence(watcher: &Watcher) -> Essence {
    let seen = watcher.state.writers().iter().map(|s| (s.client.actor.to_string(), s.writes(), s.no_ops));
    let mut seen: Vec<_> = seen.collect();
    seen.sort();
    let deleted = watcher.state.history().and_then(|history| history.analysis().deleted_at());
    Essence { wars: watcher.wars(), contested: watcher.contested(), seen, deleted }
}

/// Returns orders in which events may arrive: seeded shuffles, and orders with a single event first or last.
fn orders(len: usize) -> Vec<Vec<usize>> {
    let mut seed = 17_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut orders = Vec::new();
    for _ in 0..60 {
        let mut order: Vec<usize> = (0..len).collect();
        (1..len).rev().for_each(|i| order.swap(i, next(i + 1)));
        orders.push(order);
    }
    for from in 0..len {
        for to in [0, len - 1] {
            let mut order: Vec<usize> = (0..len).collect();
            let moved = order.remove(from);
            order.insert(to, moved);
            orders.push(order);
        }
    }
    orders
}

/// Asserts that every order of arrival has the same result as the true one, and returns that.
fn in_any_order(events: &[Value]) -> Watcher {
    let expected = Watcher::of(events);
    for order in orders(events.len()) {
        let watcher = Watcher::of(order.iter().map(|index| &events[*index]));
        assert_eq!(essence(&watcher), essence(&expected), "{order:?}");
        assert_accounts(watcher.history());
    }
    assert_accounts(expected.history());
    expected
}

#[test]
fn the_life_of_an_object_is_the_same_in_any_order_of_arrival() {
    for level in LEVELS {
        let mut server = Server::new(level);
        let events = [
            server.create(0, "carol", mode("zero")),
            server.patch(10, "alice", mode("a")),
            server.update(20, "bob", mode("b")),
            server.patch(30, "alice", mode("a")),
            server.update(40, "bob", mode("b")),
            server.patch(50, "alice", mode("a")),
        ];
        let watcher = in_any_order(&events);
        let expected = match level {
            "Metadata" => vec!["Part(Main) alice,bob 3 possible"],
            "Request" => vec!["Fields alice,bob 3 probable"],
            _ => vec!["Fields alice,bob 3 confirmed"],
        };
        assert_eq!(watcher.wars(), expected, "{level}");
    }
}

#[test]
fn a_write_that_found_its_revision_changed_nothing_in_any_order_of_arrival() {
    let mut server = Server::new("RequestResponse");
    let events = [
        server.create(0, "carol", mode("zero")),
        server.update(10, "alice", mode("a")),
        // Answered with alice's revision, because the object had this value already.
        server.patch(11, "dave", mode("a")),
        server.update(20, "bob", mode("b")),
        server.patch(21, "dave", mode("b")),
        server.update(30, "alice", mode("a")),
        server.update(32, "alice", mode("a")),
    ];
    let watcher = in_any_order(&events);
    assert_eq!(watcher.wars(), ["Fields alice,bob 1 confirmed"]);
    let seen = essence(&watcher).seen;
    let expected = [("alice", 2, 1), ("bob", 1, 0), ("carol", 1, 0), ("dave", 0, 2)];
    assert_eq!(seen, expected.map(|(who, writes, no_ops)| (who.to_owned(), writes, no_ops)));
}

#[test]
fn a_deletion_is_the_last_write_of_its_object_regardless_of_clocks() {
    let mut server = Server::new("RequestResponse");
    let events = [
        server.create(0, "carol", mode("zero")),
        server.patch(10, "alice", mode("a")),
        server.patch(20, "bob", mode("b")),
        server.patch(40, "alice", mode("a")),
        // From another API server, whose clock is 5 seconds behind.
        server.delete(38, "dave"),
    ];
    let watcher = in_any_order(&events);
    assert_eq!(watcher.analysis().deleted_at(), Some(START + 38 * SECOND));
    assert_eq!(watcher.state.state(), State::Calm, "the deletion ended the war");
    assert_eq!(watcher.contested(), ["data.mode 1/1"]);
}

#[test]
fn a_new_object_of_the_same_name_is_another_one_in_any_order_of_arrival() {
    let mut server = Server::new("RequestResponse");
    let events = [
        server.create(0, "carol", mode("zero")),
        server.patch(10, "alice", mode("a")),
        server.patch(20, "bob", mode("b")),
        server.delete(30, "dave"),
        server.create(40, "erin", mode("zero")),
        server.patch(50, "alice", mode("a")),
    ];
    let watcher = in_any_order(&events);
    assert_eq!((watcher.wars(), watcher.analysis().deleted_at()), (vec![], None));
}

#[test]
fn a_creation_with_a_clock_ahead_precedes_the_first_change() {
    let retakes = |created: i64| {
        let mut server = Server::new("Request");
        let events = [
            server.create(created, "carol", mode("zero")),
            server.patch(3, "alice", mode("a")),
            server.patch(20, "bob", mode("b")),
            server.patch(30, "alice", mode("a")),
        ];
        in_any_order(&events).contested()
    };
    assert_eq!(retakes(0), ["data.mode 1/1"]);
    assert_eq!(retakes(5), ["data.mode 1/1"], "two seconds");
    assert_eq!(retakes(13), ["data.mode 1/1"], "ten seconds");
}

#[test]
fn of_two_updates_of_one_revision_the_no_op_is_first() {
    // bob sends the object back unchanged, and alice changes it. Both report the same replaced revision.
    for (bob, alice) in [(0, 1), (1, 0)] {
        let mut server = Server::new("Request");
        let mut events = vec![server.create(0, "carol", mode("zero"))];
        for round in 1..6 {
            let current = server.stored.as_ref().unwrap()["data"]["mode"].as_str().unwrap().to_owned();
            events.push(server.update(round * 10 + bob, "bob", mode(&current)));
            events.push(server.update(round * 10 + alice, "alice", mode(&format!("v{round}"))));
        }
        let watcher = in_any_order(&events);
        assert_eq!(watcher.wars(), [""; 0], "bob at {bob}, alice at {alice}");
    }
}

#[test]
fn updates_of_different_revisions_are_a_war_regardless_of_clocks() {
    let mut server = Server::new("Request");
    let mut events = vec![server.create(0, "carol", mode("zero"))];
    for round in 1..5 {
        events.push(server.update(round * 10 + 1, "alice", mode("a")));
        events.push(server.update(round * 10, "bob", mode("b")));
    }
    assert_eq!(in_any_order(&events).wars(), ["Fields alice,bob 6 probable"]);
}

#[test]
fn a_request_for_the_status_writes_nothing_else() {
    for level in ["Request", "RequestResponse"] {
        let mut server = Server { of: ("apps", "deployments", "Deployment"), ..Server::new(level) };
        let mut events = vec![server.create(0, "carol", json!({"spec": {"replicas": 1}}))];
        for turn in 0..4 {
            let replicas = json!({"spec": {"replicas": 2 + turn % 2}});
            events.push(server.patch(10 + turn * 20, if turn % 2 == 0 { "alice" } else { "bob" }, replicas));
            let stored = server.stored.clone().unwrap();
            let content = json!({"spec": stored["spec"], "status": {"turn": turn}});
            let mut status = server.update(20 + turn * 20, "system:node:n1", content);
            status["objectRef"]["subresource"] = "status".into();
            // The rest of the body is outdated, and is not stored.
            status["requestObject"]["spec"]["replicas"] = 1.into();
            events.push(status);
        }
        let watcher = in_any_order(&events);
        assert_eq!(watcher.contested(), ["spec.replicas 2/2"], "{level}");
    }
}

#[test]
fn the_status_of_a_custom_resource_without_a_status_subresource_is_written_with_the_rest() {
    let contested = |of| {
        let mut server = Server { of, ..Server::new("RequestResponse") };
        let mut events = vec![server.create(0, "carol", json!({"status": {"a": "0"}}))];
        for (turn, who) in ["alice", "bob", "alice"].iter().enumerate() {
            events.push(server.patch(10 + turn as i64 * 10, who, json!({"status": {"a": *who}})));
        }
        Watcher::of(&events).contested()
    };
    assert_eq!(contested(("example.com", "widgets", "Widget")), ["status.a 1/1"]);
    assert_eq!(contested(("apps", "deployments", "Deployment")), [""; 0], "the API server ignores the status");
}

/// alice and bob set the mode alternately, with `per_second` writes a second.
fn long_war(watcher: &mut Watcher, writes: i64, per_second: i64) {
    let mut server = Server::new("RequestResponse");
    watcher.see(&server.create(0, "alice", mode("a")));
    for turn in 1..writes {
        let who = if turn % 2 == 0 { "alice" } else { "bob" };
        watcher.see(&server.patch(turn / per_second, who, mode(who)));
        if turn % 50 == 0 {
            assert_accounts(watcher.history());
        }
    }
}

#[test]
fn records_are_finalized_once_late_writes_cannot_precede_them() {
    let mut watcher = Watcher::new();
    let mut server = Server::new("RequestResponse");
    watcher.see(&server.create(0, "alice", mode("a")));
    for turn in 1..20 {
        watcher.see(&server.patch(turn * 30, if turn % 2 == 0 { "alice" } else { "bob" }, mode(&turn.to_string())));
        assert_accounts(watcher.history());
        // Five writes are within the 150 seconds before the latest.
        assert_eq!(watcher.history().finalized as i64, (turn - 5).max(0), "{turn}");
    }
    assert!(watcher.history().current_fields().is_some());
    // A write that is even later is counted by the fields that it names, and finalized immediately.
    let mut late = server.patch(95, "dave", mode("late"));
    late["responseObject"] = Value::Null;
    late["level"] = "Request".into();
    watcher.see(&late);
    assert_accounts(watcher.history());
    let at: Vec<i64> = watcher.history().records().map(|r| (r.order.at - START) / SECOND).collect();
    assert!(at.is_sorted() && at.contains(&95), "{at:?}");
    assert_eq!(watcher.history().finalized, 15);
}

#[test]
fn a_long_war_is_counted_completely_and_kept_partly() {
    // The third write sets a new value; from the fourth on, each restores an earlier one.
    let mut slow = Watcher::new();
    long_war(&mut slow, 600, 1);
    assert_eq!(slow.wars(), ["Fields alice,bob 597 confirmed"]);
    // The writes of the last 150 seconds are not finalized; 64 more are kept for the timeline.
    assert_eq!((slow.history().finalized, slow.history().records.len()), (SHOWN_MAX, SHOWN_MAX + 151));
    let mut fast = Watcher::new();
    long_war(&mut fast, 600, 4);
    assert_eq!(fast.wars(), ["Fields alice,bob 597 confirmed"]);
    assert_eq!((fast.history().finalized, fast.history().records.len()), (SHOWN_MAX, SHOWN_MAX + STATES_MAX));
    let mut followed = Watcher::new();
    followed.state.keep_history();
    long_war(&mut followed, 600, 1);
    assert_eq!(followed.history().records.len(), RECORDS_MAX);
    assert_eq!(followed.wars(), ["Fields alice,bob 597 confirmed"]);
}

#[test]
fn a_short_war_is_kept_completely() {
    let mut watcher = Watcher::new();
    long_war(&mut watcher, SHOWN_MAX as i64, 1);
    assert_eq!(watcher.history().records.len(), SHOWN_MAX);
}

#[test]
fn a_lifted_pause_stays_lifted_after_late_writes() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero"))]);
    let events: Vec<Value> = (1..14)
        .map(|turn| {
            server.patch(
                turn * 5,
                if turn % 2 == 0 { "alice" } else { "bob" },
                mode(if turn % 2 == 0 { "a" } else { "b" }),
            )
        })
        .collect();
    let (late, rest) = (&events[11], [&events[..11], &events[12..]].concat());
    rest.iter().for_each(|event| drop(watcher.see(event)));
    assert_eq!(watcher.state.state(), State::Sustained);
    watcher.state.resume(START + 70 * SECOND);
    assert_eq!(watcher.state.state(), State::Calm);
    watcher.see(late);
    assert_eq!(watcher.state.state(), State::Calm, "the late write was made before the pause was lifted");
    // The buckets are full again: five retakes pass, the sixth is a thrashing event.
    let mut states = Vec::new();
    for turn in 14..20 {
        watcher.see(&server.patch(
            turn * 5 + 5,
            if turn % 2 == 0 { "alice" } else { "bob" },
            mode(if turn % 2 == 0 { "a" } else { "b" }),
        ));
        states.push(watcher.analysis().state(Confidence::Confirmed));
    }
    assert_eq!(states[..5], [State::Contested; 5]);
    assert_eq!(states[5], State::Thrashing);
}

#[test]
fn a_war_continues_after_its_states_are_dropped() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero"))]);
    for turn in 1..6 {
        watcher.see(&server.patch(
            turn * 10,
            if turn % 2 == 0 { "alice" } else { "bob" },
            mode(if turn % 2 == 0 { "a" } else { "b" }),
        ));
    }
    let before = watcher.state.bytes();
    watcher.state.drop_bodies();
    assert_eq!((watcher.state.bytes() < before, watcher.history().current_fields().is_some()), (true, false));
    assert_accounts(watcher.history());
    for turn in 6..9 {
        watcher.see(&server.patch(
            turn * 10,
            if turn % 2 == 0 { "alice" } else { "bob" },
            mode(if turn % 2 == 0 { "a" } else { "b" }),
        ));
        assert_accounts(watcher.history());
    }
    assert!(watcher.history().current_fields().is_some());
    assert_eq!(watcher.wars(), ["Fields alice,bob 6 confirmed"]);
}

#[test]
fn the_history_continues_in_an_object_that_its_actor_replaces() {
    // Whenever flux finds alice's value, it deletes the object and creates it with its own value.
    let mut server = Server::new("RequestResponse");
    let mut events = vec![server.create(0, "flux", mode("f"))];
    for round in 1..5 {
        events.push(server.patch(round * 60, "alice", mode("a")));
        events.push(server.delete(round * 60 + 10, "flux"));
        events.push(server.create(round * 60 + 11, "flux", mode("f")));
    }
    let watcher = Watcher::of(&events);
    let replacements: Vec<bool> =
        watcher.history().records().filter(|r| r.effect == Effect::Create).map(|r| r.is_replacement).collect();
    assert_eq!(replacements, [false, false, true, true, true], "from the second replacement on");
    assert!(watcher.wars().iter().any(|war| war.starts_with("Fields alice,flux")), "{:?}", watcher.wars());
    let pods = Server { of: ("", "pods", "Pod"), ..Server::new("RequestResponse") };
    let mut server = pods;
    let mut events = vec![server.create(0, "controller", mode("f"))];
    for round in 1..5 {
        events.push(server.patch(round * 60, "alice", mode("a")));
        events.push(server.delete(round * 60 + 10, "controller"));
        events.push(server.create(round * 60 + 11, "controller", mode("f")));
    }
    let watcher = Watcher::of(&events);
    assert!(watcher.history().records().all(|r| !r.is_replacement), "each Pod is a new one");
}

#[test]
fn records_show_which_webhook_changed_them() {
    let mut server = Server::new("RequestResponse");
    let mut events = vec![server.create(0, "carol", mode("zero")), server.patch(5, "bob", mode("b"))];
    let operations = json!([{"op": "replace", "path": "/data/mode", "value": "w"}, {"op": "add", "path": "/data/more", "value": "m"}]);
    events.push(server.patch_through(10, "alice", json!({"data": {"other": "o"}}), ("policy", operations)));
    let watcher = Watcher::of(&events);
    let last = watcher.history().records().last().unwrap();
    assert!(last.is_admitted_by("webhook policy/policy.example.com") && !last.is_admitted_by("webhook other/x"));
    let paths = |changes: &[Change]| changes.iter().map(|change| change.path.to_string()).collect::<Vec<_>>();
    assert_eq!(paths(&last.changes), ["data.other"], "the changes of alice");
    let of_webhook = last.admission.as_ref().unwrap().by_webhook();
    assert_eq!(of_webhook.len(), 1, "one webhook");
    assert_eq!(of_webhook[0].1.iter().map(|c| c.path.to_string()).collect::<Vec<_>>(), ["data.mode", "data.more"]);
    assert!(
        watcher
            .history()
            .records()
            .next()
            .is_some_and(|first| !first.is_admitted_by("webhook policy/policy.example.com"))
    );
}

#[test]
fn an_update_of_an_earlier_revision_stored_it_regardless_of_clocks() {
    for skew in [1, -1] {
        let mut server = Server::new("RequestResponse");
        let events = [
            server.create(0, "carol", mode("zero")),
            server.patch(5, "bob", mode("b")),
            server.update(10, "alice", mode("a")),
            server.patch(10 + skew, "dave", mode("a")),
            server.patch(20, "bob", mode("b")),
        ];
        let watcher = in_any_order(&events);
        assert_eq!(watcher.wars(), ["Fields alice,bob 1 confirmed"], "{skew}");
        let dave = essence(&watcher).seen.into_iter().find(|(who, ..)| who == "dave");
        assert_eq!(dave, Some(("dave".to_owned(), 0, 1)), "{skew}");
    }
}

#[test]
fn of_two_patches_with_one_revision_the_later_one_is_a_no_op() {
    let mut server = Server::new("RequestResponse");
    let events = [
        server.create(0, "carol", mode("zero")),
        server.patch(5, "bob", mode("b")),
        server.patch(10, "alice", mode("a")),
        server.patch(11, "dave", mode("a")),
        server.patch(20, "bob", mode("b")),
    ];
    let watcher = in_any_order(&events);
    assert_eq!(watcher.wars(), ["Fields alice,bob 1 confirmed"]);
    let found = essence(&watcher).seen;
    assert_eq!(found[0], ("alice".to_owned(), 1, 0));
    assert_eq!(found[3], ("dave".to_owned(), 0, 1));
}

/// Returns the order of a write.
fn order(revision: u64, uid: u64, at: Micros, is_last: bool) -> WriteOrder {
    WriteOrder { revision, uid, at, is_last }
}

/// A write without bodies.
fn bare(order: WriteOrder, effect: Effect) -> Record {
    let verb = match effect {
        Effect::Create => Verb::Create,
        Effect::Delete => Verb::Delete,
        Effect::Modify => Verb::Patch,
    };
    let client = Arc::new(Client::named("alice"));
    Record::new(order, client, verb, effect, Part::Main, EvidenceLevel::Object, Evidence::None)
}

fn modification(revision: u64, uid: u64, at: Micros) -> Record {
    bare(order(revision, uid, at, false), Effect::Modify)
}

fn deletion(revision: u64, uid: u64, at: Micros) -> Record {
    bare(order(revision, uid, at, true), Effect::Delete)
}

/// A history with exactly these writes, in this order, none of them finalized.
fn of_records(records: impl IntoIterator<Item = Record>) -> WriteHistory {
    let records: VecDeque<Record> = records.into_iter().collect();
    let bytes = records.iter().map(Record::bytes).sum();
    WriteHistory { records, bytes, ..WriteHistory::default() }
}

const CONFIG_MAP: ObjectName<'_> = ObjectName { group: "", resource: "configmaps", namespace: "shop", name: "web" };

#[test]
fn writes_are_ordered_by_revision_or_else_by_time() {
    let known = || of_records([modification(10, 0, 1), modification(14, 0, 3)]);
    assert_eq!(known().position_for(&modification(12, 0, 9)), 1, "between two revisions, regardless of its time");
    assert_eq!(known().position_for(&modification(20, 0, 0)), 2, "after a smaller revision, regardless of its time");
    assert_eq!(known().position_for(&modification(0, 0, 2)), 1, "without a revision, by time");
    assert_eq!(known().position_for(&modification(0, 0, 3)), 2, "after a write of the same time");
    // The last write has no revision.
    let unknown_last = of_records([modification(10, 0, 1), modification(0, 0, 9)]);
    assert_eq!(unknown_last.position_for(&modification(20, 0, 5)), 1);
    assert_eq!(unknown_last.position_for(&modification(20, 0, 9)), 2);
}

#[test]
fn of_two_writes_with_the_same_revision_the_earlier_one_is_first() {
    let history = of_records([modification(10, 0, 1), modification(15, 0, 5)]);
    assert_eq!(history.position_for(&modification(15, 0, 3)), 1);
    assert_eq!(history.position_for(&modification(15, 0, 7)), 2);
}

#[test]
fn a_deletion_without_a_revision_follows_the_writes_of_its_epoch() {
    let history = of_records([modification(10, 1, 1), modification(20, 2, 2)]);
    assert_eq!(history.position_for(&deletion(0, 1, 9)), 1, "before the next epoch, regardless of its time");
    assert_eq!(history.position_for(&deletion(0, 2, 0)), 2, "after its own epoch, regardless of its time");
    assert_eq!(history.position_for(&deletion(0, 3, 9)), 2, "in an unknown epoch, by time");
}

#[test]
fn only_a_deletion_without_a_revision_may_have_to_be_moved() {
    let history = of_records([modification(10, 1, 1), modification(0, 1, 2), deletion(0, 1, 3)]);
    assert_eq!(history.deletion_of(1), Some(2));
    assert_eq!(history.deletion_of(2), None, "another epoch");
    assert_eq!(of_records([deletion(12, 1, 3)]).deletion_of(1), None, "its revision is known");
    assert_eq!(of_records([modification(0, 1, 3)]).deletion_of(1), None, "not a deletion");
    assert_eq!(of_records([deletion(0, 0, 3)]).deletion_of(0), None, "the epoch is not known");
    let mut finalized = of_records([deletion(0, 1, 3)]);
    finalized.finalized = 1;
    assert_eq!(finalized.deletion_of(1), None, "finalized records are not moved");
}

#[test]
fn the_record_of_a_revision_is_found_among_writes_without_one() {
    let history = of_records([modification(14, 0, 1), modification(0, 0, 2), modification(18, 0, 3)]);
    assert_eq!(history.position_of(&order(14, 0, 9, false)), Some(0));
    assert_eq!(history.position_of(&order(18, 0, 9, false)), Some(2));
    assert_eq!(history.position_of(&order(16, 0, 9, false)), None);
}

#[test]
fn a_creation_up_to_ten_seconds_after_another_write_is_misplaced() {
    let is_misplaced = |before: Record, revision, at| {
        of_records([before, bare(order(revision, 0, at, false), Effect::Create)]).is_misplaced(1)
    };
    assert!(is_misplaced(modification(0, 0, START), 0, START + 10 * SECOND));
    assert!(!is_misplaced(modification(0, 0, START), 0, START + 10 * SECOND + 1), "the clocks do not differ that much");
    assert!(!is_misplaced(deletion(0, 0, START), 0, START + 1), "a deleted object can be created again");
    assert!(!is_misplaced(modification(0, 0, START), 14, START + 1), "its revision determines its position");
    assert!(!of_records([bare(order(0, 0, START, false), Effect::Create)]).is_misplaced(0), "nothing is before it");
    assert!(!of_records([modification(0, 0, START), modification(0, 0, START)]).is_misplaced(1), "not a creation");
}

#[test]
fn the_latest_write_is_kept_unfinalized_regardless_of_its_size() {
    let mut one = of_records([modification(10, 0, START)]);
    one.bytes = BYTES_MAX + 1;
    assert!(!one.is_too_long());
    one.finalize();
    assert_eq!(one.finalized, 0);
    let mut half = of_records([modification(10, 0, START), modification(12, 0, START)]);
    half.bytes = BYTES_MAX / 2;
    half.finalize();
    assert_eq!(half.finalized, 0, "up to half of the maximum stays unfinalized");
    half.bytes += 1;
    half.finalize();
    assert_eq!(half.finalized, 1);
    let mut two = of_records([modification(10, 0, START), modification(12, 0, START)]);
    two.bytes = BYTES_MAX;
    assert!(!two.is_too_long(), "exactly the maximum");
    two.bytes = BYTES_MAX + 1;
    assert!(two.is_too_long());
    two.finalize();
    assert_eq!(two.finalized, 1);
}

#[test]
fn a_write_before_finalized_records_is_finalized_immediately() {
    let limits = Limits::default();
    let on = &ObjectLimits::new(&limits, &CONFIG_MAP);
    let mut history = of_records([modification(10, 0, START), modification(12, 0, START + SECOND)]);
    history.drop_states();
    assert_eq!(history.finalized, 2);
    history.insert(modification(8, 0, START - SECOND), on);
    assert_eq!(history.finalized, 3);
    assert!(history.records[0].is_blind, "it is no longer known what the write changed");
    let (intents, lists) = (Vec::new(), Vec::new());
    let evidence = Evidence::Intents {
        intents,
        level: EvidenceLevel::Field,
        is_takeover: false,
        is_apply: false,
        lists,
        unresolved: None,
    };
    let client = Arc::new(Client::named("alice"));
    let between = order(7, 0, START - SECOND, false);
    history.insert(
        Record::new(between, client, Verb::Patch, Effect::Modify, Part::Main, EvidenceLevel::Field, evidence),
        on,
    );
    assert!(history.records[0].is_blind, "even if the write names its fields");
    history.insert(bare(order(6, 0, START - 2 * SECOND, false), Effect::Create), on);
    assert_eq!(history.finalized, 5);
    assert!(!history.records[0].is_blind, "a creation changes nothing");
    assert_accounts(&history);
}

#[test]
fn a_rival_without_a_body_does_not_hide_the_next_ones_change() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero")), server.patch(5, "bob", mode("b"))]);
    let mut other = server.clone();
    server.level = "Metadata";
    watcher.see(&server.update(10, "dave", mode("b")));
    other.level = "Request";
    watcher.see(&other.update(11, "alice", mode("a")));
    let known = watcher.history().current_fields().expect("what alice sent");
    assert_eq!(known.get(&Path::from("data.mode")), Some(&FieldValue::of_json(r#""a""#)));
}

#[test]
fn of_three_updates_of_one_revision_the_no_ops_are_first() {
    let mut server = Server::new("Request");
    let created = server.create(0, "carol", mode("zero"));
    let first = server.patch(5, "bob", mode("b"));
    let update = |second, who, value| server.clone().update(second, who, mode(value));
    let (x, y, same) = (update(10, "alice", "x"), update(11, "dave", "y"), update(12, "erin", "b"));
    for arrival in [[&x, &y, &same], [&same, &x, &y], [&y, &same, &x], [&y, &x, &same], [&x, &same, &y]] {
        let mut watcher = Watcher::of([&created, &first]);
        arrival.into_iter().for_each(|event| drop(watcher.see(event)));
        let who: Vec<&str> = watcher.history().records().skip(2).map(|r| &*r.client.actor).collect();
        assert_eq!(who, ["erin", "alice", "dave"]);
    }
}

#[test]
fn the_bytes_of_a_history_include_its_analysis() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", mode("zero")), server.patch(5, "bob", mode("b"))]);
    watcher.see(&server.patch(10, "alice", mode("a")));
    let history = watcher.history();
    // All records are kept, and none is finalized: the base is empty.
    assert!(history.finalized_fields.is_none());
    assert_eq!(history.bytes(), history.bytes + history.live.bytes() + Analysis::default().bytes() / 2);
    // Ten minutes later, the earlier records are finalized, and the state after them is kept separately.
    watcher.see(&server.patch(610, "bob", mode("b")));
    let history = watcher.history();
    let finalized_fields = history.finalized_fields.as_ref().expect("the state after alice's write").bytes();
    assert!(finalized_fields > 0);
    assert_eq!(
        history.bytes(),
        history.bytes + finalized_fields + history.live.bytes() + Analysis::default().bytes() / 2
    );
}

/// bob and alice alternate every five seconds. The third write, at 15 s, is the first retake; the sixth retake, at 40 s, is the
/// first thrashing event, and the eighth, at 50 s, the third one.
fn fast_war(level: &'static str, writes: i64) -> Vec<Value> {
    let mut server = Server::new(level);
    let mut events = vec![server.create(0, "carol", mode("zero"))];
    for turn in 1..=writes {
        let who = if turn % 2 == 0 { "alice" } else { "bob" };
        events.push(server.patch(turn * 5, who, mode(who)));
    }
    events
}

#[test]
fn a_lifted_pause_stays_lifted_when_records_are_dropped() {
    let mut watcher = Watcher::of(&fast_war("RequestResponse", 12));
    assert_eq!(watcher.state.state(), State::Sustained);
    watcher.state.resume(START + 61 * SECOND);
    watcher.state.drop_history();
    assert_eq!(watcher.state.state(), State::Calm);
    // The next write, at 65 s, is a retake with full buckets.
    watcher.see(&fast_war("RequestResponse", 13)[13]);
    assert_eq!(watcher.state.state(), State::Contested);
    // Dropping the records again does not change the state.
    watcher.state.drop_history();
    assert_eq!(watcher.state.state(), State::Contested);
}

#[test]
fn a_late_last_write_precedes_the_lifting_of_the_pause() {
    let mut watcher = Watcher::of(&fast_war("RequestResponse", 12));
    watcher.state.resume(START + 70 * SECOND);
    let late = &fast_war("RequestResponse", 13)[13];
    assert_eq!(watcher.see_at(71, late).transitions, []);
    assert_eq!(watcher.state.state(), State::Calm);
}

#[test]
fn the_lifting_of_a_pause_is_folded_in_before_later_writes() {
    let limits = Limits::default();
    let on = &ObjectLimits::new(&limits, &CONFIG_MAP);
    let mut history = of_records([]);
    history.resumed = Some(START + 5);
    history.fold_into_base(modification(10, 0, START + 4), on);
    assert_eq!(history.resumed, Some(START + 5), "the write precedes the lifting of the pause");
    history.fold_into_base(modification(12, 0, START + 5), on);
    assert_eq!(history.resumed, None);
}

#[test]
fn updates_of_one_revision_that_all_change_something_are_ordered_by_time() {
    let mut server = Server::new("Request");
    let created = server.create(0, "carol", mode("zero"));
    let first = server.patch(5, "bob", mode("b"));
    let update = |second, who, value| server.clone().update(second, who, mode(value));
    // erin requests the same value as alice, which differs from the state before.
    let (x, y, again) = (update(10, "alice", "x"), update(11, "dave", "y"), update(12, "erin", "x"));
    for arrival in [[&x, &y, &again], [&again, &y, &x], [&y, &again, &x]] {
        let mut watcher = Watcher::of([&created, &first]);
        arrival.into_iter().for_each(|event| drop(watcher.see(event)));
        let who: Vec<&str> = watcher.history().records().skip(2).map(|r| &*r.client.actor).collect();
        assert_eq!(who, ["alice", "dave", "erin"]);
    }
}

#[test]
fn a_write_is_counted_once_if_a_rival_is_inserted_before_it() {
    let mut server = Server::new("Request");
    let mut watcher = Watcher::of(&[
        server.create(0, "carol", mode("zero")),
        server.patch(3, "alice", mode("a")),
        server.patch(5, "bob", mode("b")),
        server.clone().update(10, "alice", mode("a")),
    ]);
    // dave's update of the same revision changes nothing, so it precedes alice's.
    watcher.see(&server.clone().update(12, "dave", mode("b")));
    assert_eq!(watcher.contested(), ["data.mode 1/1"]);
    let counts: Vec<_> = watcher.analysis().contested_fields()[0]
        .1
        .values
        .iter()
        .map(|seen| (&*seen.client.actor, seen.value.as_ref().unwrap().text().unwrap(), seen.count))
        .collect();
    let expected = [("carol", r#""zero""#, 1), ("alice", r#""a""#, 2), ("bob", r#""b""#, 1)];
    assert_eq!(counts, expected);
}

#[test]
fn transitions_happen_at_their_own_times_and_are_returned_once() {
    let mut watcher = Watcher::of(&fast_war("RequestResponse", 12));
    assert_eq!(watcher.advance(659), []);
    let subsides = state_change(State::Sustained, State::Subsiding, 660);
    let calms = state_change(State::Subsiding, State::Calm, 1260);
    assert_eq!(watcher.advance(5000), [subsides, calms]);
    assert_eq!(watcher.advance(5000), []);
}

#[test]
fn a_possible_war_does_not_change_the_objects_state() {
    let mut watcher = Watcher::of(&fast_war("Metadata", 12));
    assert_eq!(watcher.analysis().state(Confidence::Possible), State::Sustained);
    assert_eq!(watcher.advance(700), []);
    assert_eq!(watcher.analysis().state(Confidence::Possible), State::Subsiding);
}

#[test]
fn a_deadline_is_returned_if_it_is_earlier_or_the_last_one_has_passed() {
    let mut watcher = Watcher::new();
    let mut deadlines = Vec::new();
    for event in fast_war("RequestResponse", 12) {
        watcher.see(&event);
        deadlines.extend(watcher.new_deadline().map(|second| (watcher.history().records().count(), second)));
    }
    // A contested object becomes calm an hour after the first retake, which is the fourth write. A sustained war
    // subsides ten minutes after the last retake; it is first sustained with the eleventh write, at 50 s.
    assert_eq!(deadlines, [(4, 15 + 3600), (11, 50 + 600)]);
    watcher.advance(649);
    assert_eq!(watcher.new_deadline(), None, "the deadline has not passed");
    watcher.advance(650);
    assert_eq!(watcher.new_deadline(), Some(660), "there were two more retakes");
    assert_eq!(watcher.new_deadline(), None);
    watcher.advance(660);
    assert_eq!(watcher.new_deadline(), Some(1260));
    watcher.advance(1260);
    assert_eq!(watcher.new_deadline(), None, "the object is calm");
}

#[test]
fn a_late_write_counts_at_its_own_time() {
    let events = fast_war("RequestResponse", 13);
    for now in [664, 665, 700] {
        let mut watcher = Watcher::of(&events[..13]);
        assert_eq!(watcher.advance(now), [state_change(State::Sustained, State::Subsiding, 660)]);
        let told = watcher.see_at(now, &events[13]).transitions;
        // The write was made at 65 s, so the war subsides at 665 s.
        let is_sustained = now < 665;
        let expected = is_sustained.then(|| state_change(State::Subsiding, State::Sustained, 65));
        assert_eq!(told, Vec::from_iter(expected), "{now}");
        watcher.advance(700);
        let since = watcher.analysis().wars().map(|war| war.tally.machine.since()).collect::<Vec<_>>();
        assert_eq!((watcher.state.state(), since), (State::Subsiding, vec![START + 665 * SECOND]), "{now}");
    }
}

#[test]
fn a_fold_that_begins_at_a_checkpoint_has_the_result_of_a_complete_one() {
    let limits = Limits::default();
    let on = &ObjectLimits::new(&limits, &CONFIG_MAP);
    let mut seed = 7_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut checkpoints = 0;
    for level in LEVELS {
        for late in [2, 20, 120] {
            // Each event arrives up to `late` events too late.
            let mut events: Vec<(usize, Value)> = fast_war(level, 500)
                .into_iter()
                .enumerate()
                .map(|(index, event)| (index + next(late), event))
                .collect();
            events.sort_by_key(|(at, _)| *at);
            let mut watcher = Watcher::of(&[]);
            for (index, (_, event)) in events.iter().enumerate() {
                watcher.see(event);
                if index == 300 {
                    watcher.state.resume(START + 1_400 * SECOND);
                }
                if index % 20 != 19 {
                    continue;
                }
                let fold = |with_checkpoint: bool, changed: usize| {
                    let mut history = watcher.history().clone();
                    history.checkpoint = history.checkpoint.filter(|_| with_checkpoint);
                    drop(history.recompute(changed, on));
                    format!("{:?}", history.live)
                };
                let history = watcher.history();
                let len = history.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.len);
                checkpoints += usize::from(len > 0);
                assert_eq!(fold(true, history.records.len()), fold(false, 0), "{level} {late} {index}: from {len}");
            }
            assert_accounts(watcher.history());
        }
    }
    assert!(checkpoints > 50, "{checkpoints} folds began at a checkpoint");
}
