//! Which events are writes, and what is known of them without their fields.

use serde_json::{Value, json};

use super::*;
use crate::audit::decode::{Decoded, decode};

fn event(change: Value) -> String {
    let mut event = json!({
        "level": "RequestResponse", "auditID": "a", "stage": "ResponseComplete",
        "requestURI": "/apis/apps/v1/namespaces/shop/deployments/web", "verb": "patch", "user": {"username": "alice"},
        "objectRef": {"resource": "deployments", "namespace": "shop", "name": "web", "apiGroup": "apps"},
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-11-23T02:00:00.000000Z", "stageTimestamp": "2026-11-23T02:00:00.000000Z",
    });
    json_patch::merge(&mut event, &change);
    event.to_string()
}

/// Returns why an event is not a write or, for a write, its object, part, effect and outcome.
fn of(change: Value) -> String {
    let text = event(change);
    let Ok(Decoded::Event(event)) = decode(text.as_bytes()) else { return "no event".into() };
    match classify_write(&event) {
        Ok(w) => {
            let o = w.object;
            let outcome = format!("{:?}", w.outcome);
            let outcome = outcome.split([' ', '{']).next().unwrap_or_default();
            format!("{}.{} {}/{} {:?} {:?} {outcome}", o.resource, o.group, o.namespace, o.name, w.part, w.effect)
        }
        Err(why) => why.reason().to_owned(),
    }
}

#[test]
fn committed_requests_with_a_name_are_writes() {
    assert_eq!(of(json!({})), "deployments.apps shop/web Main Modify Committed");
    assert_eq!(of(json!({"responseStatus": {"code": 201}})), "deployments.apps shop/web Main Create Committed");
    assert_eq!(of(json!({"verb": "delete"})), "deployments.apps shop/web Main Delete Committed");
    assert_eq!(
        of(json!({"verb": "delete", "responseStatus": {"code": 202}})),
        "deployments.apps shop/web Main Delete Committed"
    );
}

#[test]
fn subresources_belong_to_their_parent() {
    let sub = |name: &str, verb: &str| of(json!({"objectRef": {"subresource": name}, "verb": verb}));
    assert_eq!(sub("status", "update"), "deployments.apps shop/web Status Modify Committed");
    assert_eq!(sub("scale", "update"), "deployments.apps shop/web Main Modify Committed");
    assert_eq!(sub("scale", "patch"), "deployments.apps shop/web Main Modify Committed");
    for (name, verb) in
        [("exec", "create"), ("portforward", "create"), ("token", "create"), ("proxy", "update"), ("unknown", "create")]
    {
        assert_eq!(sub(name, verb), "connect", "{name}");
    }
    assert_eq!(sub("ephemeralcontainers", "patch"), "deployments.apps shop/web Main Modify Committed");
    let eviction = json!({"objectRef": {"subresource": "eviction", "resource": "pods", "apiGroup": null}, "verb": "create", "responseStatus": {"code": 201}});
    assert_eq!(of(eviction), "pods. shop/web Main Delete Committed");
}

#[test]
fn dry_runs_are_in_the_query_or_in_the_body_of_a_deletion() {
    assert_eq!(of(json!({"requestURI": "/x?dryRun=All&fieldManager=k"})), "dry_run");
    assert_eq!(of(json!({"requestURI": "/x?fieldManager=dryRun"})), "deployments.apps shop/web Main Modify Committed");
    assert_eq!(of(json!({"requestURI": "/x?%64ryRun=All"})), "dry_run");
    assert_eq!(of(json!({"verb": "delete", "requestObject": {"dryRun": ["All"]}})), "dry_run");
    assert_eq!(
        of(json!({"verb": "delete", "requestObject": {"dryRun": []}})),
        "deployments.apps shop/web Main Delete Committed"
    );
}

#[test]
fn reviews_collections_and_unnamed_requests_are_not_writes() {
    assert_eq!(
        of(json!({"verb": "create", "objectRef": {"resource": "tokenreviews", "apiGroup": "authentication.k8s.io"}})),
        "review"
    );
    assert_eq!(of(json!({"verb": "deletecollection", "objectRef": {"name": null}})), "unnamed");
    assert_eq!(of(json!({"verb": "create", "objectRef": {"name": null}})), "unnamed");
    let generated = json!({"verb": "create", "objectRef": {"name": null}, "responseStatus": {"code": 201},
        "responseObject": {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "web-x7", "uid": "u", "resourceVersion": "5"}}});
    assert_eq!(of(generated), "deployments.apps shop/web-x7 Main Create Committed");
    assert_eq!(of(json!({"objectRef": null})), "non_resource");
    assert_eq!(of(json!({"requestReceivedTimestamp": null, "stageTimestamp": null})), "no_time");
    assert_eq!(of(json!({"verb": "get"})), "no event");
}

