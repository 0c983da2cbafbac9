//! Tests of the UI page in a real browser.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cli::scratch;
use crate::cluster::{Cluster, Level};
use crate::require;
use crate::serve::Server;

/// Returns a browser, if there is one.
fn browser() -> Option<PathBuf> {
    require::program("browser", &["chromium", "chromium-browser", "google-chrome"])
}

/// Returns the DOM of a page after its scripts have run.
fn dom(browser: &PathBuf, url: &str) -> String {
    static PROFILES: AtomicU32 = AtomicU32::new(0);
    let profile = scratch(&format!("browser-{}", PROFILES.fetch_add(1, Ordering::Relaxed)));
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_page_shows_a_war_and_its_remedies() {
    let Some(browser) = browser() else { return };
    let server = Server::start(&[]);
    assert!(dom(&browser, &server.url("/")).contains("Check that kube-apiserver posts them to this server."));
    server.post_log("hpa-vs-applier");
    let list = dom(&browser, &server.url("/"));
    for part in
        ["1 edit war", "Deployment shop/web", "spec.replicas", "horizontal-pod-autoscaler", "8.3/min", "object deleted"]
    {
        assert!(list.contains(part), "{part} is missing:\n{list}");
    }
    let one = dom(&browser, &server.url("/#deployments.apps/shop/web"));
    assert!(one.contains("conflicting automation"), "{one}");
    assert!(one.contains("kubectl annotate deployments.apps web -n shop platform.kubevirt.io/ignore=spec.replicas"));
    // One mark for each write of spec.replicas after the creation (truth.txt: created, then 11 and 11).
    assert_eq!(one.matches(r#"class="mark""#).count(), 22, "{one}");
}

#[test]
fn the_page_gives_no_all_clear_without_events_and_names_other_findings() {
    let Some(browser) = browser() else { return };
    let server = Server::start(&[]);
    let empty = dom(&browser, &server.url("/"));
    assert!(empty.contains("Nothing was checked: ") && empty.contains("no audit event has arrived yet"), "{empty}");
    assert!(!empty.contains("No edit war"), "{empty}");
    server.post_log("conflict-storm");
    // The recording is older than five minutes.
    let list = dom(&browser, &server.url("/"));
    assert!(
        list.contains("1 edit war") && list.contains("Out of date: ") && list.contains("no audit event since"),
        "{list}"
    );
    let one = dom(&browser, &server.url("/#configmaps/war/storm-counters"));
    assert!(one.contains("No war over this object.") && one.contains("<h3>Contention</h3>"), "{one}");
}

#[test]
fn event_text_is_escaped_on_the_page() {
    let Some(browser) = browser() else { return };
    let server = Server::start(&[]);
    let mut cluster = Cluster::new(Level::RequestResponse);
    const EVIL: &str = "configmaps/shop/config";
    let evil =
        |n: u32| format!("<img src=x onerror=\"document.title='owned{n}'\"><script>document.title='owned'</script>");
    let mallory = ("<b>mallory</b>\u{202e}\u{e0041}", "kubectl-<i>edit</i>");
    cluster.create(
        mallory,
        EVIL,
        serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {}, "data": {}}),
    );
    for turn in 0..20 {
        cluster.wait(5.0);
        let who = if turn % 2 == 0 { mallory } else { ("<b>eve</b>", "kubectl-edit") };
        cluster.patch(who, EVIL, "", serde_json::json!({"data": {"<u>key</u>": evil(turn % 2)}}));
    }
    server.post_lines(&cluster.lines().collect::<Vec<_>>());
    for at in ["/", "/#configmaps/shop/config"] {
        let dom = dom(&browser, &server.url(at));
        assert!(dom.contains("&lt;b&gt;mallory&lt;/b&gt;\\u{202e}\\u{e0041}"), "{dom}");
        assert!(!dom.contains(['\u{202e}', '\u{e0041}']), "what is seen is what is there: {dom}");
        assert!(!dom.contains("<b>") && !dom.contains("<img") && !dom.contains("<u>") && !dom.contains("<i>"), "{dom}");
        assert!(!dom.contains("<title>owned"), "{dom}");
    }
}

#[test]
fn the_page_loads_nothing_from_other_servers() {
    let server = Server::start(&[]);
    let (status, head) = server.head("/");
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{head}");
    assert!(head.contains("frame-ancestors 'none'"), "{head}");
    for file in ["/", "/page.js", "/page.css"] {
        let (status, body) = server.get(file);
        assert_eq!(status, 200);
        assert!(!body.contains("//cdn") && !body.contains("https://"), "{file} names another server");
    }
}
