//! Tests of a kill switch whose calls fail: nothing counts as lifted before it is.

use super::*;
use crate::enforce::fake_api::{FakeApi, Reply};
use crate::enforce::fixtures::{GET_WEB, LIST, PATCH_WEB, found, key, metrics, page, target, web};

const LONG: Duration = Duration::from_secs(600);
const WEB: &str = "deployments.apps/shop/web";

/// Starts a kill switch for all Deployments. It ends with the sender.
fn start(api: &FakeApi) -> (Control, Pauses, watch::Sender<bool>) {
    let (control, pauses) = (Control::default(), Pauses::default());
    let events = Events::new(FakeApi::new().client(), "test");
    let kinds = vec![Kind::Resource("deployments".to_owned(), "apps".to_owned())];
    let switch = KillSwitch::new(api.client(), events, pauses.clone(), kinds, control.clone(), &metrics());
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(switch.run(stopped));
    (control, pauses, stop)
}

/// Waits until a request is repeated.
async fn repeated(api: &FakeApi, line: &str) {
    api.wait_until(|calls| calls.iter().filter(|call| call.line == line).count() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_or_written_is_named_and_repeated_until_all_pauses_are_lifted() {
    for failure in [Reply::error(500, "InternalError"), Reply::Broken, Reply::Text("{".to_owned()), Reply::Silent] {
        let api = FakeApi::new();
        api.on(LIST, [failure.clone(), failure.clone(), page(&[web("uid-1", true)], "")]);
        api.on(PATCH_WEB, [failure.clone(), failure.clone(), found("uid-1", false)]);
        let (control, _pauses, _stop) = start(&api);
        control.set_stopped(true);
        repeated(&api, LIST).await;
        let progress = control.progress();
        let reason = progress.not_lifted.get("deployments.apps").unwrap_or_else(|| panic!("{failure:?}: {progress:?}"));
        assert!(reason.contains("cannot search for pauses"), "{reason}");
        assert!(control.status().contains("1 not lifted yet: deployments.apps"), "{}", control.status());

        repeated(&api, PATCH_WEB).await;
        let progress = control.progress();
        assert!(progress.not_lifted.contains_key(WEB) && progress.lifted.is_empty(), "{failure:?}: {progress:?}");

        let progress = control.wait_until_lifted(LONG).await;
        assert_eq!((progress.lifted, progress.not_lifted.len()), (BTreeSet::from([WEB.to_owned()]), 0), "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_an_object_that_was_replaced_counts_as_lifted() {
    let api = FakeApi::new();
    api.on(LIST, [page(&[], "")]);
    api.on(PATCH_WEB, [Reply::error(422, "Invalid")]);
    api.on(GET_WEB, [found("uid-2", false)]);
    let (control, pauses, _stop) = start(&api);
    pauses.insert(key(), target("uid-1"));
    control.set_stopped(true);
    let progress = control.wait_until_lifted(LONG).await;
    assert_eq!((progress.lifted, progress.not_lifted.len()), (BTreeSet::from([WEB.to_owned()]), 0));
    assert!(pauses.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_does_not_exist_has_no_pauses_but_one_whose_api_is_down_may() {
    let api = FakeApi::new();
    let discovery = "GET /apis/apps/v1";
    api.on(discovery, [Reply::error(503, "ServiceUnavailable")]);
    let (control, _pauses, _stop) = start(&api);
    control.set_stopped(true);
    assert!(control.wait_until_lifted(LONG).await.not_lifted.contains_key("deployments.apps"));
    api.on(discovery, [Reply::Json(200, serde_json::json!({"groupVersion": "apps/v1", "resources": []}))]);
    let progress = control.wait_until_lifted(LONG).await;
    assert!(progress.not_lifted.is_empty(), "{progress:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lifted_after_the_kill_switch_is_turned_off() {
    let api = FakeApi::new();
    api.on(LIST, [page(&[], "")]);
    api.on(PATCH_WEB, [Reply::Silent]);
    let (control, pauses, _stop) = start(&api);
    pauses.insert(key(), target("uid-1"));
    control.set_stopped(true);
    api.wait_until(|calls| calls.iter().any(|call| call.line == PATCH_WEB)).await;
    control.set_stopped(false);
    api.wait_until(|calls| !calls.iter().any(|call| call.is_open)).await;
    let before = api.lines();
    tokio::time::sleep(LONG).await;
    assert_eq!(api.lines(), before);
}
