//! Tests of the task around the plan: lists and namespaces that cannot be read, and the loss of the Lease.

use super::*;
use crate::detect::verdict::Confidence;
use crate::enforce::fake_api::{FakeApi, Reply};
use crate::enforce::fixtures::{GET_SHOP, GET_WEB, LIST, key, key_in, metrics, namespace, page, target, web};
use crate::enforce::leader_election::LeaseStatus;
use crate::enforce::plan::ResumeReason;
use crate::enforce::selection::Exclusion;

const NOW: Now = Now { clock: 1_000_000, latest: None };

/// Returns an enforcer that holds the Lease, as long as the sender does not say otherwise.
fn enforcer(api: &FakeApi) -> (watch::Sender<LeaseStatus>, Enforcer) {
    let (lease, leadership) = Leadership::held_for(Duration::from_secs(3600));
    let selection = Selection { resources: vec![("deployments".into(), "apps".into())], ..Selection::default() };
    let pipeline = Arc::new(Pipeline::new(Default::default(), Default::default()));
    let enforcer = Enforcer::new(Parts {
        client: api.client(),
        pipeline: pipeline.clone(),
        lifted_pauses: pipeline,
        metrics: metrics(),
        selection,
        account: "editwar".to_owned(),
        rules: Rules { confidence: Confidence::Probable, max_pauses_per_minute: 3, max_event_age: 120_000_000 },
        control: Control::default(),
        inbox: Inbox::default(),
        pauses: Pauses::default(),
        leadership,
        events: Events::new(FakeApi::new().client(), "test"),
    });
    (lease, enforcer)
}

// === impl Enforcer ===

impl Enforcer {
    /// Handles the result of the task in flight.
    async fn finish(&mut self) {
        let result = self.tasks.join_next().await.expect("a task is in flight");
        self.handle(result);
    }

    /// Returns the objects whose pauses are lifted next because they are switched off.
    fn switched_off(&mut self) -> Vec<ObjectKey> {
        let actions = self.plan.step(NOW, &BTreeMap::new());
        let is_off = |action: &Action| *action == Action::Lift(ResumeReason::SwitchedOff);
        actions.into_iter().filter(|(_, action)| is_off(action)).map(|(key, _)| key).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_is_repeated_and_its_objects_are_left_alone_until_then() {
    let api = FakeApi::new();
    let failures =
        [Reply::error(500, "InternalError"), Reply::Silent, page(&[web("uid-1", true)], "next"), Reply::Broken];
    // The third list fails on its second page.
    api.on(LIST, failures.into_iter().chain([page(&[web("uid-1", true)], "")]));
    let (_lease, mut enforcer) = enforcer(&api);
    for _ in 0..3 {
        enforcer.find_existing_pauses(NOW);
        enforcer.finish().await;
        assert!(enforcer.listed.is_empty() && enforcer.plan.paused().next().is_none());
        enforcer.find_existing_pauses(NOW);
        assert!(enforcer.tasks.is_empty(), "it is not repeated at once");
        tokio::time::advance(LIST_AGAIN).await;
    }
    enforcer.find_existing_pauses(NOW);
    enforcer.finish().await;
    assert!(!enforcer.listed.is_empty());
    assert_eq!(enforcer.plan.paused().collect::<Vec<_>>(), [&key()]);
    assert!(enforcer.executor.pauses.registered_at(&key()).is_some(), "the kill switch knows it");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_cannot_be_read_switches_nothing_off_and_delays_no_other() {
    for failure in [Reply::error(500, "InternalError"), Reply::Broken, Reply::Text("{".to_owned()), Reply::Silent] {
        let api = FakeApi::new();
        // It is read before `shop`.
        api.on("GET /api/v1/namespaces/a", [failure.clone(), namespace(true)]);
        api.on(GET_SHOP, [namespace(true)]);
        let (_lease, mut enforcer) = enforcer(&api);
        for key in [key_in("a"), key()] {
            enforcer.plan.record_pause(key, None, NOW);
        }
        enforcer.check_namespaces();
        enforcer.finish().await;
        assert_eq!(enforcer.switched_off(), [key()], "{failure:?}");
        assert!(enforcer.last_error.as_ref().is_some_and(|(text, _)| text.contains("namespace")));

        tokio::time::advance(NAMESPACES_EVERY).await;
        enforcer.check_namespaces();
        enforcer.finish().await;
        assert_eq!(enforcer.switched_off(), [key_in("a"), key()], "{failure:?}");
    }
}

/// An API server that has just started refuses everything until it has read its roles.
#[tokio::test(start_paused = true)]
async fn a_refusal_forgets_no_pause_and_no_list() {
    let api = FakeApi::new();
    let refusal = Reply::error(403, "Forbidden");
    api.on(LIST, [refusal.clone(), page(&[web("uid-1", true)], "")]);
    let (_lease, mut enforcer) = enforcer(&api);
    enforcer.find_existing_pauses(NOW);
    enforcer.finish().await;
    assert!(enforcer.listed.is_empty(), "the pauses that exist are not known");
    tokio::time::advance(LIST_AGAIN).await;
    enforcer.find_existing_pauses(NOW);
    enforcer.finish().await;

    let forbidden = Error::Forbidden { message: "refused".to_owned(), rule: String::new() };
    let results = [
        Err(forbidden),
        Err(Error::Unknown("deployments.apps".to_owned())),
        Ok(Outcome::Excluded(key(), Exclusion::OtherNamespace)),
        Ok(Outcome::Ineligible),
    ];
    for result in results {
        enforcer.record(key(), NOW, result);
        assert_eq!(enforcer.plan.paused().collect::<Vec<_>>(), [&key()]);
    }
    assert!(!enforcer.plan.can_start(&key(), enforcer.now()), "it is not asked for again at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_in_flight_are_dropped_when_the_lease_is_lost_or_the_kill_switch_is_turned_on() {
    for is_kill_switch in [false, true] {
        let api = FakeApi::new();
        api.on(LIST, [Reply::Silent]);
        api.on(GET_WEB, [Reply::Silent]);
        let (lease, enforcer) = enforcer(&api);
        // A pause that may have been set earlier, which is checked.
        enforcer.executor.pauses.insert(key(), target("uid-1"));
        let control = enforcer.control.clone();
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(enforcer.run(stopped));
        api.wait_until(|calls| [LIST, GET_WEB].iter().all(|line| calls.iter().any(|call| call.line == *line))).await;
        if is_kill_switch {
            control.set_stopped(true);
        } else {
            lease.send_modify(|status| status.held_until = None);
        }
        api.wait_until(|calls| !calls.iter().any(|call| call.is_open)).await;
        stop.send_replace(true);
        running.await.unwrap();
    }
}
