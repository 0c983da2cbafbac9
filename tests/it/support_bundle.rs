//! Tests of `editwar support-bundle`.

use std::collections::BTreeMap;
use std::io::Read as _;

use crate::cli::run;
use crate::envtest::scratch;
use crate::serve::Server;

/// Returns the files of an archive.
fn unpack(path: &std::path::Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()));
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        found.insert(name, text);
    }
    found
}

#[test]
fn a_support_bundle_has_metrics_and_findings_but_no_names_and_no_values() {
    let server = Server::start(&[]).ready();
    server.post_log("hpa-vs-applier");
    let folder = scratch("support");
    let config = folder.join("editwar.yaml");
    std::fs::write(&config, "journal: {retention: 3d}\n").unwrap();
    let file = folder.join("support.tar.gz");
    let arguments = ["support-bundle", file.to_str().unwrap(), "--server", &server.url("")];
    let with_config = [&arguments[..], &["--config", config.to_str().unwrap(), "--kubeconfig", "/none"]].concat();
    let (code, out, err) = run(&with_config, None);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.contains("look through it before you send it"), "{err}");

    let found = unpack(&file);
    let names = ["README.txt", "config.yaml", "doctor.yaml", "metrics.txt", "readyz.txt", "version.txt"];
    assert!(found.keys().map(|name| name.trim_start_matches("editwar-support/")).eq(names), "{:?}", found.keys());
    let text = |name: &str| found[&format!("editwar-support/{name}")].as_str();
    assert!(
        text("metrics.txt").contains("virt_platform_thrashing_total{kind=\"Deployment\",name=\"name-"),
        "{}",
        text("metrics.txt")
    );
    assert!(
        text("config.yaml").contains("retention: 3d") && text("doctor.yaml").contains("ready"),
        "{}",
        text("doctor.yaml")
    );
    for (name, text) in &found {
        for secret in ["horizontal-pod-autoscaler", "virt-platform-autopilot\"", "\"shop\"", "3 ⇄ 5", "127.0.0.1:"] {
            assert!(
                name.ends_with("README.txt") || name.ends_with("config.yaml") || !text.contains(secret),
                "{name}: {secret}: {text}"
            );
        }
    }
    // An existing file is not replaced.
    let (code, _, err) = run(&arguments, None);
    assert!(code == 2 && err.contains("support.tar.gz"), "{err}");
}

#[test]
fn a_support_bundle_without_a_server_says_why_there_is_none() {
    let file = scratch("support-none").join("support.tar.gz");
    let (code, _, err) = run(&["support-bundle", file.to_str().unwrap(), "--server", "http://127.0.0.1:1"], None);
    assert_eq!(code, 0, "{err}");
    let found = unpack(&file);
    assert!(found["editwar-support/doctor.yaml"].contains("server"), "{found:?}");
    assert!(found.values().all(|text| !text.contains("127.0.0.1:1")), "{found:?}");
    assert!(found["editwar-support/metrics.txt"].starts_with("no metrics: "), "{found:?}");
}
