//! The eight documented weaknesses of the reconciler that editwar replaces. For each of them, a test with its name
//! shows that editwar does not have it.

use std::collections::BTreeMap;

use editwar::detect::verdict::{Confidence, State};
use editwar::enforce::means::Means;
use editwar::enforce::plan::{Action, Now, PauseRemoval, Plan, ResumeReason, Rules, Verdict};
use serde_json::{Value, json};

use crate::cluster::{ALICE, BOB, Cluster, HPA, Level, OPERATOR};
use crate::util;

const WEB: &str = "deployments.apps/shop/web";
const SECOND: i64 = 1_000_000;

fn cluster() -> Cluster {
    let mut cluster = Cluster::new(Level::RequestResponse);
    let body = json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web"}, "spec": {"replicas": 3, "paused": false}});
    cluster.create(OPERATOR, WEB, body);
    cluster
}

fn replicas(n: u32) -> Value {
    json!({"spec": {"replicas": n}})
}

/// Both sides write alternately, every `seconds` seconds.
fn war(seconds: f64, turns: u32) -> Cluster {
    let mut cluster = cluster();
    for _ in 0..turns {
        cluster.wait(seconds);
        cluster.scale(HPA, WEB, 5);
        cluster.wait(seconds);
        cluster.patch(OPERATOR, WEB, "", replicas(3));
    }
    cluster
}

fn state(cluster: &Cluster) -> Option<State> {
    util::report(&util::pipeline_of(cluster.lines())).wars.first().map(|war| war.state)
}

fn rules() -> Rules {
    Rules { confidence: Confidence::Probable, max_pauses_per_minute: 10, max_event_age: 120 * SECOND }
}

fn at(second: i64) -> Now {
    Now { clock: second * SECOND, latest: Some(second * SECOND) }
}

fn paused() -> Verdict {
    Verdict {
        state: State::Sustained,
        confidence: Confidence::Confirmed,
        until: Some(600 * SECOND),
        parties: vec!["alice".into(), "robot".into()],
        over: "spec.replicas".into(),
        retakes: 9,
        since: Some(0),
        removal: None,
        is_unmanaged: false,
        means: Some(Means::Annotations),
    }
}

/// Runs one step with a verdict on one object. Returns the action.
fn step(plan: &mut Plan<&'static str>, now: Now, verdict: Option<Verdict>) -> Option<Action> {
    let verdicts: BTreeMap<&str, Verdict> = verdict.into_iter().map(|v| ("web", v)).collect();
    plan.step(now, &verdicts).pop().map(|(_, action)| action)
}

#[test]
fn weakness_1_it_ignores_actor_agent_verb_field_and_value() {
    let report = util::report(&util::pipeline_of(war(5.0, 12).lines()));
    let war = &report.wars[0];
    let party = war.parties.iter().find(|p| p.actor == HPA.0).unwrap();
    assert!(
        !party.user_agents.is_empty() && !party.field_managers.is_empty() && party.verbs.values().sum::<u32>() >= 12
    );
    assert_eq!(war.fields[0].path, "spec.replicas");
    let values: Vec<&Value> = war.fields[0].values.iter().map(|v| &v.value).collect();
    assert!(values.contains(&&json!(3)) && values.contains(&&json!(5)), "{values:?}");
}

#[test]
fn weakness_2_retries_of_one_edit_are_a_war_and_a_success_ends_it() {
    // One edit that is reverted once and retried repeatedly: there are at most two retakes.
    let mut cluster = cluster();
    cluster.wait(5.0);
    cluster.patch(ALICE, WEB, "", replicas(5));
    for _ in 0..20 {
        cluster.wait(0.2);
        cluster.patch(OPERATOR, WEB, "", replicas(3));
    }
    assert!(state(&cluster).is_none_or(|state| state < State::Thrashing), "{:?}", state(&cluster));
    // Successful writes of other fields in between do not reset anything.
    let mut cluster = self::cluster();
    for turn in 0..12 {
        cluster.wait(5.0);
        cluster.scale(HPA, WEB, 5);
        cluster.wait(2.0);
        cluster.patch(OPERATOR, WEB, "", json!({"spec": {"paused": turn % 2 == 0}}));
        cluster.wait(3.0);
        cluster.patch(OPERATOR, WEB, "", replicas(3));
    }
    assert_eq!(state(&cluster), Some(State::Sustained));
}

