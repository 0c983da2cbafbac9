//! Tests of watches that fail: no change is missed for good.

use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::*;
use crate::enforce::fake_api::{FakeApi, Reply};

const LIST: &str = "GET /api/v1/configmaps";
const WATCH_LINE: &str = "WATCH /api/v1/configmaps";

fn id(namespace: &str, name: &str) -> Id {
    Id { api_version: "v1".into(), kind: "ConfigMap".into(), namespace: namespace.into(), name: name.into() }
}

/// Watches ConfigMaps for these objects.
fn watching(api: &FakeApi, wanted: &[Id]) -> (Watches, mpsc::Receiver<Id>) {
    let (changed, changes) = mpsc::channel(QUEUE_MAX);
    let mut watches = Watches::new(api.client(), changed);
    watches.set_objects(wanted.iter().cloned().collect());
    watches.watch(&wanted[0], &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "ConfigMap")));
    (watches, changes)
}

fn metadata(namespace: &str, name: &str, revision: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name, "uid": name, "resourceVersion": revision}})
}

/// Returns the response with all objects.
fn list(items: &[Value], revision: &str) -> Reply {
    Reply::Json(
        200,
        json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": revision}, "items": items}),
    )
}

/// Returns the response to a watch with one event, after which it ends.
fn event(kind: &str, object: &Value) -> Reply {
    Reply::Text(format!("{}\n", json!({"type": kind, "object": object})))
}

#[tokio::test(start_paused = true)]
async fn a_change_is_noticed_however_the_watch_before_it_ends() {
    let expired =
        json!({"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old"});
    for end in [
        Reply::Text(String::new()),
        Reply::Text("{\"type\": \"MODIF".to_owned()),
        Reply::Text("<html>".to_owned()),
        Reply::Broken,
        Reply::error(500, "InternalError"),
        Reply::error(410, "Expired"),
        event("ERROR", &expired),
    ] {
        let api = FakeApi::new();
        let before = metadata("shop", "features", "1");
        // The object is deleted while nothing watches, so that only the event can say so.
        api.on(LIST, [list(&[before], "1"), list(&[], "2")]);
        let created = event("ADDED", &metadata("shop", "features", "3"));
        api.on(WATCH_LINE, [end.clone(), created, Reply::Silent]);
        let (_watches, mut changes) = watching(&api, &[id("shop", "features")]);
        assert_eq!(changes.recv().await, Some(id("shop", "features")), "{end:?}");
        let next = tokio::time::timeout(std::time::Duration::from_secs(120), changes.recv()).await;
        assert_eq!(next, Ok(Some(id("shop", "features"))), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_cannot_be_listed_is_listed_again() {
    let api = FakeApi::new();
    let failures = [Reply::error(403, "Forbidden"), Reply::Broken, Reply::Text("{".to_owned())];
    let found = list(&[metadata("shop", "features", "1")], "1");
    api.on(LIST, failures.into_iter().chain([found]));
    api.on(WATCH_LINE, [Reply::Silent]);
    let (_watches, mut changes) = watching(&api, &[id("shop", "features")]);
    assert_eq!(changes.recv().await, Some(id("shop", "features")));
}

#[tokio::test(start_paused = true)]
async fn only_objects_of_interest_are_reported_by_the_names_of_their_manifests() {
    let api = FakeApi::new();
    let all = [("shop", "other"), ("default", "plain"), ("default", "features"), ("shop", "features")];
    api.on(LIST, [list(&all.map(|(namespace, name)| metadata(namespace, name, "1")), "1")]);
    api.on(WATCH_LINE, [Reply::Silent]);
    // A manifest may omit the namespace `default`.
    let wanted = [id("shop", "features"), id("", "plain")];
    let (mut watches, mut changes) = watching(&api, &wanted);
    assert_eq!(changes.recv().await, Some(id("", "plain")));
    assert_eq!(changes.recv().await, Some(id("shop", "features")));
    // The watch ends when no object of its kind is wanted any more.
    api.wait_until(|calls| calls.iter().any(|call| call.line == WATCH_LINE)).await;
    watches.set_objects(BTreeSet::new());
    api.wait_until(|calls| !calls.iter().any(|call| call.is_open)).await;
}
