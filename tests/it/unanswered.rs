//! The enforcer with an API server that does not answer, stops in the middle of a response, answers late, or goes down:
//! what must continue to work, and how it ends.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, HPA, Level, OPERATOR};
use crate::envtest::{pause, scratch};
use crate::fake_api::{FakeApi, Fault, LEASE, Seen, configmap, deployment, within};
use crate::serve::Server;

/// Duration of a Lease that is not renewed. After that, another replica may act.
const LEASE_HOLDS: Duration = Duration::from_secs(10);

/// Starts an editwar that pauses Deployments, with pauses of ten minutes.
fn enforcing(api: &FakeApi, more: &[&str]) -> Server {
    let kubeconfig = api.kubeconfig().display().to_string();
    let base = [
        "--enforce",
        "pause",
        "--kubeconfig",
        &kubeconfig,
        "--set",
        "enforce.resources=[deployments.apps]",
        "--set",
        "limits.buckets=[{burst: 5, window: 10s}]",
        "--set",
        "limits.quiet_period=600s",
    ];
    Server::start(&[&base[..], more].concat()).ready()
}

/// Returns the audit events of a war over `spec.replicas` of a Deployment, which begins 15 s before `until` and ends
/// shortly before it.
fn war(name: &str, until: i64) -> Vec<Vec<u8>> {
    let path = format!("deployments.apps/shop/{name}");
    let mut cluster = Cluster::at(Level::RequestResponse, until - 15_000_000);
    let body = serde_json::json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"namespace": "shop"}, "spec": {"replicas": 3}});
    cluster.create(OPERATOR, &path, body);
    for _ in 0..15 {
        cluster.wait(0.4);
        cluster.scale(HPA, &path, 5);
        cluster.wait(0.4);
        cluster.patch(OPERATOR, &path, "", serde_json::json!({"spec": {"replicas": 3}}));
    }
    // Audit IDs must be unique across objects.
    let named = |line: &[u8]| {
        String::from_utf8(line.to_vec()).unwrap().replace("\"id-", &format!("\"{name}-{until}-")).into_bytes()
    };
    cluster.lines().map(named).collect()
}

