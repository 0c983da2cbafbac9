//! One object, from its first write to a war over it.

use serde_json::{Value, json};

use super::*;
use crate::detect::tests::{SECOND, START, Server, Watcher};

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
        let events = war(level, 5);
        let expected = Watcher::of(&events);
        let mut order: Vec<usize> = (0..events.len()).collect();
        // All orders of six events, by Heap's algorithm.
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
