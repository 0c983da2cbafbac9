//! Every rule of the plan, as stories in seconds.

use super::*;

const SECOND: Micros = 1_000_000;

fn rules() -> Rules {
    Rules { confidence: Confidence::Probable, per_minute: 3, fresh_for: 120 * SECOND }
}

fn at(second: i64) -> Now {
    Now { clock: second * SECOND, latest: Some(second * SECOND), is_killed: false }
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
    }
}

fn removed(second: i64, is_deliberate: bool) -> Option<Removal> {
    Some(Removal { at: second * SECOND, actor: "alice".into(), is_deliberate })
}

/// One object's verdict in, a word for what is done about it out; what is done is reported back.
fn step(plan: &mut Plan<&'static str>, now: Now, verdict: Option<Verdict>) -> &'static str {
    let verdicts: BTreeMap<&str, Verdict> = verdict.into_iter().map(|v| ("web", v)).collect();
    let mut actions = plan.step(now, &verdicts);
    assert!(actions.len() <= 1, "{actions:?}");
    match actions.pop().map(|(_, action)| action) {
        None => "",
        Some(Action::Pause { verdict, again }) => {
            plan.has_paused("web", verdict.until, now);
            match again {
                Again::No => "pause",
                Again::Longer => "longer",
                Again::Stripped(_) => "again",
            }
        }
        Some(Action::Lift(why)) => {
            plan.has_lifted(&"web");
            match why {
                Lift::Quiet => "quiet",
                Lift::Unmanaged => "unmanaged",
                Lift::Killed => "killed",
            }
        }
        Some(Action::Resumed(_)) => {
            plan.has_lifted(&"web");
            "resumed"
        }
        Some(Action::Stripped(_)) => {
            plan.has_left("web", STRIPPED_FOR, now);
            "left"
        }
    }
}

#[test]
fn a_pause_is_set_once_and_lifted_when_it_is_quiet() {
    let mut plan = Plan::new(rules());
    assert_eq!(step(&mut plan, at(1), Some(fought(State::Contested))), "");
    assert_eq!(step(&mut plan, at(2), Some(fought(State::Thrashing))), "");
    assert_eq!(step(&mut plan, at(3), Some(fought(State::Paused))), "pause");
    assert_eq!(step(&mut plan, at(4), Some(fought(State::Paused))), "");
    assert_eq!(step(&mut plan, at(601), Some(fought(State::HalfOpen))), "quiet");
    assert_eq!(step(&mut plan, at(602), Some(fought(State::HalfOpen))), "");
    assert_eq!(step(&mut plan, at(603), None), "");
}

#[test]
fn what_is_only_possible_is_not_paused() {
    let mut plan = Plan::new(rules());
    let possible = Verdict { confidence: Confidence::Possible, ..fought(State::Paused) };
    assert_eq!(step(&mut plan, at(1), Some(possible.clone())), "");
    let mut plan = Plan::new(Rules { confidence: Confidence::Possible, ..rules() });
    assert_eq!(step(&mut plan, at(1), Some(possible)), "pause");
}

#[test]
fn a_person_who_lifts_a_pause_is_obeyed_at_once() {
    let mut plan = Plan::new(rules());
    step(&mut plan, at(3), Some(fought(State::Paused)));
    let lifted = Verdict { removal: removed(5, true), ..fought(State::Paused) };
    assert_eq!(step(&mut plan, at(6), Some(lifted)), "resumed");
}

#[test]
fn a_rival_that_strips_a_pause_does_not_end_it_and_gets_no_war_either() {
    let mut plan = Plan::new(Rules { per_minute: 100, ..rules() });
    assert_eq!(step(&mut plan, at(0), Some(fought(State::Paused))), "pause");
    let mut done = Vec::new();
    for second in 1..120 {
        let stripped = Verdict { removal: removed(second, false), ..fought(State::Paused) };
        let word = step(&mut plan, at(second), Some(stripped));
        if !word.is_empty() {
            done.push((second, word));
        }
    }
    // Ten seconds between two writes, five at most; then it is left alone for long.
    assert_eq!(done, [(10, "again"), (20, "again"), (30, "again"), (40, "again"), (41, "left")]);
    assert_eq!(step(&mut plan, at(3000), Some(fought(State::Paused))), "");
    assert_eq!(step(&mut plan, at(3700), Some(fought(State::Paused))), "pause");
}

#[test]
fn an_unmanaged_object_is_let_go_and_not_paused() {
    let mut plan = Plan::new(rules());
    step(&mut plan, at(3), Some(fought(State::Paused)));
    let unmanaged = Verdict { is_unmanaged: true, ..fought(State::Paused) };
    assert_eq!(step(&mut plan, at(4), Some(unmanaged.clone())), "unmanaged");
    assert_eq!(step(&mut plan, at(5), Some(unmanaged)), "");
}

#[test]
fn without_fresh_events_nothing_new_is_decided_and_pauses_stay() {
    let mut plan = Plan::new(rules());
    let stale = Now { clock: 1000 * SECOND, latest: Some(800 * SECOND), is_killed: false };
    assert_eq!(step(&mut plan, stale, Some(fought(State::Paused))), "");
    assert!(!plan.is_fresh(stale) && !plan.is_fresh(Now { latest: None, ..stale }));
    step(&mut plan, at(3), Some(fought(State::Paused)));
    // A pause that would be longer by now is not touched either.
    let longer = Verdict { until: Some(1200 * SECOND), ..fought(State::Paused) };
    assert_eq!(step(&mut plan, stale, Some(longer.clone())), "");
    assert_eq!(step(&mut plan, at(1000), Some(longer)), "longer");
}

#[test]
fn late_batches_are_fresh_enough() {
    let mut plan = Plan::new(rules());
    let late = Now { clock: 100 * SECOND, latest: Some(70 * SECOND), is_killed: false };
    assert_eq!(step(&mut plan, late, Some(fought(State::Paused))), "pause");
}

#[test]
fn the_kill_switch_undoes_all_and_lets_nothing_be_done() {
    let mut plan = Plan::new(rules());
    step(&mut plan, at(3), Some(fought(State::Paused)));
    let killed = Now { is_killed: true, ..at(4) };
    assert_eq!(step(&mut plan, killed, Some(fought(State::Paused))), "killed");
    assert_eq!(step(&mut plan, killed, Some(fought(State::Paused))), "");
    // Also where events are old: it is the way out.
    step(&mut plan, at(5), Some(fought(State::Paused)));
    assert_eq!(step(&mut plan, Now { is_killed: true, latest: None, ..at(900) }, None), "killed");
}

#[test]
fn a_pause_that_was_found_outlasts_a_memory_that_begins_with_it() {
    let mut plan = Plan::new(rules());
    plan.has_paused("web", Some(600 * SECOND), at(1));
    assert_eq!(step(&mut plan, at(2), None), "", "nothing was heard of it yet");
    assert_eq!(step(&mut plan, at(3), Some(fought(State::Contested))), "", "too little was heard of it yet");
    assert_eq!(step(&mut plan, at(600), None), "quiet");
}

#[test]
fn no_more_pauses_are_set_in_a_minute_than_may_be() {
    let mut plan = Plan::new(rules());
    let all: BTreeMap<u32, Verdict> = (0..10).map(|n| (n, fought(State::Paused))).collect();
    let mut plan_of_numbers: Plan<u32> = Plan::new(rules());
    let mut paused = |second: i64| {
        let actions = plan_of_numbers.step(at(second), &all);
        let count = actions.len();
        actions.into_iter().for_each(|(key, _)| plan_of_numbers.has_paused(key, None, at(second)));
        count
    };
    assert_eq!((paused(1), paused(2), paused(62), paused(63)), (3, 0, 3, 0));
    assert_eq!(step(&mut plan, at(1), Some(fought(State::Paused))), "pause");
}
