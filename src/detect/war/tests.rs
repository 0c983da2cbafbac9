//! Wars of one object: which one is the most urgent, how wars begin and split, and how retakes count.

use super::*;

const SECOND: Micros = 1_000_000;

fn names(parties: &[&str]) -> Vec<Arc<str>> {
    parties.iter().map(|party| (*party).into()).collect()
}

/// A reversal by `party` of a write by `from`. `party` had written 30 seconds before.
fn counted<'a>(party: &'a Arc<str>, from: &'a Arc<str>, second: i64) -> CountedRetake<'a> {
    CountedRetake {
        party,
        from,
        at: second * SECOND,
        since: (second - 30) * SECOND,
        is_reversal: true,
        level: EvidenceLevel::Value,
        is_pausable: true,
    }
}

/// Two parties answer each other every five seconds. Returns the number of thrashing events.
fn fight(wars: &mut Wars, id: WarId, from: i64, retakes: i64) -> usize {
    let turn = |i: i64| if i % 2 == 0 { ("a", "b") } else { ("b", "a") };
    (0..retakes)
        .filter(|i| {
            wars.count_retake(id, &counted(&turn(*i).0.into(), &turn(*i).1.into(), from + i * 5), &Limits::default())
        })
        .count()
}

fn parties_of(wars: &Wars) -> Vec<Vec<&str>> {
    wars.iter().map(|war| war.parties.iter().map(AsRef::as_ref).collect()).collect()
}

#[test]
fn a_war_is_found_by_its_id_and_by_its_scope_and_parties() {
    let mut wars = Wars::default();
    let fields = wars.begin(Scope::Fields, names(&["a", "b"]));
    let object = wars.begin(Scope::Object, names(&["a", "b"]));
    let others = wars.begin(Scope::Fields, names(&["a", "c"]));
    assert_eq!(wars.find(Scope::Fields, &names(&["a", "b"])), Some(fields));
    assert_eq!(wars.find(Scope::Object, &names(&["a", "b"])), Some(object));
    assert_eq!(wars.find(Scope::Fields, &names(&["a", "c"])), Some(others));
    assert_eq!(wars.find(Scope::Override, &names(&["a", "b"])), None);
    assert_eq!(wars.find(Scope::Object, &names(&["a", "c"])), None);
    assert_eq!(wars.get(others).map(|war| war.parties.clone()), Some(names(&["a", "c"])));
    wars.widen(fields, names(&["a", "b", "d"]));
    assert_eq!(parties_of(&wars), [vec!["a", "b", "d"], vec!["a", "b"], vec!["a", "c"]]);
    wars.drop(object);
    assert_eq!(parties_of(&wars), [vec!["a", "b", "d"], vec!["a", "c"]]);
    assert!(wars.get(object).is_none());
    let next = wars.begin(Scope::Object, names(&["a", "b"]));
    assert!(![fields, object, others].contains(&next), "ids are not reused");
}

#[test]
fn a_retake_counts_for_its_party_and_adds_the_other_one() {
    let mut wars = Wars::default();
    let id = wars.begin(Scope::Fields, names(&["a", "b"]));
    wars.begin(Scope::Fields, names(&["c", "d"]));
    // Five retakes in ten minutes pass; the next three are thrashing events.
    assert_eq!(fight(&mut wars, id, 0, 8), 3);
    let [a, b]: [Arc<str>; 2] = ["a", "b"].map(Into::into);
    let once = CountedRetake { is_reversal: false, ..counted(&a, &b, 40) };
    assert!(wars.count_retake(id, &once, &Limits::default()));
    let war = wars.get(id).unwrap();
    assert_eq!((war.tally.retakes, war.tally.reversals, war.tally.thrashing_events), (9, 8, 4));
    let share = |party: &str| war.tally.parties[party];
    // The first retake is by `a`, so the thrashing events are by b, a, b and, at the end, a.
    assert_eq!(share("a"), PartyTally { retakes: 5, thrashing_events: 2 });
    assert_eq!(share("b"), PartyTally { retakes: 4, thrashing_events: 2 });
    assert_eq!((war.confidence, war.tally.state()), (Confidence::Confirmed, State::Sustained));
    let other = wars.iter().nth(1).unwrap();
    assert_eq!((other.tally.retakes, other.confidence, other.tally.state()), (0, Confidence::Possible, State::Calm));
    let mut alone = Wars::default();
    let id = alone.begin(Scope::Fields, names(&["a", "b"]));
    assert!(!alone.count_retake(id, &counted(&"a".into(), &"b".into(), 0), &Limits::default()));
    assert_eq!(alone.get(id).unwrap().tally.parties["b"], PartyTally::default(), "the other party is listed too");
}

