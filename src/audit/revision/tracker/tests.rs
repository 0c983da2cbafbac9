use serde_json::json;

use super::*;
use crate::audit::decode::{Decoded, decode};

/// 2026-11-23T20:37:00Z.
const START: Micros = 1_795_466_220_000_000;

/// A ConfigMap whose `data.v` is written by managers.
struct Story {
    tracker: Tracker,
    /// The second of the last write, and the owner of `data.v`.
    second: u32,
    revision: u32,
}

impl Story {
    fn new() -> Story {
        let resource = Resource { group: String::new(), version: "v1".into(), name: "configmaps".into() };
        Story { tracker: Tracker::new(resource, 1 << 20), second: 0, revision: 100 }
    }

    /// Returns the next revision: `data.v` owned by this manager, which wrote it in this second.
    fn object(&mut self, owner: &str, second: u32, value: &str) -> String {
        self.second = second;
        self.revision += 1;
        json!({
            "kind": "ConfigMap", "apiVersion": "v1", "metadata": {
                "name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": self.revision.to_string(),
                "managedFields": [{
                    "manager": owner, "operation": "Update", "apiVersion": "v1",
                    "time": format!("2026-11-23T20:37:{second:02}Z"), "fieldsV1": {"f:data": {"f:v": {}}},
                }],
            }, "data": {"v": value},
        })
        .to_string()
    }

    /// Passes a revision to the tracker, as the watch of the metadata or of the values shows it. Returns its events.
    fn see(&mut self, kind: Kind, object: &str, has_values: bool) -> (Observation, Vec<String>) {
        let object: &RawValue = serde_json::from_str(object).unwrap();
        let metadata = Metadata::of(object).unwrap();
        let at = START + Micros::from(self.second) * SECOND + 250_000;
        let seen = Seen { kind, metadata: &metadata, object: has_values.then_some(object), at };
        let mut lines = Vec::new();
        let observation = self.tracker.observe(&seen, false, &mut lines);
        let told = |line: &[u8]| {
            let Ok(Decoded::Event(event)) = decode(line) else { panic!("no event") };
            let after = (event.at().unwrap() - START) / 1000;
            let values = if event.level == crate::audit::event::Level::RequestResponse { " with values" } else { "" };
            let continues = if event.annotation(crate::audit::event::CONTINUES).is_some() { ", continued" } else { "" };
            format!("{after} {} {}{values}{continues}", event.username, event.verb.as_str())
        };
        let events = lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(told).collect();
        (observation, events)
    }
}

#[test]
fn the_first_revision_of_an_existing_object_is_only_a_base() {
    let mut story = Story::new();
    let object = story.object("a", 1, "1");
    let only_a_write = Observation { is_write: true, ..Observation::default() };
    assert_eq!(story.see(Kind::Modified, &object, false), (only_a_write, vec!["1250  patch".to_owned()]));
}

#[test]
fn a_takeover_tells_of_the_earlier_write_too() {
    let mut story = Story::new();
    let first = story.object("a", 1, "1");
    story.see(Kind::Modified, &first, false);
    let second = story.object("b", 5, "2");
    let takeover = Observation { is_write: true, is_unknown: false, is_takeover: true };
    let expected = ["1000 a (Update) patch".to_owned(), "5250 b (Update) patch".to_owned()];
    assert_eq!(story.see(Kind::Modified, &second, false), (takeover, expected.to_vec()));
    // That b had the field is known now.
    let third = story.object("a", 7, "1");
    assert_eq!(story.see(Kind::Modified, &third, false).1, ["7250 a (Update) patch"]);
    let fourth = story.object("b", 8, "2");
    assert_eq!(story.see(Kind::Modified, &fourth, false).1, ["8250 b (Update) patch"]);
}

#[test]
fn the_creation_is_a_write_of_the_only_manager() {
    let mut story = Story::new();
    let object = story.object("a", 1, "1");
    let (observation, events) = story.see(Kind::Added, &object, false);
    assert_eq!(events, ["1250 a (Update) create"]);
    assert!(!observation.is_takeover);
}

