//! Several editwars that each tail the log of one API server, and one that gets the events of all of them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::envtest::{ApiServer, scratch, wait_until};
use crate::serve::Server;
use crate::util;

/// Starts an editwar that posts the lines of a log to another one.
fn forwarder(log: &Path, to: &str, folder: &Path) -> Server {
    let checkpoint = format!("tail.checkpoint={}", folder.join("checkpoint").display());
    let forward = format!("tail.forward={{url: \"http://{to}/audit\"}}");
    Server::start(&["--tail", log.to_str().unwrap(), "--set", &checkpoint, "--set", &forward])
}

/// Returns flags that make an API server log writes with bodies, and the path of the log.
fn logging(name: &str) -> (Vec<String>, PathBuf) {
    let folder = scratch(name);
    let (policy, log) = (folder.join("policy.yaml"), folder.join("audit.log"));
    std::fs::write(&policy, util::POLICY).unwrap();
    (vec![format!("--audit-policy-file={}", policy.display()), format!("--audit-log-path={}", log.display())], log)
}

fn patch(server: &ApiServer, user: &str, value: &str) {
    let patch = json!({"data": {"v": value}}).to_string();
    server.kubectl(user, &["patch", "configmap", "settings", "-n", "shop", "--type=merge", "-p", &patch]);
}

fn wars(server: &Server) -> Vec<Value> {
    server.json("/api/v1/wars")["wars"].as_array().unwrap().clone()
}

#[test]
fn a_war_whose_parties_write_through_different_api_servers_is_found_by_the_server_that_gets_both_logs() {
    let (flags, first_log) = logging("first");
    let Some(first) = ApiServer::start_with(flags) else { return };
    let (flags, second_log) = logging("second");
    let second = first.start_beside(flags);
    let central = Server::start(&[]).ready();
    let to = central.webhook().to_string();
    let folders = [scratch("forward-0"), scratch("forward-1")];
    let forwarders =
        [forwarder(&first_log, &to, &folders[0]).ready(), forwarder(&second_log, &to, &folders[1]).ready()];

    first.kubectl("alice", &["create", "configmap", "settings", "-n", "shop", "--from-literal=v=0"]);
    for _ in 0..12 {
        patch(&first, "alice", "a");
        patch(&second, "bob", "b");
    }
    // Each log alone has one writer of the object.
    for log in [&first_log, &second_log] {
        let (_, out, _) = crate::cli::run(&["analyze", log.to_str().unwrap(), "-n", "shop"], None);
        assert!(!out.contains("ConfigMap shop/settings"), "{out}");
    }
    wait_until("the war is found", 30, || !wars(&central).is_empty());
    let war = &wars(&central)[0];
    let mut parties: Vec<&str> =
        war["parties"].as_array().unwrap().iter().filter_map(|p| p["actor"].as_str()).collect();
    parties.sort_unstable();
    assert_eq!((parties, war["object"]["name"].as_str()), (vec!["alice", "bob"], Some("settings")));
    // One that only forwards never says that there is peace.
    for forwarder in &forwarders {
        let report = forwarder.json("/api/v1/wars");
        let problems = report["coverage"]["problems"].to_string();
        assert!(problems.contains("ask that server") && problems.contains(&to), "{problems}");
        let (code, out, err) = crate::cli::run(&["wars", "--server", &forwarder.url("")], None);
        assert_eq!(code, 2, "{out}{err}");
    }
}

#[test]
fn lines_are_posted_until_the_server_has_stored_them_and_count_once() {
    let folder = scratch("forward-restarts");
    let log = folder.join("audit.log");
    let lines = crate::journal::load(40);
    let write = |from: usize, until: usize| {
        use std::io::Write as _;
        let mut file = std::fs::File::options().append(true).create(true).open(&log).unwrap();
        lines[from..until].iter().for_each(|line| file.write_all(&[line.as_slice(), b"\n"].concat()).unwrap());
    };
    let journal = folder.join("journal");
    let journal = journal.to_str().unwrap();
    let mut central = Server::start(&["--journal", journal]).ready();
    let to = central.webhook().to_string();
    write(0, 100);
    let mut tailing = forwarder(&log, &to, &folder).ready();
    wait_until("the first lines arrive", 30, || crate::journal::writes(&central) == 100);
    central.kill();
    write(100, 200);
    wait_until("it is not ready while nobody takes the lines", 30, || tailing.get("/readyz").0 == 503);
    assert!(tailing.said().contains("the server does not accept events"), "{}", tailing.said());
    // It is killed with lines that were not accepted.
    tailing.kill();
    let tailing = forwarder(&log, &to, &folder);
    central = Server::start_at(&to, &["--journal", journal]).ready();
    write(200, lines.len());
    wait_until("all lines arrive", 60, || crate::journal::writes(&central) == lines.len() as u64);
    wait_until("it is ready again", 30, || tailing.get("/readyz").0 == 200);
    assert!(central.terminate().success());
    let kept = crate::journal::kept(Path::new(journal));
    assert_eq!((kept.len(), kept.values().max()), (lines.len(), Some(&1)), "each once");
}

#[test]
fn a_server_that_forwards_cannot_also_judge() {
    for (more, why) in [
        ("journal.path=/tmp/x", "journal.path: not with tail.forward"),
        ("watch.enabled=true", "watch.enabled: not with tail.forward"),
        ("tail.files=[]", "tail.files: set it, because tail.forward is set"),
        ("tail.cluster=east", "name the cluster in its url"),
        ("tail.forward.url=editwar:8443", "expected a URL"),
        ("tail.forward.url=http://editwar.example.com:8443/audit", "expected https://"),
    ] {
        let base = [
            "serve",
            "--check-config",
            "--set",
            "tail.files=[/tmp/audit.log]",
            "--set",
            "tail.forward={url: \"http://127.0.0.1:1/audit\"}",
        ];
        let (code, _, err) = crate::cli::run(&[&base[..], &["--set", more]].concat(), None);
        assert!(code == 2 && err.contains(why), "{more}: {err}");
    }
}