/// Posts a war over each of these Deployments that ends now.
fn fight(editwar: &Server, names: &[&str]) {
    let now = jiff::Timestamp::now().as_microsecond();
    let lines: Vec<Vec<u8>> = names.iter().flat_map(|name| war(name, now)).collect();
    editwar.post_lines(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

fn readiness(editwar: &Server) -> String {
    editwar.get("/readyz?verbose").1
}

/// Waits until this editwar holds the Lease and acts.
fn leads(editwar: &Server) {
    within("it leads", 20, || {
        let status = readiness(editwar);
        ["enforcer: enforcing", "enforcer: no audit events"].iter().any(|leading| status.contains(leading))
    });
}

/// Turns the kill switch on and returns the response.
fn stop(editwar: &Server) -> Value {
    let (status, body) = editwar.post_json("/api/v1/enforcement/stop", "{}");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Stops it with SIGTERM. It must not need the SIGKILL that follows after the 30 seconds that Kubernetes gives a pod.
fn terminate(mut editwar: Server) {
    let ended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (pid, seen) = (editwar.pid().to_string(), ended.clone());
    std::thread::spawn(move || {
        for _ in 0..300 {
            if seen.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
            pause(100);
        }
        drop(std::process::Command::new("kill").args(["-KILL", &pid]).status());
    });
    let status: ExitStatus = editwar.terminate();
    ended.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(status.success(), "SIGTERM did not end it: {status}");
}

/// Returns whether the Lease was renewed between a request that was not answered and the moment at which editwar gave it
/// up.
fn is_renewed_during(api: &FakeApi, method: &str, part: &str) -> bool {
    let renewals = api.seen("PUT", LEASE);
    let is_during = |seen: &Seen| {
        let is_over = |at| seen.given_up.is_some_and(|end| at >= end);
        renewals.iter().any(|renewal| renewal.at > seen.at && !is_over(renewal.at))
    };
    api.seen(method, part).iter().any(|seen| seen.fault.is_some() && is_during(seen))
}

#[test]
fn an_unanswered_patch_blocks_no_lease_renewal_other_pause_or_sigterm() {
    let api = FakeApi::start();
    let names = ["a-hangs", "b", "c"];
    names.iter().for_each(|name| api.deployment(name));
    let editwar = enforcing(&api, &[]);
    leads(&editwar);
    api.fail("PATCH", "/a-hangs", Fault::Silent);
    fight(&editwar, &names);
    within("the patch hangs", 60, || !api.seen("PATCH", "/a-hangs").is_empty());
    within("the others are paused", 60, || api.is_paused("b") && api.is_paused("c"));
    let hanging = &api.seen("PATCH", "/a-hangs")[0];
    assert!(hanging.given_up.is_none(), "the others had to wait until the patch was given up");
    within("it is given up and tried again", 60, || api.seen("PATCH", "/a-hangs").len() >= 2);
    assert!(is_renewed_during(&api, "PATCH", "/a-hangs"), "the Lease was not renewed while the patch hung");
    api.heal();
    within("it is paused when it is answered again", 90, || api.is_paused("a-hangs"));
    api.fail("PATCH", "", Fault::Silent);
    fight(&editwar, &names);
    terminate(editwar);
}

#[test]
fn the_kill_switch_lifts_pauses_while_a_ping_hangs() {
    let api = FakeApi::start();
    api.deployment("web");
    let editwar = enforcing(&api, &[]);
    leads(&editwar);
    fight(&editwar, &["web"]);
    within("it is paused", 15, || api.is_paused("web"));
    api.fail("PATCH", "dryRun", Fault::Silent);
    within("a ping hangs", 30, || !api.seen("PATCH", "dryRun").is_empty());
    let answer = stop(&editwar);
    within("the pause is lifted", 3, || !api.is_paused("web"));
    assert_eq!(answer["stopped"], true, "{answer}");
    assert_eq!(answer["lifted"], 1, "{answer}");
    assert_eq!(answer["not_lifted"], serde_json::json!([]), "{answer}");
}

#[test]
fn an_object_that_is_recreated_while_paused_is_paused_again() {
    let api = FakeApi::start();
    api.deployment("web");
    let editwar = enforcing(&api, &[]);
    leads(&editwar);
    fight(&editwar, &["web"]);
    within("it is paused", 15, || api.is_paused("web"));
    let uid = api.object(&deployment("web")).unwrap()["metadata"]["uid"].clone();
    api.delete(&deployment("web"));
    api.deployment("web");
    assert_ne!(api.object(&deployment("web")).unwrap()["metadata"]["uid"], uid);
    assert!(!api.is_paused("web"));
    within("the new one is paused", 15, || api.is_paused("web"));
}

/// Endpoints that hang one at a time: method, part of the path, and whether the kill switch can then still find all
/// pauses.
const ENDPOINTS: [(&str, &str, bool); 8] = [
    ("GET", "/deployments/web", true),
    ("PATCH", "dryRun", true),
    ("GET", "/api/v1/namespaces/shop", true),
    ("GET", "/apis/apps/v1/deployments", false),
    ("POST", "/events", true),
    ("GET", "/leases", true),
    ("PUT", "/leases", true),
    ("GET", "/apis", false),
];

#[test]
fn the_kill_switch_and_sigterm_work_whichever_endpoint_hangs() {
    std::thread::scope(|scope| {
        for (method, part, is_complete) in ENDPOINTS {
            scope.spawn(move || {
                let api = FakeApi::start();
                api.deployment("web");
                let editwar = enforcing(&api, &[]);
                leads(&editwar);
                fight(&editwar, &["web"]);
                within("it is paused", 30, || api.is_paused("web"));
                api.fail(method, part, Fault::Silent);
                pause(5_000);
                let answer = stop(&editwar);
                assert_eq!(answer["lifted"], 1, "{method} {part}: {answer}");
                let left = answer["not_lifted"].as_array().unwrap();
                assert_eq!(left.is_empty(), is_complete, "{method} {part}: {answer}");
                assert!(!api.is_paused("web"), "{method} {part}");
                let hung = api.seen(method, part).into_iter().filter(|seen| seen.fault.is_some()).count();
                if hung > 0 && !part.contains("leases") && part != "/apis" {
                    let what = format!("the Lease is renewed while {method} {part} hangs");
                    within(&what, 60, || is_renewed_during(&api, method, part));
                }
                terminate(editwar);
            });
        }
    });
}

#[test]
fn writes_end_before_a_lease_that_cannot_be_renewed_expires() {
    let faults = [
        ("GET", Fault::Silent),
        ("PUT", Fault::Silent),
        ("PUT", Fault::HalfBody),
        ("GET", Fault::HalfBody),
        ("PUT", Fault::After(Duration::from_secs(30))),
    ];
    std::thread::scope(|scope| {
        for (method, fault) in faults {
            scope.spawn(move || {
                let api = FakeApi::start();
                ["hangs", "later"].iter().for_each(|name| api.deployment(name));
                let editwar = enforcing(&api, &[]);
                leads(&editwar);
                api.fail("PATCH", "/hangs", Fault::Silent);
                fight(&editwar, &["hangs"]);
                within("a write is under way", 30, || !api.seen("PATCH", "/hangs").is_empty());
                api.fail(method, "/leases", fault);
                let failed = Instant::now();
                // A renewal with a truncated response was executed nevertheless: other replicas see the Lease as held,
                // while the holder does not.
                let expires = |last: Instant| last + LEASE_HOLDS;
                within("it stops acting", 30, || readiness(&editwar).contains("enforcer: the Lease"));
                let held = [api.seen("POST", "/leases"), api.seen("PUT", "/leases")].concat();
                let last = held.iter().map(|seen| seen.at).filter(|at| *at < failed).max().unwrap();
                fight(&editwar, &["later"]);
                pause(5_000);
                assert!(!api.is_paused("later"), "{method} {fault:?}: nothing is written without the Lease");
                let patches = [api.seen("PATCH", "/hangs"), api.seen("PATCH", "/later")].concat();
                for patch in &patches {
                    assert!(patch.at < expires(last), "{method} {fault:?}: a write was begun without the Lease");
                    let given_up = patch.given_up.unwrap_or_else(Instant::now);
                    assert!(given_up < expires(last), "{method} {fault:?}: a write outlasted the Lease");
                }
                api.heal();
                fight(&editwar, &["later"]);
                within("it acts again", 60, || api.is_paused("later") && api.is_paused("hangs"));
            });
        }
    });
}

#[test]
fn pauses_that_the_kill_switch_cannot_lift_are_named_and_retried() {
    let api = FakeApi::start();
    let names = ["a-hangs", "b", "c"];
    names.iter().for_each(|name| api.deployment(name));
    let editwar = enforcing(&api, &[]);
    leads(&editwar);
    fight(&editwar, &names);
    within("they are paused", 30, || names.iter().all(|name| api.is_paused(name)));
    api.fail("PATCH", "/a-hangs", Fault::Silent);
    let answer = stop(&editwar);
    assert_eq!((&answer["stopped"], &answer["lifted"]), (&Value::from(true), &Value::from(2)), "{answer}");
    assert_eq!(answer["not_lifted"].as_array().unwrap().len(), 1, "{answer}");
    assert!(answer["not_lifted"][0].as_str().unwrap().starts_with("deployments.apps/shop/a-hangs: "), "{answer}");
    assert!(api.is_paused("a-hangs") && !api.is_paused("b") && !api.is_paused("c"));
    within("it says why", 10, || {
        stop(&editwar)["not_lifted"][0].as_str().is_some_and(|text| text.contains("no answer within 3 s"))
    });
    assert!(readiness(&editwar).contains("1 not lifted yet: deployments.apps/shop/a-hangs"));
    assert_eq!(editwar.metric("editwar_kill_switch_pending_pauses"), 1.0);
    assert!(editwar.said().contains("the kill switch cannot lift this pause"), "{}", editwar.said());
    api.heal();
    within("it is tried again, and lifted", 30, || !api.is_paused("a-hangs"));
    within("that is said", 10, || readiness(&editwar).contains("enforcer: stopped: all pauses are lifted"));
    assert_eq!(stop(&editwar), serde_json::json!({"stopped": true, "lifted": 3, "not_lifted": []}));
    assert_eq!(editwar.metric("editwar_kill_switch_pending_pauses"), 0.0);
    // Turn enforcement on again.
    assert_eq!(editwar.post_json("/api/v1/enforcement/start", "{}"), (200, r#"{"stopped":false}"#.to_owned()));
    within("what is fought over is paused again", 60, || {
        fight(&editwar, &["b"]);
        api.is_paused("b")
    });
}

#[test]
fn an_api_server_that_is_busy_is_not_called_in_a_loop_until_the_timeout() {
    let api = FakeApi::start();
    api.fail("GET", "/deployments", Fault::Busy);
    let editwar = enforcing(&api, &[]);
    let answer = stop(&editwar);
    // Otherwise the reason would be the timeout.
    assert!(answer["not_lifted"][0].as_str().is_some_and(|why| why.contains("ServiceUnavailable")), "{answer}");
    api.heal();
    within("it is tried again", 30, || stop(&editwar)["not_lifted"] == serde_json::json!([]));
}

#[test]
fn a_pause_executed_after_its_timeout_is_lifted_by_the_kill_switch() {
    let api = FakeApi::start();
    api.deployment("web");
    let editwar = enforcing(&api, &[]);
    leads(&editwar);
    api.fail("PATCH", "/web", Fault::After(Duration::from_secs(6)));
    fight(&editwar, &["web"]);
    within("the write is under way", 30, || !api.seen("PATCH", "/web").is_empty());
    api.heal();
    stop(&editwar);
    assert!(!api.is_paused("web"));
    within("the write is done by the API server", 15, || api.is_paused("web"));
    within("it is lifted", 60, || !api.is_paused("web"));
}

#[test]
fn a_pause_executed_after_its_war_is_found_and_lifted() {
    let api = FakeApi::start();
    api.deployment("web");
    let editwar = enforcing(&api, &["--set", "limits.quiet_period=8s"]);
    leads(&editwar);
    // The write times out after 15 s and is executed after 30 s. By then the war is over, and nothing would pause the
    // object any more.
    api.fail("PATCH", "/web", Fault::After(Duration::from_secs(30)));
    fight(&editwar, &["web"]);
    within("the write is under way", 30, || !api.seen("PATCH", "/web").is_empty());
    api.heal();
    // Events of others advance event time.
    within("the API server carries it out", 60, || {
        fight(&editwar, &["another"]);
        pause(800);
        api.is_paused("web")
    });
    assert_eq!(api.seen("PATCH", "/web").len(), 1);
    within("it is found and lifted", 60, || {
        fight(&editwar, &["another"]);
        pause(800);
        !api.is_paused("web")
    });
}

#[test]
fn truncated_or_late_responses_delay_nothing_else() {
    let late = Fault::After(Duration::from_secs(30));
    std::thread::scope(|scope| {
        for (method, fault) in [("GET", Fault::HalfBody), ("PATCH", Fault::HalfBody), ("GET", late), ("PATCH", late)] {
            scope.spawn(move || {
                let api = FakeApi::start();
                let names = ["a-bad", "b", "c"];
                names.iter().for_each(|name| api.deployment(name));
                let editwar = enforcing(&api, &[]);
                leads(&editwar);
                api.fail(method, "/a-bad", fault);
                fight(&editwar, &names);
                within("the others are paused", 60, || api.is_paused("b") && api.is_paused("c"));
                within("it is given up and tried again", 60, || api.seen(method, "/a-bad").len() >= 2);
                let what = format!("{method} {fault:?}: the Lease is renewed while it is not answered");
                within(&what, 60, || is_renewed_during(&api, method, "/a-bad"));
                api.heal();
                fight(&editwar, &names);
                within("it is paused in the end", 90, || api.is_paused("a-bad"));
                terminate(editwar);
            });
        }
    });
}

#[test]
fn editwar_starts_while_the_api_server_does_not_answer() {
    let api = FakeApi::start();
    api.deployment("web");
    api.pause(&deployment("web"));
    api.fail("", "", Fault::Silent);
    // It returns when it is ready.
    let editwar = enforcing(&api, &[]);
    within("it says what is wrong", 10, || readiness(&editwar).contains("enforcer: the Lease: API server: "));
    let answer = stop(&editwar);
    assert_eq!(answer["lifted"], 0, "{answer}");
    assert!(answer["not_lifted"][0].as_str().unwrap().starts_with("deployments.apps: "), "{answer}");
    terminate(editwar);
}

#[test]
fn enforcement_continues_when_the_api_server_comes_back() {
    let api = FakeApi::start();
    ["before", "after"].iter().for_each(|name| api.deployment(name));
    let editwar = enforcing(&api, &[]);
    leads(&editwar);
    fight(&editwar, &["before"]);
    within("it is paused", 30, || api.is_paused("before"));
    api.halt();
    within("the loss is said", 30, || readiness(&editwar).contains("the Lease: API server"));
    fight(&editwar, &["after"]);
    api.resume();
    within("it acts again", 60, || api.is_paused("after"));
    within("it knows both pauses", 30, || readiness(&editwar).contains("2 objects paused"));
    assert_eq!(stop(&editwar), serde_json::json!({"stopped": true, "lifted": 2, "not_lifted": []}));
}

#[test]
fn the_selection_is_logged_at_the_start() {
    let api = FakeApi::start();
    let editwar = enforcing(&api, &[]);
    let said = || editwar.said();
    let selection = "deployments.apps in all namespaces except kube-system, \
                     with annotation platform.kubevirt.io/managed=true";
    within("the selection is said", 10, || said().contains(selection));
    assert!(said().contains("enforce.annotations={}"), "{}", said());
}

#[test]
fn the_kill_switch_of_a_standby_lifts_pauses_and_mentions_the_leader() {
    let api = FakeApi::start();
    ["web", "next"].iter().for_each(|name| api.deployment(name));
    let leader = enforcing(&api, &[]);
    leads(&leader);
    let other = enforcing(&api, &[]);
    within("the other stands by", 20, || readiness(&other).contains("enforcer: standing by"));
    fight(&leader, &["web"]);
    within("it is paused", 30, || api.is_paused("web"));
    let answer = stop(&other);
    assert_eq!((&answer["lifted"], api.is_paused("web")), (&Value::from(1), false), "{answer}");
    assert!(answer["note"].as_str().unwrap().contains("another replica holds the Lease"), "{answer}");
    fight(&leader, &["next"]);
    within("the leader goes on", 30, || api.is_paused("next"));
    leader.signal("USR1");
    within("it stops as well", 20, || !api.is_paused("next"));
    assert_eq!(stop(&leader)["note"], Value::Null);
}

#[test]
fn toggling_the_kill_switch_quickly_leaves_pauses_consistent() {
    let api = FakeApi::start();
    let names = ["a", "b", "c"];
    names.iter().for_each(|name| api.deployment(name));
    let editwar = enforcing(&api, &[]);
    leads(&editwar);
    fight(&editwar, &names);
    within("they are paused", 30, || names.iter().all(|name| api.is_paused(name)));
    for _ in 0..5 {
        ["stop", "start", "stop", "start"].iter().for_each(|action| {
            std::thread::scope(|scope| {
                scope.spawn(|| editwar.post_json(&format!("/api/v1/enforcement/{action}"), "{}"));
            });
        });
    }
    fight(&editwar, &names);
    within("what is fought over is paused again", 60, || names.iter().all(|name| api.is_paused(name)));
    assert_eq!(stop(&editwar), serde_json::json!({"stopped": true, "lifted": 3, "not_lifted": []}));
    assert!(names.iter().all(|name| !api.is_paused(name)));
}

#[test]
fn events_of_other_clusters_affect_neither_freshness_nor_time() {
    let api = FakeApi::start();
    ["old", "new"].iter().for_each(|name| api.deployment(name));
    let editwar = enforcing(&api, &["--set", "limits.quiet_period=400s"]);
    leads(&editwar);
    let now = jiff::Timestamp::now().as_microsecond();
    let minute = 60_000_000;
    // A war that is known from events five minutes ago, and fresh events of another cluster.
    let old = war("old", now - 5 * minute);
    editwar.post_lines(&old.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let elsewhere = |at: i64| {
        let lines = war("elsewhere", at);
        let batch: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let body = [
            &br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#[..],
            &batch.join(&b','),
            b"]}",
        ];
        assert_eq!(editwar.post("/audit/other", &body.concat()).0, 200);
    };
    elsewhere(now);
    pause(5_000);
    assert!(!api.is_paused("old"), "it is paused by another cluster's freshness");
    // A pause is not removed because the clock of another cluster is ahead.
    fight(&editwar, &["new"]);
    within("it is paused", 30, || api.is_paused("new"));
    elsewhere(now + 9 * minute);
    pause(5_000);
    assert!(api.is_paused("new"), "another cluster's clock has lifted it");
}

/// Starts an editwar that reconciles ConfigMaps of these names in namespace `shop`.
fn reconciling(api: &FakeApi, names: &[&str], more: &[&str]) -> Server {
    let assets = scratch("unanswered-assets");
    std::fs::create_dir_all(assets.join("config")).unwrap();
    for name in names {
        let object = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "shop"}, "data": {"mode": "good"}});
        std::fs::write(assets.join(format!("config/{name}.yaml")), object.to_string()).unwrap();
    }
    let (kubeconfig, assets) = (api.kubeconfig().display().to_string(), assets.display().to_string());
    let base = ["--enforce", "reconcile", "--kubeconfig", &kubeconfig, "--assets", &assets];
    Server::start(&[&base[..], more].concat()).ready()
}

#[test]
fn an_unanswered_object_does_not_block_reconciling_others() {
    for method in ["GET", "PATCH"] {
        let api = FakeApi::start();
        api.fail(method, "/a-hangs", Fault::Silent);
        let editwar = reconciling(&api, &["a-hangs", "b"], &[]);
        within("the other one is applied", 60, || api.object(&configmap("b")).is_some());
        within("it is tried again", 60, || api.seen(method, "/a-hangs").len() >= 2);
        let what = format!("the Lease is renewed while {method} hangs");
        within(&what, 60, || is_renewed_during(&api, method, "/a-hangs"));
        terminate(editwar);
    }
}

#[test]
fn a_silent_watch_is_restarted() {
    std::thread::scope(|scope| {
        for fault in [Fault::SilentWatch, Fault::Silent] {
            scope.spawn(move || {
                let api = FakeApi::start();
                api.fail("GET", "watch=true", fault);
                let _editwar = reconciling(&api, &["a"], &[]);
                within("it watches", 60, || !api.seen("GET", "watch=true").is_empty());
                within("it watches anew", 90, || api.seen("GET", "watch=true").len() >= 2);
            });
        }
    });
}

#[test]
fn starting_with_the_kill_switch_on_lifts_all_pauses() {
    let api = FakeApi::start();
    api.configmap("features");
    api.deployment("web");
    api.pause(&configmap("features"));
    api.pause(&deployment("web"));
    let stopped = ["--set", "enforce.kill_switch=true", "--set", "enforce.resources=[deployments.apps]"];
    let editwar = reconciling(&api, &["features"], &stopped);
    within("both are lifted", 20, || !api.is_paused("web") && !api.carries_pause(&configmap("features")));
    assert_eq!(stop(&editwar), serde_json::json!({"stopped": true, "lifted": 2, "not_lifted": []}));
}
