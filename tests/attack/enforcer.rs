//! Attacks on the enforcer by an API server that does not answer.

use std::time::{Duration, Instant};

use crate::apiserver::{ApiServer, Call};
use crate::events::{SECOND, War, Write, now};
use crate::outcome::Kind::Beside;
use crate::outcome::{Attack, Context, Outcome, Report, control};
use crate::server::{HONEST, Server, ask, pause, request, until};

const SILENT: &str = "an unanswered call leaves the Lease, the kill switch and SIGTERM working";

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "enforcer/who-am-i",
        promise: "an API server that answers nothing does not keep the server from starting",
        kind: Beside,
        run: starting,
    },
    Attack { name: "enforcer/lease-get", promise: SILENT, kind: Beside, run: |c, r| silent(c, r, Call::LeaseGet) },
    Attack { name: "enforcer/lease-write", promise: SILENT, kind: Beside, run: |c, r| silent(c, r, Call::LeaseWrite) },
    Attack { name: "enforcer/list", promise: SILENT, kind: Beside, run: |c, r| early(c, r, Call::List) },
    Attack { name: "enforcer/discovery", promise: SILENT, kind: Beside, run: |c, r| early(c, r, Call::Discovery) },
    Attack { name: "enforcer/get", promise: SILENT, kind: Beside, run: |c, r| silent(c, r, Call::Get) },
    Attack { name: "enforcer/patch", promise: SILENT, kind: Beside, run: |c, r| silent(c, r, Call::Patch) },
    Attack { name: "enforcer/ping", promise: SILENT, kind: Beside, run: |c, r| silent(c, r, Call::DryRun) },
    Attack { name: "enforcer/namespace", promise: SILENT, kind: Beside, run: |c, r| silent(c, r, Call::Namespace) },
    Attack { name: "enforcer/event", promise: SILENT, kind: Beside, run: |c, r| silent(c, r, Call::Event) },
    Attack {
        name: "enforcer/other-cluster-is-fresh",
        promise: "another cluster's events make no pause by old ones",
        kind: Beside,
        run: freshness,
    },
];

pub(crate) fn start(context: &Context, api: &ApiServer, name: &str) -> Result<Server, crate::outcome::Failure> {
    let kubeconfig = api.kubeconfig(&context.folder(&format!("enforcer-{name}"))).display().to_string();
    let arguments = [
        "--enforce",
        "pause",
        "--kubeconfig",
        &kubeconfig,
        "--set",
        "enforce.resources=[deployments.apps]",
        "--set",
        "limits.quiet_period=10m",
    ];
    Server::start(context, &arguments)
}

/// A war over a Deployment, whose last write was `ago` seconds ago.
fn war(name: &str, ago: i64) -> Vec<String> {
    let mut war = War::new(name);
    war.resource = "deployments.apps";
    war.actors = [
        "system:serviceaccount:kube-system:horizontal-pod-autoscaler".to_owned(),
        "system:serviceaccount:openshift-cnv:virt-platform-autopilot".to_owned(),
    ];
    war.lines(16, 2 * SECOND, now() - ago * SECOND)
}

fn verbose(server: &Server) -> String {
    let answer = ask(HONEST, server.admin, &request("GET", "/readyz?verbose", "", b""), Duration::from_secs(5));
    answer.map(|answer| answer.body).unwrap_or_default()
}

/// Starts a server and waits until `web` is paused.
fn paused(context: &Context, api: &ApiServer, name: &str) -> Result<Server, crate::outcome::Failure> {
    let server = start(context, api, name)?.ready()?;
    control(until(Duration::from_secs(20), || api.holder().is_some()), "it holds the Lease")?;
    server.post("/audit", &war("web", 0))?;
    control(until(Duration::from_secs(20), || api.is_paused("web")), "a war is paused: it enforces")?;
    Ok(server)
}

