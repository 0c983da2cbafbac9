//! Which webhook set which field, and which requested value it replaced.

use serde_json::{Value, json};

use super::*;
use crate::detect::policy::Limits;
use crate::detect::tests::{Server, attributed};

/// Returns the mutations of a patch of a ConfigMap as `WEBHOOK PATH GIVEN (requested REQUESTED)`; `-` is a removal.
fn found(level: &'static str, patch: Value, rounds: &[(&str, Value)]) -> Vec<String> {
    let mut server = Server::new(level);
    server.create(0, "carol", json!({"data": {"mode": "stored", "old": "x", "keep": {"a": "1"}}}));
    made_of(server.patch(1, "alice", patch), rounds)
}

/// Returns the same for any event.
fn made_of(mut event: Value, rounds: &[(&str, Value)]) -> Vec<String> {
    for (round, (webhook, operations)) in rounds.iter().enumerate() {
        let text = json!({"configuration": webhook, "webhook": "w", "patch": operations, "patchType": "JSONPatch"});
        event["annotations"][format!("patch.webhook.admission.k8s.io/round_{round}_index_0")] = text.to_string().into();
    }
    event["annotations"]["mutation.webhook.admission.k8s.io/round_0_index_0"] =
        json!({"configuration": "c", "webhook": "w", "mutated": true}).to_string().into();
    attributed(&event, |write, _| {
        let bodies = Bodies::of(write, &Limits::default());
        assert_eq!(write.event.is_mutated(), !rounds.is_empty());
        let text = |value: Option<&FieldValue>| value.and_then(FieldValue::text).unwrap_or("-").to_owned();
        let show = |m: &Mutation| {
            let requested = match m.overridden() {
                Some(requested) => format!(" (requested {})", text(requested)),
                None => String::new(),
            };
            format!("{} {} {}{requested}", m.webhook.actor, m.path, text(m.given.as_ref()))
        };
        mutations(write, &bodies, &bodies.evidence(None), None).iter().map(show).collect()
    })
}

#[test]
fn a_mutation_has_the_webhook_the_value_it_set_and_the_requested_value() {
    let replace = json!([{"op": "replace", "path": "/data/mode", "value": "w"}]);
    for level in ["Request", "RequestResponse"] {
        let requested = json!({"data": {"mode": "a"}});
        assert_eq!(
            found(level, requested, &[("cfg", replace.clone())]),
            [r#"webhook cfg/w data.mode "w" (requested "a")"#]
        );
        let other = json!({"data": {"other": "a"}});
        assert_eq!(
            found(level, other, &[("cfg", replace.clone())]),
            [r#"webhook cfg/w data.mode "w""#],
            "not requested"
        );
        let same = json!({"data": {"mode": "w"}});
        assert_eq!(
            found(level, same, &[("cfg", replace.clone())]),
            [r#"webhook cfg/w data.mode "w""#],
            "it set the requested value"
        );
        assert_eq!(found(level, json!({"data": {"mode": "a"}}), &[]), [""; 0]);
    }
}

#[test]
fn a_removal_can_be_requested_or_made_like_a_value() {
    for level in ["Request", "RequestResponse"] {
        let add = json!([{"op": "add", "path": "/data/old", "value": "back"}]);
        let removed = json!({"data": {"old": null}});
        assert_eq!(found(level, removed, &[("cfg", add)]), [r#"webhook cfg/w data.old "back" (requested -)"#]);
        let branch = json!([{"op": "add", "path": "/data/keep/b", "value": "2"}]);
        let removed = json!({"data": {"keep": null}});
        assert_eq!(
            found(level, removed, &[("cfg", branch)]),
            [r#"webhook cfg/w data.keep.b "2" (requested -)"#],
            "removing a branch removes all fields below it"
        );
        let elsewhere = json!([{"op": "replace", "path": "/data/mode", "value": "w"}]);
        let removed = json!({"data": {"old": null}});
        assert_eq!(
            found(level, removed, &[("cfg", elsewhere)]),
            [r#"webhook cfg/w data.mode "w""#],
            "another field was removed"
        );
        let gone = json!([{"op": "remove", "path": "/data/mode"}]);
        let requested = json!({"data": {"mode": "a"}});
        assert_eq!(found(level, requested, &[("cfg", gone)]), [r#"webhook cfg/w data.mode - (requested "a")"#]);
    }
}

#[test]
fn if_two_webhooks_set_a_field_the_later_one_wins() {
    let set = |value: &str| json!([{"op": "replace", "path": "/data/mode", "value": value}]);
    let both =
        json!([{"op": "replace", "path": "/data/mode", "value": "2"}, {"op": "add", "path": "/data/x", "value": "y"}]);
    let requested = json!({"data": {"mode": "a"}});
    assert_eq!(
        found("Request", requested, &[("one", both), ("two", set("3"))]),
        [r#"webhook one/w data.x "y""#, r#"webhook two/w data.mode "3" (requested "a")"#]
    );
}

#[test]
fn an_update_requests_all_fields_of_its_body() {
    for level in ["Request", "RequestResponse"] {
        let mut server = Server::new(level);
        server.create(0, "carol", json!({"data": {"mode": "stored"}}));
        let update = server.update(1, "alice", json!({"data": {"mode": "a"}}));
        let replace = json!([{"op": "replace", "path": "/data/mode", "value": "w"}]);
        assert_eq!(made_of(update, &[("cfg", replace)]), [r#"webhook cfg/w data.mode "w" (requested "a")"#], "{level}");
    }
}

#[test]
fn the_scale_of_a_custom_resource_requests_its_number() {
    let mut server = Server { of: ("example.com", "widgets", "Widget"), ..Server::new("Request") };
    server.create(0, "carol", json!({"spec": {"replicas": 1}}));
    let mut scale = server.update(1, "alice", json!({"spec": {"replicas": 3}}));
    scale["objectRef"]["subresource"] = "scale".into();
    let replace = json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]);
    assert_eq!(made_of(scale, &[("cfg", replace)]), ["webhook cfg/w spec.replicas 5 (requested 3)"]);
}

#[test]
fn list_indices_of_a_webhooks_patch_refer_to_the_stored_object() {
    let mut server = Server::new("RequestResponse");
    server.create(0, "carol", json!({}));
    let containers = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    let replace = json!([{"op": "replace", "path": "/spec/containers/1/image", "value": "w"}]);
    let found = made_of(server.update(1, "alice", containers), &[("cfg", replace)]);
    assert_eq!(found, [r#"webhook cfg/w spec.containers[name=b].image "w""#]);
}
