//! Tests of how the right to act begins and ends.

use super::*;
use crate::enforce::fake_api::{FakeApi, Reply};
use crate::enforce::fixtures::{GET_LEASE, PUT_LEASE, lease};
use crate::enforce::lease::DURATION;
use crate::util::readiness::Readiness;

const LONG: Duration = Duration::from_secs(60);

/// Returns an API server whose Lease is free, and a participant for it.
fn elector() -> (FakeApi, LeaderElector, Leadership) {
    let api = FakeApi::new();
    api.on(GET_LEASE, [lease("", "1"), lease("me", "2")]);
    api.on(PUT_LEASE, [lease("me", "2")]);
    let (elector, leadership) =
        LeaderElector::new(Lease::new(api.client(), "editwar", "editwar", "me"), Readiness::always());
    (api, elector, leadership)
}

#[tokio::test(start_paused = true)]
async fn the_right_to_act_ends_by_its_own_clock_though_nothing_says_so() {
    let (_status, mut leadership) = Leadership::held_for(Duration::from_millis(50));
    assert!(leadership.is_held());
    leadership.wait_until_lost().await;
    assert!(!leadership.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_extends_it_and_an_elector_that_is_gone_ends_it() {
    let (status, mut leadership) = Leadership::held_for(Duration::from_millis(100));
    status.send_modify(|status| status.held_until = Some(Instant::now() + LONG));
    let lost = tokio::time::timeout(Duration::from_millis(300), leadership.wait_until_lost()).await;
    assert!(lost.is_err() && leadership.is_held(), "it was renewed");
    drop(status);
    leadership.wait_until_lost().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_hold_the_lease_may_not_act() {
    let (_api, _elector, mut leadership) = elector();
    assert!(!leadership.is_held());
    leadership.wait_until_lost().await;
}

#[tokio::test(start_paused = true)]
async fn the_leadership_ends_when_another_replica_holds_the_lease() {
    let (api, elector, mut leadership) = elector();
    let electing = tokio::spawn(elector.run());
    leadership.wait_until_held(LONG).await;
    assert!(leadership.is_held());
    api.on(GET_LEASE, [lease("other", "3")]);
    leadership.wait_until_lost().await;
    assert!(!leadership.is_held());
    assert_eq!(leadership.problem(), STANDING_BY);
    // The elector ends with the last `Leadership`, and does not release a Lease that it does not hold.
    drop(leadership);
    electing.await.unwrap();
    assert_eq!(api.lines(), [GET_LEASE, PUT_LEASE, GET_LEASE]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_know_all_writes_releases_the_lease() {
    let api = FakeApi::new();
    api.on(GET_LEASE, [lease("", "1"), lease("me", "2")]);
    api.on(PUT_LEASE, [lease("me", "2")]);
    let readiness = Readiness::always();
    let (elector, mut leadership) =
        LeaderElector::new(Lease::new(api.client(), "editwar", "editwar", "me"), readiness.clone());
    tokio::spawn(elector.run());
    leadership.wait_until_held(LONG).await;
    readiness.set(false);
    leadership.wait_until_lost().await;
    assert_eq!(leadership.problem(), "this replica does not know all writes yet");
    tokio::time::sleep(DURATION).await;
    assert!(!leadership.is_held());
    let holder = &api.last(PUT_LEASE).body["spec"]["holderIdentity"];
    assert!(holder.is_null(), "another one acquires it at once: {holder}");
    readiness.set(true);
    leadership.wait_until_held(LONG).await;
    assert!(leadership.is_held());
}

#[tokio::test(start_paused = true)]
async fn the_right_to_act_ends_before_the_lease_if_renewals_are_not_answered() {
    let (api, elector, mut leadership) = elector();
    tokio::spawn(elector.run());
    leadership.wait_until_held(LONG).await;
    let started = Instant::now();
    api.on(PUT_LEASE, [Reply::Silent]);
    leadership.wait_until_lost().await;
    assert!(!leadership.is_held());
    assert!(started.elapsed() < DURATION, "another replica may acquire it then");
    assert!(
        api.lines().iter().filter(|line| *line == PUT_LEASE).count() >= 3,
        "one that hangs does not prevent others"
    );
    assert_eq!(leadership.problem(), "the Lease: API server: no answer within 3 s");
    // The API server works again.
    api.on(PUT_LEASE, [lease("me", "9")]);
    leadership.wait_until_held(LONG).await;
    assert!(leadership.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_response_is_lost_does_not_end_the_right_to_act() {
    let (api, elector, mut leadership) = elector();
    tokio::spawn(elector.run());
    leadership.wait_until_held(LONG).await;
    // It was written, so the next renewal finds another revision.
    api.on(PUT_LEASE, [Reply::Broken, lease("me", "4")]);
    api.on(GET_LEASE, [lease("me", "2"), lease("me", "3")]);
    api.wait_until(|calls| calls.iter().filter(|call| call.line == PUT_LEASE).count() == 2).await;
    let lost = tokio::time::timeout(LONG, leadership.wait_until_lost()).await;
    assert!(lost.is_err() && leadership.is_held(), "{}", leadership.problem());
    assert_eq!(
        (leadership.problem().as_str(), &api.last(PUT_LEASE).body["metadata"]["resourceVersion"]),
        ("", &"3".into())
    );
}
