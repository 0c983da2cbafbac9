//! Tests of what an action leaves behind when a call fails: which pauses stay registered, and what is reported.

use tokio::sync::watch;

use super::*;
use crate::enforce::calls::CALL;
use crate::enforce::fake_api::{FakeApi, Reply};
use crate::enforce::fixtures::{GET_SHOP, GET_WEB, PATCH_WEB, found, key, namespace, target, verdict};
use crate::enforce::leader_election::LeaseStatus;
use crate::enforce::plan::ResumeReason;
use crate::pipeline::Pipeline;

const LONG: Duration = Duration::from_secs(3600);

/// An executor, and what it talks to. By default the object exists, is not paused, and can be written.
struct Setup {
    api: FakeApi,
    /// Receives the Events.
    events: FakeApi,
    executor: ActionExecutor,
    _lease: watch::Sender<LeaseStatus>,
}

// === impl Setup ===

impl Setup {
    /// The Lease is held for this time.
    fn new(held_for: Duration) -> Setup {
        let (api, events) = (FakeApi::new(), FakeApi::new());
        api.on(GET_WEB, [found("uid-1", false)]);
        api.on(GET_SHOP, [namespace(false)]);
        api.on(PATCH_WEB, [found("uid-1", true)]);
        let (lease, leadership) = Leadership::held_for(held_for);
        let executor = ActionExecutor {
            pause_client: PauseClient::new(api.client(), CALL),
            events: Events::new(events.client(), "test"),
            selection: Selection::default(),
            pauses: Pauses::default(),
            lifted_pauses: Arc::new(Pipeline::new(Default::default(), Default::default())),
            leadership,
        };
        Setup { api, events, executor, _lease: lease }
    }

    async fn pause(&self, kind: PauseKind) -> Result<Outcome, Error> {
        self.executor.act(&key(), Action::Pause { verdict: verdict(), kind }).await
    }

    async fn check(&self) -> Outcome {
        self.executor.act(&key(), Action::Check(None)).await.unwrap()
    }

    fn is_registered(&self) -> bool {
        self.executor.pauses.registered_at(&key()).is_some()
    }

    /// Returns the reasons of the Events so far.
    async fn reasons(&self) -> Vec<String> {
        // In paused time, this lets the task of the Events do its work.
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.events.calls().iter().map(|call| call.body["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// Responses after which a write may have been executed.
fn unclear() -> [Reply; 4] {
    [Reply::error(500, "InternalError"), Reply::Broken, Reply::Text("<html>".to_owned()), Reply::Silent]
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_may_have_been_set_stays_registered_until_it_is_found() {
    for answer in unclear() {
        let setup = Setup::new(LONG);
        setup.api.on(PATCH_WEB, [answer.clone()]);
        let paused = setup.pause(PauseKind::New).await;
        assert!(matches!(paused, Err(Error::Unavailable(_))), "{answer:?}: {paused:?}");
        assert!(setup.is_registered(), "the kill switch must lift it: {answer:?}");

        // It is executed late.
        assert!(matches!(setup.check().await, Outcome::NotPaused), "{answer:?}");
        assert!(setup.is_registered(), "{answer:?}");
        setup.api.on(GET_WEB, [found("uid-1", true)]);
        assert!(matches!(setup.check().await, Outcome::Paused(Some(uid), None) if uid == "uid-1"), "{answer:?}");
        assert!(setup.is_registered(), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_has_not_appeared_when_the_api_server_must_have_given_up_is_forgotten() {
    let setup = Setup::new(LONG);
    setup.api.on(PATCH_WEB, [Reply::Broken]);
    setup.pause(PauseKind::New).await.unwrap_err();
    tokio::time::advance(WRITE_MAY_APPEAR_FOR).await;
    assert!(matches!(setup.check().await, Outcome::Gone));
    assert!(!setup.is_registered());
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_was_refused_is_registered_only_if_it_was_before() {
    let setup = Setup::new(LONG);
    setup.api.on(PATCH_WEB, [Reply::error(403, "Forbidden")]);
    setup.pause(PauseKind::New).await.unwrap_err();
    assert!(!setup.is_registered());

    setup.executor.pauses.insert(key(), target("uid-1"));
    setup.pause(PauseKind::Extension).await.unwrap_err();
    assert!(setup.is_registered(), "it is still paused, until earlier");
}

#[tokio::test(start_paused = true)]
async fn an_object_replaced_between_read_and_write_is_not_paused() {
    let setup = Setup::new(LONG);
    setup.api.on(GET_WEB, [found("uid-1", false), found("uid-2", false)]);
    setup.api.on(PATCH_WEB, [Reply::error(422, "Invalid")]);
    assert!(matches!(setup.pause(PauseKind::New).await, Ok(Outcome::Gone)));
    assert!(!setup.is_registered());
    assert!(setup.reasons().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_namespace_cannot_be_read_is_not_paused() {
    for failure in unclear() {
        let setup = Setup::new(LONG);
        setup.api.on(GET_SHOP, [failure.clone()]);
        let paused = setup.pause(PauseKind::New).await;
        assert!(matches!(paused, Err(Error::Unavailable(_))), "it is tried again: {failure:?}: {paused:?}");
        assert_eq!(setup.api.lines(), [GET_WEB, GET_SHOP]);
        assert!(!setup.is_registered());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_if_the_lease_is_lost_while_the_object_is_read() {
    for action in [Action::Pause { verdict: verdict(), kind: PauseKind::New }, Action::Lift(ResumeReason::Quiet)] {
        let setup = Setup::new(Duration::from_secs(8));
        setup.api.on(GET_WEB, [found("uid-1", true).after(10)]);
        let lost = setup.executor.act(&key(), action).await;
        assert!(matches!(&lost, Err(Error::Unavailable(why)) if why.contains("Lease")), "{lost:?}");
        assert!(!setup.api.lines().contains(&PATCH_WEB.to_owned()));
        assert!(setup.reasons().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_may_not_have_been_lifted_stays_registered_and_is_not_reported_as_lifted() {
    // The last one is refused by an admission webhook.
    for answer in unclear().into_iter().chain([Reply::error(409, "Conflict")]) {
        let setup = Setup::new(LONG);
        setup.executor.pauses.insert(key(), target("uid-1"));
        setup.api.on(GET_WEB, [found("uid-1", true)]);
        setup.api.on(PATCH_WEB, [answer.clone(), found("uid-1", false)]);
        let lift = async || setup.executor.act(&key(), Action::Lift(ResumeReason::Quiet)).await;
        let lifted = lift().await;
        assert!(matches!(lifted, Err(Error::Unavailable(_))), "{answer:?}: {lifted:?}");
        assert!(setup.is_registered() && setup.reasons().await.is_empty(), "{answer:?}");

        assert!(matches!(lift().await, Ok(Outcome::NotPaused)), "{answer:?}");
        assert!(!setup.is_registered(), "{answer:?}");
        assert_eq!(setup.reasons().await, ["ThrashingResolved"]);
    }
}
