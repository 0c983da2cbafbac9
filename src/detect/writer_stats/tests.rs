use super::*;

const _: () = assert!(size_of::<WriterStats>() <= 56, "a cluster has millions of them");

fn hot(times_ms: impl Iterator<Item = u32>, is_no_op: bool) -> bool {
    let mut seen = WriterStats::new(Arc::new(Client::named("a")), Part::Main);
    times_ms.for_each(|ms| seen.count_rate(ms, is_no_op, &Limits::default()));
    seen.is_hot(&Limits::default())
}

#[test]
fn a_periodic_no_op_is_not_a_hot_loop() {
    assert!(!hot((0..200).map(|i| i * 15_000), true));
    assert!(!hot((0..200).map(|i| i * 5_001), true));
}

#[test]
fn consecutive_no_ops_are_a_hot_loop() {
    assert!(!hot((0..29).map(|i| i * 4_000), true), "29 of them");
    assert!(hot((0..30).map(|i| i * 4_000), true), "30 of them");
    assert!(!hot((0..200).map(|i| i * 4_000), false), "writes are changes");
}

#[test]
fn more_than_sixty_a_minute_is_a_hot_loop() {
    assert!(!hot((0..200).map(|i| i * 1_000), false));
    assert!(hot((0..700).map(|i| i * 900), false), "67 a minute exceed the limit once the burst is used up");
    assert!(hot((0..62).map(|i| i * 10), false));
    assert!(!hot((0..60).map(|i| i * 10), false), "sixty at once are allowed");
}

use crate::detect::tests::{SECOND, START, Server, attributed};
use serde_json::{Value, json};

/// Counts these writes, each at this time in milliseconds.
fn seen_of(events: &[(&Value, u32, bool)]) -> WriterStats {
    let mut seen = WriterStats::new(Arc::new(Client::named("a")), Part::Main);
    for (event, ms, is_no_op) in events {
        attributed(event, |write, _| seen.count(write, *ms, *is_no_op, &Limits::default()));
    }
    seen
}

/// A creation, an update, two patches, a binding and a deletion.
fn life() -> [Value; 6] {
    let mut server = Server::new("RequestResponse");
    let create = server.create(0, "a", json!({}));
    let update = server.update(1, "a", json!({"data": {"x": "1"}}));
    let patches = ["2", "3"].map(|value| server.patch(2, "a", json!({"data": {"x": value}})));
    let mut binding = server.patch(4, "a", json!({}));
    binding["objectRef"]["subresource"] = "binding".into();
    binding["verb"] = "create".into();
    let delete = server.delete(5, "a");
    let [one, two] = patches;
    [create, update, one, two, binding, delete]
}

#[test]
fn writes_are_counted_by_verb_and_effect() {
    let life = life();
    let seen = seen_of(&life.each_ref().map(|event| (event, 1_000, false)));
    assert_eq!(seen.verbs(), [("create", 2), ("update", 1), ("patch", 2), ("delete", 1)]);
    assert_eq!((seen.writes(), seen.creates(), seen.deletes(), seen.no_ops), (6, 1, 1, 0));
    assert_eq!(seen.content_writes(), 4, "neither the binding nor the deletion gives the object contents");
}

#[test]
fn a_discounted_write_is_a_no_op() {
    let life = life();
    let mut seen = seen_of(&life.each_ref().map(|event| (event, 1_000, false)));
    seen.discount();
    assert_eq!(
        (seen.verbs()[3].1, seen.writes(), seen.no_ops),
        (0, 5, 1),
        "the verbs are discounted from the last to the first"
    );
    for _ in 0..9 {
        seen.discount();
    }
    assert_eq!((seen.writes(), seen.no_ops), (0, 6), "no more than the counted writes are discounted");
}

#[test]
fn the_modifying_verb_is_the_most_frequent_one() {
    let [_, update, patch, ..] = life();
    let of = |events: &[&Value]| {
        seen_of(&events.iter().map(|event| (*event, 0, false)).collect::<Vec<_>>()).modifying_verb()
    };
    assert_eq!(of(&[&update, &update, &patch]), Verb::Update);
    assert_eq!(of(&[&update, &patch, &patch]), Verb::Patch);
    assert_eq!(of(&[&update, &patch]), Verb::Patch);
}

#[test]
fn times_are_relative_to_the_objects_base() {
    let [_, update, patch, ..] = life();
    let at = |ms: i64| START + ms * 1_000;
    let seen = seen_of(&[(&update, 5_000, false), (&patch, 2_000, false), (&patch, 9_000, true)]);
    assert_eq!(seen.span(START), (at(2_000), at(5_000)), "the late write is the first one");
    assert_eq!(seen.activity(START), (at(2_000), at(9_000)), "a no-op is activity");
    let no_ops = seen_of(&[(&update, 5_000, true), (&update, 3_000, true), (&update, 4_000, true)]);
    assert_eq!((no_ops.span(START), no_ops.no_ops, no_ops.writes()), ((at(3_000), at(5_000)), 3, 0));
    let then = seen_of(&[(&update, 5_000, true), (&update, 7_000, false), (&update, 8_000, true)]);
    assert_eq!(then.span(START), (at(7_000), at(7_000)), "once there is a write, no-ops do not count");
    assert_eq!(then.activity(START), (at(7_000), at(8_000)));
}

#[test]
fn the_latest_finalized_write_is_remembered() {
    let mut seen = WriterStats::new(Arc::new(Client::named("a")), Part::Main);
    assert_eq!(seen.finalized(START), None);
    seen.finalize(7_000);
    seen.finalize(3_000);
    assert_eq!(seen.finalized(START), Some(START + 7 * SECOND));
    let mut first = WriterStats::new(Arc::new(Client::named("a")), Part::Main);
    first.finalize(0);
    assert_eq!(first.finalized(START), Some(START + 1_000), "a write at the base time differs from no write");
}

#[test]
fn a_request_more_than_a_minute_late_does_not_count_towards_the_rate() {
    let burst = |late: u32| {
        // Sixty in a row empty the bucket; one more exceeds the rate.
        hot((0..60).map(|i| 100_000 + i * 10).chain([100_590 - late]), false)
    };
    assert!(burst(0) && burst(60_000));
    assert!(!burst(60_001));
}
