//! Tests of every rule of the plan, as sequences of steps in seconds.

use super::*;

const SECOND: Micros = 1_000_000;

fn rules() -> Rules {
    Rules { confidence: Confidence::Probable, max_pauses_per_minute: 3, max_event_age: 120 * SECOND }
}

fn at(second: i64) -> Now {
    Now { clock: second * SECOND, latest: Some(second * SECOND) }
}

fn fought(state: State) -> Verdict {
    Verdict {
        state,
        confidence: Confidence::Confirmed,
        until: Some(600 * SECOND),
        parties: vec!["alice".into(), "robot".into()],
        over: "spec.replicas (3 ⇄ 5)".into(),
        retakes: 9,
        since: Some(0),
        removal: None,
        is_unmanaged: false,
        means: Some(Means::Annotations),
    }
}

fn removed(second: i64, is_deliberate: bool) -> Option<PauseRemoval> {
    Some(PauseRemoval { at: second * SECOND, actor: "alice".into(), is_deliberate })
}

/// Runs one step with one object's verdict, reports the action as done, and returns a word for it.
fn step(plan: &mut Plan<&'static str>, now: Now, verdict: Option<Verdict>) -> &'static str {
    let verdicts: BTreeMap<&str, Verdict> = verdict.into_iter().map(|v| ("web", v)).collect();
    let mut actions = plan.step(now, &verdicts);
    assert!(actions.len() <= 1, "{actions:?}");
    match actions.pop().map(|(_, action)| action) {
        None => "",
        Some(Action::Pause { verdict, kind }) => {
            plan.record_pause("web", verdict.until, now);
            match kind {
                PauseKind::New => "pause",
                PauseKind::Extension => "longer",
                PauseKind::Restored(_) => "again",
            }
        }
        Some(Action::Lift(why)) => {
            plan.record_lift(&"web");
            match why {
                ResumeReason::Quiet => "quiet",
                ResumeReason::Unmanaged => "unmanaged",
                ResumeReason::SwitchedOff => "switched off",
                ResumeReason::Deleted => "deleted",
            }
        }
        Some(Action::Resume(_)) => {
            plan.record_lift(&"web");
            "resumed"
        }
        Some(Action::GiveUp(_)) => {
            plan.record_skip("web", REMOVAL_BACKOFF, now);
            "left"
        }
        Some(Action::Check(uid)) => {
            plan.record_check(&"web", uid.as_deref(), now);
            ""
        }
    }
}

#[test]
fn a_pause_is_set_once_and_lifted_after_the_quiet_period() {
    let mut plan = Plan::new(rules());
    assert_eq!(step(&mut plan, at(1), Some(fought(State::Contested))), "");
    assert_eq!(step(&mut plan, at(2), Some(fought(State::Thrashing))), "");
    assert_eq!(step(&mut plan, at(3), Some(fought(State::Sustained))), "pause");
    assert_eq!(step(&mut plan, at(4), Some(fought(State::Sustained))), "");
    assert_eq!(step(&mut plan, at(601), Some(fought(State::Subsiding))), "quiet");
    assert_eq!(step(&mut plan, at(602), Some(fought(State::Subsiding))), "");
    assert_eq!(step(&mut plan, at(603), None), "");
}

#[test]
fn possible_wars_are_not_paused_by_default() {
    let mut plan = Plan::new(rules());
    let possible = Verdict { confidence: Confidence::Possible, ..fought(State::Sustained) };
    assert_eq!(step(&mut plan, at(1), Some(possible.clone())), "");
    let mut plan = Plan::new(Rules { confidence: Confidence::Possible, ..rules() });
    assert_eq!(step(&mut plan, at(1), Some(possible)), "pause");
}

#[test]
fn a_pause_lifted_by_a_person_ends_immediately() {
    let mut plan = Plan::new(rules());
    step(&mut plan, at(3), Some(fought(State::Sustained)));
    let lifted = Verdict { removal: removed(5, true), ..fought(State::Sustained) };
    assert_eq!(step(&mut plan, at(6), Some(lifted)), "resumed");
}

#[test]
fn a_stripped_pause_is_set_again_a_limited_number_of_times() {
    let mut plan = Plan::new(Rules { max_pauses_per_minute: 100, ..rules() });
    assert_eq!(step(&mut plan, at(0), Some(fought(State::Sustained))), "pause");
    let mut done = Vec::new();
    for second in 1..120 {
        let stripped = Verdict { removal: removed(second, false), ..fought(State::Sustained) };
        let word = step(&mut plan, at(second), Some(stripped));
        if !word.is_empty() {
            done.push((second, word));
        }
    }
    // At least ten seconds between two writes and at most five writes; then the object is left alone.
    assert_eq!(done, [(10, "again"), (20, "again"), (30, "again"), (40, "again"), (41, "left")]);
    assert_eq!(step(&mut plan, at(3000), Some(fought(State::Sustained))), "");
    assert_eq!(step(&mut plan, at(3700), Some(fought(State::Sustained))), "pause");
}

#[test]
fn the_pause_of_an_unmanaged_object_is_lifted_once() {
    let mut plan = Plan::new(rules());
    step(&mut plan, at(3), Some(fought(State::Sustained)));
    let unmanaged = Verdict { is_unmanaged: true, ..fought(State::Sustained) };
    assert_eq!(step(&mut plan, at(4), Some(unmanaged.clone())), "unmanaged");
    assert_eq!(step(&mut plan, at(5), Some(unmanaged)), "");
}

#[test]
fn a_pause_in_a_switched_off_namespace_ends_after_an_action_in_flight() {
    let mut plan = Plan::new(rules());
    step(&mut plan, at(3), Some(fought(State::Sustained)));
    plan.record_start(&"web", &Action::Check(None));
    plan.record_end(&"web", ResumeReason::SwitchedOff);
    assert_eq!(step(&mut plan, at(4), Some(fought(State::Sustained))), "");
    plan.record_check(&"web", None, at(5));
    assert_eq!(step(&mut plan, at(5), Some(fought(State::Sustained))), "switched off");
    // A later pause is not affected.
    assert_eq!(step(&mut plan, at(6), Some(fought(State::Sustained))), "pause");
    assert_eq!(step(&mut plan, at(7), Some(fought(State::Sustained))), "");
}

#[test]
fn without_fresh_events_no_pause_is_set_or_extended() {
    let mut plan = Plan::new(rules());
    let stale = Now { clock: 1000 * SECOND, latest: Some(800 * SECOND) };
    assert_eq!(step(&mut plan, stale, Some(fought(State::Sustained))), "");
    assert!(!plan.is_fresh(stale) && !plan.is_fresh(Now { latest: None, ..stale }));
    step(&mut plan, at(3), Some(fought(State::Sustained)));
    // The end of an existing pause is not updated either.
    let longer = Verdict { until: Some(1200 * SECOND), ..fought(State::Sustained) };
    assert_eq!(step(&mut plan, stale, Some(longer.clone())), "");
    assert_eq!(step(&mut plan, at(1000), Some(longer)), "longer");
}

#[test]
fn events_from_30_seconds_ago_are_fresh() {
    let mut plan = Plan::new(rules());
    let late = Now { clock: 100 * SECOND, latest: Some(70 * SECOND) };
    assert_eq!(step(&mut plan, late, Some(fought(State::Sustained))), "pause");
}

#[test]
fn a_recreated_object_is_paused_again_a_limited_number_of_times() {
    let mut plan = Plan::new(Rules { max_pauses_per_minute: 100, ..rules() });
    let verdicts = BTreeMap::from([("web", fought(State::Sustained))]);
    let mut paused = Vec::new();
    // It is deleted and created again as soon as it is paused.
    for second in 0..100 {
        for (_, action) in plan.step(at(second), &verdicts) {
            match action {
                Action::Pause { verdict, kind: PauseKind::New } => {
                    paused.push(second);
                    plan.record_pause("web", verdict.until, at(second));
                    plan.record_check(&"web", Some(&format!("uid-{second}")), at(second));
                }
                Action::Check(Some(uid)) => {
                    assert_eq!(*uid, *format!("uid-{}", paused.last().unwrap()));
                    plan.record_gone(&"web");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // Immediately the first time, then at least ten seconds apart, and at most five times in a row.
    assert_eq!(paused[..5], [0, 3, 13, 23, 33]);
    assert_eq!(paused[5], 93, "{paused:?}");
}

#[test]
fn the_least_recently_checked_pauses_are_checked_first() {
    let mut plan: Plan<u32> = Plan::new(rules());
    (0..25).for_each(|n| plan.record_pause(n, None, at(0)));
    let mut checked = |second| {
        let actions = plan.step(at(second), &BTreeMap::new());
        let keys: Vec<u32> = actions.iter().map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| plan.record_check(key, None, at(second)));
        keys
    };
    assert!(checked(1).is_empty());
    assert_eq!(checked(2), (0..10).collect::<Vec<_>>());
    assert_eq!(checked(3), (10..20).collect::<Vec<_>>());
    assert_eq!(checked(4), [20, 21, 22, 23, 24, 0, 1, 2, 3, 4]);
}

#[test]
fn actions_in_flight_are_not_repeated_and_failed_ones_are_delayed() {
    let mut plan = Plan::new(Rules { max_pauses_per_minute: 2, ..rules() });
    let all: BTreeMap<&str, Verdict> = ["a", "b", "c"].map(|key| (key, fought(State::Sustained))).into();
    let keys = |actions: &[(&'static str, Action)]| actions.iter().map(|(key, _)| *key).collect::<Vec<_>>();
    let actions = plan.step(at(0), &all);
    assert_eq!(keys(&actions), ["a", "b"]);
    actions.iter().for_each(|(key, action)| plan.record_start(key, action));
    assert!(plan.step(at(1), &all).is_empty(), "both are under way, and no more may be set in this minute");
    plan.record_failure(&"a", at(15));
    assert_eq!(keys(&plan.step(at(15), &all)), ["c"]);
    assert_eq!(keys(&plan.step(at(16), &all)), ["a"]);
    plan.record_failure(&"a", at(16));
    assert!(!plan.can_start(&"a", at(17)) && plan.can_start(&"a", at(18)));
}

#[test]
fn a_pause_found_at_the_start_is_kept_until_its_end() {
    let mut plan = Plan::new(rules());
    plan.record_pause("web", Some(600 * SECOND), at(1));
    assert_eq!(step(&mut plan, at(2), None), "", "nothing was heard of it yet");
    assert_eq!(step(&mut plan, at(3), Some(fought(State::Contested))), "", "too little was heard of it yet");
    assert_eq!(step(&mut plan, at(600), None), "quiet");
}

#[test]
fn extensions_of_pauses_count_towards_the_limit_per_minute() {
    let mut plan: Plan<u32> = Plan::new(rules());
    (0..10).for_each(|n| plan.record_pause(n, Some(600 * SECOND), at(0)));
    let longer = Verdict { until: Some(1200 * SECOND), ..fought(State::Sustained) };
    let all: BTreeMap<u32, Verdict> = (0..10).map(|n| (n, longer.clone())).collect();
    let mut extended = |second| {
        let mut actions = plan.step(at(second), &all);
        actions.retain(|(_, action)| matches!(action, Action::Pause { .. }));
        actions.iter().for_each(|(key, action)| plan.record_start(key, action));
        actions.len()
    };
    assert_eq!((extended(100), extended(101)), (3, 0), "three are in flight");
}

#[test]
fn pauses_per_minute_are_limited() {
    let mut plan = Plan::new(rules());
    let all: BTreeMap<u32, Verdict> = (0..10).map(|n| (n, fought(State::Sustained))).collect();
    let mut plan_of_numbers: Plan<u32> = Plan::new(rules());
    let mut paused = |second: i64| {
        let mut actions = plan_of_numbers.step(at(second), &all);
        actions.retain(|(_, action)| matches!(action, Action::Pause { .. }));
        let count = actions.len();
        actions.into_iter().for_each(|(key, _)| plan_of_numbers.record_pause(key, None, at(second)));
        count
    };
    assert_eq!((paused(1), paused(2), paused(62), paused(63)), (3, 0, 3, 0));
    assert_eq!(step(&mut plan, at(1), Some(fought(State::Sustained))), "pause");
}
