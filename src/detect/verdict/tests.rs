use super::*;

const SECOND: Micros = 1_000_000;
const START: Micros = 1_795_398_968 * SECOND;

/// Two actors alternate every `period` seconds, with the first retake at `from`. Returns the state changes.
fn war(machine: &mut WarState, from: Micros, period: i64, retakes: i64) -> Vec<(i64, State)> {
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    let mut turns = Vec::new();
    for i in 0..retakes {
        let at = from + i * period * SECOND;
        let before = machine.state();
        machine.retake(if i % 2 == 0 { &a } else { &b }, at, &Limits::default(), true);
        if machine.state() != before {
            turns.push(((at - START) / SECOND, machine.state()));
        }
    }
    turns
}

#[test]
fn the_runbooks_example_thrashes_within_a_minute_and_is_sustained_within_a_minute_and_a_half() {
    let turns = war(&mut WarState::default(), START, 5, 12);
    assert_eq!(turns, [(0, State::Contested), (25, State::Thrashing), (35, State::Sustained)]);
}

#[test]
fn a_slow_war_empties_the_long_bucket() {
    let turns = war(&mut WarState::default(), START, 900, 40);
    let hours = |seconds: i64| seconds as f64 / 3600.0;
    let states: Vec<_> = turns.iter().map(|(at, state)| (hours(*at), *state)).collect();
    assert_eq!(states, [(0.0, State::Contested), (3.0, State::Thrashing), (3.5, State::Sustained)]);
}

#[test]
fn differing_clocks_do_not_empty_a_bucket() {
    let mut machine = WarState::default();
    let limits = Limits::default();
    let thrashes = [0, 2, 0, 2, 0].map(|s| machine.retake(&"a".into(), START + s * SECOND, &limits, true));
    assert_eq!(thrashes, [false; 5]);
}

#[test]
fn a_sustained_war_subsides_after_the_quiet_period_and_calms_after_another() {
    let mut machine = WarState::default();
    war(&mut machine, START, 5, 12);
    let last = START + 55 * SECOND;
    let mut at = |seconds: i64| {
        machine.advance(last + seconds * SECOND, &Limits::default());
        machine.state()
    };
    assert_eq!(
        [at(599), at(600), at(1199), at(1200)],
        [State::Sustained, State::Subsiding, State::Subsiding, State::Calm]
    );
}

#[test]
fn a_trial_write_is_not_a_relapse_but_an_answer_to_it_is() {
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    let mut machine = WarState::default();
    war(&mut machine, START, 5, 12);
    let open = START + 700 * SECOND;
    machine.retake(&a, open, &Limits::default(), true);
    assert_eq!(machine.state(), State::Subsiding);
    machine.retake(&b, open + SECOND, &Limits::default(), true);
    assert_eq!(machine.state(), State::Sustained);
    machine.advance(open + SECOND + 1199 * SECOND, &Limits::default());
    assert_eq!(machine.state(), State::Sustained);
    machine.advance(open + SECOND + 1200 * SECOND, &Limits::default());
    assert_eq!(machine.state(), State::Subsiding);
}

#[test]
fn relapses_double_the_quiet_period_up_to_its_maximum() {
    let mut machine = WarState::default();
    war(&mut machine, START, 5, 12);
    let mut at = START + 55 * SECOND;
    let limits = Limits::default();
    for _ in 0..8 {
        at = machine.until().expect("sustained");
        machine.retake(&"a".into(), at, &limits, true);
        machine.retake(&"b".into(), at, &limits, true);
    }
    assert_eq!(machine.until(), Some(at + limits.quiet_period_max));
}

/// When the war begins to subside: 600 seconds after the last of twelve retakes, which is at 55 s.
const OPEN: Micros = START + 655 * SECOND;

fn subsiding() -> WarState {
    let mut machine = WarState::default();
    war(&mut machine, START, 5, 12);
    machine.advance(OPEN, &Limits::default());
    assert_eq!((machine.state(), machine.since()), (State::Subsiding, OPEN));
    machine
}