#[test]
fn a_war_that_was_quiet_for_the_window_starts_a_new_run() {
    let window = Limits::default().window() / SECOND;
    let since = |pause: i64| {
        let mut tally = Tally::default();
        tally.count(&counted(&"a".into(), &"b".into(), 0), &Limits::default());
        tally.count(&counted(&"b".into(), &"a".into(), pause), &Limits::default());
        tally.since.unwrap() / SECOND
    };
    assert_eq!(since(60), -30, "the run continues");
    assert_eq!(since(window), -30, "the run continues after exactly one window");
    assert_eq!(since(window + 1), window + 1 - 30);
}

#[test]
fn the_most_urgent_war_is_the_worst_and_of_equals_the_older_one() {
    let mut wars = Wars::default();
    let untouched = wars.begin(Scope::Fields, names(&["x", "y"]));
    let old = wars.begin(Scope::Fields, names(&["a", "b"]));
    let new = wars.begin(Scope::Fields, names(&["c", "d"]));
    assert!(wars.worst(Confidence::Possible).is_none(), "without a retake there is no war");
    fight(&mut wars, old, 0, 2);
    fight(&mut wars, new, 0, 2);
    assert_eq!(wars.worst(Confidence::Confirmed).map(|war| war.id), Some(old));
    fight(&mut wars, new, 20, 1);
    assert_eq!(wars.worst(Confidence::Probable).map(|war| war.id), Some(new), "it has more retakes");
    fight(&mut wars, old, 20, 6);
    assert_eq!(wars.worst(Confidence::Probable).map(|war| war.id), Some(old), "it is more urgent");
    assert_ne!(wars.worst(Confidence::Possible).map(|war| war.id), Some(untouched));
}

#[test]
fn a_possible_war_is_not_returned_if_more_confidence_is_required() {
    let mut wars = Wars::default();
    let id = wars.begin(Scope::Fields, names(&["a", "b"]));
    let [a, b]: [Arc<str>; 2] = ["a", "b"].map(Into::into);
    let possible = CountedRetake { level: EvidenceLevel::Object, ..counted(&a, &b, 0) };
    wars.count_retake(id, &possible, &Limits::default());
    assert_eq!(wars.worst(Confidence::Possible).map(|war| war.id), Some(id));
    assert!(wars.worst(Confidence::Probable).is_none());
    wars.count_retake(id, &CountedRetake { level: EvidenceLevel::Field, ..possible }, &Limits::default());
    // Probable is the highest confidence that can be required.
    assert_eq!(wars.worst(Confidence::Confirmed).map(|war| war.id), Some(id));
}

#[test]
fn a_deletion_ends_the_wars_over_fields() {
    let mut wars = Wars::default();
    let fields = wars.begin(Scope::Fields, names(&["a", "b"]));
    let part = wars.begin(Scope::Part(Part::Main), names(&["a", "b"]));
    let object = wars.begin(Scope::Object, names(&["a", "b"]));
    for id in [fields, part, object] {
        fight(&mut wars, id, 0, 2);
    }
    wars.end(60 * SECOND);
    let state = |id| wars.get(id).unwrap().tally.state();
    assert_eq!([fields, part, object].map(state), [State::Calm, State::Calm, State::Contested]);
}

#[test]
fn time_and_lifting_a_pause_apply_to_all_wars() {
    let paused = || {
        let mut wars = Wars::default();
        for parties in [["a", "b"], ["c", "d"]] {
            let id = wars.begin(Scope::Fields, names(&parties));
            fight(&mut wars, id, 0, 8);
        }
        assert!(wars.iter().all(|war| war.tally.state() == State::Sustained));
        wars
    };
    let mut later = paused();
    later.advance((35 + 600) * SECOND, &Limits::default());
    assert!(later.iter().all(|war| war.tally.state() == State::Subsiding));
    let mut lifted = paused();
    lifted.resume(60 * SECOND);
    assert!(lifted.iter().all(|war| war.tally.state() == State::Calm));
}