#[test]
fn weakness_3_slow_wars_are_never_seen() {
    assert_eq!(state(&war(5.0, 12)), Some(State::Sustained), "the runbook's own example");
    assert_eq!(state(&war(60.0, 12)), Some(State::Sustained), "one write a minute");
    assert!(state(&war(900.0, 20)) >= Some(State::Thrashing), "one write in a quarter of an hour");
}

#[test]
fn weakness_4_a_failed_or_stripped_pause_counts_as_a_users_resume() {
    let mut plan = Plan::new(rules());
    // The write failed and was not reported as done, so it is retried.
    assert!(matches!(step(&mut plan, at(1), Some(paused())), Some(Action::Pause { .. })));
    assert!(matches!(step(&mut plan, at(2), Some(paused())), Some(Action::Pause { .. })));
    plan.record_pause("web", Some(600 * SECOND), at(2));
    // If the rival removes the pause, it is set again. If a person removes it, reconciliation resumes.
    let removal = |is_deliberate| Some(PauseRemoval { at: 15 * SECOND, actor: "robot".into(), is_deliberate });
    let stripped = Verdict { removal: removal(false), ..paused() };
    assert!(matches!(step(&mut plan, at(20), Some(stripped)), Some(Action::Pause { .. })));
    let lifted = Verdict { removal: removal(true), ..paused() };
    assert!(matches!(step(&mut plan, at(20), Some(lifted)), Some(Action::Resume(_))));
}

#[test]
fn weakness_5_it_never_resumes_and_forgets_pauses_at_a_restart() {
    let mut plan = Plan::new(rules());
    plan.record_pause("web", Some(600 * SECOND), at(1));
    let quiet = Verdict { state: State::Subsiding, ..paused() };
    assert_eq!(step(&mut plan, at(601), Some(quiet)), Some(Action::Lift(ResumeReason::Quiet)));
    // After a restart, only the annotation and its end are known.
    let mut plan = Plan::new(rules());
    plan.record_pause("web", Some(600 * SECOND), at(300));
    assert_eq!(step(&mut plan, at(301), None), None);
    assert_eq!(step(&mut plan, at(600), None), Some(Action::Lift(ResumeReason::Quiet)));
}

#[test]
fn weakness_6_unmanaged_does_not_clear_the_alert() {
    let mut plan = Plan::new(rules());
    plan.record_pause("web", Some(600 * SECOND), at(1));
    let unmanaged = Verdict { is_unmanaged: true, ..paused() };
    assert_eq!(step(&mut plan, at(2), Some(unmanaged)), Some(Action::Lift(ResumeReason::Unmanaged)));
    plan.record_lift(&"web");
    // The gauge follows the number of paused objects.
    assert_eq!(plan.paused().count(), 0);
}

#[test]
fn weakness_7_the_runbooks_alert_can_hardly_fire() {
    // `increase(virt_platform_thrashing_total[10m]) > 5` for the runbook's own example, within ten minutes.
    let report = util::report(&util::pipeline_of(war(5.0, 30).lines()));
    assert!(report.wars[0].thrashing_events > 5, "{}", report.wars[0].thrashing_events);
}

#[test]
fn weakness_8_its_filter_matches_every_patch_of_any_object() {
    let mut cluster = war(5.0, 12);
    let other =
        json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "other"}, "spec": {"replicas": 1}});
    cluster.create(ALICE, "deployments.apps/shop/other", other);
    for n in 2..12 {
        cluster.wait(1.0);
        cluster.patch(BOB, "deployments.apps/shop/other", "", replicas(n));
    }
    let report = util::report(&util::pipeline_of(cluster.lines()));
    assert_eq!(report.wars.len(), 1);
    let actors: Vec<&str> = report.wars[0].parties.iter().map(|p| p.actor.as_str()).collect();
    assert!(!actors.contains(&BOB.0) && report.wars[0].other_writers.iter().all(|b| b.actor != BOB.0), "{actors:?}");
}