#[test]
fn the_names_are_those_of_the_json_and_states_have_an_urgency() {
    let states = [State::Calm, State::Contested, State::Subsiding, State::Thrashing, State::Sustained];
    for state in states {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
    assert!(states.windows(2).all(|pair| pair[0].urgency() < pair[1].urgency()));
    for confidence in [Confidence::Possible, Confidence::Probable, Confidence::Confirmed] {
        assert_eq!(serde_json::to_value(confidence).unwrap(), confidence.as_str());
    }
}

#[test]
fn the_times_of_the_first_and_last_events_are_kept() {
    let mut machine = WarState::default();
    assert_eq!((machine.milestones(), machine.last_sustained()), (Milestones::default(), None));
    assert_eq!((machine.sustained_count(), machine.spared()), (0, 0));
    assert_eq!((machine.last_retake(), machine.until()), (0, None));
    war(&mut machine, START, 5, 1);
    assert_eq!((machine.worst(), machine.since(), machine.until()), (State::Contested, START, None));
    assert_eq!(machine.milestones(), Milestones { retake: Some(START), ..Milestones::default() });
    war(&mut machine, START + 5 * SECOND, 5, 11);
    // The sixth retake is the first thrashing event. With the eighth, the third one, the war is sustained; four more
    // follow.
    let at = |second: i64| START + second * SECOND;
    let milestones = Milestones { retake: Some(START), thrashing: Some(at(25)), sustained: Some(at(35)) };
    assert_eq!(machine.milestones(), milestones);
    assert_eq!((machine.sustained_count(), machine.spared(), machine.last_sustained()), (1, 4, Some(at(35))));
    assert_eq!((machine.worst(), machine.since(), machine.last_retake()), (State::Sustained, at(35), at(55)));
    assert_eq!(machine.until(), Some(at(655)));
}

#[test]
fn subsiding_ends_one_quiet_period_after_its_start_or_the_last_trial_write() {
    let mut machine = subsiding();
    assert_eq!((machine.until(), machine.worst()), (Some(OPEN + 600 * SECOND), State::Sustained));
    let mut tried = machine.clone();
    machine.advance(OPEN + 600 * SECOND, &Limits::default());
    assert_eq!((machine.state(), machine.since()), (State::Calm, OPEN + 600 * SECOND));
    assert_eq!((machine.until(), machine.worst()), (None, State::Sustained));
    tried.retake(&"a".into(), OPEN + 100 * SECOND, &Limits::default(), true);
    assert_eq!(tried.until(), Some(OPEN + 700 * SECOND));
    tried.advance(OPEN + 700 * SECOND, &Limits::default());
    assert_eq!((tried.state(), tried.since()), (State::Calm, OPEN + 700 * SECOND));
}

#[test]
fn one_writer_may_try_twice_and_a_relapse_counts_as_sustained_again() {
    let mut machine = subsiding();
    for second in [0, 1] {
        machine.retake(&"a".into(), OPEN + second * SECOND, &Limits::default(), true);
        assert_eq!(machine.state(), State::Subsiding, "{second}");
    }
    let relapse = OPEN + 2 * SECOND;
    machine.retake(&"b".into(), relapse, &Limits::default(), true);
    assert_eq!((machine.state(), machine.last_sustained()), (State::Sustained, Some(relapse)));
    assert_eq!((machine.sustained_count(), machine.spared()), (2, 4));
    assert_eq!(machine.milestones().sustained, Some(START + 35 * SECOND), "a relapse does not move the first time");
}

#[test]
fn the_quiet_period_of_a_slow_war_outlasts_two_tokens_of_its_bucket() {
    let mut machine = WarState::default();
    war(&mut machine, START, 900, 15);
    // 12 retakes in 6 hours: on average, a token returns every half hour.
    assert_eq!((machine.state(), machine.until()), (State::Sustained, Some(machine.last_retake() + 3600 * SECOND)));
}

#[test]
fn a_contested_object_calms_after_two_refills_of_the_slowest_bucket() {
    let mut machine = WarState::default();
    machine.retake(&"a".into(), START, &Limits::default(), true);
    machine.advance(START + 3599 * SECOND, &Limits::default());
    assert_eq!(machine.state(), State::Contested);
    machine.advance(START + 3700 * SECOND, &Limits::default());
    assert_eq!((machine.state(), machine.since()), (State::Calm, START + 3600 * SECOND));
}

#[test]
fn only_thrashing_events_of_one_window_make_a_war_sustained() {
    let one = crate::detect::bucket::Limit { burst: 1.try_into().unwrap(), window_s: 600.try_into().unwrap() };
    let limits = Limits { buckets: [one].into_iter().collect(), ..Limits::default() };
    let mut machine = WarState::default();
    let mut at = |second: i64| {
        let is_thrash = machine.retake(&"a".into(), START + second * SECOND, &limits, true);
        (is_thrash, machine.state())
    };
    assert_eq!(at(0), (false, State::Contested));
    assert_eq!([at(300), at(600)], [(true, State::Thrashing); 2]);
    assert_eq!(at(1300), (false, State::Thrashing), "the last one was more than a window ago");
    assert_eq!([at(1350), at(1400)], [(true, State::Thrashing); 2], "not three within ten minutes");
    assert_eq!(at(1950), (true, State::Sustained), "exactly ten minutes after the first of three");
}

#[test]
fn a_war_that_cannot_be_paused_stays_thrashing() {
    let mut machine = WarState::default();
    for i in 0..20 {
        machine.retake(&"a".into(), START + i * SECOND, &Limits::default(), false);
    }
    assert_eq!((machine.state(), machine.sustained_count(), machine.spared()), (State::Thrashing, 0, 0));
}

#[test]
fn a_deletion_ends_a_war() {
    let mut machine = WarState::default();
    machine.end(START);
    assert_eq!((machine.state(), machine.since()), (State::Calm, 0), "there is no war");
    war(&mut machine, START, 5, 12);
    machine.end(START);
    assert_eq!((machine.state(), machine.since()), (State::Calm, START + 55 * SECOND), "not before its last retake");
    // The buckets are full again: five retakes pass.
    let passed = (0..6).map(|i| machine.retake(&"a".into(), START + (60 + i) * SECOND, &Limits::default(), true));
    assert_eq!(passed.collect::<Vec<_>>(), [false, false, false, false, false, true]);
}

#[test]
fn the_bytes_of_a_war_state_are_those_of_buckets_and_thrashing_events() {
    let mut machine = WarState::default();
    assert_eq!(machine.bytes(), 0);
    war(&mut machine, START, 5, 12);
    let buckets: usize = machine.buckets.iter().map(RetakeBucket::bytes).sum();
    let thrashes = machine.thrashing_events.capacity() * 16;
    assert!(buckets > 0 && thrashes > 0);
    assert_eq!(machine.bytes(), buckets + thrashes);
}

#[test]
fn the_next_transition_is_known_in_advance() {
    let limits = Limits::default();
    let mut machine = WarState::default();
    assert_eq!(machine.due(&limits), None);
    // While contested: two tokens of 12 in 6 hours after the last retake, but not before the quiet period is over.
    machine.retake(&"a".into(), START, &limits, true);
    assert_eq!(machine.due(&limits), Some(START + 3600 * SECOND));
    let short = crate::detect::bucket::Limit { burst: 5.try_into().unwrap(), window_s: 600.try_into().unwrap() };
    let short = Limits { buckets: [short].into_iter().collect(), ..Limits::default() };
    assert_eq!(machine.due(&short), Some(START + 600 * SECOND));
    let mut machine = WarState::default();
    war(&mut machine, START, 5, 12);
    assert_eq!(machine.due(&limits), Some(OPEN));
    let mut machine = subsiding();
    assert_eq!(machine.due(&limits), Some(OPEN + 600 * SECOND));
    machine.retake(&"a".into(), OPEN + 100 * SECOND, &limits, true);
    assert_eq!(machine.due(&limits), Some(OPEN + 700 * SECOND));
}
