//! Tests of how one asset is reconciled when a call fails: what is written again, when, and what is reported.

use crate::util::readiness::Readiness;
use prometheus::Registry;
use serde_json::{Value, json};

use super::correction::{CONFLICT_RETRY, RESYNC};
use super::*;
use crate::audit::decoded_chunk::DecodedChunk;
use crate::enforce::fake_api::{FakeApi, Reply};
use crate::enforce::leader_election::LeaderElector;
use crate::enforce::lease::{EVERY, Lease};

const GET: &str = "GET /api/v1/namespaces/shop/configmaps/features";
const DRY_RUN: &str = "DRY-RUN /api/v1/namespaces/shop/configmaps/features";
const PATCH: &str = "PATCH /api/v1/namespaces/shop/configmaps/features";
const DELETE: &str = "DELETE /api/v1/namespaces/shop/configmaps/features";
const DISCOVERY: &str = "GET /api/v1";

/// A reconciler of one ConfigMap, and what it talks to.
struct Setup {
    api: FakeApi,
    /// Receives the Events.
    events: FakeApi,
    reconciler: Reconciler,
    watches: Watches,
    id: Id,
}

// === impl Setup ===

impl Setup {
    /// The object exists and differs from the Golden State.
    fn drifted() -> Setup {
        let setup = Setup::new(false);
        setup.api.on(GET, [features("1", "bad")]);
        setup.api.on(DRY_RUN, [features("1", "good")]);
        setup.see_event();
        setup
    }

    /// The object does not exist, and there are no audit events.
    fn missing() -> Setup {
        let setup = Setup::new(false);
        setup.api.on(GET, [Reply::error(404, "NotFound")]);
        setup
    }

    /// The object exists, and is to be deleted.
    fn tombstone() -> Setup {
        let setup = Setup::new(true);
        setup.api.on(GET, [features("1", "bad")]);
        setup
    }

