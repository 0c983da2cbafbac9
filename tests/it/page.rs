//! Tests of the UI page in a real browser.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
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

/// Every flow of the page, at several widths, in light and dark, with axe: `src/query/ui/test/flows.mjs`.
#[test]
fn every_flow_of_the_page_works_live_and_is_accessible() {
    let Some(browser) = browser() else { return };
    let Some(node) = require::program("node", &["node"]) else { return };
    let ui = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/query/ui");
    if !ui.join("node_modules/playwright-core").is_dir() {
        return require::skip("node", "the packages of src/query/ui are not installed: run `npm ci` there");
    }
    let journal = scratch("page-journal").join("journal");
    let arguments = |listen: &str| {
        let arguments = ["--listen", listen, "--journal", journal.to_str().unwrap()];
        arguments.map(str::to_owned).to_vec()
    };
    let start = |listen: &str| {
        let arguments = arguments(listen);
        Server::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).ready()
    };
    let mut server = start("127.0.0.1:0");
    let address = server.admin().to_string();
    let mut flows = Command::new(node)
        .arg(ui.join("test/flows.mjs"))
        .arg(server.url("/"))
        .arg(browser)
        .args(std::env::var_os("SCREENSHOTS"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let errors = flows.stderr.take().unwrap();
    let errors = std::thread::spawn(move || std::io::read_to_string(errors).unwrap());
    let mut answer = flows.stdin.take().unwrap();
    let mut has_passed = false;
    for line in BufReader::new(flows.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["post", recording, cluster] => server.post_log_as(recording, cluster),
            ["stop"] => server.kill(),
            ["start"] => server = start(&address),
            ["passed"] => {
                has_passed = true;
                continue;
            }
            _ => panic!("unexpected line: {line}"),
        }
        writeln!(answer, "done").unwrap();
    }
    let _ = flows.wait();
    assert!(has_passed, "{}", errors.join().unwrap());
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
    let (_, sent) = server.get("/");
    assert!(sent.contains("&lt;b&gt;mallory&lt;/b&gt;\\u{202e}\\u{e0041}"), "the document has the first rows: {sent}");
    assert!(!sent.contains(['\u{202e}', '\u{e0041}']) && !sent.contains("<b>") && !sent.contains("<u>"), "{sent}");
    for at in ["/", "/#/object/configmaps/shop/config", "/#/actors"] {
        let dom = dom(&browser, &server.url(at));
        assert!(dom.contains("&lt;b&gt;mallory&lt;/b&gt;\\u{202e}\\u{e0041}"), "{dom}");
        assert!(!dom.contains(['\u{202e}', '\u{e0041}']), "what is seen is what is there: {dom}");
        assert!(!dom.contains("<b>") && !dom.contains("<img") && !dom.contains("<u>") && !dom.contains("<i>"), "{dom}");
        assert!(!dom.contains("<title>owned"), "{dom}");
    }
}

#[test]
fn the_document_has_rows_only_for_clients_that_may_read() {
    let tokens = scratch("page-tokens").join("tokens");
    std::fs::write(&tokens, "t-oncall oncall\n").unwrap();
    let rows = |arguments: &[&str]| {
        let server = Server::start(arguments);
        server.post_log("hpa-vs-applier");
        let (status, document) = server.get("/");
        (status, document.contains("Deployment") && document.contains("shop/web"))
    };
    let closed = format!("admin.auth.token_file={}", tokens.display());
    assert_eq!(rows(&[]), (200, true));
    assert_eq!(rows(&["--set", &closed]), (200, false), "the page asks for a token first");
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
