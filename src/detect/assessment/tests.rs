use serde_json::json;

use super::*;
use crate::detect::fields::EvidenceLevel;
use crate::detect::tests::{SECOND, START, Server, Watcher};

/// carol creates the object. Then alice and bob set `data.mode` alternately, every ten seconds.
fn war(level: &'static str, writes: i64) -> (Server, Watcher) {
    let mut server = Server::new(level);
    let mut watcher = Watcher::of(&[server.create(0, "carol", json!({"data": {"mode": "zero"}}))]);
    for turn in 1..=writes {
        let (who, value) = if turn % 2 == 1 { ("alice", "a") } else { ("bob", "b") };
        watcher.see(&server.patch(turn * 10, who, json!({"data": {"mode": value}})));
    }
    (server, watcher)
}

#[test]
fn a_war_has_the_evidence_level_of_its_retakes() {
    for (level, expected) in [
        ("Metadata", (EvidenceLevel::Object, Confidence::Possible)),
        ("Request", (EvidenceLevel::Field, Confidence::Probable)),
        ("RequestResponse", (EvidenceLevel::Value, Confidence::Confirmed)),
    ] {
        let (_, watcher) = war(level, 6);
        let found: Vec<_> = watcher.analysis().wars().map(|war| (war.level, war.confidence)).collect();
        assert_eq!(found, [expected], "{level}");
    }
}

#[test]
fn an_object_with_one_writer_has_no_wars() {
    let mut server = Server::new("RequestResponse");
    let watcher = Watcher::of(&[server.create(0, "carol", json!({}))]);
    let assessment = Assessment::of(&watcher.state);
    assert_eq!(assessment.wars().count(), 0);
    assert_eq!(assessment.state(Confidence::Possible), State::Calm);
    assert!(assessment.worst(Confidence::Possible).is_none());
}

#[test]
fn a_war_is_ongoing_until_its_quiet_period_has_passed() {
    let (_, mut watcher) = war("RequestResponse", 20);
    let last = START + 200 * SECOND;
    let look = |watcher: &Watcher| {
        let assessment = Assessment::of(&watcher.state);
        let war = assessment.worst(Confidence::Probable).unwrap();
        assert_eq!((war.last_retake, war.is_ongoing()), (last, war.ended_at.is_none()));
        (war.state, war.ended_at)
    };
    assert_eq!(look(&watcher), (State::Sustained, None));
    watcher.advance(200 + 600);
    assert_eq!(look(&watcher), (State::Subsiding, Some(last)));
    watcher.advance(200 + 1200);
    assert_eq!(look(&watcher), (State::Calm, Some(last)));
}

#[test]
fn a_deletion_ends_a_war_over_fields() {
    let (mut server, mut watcher) = war("RequestResponse", 6);
    watcher.see(&server.delete(100, "carol"));
    let assessment = Assessment::of(&watcher.state);
    let war = assessment.wars().next().unwrap();
    let deleted = Some(START + 100 * SECOND);
    assert_eq!((war.state, war.ended_at, war.deleted_at), (State::Calm, deleted, deleted));
}

#[test]
fn each_war_has_its_own_fields() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", json!({"data": {"x": "0", "y": "0"}}))]);
    for (turn, (who, key)) in
        [("alice", "x"), ("bob", "x"), ("alice", "x"), ("dave", "y"), ("erin", "y"), ("dave", "y")]
            .into_iter()
            .enumerate()
    {
        watcher.see(&server.patch(10 * (turn as i64 + 1), who, json!({"data": {key: who}})));
    }
    let assessment = Assessment::of(&watcher.state);
    let found: Vec<_> = assessment
        .wars()
        .map(|war| {
            let fields: Vec<String> = war.fields.iter().map(|(path, _)| path.to_string()).collect();
            (war.parties.iter().map(|party| party.to_string()).collect::<Vec<_>>().join(","), fields.join(","))
        })
        .collect();
    assert_eq!(found, [("alice,bob".into(), "data.x".into()), ("dave,erin".into(), "data.y".into())]);
}

#[test]
fn an_ongoing_war_is_listed_before_one_that_has_ended() {
    let mut server = Server::new("RequestResponse");
    let mut watcher = Watcher::of(&[server.create(0, "carol", json!({"data": {"x": "0", "y": "0"}}))]);
    let mut fight = |watcher: &mut Watcher, from: i64, writes: i64, parties: [&'static str; 2], key: &str| {
        for turn in 0..writes {
            let who = parties[turn as usize % 2];
            watcher.see(&server.patch(from + turn * 10, who, json!({"data": {key: who}})));
        }
    };
    fight(&mut watcher, 10, 20, ["alice", "bob"], "x");
    fight(&mut watcher, 4000, 4, ["dave", "erin"], "y");
    watcher.advance(4040);
    let assessment = Assessment::of(&watcher.state);
    let found: Vec<_> =
        assessment.wars().map(|war| (war.parties[0].to_string(), war.is_ongoing(), war.tally.retakes)).collect();
    assert_eq!(found, [("dave".to_owned(), true, 2), ("alice".to_owned(), false, 18)]);
    assert_eq!(assessment.shown_state(), State::Contested, "the war over x is calm");
}

#[test]
fn a_subsiding_war_neither_goes_on_nor_has_ended() {
    for (state, is_deleted, expected) in [
        (State::Contested, false, Progress::Ongoing),
        (State::Thrashing, false, Progress::Ongoing),
        (State::Sustained, false, Progress::Ongoing),
        (State::Subsiding, false, Progress::Subsiding),
        (State::Calm, false, Progress::Ended),
        (State::Sustained, true, Progress::Ended),
    ] {
        assert_eq!(Progress::of(state, is_deleted), expected, "{state:?} {is_deleted}");
    }
}
