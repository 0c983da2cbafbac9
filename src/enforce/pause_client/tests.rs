//! Tests what each call sends, and what each response means for a pause.

use super::*;
use crate::enforce::calls::CALL;
use crate::enforce::fake_api::{FakeApi, Reply};
use crate::enforce::fixtures::{GET_WEB, LIST, PATCH_WEB, found, key, page, target, verdict, web};

fn deployments() -> Kind {
    Kind::Resource("deployments".to_owned(), "apps".to_owned())
}

/// An API server, and a pause client for it.
fn connected() -> (FakeApi, PauseClient) {
    let api = FakeApi::new();
    let client = PauseClient::new(api.client(), CALL);
    (api, client)
}

#[tokio::test]
async fn a_pause_is_a_forced_apply_of_annotations_with_the_uid() {
    let (api, client) = connected();
    api.on(PATCH_WEB, [found("uid-1", true)]);
    client.pause(&target("uid-1"), &verdict()).await.unwrap();
    let call = api.last(PATCH_WEB);
    assert_eq!(call.content_type, "application/apply-patch+yaml");
    let mut query: Vec<&str> = call.query.split('&').filter(|part| !part.is_empty()).collect();
    query.sort_unstable();
    assert_eq!(query, ["fieldManager=editwar", "force=true"]);
    let expected = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "uid": "uid-1", "annotations": {
            "platform.kubevirt.io/reconcile-paused": "true",
            "platform.kubevirt.io/reconcile-paused-because": "alice and bob fight over spec.replicas (3 ⇄ 5): 12 retakes",
            "platform.kubevirt.io/reconcile-paused-until": "2026-11-23T02:13:20Z",
        }},
    });
    assert_eq!(call.body, expected);

    // Server-side apply removes what a manager no longer applies.
    client.lift(&target("uid-1")).await.unwrap();
    assert_eq!(api.last(PATCH_WEB).body["metadata"], json!({"name": "web", "uid": "uid-1", "annotations": {}}));
}

#[tokio::test]
async fn a_forbidden_call_names_the_rbac_rule_that_allows_it() {
    let (api, client) = connected();
    api.on(PATCH_WEB, [Reply::error(403, "Forbidden")]);
    let paused = client.pause(&target("uid-1"), &verdict()).await;
    let Err(Error::Forbidden { message, rule }) = paused else { panic!("{paused:?}") };
    assert_eq!(message, "refused: Forbidden");
    assert_eq!(rule, r#"{apiGroups: ["apps"], resources: [deployments], verbs: [patch]}"#);
}

/// An API server answers 409 if the object was deleted, and 422 if there is another one of that name.
#[tokio::test]
async fn an_object_that_was_deleted_or_replaced_since_it_was_read_is_gone() {
    let (api, client) = connected();
    let (conflict, invalid) = (Reply::error(409, "Conflict"), Reply::error(422, "Invalid"));
    let missing = Reply::error(404, "NotFound");
    for (answer, read) in [
        (missing.clone(), missing.clone()),
        (conflict.clone(), missing),
        (conflict, found("uid-2", false)),
        (invalid, found("uid-2", false)),
    ] {
        api.on(PATCH_WEB, [answer.clone()]);
        api.on(GET_WEB, [read]);
        let (paused, lifted) = (client.pause(&target("uid-1"), &verdict()).await, client.lift(&target("uid-1")).await);
        assert!(matches!(paused, Err(Error::Gone)), "{answer:?}: {paused:?}");
        assert!(matches!(lifted, Err(Error::Gone)), "{answer:?}: {lifted:?}");
    }
}

#[tokio::test]
async fn a_refused_write_to_an_object_that_still_exists_does_not_mean_that_it_is_gone() {
    let (api, client) = connected();
    for (code, reason) in [(409, "Conflict"), (422, "Invalid")] {
        api.on(PATCH_WEB, [Reply::error(code, reason)]);
        for read in [found("uid-1", true), Reply::error(500, "InternalError"), Reply::Broken] {
            api.on(GET_WEB, [read.clone()]);
            let lifted = client.lift(&target("uid-1")).await;
            assert!(matches!(lifted, Err(Error::Unavailable(_))), "{code}, {read:?}: {lifted:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_may_have_been_executed_is_unavailable_and_not_repeated() {
    let (api, client) = connected();
    let unclear = [
        (Reply::error(429, "TooManyRequests"), "TooManyRequests"),
        (Reply::error(500, "InternalError"), "InternalError"),
        (Reply::error(504, "Timeout"), "Timeout"),
        (Reply::Broken, "connection reset"),
        (Reply::Text("<html>".to_owned()), ""),
        (Reply::Text(String::new()), ""),
        (Reply::Silent, "no answer within 15 s"),
    ];
    for (answer, reason) in unclear.clone() {
        api.on(PATCH_WEB, [answer.clone()]);
        let paused = client.pause(&target("uid-1"), &verdict()).await;
        assert!(matches!(&paused, Err(Error::Unavailable(why)) if why.contains(reason)), "{answer:?}: {paused:?}");
    }
    assert_eq!(api.lines().len(), unclear.len(), "the plan decides when to try again");
}

#[tokio::test]
async fn a_list_without_all_of_its_pages_is_an_error() {
    let (api, client) = connected();
    let first = page(&[web("uid-1", true)], "next");
    for broken in [Reply::error(410, "Expired"), Reply::Broken, Reply::Text("{\"items\": [".to_owned())] {
        api.on(LIST, [first.clone(), broken.clone()]);
        let paused = client.paused(&deployments()).await;
        assert!(matches!(paused, Err(Error::Unavailable(_))), "{broken:?}: {paused:?}");
    }
    api.on(LIST, [first, page(&[], "")]);
    let paused = client.paused(&deployments()).await.unwrap();
    assert_eq!(paused.iter().map(|pause| &pause.key).collect::<Vec<_>>(), [&key()]);
    assert!(api.last(LIST).query.contains("continue=next"));
}

#[tokio::test]
async fn a_resource_that_is_no_longer_served_is_looked_up_again() {
    let (api, client) = connected();
    api.on(LIST, [page(&[], ""), Reply::error(404, "NotFound")]);
    assert!(client.paused(&deployments()).await.unwrap().is_empty());
    // Its pauses may exist in another version.
    let paused = client.paused(&deployments()).await;
    assert!(matches!(paused, Err(Error::Gone)), "{paused:?}");
    api.on("GET /apis", [Reply::Json(200, json!({"kind": "APIGroupList", "groups": []}))]);
    let paused = client.paused(&deployments()).await;
    assert!(matches!(&paused, Err(Error::Unknown(name)) if name == "deployments.apps"), "{paused:?}");
}

#[tokio::test]
async fn a_kind_whose_api_does_not_answer_is_not_an_unknown_kind() {
    let (api, client) = connected();
    let manifest = Kind::Manifest("apps/v1".to_owned(), "Deployment".to_owned());
    for failure in [Reply::error(503, "ServiceUnavailable"), Reply::Broken] {
        api.on("GET /apis/apps/v1", [failure.clone()]);
        for kind in [deployments(), manifest.clone()] {
            let paused = client.paused(&kind).await;
            assert!(matches!(paused, Err(Error::Unavailable(_))), "{kind}, {failure:?}: {paused:?}");
        }
    }
}