#[test]
fn a_namespace_is_not_inside_itself() {
    let namespace =
        json!({"objectRef": {"resource": "namespaces", "apiGroup": null, "namespace": "shop", "name": "shop"}});
    assert_eq!(of(namespace), "namespaces. /shop Main Modify Committed");
}

#[test]
fn failures_have_their_outcome() {
    let outcome = |code: u16, reason: &str, message: &str| {
        let text = of(json!({"responseStatus": {"code": code, "reason": reason, "message": message}}));
        text.rsplit(' ').next().unwrap_or_default().to_owned()
    };
    assert_eq!(outcome(409, "Conflict", "the object has been modified"), "Stale");
    assert_eq!(outcome(409, "Conflict", "Apply failed with 1 conflict: …"), "ApplyConflict");
    assert_eq!(outcome(409, "AlreadyExists", "x"), "Failed");
    assert_eq!(outcome(403, "Forbidden", "User \"alice\" cannot patch resource"), "Failed");
    assert_eq!(outcome(403, "", "admission webhook \"deny.example.com\" denied the request: no"), "Rejected");
    assert_eq!(
        outcome(422, "Invalid", "ValidatingAdmissionPolicy 'odd' with binding 'b' denied request: no"),
        "Rejected"
    );
    assert_eq!(
        outcome(500, "InternalError", "Internal error occurred: failed calling webhook \"w.example.com\": timeout"),
        "Rejected"
    );
    assert_eq!(outcome(500, "", "etcdserver: request timed out"), "Uncertain");
    assert_eq!(outcome(504, "", ""), "Uncertain");
    assert_eq!(outcome(200, "", "Connection closed early"), "Uncertain");
    assert_eq!(outcome(429, "TooManyRequests", ""), "Failed");
    assert_eq!(outcome(404, "NotFound", ""), "Failed");
}

#[test]
fn the_stored_object_is_read_from_the_response_in_any_key_order() {
    for body in [
        r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"web","uid":"u1","resourceVersion":"474"},"spec":{}}"#,
        r#"{"kind":"Deployment","metadata":{"resourceVersion":"474","name":"web","uid":"u1"},"apiVersion":"apps/v1","spec":{}}"#,
        r#"{"spec":{"a":"}"},"metadata":{"annotations":{"uid":"x"},"resourceVersion":"474","name":"web","uid":"u1"},"apiVersion":"apps/v1","kind":"Deployment"}"#,
    ] {
        let found = stored(body.as_bytes());
        assert_eq!(
            (found.kind, found.api_version, found.name, found.uid, found.resource_version, found.is_whole),
            ("Deployment", "apps/v1", "web", "u1", 474, true)
        );
    }
    let scale = stored(br#"{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"web","uid":"u1","resourceVersion":"426"}}"#);
    assert_eq!((scale.kind, scale.resource_version, scale.is_whole), ("", 426, false));
    let excerpt = stored(br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"web","uid":"u1","resourceVersion":"427"}}"#);
    assert_eq!((excerpt.kind, excerpt.name, excerpt.resource_version, excerpt.is_whole), ("", "web", 427, false));
    let gone = stored(
        br#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":{"name":"web","uid":"u1"}}"#,
    );
    assert_eq!((gone.uid, gone.is_gone, gone.is_whole), ("u1", true, false));
}