/// One kind of call is no longer answered while a pause is set.
fn silent(context: &Context, report: &mut Report, call: Call) -> Outcome {
    let api = ApiServer::start()?;
    let mut server = paused(context, &api, &format!("{call:?}"))?;
    let silent_since = Instant::now();
    api.silence(Some(call));
    // Triggers the call: another war, which is to be paused, and then silence, so that the enforcer sends a ping.
    // Namespaces are checked twice a minute.
    server.post("/audit", &war("api", 0))?;
    let is_called = until(Duration::from_secs(50), || api.calls_since(silent_since, call) > 0);
    control(is_called, format!("{call:?} is called"))?;
    let is_lease = matches!(call, Call::LeaseGet | Call::LeaseWrite);
    if is_lease {
        // After the Lease has expired, nothing may be written.
        pause(12_000);
        let given_up = Instant::now();
        server.post("/audit", &war("web", 0))?;
        pause(3_000);
        report.promise(api.calls_since(given_up, Call::Patch) == 0, "it writes without a Lease");
        let says = verbose(&server);
        report.promise(!says.contains("enforcer: enforcing"), format!("it says: {}", says.trim()));
    } else {
        pause(8_000);
        let before = Instant::now();
        pause(9_000);
        let renewed = api.calls_since(before, Call::LeaseWrite) > 0;
        let is_given_up = api.holder().is_none();
        report.promise(renewed || is_given_up, "the Lease is neither renewed nor given up");
    }
    kill_switch(report, &server, &api, call);
    terminate(report, &mut server);
    Ok(())
}