#[test]
fn a_second_watch_adds_the_values_to_the_same_revisions() {
    let mut story = Story::new();
    let revisions: Vec<String> =
        [("a", 1, "1"), ("b", 5, "2"), ("a", 7, "1")].map(|(who, second, v)| story.object(who, second, v)).into();
    story.second = 5;
    story.see(Kind::Modified, &revisions[0], false);
    story.see(Kind::Modified, &revisions[1], false);
    assert_eq!(story.see(Kind::Modified, &revisions[1], true).1, ["5250 b (Update) patch with values"]);
    assert_eq!(story.see(Kind::Modified, &revisions[1], true).1, [""; 0], "the watch was started again");
    story.second = 7;
    // Now the watch of the values is the first to show a revision.
    assert_eq!(story.see(Kind::Modified, &revisions[2], true).1, ["7250 a (Update) patch with values, continued"]);
    assert_eq!(story.see(Kind::Modified, &revisions[2], false).1, [""; 0]);
}

#[test]
fn values_do_not_continue_after_a_revision_without_them() {
    let mut story = Story::new();
    let revisions: Vec<String> =
        [("a", 1, "1"), ("b", 5, "2"), ("a", 7, "1")].map(|(who, second, v)| story.object(who, second, v)).into();
    story.see(Kind::Modified, &revisions[0], false);
    story.see(Kind::Modified, &revisions[0], true);
    story.see(Kind::Modified, &revisions[1], false);
    assert_eq!(story.see(Kind::Modified, &revisions[2], true).1, ["7250 a (Update) patch with values"]);
}

#[test]
fn without_a_known_author_only_the_write_and_its_values_are_told() {
    let mut story = Story::new();
    let first = story.object("a", 1, "1");
    story.see(Kind::Modified, &first, false);
    story.see(Kind::Modified, &first, true);
    // Ten seconds after its last write, the time of the manager would have moved.
    let same = story.object("a", 1, "3");
    story.second = 11;
    let (observation, events) = story.see(Kind::Modified, &same, true);
    assert!(observation.is_unknown);
    assert_eq!(events, ["11250  patch with values, continued"]);
    let again = story.object("a", 1, "4");
    story.second = 12;
    assert_eq!(story.see(Kind::Modified, &again, false).1, ["12250  patch"]);
}

#[test]
fn a_deletion_has_no_author_and_is_told_once() {
    let mut story = Story::new();
    let object = story.object("a", 1, "1");
    story.see(Kind::Added, &object, false);
    assert_eq!(story.see(Kind::Deleted, &object, true).1, [""; 0]);
    assert_eq!(story.see(Kind::Deleted, &object, false).1, ["1250  delete with values"]);
    assert!(story.tracker.objects.is_empty());
    assert_eq!(story.tracker.bytes, 0);
}

#[test]
fn a_clock_that_differs_moves_a_revision_by_less_than_a_second() {
    let mut story = Story::new();
    let first = story.object("a", 1, "1");
    story.see(Kind::Added, &first, false);
    let second = story.object("b", 9, "2");
    story.second = 50;
    assert_eq!(story.see(Kind::Modified, &second, false).1, ["9999 b (Update) patch"]);
    let third = story.object("a", 12, "1");
    story.second = 3;
    assert_eq!(story.see(Kind::Modified, &third, false).1, ["12000 a (Update) patch"]);
}

#[test]
fn the_objects_that_changed_least_recently_are_forgotten_first() {
    let mut story = Story::new();
    story.tracker.bytes_max = 8 << 10;
    for index in 0..100 {
        let object = story.object("a", 1, "1").replace("\"u1\"", &format!("\"u{index}\""));
        story.see(Kind::Added, &object, false);
        assert!(story.tracker.bytes <= 8 << 10);
    }
    assert!(story.tracker.objects.contains_key("u99") && !story.tracker.objects.contains_key("u0"));
    assert!(story.tracker.order.len() <= 2 * story.tracker.objects.len() + REVISIONS_KEPT);
    let bytes: usize = story.tracker.objects.values().map(Object::measure).sum();
    assert_eq!(story.tracker.bytes, bytes);
}