#[test]
fn a_split_war_keeps_the_retakes_of_its_fields() {
    let mut wars = Wars::default();
    let id = wars.begin(Scope::Fields, names(&["a", "b"]));
    fight(&mut wars, id, 0, 8);
    let share = |retakes, thrashing_events| PartyTally { retakes, thrashing_events };
    let shares = [("a".into(), share(2, 1)), ("b".into(), share(1, 0))];
    let split = wars.split(id, names(&["a", "b", "c"]), &shares);
    let war = wars.get(split).unwrap();
    assert_eq!((war.tally.retakes, war.tally.reversals, war.tally.thrashing_events), (3, 3, 1));
    assert_eq!(war.parties, names(&["a", "b", "c"]));
    assert_eq!(war.tally.parties.clone().into_iter().collect::<Vec<_>>(), shares);
    assert_eq!((war.scope, war.confidence), (Scope::Fields, Confidence::Confirmed));
    assert_eq!(war.tally.state(), State::Sustained, "it starts with the same buckets");
    assert_eq!(wars.get(id).unwrap().tally.retakes, 8, "the war over the other fields does not change");
    let gone = WarId(99);
    let begun = wars.split(gone, names(&["e", "f"]), &shares);
    assert_eq!(wars.get(begun).unwrap().tally.retakes, 0);
}

#[test]
fn one_war_too_many_replaces_the_calmest() {
    let mut wars = Wars::default();
    let ids: Vec<WarId> = (0..WARS_MAX).map(|i| wars.begin(Scope::Fields, names(&["a", &format!("b{i}")]))).collect();
    assert_eq!(wars.iter().count(), WARS_MAX);
    for (i, id) in ids.iter().enumerate() {
        fight(&mut wars, *id, 0, if i == 5 { 1 } else { 2 });
    }
    let new = wars.begin(Scope::Fields, names(&["a", "z"]));
    assert_eq!(wars.iter().count(), WARS_MAX);
    assert!(wars.get(ids[5]).is_none() && wars.get(new).is_some());
    assert!(ids.iter().enumerate().all(|(i, id)| i == 5 || wars.get(*id).is_some()));
}

#[test]
fn the_bytes_of_a_war_are_those_of_its_parties_and_state() {
    let mut wars = Wars::default();
    let id = wars.begin(Scope::Fields, names(&["a", "b", "c"]));
    fight(&mut wars, id, 0, 8);
    let war = wars.get(id).unwrap();
    let machine = war.tally.machine.bytes();
    assert!(machine > 0);
    let parties = 3 * size_of::<Arc<str>>() + map_bytes::<Arc<str>, PartyTally>(2);
    assert_eq!(war.bytes(), size_of::<War>() + parties + machine);
}

#[test]
fn the_next_transition_is_that_of_the_earliest_war() {
    let limits = Limits::default();
    let mut wars = Wars::default();
    assert_eq!(wars.due(&limits), None);
    let first = wars.begin(Scope::Fields, names(&["a", "b"]));
    fight(&mut wars, first, 0, 1);
    assert_eq!(wars.due(&limits), Some(3600 * SECOND), "contested: an hour after its retake");
    let second = wars.begin(Scope::Object, names(&["a", "b"]));
    fight(&mut wars, second, 0, 8);
    assert_eq!(wars.due(&limits), Some((35 + 600) * SECOND), "sustained: ten minutes after its last retake");
    let third = wars.begin(Scope::Override, names(&["a", "b"]));
    fight(&mut wars, third, 0, 2);
    assert_eq!(wars.due(&limits), Some((35 + 600) * SECOND));
}

#[test]
fn the_confidence_depends_on_scope_level_and_reversal() {
    let of = |scope, level, is_reversal| {
        CountedRetake { level, is_reversal, ..counted(&"a".into(), &"b".into(), 0) }.confidence(scope)
    };
    let (object, field, value) = (EvidenceLevel::Object, EvidenceLevel::Field, EvidenceLevel::Value);
    assert_eq!(of(Scope::Fields, value, true), Confidence::Confirmed);
    assert_eq!(of(Scope::Object, value, true), Confidence::Confirmed);
    assert_eq!(of(Scope::Fields, value, false), Confidence::Probable, "no earlier value returned");
    assert_eq!(of(Scope::Fields, field, true), Confidence::Probable, "the stored value is not known");
    assert_eq!(of(Scope::Override, value, true), Confidence::Probable, "no stored value returns");
    assert_eq!(of(Scope::Fields, object, true), Confidence::Possible);
    assert_eq!(of(Scope::Part(Part::Main), value, true), Confidence::Possible);
}
