//! Which webhook set what, and against whose wish.

use serde_json::{Value, json};

use super::*;
use crate::detect::policy::Limits;
use crate::detect::tests::{Server, attributed};

/// What webhooks made of a patch of a ConfigMap, as `WEBHOOK PATH GIVEN (asked ASKED)`; `-` stands for a removal.
fn found(level: &'static str, patch: Value, rounds: &[(&str, Value)]) -> Vec<String> {
    let mut server = Server::new(level);
    server.create(0, "carol", json!({"data": {"mode": "stored", "old": "x", "keep": {"a": "1"}}}));
    made_of(server.patch(1, "alice", patch), rounds)
}

/// The same of any event.
fn made_of(mut event: Value, rounds: &[(&str, Value)]) -> Vec<String> {
    for (round, (webhook, operations)) in rounds.iter().enumerate() {
        let text = json!({"configuration": webhook, "webhook": "w", "patch": operations, "patchType": "JSONPatch"});
        event["annotations"][format!("patch.webhook.admission.k8s.io/round_{round}_index_0")] = text.to_string().into();
    }
    event["annotations"]["mutation.webhook.admission.k8s.io/round_0_index_0"] =
        json!({"configuration": "c", "webhook": "w", "mutated": true}).to_string().into();
    attributed(&event, |write, _| {
        let bodies = Bodies::of(write, &Limits::default());
        assert_eq!(is_mutated(write), !rounds.is_empty());
        let text = |value: Option<&FieldValue>| value.and_then(FieldValue::text).unwrap_or("-").to_owned();
        let show = |m: &Mutation| {
            let asked = match m.overridden() {
                Some(asked) => format!(" (asked {})", text(asked)),
                None => String::new(),
            };
            format!("{} {} {}{asked}", m.webhook.actor, m.path, text(m.given.as_ref()))
        };
        mutations(write, &bodies, &bodies.evidence(None), None).iter().map(show).collect()
    })
}

#[test]
fn a_webhook_is_named_with_what_it_set_and_what_was_asked() {
    let replace = json!([{"op": "replace", "path": "/data/mode", "value": "w"}]);
    for level in ["Request", "RequestResponse"] {
        let asked = json!({"data": {"mode": "a"}});
        assert_eq!(found(level, asked, &[("cfg", replace.clone())]), [r#"webhook cfg/w data.mode "w" (asked "a")"#]);
        let other = json!({"data": {"other": "a"}});
        assert_eq!(
            found(level, other, &[("cfg", replace.clone())]),
            [r#"webhook cfg/w data.mode "w""#],
            "not asked for"
        );
        let same = json!({"data": {"mode": "w"}});
        assert_eq!(
            found(level, same, &[("cfg", replace.clone())]),
            [r#"webhook cfg/w data.mode "w""#],
            "as it was asked"
        );
        assert_eq!(found(level, json!({"data": {"mode": "a"}}), &[]), [""; 0]);
    }
}

#[test]
fn a_removal_is_asked_for_or_done_like_a_value() {
    for level in ["Request", "RequestResponse"] {
        let add = json!([{"op": "add", "path": "/data/old", "value": "back"}]);
        let removed = json!({"data": {"old": null}});
        assert_eq!(found(level, removed, &[("cfg", add)]), [r#"webhook cfg/w data.old "back" (asked -)"#]);
        let branch = json!([{"op": "add", "path": "/data/keep/b", "value": "2"}]);
        let removed = json!({"data": {"keep": null}});
        assert_eq!(
            found(level, removed, &[("cfg", branch)]),
            [r#"webhook cfg/w data.keep.b "2" (asked -)"#],
            "who removes a branch removes all below it"
        );
        let elsewhere = json!([{"op": "replace", "path": "/data/mode", "value": "w"}]);
        let removed = json!({"data": {"old": null}});
        assert_eq!(
            found(level, removed, &[("cfg", elsewhere)]),
            [r#"webhook cfg/w data.mode "w""#],
            "not what was removed"
        );
        let gone = json!([{"op": "remove", "path": "/data/mode"}]);
        let asked = json!({"data": {"mode": "a"}});
        assert_eq!(found(level, asked, &[("cfg", gone)]), [r#"webhook cfg/w data.mode - (asked "a")"#]);
    }
}

#[test]
fn of_two_webhooks_the_later_one_has_the_last_word() {
    let set = |value: &str| json!([{"op": "replace", "path": "/data/mode", "value": value}]);
    let both =
        json!([{"op": "replace", "path": "/data/mode", "value": "2"}, {"op": "add", "path": "/data/x", "value": "y"}]);
    let asked = json!({"data": {"mode": "a"}});
    assert_eq!(
        found("Request", asked, &[("one", both), ("two", set("3"))]),
        [r#"webhook one/w data.x "y""#, r#"webhook two/w data.mode "3" (asked "a")"#]
    );
}

#[test]
fn an_update_asks_for_all_that_is_in_its_body() {
    for level in ["Request", "RequestResponse"] {
        let mut server = Server::new(level);
        server.create(0, "carol", json!({"data": {"mode": "stored"}}));
        let update = server.update(1, "alice", json!({"data": {"mode": "a"}}));
        let replace = json!([{"op": "replace", "path": "/data/mode", "value": "w"}]);
        assert_eq!(made_of(update, &[("cfg", replace)]), [r#"webhook cfg/w data.mode "w" (asked "a")"#], "{level}");
    }
}

#[test]
fn an_extensions_scale_asks_for_its_number() {
    let mut server = Server { of: ("example.com", "widgets", "Widget"), ..Server::new("Request") };
    server.create(0, "carol", json!({"spec": {"replicas": 1}}));
    let mut scale = server.update(1, "alice", json!({"spec": {"replicas": 3}}));
    scale["objectRef"]["subresource"] = "scale".into();
    let replace = json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]);
    assert_eq!(made_of(scale, &[("cfg", replace)]), ["webhook cfg/w spec.replicas 5 (asked 3)"]);
}

#[test]
fn the_items_that_a_webhook_counts_are_those_of_the_stored_object() {
    let mut server = Server::new("RequestResponse");
    server.create(0, "carol", json!({}));
    let containers = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    let replace = json!([{"op": "replace", "path": "/spec/containers/1/image", "value": "w"}]);
    let found = made_of(server.update(1, "alice", containers), &[("cfg", replace)]);
    assert_eq!(found, [r#"webhook cfg/w spec.containers[name=b].image "w""#]);
}