    fn new(is_tombstone: bool) -> Setup {
        let (api, events) = (FakeApi::new(), FakeApi::new());
        let settings = Settings {
            directory: std::env::temp_dir().join(format!("editwar-reconciler-{}", std::process::id())),
            field_manager: "golden".to_owned(),
            managed_by: "golden".to_owned(),
            confidence: Confidence::Probable,
            max_event_age: 120_000_000,
        };
        let mut reconciler = Reconciler::new(
            api.client(),
            Arc::new(Pipeline::new(Default::default(), Default::default())),
            GoldenStateMetrics::new(&Registry::new()),
            settings,
            Events::new(events.client(), "test"),
            Inbox::default(),
            Control::default(),
        );
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "features", "namespace": "shop"}, "data": {"mode": "good"}});
        let id = Id::of(&object).unwrap();
        reconciler.desired.insert(id.clone(), Asset { object, is_tombstone, file: PathBuf::new() });
        let watches = Watches::new(api.client(), mpsc::channel(1).0);
        Setup { api, events, reconciler, watches, id }
    }

    /// Reconciles the object. Returns the delay until the next time.
    async fn reconcile(&mut self) -> Duration {
        self.reconciler.reconcile(&self.id, &mut self.watches).await.expect("the asset exists")
    }

    /// Lets an audit event of this moment arrive.
    fn see_event(&self) {
        let event = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "a",
            "stage": "ResponseComplete", "requestURI": "/", "verb": "get", "user": {},
            "stageTimestamp": format!("{:.6}", jiff::Timestamp::now())});
        self.reconciler
            .pipeline
            .batch("", "test")
            .ingest(&DecodedChunk::of(event.to_string().as_bytes(), false, Vec::new()), 0);
    }

    /// Returns how often the object was written.
    fn writes(&self) -> usize {
        self.api.lines().iter().filter(|line| *line == PATCH).count()
    }

    fn is_compliant(&self) -> bool {
        self.reconciler.metrics.compliance.with_label_values(&["ConfigMap", "features", "shop"]).get() == 1
    }

    fn is_kind_missing(&self) -> bool {
        self.reconciler.metrics.missing.with_label_values(&["", "v1", "ConfigMap"]).get() == 1
    }

    /// Returns the reasons of the Events so far.
    async fn reasons(&self) -> Vec<String> {
        // In paused time, this lets the task of the Events do its work.
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.events.calls().iter().map(|call| call.body["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// Returns the response with the object at this revision and with this value.
fn features(revision: &str, mode: &str) -> Reply {
    let metadata = json!({"name": "features", "namespace": "shop", "uid": "uid-1", "resourceVersion": revision,
        "labels": {"managed-by": "golden"}});
    Reply::Json(200, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mode": mode}}))
}

/// Returns the resources of the core group, with ConfigMaps or without.
fn core(has_configmaps: bool) -> Reply {
    let configmaps =
        json!({"name": "configmaps", "singularName": "", "namespaced": true, "kind": "ConfigMap", "verbs": ["get"]});
    let resources: Vec<Value> = Some(configmaps).filter(|_| has_configmaps).into_iter().collect();
    Reply::Json(200, json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": resources}))
}

/// Responses after which a write may have been executed.
fn unclear() -> [Reply; 5] {
    [
        Reply::error(500, "InternalError"),
        Reply::error(504, "Timeout"),
        Reply::Broken,
        Reply::Text("<html>".to_owned()),
        Reply::Silent,
    ]
}

#[tokio::test(start_paused = true)]
async fn an_object_that_changes_between_read_and_write_is_compared_again_as_it_is_then() {
    let mut setup = Setup::drifted();
    setup.api.on(GET, [features("1", "bad"), features("2", "bad"), features("3", "worse")]);
    setup.api.on(DRY_RUN, [Reply::error(409, "Conflict"), features("2", "good"), features("3", "good")]);
    setup.api.on(PATCH, [Reply::error(409, "Conflict"), features("4", "good")]);
    assert_eq!(setup.reconcile().await, CONFLICT_RETRY);
    assert_eq!((setup.writes(), setup.is_compliant()), (0, false));
    assert_eq!(setup.reconcile().await, CONFLICT_RETRY);
    assert_eq!((setup.writes(), setup.is_compliant()), (1, false));
    assert_eq!(setup.reconcile().await, RESYNC);
    assert!(setup.is_compliant());
    let written = setup.api.last(PATCH).body;
    assert_eq!((&written["metadata"]["resourceVersion"], &written["metadata"]["uid"]), (&json!("3"), &json!("uid-1")));
    assert_eq!(setup.reasons().await, ["DriftCorrected"]);
}

/// An API server answers 409 to an apply with the uid of an object that was deleted.
#[tokio::test(start_paused = true)]
async fn an_object_that_is_deleted_between_read_and_write_is_created_again() {
    let mut setup = Setup::drifted();
    setup.api.on(GET, [features("1", "bad"), Reply::error(404, "NotFound")]);
    setup.api.on(DRY_RUN, [Reply::error(409, "Conflict")]);
    setup.api.on(PATCH, [features("2", "good")]);
    assert_eq!(setup.reconcile().await, CONFLICT_RETRY);
    assert_eq!(setup.reconcile().await, RESYNC);
    assert!(setup.api.last(PATCH).body["metadata"].get("uid").is_none());
    assert_eq!(setup.reasons().await, ["AssetApplied"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_keeps_failing_is_reported_once_and_repeated_less_and_less_often() {
    let mut setup = Setup::drifted();
    setup.api.on(PATCH, [Reply::error(422, "Invalid")]);
    let mut waits = Vec::new();
    for _ in 0..9 {
        waits.push(setup.reconcile().await.as_secs());
        setup.see_event();
    }
    assert_eq!(waits, [4, 8, 16, 32, 64, 128, 256, 256, 256]);
    assert_eq!((setup.writes(), setup.is_compliant()), (9, false));
    assert_eq!(setup.reasons().await, ["ApplyFailed"]);
    assert!(setup.reconciler.control.status().contains("ConfigMap/shop/features"));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_returns_after_a_success_is_reported_again() {
    let mut setup = Setup::drifted();
    let answers = [Reply::error(403, "Forbidden"), features("1", "bad"), Reply::error(403, "Forbidden")];
    setup.api.on(DRY_RUN, answers);
    assert_eq!(setup.reconcile().await.as_secs(), 4);
    assert_eq!(setup.reconcile().await, RESYNC);
    setup.reconciler.control.set_status("");
    assert_eq!(setup.reconcile().await.as_secs(), 4);
    assert!(setup.reconciler.control.status().contains("Forbidden"));
    setup.reasons().await;
    assert_eq!(setup.events.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_correction_that_may_have_been_written_is_not_repeated_before_an_event_shows_what_happened() {
    for answer in unclear() {
        let mut setup = Setup::drifted();
        setup.api.on(PATCH, [answer.clone()]);
        assert_eq!(setup.reconcile().await.as_secs(), 4, "{answer:?}");
        assert!(!setup.is_compliant(), "{answer:?}");
        assert_eq!(setup.reconcile().await, GATE_RETRY, "{answer:?}");
        assert_eq!(setup.writes(), 1, "{answer:?}");
        setup.see_event();
        assert_eq!(setup.reconcile().await.as_secs(), 8, "waiting for the event is no success: {answer:?}");
        assert_eq!(setup.writes(), 2, "{answer:?}");
        assert!(setup.reasons().await.len() <= 1, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_may_have_been_written_is_not_repeated_before_an_event_shows_what_happened() {
    for answer in unclear() {
        let mut setup = Setup::missing();
        setup.see_event();
        setup.api.on(PATCH, [answer.clone()]);
        assert_eq!(setup.reconcile().await.as_secs(), 4, "{answer:?}");
        // Either it was not written, or another actor has deleted the object.
        assert_eq!(setup.reconcile().await, GATE_RETRY, "{answer:?}");
        assert_eq!((setup.writes(), setup.is_compliant()), (1, false), "{answer:?}");
        setup.see_event();
        assert_eq!(setup.reconcile().await.as_secs(), 8, "{answer:?}");
        assert_eq!(setup.writes(), 2, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_events_an_object_is_created_until_that_is_confirmed_and_then_not_again() {
    for answer in unclear() {
        let mut setup = Setup::missing();
        setup.api.on(PATCH, [answer.clone(), answer.clone(), features("1", "good")]);
        assert_eq!(setup.reconcile().await.as_secs(), 4, "{answer:?}");
        assert_eq!(setup.reconcile().await.as_secs(), 8, "{answer:?}");
        assert_eq!(setup.reconcile().await, RESYNC, "{answer:?}");
        // Another actor deletes it.
        assert_eq!(setup.reconcile().await, GATE_RETRY, "{answer:?}");
        assert_eq!((setup.writes(), setup.is_compliant()), (3, false), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_creation_is_repeated_without_events() {
    let mut setup = Setup::missing();
    // The namespace does not exist at first.
    setup.api.on(PATCH, [Reply::error(404, "NotFound"), Reply::error(422, "Invalid"), features("1", "good")]);
    assert_eq!(setup.reconcile().await, MISSING_RETRY);
    assert_eq!(setup.reconcile().await.as_secs(), 4);
    assert_eq!(setup.reconcile().await, RESYNC);
    assert!(setup.is_compliant());
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_does_not_exist_yet_is_awaited_but_one_whose_api_is_down_is_a_failure() {
    let mut setup = Setup::missing();
    setup.api.on(DISCOVERY, [core(false), Reply::error(503, "ServiceUnavailable"), core(true)]);
    setup.api.on(PATCH, [features("1", "good")]);
    assert_eq!(setup.reconcile().await, MISSING_RETRY);
    assert!(setup.is_kind_missing());
    assert!(setup.reasons().await.is_empty(), "it is no failure");
    assert_eq!(setup.reconcile().await.as_secs(), 4);
    assert_eq!(setup.reconcile().await, RESYNC);
    assert!(!setup.is_kind_missing());
    assert_eq!(setup.reasons().await, ["ApplyFailed", "AssetApplied"]);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_deleted_is_missing_again() {
    let mut setup = Setup::missing();
    setup.api.on(PATCH, [Reply::error(404, "NotFound")]);
    assert_eq!(setup.reconcile().await, MISSING_RETRY);
    assert!(!setup.is_kind_missing(), "it may be the namespace that does not exist");
    setup.api.on(DISCOVERY, [core(false)]);
    assert_eq!(setup.reconcile().await, MISSING_RETRY);
    assert!(setup.is_kind_missing());
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_whose_object_another_actor_deletes_or_replaces_is_no_failure() {
    let mut setup = Setup::tombstone();
    let answers = [Reply::error(404, "NotFound"), Reply::error(409, "Conflict"), Reply::error(403, "Forbidden")];
    setup.api.on(DELETE, answers);
    assert_eq!(setup.reconcile().await, MISSING_RETRY);
    assert_eq!(setup.api.last(DELETE).body["preconditions"]["uid"], "uid-1");
    assert_eq!(setup.reconcile().await, CONFLICT_RETRY);
    assert!(setup.reasons().await.is_empty());
    assert_eq!(setup.reconcile().await.as_secs(), 4);
    assert_eq!(setup.reasons().await, ["ApplyFailed"]);
}

#[tokio::test(start_paused = true)]
async fn a_reconciliation_in_progress_is_dropped_when_the_lease_is_lost() {
    let setup = Setup::drifted();
    let folder = setup.reconciler.settings.directory.clone();
    std::fs::create_dir_all(folder.join("apps")).unwrap();
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: features, namespace: shop}\ndata: {mode: good}\n";
    std::fs::write(folder.join("apps/features.yaml"), manifest).unwrap();
    setup.api.on(DRY_RUN, [Reply::Silent]);
    setup.api.on(PATCH, [features("2", "good")]);
    let leases = FakeApi::new();
    let lease = json!({"metadata": {"name": "editwar"}, "spec": {"holderIdentity": "me"}});
    let lease_line = "/apis/coordination.k8s.io/v1/namespaces/editwar/leases/editwar";
    leases.on(&format!("GET {lease_line}"), [Reply::Json(200, lease.clone())]);
    leases.on(&format!("PUT {lease_line}"), [Reply::Json(200, lease), Reply::Silent]);
    let (elector, mut leadership) =
        LeaderElector::new(Lease::new(leases.client(), "editwar", "editwar", "me"), Readiness::always());
    tokio::spawn(elector.run());
    leadership.wait_until_held(EVERY).await;
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(setup.reconciler.run(leadership.clone(), stopped));
    let is_dry_run_open =
        |calls: &[crate::enforce::fake_api::Call]| calls.iter().any(|c| c.line == DRY_RUN && c.is_open);
    setup.api.wait_until(is_dry_run_open).await;
    assert!(leadership.is_held());
    setup.api.wait_until(|calls| !is_dry_run_open(calls)).await;
    assert!(!leadership.is_held(), "it was not the timeout of the call");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!setup.api.lines().contains(&PATCH.to_owned()), "nothing is written without the Lease");
    stop.send_replace(true);
    running.await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}