/// Calls `look` with the write that an event reports.
fn look<T>(change: Value, look: impl FnOnce(&Write<'_>) -> T) -> T {
    let text = event(change);
    let Ok(Decoded::Event(event)) = decode(text.as_bytes()) else { panic!("no event: {text}") };
    look(&classify_write(&event).unwrap())
}

#[test]
fn the_query_has_the_field_manager_and_the_force_flag() {
    let of =
        |uri: &str| look(json!({"requestURI": uri}), |w| (w.field_manager.as_deref().map(str::to_owned), w.is_forced));
    assert_eq!(of("/x"), (None, false));
    assert_eq!(of("/x?fieldManager=kubectl&force=true"), (Some("kubectl".into()), true));
    assert_eq!(of("/x?fieldManager=&fieldManager=two"), (Some("two".into()), false), "an empty parameter is ignored");
    assert_eq!(of("/x?fieldManager=one&fieldManager=two"), (Some("one".into()), false), "the first one counts");
    assert_eq!(of("/x?dryRun="), (None, false), "an empty dryRun is not a dry-run");
}

#[test]
fn only_an_update_has_the_revision_that_it_replaced() {
    let of = |verb: &str| look(json!({"verb": verb, "objectRef": {"resourceVersion": "474"}}), |w| w.replaced);
    assert_eq!((of("update"), of("patch"), of("delete")), (474, 0, 0));
}

#[test]
fn the_verb_determines_whether_a_subresource_is_written() {
    let sub = |group: &str, name: &str, verb: &str| {
        of(json!({"objectRef": {"apiGroup": group, "subresource": name}, "verb": verb}))
    };
    for name in ["binding", "finalize", "resize", "scale"] {
        assert_eq!(sub("apps", name, "create"), "deployments.apps shop/web Main Modify Committed", "{name}");
    }
    assert_eq!(sub("apps", "approval", "update"), "deployments.apps shop/web Status Modify Committed");
    assert_eq!(sub("example.com", "custom", "update"), "deployments.example.com shop/web Main Modify Committed");
    assert_eq!(sub("subresources.kubevirt.io", "restart", "update"), "connect");
    for name in ["exec", "attach", "portforward", "proxy", "token", "log"] {
        assert_eq!(sub("apps", name, "update"), "connect", "{name}");
    }
    let binding =
        |group: Value| of(json!({"objectRef": {"resource": "bindings", "apiGroup": group}, "verb": "create"}));
    assert_eq!(binding(Value::Null), "pods. shop/web Main Modify Committed", "it writes to the Pod that it binds");
    assert_eq!(binding("example.com".into()), "bindings.example.com shop/web Main Create Committed");
    let policies = json!({"objectRef": {"resource": "others", "apiGroup": null}, "verb": "create"});
    assert_eq!(of(policies), "others. shop/web Main Create Committed");
}

#[test]
fn a_panic_is_uncertain() {
    assert_eq!(of(json!({"stage": "Panic"})), "deployments.apps shop/web Main Modify Uncertain");
}

#[test]
fn a_stored_object_needs_kind_and_version() {
    let status = stored(br#"{"kind":"Status","apiVersion":"v1","details":{"name":"web"}}"#);
    assert!(!status.is_gone, "without a uid, no object is reported as deleted");
    let other = stored(
        br#"{"kind":"Status","apiVersion":"example.com/v1","metadata":{"name":"web","uid":"u","resourceVersion":"7"}}"#,
    );
    assert_eq!(
        (other.name, other.resource_version, other.is_gone),
        ("web", 7, false),
        "a custom resource of kind Status"
    );
    let late = stored(br#"{"apiVersion":"v1","metadata":{"resourceVersion":"8","uid":"u","name":"web"},"kind":"Pod"}"#);
    assert_eq!((late.kind, late.api_version, late.name, late.uid, late.resource_version), ("Pod", "v1", "web", "u", 8));
    assert!(!stored(br#"{"kind":"Pod","apiVersion":"v1"}"#).is_whole);
}

#[test]
fn a_custom_subresource_that_is_written_like_an_object_is_a_write() {
    let sub = |group: &str, name: &str| {
        of(json!({"objectRef": {"apiGroup": group, "resource": "widgets", "subresource": name}, "verb": "update"}))
    };
    assert_eq!(sub("example.com", "settings"), "widgets.example.com shop/web Main Modify Committed");
    assert_eq!(sub("subresources.example.com", "settings"), "connect", "an aggregated API that stores nothing");
    assert_eq!(sub("example.com", "proxy"), "connect");
}

#[test]
fn a_read_is_not_a_write() {
    let text = event(json!({}));
    let Ok(Decoded::Event(mut event)) = decode(text.as_bytes()) else { panic!("no event: {text}") };
    assert!(classify_write(&event).is_ok());
    for verb in [Verb::Read, Verb::Other] {
        event.verb = verb;
        assert_eq!(classify_write(&event).unwrap_err(), NotAWrite::NonResource, "{verb:?}");
    }
}
