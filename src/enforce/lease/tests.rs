//! Tests what each call sends, and what each response means for the Lease.

use super::*;
use crate::enforce::fake_api::{FakeApi, Reply};
use crate::enforce::fixtures::{GET_LEASE, POST_LEASE, PUT_LEASE, lease};
use crate::enforce::pause_client::Error;

/// An API server, and a participant for its Lease.
fn connected() -> (FakeApi, Lease) {
    let api = FakeApi::new();
    let lease = Lease::new(api.client(), "editwar", "editwar", "me");
    (api, lease)
}

#[tokio::test]
async fn a_lease_is_created_and_then_renewed_at_the_revision_that_was_read() {
    let (api, mut participant) = connected();
    let now = Instant::now();
    api.on(GET_LEASE, [Reply::error(404, "NotFound"), lease("me", "7")]);
    api.on(POST_LEASE, [lease("me", "1")]);
    api.on(PUT_LEASE, [lease("me", "8")]);
    assert!(participant.renew(now).await.unwrap());
    assert_eq!(api.lines(), [GET_LEASE, POST_LEASE]);
    let created = api.last(POST_LEASE).body;
    assert_eq!(created["spec"]["holderIdentity"], "me");
    assert_eq!(created["spec"]["leaseTransitions"], 1);

    assert!(participant.renew(now).await.unwrap());
    assert!(participant.held_until().is_some_and(|until| until > now));
    let renewed = api.last(PUT_LEASE).body;
    assert_eq!(renewed["metadata"]["resourceVersion"], "7");
    assert_eq!(renewed["spec"]["acquireTime"], "2026-11-23T02:00:00.000000Z");
    assert_eq!(renewed["spec"]["leaseTransitions"], 3);
}

#[tokio::test]
async fn a_missing_namespace_is_named() {
    let (api, mut participant) = connected();
    api.on(GET_LEASE, [Reply::error(404, "NotFound")]);
    api.on(POST_LEASE, [Reply::error(404, "NotFound")]);
    let error = participant.renew(Instant::now()).await.unwrap_err().to_string();
    assert!(error.contains("the namespace \"editwar\" does not exist: create it"), "{error}");
}

#[tokio::test]
async fn a_lease_that_another_replica_creates_first_is_not_held() {
    let (api, mut participant) = connected();
    api.on(GET_LEASE, [Reply::error(404, "NotFound")]);
    api.on(POST_LEASE, [Reply::error(409, "AlreadyExists")]);
    assert!(!participant.renew(Instant::now()).await.unwrap());
    assert_eq!(participant.held_until(), None);
}

#[tokio::test]
async fn a_lease_held_or_taken_by_another_replica_is_lost() {
    let (api, mut participant) = connected();
    let now = Instant::now();
    api.on(GET_LEASE, [lease("", "1"), lease("me", "2"), lease("other", "3")]);
    api.on(PUT_LEASE, [lease("me", "2"), Reply::error(409, "Conflict")]);
    assert!(participant.renew(now).await.unwrap());
    assert!(!participant.renew(now).await.unwrap());
    assert_eq!(participant.held_until(), None);
    assert!(!participant.renew(now).await.unwrap());
    // The last time, it only reads, since the other replica may still act.
    assert_eq!(api.lines(), [GET_LEASE, PUT_LEASE, GET_LEASE, PUT_LEASE, GET_LEASE]);
}

#[tokio::test]
async fn a_failed_renewal_neither_extends_nor_ends_the_lease() {
    let (api, mut participant) = connected();
    let now = Instant::now();
    api.on(GET_LEASE, [lease("me", "1")]);
    api.on(PUT_LEASE, [lease("me", "2")]);
    assert!(participant.renew(now).await.unwrap());
    let until = participant.held_until();
    for failure in [Reply::error(429, "TooManyRequests"), Reply::Broken, Reply::Text("{".to_owned())] {
        api.on(PUT_LEASE, [failure.clone()]);
        let failed = participant.renew(now + EVERY).await;
        assert!(matches!(failed, Err(Error::Unavailable(_))), "{failure:?}: {failed:?}");
        assert_eq!(participant.held_until(), until);
    }
}