/// The kill switch must answer without waiting for the API server, and correctly, and remove what can be removed.
fn kill_switch(report: &mut Report, server: &Server, api: &ApiServer, call: Call) {
    let stop = request("POST", "/api/v1/enforcement/stop", "Content-Type: application/json\r\n", b"{}");
    let started = Instant::now();
    // The call stays unanswered, so a switch that waited for it would not answer either.
    let answer = ask(HONEST, server.admin, &stop, Duration::from_secs(60));
    report.number("kill switch", format!("{:.1} s", started.elapsed().as_secs_f64()));
    let body = answer.as_ref().map(|answer| answer.body.as_str()).unwrap_or_default();
    report.promise(body.contains(r#""stopped":true"#), format!("the kill switch says {answer:?}"));
    let is_silent_about_web = api.is_paused("web") && body.contains(r#""not_lifted":[]"#);
    report.promise(!is_silent_about_web, format!("a pause stays, and the kill switch says {body}"));
    // Calls that are not needed for removing a pause must not delay it.
    let is_needed = matches!(call, Call::Patch | Call::Get | Call::LeaseGet | Call::LeaseWrite);
    if !is_needed {
        let is_lifted = until(Duration::from_secs(20), || !api.is_paused("web"));
        report.promise(
            is_lifted,
            format!("the kill switch says {:?}, and the pause stays for 20 s", answer.map(|a| a.body)),
        );
        return;
    }
    pause(3_000);
    if api.is_paused("web") {
        let says = verbose(server);
        report.promise(!says.contains("all pauses are lifted"), format!("a pause stays, and it says: {}", says.trim()));
        let silent = says.lines().find(|line| line.starts_with("enforcer:")).unwrap_or_default();
        report.promise(silent.contains("stop"), format!("it does not say that it is stopped: {silent}"));
    }
    api.silence(None);
    let is_lifted = until(Duration::from_secs(60), || !api.is_paused("web"));
    report.promise(is_lifted, "the API server answers again, and the pause is not lifted within 60 s");
    // Once more, so that a call is pending at shutdown.
    let start = request("POST", "/api/v1/enforcement/start", "Content-Type: application/json\r\n", b"{}");
    report
        .promise(ask(HONEST, server.admin, &start, Duration::from_secs(10)).is_ok(), "the kill switch does not answer");
    let silent_since = Instant::now();
    api.silence(Some(call));
    drop(server.post("/audit", &war("api", 0)));
    until(Duration::from_secs(15), || api.calls_since(silent_since, call) > 0);
    pause(1_000);
}

fn terminate(report: &mut Report, server: &mut Server) {
    let started = Instant::now();
    server.signal("TERM");
    let is_over = server.ends_within(Duration::from_secs(15)).is_some();
    report.number("SIGTERM", format!("{:.1} s", started.elapsed().as_secs_f64()));
    report.promise(is_over, "SIGTERM does not end it within 15 s");
}

/// Calls that are made before anything is paused.
fn early(context: &Context, report: &mut Report, call: Call) -> Outcome {
    let api = ApiServer::start()?;
    let started = Instant::now();
    api.silence(Some(call));
    let mut server = start(context, &api, &format!("{call:?}"))?.ready()?;
    control(until(Duration::from_secs(20), || api.calls_since(started, call) > 0), format!("{call:?} is called"))?;
    pause(8_000);
    let before = Instant::now();
    pause(9_000);
    let renewed = api.calls_since(before, Call::LeaseWrite) > 0;
    report.promise(renewed || api.holder().is_none(), "the Lease is neither renewed nor given up");
    terminate(report, &mut server);
    // The server must work again once the API server does.
    let mut server = start(context, &api, &format!("{call:?}"))?.ready()?;
    pause(3_000);
    api.silence(None);
    server.post("/audit", &war("web", 0))?;
    let is_paused = until(Duration::from_secs(60), || {
        // Fresh events, so that the enforcer makes decisions.
        drop(server.post_from(HONEST, "/audit", &[Write::new("carol", "tick", "1", now()).line()]));
        pause(500);
        api.is_paused("web")
    });
    report.promise(is_paused, "the API server answers again, and nothing is paused within 60 s");
    terminate(report, &mut server);
    Ok(())
}

/// The API server does not answer from the start.
fn starting(context: &Context, report: &mut Report) -> Outcome {
    let api = ApiServer::start()?;
    api.silence(Some(Call::WhoAmI));
    let started = Instant::now();
    // The helper waits for the log line with the addresses.
    let kubeconfig = api.kubeconfig(&context.folder("enforcer-starting")).display().to_string();
    let arguments: Vec<String> =
        ["--enforce", "pause", "--kubeconfig", &kubeconfig, "--set", "enforce.resources=[deployments.apps]"]
            .map(str::to_owned)
            .to_vec();
    let (send, receive) = std::sync::mpsc::channel();
    let binary = context.binary.clone();
    std::thread::spawn(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        drop(send.send(Server::start_by(std::process::Command::new(binary), &arguments)));
    });
    let server = receive.recv_timeout(Duration::from_secs(40));
    report.number("starts in", format!("{:.1} s", started.elapsed().as_secs_f64()));
    let Ok(server) = server else {
        report.promise(false, "it does not listen within 40 s");
        // Unblocks the thread above, which then drops the server.
        api.silence(None);
        return Ok(());
    };
    let mut server = server?;
    let taken = until(Duration::from_secs(10), || {
        server.post_from(HONEST, "/audit", &war("web", 0)).is_ok_and(|answer| answer.status == 200)
    });
    report.promise(taken, "no batch is taken within 10 s");
    terminate(report, &mut server);
    Ok(())
}

/// A war that is known from events five minutes ago, and a fresh event of another cluster.
fn freshness(context: &Context, report: &mut Report) -> Outcome {
    let api = ApiServer::start()?;
    let server = start(context, &api, "freshness")?.ready()?;
    control(until(Duration::from_secs(20), || api.holder().is_some()), "it holds the Lease")?;
    server.post("/audit", &war("web", 300))?;
    pause(4_000);
    control(!api.is_paused("web"), "old events alone pause nothing")?;
    for _ in 0..6 {
        server.post("/audit/other", &[Write::new("carol", "elsewhere", "1", now()).line()])?;
        pause(1_000);
    }
    report.promise(!api.is_paused("web"), "a fresh event of another cluster makes a pause by events 5 minutes old");
    // Fresh events of its own cluster do.
    server.post("/audit", &war("api", 0))?;
    control(until(Duration::from_secs(20), || api.is_paused("api")), "fresh events pause")
}
